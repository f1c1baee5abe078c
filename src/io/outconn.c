/* outconn.c - see outconn.h.
 *
 * The socket is written to directly: while libwebsockets holds the rest of a write that the kernel
 * did not take whole, it does not read, and two peers that both wait for a reader stand still.
 */
#include "io/outconn.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

#include "io/client_tls.h"
#include "io/transport_internal.h"

enum {
    READ_BYTES = 16384, /* at least what a TLS record holds */
    KEEP_BYTES = 4096,  /* of an empty queue */
};

static void outconn_free(struct mesa_outconn *o)
{
    mesa_list_remove(&o->unsent);
    SSL_free(o->ssl);
    mesa_buf_deinit(&o->out);
    free(o);
}

/* -- writing ------------------------------------------------------------------------------------ */

static void want_turn(struct mesa_transport *t)
{
    if (!mesa_timer_armed(&t->wake))
        mesa_loop_arm(t->loop, &t->wake, 0);
}

static void mark_unsent(struct mesa_outconn *o)
{
    if (mesa_list_empty(&o->unsent))
        mesa_list_append(&o->transport->unsent, &o->unsent);
    want_turn(o->transport);
}

static enum mesa_status put(void *owner, const void *bytes, size_t len)
{
    struct mesa_outconn *o = owner;
    enum mesa_status rc = mesa_buf_append(&o->out, bytes, len);
    if (rc == MESA_OK)
        mark_unsent(o);
    return rc;
}

size_t mesa_outconn_queued(const struct mesa_outconn *o)
{
    return o->out.len - o->written;
}

static void drop_written(struct mesa_outconn *o)
{
    if (o->refused || o->written == o->out.len) {
        mesa_buf_reset(&o->out, KEEP_BYTES);
        o->written = 0;
    } else if (o->written >= o->out.len / 2) {
        o->out.len -= o->written;
        memmove(o->out.data, o->out.data + o->written, o->out.len);
        o->written = 0;
    }
}

/* Gives the kernel what it takes. A peer that refuses it may have said something before it went: what
 * is read decides how the connection ends. */
static void flush(struct mesa_outconn *o)
{
    if (o->wsi == NULL || o->closed)
        return;
    int fd = lws_get_socket_fd(o->wsi);
    while (!o->refused && o->written < o->out.len) {
        ssize_t n = send(fd, o->out.data + o->written, o->out.len - o->written,
                         MSG_DONTWAIT | MSG_NOSIGNAL);
        if (n >= 0)
            o->written += (size_t)n;
        else if (errno == EAGAIN || errno == EWOULDBLOCK)
            break;
        else if (errno != EINTR)
            o->refused = true;
    }
    drop_written(o);
    if (mesa_outconn_queued(o) > 0 || o->want_drained)
        lws_callback_on_writable(o->wsi);
    if (mesa_outconn_queued(o) == 0 && o->ending)
        shutdown(fd, SHUT_WR);
}

static void on_writable(struct mesa_outconn *o)
{
    flush(o);
    if (!o->want_drained || mesa_outconn_queued(o) > 0)
        return;
    o->want_drained = false;
    o->hooks->on_drained(o);
}

void mesa_outconn_want_drained(struct mesa_outconn *o)
{
    o->want_drained = true;
    mark_unsent(o);
}

enum mesa_status mesa_outconn_write(struct mesa_outconn *o, const void *bytes, size_t len)
{
    if (o->closed || o->ending || o->refused)
        return MESA_ECLOSED;
    return o->ssl == NULL ? put(o, bytes, len) : mesa_client_tls_write(o->ssl, put, o, bytes, len);
}

void mesa_outconn_end(struct mesa_outconn *o)
{
    if (o->closed || o->ending)
        return;
    if (o->ssl != NULL && o->ready)
        mesa_client_tls_end(o->ssl, put, o);
    o->ending = true;
    mark_unsent(o);
}

/* -- reading ------------------------------------------------------------------------------------ */

void mesa_outconn_pause(struct mesa_outconn *o, bool pause)
{
    if (o->wsi != NULL && !o->closed)
        lws_rx_flow_control(o->wsi, pause ? 0 : 1);
}

/* Nothing more can come. */
static void end(struct mesa_outconn *o, const char *why)
{
    o->over = true;
    if (o->hooks == NULL)
        return;
    if (o->ready)
        o->hooks->on_turn(o, MESA_OUTCONN_ENDED, why);
    else
        o->hooks->on_failed(o, why);
}

