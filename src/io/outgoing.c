/* outgoing.c - see outgoing.h. */
#include "io/outgoing.h"

#include <openssl/err.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "io/client_tls.h"

struct write {
    uv_write_t req;
    char bytes[];
};

static void on_closed(uv_handle_t *handle)
{
    struct mesa_outgoing *o = handle->data;
    SSL_free(o->ssl);
    o->ssl = NULL;
    o->hooks->on_closed(o);
}

void mesa_outgoing_close(struct mesa_outgoing *o)
{
    o->closing = true;
    if (!uv_is_closing((uv_handle_t *)&o->tcp))
        uv_close((uv_handle_t *)&o->tcp, on_closed);
}

/* -- writing ------------------------------------------------------------------------------------ */

static void on_written(uv_write_t *req, int status)
{
    struct write *w = req->data;
    struct mesa_outgoing *o = req->handle->data;
    (void)status; /* a server that stops reading may have answered: what is read decides */
    free(w);
    if (!o->closing && o->ready && o->hooks->on_drained != NULL && mesa_outgoing_queued(o) == 0)
        o->hooks->on_drained(o);
}

static enum mesa_status put(struct mesa_outgoing *o, const void *bytes, size_t len)
{
    struct write *w = malloc(sizeof *w + len);
    if (w == NULL)
        return MESA_ENOMEM;
    memcpy(w->bytes, bytes, len);
    w->req.data = w;
    uv_buf_t buf = uv_buf_init(w->bytes, (unsigned)len);
    if (uv_write(&w->req, (uv_stream_t *)&o->tcp, &buf, 1, on_written) != 0) {
        free(w);
        return MESA_ECLOSED;
    }
    return MESA_OK;
}

/* Not whether on_written has been called: an answer may come before it. */
size_t mesa_outgoing_queued(const struct mesa_outgoing *o)
{
    return uv_stream_get_write_queue_size((const uv_stream_t *)&o->tcp);
}

/* Sends what the TLS session has to say. */
static enum mesa_status flush(struct mesa_outgoing *o)
{
    char *bytes;
    long n = BIO_get_mem_data(SSL_get_wbio(o->ssl), &bytes);
    if (n <= 0)
        return MESA_OK;
    enum mesa_status rc = put(o, bytes, (size_t)n);
    (void)BIO_reset(SSL_get_wbio(o->ssl));
    return rc;
}

enum mesa_status mesa_outgoing_write(struct mesa_outgoing *o, const void *bytes, size_t len)
{
    size_t written;
    if (o->closing)
        return MESA_ECLOSED;
    if (o->ssl == NULL)
        return put(o, bytes, len);
    if (len > 0 && SSL_write_ex(o->ssl, bytes, len, &written) != 1) {
        ERR_clear_error();
        return MESA_ECLOSED;
    }
    return flush(o);
}

static void on_shut(uv_shutdown_t *req, int status)
{
    (void)status;
    free(req);
}

void mesa_outgoing_end(struct mesa_outgoing *o)
{
    uv_shutdown_t *req = malloc(sizeof *req);
    if (req != NULL && uv_shutdown(req, (uv_stream_t *)&o->tcp, on_shut) != 0)
        free(req);
}

/* -- reading ------------------------------------------------------------------------------------ */

static void on_alloc(uv_handle_t *handle, size_t suggested, uv_buf_t *buf)
{
    struct mesa_outgoing *o = handle->data;
    (void)suggested;
    *buf = o->in;
}

/* Goes on with the handshake; true once it is over. */
static bool shake_hands(struct mesa_outgoing *o)
{
    char why[160];
    ERR_clear_error();
    int result = SSL_do_handshake(o->ssl);
    int error = SSL_get_error(o->ssl, result);
    if (result != 1 && error != SSL_ERROR_WANT_READ)
        mesa_client_tls_reason(o->ssl, why, sizeof why);
    (void)flush(o); /* also the alert that tells the server what is wrong */
    if (result == 1)
        return true;
    if (error != SSL_ERROR_WANT_READ)
        o->hooks->on_failed(o, "TLS", why);
    return false;
}

