/* outq.c - see outq.h: a ring of references, inline while it is short. */
#include "core/outq.h"

#include <stdlib.h>
#include <string.h>

void mesa_outq_init(struct mesa_outq *q)
{
    memset(q, 0, sizeof *q);
    q->cap = MESA_OUTQ_INLINE;
}

void mesa_outq_deinit(struct mesa_outq *q)
{
    mesa_outq_drop(q, q->count);
}

enum mesa_status mesa_outq_grow(struct mesa_outq *q)
{
    /* who has more than the first few often has many */
    uint32_t cap = q->ring == NULL ? MESA_OUTQ_INLINE * 4 : q->cap * 2;
    if (cap <= q->cap)
        return MESA_ENOMEM;
    struct mesa_frame **ring = malloc(cap * sizeof(struct mesa_frame *));
    if (ring == NULL)
        return MESA_ENOMEM;
    for (uint32_t i = 0; i < q->count; i++)
        ring[i] = mesa_outq_at(q, i);
    free(q->ring);
    q->ring = ring;
    q->cap = cap;
    q->head = 0;
    return MESA_OK;
}

bool mesa_outq_equals(const struct mesa_outq *q, struct mesa_frame *const *frames)
{
    struct mesa_frame *const *ring = q->ring != NULL ? q->ring : q->inline_ring;
    size_t size = sizeof *frames, to_end = q->cap - q->head; /* it may go on at the ring's start */
    size_t n = q->count < to_end ? q->count : to_end;
    return memcmp(ring + q->head, frames, n * size) == 0 &&
           memcmp(ring, frames + n, (q->count - n) * size) == 0;
}

void mesa_outq_drop(struct mesa_outq *q, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        struct mesa_frame *f = mesa_outq_at(q, i);
        q->bytes -= f->len;
        mesa_frame_unref(f);
    }
    q->head = (q->head + (uint32_t)n) & (q->cap - 1);
    q->count -= (uint32_t)n;
    if (q->count == 0 && q->ring != NULL) { /* a drained queue holds no memory */
        free(q->ring);
        mesa_outq_init(q);
    }
}
