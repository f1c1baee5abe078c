/* bytes.h - growable bytes with a read offset, for what one connection has still to send or to complete.
 *
 * Running out of memory ends the program: a measurement without memory has no result.
 * Single thread. Owns `data`. May include: libc.
 */
#ifndef MESA_BENCH_BYTES_H
#define MESA_BENCH_BYTES_H

#include <stddef.h>
#include <stdint.h>

struct bytes {
    uint8_t *data;
    size_t off; /* consumed so far */
    size_t len; /* end of the valid bytes; off <= len <= cap */
    size_t cap;
};

/* Room for `n` more bytes at the end; valid until the next call. Follow with bytes_commit. */
uint8_t *bytes_reserve(struct bytes *b, size_t n);
void bytes_commit(struct bytes *b, size_t n);
void bytes_append(struct bytes *b, const void *data, size_t n);
void bytes_clear(struct bytes *b);
void bytes_free(struct bytes *b);

/* malloc and calloc that never return NULL. */
void *xmalloc(size_t n);
void *xcalloc(size_t count, size_t size);

#endif
