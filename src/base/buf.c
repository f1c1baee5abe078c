/* buf.c - see buf.h. */
#include "base/buf.h"

#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

enum { FIRST_CAP = 64 };

void mesa_buf_init(struct mesa_buf *b)
{
    *b = (struct mesa_buf){0};
}

void mesa_buf_deinit(struct mesa_buf *b)
{
    free(b->data);
    mesa_buf_init(b);
}

enum mesa_status mesa_buf_grow(struct mesa_buf *b, size_t extra)
{
    if (extra > SIZE_MAX / 2 - b->len)
        return MESA_ENOMEM;

    size_t cap = b->cap > 0 ? b->cap : FIRST_CAP;
    while (cap < b->len + extra)
        cap *= 2; /* cannot wrap: the sum is below SIZE_MAX / 2 */

    char *data = realloc(b->data, cap);
    if (data == NULL)
        return MESA_ENOMEM;
    b->data = data;
    b->cap = cap;
    return MESA_OK;
}

enum mesa_status mesa_buf_printf(struct mesa_buf *b, const char *fmt, ...)
{
    va_list ap;
    va_start(ap, fmt);
    int n = vsnprintf(NULL, 0, fmt, ap);
    va_end(ap);
    if (n < 0)
        return MESA_EINVAL;

    /* vsnprintf also writes a NUL, which does not become part of the buffer. */
    enum mesa_status rc = mesa_buf_reserve(b, (size_t)n + 1);
    if (rc != MESA_OK)
        return rc;
    va_start(ap, fmt);
    vsnprintf(b->data + b->len, (size_t)n + 1, fmt, ap);
    va_end(ap);
    b->len += (size_t)n;
    return MESA_OK;
}

void mesa_buf_reset(struct mesa_buf *b, size_t keep_bytes)
{
    if (b->cap > keep_bytes)
        mesa_buf_deinit(b);
    b->len = 0;
}