/* Decrypts what has arrived. */
static void read_tls(struct mesa_outconn *o)
{
    char bytes[READ_BYTES];
    size_t n;
    enum mesa_client_tls_step step;
    while ((step = mesa_client_tls_read(o->ssl, put, o, bytes, sizeof bytes, &n)) ==
           MESA_CLIENT_TLS_DONE)
        o->hooks->on_bytes(o, bytes, n);
    if (step == MESA_CLIENT_TLS_WAITS)
        o->hooks->on_turn(o, MESA_OUTCONN_OPEN, NULL);
    else if (step == MESA_CLIENT_TLS_ENDED)
        end(o, "the server closed the connection");
    else
        end(o, "the TLS session is broken");
}

static void shake_hands(struct mesa_outconn *o)
{
    char why[160];
    enum mesa_client_tls_step step = mesa_client_tls_handshake(o->ssl, put, o, why, sizeof why);
    if (step == MESA_CLIENT_TLS_FAILED) {
        o->hooks->on_failed(o, why);
    } else if (step == MESA_CLIENT_TLS_DONE) {
        o->ready = true;
        o->hooks->on_ready(o);
        if (o->hooks != NULL) /* more may have come with the end of the handshake */
            read_tls(o);
    }
}

static void on_received(struct mesa_outconn *o, const char *bytes, size_t len)
{
    if (o->ssl == NULL) {
        o->hooks->on_bytes(o, bytes, len);
        o->hooks->on_turn(o, MESA_OUTCONN_OPEN, NULL);
    } else if (!mesa_client_tls_feed(o->ssl, bytes, len)) {
        end(o, "not enough memory");
    } else if (o->ready) {
        read_tls(o);
    } else {
        shake_hands(o);
    }
}

/* -- libwebsockets ------------------------------------------------------------------------------ */

/* libwebsockets 4.3 says it twice. */
static void on_connected(struct mesa_outconn *o)
{
    if (o->connected)
        return;
    o->connected = true;
    lws_set_timeout(o->wsi, NO_PENDING_TIMEOUT, 0); /* the owners' own timeouts act */
    if (o->ssl != NULL) {
        shake_hands(o);
        return;
    }
    o->ready = true;
    o->hooks->on_ready(o);
}

/* `text` is what libwebsockets knows, which is less than the socket does. */
static void on_unconnected(struct mesa_outconn *o, const char *text, size_t len)
{
    char why[128];
    int error = 0;
    socklen_t size = sizeof error;
    int fd = lws_get_socket_fd(o->wsi);
    if (fd >= 0 && getsockopt(fd, SOL_SOCKET, SO_ERROR, &error, &size) == 0 && error != 0)
        snprintf(why, sizeof why, "%s", uv_strerror(-error));
    else
        snprintf(why, sizeof why, "%.*s", text != NULL ? (int)len : 0, text);
    end(o, why);
}

/* libwebsockets has given the socket up, perhaps at an error that came behind the server's last
 * words: they are still there to be read. */
static void on_closed(struct mesa_outconn *o)
{
    char bytes[READ_BYTES], why[128];
    int fd = lws_get_socket_fd(o->wsi);
    ssize_t n = 0;
    while (o->hooks != NULL && !o->over && (n = recv(fd, bytes, sizeof bytes, MSG_DONTWAIT)) > 0)
        on_received(o, bytes, (size_t)n);
    if (n < 0 && errno != EAGAIN && errno != EWOULDBLOCK)
        snprintf(why, sizeof why, "the connection broke: %s", uv_strerror(-errno));
    else
        snprintf(why, sizeof why, "the server closed the connection");
    if (!o->over)
        end(o, why);
}

/* The owner has not let go of it. */
static void tell(struct mesa_outconn *o, enum lws_callback_reasons reason, const char *in,
                 size_t len)
{
    switch (reason) {
    case LWS_CALLBACK_RAW_CONNECTED:
        on_connected(o);
        break;
    case LWS_CALLBACK_RAW_RX:
        on_received(o, in, len);
        break;
    case LWS_CALLBACK_RAW_WRITEABLE:
        on_writable(o);
        break;
    case LWS_CALLBACK_CLIENT_CONNECTION_ERROR:
        on_unconnected(o, in, len);
        break;
    case LWS_CALLBACK_RAW_CLOSE:
        on_closed(o);
        break;
    case LWS_CALLBACK_WSI_DESTROY:
        end(o, "the connection was refused or closed");
        break;
    default:
        break;
    }
}

