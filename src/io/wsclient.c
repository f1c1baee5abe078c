/* wsclient.c - see wsclient.h. */
#include "io/wsclient.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "base/utf8.h"
#include "core/url.h"
#include "io/client_common.h"
#include "io/transport_internal.h"

/* A message to be written; libwebsockets masks it in place and puts its header before it. */
struct outgoing_message {
    struct mesa_list link;
    size_t len;
    unsigned char bytes[]; /* LWS_PRE of room, then the text */
};

enum wsclient_phase { WSC_LOOKUP, WSC_CONNECTING, WSC_OPEN, WSC_CLOSING, WSC_OVER };

/* What libwebsockets knows; outlives the client it belongs to. */
struct attempt {
    struct mesa_outconn base;
    struct mesa_wsclient *client;
};

struct mesa_wsclient {
    struct mesa_transport *transport;
    struct mesa_wsclient_hooks hooks;
    void *ctx;
    struct mesa_lookup *lookup;
    struct mesa_addresses addresses;
    size_t next_address;
    struct attempt *attempt;
    struct mesa_timer timer; /* connecting, then closing; and whatever must wait for a later turn */
    struct lws_vhost *vhost;
    struct mesa_url url;
    struct mesa_buf host; /* the Host header, with NUL */
    struct mesa_list queue;
    size_t queued_bytes, max_queue_bytes, max_payload_bytes;
    struct mesa_buf message; /* fragments so far */
    enum wsclient_phase phase;
    bool want_drained;
    bool in_message;
    bool close_sent;
    int close_code;
    char close_reason[MESA_MAX_REASON_BYTES];
    size_t close_reason_len;
    char error[160];
};

/* -- the end ------------------------------------------------------------------------------------ */

static void drop_attempt(struct mesa_wsclient *c)
{
    if (c->attempt == NULL)
        return;
    c->attempt->client = NULL;
    mesa_outconn_release(c->transport, &c->attempt->base);
    c->attempt = NULL;
}

/* Tells the owner, once; `error` only when there was no connection. */
static void finish(struct mesa_wsclient *c, const char *error)
{
    if (c->phase == WSC_OVER)
        return;
    c->phase = WSC_OVER;
    struct mesa_loop *loop = mesa_client_loop(c->transport);
    mesa_loop_cancel(loop, &c->timer);
    mesa_loop_release(loop);
    mesa_lookup_cancel(c->lookup);
    c->lookup = NULL;
    drop_attempt(c);
    c->hooks.on_close(c->ctx, c->close_code, c->close_reason, c->close_reason_len, error);
}

static void set_close(struct mesa_wsclient *c, int code, const char *reason, size_t len)
{
    if (len > sizeof c->close_reason) {
        len = sizeof c->close_reason;
        while (len > 0 && ((unsigned char)reason[len] & 0xc0) == 0x80)
            len--;
    }
    c->close_code = code;
    c->close_reason_len = len;
    if (len > 0)
        memcpy(c->close_reason, reason, len);
}

static void on_timer(struct mesa_timer *timer)
{
    struct mesa_wsclient *c = MESA_CONTAINER_OF(timer, struct mesa_wsclient, timer);
    if (c->phase == WSC_CLOSING)
        finish(c, NULL);
    else
        finish(c, c->error[0] != '\0' ? c->error : "timed out");
}

/* Reports a failure from the loop, never from inside the call that met it. */
static void fail_later(struct mesa_wsclient *c, const char *error)
{
    if (c->error[0] == '\0') /* the first reason is the best */
        snprintf(c->error, sizeof c->error, "%s", error);
    mesa_loop_arm(mesa_client_loop(c->transport), &c->timer, 0);
}

void mesa_wsclient_free(struct mesa_wsclient *c)
{
    if (c == NULL)
        return;
    if (c->phase != WSC_OVER) {
        struct mesa_loop *loop = mesa_client_loop(c->transport);
        c->phase = WSC_OVER;
        mesa_loop_cancel(loop, &c->timer);
        mesa_loop_release(loop);
    }
    mesa_lookup_cancel(c->lookup);
    drop_attempt(c);
    while (!mesa_list_empty(&c->queue)) {
        struct outgoing_message *m =
            MESA_CONTAINER_OF(c->queue.next, struct outgoing_message, link);
        mesa_list_remove(&m->link);
        free(m);
    }
    mesa_buf_deinit(&c->message);
    mesa_buf_deinit(&c->host);
    mesa_url_deinit(&c->url);
    free(c);
}

