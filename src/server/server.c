/* server.c - the server as a whole: making, listening, the end of a turn, closing, freeing. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "server/internal.h"

enum { CLOSE_STEP_MS = 10 };

/* -- brackets and hooks -- */

static void destroy(struct mesa_server *s)
{
    mesa_loop_remove_turn(&s->turn);
    mesa_listener_free(s->listener);
    mesa_listener_free(s->admin);
    if (s->broker != NULL)
        s->broker->ops->free(s->broker);
    mesa_registry_free(s->registry);
    mesa_frame_unref(s->confirm);
    mesa_frame_unref(s->hello);
    mesa_frame_unref(s->heartbeat);
    mesa_frame_unref(s->ack);
    mesa_gather_deinit(&s->gather);
    mesa_buf_deinit(&s->wire);
    mesa_broadcasts_deinit(&s->broadcasts);
    mesa_config_deinit(&s->cfg);
    free(s->close_reason);
    free(s);
}

void mesa_server_enter(struct mesa_server *s)
{
    s->depth++;
}

void mesa_server_leave(struct mesa_server *s)
{
    if (--s->depth == 0 && s->dead && !s->in_callback)
        destroy(s);
}

void mesa_server_enter_callback(struct mesa_server *s)
{
    if (s->depth++ == 0)
        s->in_callback = true;
}

void mesa_server_leave_callback(struct mesa_server *s)
{
    /* A dead server waits for the end of the turn: the transport may still look at the connection, and
     * the broker at itself. */
    if (--s->depth == 0 && !s->dead)
        s->in_callback = false;
}

void mesa_server_report(struct mesa_server *s, struct mesa_client *c, const char *code,
                        const char *text)
{
    mesa_metrics_count_error(&s->metrics, code);
    if (s->hooks.on_error != NULL)
        s->hooks.on_error(s->ctx, c, code, text);
}

/* -- the end of a turn -- */

static struct mesa_client *client_of(struct mesa_registry_entry *e)
{
    return MESA_CONTAINER_OF(e, struct mesa_client, entry);
}

static void reap(struct mesa_server *s)
{
    while (!mesa_list_empty(&s->gone)) {
        struct mesa_client *c = MESA_CONTAINER_OF(s->gone.next, struct mesa_client, link);
        mesa_list_remove(&c->link);
        mesa_registry_remove(s->registry, &c->entry);
        mesa_client_unref(c);
    }
}

static void on_turn(struct mesa_turn *t)
{
    struct mesa_server *s = MESA_CONTAINER_OF(t, struct mesa_server, turn);
    if (s->depth > 0) /* a hook runs the loop itself: what it stands on must not move */
        return;
    if (s->dead) {
        destroy(s);
        return;
    }
    mesa_server_enter(s);
    mesa_server_flush_all(s);
    reap(s);
    mesa_server_leave(s);
}

/* -- making -- */

static enum mesa_status write_hello(struct mesa_buf *d, const struct mesa_config *cfg)
{
    enum mesa_status rc = mesa_buf_printf(d, "{");
    if (rc == MESA_OK && cfg->heartbeat.enabled)
        rc = mesa_buf_printf(d, "\"c_heartbeat_interval\":%u,", cfg->heartbeat.interval_ms);
    if (rc == MESA_OK && cfg->reconnect.enabled)
        rc = mesa_buf_printf(d, "\"c_reconnect_interval\":%u,", cfg->reconnect.interval_ms);
    if (rc == MESA_OK && cfg->authentication.timeout_ms > 0)
        rc = mesa_buf_printf(d, "\"c_authentication_timeout\":%u,", cfg->authentication.timeout_ms);
    if (rc == MESA_OK)
        rc = mesa_buf_printf(d, "\"rules\":[");

    const char *comma = "";
    const struct {
        bool on;
        const char *name;
    } rules[] = {
        {cfg->client.enforce_equal_versions, "enforce_equal_versions"},
        {cfg->store_messages > 0, "store_messages"},
        {cfg->authentication.send_user_object, "sends_user_object"},
    };
    for (size_t i = 0; rc == MESA_OK && i < sizeof rules / sizeof rules[0]; i++) {
        if (!rules[i].on)
            continue;
        rc = mesa_buf_printf(d, "%s\"%s\"", comma, rules[i].name);
        comma = ",";
    }
    return rc == MESA_OK ? mesa_buf_printf(d, "]}") : rc;
}

static enum mesa_status make_frames(struct mesa_server *s)
{
    if (s->cfg.raw)
        return mesa_frame_new(&s->heartbeat, MESA_WS_PING, "mesa", 4);

