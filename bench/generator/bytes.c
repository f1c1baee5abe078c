#include "bytes.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static void *checked(void *p)
{
    if (p == NULL) {
        fputs("mesa-bench: out of memory\n", stderr);
        exit(1);
    }
    return p;
}

void *xmalloc(size_t n)
{
    return checked(malloc(n != 0 ? n : 1));
}

void *xcalloc(size_t count, size_t size)
{
    return checked(calloc(count != 0 ? count : 1, size));
}

uint8_t *bytes_reserve(struct bytes *b, size_t n)
{
    if (b->off != 0 && b->cap - b->len < n) {
        memmove(b->data, b->data + b->off, b->len - b->off);
        b->len -= b->off;
        b->off = 0;
    }
    if (b->cap - b->len < n) {
        size_t cap = b->cap != 0 ? b->cap : 256;
        while (cap - b->len < n)
            cap *= 2;
        b->data = checked(realloc(b->data, cap));
        b->cap = cap;
    }
    return b->data + b->len;
}

void bytes_commit(struct bytes *b, size_t n)
{
    b->len += n;
}

void bytes_append(struct bytes *b, const void *data, size_t n)
{
    if (n == 0)
        return;
    memcpy(bytes_reserve(b, n), data, n);
    bytes_commit(b, n);
}

void bytes_clear(struct bytes *b)
{
    b->off = 0;
    b->len = 0;
}

void bytes_free(struct bytes *b)
{
    free(b->data);
    *b = (struct bytes){0};
}
