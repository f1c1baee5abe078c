/* httpc_conn.c - one connection of the HTTP client: TCP, and TLS between it and the call.
 *
 * Whatever calls a call back comes last in a libuv callback: the call may end the connection, or
 * hand it to another call.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "io/client_tls.h"
#include "io/httpc_internal.h"

struct write {
    uv_write_t req;
    char bytes[];
};

static void on_closed(uv_handle_t *handle)
{
    struct mesa_httpc_conn *c = handle->data;
    SSL_free(c->ssl);
    free(c);
}

void mesa_httpc_conn_close(struct mesa_httpc_conn *c)
{
    if (c->call != NULL)
        c->call->conn = NULL;
    c->call = NULL;
    if (!uv_is_closing((uv_handle_t *)&c->tcp))
        uv_close((uv_handle_t *)&c->tcp, on_closed);
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

/* -- writing -- */

static void on_written(uv_write_t *req, int status)
{
    struct write *w = req->data;
    (void)status; /* a server that stops reading may have answered: what is read decides */
    free(w);
}

static enum mesa_status put(struct mesa_httpc_conn *c, const void *bytes, size_t len)
{
    struct write *w = malloc(sizeof *w + len);
    if (w == NULL)
        return MESA_ENOMEM;
    memcpy(w->bytes, bytes, len);
    w->req.data = w;
    uv_buf_t buf = uv_buf_init(w->bytes, (unsigned)len);
    if (uv_write(&w->req, (uv_stream_t *)&c->tcp, &buf, 1, on_written) != 0) {
        free(w);
        return MESA_ECLOSED;
    }
    return MESA_OK;
}

/* Not whether on_written has been called: an answer may come before it. */
bool mesa_httpc_conn_sent(const struct mesa_httpc_conn *c)
{
    return uv_stream_get_write_queue_size((const uv_stream_t *)&c->tcp) == 0;
}

static enum mesa_status put_tls(void *owner, const void *bytes, size_t len)
{
    return put(owner, bytes, len);
}

enum mesa_status mesa_httpc_conn_write(struct mesa_httpc_conn *c, const void *bytes, size_t len)
{
    return c->ssl == NULL ? put(c, bytes, len)
                          : mesa_client_tls_write(c->ssl, put_tls, c, bytes, len);
}

/* -- reading -- */

static void on_alloc(uv_handle_t *handle, size_t suggested, uv_buf_t *buf)
{
    struct mesa_httpc_conn *c = handle->data;
    (void)suggested;
    *buf = uv_buf_init(c->httpc->in, sizeof c->httpc->in);
}

/* Goes on with the handshake; true once it is over. */
static bool shake_hands(struct mesa_httpc_conn *c)
{
    char why[160];
    enum mesa_client_tls_step step = mesa_client_tls_handshake(c->ssl, put_tls, c, why, sizeof why);
    if (step == MESA_CLIENT_TLS_FAILED)
        mesa_httpc_call_unconnected(c->call, "TLS", why);
    return step == MESA_CLIENT_TLS_DONE;
}

/* Decrypts what has arrived into the call's response. */
static void read_tls(struct mesa_httpc_conn *c)
{
    struct mesa_httpc_call *call = unused(c) ? NULL : c->call;
    enum mesa_client_tls_step step = MESA_CLIENT_TLS_DONE;
    enum mesa_status rc = MESA_OK;
    bool surplus = false;
    while (rc == MESA_OK && !surplus) {
        size_t n, used;
        step = mesa_client_tls_read(c->ssl, put_tls, c, c->httpc->in, sizeof c->httpc->in, &n);
        if (step != MESA_CLIENT_TLS_DONE || call == NULL)
            break;
        rc = mesa_http_response_feed(&call->response, c->httpc->in, n, &used);
        surplus = used < n;
    }
    if (call == NULL) {
        if (step != MESA_CLIENT_TLS_WAITS)
            discard(c);
    } else if (rc != MESA_OK || surplus || call->response.state == MESA_HTTP_COMPLETE) {
        mesa_httpc_call_fed(call, rc, surplus || step != MESA_CLIENT_TLS_WAITS);
    } else if (step != MESA_CLIENT_TLS_WAITS) {
        mesa_httpc_call_ended(call, step == MESA_CLIENT_TLS_ENDED, "the TLS session is broken");
    }
}

