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

static struct mesa_frame **slots(struct mesa_outq *q)
{
    return q->ring != NULL ? q->ring : q->inline_ring;
}

static enum mesa_status grow(struct mesa_outq *q)
{
    uint32_t cap = q->cap * 2;
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

enum mesa_status mesa_outq_push(struct mesa_outq *q, struct mesa_frame *f, size_t limit_bytes)
{
    if (q->count > 0 && (q->bytes >= limit_bytes || f->len > limit_bytes - q->bytes))
        return MESA_EAGAIN;
    if (q->count == q->cap) {
        enum mesa_status rc = grow(q);
        if (rc != MESA_OK)
            return rc;
    }
    slots(q)[(q->head + q->count) & (q->cap - 1)] = mesa_frame_ref(f);
    q->count++;
    q->bytes += f->len;
    return MESA_OK;
}

struct mesa_frame *mesa_outq_at(const struct mesa_outq *q, size_t i)
{
    struct mesa_frame *const *ring = q->ring != NULL ? q->ring : q->inline_ring;
    return ring[(q->head + i) & (q->cap - 1)];
}

void mesa_outq_drop(struct mesa_outq *q, size_t n)
{
    struct mesa_frame **ring = slots(q);
    for (size_t i = 0; i < n; i++) {
        struct mesa_frame *f = ring[q->head];
        q->head = (q->head + 1) & (q->cap - 1);
        q->count--;
        q->bytes -= f->len;
        mesa_frame_unref(f);
    }
    if (q->count == 0 && q->ring != NULL) { /* a drained queue holds no memory */
        free(q->ring);
        mesa_outq_init(q);
    }
}
