/* redis.c - the broker over Redis: connections, calls, what arrives on the channels.
 *
 * Two connections: one for commands, one that is subscribed. A turn's commands are written together.
 * Messages of this node come back on the channel and are known by how they begin.
 */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/random.h>

#include "broker/redis_internal.h"

enum {
    CLOSE_MS = 2000,   /* how long leaving may take */
    CHANNEL_MS = 2000, /* from when on the subscriber should be there, too */
};

void mesa_redis_error(struct mesa_redis_broker *r, const char *code, const char *text)
{
    if (r->base.hooks.on_error != NULL && !r->freeing)
        r->base.hooks.on_error(r->base.hooks_ctx, code, text);
}

/* -- coming and going of the connection -- */

static void set_available(struct mesa_redis_broker *r, bool up)
{
    if (r->up == up)
        return;
    r->up = up;
    if (r->base.hooks.on_available != NULL && !r->freeing)
        r->base.hooks.on_available(r->base.hooks_ctx, up);
}

/* Every script is loaded and messages can arrive: what this node has is announced, then what waited
 * goes out. */
static void become_available(struct mesa_redis_broker *r)
{
    if (r->closing || r->up || !r->loaded || !mesa_redis_ready(r->subscriber))
        return;
    mesa_redis_presence_restore(r, false);
    mesa_redis_portals_check(r);
    set_available(r,
                  true); /* backlogs are asked for before what the connections here have already */
    mesa_redis_send_kept(r);
    mesa_loop_arm(r->loop, &r->tick, r->cfg->redis.lease_ms / 5);
}

static void on_loaded(struct mesa_redis_call *c, const struct mesa_redis_reply *reply)
{
    struct mesa_redis_broker *r = c->broker;
    size_t script = (size_t)(uintptr_t)c->ctx;
    if (reply == NULL || r->freeing)
        return;
    struct mesa_span sha = mesa_redis_reply_string(reply);
    if (mesa_redis_reply_error(reply) == NULL && sha.len < sizeof r->sha[script]) {
        memcpy(r->sha[script], sha.p, sha.len);
        r->sha[script][sha.len] = '\0';
    }
    r->loaded = --r->loading == 0;
    become_available(r);
}

static void load_scripts(struct mesa_redis_broker *r)
{
    r->loading = MESA_SCRIPT_COUNT_;
    for (size_t i = 0; i < MESA_SCRIPT_COUNT_; i++) {
        struct mesa_buf text;
        mesa_buf_init(&text);
        enum mesa_status rc = mesa_redis_script_text(&text, i, mesa_redis_span(&r->suffix));
        const struct mesa_span args[] = {MESA_SPAN("SCRIPT"), MESA_SPAN("LOAD"),
                                         mesa_redis_span(&text)};
        if (rc == MESA_OK)
            rc = mesa_redis_do(r, MESA_SCRIPT_COUNT_, args, 3, on_loaded, (void *)(uintptr_t)i);
        mesa_buf_deinit(&text);
        if (rc != MESA_OK)
            mesa_redis_error(r, "MEMORY", "no memory to load the scripts of Redis");
    }
}

/* Once for each reason: the connection for commands says why it is away, if both are. */
static void report_channel(struct mesa_redis_broker *r)
{
    char line[300];
    if (r->channel_trouble[0] == '\0' || r->channel_told || !mesa_redis_ready(r->commands) ||
        r->closing)
        return; /* it is there, or that Redis is away altogether is told */
    r->channel_told = true;
    snprintf(line, sizeof line, "messages of the cluster cannot arrive: %s", r->channel_trouble);
    mesa_redis_error(r, "REDIS", line);
}

static void on_ready(void *ctx)
{
    struct mesa_redis_broker *r = ctx;
    if (r->closing)
        return;
    load_scripts(r);
    if (!mesa_redis_ready(r->subscriber))
        mesa_loop_arm(r->loop, &r->channel_timer, CHANNEL_MS);
}

/* It had its time to come back as well. */
static void on_channel_timer(struct mesa_timer *t)
{
    report_channel(MESA_CONTAINER_OF(t, struct mesa_redis_broker, channel_timer));
}

static void report_unsure(struct mesa_redis_broker *r)
{
    char line[128];
    if (r->unsure == 0)
        return;
    snprintf(line, sizeof line, "%zu messages for users who may be offline may not have been kept",
             r->unsure);
    r->unsure = 0;
    mesa_redis_error(r, "SYNC", line);
}

static void report_away(struct mesa_redis_broker *r, const char *why)
{
    char line[300];
    snprintf(line, sizeof line, "Redis cannot be reached: %.200s", why);
    mesa_redis_error(r, "REDIS", line);
}

static void closed(struct mesa_redis_broker *r);

