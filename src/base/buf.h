/* buf.h - a growable run of bytes.
 *
 * Owned by whoever embeds it. Not thread-safe. May include: base/.
 */
#ifndef MESA_BASE_BUF_H
#define MESA_BASE_BUF_H

#include <stddef.h>
#include <string.h>

#include "base/status.h"

struct mesa_buf {
    char *data; /* NULL until the first byte; not NUL-terminated */
    size_t len;
    size_t cap;
};

/* A span of bytes somebody else owns. `p` is NULL for "absent". */
struct mesa_span {
    const char *p;
    size_t len;
};

void mesa_buf_init(struct mesa_buf *b);
void mesa_buf_deinit(struct mesa_buf *b);

/* What mesa_buf_reserve does when there is no room. */
enum mesa_status mesa_buf_grow(struct mesa_buf *b, size_t extra);

/* Makes room for `extra` more bytes (amortised doubling). MESA_ENOMEM leaves the buffer as it
 * was. */
static inline enum mesa_status mesa_buf_reserve(struct mesa_buf *b, size_t extra)
{
    return extra <= b->cap - b->len ? MESA_OK : mesa_buf_grow(b, extra);
}

static inline enum mesa_status mesa_buf_append(struct mesa_buf *b, const void *p, size_t n)
{
    enum mesa_status rc = mesa_buf_reserve(b, n);
    if (rc != MESA_OK || n == 0)
        return rc;
    memcpy(b->data + b->len, p, n);
    b->len += n;
    return MESA_OK;
}

enum mesa_status mesa_buf_printf(struct mesa_buf *b, const char *fmt, ...)
    __attribute__((format(printf, 2, 3)));

/* Empties the buffer; gives its memory back when it grew beyond `keep_bytes`. */
void mesa_buf_reset(struct mesa_buf *b, size_t keep_bytes);

static inline enum mesa_status mesa_buf_push(struct mesa_buf *b, char c)
{
    enum mesa_status rc = mesa_buf_reserve(b, 1);
    if (rc == MESA_OK)
        b->data[b->len++] = c;
    return rc;
}

#define MESA_SPAN(literal) ((struct mesa_span){(literal), sizeof(literal) - 1})

static inline int mesa_span_eq(struct mesa_span a, struct mesa_span b)
{
    return a.len == b.len && (a.len == 0 || memcmp(a.p, b.p, a.len) == 0);
}

#endif
