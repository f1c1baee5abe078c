/* transport_conn.c - one accepted socket: adoption, libwebsockets' callbacks, timeouts, and its end. */
#include <openssl/ssl.h>
#include <stdlib.h>
#include <string.h>
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

/* Whether something has come of the request. On a socket of our own it is left there until the head is
 * complete. */
static bool has_begun(const struct mesa_conn *c)
{
    return c->wsi != NULL ? mesa_socket_has_received(lws_get_socket_fd(c->wsi))
                          : mesa_socket_has_unread(c->fd);
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
    if (c->phase == MESA_CONN_REQUEST && has_begun(c))
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
    if (!mesa_link_exists(c) || !mesa_list_empty(&c->work))
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

/* False: `fd` is closed, and libwebsockets knows nothing of the connection. */
static bool give_to_library(struct mesa_conn *c, int fd)
{
    lws_adopt_desc_t desc = {
        .vh = c->listener->vhost,
        .type = LWS_ADOPT_SOCKET | LWS_ADOPT_HTTP | LWS_ADOPT_ALLOW_SSL,
        .fd = {.sockfd = fd},
        .opaque = c,
    };
    c->transport->created = false;
    struct lws *wsi = lws_adopt_descriptor_vhost_via_info(&desc);
    if (wsi != NULL)
        lws_set_wsi_user(wsi, c); /* without one, it is not said when a WebSocket begins to end */
    return wsi != NULL || c->transport->created; /* what was created is destroyed later */
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
    c->fd = -1;
    mesa_list_init(&c->link);
    mesa_list_init(&c->work);
    mesa_timer_init(&c->timer, on_timeout);
    mesa_loop_hold(l->transport->loop);

    c->listener = l;
    mesa_list_append(&l->conns, &c->link);
    if (l->handshake_timeout_ms != 0)
        mesa_conn_arm(c, l->handshake_timeout_ms);

    bool adopted = l->secure ? give_to_library(c, fd) : mesa_plain_begin(c, fd);
    if (adopted)
        return c;
    if (!l->secure)
        close(fd);
    conn_free(c);
    return NULL;
}

void mesa_conn_destroyed(struct mesa_conn *c)
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

void mesa_conn_turn(struct mesa_conn *c)
{
    if (!mesa_link_exists(c))
        return;
    if (c->wsi == NULL)
        mesa_plain_turn(c);
    if (c->kill)
        mesa_link_kill(c);
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

static int received(struct mesa_conn *c, const char *data, size_t len)
{
    struct mesa_ws_piece piece = {.data = data,
                                  .len = len,
                                  .rest = lws_remaining_packet_payload(c->wsi),
                                  .final = lws_is_final_fragment(c->wsi) != 0,
                                  .binary = lws_frame_is_binary(c->wsi) != 0};
    /* libwebsockets 4.3 lets the bit of a compression pass that was not agreed on */
    if (lws_get_reserved_bits(c->wsi) != 0)
        mesa_ws_violated(c, "reserved bits");
    else
        mesa_ws_received(c, &piece);
    return 0;
}

static int dispatch_ws(struct mesa_conn *c, enum lws_callback_reasons reason, void *in, size_t len)
{
    switch (reason) {
    case LWS_CALLBACK_ESTABLISHED:
        return mesa_ws_opened(c);
    case LWS_CALLBACK_RECEIVE:
        return received(c, in, len);
    case LWS_CALLBACK_RECEIVE_PONG:
        mesa_ws_pong(c);
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
    if (reason == LWS_CALLBACK_OPENSSL_PERFORM_SERVER_CERT_VERIFICATION)
        return 0; /* asked for every outgoing connection; OpenSSL's verdict stands */
    if (reason == LWS_CALLBACK_WSI_CREATE) {
        struct mesa_transport *t = lws_context_user(lws_get_context(wsi));
        t->created = true;
        return 0;
    }
    struct mesa_conn *c = wsi != NULL ? lws_get_opaque_user_data(wsi) : NULL;
    if (c == NULL)
        return 0; /* about a vhost, or one of libwebsockets' own */

    if (reason == LWS_CALLBACK_WSI_DESTROY) {
        mesa_conn_destroyed(c);
        return 0;
    }
    c->wsi = wsi;
    if (c->listener == NULL && reason != LWS_CALLBACK_CLOSED && reason != LWS_CALLBACK_CLOSED_HTTP)
        return c->kill ? -1 : 0;
    return dispatch_http(c, reason, in, len);
}
