/* httpc_pool.c - origins: their slots, their idle connections, and the calls that wait. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "io/httpc_internal.h"

struct mesa_httpc_origin *mesa_httpc_origin_of(struct mesa_httpc_call *call)
{
    struct mesa_httpc *h = call->httpc;
    struct mesa_buf key;
    mesa_buf_init(&key);
    const char *trust = call->insecure ? "anybody" : call->ca != NULL ? call->ca : "";
    enum mesa_status rc = mesa_buf_printf(&key, "%d %s %u %s", call->url.secure, call->url.host,
                                          call->url.port, trust);
    struct mesa_httpc_origin *o = NULL;
    MESA_LIST_FOREACH(it, &h->origins) {
        o = MESA_CONTAINER_OF(it, struct mesa_httpc_origin, link);
        if (rc == MESA_OK && strlen(o->key) == key.len && memcmp(o->key, key.data, key.len) == 0)
            goto out;
    }
    o = rc == MESA_OK ? calloc(1, sizeof *o + key.len + 1) : NULL;
    if (o != NULL) {
        memcpy(o->key, key.data, key.len);
        mesa_list_init(&o->idle);
        mesa_list_init(&o->waiting);
        mesa_list_append(&h->origins, &o->link);
    }
out:
    mesa_buf_deinit(&key);
    return o;
}

static struct mesa_httpc_conn *oldest(struct mesa_httpc_origin *o)
{
    return mesa_list_empty(&o->idle)
               ? NULL
               : MESA_CONTAINER_OF(o->idle.next, struct mesa_httpc_conn, link);
}

static void forget_unused(struct mesa_httpc_origin *o)
{
    if (o->slots > 0 || !mesa_list_empty(&o->waiting))
        return;
    mesa_list_remove(&o->link);
    mesa_httpc_resolution_forget(o);
    free(o);
}

/* An idle connection that was too old for a call gives up its slot rather than let the call wait. */
bool mesa_httpc_pool_slot(struct mesa_httpc_call *call)
{
    struct mesa_httpc_origin *o = call->origin;
    if (o->slots >= MESA_HTTPC_PER_ORIGIN_MAX && !mesa_list_empty(&o->idle))
        mesa_httpc_pool_drop(oldest(o));
    if (o->slots >= MESA_HTTPC_PER_ORIGIN_MAX) {
        mesa_list_append(&o->waiting, &call->waiting);
        return false;
    }
    o->slots++;
    call->has_slot = true;
    return true;
}

static void attach(struct mesa_httpc_conn *c, struct mesa_httpc_call *call)
{
    c->call = call;
    c->reused = true;
    call->conn = c;
    call->has_slot = true;
}

static void leave_idle(struct mesa_httpc_conn *c)
{
    mesa_list_remove(&c->link);
    c->origin->idle_count--;
    c->origin = NULL;
    uv_ref((uv_handle_t *)&c->tcp);
}

bool mesa_httpc_pool_take(struct mesa_httpc_call *call)
{
    struct mesa_httpc_origin *o = call->origin;
    if (mesa_list_empty(&o->idle))
        return false;
    struct mesa_httpc_conn *c = MESA_CONTAINER_OF(o->idle.prev, struct mesa_httpc_conn, link);
    uint64_t idle_ms = mesa_loop_now(call->httpc->loop) - c->idle_since_ms;
    if (idle_ms > MESA_HTTPC_FRESH_MS && !mesa_httpc_call_idempotent(call))
        return false;
    leave_idle(c);
    attach(c, call);
    return true;
}

void mesa_httpc_pool_drop(struct mesa_httpc_conn *c)
{
    struct mesa_httpc_origin *o = c->origin;
    leave_idle(c);
    mesa_httpc_conn_close(c);
    o->slots--;
    forget_unused(o);
}

static void sweep(uv_timer_t *timer)
{
    struct mesa_httpc *h = timer->data;
    uint64_t now = mesa_loop_now(h->loop), next = 0;
    MESA_LIST_FOREACH_SAFE(it, after, &h->origins) {
        struct mesa_httpc_origin *o = MESA_CONTAINER_OF(it, struct mesa_httpc_origin, link);
        bool last = false;
        struct mesa_httpc_conn *c;
        while (!last && (c = oldest(o)) != NULL && c->idle_since_ms + MESA_HTTPC_IDLE_MS <= now) {
            last = o->slots == 1 && mesa_list_empty(&o->waiting); /* the origin goes with it */
            mesa_httpc_pool_drop(c);
        }
        c = last ? NULL : oldest(o);
        if (c != NULL && (next == 0 || c->idle_since_ms < next))
            next = c->idle_since_ms;
    }
    if (next != 0)
        uv_timer_start(&h->idle, sweep, next + MESA_HTTPC_IDLE_MS - now, 0);
}

static void become_idle(struct mesa_httpc *h, struct mesa_httpc_origin *o,
                        struct mesa_httpc_conn *c)
{
    c->call = NULL;
    c->origin = o;
    c->idle_since_ms = mesa_loop_now(h->loop);
    mesa_list_append(&o->idle, &c->link);
    o->idle_count++;
    uv_unref((uv_handle_t *)&c->tcp); /* alone it does not keep the program going */
    if (!uv_is_active((uv_handle_t *)&h->idle))
        uv_timer_start(&h->idle, sweep, MESA_HTTPC_IDLE_MS, 0);
}

void mesa_httpc_pool_give(struct mesa_httpc_call *call, struct mesa_httpc_conn *c)
{
    struct mesa_httpc_origin *o = call->origin;
    bool had_slot = call->has_slot;
    mesa_list_remove(&call->waiting);
    call->origin = NULL;
    call->has_slot = false;
    if (c != NULL)
        call->conn = NULL;

    if (had_slot && !mesa_list_empty(&o->waiting)) {
        struct mesa_httpc_call *next =
            MESA_CONTAINER_OF(o->waiting.next, struct mesa_httpc_call, waiting);
        mesa_list_remove(&next->waiting);
        next->has_slot = true;
        if (c != NULL)
            attach(c, next);
        mesa_httpc_call_start(next);
        return;
    }
    if (c != NULL && o->idle_count < MESA_HTTPC_IDLE_PER_ORIGIN) {
        become_idle(call->httpc, o, c);
        return;
    }
    if (c != NULL)
        mesa_httpc_conn_close(c);
    if (had_slot)
        o->slots--;
    forget_unused(o);
}

void mesa_httpc_pool_clear(struct mesa_httpc *h)
{
    uv_timer_stop(&h->idle);
    MESA_LIST_FOREACH_SAFE(it, after, &h->origins) {
        struct mesa_httpc_origin *o = MESA_CONTAINER_OF(it, struct mesa_httpc_origin, link);
        for (unsigned n = o->idle_count; n > 0; n--) /* the origin goes with the last one */
            mesa_httpc_pool_drop(oldest(o));
    }
}