/* -- receiving ---------------------------------------------------------------------------------- */

static int fail_connection(struct mesa_wsclient *c, int code, const char *text)
{
    mesa_wsclient_close(c, code, text, strlen(text));
    c->hooks.on_violation(c->ctx, code, text);
    return 0;
}

static int on_received(struct mesa_wsclient *c, struct lws *wsi, const char *data, size_t len)
{
    if (c->phase != WSC_OPEN)
        return 0;
    size_t rest = lws_remaining_packet_payload(wsi), max = c->max_payload_bytes;
    bool final = lws_is_final_fragment(wsi) != 0, binary = lws_frame_is_binary(wsi) != 0;
    if (rest > max || len > max - rest || c->message.len > max - rest - len)
        return fail_connection(c, MESA_CLOSE_TOO_BIG, "message too big");
    if (final && !c->in_message) {
        if (!binary && !mesa_utf8_valid(data, len))
            return fail_connection(c, MESA_CLOSE_INVALID_DATA, "invalid UTF-8");
        c->hooks.on_message(c->ctx, data, len, binary);
        return 0;
    }
    c->in_message = !final;
    if (mesa_buf_append(&c->message, data, len) != MESA_OK)
        return fail_connection(c, 1011, "out of memory");
    if (!final)
        return 0;
    if (!binary && !mesa_utf8_valid(c->message.data, c->message.len))
        return fail_connection(c, MESA_CLOSE_INVALID_DATA, "invalid UTF-8");
    struct mesa_buf done = c->message; /* the hook may free the client */
    mesa_buf_init(&c->message);
    c->hooks.on_message(c->ctx, done.data, done.len, binary);
    mesa_buf_deinit(&done);
    return 0;
}

/* -- sending ------------------------------------------------------------------------------------ */

enum mesa_status mesa_wsclient_send(struct mesa_wsclient *c, const char *text, size_t len)
{
    if (c->phase != WSC_OPEN)
        return MESA_ECLOSED;
    if (c->queued_bytes > 0 &&
        (len > c->max_queue_bytes || c->queued_bytes > c->max_queue_bytes - len)) {
        c->want_drained = true;
        return MESA_EAGAIN;
    }
    struct outgoing_message *m = malloc(sizeof *m + LWS_PRE + len);
    if (m == NULL)
        return MESA_ENOMEM;
    mesa_list_init(&m->link);
    m->len = len;
    memcpy(m->bytes + LWS_PRE, text, len);
    mesa_list_append(&c->queue, &m->link);
    c->queued_bytes += len;
    lws_callback_on_writable(c->attempt->base.wsi);
    return MESA_OK;
}

/* Masked by hand and written as it is, because libwebsockets' own way of closing sometimes sends
 * nothing. The peer answers it, or ends the connection. */
static int write_close_frame(struct mesa_wsclient *c, struct lws *wsi)
{
    enum { HEADER = 6 };
    unsigned char frame[HEADER + 2 + MESA_MAX_REASON_BYTES] = {0x88};
    unsigned char *mask = frame + 2, *body = frame + HEADER;
    size_t len = 2 + c->close_reason_len;
    if (c->close_sent)
        return 0;
    c->close_sent = true;
    if (lws_get_random(lws_get_context(wsi), mask, 4) != 4)
        return -1;
    frame[1] = (unsigned char)(0x80 | len);
    body[0] = (unsigned char)(c->close_code >> 8);
    body[1] = (unsigned char)c->close_code;
    memcpy(body + 2, c->close_reason, c->close_reason_len);
    for (size_t i = 0; i < len; i++)
        body[i] ^= mask[i % 4];
    return lws_write(wsi, frame, HEADER + len, LWS_WRITE_RAW) < 0 ? -1 : 0;
}

/* One message a turn of the socket, as libwebsockets asks for; it buffers what does not fit. */
static int on_writable(struct mesa_wsclient *c, struct lws *wsi)
{
    if (c->phase != WSC_OPEN && c->phase != WSC_CLOSING)
        return 0;
    if (!mesa_list_empty(&c->queue)) {
        struct outgoing_message *m =
            MESA_CONTAINER_OF(c->queue.next, struct outgoing_message, link);
        mesa_list_remove(&m->link);
        c->queued_bytes -= m->len;
        int n = lws_write(wsi, m->bytes + LWS_PRE, m->len, LWS_WRITE_TEXT);
        free(m);
        if (n < 0)
            return -1;
        if (!mesa_list_empty(&c->queue) || c->phase == WSC_CLOSING || c->want_drained)
            lws_callback_on_writable(wsi);
        return 0;
    }
    if (c->phase == WSC_CLOSING)
        return write_close_frame(c, wsi);
    if (c->want_drained) {
        c->want_drained = false;
        c->hooks.on_drained(c->ctx);
    }
    return 0;
}

