/* log.c - see log.h. */
#include "base/log.h"

#include <errno.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "base/buf.h"
#include "base/utf8.h"

enum { STACK_BYTES = 1024 };

static const char *const level_names[] = {"debug", "info", "warn", "error", "off"};

static atomic_int log_level = MESA_LOG_INFO;
static atomic_int log_format = MESA_LOG_TEXT;

void mesa_log_configure(enum mesa_log_level level, enum mesa_log_format format)
{
    atomic_store_explicit(&log_level, (int)level, memory_order_relaxed);
    atomic_store_explicit(&log_format, (int)format, memory_order_relaxed);
}

bool mesa_log_enabled(enum mesa_log_level level)
{
    return level < MESA_LOG_OFF &&
           (int)level >= atomic_load_explicit(&log_level, memory_order_relaxed);
}

enum mesa_status mesa_log_level_parse(const char *name, enum mesa_log_level *out)
{
    for (size_t i = 0; i < sizeof level_names / sizeof level_names[0]; i++) {
        if (strcmp(name, level_names[i]) == 0) {
            *out = (enum mesa_log_level)i;
            return MESA_OK;
        }
    }
    return MESA_EINVAL;
}

/* C0 and DEL, and the C1 range that some terminals obey. */
static bool is_control(const char *p, unsigned n)
{
    unsigned char c = (unsigned char)p[0];
    return n == 1 ? c < 0x20 || c == 0x7f : n == 2 && c == 0xc2 && (unsigned char)p[1] < 0xa0;
}

static unsigned control_code(const char *p, unsigned n)
{
    return (unsigned char)p[n - 1]; /* U+0080 to U+009F end in the code point itself */
}

static enum mesa_status put_text(struct mesa_buf *b, const char *p, unsigned n)
{
    if (*p == '\n')
        return mesa_buf_append(b, "\n    ", 5);
    if (*p == '\t' || !is_control(p, n))
        return mesa_buf_append(b, p, n);
    return mesa_buf_printf(b, "\\x%02x", control_code(p, n));
}

static enum mesa_status put_json(struct mesa_buf *b, const char *p, unsigned n)
{
    switch (*p) {
    case '\n':
        return mesa_buf_append(b, "\\n", 2);
    case '\t':
        return mesa_buf_append(b, "\\t", 2);
    case '"':
    case '\\':
        return mesa_buf_printf(b, "\\%c", *p);
    }
    if (!is_control(p, n))
        return mesa_buf_append(b, p, n);
    return mesa_buf_printf(b, "\\u%04x", control_code(p, n));
}

static enum mesa_status put_message(struct mesa_buf *b, enum mesa_log_format format, const char *p,
                                    size_t len)
{
    const char *end = p + len;
    while (end > p && end[-1] == '\n')
        end--;
    while (p < end) {
        unsigned n = mesa_utf8_sequence(p, end);
        enum mesa_status rc;
        if (n == 0) {
            rc = mesa_buf_printf(b, format == MESA_LOG_JSON ? "\\\\x%02x" : "\\x%02x",
                                 (unsigned char)*p);
            n = 1;
        } else {
            rc = format == MESA_LOG_JSON ? put_json(b, p, n) : put_text(b, p, n);
        }
        if (rc != MESA_OK)
            return rc;
        p += n;
    }
    return MESA_OK;
}

static void format_time(char *out, size_t size)
{
    struct timespec now;
    struct tm tm;
    clock_gettime(CLOCK_REALTIME, &now);
    gmtime_r(&now.tv_sec, &tm);
    size_t n = strftime(out, size, "%Y-%m-%dT%H:%M:%S", &tm);
    snprintf(out + n, size - n, ".%03uZ", (unsigned)(now.tv_nsec / 1000000) % 1000);
}

static enum mesa_status put_record(struct mesa_buf *b, enum mesa_log_level level, const char *area,
                                   const char *msg, size_t len)
{
    enum mesa_log_format format =
        (enum mesa_log_format)atomic_load_explicit(&log_format, memory_order_relaxed);
    char time[48];
    format_time(time, sizeof time);

    const char *head = format == MESA_LOG_JSON
                           ? "{\"time\":\"%s\",\"level\":\"%s\",\"area\":\"%s\",\"msg\":\""
                           : "%s %-5s %s: ";
    enum mesa_status rc = mesa_buf_printf(b, head, time, level_names[level], area);
    if (rc == MESA_OK)
        rc = put_message(b, format, msg, len);
    if (rc == MESA_OK)
        rc = mesa_buf_printf(b, format == MESA_LOG_JSON ? "\"}\n" : "\n");
    return rc;
}

/* One write for a record, so that threads and processes do not mix; only what a pipe took in part
 * is continued. */
static void write_all(const char *p, size_t len)
{
    while (len > 0) {
        ssize_t n = write(STDERR_FILENO, p, len);
        if (n < 0 && errno == EINTR)
            continue;
        if (n <= 0)
            return; /* there is nowhere to report it */
        p += n;
        len -= (size_t)n;
    }
}

void mesa_log(enum mesa_log_level level, const char *area, const char *fmt, ...)
{
    if (!mesa_log_enabled(level))
        return;

    int saved_errno = errno;
    char stack[STACK_BYTES], *msg = stack;
    va_list ap, again;
    va_start(ap, fmt);
    va_copy(again, ap);
    int n = vsnprintf(stack, sizeof stack, fmt, ap);
    va_end(ap);
    size_t len = n < 0 ? 0 : (size_t)n;
    if (len >= sizeof stack) {
        msg = malloc(len + 1);
        if (msg != NULL) {
            vsnprintf(msg, len + 1, fmt, again);
        } else {
            msg = stack; /* cut short rather than lost */
            len = sizeof stack - 1;
        }
    }
    va_end(again);

    struct mesa_buf b;
    mesa_buf_init(&b);
    if (put_record(&b, level, area, msg, len) == MESA_OK)
        write_all(b.data, b.len);
    mesa_buf_deinit(&b);
    if (msg != stack)
        free(msg);
    errno = saved_errno;
}
