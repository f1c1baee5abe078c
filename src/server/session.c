/* session.c - one connection from the handshake to its close: what comes in, and how it ends. */
#include <stdlib.h>
#include <string.h>

#include "base/inline.h"
#include "base/uninit.h"
#include "base/utf8.h"
#include "server/internal.h"

/* -- opening -- */

static void *on_open(void *ctx, struct mesa_conn *conn, const struct mesa_request *req)
{
    struct mesa_server *s = mesa_server_for(ctx, req->path);
    struct mesa_client *c;
    if (s->closing) {
        mesa_conn_close(conn, 1001, NULL, 0, true);
        return NULL;
    }

    mesa_server_enter_callback(s);
    if (mesa_client_new(&c, s, conn, req) != MESA_OK) {
        mesa_server_report(s, NULL, "MEMORY", "no memory for another client");
        mesa_conn_close(conn, 1011, NULL, 0, true);
        c = NULL;
        goto out;
    }
    mesa_registry_add(s->registry, &c->entry);
    s->open_count++;
    s->live_count++;
    if (s->host != NULL)
        s->host->live_count++;
    mesa_trace_connected(c, req);
    s->metrics.connections_total++;
    s->metrics.connections_open++;
    s->broker->ops->connected(s->broker);
    c->broadcasts = s->broadcasts.total;
    c->deflates = mesa_conn_deflate(conn) != NULL;
    mesa_rate_init(&c->rate, mesa_loop_now(s->loop), mesa_server_burst(s));
    mesa_client_timing_init(c);
    if (s->hello != NULL)
        mesa_client_push(c, s->hello);
    mesa_server_tell_portal(c, MESA_PORTAL_CONNECTION, NULL);
    if (s->hooks.on_connection != NULL)
        s->hooks.on_connection(s->ctx, c);
out:
    mesa_server_leave_callback(s);
    return c;
}

/* -- what comes in -- */

static MESA_NOINLINE void store_received(struct mesa_client *c, struct mesa_span text)
{
    struct mesa_frame *f;
    if (mesa_frame_new(&f, MESA_WS_TEXT, text.p, text.len) != MESA_OK)
        return;
    mesa_client_store(c, MESA_STORED_RECEIVED, f);
    mesa_frame_unref(f);
}

MESA_INLINE void handle(struct mesa_client *c, const struct mesa_envelope *e, struct mesa_span text)
{
    struct mesa_server *s = c->server;
    mesa_trace_message(c, e, text.len);
    if (c->stored != NULL)
        store_received(c, text);
    mesa_server_tell_portal(c, MESA_PORTAL_MESSAGE, e);
    if (!c->closed && s->hooks.on_message != NULL)
        s->hooks.on_message(s->ctx, c, e, text);
}

static MESA_NOINLINE void act(struct mesa_client *c, const struct mesa_action *a,
                              const struct mesa_envelope *e, struct mesa_span text)
{
    struct mesa_server *s = c->server;
    switch (a->kind) {
    case MESA_ACTION_NONE:
    case MESA_ACTION_ACKNOWLEDGED:
        break;
    case MESA_ACTION_MESSAGE:
        handle(c, e, text);
        break;
    case MESA_ACTION_LATER:
        if (s->hooks.on_early != NULL)
            s->hooks.on_early(s->ctx, c, text);
        break;
    case MESA_ACTION_AUTHENTICATE:
        mesa_trace_authenticating(c);
        if (s->hooks.on_authenticate != NULL)
            s->hooks.on_authenticate(s->ctx, c, a->check, e->d);
        break;
    case MESA_ACTION_ANSWER:
        mesa_client_push(c, s->ack);
        break;
    case MESA_ACTION_ERROR:
        mesa_server_report(s, c, a->error_code, a->error_text);
        break;
    case MESA_ACTION_CLOSE:
        mesa_server_report(s, c, a->error_code, a->error_text);
        mesa_client_close(c, a->close_code, (struct mesa_span){a->reason, strlen(a->reason)},
                          false);
        break;
    }
}

