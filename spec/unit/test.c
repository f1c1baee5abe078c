/* test.c - registration, checks and main() of the unit tests' harness. */
#include "test.h"

#include <stdio.h>
#include <string.h>

static struct test_case *cases, **cases_tail = &cases;
static unsigned failed_checks; /* of the running case */

void test_register(struct test_case *c)
{
    *cases_tail = c;
    cases_tail = &c->next;
}

bool test_check(bool ok, const char *file, int line, const char *expr)
{
    if (!ok) {
        failed_checks++;
        printf("%s:%d: failed: %s\n", file, line, expr);
    }
    return ok;
}

bool test_eq_int(long long got, long long want, const char *file, int line, const char *expr)
{
    if (got == want)
        return true;
    failed_checks++;
    printf("%s:%d: %s is %lld, expected %lld\n", file, line, expr, got, want);
    return false;
}

static void print_bytes(const char *p, size_t len)
{
    enum { SHOWN = 200 };
    putchar('"');
    for (size_t i = 0; i < len && i < SHOWN; i++) {
        unsigned char c = (unsigned char)p[i];
        if (c < 0x20 || c >= 0x7f)
            printf("\\x%02x", c);
        else
            putchar(c);
    }
    printf(len > SHOWN ? "\"... (%zu bytes)" : "\"", len);
}

bool test_eq_mem(const void *got, size_t got_len, const void *want, size_t want_len,
                 const char *file, int line, const char *expr)
{
    if (got_len == want_len && (got_len == 0 || memcmp(got, want, got_len) == 0))
        return true;
    failed_checks++;
    printf("%s:%d: %s is ", file, line, expr);
    print_bytes(got, got_len);
    printf(", expected ");
    print_bytes(want, want_len);
    putchar('\n');
    return false;
}

bool test_eq_str(const char *got, const char *want, const char *file, int line, const char *expr)
{
    if (got != NULL && want != NULL)
        return test_eq_mem(got, strlen(got), want, strlen(want), file, line, expr);
    if (got == want)
        return true;
    failed_checks++;
    printf("%s:%d: %s is %s%s, expected %s%s\n", file, line, expr, got ? "" : "NULL",
           got ? got : "", want ? "" : "NULL", want ? want : "");
    return false;
}

/* Arguments are parts of names; without any, all cases are run. */
static bool selected(const struct test_case *c, int argc, char **argv)
{
    for (int i = 1; i < argc; i++)
        if (strstr(c->name, argv[i]) != NULL)
            return true;
    return argc == 1;
}

int main(int argc, char **argv)
{
    unsigned passed = 0, failed = 0;
    setvbuf(stdout, NULL, _IOLBF, 0); /* a crash must not swallow the lines before it */
    for (struct test_case *c = cases; c != NULL; c = c->next) {
        if (!selected(c, argc, argv))
            continue;
        failed_checks = 0;
        c->fn();
        if (failed_checks > 0) {
            failed++;
            printf("FAIL %s\n", c->name);
        } else {
            passed++;
        }
    }
    printf("%u passed, %u failed\n", passed, failed);
    return failed > 0 || passed == 0;
}