void mesa_wsclient_close(struct mesa_wsclient *c, int code, const char *reason, size_t len)
{
    if (c->phase == WSC_CLOSING || c->phase == WSC_OVER)
        return;
    set_close(c, code, reason, len);
    if (c->phase != WSC_OPEN) {
        mesa_lookup_cancel(c->lookup);
        c->lookup = NULL;
        drop_attempt(c);
        fail_later(c, "given up");
        return;
    }
    c->phase = WSC_CLOSING;
    mesa_loop_arm(mesa_client_loop(c->transport), &c->timer, MESA_CLOSE_TIMEOUT_MS);
    lws_rx_flow_control(c->attempt->base.wsi, 1); /* the peer's answer is awaited */
    lws_callback_on_writable(c->attempt->base.wsi);
}

void mesa_wsclient_pause(struct mesa_wsclient *c, bool pause)
{
    if (c->phase == WSC_OPEN)
        lws_rx_flow_control(c->attempt->base.wsi, pause ? 0 : 1);
}

/* -- libwebsockets ------------------------------------------------------------------------------ */

static void try_next_address(struct mesa_wsclient *c);

static int on_open(struct mesa_wsclient *c)
{
    c->phase = WSC_OPEN;
    set_close(c, MESA_CLOSE_ABNORMAL, "", 0);
    mesa_loop_cancel(mesa_client_loop(c->transport), &c->timer);
    c->hooks.on_open(c->ctx);
    return 0;
}

static int on_peer_closed(struct mesa_wsclient *c, const unsigned char *body, size_t len)
{
    if (c->phase != WSC_OPEN)
        return c->close_sent ? -1 : 0; /* the answer to ours */
    const char *reason = (const char *)body + 2;
    if (len < 2)
        set_close(c, MESA_CLOSE_NO_STATUS, "", 0);
    else if (mesa_utf8_valid(reason, len - 2))
        set_close(c, body[0] << 8 | body[1], reason, len - 2);
    else
        set_close(c, body[0] << 8 | body[1], "", 0);
    return 0;
}

/* The attempt has ended: the connection with it, or the next address is tried. */
static void on_gone(struct mesa_wsclient *c)
{
    if (c->phase == WSC_CONNECTING)
        try_next_address(c);
    else
        finish(c, NULL);
}

/* libwebsockets asks for headers of our own: the login that the URL has. `*at` is where they go. */
static int append_headers(const struct mesa_wsclient *c, unsigned char **at, size_t room)
{
    struct mesa_buf login;
    mesa_buf_init(&login);
    bool fits = mesa_url_append_basic(&c->url, &login) == MESA_OK && login.len <= room;
    if (fits && login.len > 0) {
        memcpy(*at, login.data, login.len);
        *at += login.len;
    }
    mesa_buf_deinit(&login);
    return fits ? 0 : -1;
}

static int on_event(struct mesa_outconn *o, enum lws_callback_reasons reason, void *in, size_t len)
{
    struct mesa_wsclient *c = ((struct attempt *)o)->client;
    switch (reason) {
    case LWS_CALLBACK_CLIENT_CONNECTION_ERROR:
        if (in != NULL && len > 0)
            snprintf(c->error, sizeof c->error, "%.*s", (int)len, (const char *)in);
        if (strcmp(c->error, "closed before established") == 0) /* all libwebsockets knows */
            snprintf(c->error, sizeof c->error, "the connection was refused or closed");
        return 0;
    case LWS_CALLBACK_CLIENT_APPEND_HANDSHAKE_HEADER:
        return append_headers(c, in, len);
    case LWS_CALLBACK_CLIENT_ESTABLISHED:
        return on_open(c);
    case LWS_CALLBACK_CLIENT_RECEIVE:
        return on_received(c, o->wsi, in, len);
    case LWS_CALLBACK_CLIENT_WRITEABLE:
        return on_writable(c, o->wsi);
    case LWS_CALLBACK_WS_PEER_INITIATED_CLOSE:
        return on_peer_closed(c, in, len);
    case LWS_CALLBACK_WSI_DESTROY:
        on_gone(c);
        return 0;
    default:
        return 0;
    }
}

