/* transport_conn.c - one accepted socket: adoption by libwebsockets, its callbacks, timeouts, and
 * its end. */
#include <openssl/ssl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "io/socket_state.h"
#include "io/transport_internal.h"

bool mesa_conn_peer_is_there(const struct mesa_conn *c)
{
    SSL *ssl = lws_get_ssl(c->wsi);
    if (ssl != NULL && (SSL_get_shutdown(ssl) & SSL_RECEIVED_SHUTDOWN) != 0)
        return false;
    return mesa_socket_peer_is_there(lws_get_socket_fd(c->wsi));
}

static void on_timeout(struct mesa_timer *timer)
{
    struct mesa_conn *c = MESA_CONTAINER_OF(timer, struct mesa_conn, timer);
    if (c->phase == MESA_CONN_HTTP) {
        mesa_http_timeout(c);
        return;
    }
    mesa_conn_kill_later(c);
    /* browsers open connections ahead of need, and say nothing on them */
    if (c->phase == MESA_CONN_REQUEST && mesa_socket_has_received(lws_get_socket_fd(c->wsi)))
        mesa_listener_refused(c->listener, &c->address, "HANDSHAKE",
                              "the request was not complete within limits.handshakeTimeout");
}

void mesa_conn_arm(struct mesa_conn *c, uint64_t ms)
{
    if (ms == 0)
        mesa_loop_cancel(c->transport->loop, &c->timer);
    else
        mesa_loop_arm(c->transport->loop, &c->timer, ms);
}

void mesa_conn_mark(struct mesa_conn *c)
{
    struct mesa_transport *t = c->transport;
    if (c->wsi == NULL || !mesa_list_empty(&c->work))
        return;
    mesa_list_append(&t->work, &c->work);
    if (!mesa_timer_armed(&t->wake))
        mesa_loop_arm(t->loop, &t->wake, 0);
}

void mesa_conn_kill_later(struct mesa_conn *c)
{
    c->kill = true;
    mesa_conn_mark(c);
}

static void conn_free(struct mesa_conn *c)
{
    mesa_list_remove(&c->link);
    mesa_list_remove(&c->work);
    mesa_loop_cancel(c->transport->loop, &c->timer);
    mesa_buf_deinit(&c->message);
    free(c->closing);
    mesa_loop_release(c->transport->loop);
    free(c);
}

struct mesa_conn *mesa_conn_adopt(struct mesa_listener *l, int fd,
                                  const struct mesa_address *address)
{
    struct mesa_conn *c = calloc(1, sizeof *c);
    if (c == NULL) {
        close(fd);
        return NULL;
    }
    c->transport = l->transport;
    c->address = *address;
    c->reading = true;
    mesa_list_init(&c->link);
    mesa_list_init(&c->work);
    mesa_timer_init(&c->timer, on_timeout);
    mesa_loop_hold(l->transport->loop);

    c->listener = l;
    mesa_list_append(&l->conns, &c->link);

    lws_adopt_desc_t desc = {
        .vh = l->vhost,
        .type = LWS_ADOPT_SOCKET | LWS_ADOPT_HTTP | LWS_ADOPT_ALLOW_SSL,
        .fd = {.sockfd = fd},
        .opaque = c,
    };
    l->transport->created = false;
    struct lws *wsi = lws_adopt_descriptor_vhost_via_info(&desc);
    if (wsi == NULL &&
        !l->transport->created) { /* nothing that would be destroyed later; `fd` is closed */
        conn_free(c);
        return NULL;
    }
    if (wsi == NULL)
        return c;
    lws_set_wsi_user(wsi, c); /* without one, it is not said when a WebSocket begins to end */
    if (l->handshake_timeout_ms != 0)
        mesa_conn_arm(c, l->handshake_timeout_ms);
    return c;
}

/* libwebsockets has let go of the socket. */
static void on_destroyed(struct mesa_conn *c)
{
    if (c->phase == MESA_CONN_OPEN)
        mesa_ws_closed(c);
    mesa_http_detach(c);
    if (c->listener != NULL)
        mesa_listener_forget(c->listener, c);
    conn_free(c);
}

void mesa_conn_detach(struct mesa_conn *c)
{
    /* The listener's owner is about to forget everything: tell it now, end the socket at the end of
     * the turn. */
    if (c->phase == MESA_CONN_OPEN) {
        free(c->closing);
        c->closing = NULL;
        mesa_ws_closed(c);
    }
    mesa_list_remove(&c->link);
    mesa_list_append(&c->transport->orphans, &c->link);
    c->listener = NULL;
    c->phase = MESA_CONN_GONE;
    mesa_conn_kill_later(c);
}

