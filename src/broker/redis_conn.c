/* redis_conn.c - a connection to Redis that heals by itself: connects, logs in, starts over. */
#include "broker/redis_conn.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "base/log.h"
#include "base/siphash.h"
#include "broker/redis_conn_internal.h"

enum login_step { STEP_AUTH, STEP_NAME, STEP_SELECT, STEP_LAST };

enum { MAX_DOUBLINGS = 16 };

/* A command kept until there is a connection; the arguments' bytes follow them. */
struct queued {
    struct mesa_list link;
    mesa_redis_reply_fn fn;
    void *ctx;
    size_t bytes;
    size_t argc;
    struct mesa_span argv[];
};

void mesa_redis_ref(struct mesa_redis *r)
{
    r->refs++;
}

void mesa_redis_unref(struct mesa_redis *r)
{
    if (--r->refs > 0)
        return;
    mesa_redis_channels_deinit(r);
    mesa_redis_tls_free(r->tls);
    mesa_redis_options_deinit(&r->options);
    free(r->master_host);
    free(r);
}

/* Drops what is under way or connected. Pending commands have their callbacks in here. */
static void disconnect(struct mesa_redis *r)
{
    struct mesa_redis_link *link = r->link;
    r->state = MESA_REDIS_WAITING;
    mesa_loop_cancel(r->loop, &r->timer);
    mesa_redis_dial_cancel(r->dial);
    r->dial = NULL;
    r->link = NULL;
    mesa_redis_link_free(link);
}

/* Half of it is left to chance, so that the servers of a cluster do not all come back at once. */
static uint64_t retry_delay(struct mesa_redis *r, bool refused)
{
    uint64_t delay = r->options.refused_retry_ms;
    uint32_t chance = 0;
    if (!refused) {
        unsigned doublings = r->failures < MAX_DOUBLINGS ? r->failures : MAX_DOUBLINGS;
        delay = (uint64_t)r->options.backoff_min_ms << doublings;
        if (delay > r->options.backoff_max_ms)
            delay = r->options.backoff_max_ms;
    }
    uv_random(NULL, NULL, &chance, sizeof chance, 0, NULL);
    return delay / 2 + chance % (delay / 2 + 1);
}

/* Whether this outage has not been explained so before; notes that it is now. */
static bool is_news(struct mesa_redis *r, const char *reason)
{
    static const uint64_t key[2] = {0};
    uint64_t hash = mesa_siphash13(key, reason, strlen(reason));
    for (size_t i = 0; i < r->reason_count; i++) {
        if (r->reasons[i] == hash)
            return false;
    }
    if (r->reason_count == MESA_REDIS_REASONS)
        return false;
    r->reasons[r->reason_count++] = hash;
    return true;
}

static void report(struct mesa_redis *r, const char *reason)
{
    bool first = !r->outage;
    r->outage = true;
    if (first)
        r->reason_count = 0;
    if (!is_news(r, reason))
        return;
    mesa_log(MESA_LOG_DEBUG, "redis", "no connection: %s", reason);
    if (first && r->hooks.on_lost != NULL)
        r->hooks.on_lost(r->ctx, reason);
    else if (!first && r->hooks.on_failed != NULL)
        r->hooks.on_failed(r->ctx, reason);
}

/* As mesa_redis_fail, with a reason that says where. */
static void fail_attempt(struct mesa_redis *r, const char *reason, bool refused)
{
    bool was_ready = r->state == MESA_REDIS_READY;
    char text[MESA_REDIS_REASON_BYTES];
    snprintf(text, sizeof text, "%s", reason);

    mesa_redis_ref(r);
    disconnect(r);
    if (!r->freed) {
        /* A connection that never lasts is a failure like others. */
        if (was_ready && mesa_loop_now(r->loop) - r->ready_since >= r->options.backoff_max_ms)
            r->failures = 0;
        mesa_loop_arm(r->loop, &r->timer, retry_delay(r, refused));
        r->failures++;
        report(r, text);
    }
    mesa_redis_unref(r);
}

void mesa_redis_fail(struct mesa_redis *r, const char *reason, bool refused)
{
    char text[MESA_REDIS_REASON_BYTES];
    snprintf(text, sizeof text, "%.159s: %.320s", r->address, reason);
    fail_attempt(r, text, refused);
}

static bool starts_with(struct mesa_span s, const char *prefix)
{
    size_t n = strlen(prefix);
    return s.len >= n && memcmp(s.p, prefix, n) == 0;
}

/* What will be the same in a moment: the password, the user's rights, the options. A Redis that is
 * loading, or has too many clients, is not. */