static void on_lost(void *ctx, const char *why)
{
    struct mesa_redis_broker *r = ctx;
    r->loaded = false;
    mesa_loop_cancel(r->loop, &r->channel_timer);
    mesa_loop_cancel(r->loop, &r->tick);
    mesa_loop_cancel(r->loop, &r->heal);
    mesa_redis_healed(r);
    set_available(r, false);
    if (r->closing) {
        closed(r);
        return;
    }
    report_away(r, why);
    report_unsure(r);
}

/* Why it is still away, when that has changed: "connection refused", then "wrong password". */
static void on_failed(void *ctx, const char *why)
{
    report_away(ctx, why);
}

/* What was published meanwhile was missed, and so were portals' news. */
static void on_subscriber_ready(void *ctx)
{
    struct mesa_redis_broker *r = ctx;
    r->channel_trouble[0] = '\0';
    mesa_loop_cancel(r->loop, &r->channel_timer);
    if (!r->up) {
        become_available(r);
        return;
    }
    mesa_redis_presence_tend(r);
    mesa_redis_portals_check(r);
    r->base.hooks.on_available(r->base.hooks_ctx, true);
}

/* It is not let in (too many clients, no right to subscribe), or not any more. */
static void on_subscriber_failed(void *ctx, const char *why)
{
    struct mesa_redis_broker *r = ctx;
    snprintf(r->channel_trouble, sizeof r->channel_trouble, "%s", why);
    r->channel_told = false;
    report_channel(r);
}

static void on_subscriber_lost(void *ctx, const char *why)
{
    struct mesa_redis_broker *r = ctx;
    if (!r->freeing)
        r->base.hooks.on_gap(r->base.hooks_ctx);
    if (r->up && !r->closing)
        mesa_redis_presence_tend(r); /* who counts subscribers does not take it for one */
    on_subscriber_failed(ctx, why);
}

static void on_tick(struct mesa_timer *t)
{
    struct mesa_redis_broker *r = MESA_CONTAINER_OF(t, struct mesa_redis_broker, tick);
    mesa_loop_arm(r->loop, &r->tick, r->cfg->redis.lease_ms / 5);
    mesa_redis_presence_tend(r);
    mesa_redis_audit(r);
    mesa_redis_portals_check(r);
    report_unsure(r);
}

static void on_turn(struct mesa_turn *t)
{
    struct mesa_redis_broker *r = MESA_CONTAINER_OF(t, struct mesa_redis_broker, turn);
    mesa_redis_presence_count(r);
    mesa_redis_send_confirms(r);
}

/* -- what arrives -- */

static void on_message(struct mesa_redis_broker *r, const char *text, size_t len)
{
    struct mesa_cluster_message m;
    struct mesa_json_error err;
    if (len > r->echo.len && memcmp(text, r->echo.data, r->echo.len) == 0)
        return; /* the connections here have it */
    enum mesa_status rc = mesa_cluster_message_parse(text, len, r->cfg->limits.max_depth, &m, &err);
    if (rc == MESA_OK) {
        r->base.hooks.on_delivery(r->base.hooks_ctx, &m);
        mesa_cluster_message_deinit(&m);
        return;
    }
    char line[200];
    snprintf(line, sizeof line, "a message of the cluster is not understood: %s (%zu bytes)",
             rc == MESA_ENOMEM ? "no memory" : err.text, len);
    mesa_redis_error(r, rc == MESA_ENOMEM ? "MEMORY" : "CLUSTER", line);
}

static void on_published(void *ctx, struct mesa_span channel, struct mesa_span text)
{
    struct mesa_redis_broker *r = ctx;
    if (r->freeing)
        return;
    if (mesa_span_eq(channel, mesa_redis_span(&r->channel)))
        on_message(r, text.p, text.len);
    else if (mesa_span_eq(channel, mesa_redis_span(&r->kept_channel)))
        r->base.hooks.on_kept(r->base.hooks_ctx, text);
    else if (r->cfg->portal.enabled)
        mesa_redis_portal_update(r, text.p, text.len);
}

/* -- ending -- */

static void closed(struct mesa_redis_broker *r)
{
    mesa_broker_closed_fn fn = r->closed_fn;
    mesa_loop_cancel(r->loop, &r->closing_timer);
    r->closed_fn = NULL;
    if (fn != NULL)
        fn(r->closed_ctx);
}

static void on_closing_timer(struct mesa_timer *t)
{
    closed(MESA_CONTAINER_OF(t, struct mesa_redis_broker, closing_timer));
}

static void on_left(struct mesa_redis_call *c, const struct mesa_redis_reply *reply)
{
    (void)reply;
    if (!c->broker->freeing) /* not from inside: the callback may free the broker and this call */
        mesa_loop_arm(c->broker->loop, &c->broker->closing_timer, 0);
}

