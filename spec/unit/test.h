/* test.h - the harness of the C unit tests.
 *
 *     #include "test.h"
 *
 *     TEST(an_empty_queue_holds_no_bytes)
 *     {
 *         CHECK_EQ_INT(mesa_outq_bytes(&q), 0);
 *     }
 *
 * One test file is one executable, linked with test.c, which has main(). Cases run in the order of
 * the file; names given as arguments select cases. A failed check prints one line, counts, and lets
 * the case go on; CHECK_OR_RETURN ends the case.
 */
#ifndef MESA_SPEC_TEST_H
#define MESA_SPEC_TEST_H

#include <stdbool.h>
#include <stddef.h>

struct test_case {
    const char *name;
    void (*fn)(void);
    struct test_case *next;
};

/* Called by TEST before main(). */
void test_register(struct test_case *c);

/* Each returns whether the check holds, and reports it when it does not. */
bool test_check(bool ok, const char *file, int line, const char *expr);
bool test_eq_int(long long got, long long want, const char *file, int line, const char *expr);
bool test_eq_str(const char *got, const char *want, const char *file, int line, const char *expr);
bool test_eq_mem(const void *got, size_t got_len, const void *want, size_t want_len,
                 const char *file, int line, const char *expr);

#define TEST(ident)                                                      \
    static void test_##ident(void);                                      \
    __attribute__((constructor)) static void test_register_##ident(void) \
    {                                                                    \
        static struct test_case c = {#ident, test_##ident, NULL};        \
        test_register(&c);                                               \
    }                                                                    \
    static void test_##ident(void)

#define CHECK(cond) test_check((cond) ? true : false, __FILE__, __LINE__, #cond)
#define CHECK_EQ_INT(got, want) \
    test_eq_int((long long)(got), (long long)(want), __FILE__, __LINE__, #got)
/* NULL equals only NULL. */
#define CHECK_EQ_STR(got, want) test_eq_str((got), (want), __FILE__, __LINE__, #got)
#define CHECK_EQ_MEM(got, got_len, want, want_len) \
    test_eq_mem((got), (got_len), (want), (want_len), __FILE__, __LINE__, #got)
#define CHECK_OR_RETURN(cond) \
    do {                      \
        if (!CHECK(cond))     \
            return;           \
    } while (0)

#endif
