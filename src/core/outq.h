/* outq.h - bounded queue of frames one client has still to be sent.
 *
 * Frames are encoded once and shared; each queue holds one reference. Small and cheap while idle:
 * the first few frames need no allocation, a drained queue holds none. Loop thread only. Never
 * calls Lua. May include: base/, core/frame.h.
 */
#ifndef MESA_CORE_OUTQ_H
#define MESA_CORE_OUTQ_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/buf.h"
#include "core/frame.h"

enum { MESA_OUTQ_INLINE = 4 };

struct mesa_outq {            /* private fields; embedded for the sake of memory per connection */
    struct mesa_frame **ring; /* NULL: `inline_ring` is in use */
    struct mesa_frame *inline_ring[MESA_OUTQ_INLINE];
    uint32_t cap, head, count;
    size_t bytes;
};

void mesa_outq_init(struct mesa_outq *q);
void mesa_outq_deinit(struct mesa_outq *q); /* drops every frame */

/* What mesa_outq_push leaves to outq.c: a ring that is full. */
enum mesa_status mesa_outq_grow(struct mesa_outq *q);

static inline struct mesa_frame **mesa_outq_slot(struct mesa_outq *q, size_t i)
{
    struct mesa_frame **ring = q->ring != NULL ? q->ring : q->inline_ring;
    return &ring[(q->head + i) & (q->cap - 1)];
}

/* Queues `f`, taking a reference only on MESA_OK.
 * MESA_EAGAIN: would exceed `limit_bytes`, refused (an empty queue takes any one frame).
 * MESA_ENOMEM: refused. */
static inline enum mesa_status mesa_outq_push(struct mesa_outq *q, struct mesa_frame *f,
                                              size_t limit_bytes)
{
    if (q->count > 0 && (q->bytes >= limit_bytes || f->len > limit_bytes - q->bytes))
        return MESA_EAGAIN;
    if (q->count == q->cap) {
        enum mesa_status rc = mesa_outq_grow(q);
        if (rc != MESA_OK)
            return rc;
    }
    *mesa_outq_slot(q, q->count) = mesa_frame_ref(f);
    q->count++;
    q->bytes += f->len;
    return MESA_OK;
}

static inline size_t mesa_outq_count(const struct mesa_outq *q)
{
    return q->count;
}
static inline size_t mesa_outq_bytes(const struct mesa_outq *q)
{
    return q->bytes;
}

/* The i-th frame from the front, i < count. */
static inline struct mesa_frame *mesa_outq_at(const struct mesa_outq *q, size_t i)
{
    struct mesa_frame *const *ring = q->ring != NULL ? q->ring : q->inline_ring;
    return ring[(q->head + i) & (q->cap - 1)];
}
/* Whether the queue is these frames, as many as it has. */
bool mesa_outq_equals(const struct mesa_outq *q, struct mesa_frame *const *frames);
/* Drops the first `n` frames, n <= count. */
void mesa_outq_drop(struct mesa_outq *q, size_t n);

#endif
