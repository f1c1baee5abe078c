/* httpc_conn.c - one connection of the HTTP client, between outgoing.h and the call.
 *
 * Whatever calls a call back comes last: the call may end the connection, or hand it to another call.
 */
#include <stdio.h>
#include <stdlib.h>

#include "io/client_tls.h"
#include "io/httpc_internal.h"

static struct mesa_httpc_conn *conn_of(struct mesa_outgoing *o)
{
    return MESA_CONTAINER_OF(o, struct mesa_httpc_conn, out);
}

static void on_closed(struct mesa_outgoing *o)
{
    free(conn_of(o));
}

void mesa_httpc_conn_close(struct mesa_httpc_conn *c)
{
    if (c->call != NULL)
        c->call->conn = NULL;
    c->call = NULL;
    mesa_outgoing_close(&c->out);
}

/* Nothing has been asked on it: it is idle, or about to carry a request that has not been sent. */
static bool unused(const struct mesa_httpc_conn *c)
{
    return c->call == NULL || mesa_job_queued(&c->call->start);
}

/* An unused connection has ended, or the server says something. The call makes another one. */
static void discard(struct mesa_httpc_conn *c)
{
    if (c->call == NULL)
        mesa_httpc_pool_drop(c);
    else
        mesa_httpc_conn_close(c);
}

bool mesa_httpc_conn_sent(const struct mesa_httpc_conn *c)
{
    return mesa_outgoing_queued(&c->out) == 0;
}

enum mesa_status mesa_httpc_conn_write(struct mesa_httpc_conn *c, const void *bytes, size_t len)
{
    return mesa_outgoing_write(&c->out, bytes, len);
}

static void on_ready(struct mesa_outgoing *o)
{
    mesa_httpc_call_connected(conn_of(o)->call);
}

static void on_failed(struct mesa_outgoing *o, const char *code, const char *why)
{
    struct mesa_httpc_conn *c = conn_of(o);
    if (unused(c))
        discard(c);
    else
        mesa_httpc_call_unconnected(c->call, code, why);
}

static bool on_bytes(struct mesa_outgoing *o, const char *data, size_t len)
{
    struct mesa_httpc_conn *c = conn_of(o);
    size_t used = 0;
    if (!unused(c))
        c->fed = mesa_http_response_feed(&c->call->response, data, len, &used);
    c->surplus = used < len;
    return c->fed == MESA_OK && !c->surplus;
}

static void on_turn(struct mesa_outgoing *o, enum mesa_outgoing_state state, const char *why)
{
    struct mesa_httpc_conn *c = conn_of(o);
    bool surplus = c->surplus, ended = state != MESA_OUTGOING_OPEN;
    enum mesa_status rc = c->fed;
    c->surplus = false;
    c->fed = MESA_OK;
    if (unused(c)) {
        if (surplus || ended)
            discard(c);
    } else if (rc != MESA_OK || surplus || c->call->response.state == MESA_HTTP_COMPLETE) {
        mesa_httpc_call_fed(c->call, rc, surplus || ended);
    } else if (ended) {
        mesa_httpc_call_ended(c->call, state == MESA_OUTGOING_ENDED, why);
    }
}

enum mesa_status mesa_httpc_conn_open(struct mesa_httpc_call *call, const struct sockaddr *address)
{
    static const struct mesa_outgoing_hooks hooks = {
        .on_ready = on_ready,
        .on_failed = on_failed,
        .on_bytes = on_bytes,
        .on_turn = on_turn,
        .on_closed = on_closed,
    };
    struct mesa_httpc *h = call->httpc;
    struct mesa_httpc_conn *c = calloc(1, sizeof *c);
    call->code = "MEMORY";
    snprintf(call->text, sizeof call->text, "not enough memory");
    if (c == NULL)
        return MESA_ENOMEM;
    mesa_list_init(&c->link);
    c->httpc = h;
    c->out.hooks = &hooks;
    c->out.in = uv_buf_init(h->in, sizeof h->in);
    call->code = "TLS";
    if (call->url.secure &&
        mesa_client_tls_new(&c->out.ssl, &h->authorities, call->ca, call->url.host, call->insecure,
                            call->text, sizeof call->text) != MESA_OK) {
        free(c);
        return MESA_EIO;
    }
    int rc = mesa_outgoing_open(&c->out, mesa_loop_uv(h->loop), address);
    if (rc != 0) {
        call->code = "CONNECT";
        snprintf(call->text, sizeof call->text, "%s", uv_strerror(rc));
        mesa_httpc_conn_close(c);
        return MESA_EIO;
    }
    c->call = call;
    call->conn = c;
    return MESA_OK;
}