static void leave(struct mesa_redis_broker *r)
{
    struct mesa_redis_bounds bounds;
    struct mesa_span args[4] = {mesa_redis_text(r->incarnation)};
    mesa_redis_write_bounds(r, &bounds);
    mesa_redis_put_bounds(&bounds, &args[1]);
    mesa_redis_do(r, MESA_SCRIPT_LEAVE, args, 4, on_left, NULL);
}

static void redis_close(struct mesa_broker *b, mesa_broker_closed_fn fn, void *ctx)
{
    struct mesa_redis_broker *r = mesa_redis_self(b);
    r->closed_fn = fn;
    r->closed_ctx = ctx;
    mesa_redis_presence_count(r);
    mesa_redis_send_confirms(r);
    r->closing = true;
    mesa_loop_cancel(r->loop, &r->channel_timer);
    mesa_loop_cancel(r->loop, &r->tick);
    mesa_loop_cancel(r->loop, &r->heal);
    mesa_loop_arm(r->loop, &r->closing_timer, r->up ? CLOSE_MS : 0);
    if (r->up)
        leave(r);
}

/* Why this server does not take part in the cluster; NULL: it does. */
static const char *redis_trouble(struct mesa_broker *b)
{
    struct mesa_redis_broker *r = mesa_redis_self(b);
    if (!mesa_redis_ready(r->commands))
        return "Redis cannot be reached";
    if (!mesa_redis_ready(r->subscriber))
        return r->channel_trouble[0] != '\0' ? r->channel_trouble
                                             : "the channels of Redis are not subscribed to yet";
    if (!r->loaded)
        return "the scripts of Redis are not loaded yet";
    if (r->refusal[0] != '\0')
        return r->refusal;
    return r->up && r->announced ? NULL : "this server is not announced in Redis yet";
}

static void redis_free(struct mesa_broker *b)
{
    struct mesa_redis_broker *r = mesa_redis_self(b);
    r->freeing = true;
    mesa_redis_free(r->commands);
    mesa_redis_free(r->subscriber);
    mesa_redis_waiting_free(r);
    mesa_loop_cancel(r->loop, &r->retry);
    mesa_loop_cancel(r->loop, &r->channel_timer);
    mesa_loop_cancel(r->loop, &r->heal);
    mesa_loop_cancel(r->loop, &r->tick);
    mesa_loop_cancel(r->loop, &r->closing_timer);
    mesa_loop_remove_turn(&r->turn);
    while (!mesa_list_empty(&r->kept)) {
        struct mesa_redis_call *c = MESA_CONTAINER_OF(r->kept.next, struct mesa_redis_call, link);
        mesa_list_remove(&c->link);
        free(c);
    }
    mesa_redis_portals_free(r);
    mesa_map_free(r->users);
    mesa_buf_deinit(&r->suffix);
    mesa_buf_deinit(&r->channel);
    mesa_buf_deinit(&r->pool);
    mesa_buf_deinit(&r->portal);
    mesa_buf_deinit(&r->confirms);
    free(r->confirm_lens);
    mesa_buf_deinit(&r->kept_channel);
    mesa_buf_deinit(&r->scratch);
    mesa_buf_deinit(&r->echo);
    free(r);
}

/* -- making -- */

static const struct mesa_broker_ops redis_ops = {
    .free = redis_free,
    .close = redis_close,
    .connected = mesa_redis_connected,
    .disconnected = mesa_redis_disconnected,
    .user_online = mesa_redis_user_online,
    .user_offline = mesa_redis_user_offline,
    .send = mesa_redis_send,
    .take = mesa_redis_take,
    .confirm = mesa_redis_confirm,
    .put_back = mesa_redis_put_back,
    .tell_portal = mesa_redis_tell_portal,
    .trouble = redis_trouble,
};

static enum mesa_status make_node_id(char out[MESA_NODE_ID_LEN + 1])
{
    static const char alphabet[] =
        "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
    unsigned char random[MESA_NODE_ID_LEN];
    if (getrandom(random, sizeof random, 0) != (ssize_t)sizeof random)
        return MESA_EIO;
    for (size_t i = 0; i < sizeof random; i++)
        out[i] = alphabet[random[i] & 63];
    out[MESA_NODE_ID_LEN] = '\0';
    return MESA_OK;
}

static enum mesa_status make_names(struct mesa_redis_broker *r)
{
    const char *ns = r->cfg->name_space;
    enum mesa_status rc = make_node_id(r->node);
    if (rc == MESA_OK && ns != NULL)
        rc = mesa_buf_printf(&r->suffix, "_%s", ns);
    struct mesa_span suffix = mesa_redis_span(&r->suffix);
    const struct {
        struct mesa_buf *name;
        const char *text;
    } names[] = {{&r->kept_channel, "mesa:kept"},
                 {&r->channel, "ws"},
                 {&r->pool, "available_portals_pool"},
                 {&r->portal, "portal"}};
    for (size_t i = 0; rc == MESA_OK && i < sizeof names / sizeof names[0]; i++) {
        rc = mesa_buf_printf(names[i].name, "%s", names[i].text);
        if (rc == MESA_OK)
            rc = mesa_buf_append(names[i].name, suffix.p, suffix.len);
    }
    return rc == MESA_OK ? mesa_buf_printf(&r->echo, "{\"origin\":\"%s\",\"message\":", r->node)
                         : rc;
}