static bool connect_to(struct mesa_wsclient *c, const char *address)
{
    struct attempt *a = calloc(1, sizeof *a);
    if (a == NULL)
        return false;
    mesa_list_init(&a->base.link);
    a->base.callback = on_event;
    a->client = c;
    c->attempt = a;
    struct lws_client_connect_info info = {
        .address = address,
        .port = c->url.port,
        .path = c->url.target.data,
        .host = c->host.data,
        .ssl_connection = (c->url.secure ? LCCSCF_USE_SSL : 0) | LCCSCF_HTTP_NO_FOLLOW_REDIRECT,
        .vhost = c->vhost,
        .ietf_version_or_minus_one = -1,
        .alpn = "http/1.1",
    };
    return mesa_outconn_connect(c->transport, &info, &a->base);
}

static void try_next_address(struct mesa_wsclient *c)
{
    drop_attempt(c);
    c->phase = WSC_CONNECTING;
    while (c->next_address < c->addresses.count) {
        if (connect_to(c, c->addresses.text[c->next_address++]))
            return;
        drop_attempt(c);
    }
    fail_later(c, "connection refused");
}

static void on_looked_up(void *ctx, const struct mesa_addresses *found, const char *err)
{
    struct mesa_wsclient *c = ctx;
    c->lookup = NULL;
    if (found == NULL) {
        fail_later(c, err);
        return;
    }
    c->addresses = *found;
    try_next_address(c);
}

/* -- the beginning ------------------------------------------------------------------------------ */

/* ws:// is parsed as http://, and wss:// as https://. */
static enum mesa_status read_url(struct mesa_wsclient *c, const char *text, char *err,
                                 size_t err_len)
{
    const char *why = "the URL must begin with ws:// or wss://";
    bool secure = strncasecmp(text, "wss://", 6) == 0;
    struct mesa_buf http;
    enum mesa_status rc = MESA_EINVAL;

    mesa_buf_init(&http);
    if (secure || strncasecmp(text, "ws://", 5) == 0)
        rc = mesa_buf_printf(&http, "http%s%s", secure ? "s" : "", strchr(text, ':'));
    if (rc == MESA_OK)
        rc = mesa_url_parse(&c->url, (struct mesa_span){http.data, http.len}, &why);
    if (rc == MESA_OK)
        rc = mesa_buf_push(&c->url.target, '\0');
    if (rc == MESA_OK)
        rc = mesa_url_append_host(&c->url, &c->host);
    if (rc == MESA_OK)
        rc = mesa_buf_push(&c->host, '\0');
    snprintf(err, err_len, "%s", rc == MESA_EINVAL ? why : mesa_status_text(rc));
    mesa_buf_deinit(&http);
    return rc;
}

enum mesa_status mesa_wsclient_connect(struct mesa_wsclient **out, struct mesa_transport *t,
                                       const struct mesa_wsclient_config *cfg,
                                       const struct mesa_wsclient_hooks *hooks, void *ctx,
                                       char *err, size_t err_len)
{
    enum mesa_status rc = MESA_ENOMEM;
    struct mesa_wsclient *c = calloc(1, sizeof *c);
    snprintf(err, err_len, "out of memory");
    if (c == NULL)
        return rc;
    c->transport = t;
    c->hooks = *hooks;
    c->ctx = ctx;
    c->max_queue_bytes = cfg->max_queue_bytes;
    c->max_payload_bytes = cfg->max_payload_bytes;
    c->close_code = MESA_CLOSE_ABNORMAL;
    c->phase = WSC_OVER; /* nothing to be told of yet */
    mesa_list_init(&c->queue);
    mesa_timer_init(&c->timer, on_timer);

    rc = read_url(c, cfg->url, err, err_len);
    if (rc == MESA_OK)
        rc = mesa_client_vhost(t, c->url.secure, c->url.secure ? cfg->ca : NULL, &c->vhost, err,
                               err_len);
    if (rc != MESA_OK)
        goto fail;
    struct mesa_loop *loop = mesa_client_loop(t);
    rc = mesa_lookup_start(&c->lookup, loop, c->url.host, on_looked_up, c);
    if (rc != MESA_OK) {
        snprintf(err, err_len, "cannot look up %s", c->url.host);
        goto fail;
    }
    c->phase = WSC_LOOKUP;
    mesa_loop_hold(loop);
    mesa_loop_arm(loop, &c->timer, cfg->timeout_ms);
    *out = c;
    return MESA_OK;

fail:
    mesa_wsclient_free(c);
    return rc;
}
