/* redis_conn_sentinel.c - where the master is, and when it moves, as Redis Sentinels tell. */
#include "broker/redis_conn_sentinel.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "broker/redis_conn_dial.h"

enum { WATCH_RETRY_MS = 1000, HOST_BYTES = 256 };

struct mesa_redis_sentinel {
    struct mesa_loop *loop;
    const struct mesa_redis_options *options;
    struct mesa_redis_tls *tls;
    struct mesa_redis_sentinel_hooks hooks;
    void *ctx;

    size_t index; /* of the sentinel that is asked, or listened to */
    size_t tried; /* in this round */
    bool asked;   /* somebody waits for the round's end */
    struct mesa_redis_dial *dial;
    struct mesa_redis_link *link;
    struct mesa_timer timer; /* the next round, or a round that cannot even start */
    char reason[400];
};

static void dial(struct mesa_redis_sentinel *s);

static void hang_up(struct mesa_redis_sentinel *s)
{
    struct mesa_redis_link *link = s->link;
    mesa_loop_cancel(s->loop, &s->timer);
    mesa_redis_dial_cancel(s->dial);
    s->dial = NULL;
    s->link = NULL;
    mesa_redis_link_free(link);
}

static void end_round(struct mesa_redis_sentinel *s)
{
    if (!s->asked) {
        mesa_loop_arm(s->loop, &s->timer, WATCH_RETRY_MS);
        return;
    }
    char reason[sizeof s->reason];
    memcpy(reason, s->reason, sizeof reason);
    s->asked = false;
    s->hooks.on_failed(s->ctx, reason);
}

/* This sentinel is of no use: to the next one. */
static void give_up(struct mesa_redis_sentinel *s, const char *reason)
{
    snprintf(s->reason, sizeof s->reason, "sentinel %s", reason);
    hang_up(s);
    s->index = (s->index + 1) % s->options->sentinel_count;
    if (++s->tried < s->options->sentinel_count)
        dial(s);
    else
        end_round(s);
}

static void give_up_here(struct mesa_redis_sentinel *s, const char *what)
{
    const struct mesa_redis_endpoint *e = &s->options->sentinels[s->index];
    char reason[360];
    snprintf(reason, sizeof reason, "%.128s:%u: %.200s", e->host, e->port, what);
    give_up(s, reason);
}

static bool parse_port(struct mesa_span s, uint16_t *port)
{
    char text[8] = "";
    if (s.len == 0 || s.len > 5)
        return false;
    memcpy(text, s.p, s.len);
    char *end;
    long value = strtol(text, &end, 10);
    if (*end != '\0' || value < 1 || value > UINT16_MAX)
        return false;
    *port = (uint16_t)value;
    return true;
}

static void tell(struct mesa_redis_sentinel *s, struct mesa_span host, uint16_t port)
{
    char text[HOST_BYTES];
    memcpy(text, host.p, host.len);
    text[host.len] = '\0';
    s->asked = false;
    s->hooks.on_master(s->ctx, text, port);
}

static void on_auth(void *ctx, enum mesa_status rc, const struct mesa_redis_reply *reply)
{
    if (rc != MESA_OK || mesa_redis_reply_type(reply) != MESA_REDIS_ERROR)
        return;
    struct mesa_span text = mesa_redis_reply_string(reply);
    char what[200];
    snprintf(what, sizeof what, "AUTH: %.*s", (int)text.len, text.p);
    give_up_here(ctx, what);
}

static void on_answer(void *ctx, enum mesa_status rc, const struct mesa_redis_reply *reply)
{
    struct mesa_redis_sentinel *s = ctx;
    uint16_t port;
    if (rc != MESA_OK)
        return; /* the end of the link is told */
    if (mesa_redis_reply_count(reply) == 2) {
        struct mesa_span host = mesa_redis_reply_string(mesa_redis_reply_element(reply, 0));
        struct mesa_span digits = mesa_redis_reply_string(mesa_redis_reply_element(reply, 1));
        if (host.len > 0 && host.len < HOST_BYTES && parse_port(digits, &port)) {
            tell(s, host, port);
            return;
        }
    }
    struct mesa_span text = mesa_redis_reply_string(reply);
    char what[200];
    if (mesa_redis_reply_type(reply) == MESA_REDIS_ERROR)
        snprintf(what, sizeof what, "%.*s", (int)text.len, text.p);
    else if (mesa_redis_reply_type(reply) == MESA_REDIS_NIL)
        snprintf(what, sizeof what, "knows no master called %.100s", s->options->master);
    else
        snprintf(what, sizeof what, "does not answer like a sentinel");
    give_up_here(s, what);
}