static bool is_refusal(struct mesa_span error)
{
    return starts_with(error, "WRONGPASS") || starts_with(error, "NOAUTH") ||
           starts_with(error, "NOPERM") || starts_with(error, "DENIED") ||
           (starts_with(error, "ERR ") && !starts_with(error, "ERR max number of clients"));
}

void mesa_redis_fail_reply(struct mesa_redis *r, const char *what,
                           const struct mesa_redis_reply *reply)
{
    struct mesa_span error = mesa_redis_reply_string(reply);
    int len = (int)(error.len < 256 ? error.len : 256);
    char text[320];
    snprintf(text, sizeof text, "%s: %.*s", what, len, error.p);
    mesa_redis_fail(r, text, is_refusal(error));
}

static void on_closed(void *ctx, const char *reason)
{
    mesa_redis_fail(ctx, reason, false);
}

static void send_queued(struct mesa_redis *r)
{
    while (mesa_redis_ready(r) && !mesa_list_empty(&r->queue)) {
        struct queued *q = MESA_CONTAINER_OF(r->queue.next, struct queued, link);
        enum mesa_status rc = mesa_redis_link_command(r->link, q->argc, q->argv, q->fn, q->ctx);
        mesa_list_remove(&q->link);
        r->queue_count--;
        r->queue_bytes -= q->bytes;
        if (rc != MESA_OK && q->fn != NULL)
            q->fn(q->ctx, MESA_ECLOSED, NULL);
        free(q);
    }
}

void mesa_redis_become_ready(struct mesa_redis *r)
{
    r->state = MESA_REDIS_READY;
    r->ready_since = mesa_loop_now(r->loop);
    r->outage = false;
    mesa_log(MESA_LOG_DEBUG, "redis", "connected");
    mesa_redis_ref(r);
    if (r->hooks.on_ready != NULL)
        r->hooks.on_ready(r->ctx);
    send_queued(r);
    mesa_redis_unref(r);
}

static void end_login(struct mesa_redis *r)
{
    if (r->mode == MESA_REDIS_SUBSCRIBER)
        mesa_redis_channels_restore(r);
    else
        mesa_redis_become_ready(r);
}

/* The reply to PING or, behind sentinels, to ROLE: a demoted master must not be written to. */
static void check_last(struct mesa_redis *r, const struct mesa_redis_reply *reply)
{
    bool error = mesa_redis_reply_type(reply) == MESA_REDIS_ERROR;
    struct mesa_span text = mesa_redis_reply_string(reply);
    if (r->sentinel == NULL) {
        if (error && !starts_with(text, "NOPERM")) /* logged in, PING is just not allowed */
            mesa_redis_fail_reply(r, "PING", reply);
        else if (!error && !mesa_span_eq(text, MESA_SPAN("PONG")))
            mesa_redis_fail(r, "does not answer like Redis", false);
        else
            end_login(r);
        return;
    }
    struct mesa_span role = {NULL, 0};
    if (mesa_redis_reply_count(reply) > 0)
        role = mesa_redis_reply_string(mesa_redis_reply_element(reply, 0));
    if (error)
        mesa_redis_fail_reply(r, "ROLE", reply);
    else if (!mesa_span_eq(role, MESA_SPAN("master")))
        mesa_redis_fail(r, "is not a master", false);
    else
        end_login(r);
}

static void on_login_reply(void *ctx, enum mesa_status rc, const struct mesa_redis_reply *reply)
{
    struct mesa_redis *r = ctx;
    if (rc != MESA_OK)
        return; /* the end of the link is told */
    enum login_step step = r->steps[r->step_next++];
    bool error = mesa_redis_reply_type(reply) == MESA_REDIS_ERROR;
    if (step == STEP_AUTH && error)
        mesa_redis_fail_reply(r, "AUTH", reply);
    else if (step == STEP_SELECT && error)
        mesa_redis_fail_reply(r, "SELECT", reply);
    else if (step == STEP_LAST)
        check_last(r, reply);
    /* a name is a courtesy: no right to set it is no reason to stay away */
}

static enum mesa_status send_step(struct mesa_redis *r, enum login_step step)
{
    const struct mesa_redis_options *o = &r->options;
    char db[16];
    snprintf(db, sizeof db, "%u", o->db);
    struct mesa_span name[] = {MESA_SPAN("CLIENT"),
                               MESA_SPAN("SETNAME"),
                               {o->name, o->name != NULL ? strlen(o->name) : 0}};
    struct mesa_span select[] = {MESA_SPAN("SELECT"), {db, strlen(db)}};
    struct mesa_span last = r->sentinel != NULL ? MESA_SPAN("ROLE") : MESA_SPAN("PING");

