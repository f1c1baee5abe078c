/* delivery.c - the way out of one connection: queue, gather, write, and what happens when the peer
 * reads too slowly. */
#include <stdlib.h>

#include "server/internal.h"

/* From this size on a frame is written by itself: copying it would cost more than the write. */
enum { DIRECT_BYTES = 32 * 1024, FRAMES_KEEP = 4096 };

/* -- gathering -- */

/* Lets go of the frames; the bytes are kept as scratch memory. */
static void gather_forget(struct mesa_gather *g)
{
    for (size_t i = 0; i < g->count; i++)
        mesa_frame_unref(g->frames[i]);
    g->count = 0;
    if (g->cap > FRAMES_KEEP) {
        free(g->frames);
        g->frames = NULL;
        g->cap = 0;
    }
}

void mesa_gather_deinit(struct mesa_gather *g)
{
    gather_forget(g);
    free(g->frames);
    mesa_buf_deinit(&g->bytes);
}

/* How many frames of the front make up one write. */
static size_t gather_count(const struct mesa_outq *q)
{
    size_t n = 0, bytes = 0;
    while (n < mesa_outq_count(q)) {
        const struct mesa_frame *f = mesa_outq_at(q, n);
        if (n > 0 && (f->len >= DIRECT_BYTES || bytes + f->len > MESA_GATHER_BYTES))
            break;
        bytes += f->len;
        n++;
        if (f->len >= DIRECT_BYTES)
            break;
    }
    return n;
}

/* Whether the queue is just the frames whose bytes are there. */
static bool gather_matches(const struct mesa_gather *g, const struct mesa_outq *q)
{
    return g->count > 0 && g->count == mesa_outq_count(q) && mesa_outq_equals(q, g->frames);
}

/* Remembers which frames the bytes are; without memory the next connection gathers anew. */
static void gather_remember(struct mesa_gather *g, const struct mesa_outq *q, size_t n)
{
    if (n > g->cap) {
        struct mesa_frame **frames = realloc(g->frames, n * sizeof *frames);
        if (frames == NULL)
            return;
        g->frames = frames;
        g->cap = n;
    }
    for (size_t i = 0; i < n; i++)
        g->frames[i] = mesa_frame_ref(mesa_outq_at(q, i));
    g->count = n;
}

static enum mesa_status gather(struct mesa_gather *g, const struct mesa_outq *q, size_t n)
{
    gather_forget(g);
    mesa_buf_reset(&g->bytes, MESA_GATHER_BYTES);
    for (size_t i = 0; i < n; i++) {
        const struct mesa_frame *f = mesa_outq_at(q, i);
        enum mesa_status rc = mesa_buf_append(&g->bytes, f->bytes, f->len);
        if (rc != MESA_OK)
            return rc;
    }
    if (mesa_outq_at(q, 0)->refs > 1) /* nobody else can have what only this queue holds */
        gather_remember(g, q, n);
    return MESA_OK;
}

/* -- writing -- */

static enum mesa_status write_some(struct mesa_client *c)
{
    if (c->deflates)
        return mesa_client_write_compressed(c);
    struct mesa_server *s = c->server;
    struct mesa_gather *g = &s->gather;
    const struct mesa_frame *first = mesa_outq_at(&c->outq, 0);
    const void *bytes = first->bytes;
    size_t len = first->len, n = g->count;

    bool gathered = gather_matches(g, &c->outq);
    if (!gathered) {
        n = gather_count(&c->outq);
        gathered = n > 1 && gather(g, &c->outq, n) == MESA_OK;
    }
    if (gathered) {
        bytes = g->bytes.data;
        len = g->bytes.len;
    } else {
        n = 1; /* alone, or there is no memory to gather in */
    }
    enum mesa_status rc = mesa_conn_write(c->conn, bytes, len);
    if (rc == MESA_OK) {
        mesa_outq_drop(&c->outq, n);
        s->metrics.messages_out += n;
        s->metrics.bytes_out += len;
    }
    return rc;
}

void mesa_client_flush(struct mesa_client *c)
{
    if (c->conn == NULL)
        return; /* its link may be among those to be given back */
    mesa_list_remove(&c->link);
    while (!c->backed_up && mesa_outq_count(&c->outq) > 0) {
        if (write_some(c) != MESA_OK) { /* on_drained or on_close will come */
            c->backed_up = true;
            mesa_client_apply_pause(c);
        }
    }
    mesa_redelivery_trim(c);
}