/* "+switch-master": <master> <old host> <old port> <new host> <new port> */
static void on_message(void *ctx, struct mesa_span channel, struct mesa_span payload)
{
    struct mesa_redis_sentinel *s = ctx;
    struct mesa_span words[5];
    size_t count = 0;
    const char *end = payload.p + payload.len;
    (void)channel;
    for (const char *p = payload.p; p < end && count < 5;) {
        const char *space = memchr(p, ' ', (size_t)(end - p));
        const char *stop = space != NULL ? space : end;
        words[count++] = (struct mesa_span){p, (size_t)(stop - p)};
        p = stop + 1;
    }
    struct mesa_span master = {s->options->master, strlen(s->options->master)};
    uint16_t port;
    if (count == 5 && mesa_span_eq(words[0], master) && words[3].len > 0 &&
        words[3].len < HOST_BYTES && parse_port(words[4], &port))
        tell(s, words[3], port);
}

static void on_closed(void *ctx, const char *reason)
{
    struct mesa_redis_sentinel *s = ctx;
    give_up_here(s, reason);
}

static void on_dialled(void *ctx, struct mesa_redis_link *link, const char *address,
                       const char *reason)
{
    static const struct mesa_redis_link_hooks hooks = {.on_message = on_message,
                                                       .on_closed = on_closed};
    struct mesa_redis_sentinel *s = ctx;
    const struct mesa_redis_options *o = s->options;
    (void)address;
    s->dial = NULL;
    if (link == NULL) {
        give_up(s, reason);
        return;
    }
    s->link = link;
    mesa_redis_link_set_hooks(link, &hooks, s);

    enum mesa_status rc = MESA_OK;
    if (o->sentinel_password != NULL)
        rc = mesa_redis_link_auth(link, o->sentinel_user, o->sentinel_password, on_auth, s);
    if (rc == MESA_OK) {
        struct mesa_span ask[] = {MESA_SPAN("SENTINEL"),
                                  MESA_SPAN("get-master-addr-by-name"),
                                  {o->master, strlen(o->master)}};
        rc = mesa_redis_link_command(link, 3, ask, on_answer, s);
    }
    if (rc == MESA_OK) {
        struct mesa_span listen[] = {MESA_SPAN("SUBSCRIBE"), MESA_SPAN("+switch-master")};
        rc = mesa_redis_link_command(link, 2, listen, NULL, NULL);
    }
    if (rc != MESA_OK)
        give_up_here(s, mesa_status_text(rc));
}

static void dial(struct mesa_redis_sentinel *s)
{
    const struct mesa_redis_endpoint *e = &s->options->sentinels[s->index];
    struct mesa_redis_target target = {.host = e->host, .port = e->port};
    s->dial = mesa_redis_dial_start(s->loop, s->options, s->tls, &target, on_dialled, s);
    if (s->dial == NULL) /* out of memory: the timer begins another round, asked for or not */
        mesa_loop_arm(s->loop, &s->timer, WATCH_RETRY_MS);
}

static void begin_round(struct mesa_redis_sentinel *s)
{
    hang_up(s);
    s->tried = 0;
    dial(s);
}

static void on_timer(struct mesa_timer *timer)
{
    begin_round(MESA_CONTAINER_OF(timer, struct mesa_redis_sentinel, timer));
}

struct mesa_redis_sentinel *mesa_redis_sentinel_new(struct mesa_loop *loop,
                                                    const struct mesa_redis_options *options,
                                                    struct mesa_redis_tls *tls,
                                                    const struct mesa_redis_sentinel_hooks *hooks,
                                                    void *ctx)
{
    struct mesa_redis_sentinel *s = calloc(1, sizeof *s);
    if (s == NULL)
        return NULL;
    s->loop = loop;
    s->options = options;
    s->tls = tls;
    s->hooks = *hooks;
    s->ctx = ctx;
    mesa_timer_init(&s->timer, on_timer);
    return s;
}

void mesa_redis_sentinel_free(struct mesa_redis_sentinel *s)
{
    if (s == NULL)
        return;
    hang_up(s);
    free(s);
}

void mesa_redis_sentinel_ask(struct mesa_redis_sentinel *s)
{
    s->asked = true;
    begin_round(s);
}