static void take_tls(struct mesa_httpc_conn *c, size_t len)
{
    if (!mesa_client_tls_feed(c->ssl, c->httpc->in, len)) {
        if (unused(c))
            discard(c);
        else
            mesa_httpc_call_ended(c->call, false, "not enough memory");
        return;
    }
    if (c->ready) {
        read_tls(c);
    } else if (shake_hands(c)) {
        c->ready = true;
        mesa_httpc_call_connected(c->call);
    }
}

static void on_end(struct mesa_httpc_conn *c, int status)
{
    char why[128];
    if (unused(c)) {
        discard(c);
        return;
    }
    if (status == UV_EOF)
        snprintf(why, sizeof why, "the server closed the connection");
    else
        snprintf(why, sizeof why, "the connection broke: %s", uv_strerror(status));
    if (!c->ready)
        mesa_httpc_call_unconnected(c->call, c->ssl != NULL ? "TLS" : "CONNECT", why);
    else
        mesa_httpc_call_ended(c->call,
                              status == UV_EOF && (c->ssl == NULL || (SSL_get_shutdown(c->ssl) &
                                                                      SSL_RECEIVED_SHUTDOWN) != 0),
                              why);
}

static void on_read(uv_stream_t *stream, ssize_t n, const uv_buf_t *buf)
{
    struct mesa_httpc_conn *c = stream->data;
    if (n < 0) {
        on_end(c, (int)n);
    } else if (n > 0 && c->ssl != NULL) {
        take_tls(c, (size_t)n);
    } else if (n > 0 && unused(c)) {
        discard(c);
    } else if (n > 0) {
        size_t used;
        enum mesa_status rc =
            mesa_http_response_feed(&c->call->response, buf->base, (size_t)n, &used);
        mesa_httpc_call_fed(c->call, rc, used < (size_t)n);
    }
}

/* -- connecting -- */

static void on_connected(uv_connect_t *req, int status)
{
    struct mesa_httpc_conn *c = req->data;
    if (c->call == NULL) /* closed meanwhile */
        return;
    if (status == 0)
        status = uv_read_start((uv_stream_t *)&c->tcp, on_alloc, on_read);
    if (status != 0) {
        mesa_httpc_call_unconnected(c->call, "CONNECT", uv_strerror(status));
        return;
    }
    uv_tcp_nodelay(&c->tcp, 1);
    if (c->ssl != NULL) {
        (void)shake_hands(c);
        return;
    }
    c->ready = true;
    mesa_httpc_call_connected(c->call);
}

enum mesa_status mesa_httpc_conn_open(struct mesa_httpc_call *call, const struct sockaddr *address)
{
    struct mesa_httpc *h = call->httpc;
    struct mesa_httpc_conn *c = calloc(1, sizeof *c);
    call->code = "MEMORY";
    snprintf(call->text, sizeof call->text, "not enough memory");
    if (c == NULL)
        return MESA_ENOMEM;
    mesa_list_init(&c->link);
    c->httpc = h;
    call->code = "TLS";
    if (call->url.secure &&
        mesa_client_tls_new(&c->ssl, &h->authorities, call->ca, call->url.host, call->insecure,
                            call->text, sizeof call->text) != MESA_OK) {
        free(c);
        return MESA_EIO;
    }
    int rc = uv_tcp_init(mesa_loop_uv(h->loop), &c->tcp);
    c->tcp.data = c;
    c->connect.data = c;
    if (rc == 0)
        rc = uv_tcp_connect(&c->connect, &c->tcp, address, on_connected);
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