void mesa_server_flush_all(struct mesa_server *s)
{
    mesa_server_broadcast_flush(s);
    while (!mesa_list_empty(&s->dirty))
        mesa_client_flush(MESA_CONTAINER_OF(s->dirty.next, struct mesa_client, link));
    gather_forget(&s->gather);
}

void mesa_client_drained(struct mesa_client *c)
{
    c->backed_up = false;
    /* It reads, so it lives: while its output was backed up, its answers were not read. */
    c->received_ms = mesa_loop_now(c->server->loop);
    mesa_heartbeat_acknowledge(&c->state.heartbeat);
    mesa_client_flush(c);
    if (c->closed) {
        if (mesa_outq_count(&c->outq) == 0)
            mesa_client_finish_close(c);
        return;
    }
    mesa_redelivery_continue(c);
    mesa_client_apply_pause(c);
    if (!c->closed && c->wants_drain && mesa_outq_count(&c->outq) == 0) {
        c->wants_drain = false;
        if (c->server->hooks.on_drain != NULL)
            c->server->hooks.on_drain(c->server->ctx, c);
    }
}

/* -- queueing -- */

static void overflow(struct mesa_client *c, enum mesa_status rc)
{
    struct mesa_server *s = c->server;
    s->metrics.dropped++;
    if (rc == MESA_EAGAIN) {
        mesa_client_close(c, 1013, MESA_SPAN("too slow a reader"), true);
        mesa_server_report(s, c, "BACKPRESSURE", "limits.maxBackpressure exceeded");
    } else {
        mesa_client_close(c, 1011, MESA_SPAN("out of memory"), true);
        mesa_server_report(s, c, "MEMORY", "no memory to queue a message");
    }
}

enum mesa_status mesa_client_queue(struct mesa_client *c, struct mesa_frame *f)
{
    if (c->closed)
        return MESA_ECLOSED;
    if (mesa_client_queue_quickly(c, f))
        return MESA_OK;
    struct mesa_server *s = c->server;
    size_t limit = s->cfg.limits.max_backpressure;

    /* Before a bound says no, what was queued in this turn gets its chance to leave. */
    enum mesa_status rc = mesa_outq_push(&c->outq, f, limit);
    if (rc == MESA_EAGAIN && !c->backed_up) {
        mesa_client_flush(c);
        rc = mesa_outq_push(&c->outq, f, limit);
    }
    if (rc != MESA_OK) {
        overflow(c, rc);
        return MESA_ETOOBIG;
    }
    c->pushed++;
    if (!c->backed_up && mesa_list_empty(&c->link))
        mesa_list_append(&s->dirty, &c->link);
    if (mesa_outq_bytes(&c->outq) <= limit / 2)
        return MESA_OK;
    if (!c->backed_up)
        mesa_client_flush(c);
    if (mesa_outq_bytes(&c->outq) <= limit / 2)
        return MESA_OK;
    c->wants_drain = true;
    s->metrics.backpressure++;
    return MESA_EAGAIN;
}

enum mesa_status mesa_client_push(struct mesa_client *c, struct mesa_frame *f)
{
    mesa_client_settle(c);
    return mesa_client_queue(c, f);
}

bool mesa_client_try_send(struct mesa_client *c, struct mesa_frame *f)
{
    const struct mesa_server *s = c->server;
    return !c->closed && !mesa_client_is_shut_out(c) && !c->backed_up && c->stored == NULL &&
           s->depth > 0 && c->broadcasts == s->broadcasts.total && mesa_client_queue_quickly(c, f);
}

enum mesa_status mesa_client_send(struct mesa_client *c, struct mesa_frame *f)
{
    if (c->closed)
        return MESA_ECLOSED;
    if (mesa_client_try_send(c, f))
        return MESA_OK;
    struct mesa_server *s = c->server;
    mesa_server_enter(s);
    mesa_client_ref(c);
    enum mesa_status rc = mesa_client_push(c, f);
    if (c->stored != NULL && (rc == MESA_OK || rc == MESA_EAGAIN))
        mesa_client_store(c, MESA_STORED_SENT, f);
    mesa_client_unref(c);
    mesa_server_leave(s);
    return rc;
}