/* Decrypts what has arrived. */
static void read_tls(struct mesa_outgoing *o)
{
    enum mesa_outgoing_state state = MESA_OUTGOING_OPEN;
    bool more = true;
    while (more) {
        size_t n;
        ERR_clear_error();
        if (SSL_read_ex(o->ssl, o->in.base, o->in.len, &n) != 1) {
            int error = SSL_get_error(o->ssl, 0);
            if (error != SSL_ERROR_WANT_READ)
                state = error == SSL_ERROR_ZERO_RETURN ? MESA_OUTGOING_ENDED : MESA_OUTGOING_BROKEN;
            break;
        }
        more = o->hooks->on_bytes(o, o->in.base, n);
    }
    ERR_clear_error();
    (void)flush(o); /* TLS has answers of its own */
    o->hooks->on_turn(o, state, "the TLS session is broken");
}

static void take_tls(struct mesa_outgoing *o, size_t len)
{
    if (BIO_write(SSL_get_rbio(o->ssl), o->in.base, (int)len) != (int)len) {
        o->hooks->on_turn(o, MESA_OUTGOING_BROKEN, "not enough memory");
    } else if (o->ready) {
        read_tls(o);
    } else if (shake_hands(o)) {
        o->ready = true;
        o->hooks->on_ready(o);
    }
}

static void on_end(struct mesa_outgoing *o, int status)
{
    char why[128];
    bool clean = status == UV_EOF &&
                 (o->ssl == NULL || (SSL_get_shutdown(o->ssl) & SSL_RECEIVED_SHUTDOWN) != 0);
    if (status == UV_EOF)
        snprintf(why, sizeof why, "the server closed the connection");
    else
        snprintf(why, sizeof why, "the connection broke: %s", uv_strerror(status));
    if (!o->ready)
        o->hooks->on_failed(o, o->ssl != NULL ? "TLS" : "CONNECT", why);
    else
        o->hooks->on_turn(o, clean ? MESA_OUTGOING_ENDED : MESA_OUTGOING_BROKEN, why);
}

static void on_read(uv_stream_t *stream, ssize_t n, const uv_buf_t *buf)
{
    struct mesa_outgoing *o = stream->data;
    if (n < 0) {
        on_end(o, (int)n);
    } else if (n > 0 && o->ssl != NULL) {
        take_tls(o, (size_t)n);
    } else if (n > 0) {
        (void)o->hooks->on_bytes(o, buf->base, (size_t)n);
        o->hooks->on_turn(o, MESA_OUTGOING_OPEN, NULL);
    }
}

void mesa_outgoing_pause(struct mesa_outgoing *o, bool pause)
{
    if (pause)
        uv_read_stop((uv_stream_t *)&o->tcp);
    else
        uv_read_start((uv_stream_t *)&o->tcp, on_alloc, on_read);
}

/* -- connecting --------------------------------------------------------------------------------- */

static void on_connected(uv_connect_t *req, int status)
{
    struct mesa_outgoing *o = req->data;
    if (o->closing)
        return;
    if (status == 0)
        status = uv_read_start((uv_stream_t *)&o->tcp, on_alloc, on_read);
    if (status != 0) {
        o->hooks->on_failed(o, "CONNECT", uv_strerror(status));
        return;
    }
    uv_tcp_nodelay(&o->tcp, 1);
    if (o->ssl != NULL) {
        (void)shake_hands(o);
        return;
    }
    o->ready = true;
    o->hooks->on_ready(o);
}

int mesa_outgoing_open(struct mesa_outgoing *o, uv_loop_t *loop, const struct sockaddr *address)
{
    int rc = uv_tcp_init(loop, &o->tcp);
    o->tcp.data = o;
    o->connect.data = o;
    return rc != 0 ? rc : uv_tcp_connect(&o->connect, &o->tcp, address, on_connected);
}