static MESA_NOINLINE void receive_envelope(struct mesa_client *c, const struct mesa_envelope *e,
                                           struct mesa_span text)
{
    struct mesa_action a = mesa_client_state_receive(&c->state, &c->server->cfg, e);
    if (a.kind == MESA_ACTION_MESSAGE)
        handle(c, e, text);
    else
        act(c, &a, e, text);
}

/* What is no envelope as it stands. */
static MESA_NOINLINE void receive_broken(struct mesa_client *c, enum mesa_status rc,
                                         struct mesa_span text, struct mesa_json_error *err)
{
    unsigned depth = c->server->cfg.limits.max_depth;
    struct mesa_envelope e;
    struct mesa_buf mended;
    mesa_buf_init(&mended);
    rc = mesa_envelope_mend(rc, &text, depth, &e, &mended, err);
    if (rc == MESA_OK) {
        receive_envelope(c, &e, text);
    } else {
        struct mesa_action a = mesa_client_state_malformed(rc, text.p, text.len, depth, err);
        act(c, &a, NULL, text);
    }
    mesa_buf_deinit(&mended);
}

static void receive(struct mesa_client *c, struct mesa_span text, bool binary)
{
    struct mesa_server *s = c->server;
    if (s->cfg.raw) {
        mesa_trace_message(c, NULL, text.len);
        if (s->hooks.on_raw_message != NULL)
            s->hooks.on_raw_message(s->ctx, c, text, binary);
        return;
    }
    MESA_UNINIT struct mesa_envelope e;
    MESA_UNINIT struct mesa_json_error err;
    enum mesa_status rc = mesa_envelope_parse(text.p, text.len, s->cfg.limits.max_depth, &e, &err);
    if (rc == MESA_OK)
        receive_envelope(c, &e, text);
    else
        receive_broken(c, rc, text, &err);
}

void mesa_client_receive_again(struct mesa_client *c, struct mesa_span text)
{
    if (c->closed)
        return;
    struct mesa_server *s = c->server;
    mesa_server_enter(s);
    receive(c, text, false);
    mesa_server_leave(s);
}

void mesa_client_set_connecting(struct mesa_client *c, bool connecting)
{
    c->state.connecting = connecting;
}

static void on_message(void *user, const char *data, size_t len, bool binary)
{
    struct mesa_client *c = user;
    if (c == NULL || c->closed)
        return;
    struct mesa_server *s = c->server;
    uint32_t per_second = s->cfg.limits.messages_per_second;
    uint64_t now_ms = mesa_loop_now(s->loop);

    mesa_server_enter_callback(s);
    s->metrics.messages_in++;
    s->metrics.bytes_in += len;
    c->received_ms = now_ms;
    if (per_second > 0 && !mesa_rate_take(&c->rate, now_ms, per_second, mesa_server_burst(s))) {
        mesa_server_report(s, c, "RATE", "more messages than limits.messagesPerSecond allows");
        mesa_client_close(c, 4008, MESA_SPAN("rate limit exceeded"), false);
    } else {
        receive(c, (struct mesa_span){data, len}, binary);
    }
    mesa_server_leave_callback(s);
}

static void on_inflated(void *user, size_t received, size_t len)
{
    struct mesa_client *c = user;
    if (c == NULL || c->closed)
        return;
    c->server->metrics.deflate_wire_in += received;
    c->server->metrics.deflate_plain_in += len;
}

static void on_pong(void *user)
{
    struct mesa_client *c = user;
    if (c == NULL || c->closed)
        return;
    c->received_ms = mesa_loop_now(c->server->loop);
    if (c->server->cfg.raw)
        mesa_heartbeat_acknowledge(&c->state.heartbeat);
    if (c->unread == NULL)
        return;
    struct mesa_server *s = c->server;
    mesa_server_enter_callback(s);
    mesa_unread_confirmed(c);
    mesa_server_leave_callback(s);
}