    struct mesa_buf d;
    mesa_buf_init(&d);
    enum mesa_status rc = write_hello(&d, &s->cfg);
    if (rc == MESA_OK && s->cfg.redis.enabled && s->cfg.sync.enabled)
        rc = mesa_frame_new(&s->confirm, MESA_WS_PING, "mesa", 4);
    if (rc == MESA_OK)
        rc = mesa_envelope_frame(
            &s->hello, &(struct mesa_outgoing){.op = MESA_OP_HELLO, .d = {d.data, d.len}});
    if (rc == MESA_OK)
        rc = mesa_envelope_frame(
            &s->heartbeat, &(struct mesa_outgoing){.op = MESA_OP_HEARTBEAT, .d = MESA_SPAN("{}")});
    if (rc == MESA_OK)
        rc = mesa_envelope_frame(
            &s->ack, &(struct mesa_outgoing){.op = MESA_OP_HEARTBEAT_ACK, .d = MESA_SPAN("{}")});
    mesa_buf_deinit(&d);
    return rc;
}

static void on_close_timer(struct mesa_timer *t);

static enum mesa_status open_broker(struct mesa_server *s, char *err, size_t err_len)
{
    enum mesa_status rc = s->cfg.redis.enabled
                              ? mesa_broker_redis_new(&s->broker, s->loop, &s->cfg, err, err_len)
                              : mesa_broker_memory_new(&s->broker, s->loop, &s->cfg);
    if (rc == MESA_OK) {
        s->broker->hooks = mesa_server_broker_hooks;
        s->broker->hooks_ctx = s;
    }
    return rc;
}

static struct mesa_listener_config listener_of(const struct mesa_config *cfg)
{
    return (struct mesa_listener_config){
        .host = cfg->host,
        .mode = cfg->mode,
        .port = cfg->port,
        .tls = cfg->tls.cert != NULL ? &cfg->tls : NULL,
        .proxies = cfg->proxies,
        .proxy_count = cfg->proxy_count,
        .proxy_protocol = cfg->proxy_protocol,
        .max_payload_bytes = cfg->limits.max_payload,
        .max_connections = cfg->limits.max_connections,
        .max_connections_per_ip = cfg->limits.max_connections_per_ip,
        .handshake_timeout_ms = cfg->limits.handshake_timeout_ms,
        .max_body_bytes = cfg->limits.max_body,
    };
}

enum mesa_status mesa_server_new(struct mesa_server **out, struct mesa_loop *loop,
                                 struct mesa_transport *transport, struct mesa_config *cfg,
                                 const struct mesa_server_hooks *hooks, void *ctx, char *err,
                                 size_t err_len)
{
    struct mesa_server *s = calloc(1, sizeof *s);
    snprintf(err, err_len, "not enough memory");
    if (s == NULL)
        return MESA_ENOMEM;
    s->loop = loop;
    s->transport = transport;
    s->hooks = *hooks;
    s->ctx = ctx;
    s->cfg = *cfg;
    mesa_list_init(&s->dirty);
    mesa_list_init(&s->gone);
    mesa_list_init(&s->upgrades);
    mesa_list_init(&s->confirming);
    mesa_timer_init(&s->confirm_timer, mesa_unread_on_confirm_timer);
    mesa_list_init(&s->guests);
    mesa_list_init(&s->guest);
    mesa_buf_init(&s->gather.bytes);
    mesa_server_init_compression(s);
    mesa_metrics_init(&s->metrics);
    mesa_timer_init(&s->close_timer, on_close_timer);
    mesa_list_init(&s->turn.link);
    s->turn.fn = on_turn;

    enum mesa_status rc = mesa_registry_new(&s->registry);
    if (rc == MESA_OK && cfg->tls.cert != NULL) /* told now, not when it is to listen */
        rc = mesa_transport_check_tls(&cfg->tls, err, err_len);
    if (rc == MESA_OK)
        rc = make_frames(s);
    if (rc == MESA_OK)
        rc = open_broker(s, err, err_len);
    if (rc != MESA_OK) {
        memset(&s->cfg, 0, sizeof s->cfg); /* still the caller's */
        destroy(s);
        return rc;
    }
    mesa_loop_add_turn(loop, &s->turn);
    memset(cfg, 0, sizeof *cfg);
    *out = s;
    return MESA_OK;
}

enum mesa_status mesa_server_listen(struct mesa_server *s, char *err, size_t err_len)
{
    const struct mesa_config *cfg = &s->cfg;
    if (s->host != NULL)
        return MESA_OK;
    const struct mesa_listener_config listener = listener_of(cfg);
    enum mesa_status rc = mesa_listener_open(&s->listener, s->transport, &listener,
                                             &mesa_session_hooks, s, err, err_len);
    if (rc != MESA_OK || !cfg->admin.enabled)
        return rc;
    rc = mesa_admin_listen(s, err, err_len);
    if (rc != MESA_OK) {
        mesa_listener_free(s->listener);
        s->listener = NULL;
    }
    return rc;
}

/* -- closing -- */

static void on_broker_closed(void *ctx)
{
    struct mesa_server *s = ctx;
    mesa_server_enter_callback(s);
    mesa_listener_free(s->admin);
    s->admin = NULL;
    if (s->hooks.on_closed != NULL)
        s->hooks.on_closed(s->ctx);
    mesa_server_leave_callback(s);
}