    r->steps[r->step_count++] = (uint8_t)step;
    switch (step) {
    case STEP_AUTH:
        return mesa_redis_link_auth(r->link, o->user, o->password, on_login_reply, r);
    case STEP_NAME:
        return mesa_redis_link_command(r->link, 3, name, on_login_reply, r);
    case STEP_SELECT:
        return mesa_redis_link_command(r->link, 2, select, on_login_reply, r);
    default:
        return mesa_redis_link_command(r->link, 1, &last, on_login_reply, r);
    }
}

static void log_in(struct mesa_redis *r)
{
    enum mesa_status rc = MESA_OK;
    r->state = MESA_REDIS_LOGGING_IN;
    r->step_count = r->step_next = 0;
    if (r->options.password != NULL)
        rc = send_step(r, STEP_AUTH);
    if (rc == MESA_OK && r->options.name != NULL)
        rc = send_step(r, STEP_NAME);
    if (rc == MESA_OK && r->options.db != 0)
        rc = send_step(r, STEP_SELECT);
    if (rc == MESA_OK)
        rc = send_step(r, STEP_LAST);
    if (rc != MESA_OK)
        mesa_redis_fail(r, mesa_status_text(rc), false);
}

static void on_dialled(void *ctx, struct mesa_redis_link *link, const char *address,
                       const char *reason)
{
    struct mesa_redis *r = ctx;
    struct mesa_redis_link_hooks hooks = {
        .on_message = r->mode == MESA_REDIS_SUBSCRIBER ? mesa_redis_channels_on_message : NULL,
        .on_closed = on_closed,
    };
    r->dial = NULL;
    snprintf(r->address, sizeof r->address, "%s", address);
    if (link == NULL) {
        fail_attempt(r, reason, false);
        return;
    }
    r->link = link;
    mesa_redis_link_set_hooks(link, &hooks, r);
    log_in(r);
}

static void dial(struct mesa_redis *r)
{
    const struct mesa_redis_options *o = &r->options;
    struct mesa_redis_target target = {
        .host = o->host != NULL ? o->host : "127.0.0.1", .path = o->path, .port = o->port};
    if (r->sentinel != NULL)
        target = (struct mesa_redis_target){.host = r->master_host, .port = r->master_port};
    else if (o->path != NULL)
        target.host = NULL;
    r->state = MESA_REDIS_DIALLING;
    r->dial = mesa_redis_dial_start(r->loop, o, r->tls, &target, on_dialled, r);
    if (r->dial == NULL)
        fail_attempt(r, "out of memory", false);
}

static void on_master(void *ctx, const char *host, uint16_t port)
{
    struct mesa_redis *r = ctx;
    bool same =
        r->master_host != NULL && strcmp(r->master_host, host) == 0 && r->master_port == port;
    if (same && r->state != MESA_REDIS_ASKING)
        return;
    if (mesa_redis_options_set(&r->master_host, host) != MESA_OK) {
        if (r->state == MESA_REDIS_ASKING)
            fail_attempt(r, "out of memory", false);
        return;
    }
    r->master_port = port;

    bool was_ready = r->state == MESA_REDIS_READY;
    char reason[320];
    snprintf(reason, sizeof reason, "the master has moved to %s:%u", host, port);
    mesa_redis_ref(r);
    disconnect(r);
    if (!r->freed)
        dial(r);
    if (!r->freed && was_ready)
        report(r, reason);
    mesa_redis_unref(r);
}

static void on_no_master(void *ctx, const char *reason)
{
    fail_attempt(ctx, reason, false);
}

static void begin(struct mesa_redis *r)
{
    if (r->sentinel == NULL) {
        dial(r);
        return;
    }
    r->state = MESA_REDIS_ASKING;
    mesa_redis_sentinel_ask(r->sentinel);
}

static void on_timer(struct mesa_timer *timer)
{
    begin(MESA_CONTAINER_OF(timer, struct mesa_redis, timer));
}

static enum mesa_status set_up(struct mesa_redis *r, const struct mesa_redis_options *options,
                               char *err, size_t err_len)
{
    static const struct mesa_redis_sentinel_hooks hooks = {.on_master = on_master,
                                                           .on_failed = on_no_master};
    enum mesa_status rc = mesa_redis_options_check(options, err, err_len);
    if (rc == MESA_OK)
        rc = mesa_redis_options_copy(&r->options, options);
    if (rc == MESA_OK && r->options.tls)
        rc = mesa_redis_tls_new(&r->tls, &r->options, err, err_len);
    if (rc == MESA_OK && r->mode == MESA_REDIS_SUBSCRIBER)
        rc = mesa_redis_channels_init(r);
    if (rc == MESA_OK && r->options.sentinel_count > 0) {
        r->sentinel = mesa_redis_sentinel_new(r->loop, &r->options, r->tls, &hooks, r);
        rc = r->sentinel != NULL ? MESA_OK : MESA_ENOMEM;
    }
    if (rc == MESA_ENOMEM)
        snprintf(err, err_len, "out of memory");
    return rc;
}