static void on_drained(void *user)
{
    struct mesa_client *c = user;
    if (c == NULL || c->server == NULL)
        return;
    struct mesa_server *s = c->server;
    mesa_server_enter_callback(s);
    mesa_client_drained(c);
    mesa_server_leave_callback(s);
}

/* -- the end -- */

/* The client is not open any more: no timer, no user, no message from it. */
static void mark_closed(struct mesa_client *c, bool vanished)
{
    if (c->closed)
        return;
    c->closed = true;
    c->deadline_ms = 0;
    c->server->open_count--;
    mesa_client_timing_update(c);
    mesa_client_leave_user(c, vanished);
}

void mesa_client_finish_close(struct mesa_client *c)
{
    struct mesa_pending_close *p = c->pending_close;
    if (p == NULL)
        return;
    c->pending_close = NULL;
    c->close_sent = true;
    c->deadline_ms = 0;
    mesa_client_timing_update(c);
    mesa_redelivery_end(c);
    mesa_outq_drop(&c->outq, mesa_outq_count(&c->outq));
    mesa_conn_close(c->conn, p->code, p->reason, p->len, c->backed_up);
    c->backed_up = false;
    mesa_client_apply_pause(c); /* to read the peer's answer */
    free(p);
}

static struct mesa_pending_close *new_pending_close(int code, struct mesa_span reason)
{
    struct mesa_pending_close *p = malloc(sizeof *p + reason.len);
    if (p == NULL)
        return NULL;
    p->code = code;
    p->len = reason.len;
    if (reason.len > 0)
        memcpy(p->reason, reason.p, reason.len);
    return p;
}

void mesa_client_close(struct mesa_client *c, int code, struct mesa_span reason, bool drop)
{
    if (c->closed)
        return;
    struct mesa_server *s = c->server;
    mesa_server_enter(s);
    if (!drop)
        mesa_client_settle(c);
    if (c->closed)
        goto out; /* by that */
    mark_closed(c, drop);
    if (!drop)
        mesa_client_flush(c);
    if (c->conn == NULL)
        goto out; /* on_close has come */

    if (!drop && mesa_outq_count(&c->outq) > 0)
        c->pending_close = new_pending_close(code, reason);
    if (c->pending_close != NULL) {
        (void)mesa_conn_is_read(c->conn); /* from now on */
        c->deadline_ms = mesa_loop_now(s->loop) + MESA_CLOSE_LINGER_MS;
        mesa_client_timing_update(c);
    } else {
        /* Without memory to remember the close, what is queued is lost. */
        drop = drop || mesa_outq_count(&c->outq) > 0;
        mesa_redelivery_end(c);
        mesa_outq_drop(&c->outq, mesa_outq_count(&c->outq));
        c->close_sent = true;
        mesa_conn_close(c->conn, code, reason.p, reason.len, drop);
        c->backed_up = false;
        mesa_client_apply_pause(c);
    }
out:
    mesa_server_leave(s);
}

/* Says good-bye; the client stays readable for those who hold a reference. */
static void disconnect(struct mesa_client *c, int code, struct mesa_span reason)
{
    struct mesa_server *s = c->server;
    mark_closed(c, true);
    if (c->server == NULL)
        return; /* a hook has freed the server, and good-bye was said in there */
    mesa_loop_cancel(s->loop, &c->timer);
    mesa_redelivery_end(c);
    mesa_outq_drop(&c->outq, mesa_outq_count(&c->outq));
    mesa_list_remove(&c->link);
    s->live_count--;
    if (s->host != NULL) {
        s->host->live_count--;
        mesa_server_connection_gone(s->host);
    }
    s->metrics.connections_open--;
    s->broker->ops->disconnected(s->broker);
    mesa_server_tell_portal(c, MESA_PORTAL_DISCONNECTION, NULL);
    mesa_metrics_count_close(&s->metrics, code);
    mesa_trace_gone(c, code, reason);
    c->told = true;
    if (s->hooks.on_disconnect != NULL)
        s->hooks.on_disconnect(s->ctx, c, code, reason);
    c->server = NULL;
}

