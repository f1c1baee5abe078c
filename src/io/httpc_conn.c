/* httpc_conn.c - one connection of the HTTP client: TCP, and TLS between it and the call.
 *
 * Whatever calls a call back comes last in a libuv callback: the call may end the connection, or
 * hand it to another call.
 */
#include <openssl/err.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

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

/* Sends what the TLS session has to say. */
static enum mesa_status flush(struct mesa_httpc_conn *c)
{
    char *bytes;
    long n = BIO_get_mem_data(SSL_get_wbio(c->ssl), &bytes);
    if (n <= 0)
        return MESA_OK;
    enum mesa_status rc = put(c, bytes, (size_t)n);
    (void)BIO_reset(SSL_get_wbio(c->ssl));
    return rc;
}

enum mesa_status mesa_httpc_conn_write(struct mesa_httpc_conn *c, const void *bytes, size_t len)
{
    if (c->ssl == NULL)
        return put(c, bytes, len);
    size_t written;
    if (len > 0 && SSL_write_ex(c->ssl, bytes, len, &written) != 1) {
        ERR_clear_error();
        return MESA_ECLOSED;
    }
    return flush(c);
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
    ERR_clear_error();
    int result = SSL_do_handshake(c->ssl);
    int error = SSL_get_error(c->ssl, result);
    if (result != 1 && error != SSL_ERROR_WANT_READ)
        mesa_httpc_tls_reason(c->ssl, why, sizeof why);
    (void)flush(c); /* also the alert that tells the server what is wrong */
    if (result == 1)
        return true;
    if (error != SSL_ERROR_WANT_READ)
        mesa_httpc_call_unconnected(c->call, "TLS", why);
    return false;
}

/* Decrypts what has arrived into the call's response. */
static void read_tls(struct mesa_httpc_conn *c)
{
    struct mesa_httpc_call *call = unused(c) ? NULL : c->call;
    enum mesa_status rc = MESA_OK;
    bool surplus = false, got_any = false;
    int error = SSL_ERROR_NONE;
    while (rc == MESA_OK && !surplus) {
        size_t n, used;
        ERR_clear_error();
        if (SSL_read_ex(c->ssl, c->httpc->in, sizeof c->httpc->in, &n) != 1) {
            error = SSL_get_error(c->ssl, 0);
            break;
        }
        got_any = true;
        if (call == NULL)
            break;
        rc = mesa_http_response_feed(&call->response, c->httpc->in, n, &used);
        surplus = used < n;
    }
    ERR_clear_error();
    (void)flush(c); /* TLS has answers of its own */
    if (call == NULL) {
        if (got_any || error != SSL_ERROR_WANT_READ)
            discard(c);
    } else if (rc != MESA_OK || surplus || call->response.state == MESA_HTTP_COMPLETE) {
        mesa_httpc_call_fed(call, rc, surplus || error != SSL_ERROR_WANT_READ);
    } else if (error != SSL_ERROR_WANT_READ) {
        mesa_httpc_call_ended(call, error == SSL_ERROR_ZERO_RETURN, "the TLS session is broken");
    }
}

static void take_tls(struct mesa_httpc_conn *c, size_t len)
{
    if (BIO_write(SSL_get_rbio(c->ssl), c->httpc->in, (int)len) != (int)len) {
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
        mesa_httpc_tls_new(&c->ssl, call, call->text, sizeof call->text) != MESA_OK) {
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