static void finish_close(struct mesa_server *s)
{
    if (s->left)
        return;
    s->left = true;
    s->broker->ops->close(s->broker, on_broker_closed, s);
}

/* Closes as many clients as are due by now: the n-th of N after n/N of the drain time. */
static void close_due(struct mesa_server *s)
{
    uint64_t elapsed_ms = mesa_loop_now(s->loop) - s->close_begun_ms;
    size_t keep = 0;
    if (elapsed_ms < s->close_drain_ms) {
        uint64_t left_ms = s->close_drain_ms - elapsed_ms;
        keep = (s->close_total * left_ms + s->close_drain_ms - 1) / s->close_drain_ms;
    }

    struct mesa_span reason = {s->close_reason, s->close_reason ? strlen(s->close_reason) : 0};
    struct mesa_client *c = NULL;
    while (s->open_count > keep && (c = mesa_server_next(s, c)) != NULL)
        mesa_client_close(c, s->close_code, reason, false);
}

static void on_close_timer(struct mesa_timer *t)
{
    struct mesa_server *s = MESA_CONTAINER_OF(t, struct mesa_server, close_timer);
    mesa_server_enter(s);
    close_due(s);
    if (!s->dead && s->open_count > 0)
        mesa_loop_arm(s->loop, &s->close_timer, CLOSE_STEP_MS);
    else if (!s->dead && s->live_count == 0)
        finish_close(s);
    mesa_server_leave(s);
}

void mesa_server_connection_gone(struct mesa_server *s)
{
    if (s->closing && !s->dead && s->live_count == 0)
        mesa_loop_arm(s->loop, &s->close_timer, 0);
}

bool mesa_server_is_closing(const struct mesa_server *s)
{
    return s->closing;
}

void mesa_server_close(struct mesa_server *s, int code, const char *reason, uint32_t drain_ms)
{
    if (s->closing) {
        if (s->dead || s->live_count == 0)
            return; /* the timer is on its way, or on_closed was called */
        if (drain_ms < s->close_drain_ms)
            s->close_drain_ms = drain_ms;
        mesa_loop_arm(s->loop, &s->close_timer, 0);
        return;
    }
    s->closing = true;
    s->close_code = code;
    s->close_reason = reason != NULL ? strdup(reason) : NULL; /* without memory: without a reason */
    s->close_begun_ms = mesa_loop_now(s->loop);
    s->close_drain_ms = drain_ms;
    s->close_total = s->open_count;
    if (s->listener != NULL)
        mesa_listener_stop(s->listener);
    mesa_server_refuse_upgrades(s);
    mesa_loop_arm(s->loop, &s->close_timer, 0);
    mesa_server_close_guests(s, code, reason, drain_ms);
}

void mesa_server_free(struct mesa_server *s)
{
    if (s == NULL || s->dead)
        return;
    s->closing = true;
    mesa_server_enter(s);
    s->dead = true;
    mesa_loop_cancel(s->loop, &s->close_timer);
    mesa_loop_cancel(s->loop, &s->confirm_timer);
    reap(s);
    mesa_server_refuse_upgrades(s);
    struct mesa_registry_entry *e;
    while ((e = mesa_registry_next(s->registry, NULL)) != NULL)
        mesa_session_abandon(client_of(e));
    mesa_server_part(s);
    memset(&s->hooks, 0, sizeof s->hooks);
    if (s->listener != NULL)
        mesa_listener_stop(s->listener);
    if (s->admin != NULL)
        mesa_listener_stop(s->admin);
    mesa_server_leave(s);
}

/* -- looking -- */

const struct mesa_config *mesa_server_config(const struct mesa_server *s)
{
    return &s->cfg;
}

uint16_t mesa_server_port(const struct mesa_server *s)
{
    const struct mesa_server *owner = s->host != NULL ? s->host : s;
    return owner->listener != NULL ? mesa_listener_port(owner->listener) : 0;
}

uint16_t mesa_server_admin_port(const struct mesa_server *s)
{
    return s->admin != NULL ? mesa_listener_port(s->admin) : 0;
}

size_t mesa_server_client_count(const struct mesa_server *s)
{
    return s->open_count;
}

struct mesa_metrics *mesa_server_metrics(struct mesa_server *s)
{
    return &s->metrics;
}

struct mesa_client *mesa_server_next(struct mesa_server *s, struct mesa_client *after)
{
    struct mesa_registry_entry *e = after != NULL ? &after->entry : NULL;
    do {
        e = mesa_registry_next(s->registry, e);
    } while (e != NULL && client_of(e)->closed);
    return e != NULL ? client_of(e) : NULL;
}

struct mesa_client *mesa_server_next_of(struct mesa_server *s, struct mesa_span id,
                                        struct mesa_client *after)
{
    /* A closing client has left its user already. */
    struct mesa_registry_entry *e =
        mesa_registry_next_of(s->registry, id, after != NULL ? &after->entry : NULL);
    return e != NULL ? client_of(e) : NULL;
}