static void on_close(void *user, int code, const char *reason, size_t len, bool by_peer)
{
    (void)by_peer;
    struct mesa_client *c = user;
    if (c == NULL)
        return;
    struct mesa_server *s = c->server;
    c->conn = NULL;
    if (s == NULL) { /* abandoned: its good-bye was said */
        mesa_client_unref(c);
        return;
    }
    mesa_server_enter_callback(s);
    disconnect(c, code, (struct mesa_span){reason, len});
    if (s->dead) { /* freed by the hook: no end of a turn will come */
        mesa_client_unref(c);
    } else {
        mesa_list_append(&s->gone, &c->link);
        mesa_server_connection_gone(s);
    }
    mesa_server_leave_callback(s);
}

void mesa_session_abandon(struct mesa_client *c)
{
    mesa_registry_remove(c->server->registry, &c->entry);
    if (c->told)
        return; /* its on_disconnect is what frees the server */
    disconnect(c, 1001, MESA_SPAN("server freed"));
    if (!c->close_sent && c->conn != NULL)
        mesa_conn_close(c->conn, 1001, NULL, 0, true);
    c->close_sent = true;
}

static void on_protocol_error(void *user, int code, const char *error, const char *text)
{
    (void)code;
    struct mesa_client *c = user;
    if (c == NULL || c->server == NULL)
        return;
    struct mesa_server *s = c->server;
    mesa_server_enter_callback(s);
    mesa_server_report(s, c, error, text);
    if (c->server != NULL) {
        c->close_sent = true; /* the transport is closing it */
        mark_closed(c, true);
    }
    mesa_server_leave_callback(s);
}

/* -- what the owner of the hooks may ask -- */

static bool may_send_code(int code)
{
    return (code >= 1000 && code <= 1003) || (code >= 1007 && code <= 1014) ||
           (code >= 3000 && code <= 4999);
}

enum mesa_status mesa_client_disconnect(struct mesa_client *c, int code, struct mesa_span reason)
{
    if (!may_send_code(code) || reason.len > 123 || !mesa_utf8_valid(reason.p, reason.len))
        return MESA_EINVAL;
    if (!c->closed)
        mesa_client_close(c, code, reason, false);
    return MESA_OK;
}

void mesa_client_apply_pause(struct mesa_client *c)
{
    bool pause = (c->script_paused || c->backed_up) && !c->close_sent;
    if (c->conn == NULL || pause == c->conn_paused)
        return;
    c->conn_paused = pause;
    if (pause)
        mesa_conn_pause(c->conn);
    else
        mesa_conn_resume(c->conn);
}

void mesa_client_pause(struct mesa_client *c)
{
    c->script_paused = true;
    mesa_client_apply_pause(c);
}

void mesa_client_resume(struct mesa_client *c)
{
    c->script_paused = false;
    mesa_client_apply_pause(c);
    if (!c->closed) {
        c->received_ms = mesa_loop_now(c->server->loop); /* it could not be heard */
        mesa_client_timing_update(c);
    }
}

const struct mesa_listener_hooks mesa_session_hooks = {
    .on_upgrade = mesa_server_check_upgrade,
    .on_open = on_open,
    .on_inflated = on_inflated,
    .on_message = on_message,
    .on_pong = on_pong,
    .on_drained = on_drained,
    .on_close = on_close,
    .on_protocol_error = on_protocol_error,
    .on_http = mesa_server_answer_http,
    .on_handshake = mesa_server_begin_upgrade,
    .on_refused = mesa_server_transport_refused,
};