/* Where Redis is, from the configuration. */
static enum mesa_status read_options(struct mesa_redis_options *o, const struct mesa_config *cfg,
                                     char *err, size_t err_len)
{
    enum mesa_status rc = MESA_OK;
    if (cfg->redis.uri != NULL)
        rc = mesa_redis_options_set_uri(o, cfg->redis.uri, err, err_len);
    const struct {
        char **field;
        const char *value;
    } strings[] = {
        {&o->host, cfg->redis.host},   {&o->path, cfg->redis.path},
        {&o->user, cfg->redis.user},   {&o->password, cfg->redis.password},
        {&o->master, cfg->redis.name},
    };
    for (size_t i = 0; rc == MESA_OK && i < sizeof strings / sizeof strings[0]; i++) {
        if (strings[i].value != NULL)
            rc = mesa_redis_options_set(strings[i].field, strings[i].value);
    }
    for (size_t i = 0; rc == MESA_OK && i < cfg->redis.sentinel_count; i++)
        rc = mesa_redis_options_add_sentinel(o, cfg->redis.sentinels[i], err, err_len);
    if (cfg->redis.uri == NULL) {
        o->port = cfg->redis.port;
        o->db = cfg->redis.db;
    }
    o->connect_timeout_ms = cfg->redis.connect_timeout_ms;
    o->command_timeout_ms = cfg->redis.command_timeout_ms;
    o->backoff_max_ms = 1000; /* messages are to cross nodes within 2 s of its return */
    return rc;
}

static enum mesa_status connect_both(struct mesa_redis_broker *r,
                                     const struct mesa_redis_options *o, char *err, size_t err_len)
{
    const struct mesa_redis_hooks commands = {
        .on_ready = on_ready, .on_lost = on_lost, .on_failed = on_failed};
    const struct mesa_redis_hooks subscriber = {.on_ready = on_subscriber_ready,
                                                .on_lost = on_subscriber_lost,
                                                .on_failed = on_subscriber_failed,
                                                .on_message = on_published};
    enum mesa_status rc =
        mesa_redis_new(&r->commands, r->loop, MESA_REDIS_COMMANDS, o, &commands, r, err, err_len);
    if (rc == MESA_OK)
        rc = mesa_redis_new(&r->subscriber, r->loop, MESA_REDIS_SUBSCRIBER, o, &subscriber, r, err,
                            err_len);
    const struct mesa_buf *channels[] = {&r->channel, &r->pool, &r->kept_channel};
    size_t count = r->cfg->sync.enabled ? 3 : 2;
    for (size_t i = 0; rc == MESA_OK && i < count; i++)
        rc = mesa_redis_subscribe(r->subscriber, mesa_redis_span(channels[i]));
    return rc;
}

enum mesa_status mesa_broker_redis_new(struct mesa_broker **out, struct mesa_loop *loop,
                                       const struct mesa_config *cfg, char *err, size_t err_len)
{
    struct mesa_redis_options options;
    struct mesa_redis_broker *r = calloc(1, sizeof *r);
    if (r == NULL)
        return MESA_ENOMEM;
    r->base.ops = &redis_ops;
    r->loop = loop;
    r->cfg = cfg;
    mesa_list_init(&r->kept);
    mesa_list_init(&r->waiting);
    mesa_timer_init(&r->retry, mesa_redis_on_retry);
    mesa_list_init(&r->portals);
    r->next_portal = &r->portals;
    mesa_list_init(&r->turn.link);
    r->turn.fn = on_turn;
    mesa_timer_init(&r->tick, on_tick);
    mesa_timer_init(&r->channel_timer, on_channel_timer);
    mesa_redis_heal_init(r);
    mesa_timer_init(&r->closing_timer, on_closing_timer);

    mesa_redis_options_init(&options);
    enum mesa_status rc = mesa_map_new(&r->users);
    if (rc == MESA_OK)
        rc = make_names(r);
    if (rc == MESA_OK)
        rc = read_options(&options, cfg, err, err_len);
    if (rc == MESA_OK)
        rc = connect_both(r, &options, err, err_len);
    mesa_redis_options_deinit(&options);
    if (rc != MESA_OK) {
        redis_free(&r->base);
        return rc;
    }
    mesa_loop_add_turn(loop, &r->turn);
    *out = &r->base;
    return MESA_OK;
}
