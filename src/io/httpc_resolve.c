/* httpc_resolve.c - where hosts are: asked once for all calls of an origin that want to know at about the same time. */
#include <netdb.h>
#include <stdio.h>
#include <stdlib.h>

#include "io/httpc_internal.h"

static void unref(struct mesa_httpc_resolution *r)
{
    if (--r->refs > 0)
        return;
    if (r->addresses != NULL)
        uv_freeaddrinfo(r->addresses);
    free(r);
}

void mesa_httpc_resolution_forget(struct mesa_httpc_origin *o)
{
    struct mesa_httpc_resolution *r = o->resolution;
    o->resolution = NULL;
    if (r == NULL)
        return;
    r->origin = NULL;
    if (!r->answered && mesa_list_empty(&r->calls))
        uv_cancel((uv_req_t *)&r->req); /* one that is under way ends by itself */
    unref(r);
}

void mesa_httpc_resolution_leave(struct mesa_httpc_call *call)
{
    struct mesa_httpc_resolution *r = call->resolution;
    call->resolution = NULL;
    call->next_address = NULL;
    if (r == NULL)
        return;
    if (!r->answered)
        mesa_list_remove(&call->waiting);
    unref(r);
}

static void on_resolved(uv_getaddrinfo_t *req, int status, struct addrinfo *addresses)
{
    struct mesa_httpc_resolution *r = req->data;
    r->answered = true;
    r->status = status;
    r->addresses = addresses;
    r->answered_ms = uv_now(req->loop);
    while (!mesa_list_empty(&r->calls)) {
        struct mesa_httpc_call *call =
            MESA_CONTAINER_OF(r->calls.next, struct mesa_httpc_call, waiting);
        mesa_list_remove(&call->waiting);
        mesa_httpc_call_start(call);
    }
    if (status != 0 && r->origin != NULL) /* the next call tries again */
        mesa_httpc_resolution_forget(r->origin);
    unref(r);
}

static int ask(struct mesa_httpc_call *call)
{
    const struct addrinfo hints = {.ai_socktype = SOCK_STREAM};
    struct mesa_httpc_origin *o = call->origin;
    struct mesa_httpc_resolution *r = calloc(1, sizeof *r);
    if (r == NULL)
        return UV_ENOMEM;
    char port[8];
    snprintf(port, sizeof port, "%u", call->url.port);
    r->req.data = r;
    mesa_list_init(&r->calls);
    int rc = uv_getaddrinfo(mesa_loop_uv(call->httpc->loop), &r->req, on_resolved, call->url.host,
                            port, &hints);
    if (rc != 0) {
        free(r);
        return rc;
    }
    r->refs = 2;
    r->origin = o;
    o->resolution = r;
    return 0;
}

int mesa_httpc_resolve(struct mesa_httpc_call *call)
{
    struct mesa_httpc_origin *o = call->origin;
    struct mesa_httpc_resolution *r = o->resolution;
    uint64_t now = mesa_loop_now(call->httpc->loop);
    if (r != NULL && r->answered && now - r->answered_ms > MESA_HTTPC_RESOLVED_MS)
        mesa_httpc_resolution_forget(o);
    int rc = o->resolution == NULL ? ask(call) : 0;
    if (rc != 0)
        return rc;
    call->resolution = o->resolution;
    call->resolution->refs++;
    if (!call->resolution->answered)
        mesa_list_append(&call->resolution->calls, &call->waiting);
    return 0;
}
