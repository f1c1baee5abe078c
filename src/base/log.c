/* log.c - see log.h. */
#include "base/log.h"

#include <errno.h>
#include <inttypes.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "base/buf.h"
#include "base/utf8.h"

enum { STACK_BYTES = 1024, KEYS_MAX = 64, KEY_BYTES = 96, WINDOW_MS = 1000 };

static const char *const level_names[] = {"debug", "info", "warn", "error", "off"};
/* What a terminal takes: dim, plain, yellow, red. */
static const char *const level_colours[] = {"\033[2m", "", "\033[33m", "\033[31m"};

static atomic_int log_level = MESA_LOG_INFO;
static atomic_int log_format = MESA_LOG_TEXT;
static atomic_bool log_coloured;

/* For people only: on a terminal, in text, and not against their will (https://no-color.org). */
static bool wants_colour(enum mesa_log_format format)
{
    const char *no_color = getenv("NO_COLOR"), *term = getenv("TERM");
    return format == MESA_LOG_TEXT && isatty(STDERR_FILENO) &&
           (no_color == NULL || no_color[0] == '\0') && (term == NULL || strcmp(term, "dumb") != 0);
}

void mesa_log_configure(enum mesa_log_level level, enum mesa_log_format format)
{
    atomic_store_explicit(&log_coloured, wants_colour(format), memory_order_relaxed);
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

    enum mesa_status rc;
    if (format == MESA_LOG_JSON)
        rc = mesa_buf_printf(b, "{\"time\":\"%s\",\"level\":\"%s\",\"area\":\"%s\",\"msg\":\"",
                             time, level_names[level], area);
    else if (atomic_load_explicit(&log_coloured, memory_order_relaxed))
        rc = mesa_buf_printf(b, "\033[2m%s\033[0m %s%-5s\033[0m %s: ", time, level_colours[level],
                             level_names[level], area);
    else
        rc = mesa_buf_printf(b, "%s %-5s %s: ", time, level_names[level], area);
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

void mesa_log_write(enum mesa_log_level level, const char *area, struct mesa_span text)
{
    if (!mesa_log_enabled(level))
        return;
    int saved_errno = errno;
    struct mesa_buf b;
    mesa_buf_init(&b);
    if (put_record(&b, level, area, text.p, text.len) == MESA_OK)
        write_all(b.data, b.len);
    mesa_buf_deinit(&b);
    errno = saved_errno;
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

    mesa_log_write(level, area, (struct mesa_span){msg, len});
    if (msg != stack)
        free(msg);
    errno = saved_errno;
}

/* -- what a peer can cause as often as it likes ------------------------------------------------- */

struct log_key {
    char key[KEY_BYTES]; /* "": free */
    char area[KEY_BYTES];
    enum mesa_log_level level;
    uint64_t begun_ms; /* when the second began that is counted */
    uint64_t written, counted;
};

static pthread_mutex_t keys_lock = PTHREAD_MUTEX_INITIALIZER;
static struct log_key keys[KEYS_MAX]; /* the last one is shared by all that find no place */
static atomic_int keys_counted;       /* keys with `counted` > 0 */

static uint64_t monotonic_ms(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * 1000 + (uint64_t)now.tv_nsec / 1000000;
}

static bool is_over(const struct log_key *k, uint64_t now_ms)
{
    return now_ms - k->begun_ms >= WINDOW_MS;
}

/* Locked. */
static struct log_key *find_key(const char *key, uint64_t now_ms)
{
    struct log_key *unused = NULL;
    for (size_t i = 0; i < KEYS_MAX - 1; i++) {
        if (strncmp(keys[i].key, key, KEY_BYTES - 1) == 0)
            return &keys[i];
        if (unused == NULL &&
            (keys[i].key[0] == '\0' || (keys[i].counted == 0 && is_over(&keys[i], now_ms))))
            unused = &keys[i];
    }
    struct log_key *k = unused != NULL ? unused : &keys[KEYS_MAX - 1];
    if (k == unused || k->key[0] == '\0') {
        memset(k, 0, sizeof *k);
        snprintf(k->key, sizeof k->key, "%s", k == unused ? key : "other kinds");
    }
    return k;
}

/* Locked. Tells how many were counted, and begins to count anew. */
static void begin_window(struct log_key *k, uint64_t now_ms)
{
    if (k->counted > 0) {
        mesa_log(k->level, k->area, "… and %" PRIu64 " more of %s in %" PRIu64 " s", k->counted,
                 k->key, (now_ms - k->begun_ms + WINDOW_MS / 2) / WINDOW_MS);
        atomic_fetch_sub(&keys_counted, 1);
    }
    k->begun_ms = now_ms;
    k->written = k->counted = 0;
}

/* What a peer says may be in the text, and be long. */
static void write_cut(enum mesa_log_level level, const char *area, struct mesa_span text)
{
    if (text.len > MESA_LOG_LIMITED_BYTES)
        mesa_log(level, area, "%.*s… (%zu bytes)", MESA_LOG_LIMITED_BYTES, text.p, text.len);
    else
        mesa_log_write(level, area, text);
}

void mesa_log_limited(enum mesa_log_level level, const char *area, const char *key,
                      struct mesa_span text)
{
    if (!mesa_log_enabled(level))
        return;
    uint64_t now_ms = monotonic_ms();
    pthread_mutex_lock(&keys_lock);
    struct log_key *k = find_key(key, now_ms);
    if (is_over(k, now_ms) || k->begun_ms == 0)
        begin_window(k, now_ms);
    bool write = k->written < MESA_LOG_PER_SECOND;
    if (write) {
        k->written++;
    } else if (k->counted++ == 0) {
        k->level = level;
        snprintf(k->area, sizeof k->area, "%s", area);
        atomic_fetch_add(&keys_counted, 1);
    }
    pthread_mutex_unlock(&keys_lock);
    if (write)
        write_cut(level, area, text);
}

bool mesa_log_has_counted(void)
{
    return atomic_load_explicit(&keys_counted, memory_order_relaxed) > 0;
}

void mesa_log_tell_counted(bool all)
{
    uint64_t now_ms = monotonic_ms();
    pthread_mutex_lock(&keys_lock);
    for (size_t i = 0; i < KEYS_MAX; i++)
        if (keys[i].counted > 0 && (all || is_over(&keys[i], now_ms)))
            begin_window(&keys[i], now_ms);
    pthread_mutex_unlock(&keys_lock);
}