static void kill_now(struct mesa_conn *c)
{
    if (!lws_partial_buffered(c->wsi)) {
        if (c->linger)
            mesa_linger_begin(c->transport, lws_get_socket_fd(c->wsi));
        lws_set_timeout(c->wsi, PENDING_TIMEOUT_USER_REASON_BASE, LWS_TO_KILL_SYNC);
        return;
    }
    /* libwebsockets would wait for the reader; a dead socket it gives up the next time it looks,
     * which it does at once. */
    struct linger hard = {.l_onoff = 1, .l_linger = 0};
    int fd = lws_get_socket_fd(c->wsi);
    (void)setsockopt(fd, SOL_SOCKET, SO_LINGER, &hard, sizeof hard);
    shutdown(fd, SHUT_RDWR);
    c->held = c->paused = false;
    mesa_ws_update_reading(c);
    lws_callback_on_writable(c->wsi);
}

void mesa_conn_turn(struct mesa_conn *c)
{
    if (c->wsi == NULL)
        return;
    if (c->kill)
        kill_now(c);
    else if (c->phase == MESA_CONN_OPEN && c->closing != NULL)
        mesa_ws_send_close(c);
}

/* libwebsockets is closing a connection whose request it has not passed on: it could not parse it,
 * or the peer has left. */
static void on_request_ended(struct mesa_conn *c)
{
    if (c->phase != MESA_CONN_REQUEST || c->kill || c->refused || !mesa_conn_peer_is_there(c))
        return;
    mesa_linger_begin(c->transport, lws_get_socket_fd(c->wsi)); /* it may have answered */
    mesa_listener_refused(c->listener, &c->address, "HEADERS",
                          "the request head is malformed or far too large");
}

/* A request for a tunnel; libwebsockets turns the connection into a raw socket. */
static int refuse_tunnel(struct mesa_conn *c)
{
    mesa_http_refuse(c, 405, "Allow: GET, HEAD, POST\r\n");
    return -1;
}

static int dispatch_ws(struct mesa_conn *c, enum lws_callback_reasons reason, void *in, size_t len)
{
    switch (reason) {
    case LWS_CALLBACK_ESTABLISHED:
        return mesa_ws_opened(c);
    case LWS_CALLBACK_RECEIVE:
        return mesa_ws_received(c, in, len);
    case LWS_CALLBACK_RECEIVE_PONG:
        if (c->phase == MESA_CONN_OPEN && c->closing == NULL && c->listener->hooks.on_pong != NULL)
            c->listener->hooks.on_pong(c->user);
        return 0;
    case LWS_CALLBACK_SERVER_WRITEABLE:
        return mesa_ws_writable(c);
    case LWS_CALLBACK_WS_PEER_INITIATED_CLOSE:
        return mesa_ws_peer_closed(c, in, len);
    case LWS_CALLBACK_WS_SERVER_DROP_PROTOCOL:
        mesa_ws_ending(c);
        return 0;
    case LWS_CALLBACK_CLOSED:
        if (c->phase == MESA_CONN_OPEN)
            mesa_ws_closed(c);
        return 0;
    default:
        return 0;
    }
}

static int dispatch_http(struct mesa_conn *c, enum lws_callback_reasons reason, void *in,
                         size_t len)
{
    switch (reason) {
    case LWS_CALLBACK_HTTP_CONFIRM_UPGRADE:
        return mesa_upgrade_confirm(c, in);
    case LWS_CALLBACK_HTTP:
        return mesa_http_begin(c, in);
    case LWS_CALLBACK_HTTP_BODY:
        return mesa_http_body(c, in, len);
    case LWS_CALLBACK_HTTP_BODY_COMPLETION:
        return mesa_http_body_complete(c);
    case LWS_CALLBACK_HTTP_WRITEABLE:
        return mesa_http_writable(c);
    case LWS_CALLBACK_CLOSED_HTTP:
        on_request_ended(c);
        mesa_http_detach(c);
        return 0;
    case LWS_CALLBACK_RAW_ADOPT:
        return refuse_tunnel(c);
    default:
        return dispatch_ws(c, reason, in, len);
    }
}

int mesa_transport_callback(struct lws *wsi, enum lws_callback_reasons reason, void *session,
                            void *in, size_t len)
{
    if (reason == LWS_CALLBACK_OPENSSL_LOAD_EXTRA_SERVER_VERIFY_CERTS)
        return mesa_vhost_load_tls(session);
    if (reason == LWS_CALLBACK_WSI_CREATE) {
        struct mesa_transport *t = lws_context_user(lws_get_context(wsi));
        t->created = true;
        return 0;
    }
    struct mesa_conn *c = wsi != NULL ? lws_get_opaque_user_data(wsi) : NULL;
    if (c == NULL)
        return 0; /* about a vhost, or one of libwebsockets' own */

    if (reason == LWS_CALLBACK_WSI_DESTROY) {
        on_destroyed(c);
        return 0;
    }
    c->wsi = wsi;
    if (c->listener == NULL && reason != LWS_CALLBACK_CLOSED && reason != LWS_CALLBACK_CLOSED_HTTP)
        return c->kill ? -1 : 0;
    return dispatch_http(c, reason, in, len);
}