static int on_event(struct lws *wsi, enum lws_callback_reasons reason, void *session, void *in,
                    size_t len)
{
    (void)session;
    switch (reason) {
    case LWS_CALLBACK_RAW_CONNECTED:
    case LWS_CALLBACK_RAW_RX:
    case LWS_CALLBACK_RAW_WRITEABLE:
    case LWS_CALLBACK_CLIENT_CONNECTION_ERROR:
    case LWS_CALLBACK_RAW_CLOSE:
    case LWS_CALLBACK_WSI_DESTROY:
        break;
    default:
        return 0; /* some of the others come without a connection */
    }
    struct mesa_outconn *o = lws_get_opaque_user_data(wsi);
    if (o == NULL)
        return 0;
    bool gone = reason == LWS_CALLBACK_WSI_DESTROY;
    o->wsi = wsi;
    if (gone || reason == LWS_CALLBACK_RAW_CLOSE || reason == LWS_CALLBACK_CLIENT_CONNECTION_ERROR)
        o->closed = true;
    if (o->hooks != NULL && !o->over)
        tell(o, reason, in, len);
    if (gone) {
        o->wsi = NULL;
        mesa_list_remove(&o->link);
        if (o->hooks == NULL)
            outconn_free(o);
    }
    return 0;
}

/* All zero: libwebsockets neither pings nor hangs up on its own. */
static const lws_retry_bo_t no_keepalive;

static struct lws_vhost *vhost_of(struct mesa_transport *t)
{
    static const struct lws_protocols protocols[] = {
        {.name = "mesa-client", .callback = on_event},
        {.name = NULL},
    };
    struct lws_context_creation_info info = {
        .port = CONTEXT_PORT_NO_LISTEN,
        .vhost_name = "mesa-client",
        .protocols = protocols,
        .retry_and_idle_policy = &no_keepalive,
        .http_proxy_address = "",     /* or the environment decides */
        .connect_timeout_secs = 3600, /* the owners' own timeouts act before */
    };
    if (t->client_vhost == NULL && mesa_client_context(t))
        t->client_vhost = lws_create_vhost(t->context, &info);
    return t->client_vhost;
}

bool mesa_outconn_open(struct mesa_outconn *o, struct mesa_transport *t, const char *address,
                       uint16_t port, SSL *ssl, const struct mesa_outconn_hooks *hooks)
{
    mesa_list_init(&o->link);
    mesa_list_init(&o->unsent);
    mesa_buf_init(&o->out);
    o->transport = t;
    o->hooks = hooks;
    o->ssl = ssl;
    struct lws_vhost *vhost = vhost_of(t);
    if (vhost == NULL)
        return false;
    struct lws_client_connect_info info = {
        .vhost = vhost,
        .context = t->context,
        .method = "RAW",
        .address = address,
        .host = address,
        .port = port,
        .local_protocol_name = "mesa-client",
        .retry_and_idle_policy = &no_keepalive,
        .opaque_user_data = o,
        .pwsi = &o->wsi,
    };
    mesa_list_append(&t->outgoing, &o->link);
    if (lws_client_connect_via_info(&info) != NULL)
        return true;
    o->wsi = NULL; /* freed, or destroyed later */
    o->over = o->closed = true;
    return false;
}

void mesa_outconn_release(struct mesa_outconn *o)
{
    mesa_outconn_end(o);
    o->hooks = NULL;
    if (o->wsi != NULL && !o->closed) {
        mesa_list_remove(&o->link);
        mesa_list_append(&o->transport->released, &o->link);
        want_turn(o->transport);
    } else if (mesa_list_empty(&o->link)) {
        outconn_free(o);
    }
    /* else libwebsockets may still tell of its end; if not, mesa_outconn_free_all frees it */
}

void mesa_outconn_turn(struct mesa_transport *t)
{
    while (!mesa_list_empty(&t->unsent)) {
        struct mesa_outconn *o = MESA_CONTAINER_OF(t->unsent.next, struct mesa_outconn, unsent);
        mesa_list_remove(&o->unsent);
        flush(o);
    }
    while (!mesa_list_empty(&t->released)) {
        struct mesa_outconn *o = MESA_CONTAINER_OF(t->released.next, struct mesa_outconn, link);
        mesa_list_remove(&o->link);
        mesa_list_append(&t->outgoing, &o->link);
        if (!o->closed)
            lws_set_timeout(o->wsi, PENDING_TIMEOUT_USER_REASON_BASE, LWS_TO_KILL_SYNC);
    }
}

void mesa_outconn_free_all(struct mesa_transport *t)
{
    mesa_list_splice(&t->outgoing, &t->released);
    while (!mesa_list_empty(&t->outgoing)) {
        struct mesa_outconn *o = MESA_CONTAINER_OF(t->outgoing.next, struct mesa_outconn, link);
        mesa_list_remove(&o->link);
        outconn_free(o);
    }
}