enum mesa_status mesa_redis_new(struct mesa_redis **out, struct mesa_loop *loop,
                                enum mesa_redis_mode mode, const struct mesa_redis_options *options,
                                const struct mesa_redis_hooks *hooks, void *ctx, char *err,
                                size_t err_len)
{
    struct mesa_redis *r = calloc(1, sizeof *r);
    if (r == NULL)
        return MESA_ENOMEM;
    r->loop = loop;
    r->mode = mode;
    r->hooks = *hooks;
    r->ctx = ctx;
    r->refs = 1;
    mesa_list_init(&r->queue);
    mesa_timer_init(&r->timer, on_timer);

    enum mesa_status rc = set_up(r, options, err, err_len);
    if (rc != MESA_OK) {
        mesa_redis_unref(r);
        return rc;
    }
    mesa_loop_arm(loop, &r->timer, 0);
    *out = r;
    return MESA_OK;
}

void mesa_redis_free(struct mesa_redis *r)
{
    if (r == NULL)
        return;
    r->freed = true;
    memset(&r->hooks, 0, sizeof r->hooks);
    mesa_redis_sentinel_free(r->sentinel);
    r->sentinel = NULL;
    disconnect(r);
    while (!mesa_list_empty(&r->queue)) {
        struct queued *q = MESA_CONTAINER_OF(r->queue.next, struct queued, link);
        mesa_list_remove(&q->link);
        if (q->fn != NULL)
            q->fn(q->ctx, MESA_ECLOSED, NULL);
        free(q);
    }
    mesa_redis_unref(r);
}

bool mesa_redis_ready(const struct mesa_redis *r)
{
    return r->state == MESA_REDIS_READY && mesa_redis_link_up(r->link);
}

size_t mesa_redis_pending(const struct mesa_redis *r)
{
    return r->queue_count + (r->link != NULL ? mesa_redis_link_pending(r->link) : 0);
}

const char *mesa_redis_address(const struct mesa_redis *r)
{
    return r->address;
}

static bool is_word(struct mesa_span s, const char *word)
{
    return s.len == strlen(word) && strncasecmp(s.p, word, s.len) == 0;
}

/* After these, replies would not match commands any more. */
static bool is_forbidden(size_t argc, const struct mesa_span *argv)
{
    static const char *const names[] = {"SUBSCRIBE",    "PSUBSCRIBE",   "SSUBSCRIBE", "UNSUBSCRIBE",
                                        "PUNSUBSCRIBE", "SUNSUBSCRIBE", "MONITOR",    "HELLO",
                                        "RESET",        "SYNC",         "PSYNC"};
    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++) {
        if (is_word(argv[0], names[i]))
            return true;
    }
    return argc > 1 && is_word(argv[0], "CLIENT") && is_word(argv[1], "REPLY");
}

static enum mesa_status enqueue(struct mesa_redis *r, size_t argc, const struct mesa_span *argv,
                                mesa_redis_reply_fn fn, void *ctx)
{
    size_t bytes = 0;
    if (r->options.queue_limit == 0 || r->freed)
        return MESA_ECLOSED;
    for (size_t i = 0; i < argc; i++)
        bytes += argv[i].len;
    if (r->queue_count >= r->options.queue_limit ||
        (r->queue_bytes + bytes > r->options.output_limit && r->queue_count > 0))
        return MESA_EAGAIN;

    struct queued *q = malloc(sizeof *q + argc * sizeof q->argv[0] + bytes);
    if (q == NULL)
        return MESA_ENOMEM;
    char *p = (char *)&q->argv[argc];
    for (size_t i = 0; i < argc; i++) {
        q->argv[i] = (struct mesa_span){p, argv[i].len};
        if (argv[i].len > 0)
            memcpy(p, argv[i].p, argv[i].len);
        p += argv[i].len;
    }
    q->fn = fn;
    q->ctx = ctx;
    q->argc = argc;
    q->bytes = bytes;
    mesa_list_init(&q->link);
    mesa_list_append(&r->queue, &q->link);
    r->queue_count++;
    r->queue_bytes += bytes;
    return MESA_OK;
}

enum mesa_status mesa_redis_command(struct mesa_redis *r, size_t argc, const struct mesa_span *argv,
                                    mesa_redis_reply_fn fn, void *ctx)
{
    if (argc == 0 || r->mode == MESA_REDIS_SUBSCRIBER || is_forbidden(argc, argv))
        return MESA_EINVAL;
    if (!mesa_redis_ready(r))
        return enqueue(r, argc, argv, fn, ctx);
    return mesa_redis_link_command(r->link, argc, argv, fn, ctx);
}
