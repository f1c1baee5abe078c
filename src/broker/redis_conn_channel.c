/* redis_conn_channel.c - the channels of a subscriber, remembered from link to link. */
#include <stdlib.h>

#include "base/log.h"
#include "broker/redis_conn_internal.h"

struct channel {
    bool confirmed;
    uint64_t request; /* the number of its SUBSCRIBE on this link */
};

enum mesa_status mesa_redis_channels_init(struct mesa_redis *r)
{
    return mesa_map_new(&r->channels);
}

void mesa_redis_channels_deinit(struct mesa_redis *r)
{
    size_t cursor = 0, len;
    const char *name;
    void *channel;
    if (r->channels == NULL)
        return;
    while (mesa_map_next(r->channels, &cursor, &name, &len, &channel))
        free(channel);
    mesa_map_free(r->channels);
}

static void check_ready(struct mesa_redis *r)
{
    if (r->state == MESA_REDIS_SUBSCRIBING && r->unconfirmed == 0)
        mesa_redis_become_ready(r);
}

static bool is_confirmation(const struct mesa_redis_reply *reply)
{
    if (mesa_redis_reply_count(reply) < 2)
        return false;
    struct mesa_span kind = mesa_redis_reply_string(mesa_redis_reply_element(reply, 0));
    return mesa_span_eq(kind, MESA_SPAN("subscribe")) ||
           mesa_span_eq(kind, MESA_SPAN("unsubscribe"));
}

/* Replies come in the order of the requests, so that the count tells which one this is: a channel
 * may have been left and joined again meanwhile. */
static void on_reply(void *ctx, enum mesa_status rc, const struct mesa_redis_reply *reply)
{
    struct mesa_redis *r = ctx;
    if (rc != MESA_OK)
        return;
    uint64_t request = ++r->answered;
    if (mesa_redis_reply_type(reply) == MESA_REDIS_ERROR) {
        mesa_redis_fail_reply(r, "SUBSCRIBE", reply);
        return;
    }
    if (!is_confirmation(reply)) {
        mesa_redis_fail(r, "protocol error: SUBSCRIBE is not confirmed", false);
        return;
    }
    struct mesa_span name = mesa_redis_reply_string(mesa_redis_reply_element(reply, 1));
    struct channel *c = name.p != NULL ? mesa_map_get(r->channels, name.p, name.len) : NULL;

    mesa_redis_ref(r);
    if (c != NULL && !c->confirmed && c->request == request) {
        c->confirmed = true;
        r->unconfirmed--;
        mesa_log(MESA_LOG_DEBUG, "redis", "subscribed to %.*s", (int)name.len, name.p);
        if (r->hooks.on_subscribed != NULL)
            r->hooks.on_subscribed(r->ctx, name);
    }
    check_ready(r);
    mesa_redis_unref(r);
}

static enum mesa_status request(struct mesa_redis *r, struct mesa_span verb, struct mesa_span name)
{
    struct mesa_span argv[] = {verb, name};
    enum mesa_status rc = mesa_redis_link_command(r->link, 2, argv, on_reply, r);
    if (rc == MESA_OK)
        r->requested++;
    return rc;
}

static bool linked(const struct mesa_redis *r)
{
    return r->state >= MESA_REDIS_SUBSCRIBING && mesa_redis_link_up(r->link);
}

void mesa_redis_channels_restore(struct mesa_redis *r)
{
    size_t cursor = 0, len;
    const char *name;
    void *value;
    r->state = MESA_REDIS_SUBSCRIBING;
    r->requested = r->answered = 0;
    r->unconfirmed = mesa_map_count(r->channels);
    while (mesa_map_next(r->channels, &cursor, &name, &len, &value)) {
        struct channel *c = value;
        enum mesa_status rc = request(r, MESA_SPAN("SUBSCRIBE"), (struct mesa_span){name, len});
        if (rc != MESA_OK) {
            mesa_redis_fail(r, mesa_status_text(rc), false);
            return;
        }
        c->confirmed = false;
        c->request = r->requested;
    }
    check_ready(r);
}

void mesa_redis_channels_on_message(void *ctx, struct mesa_span channel, struct mesa_span payload)
{
    struct mesa_redis *r = ctx;
    if (r->hooks.on_message != NULL && mesa_map_get(r->channels, channel.p, channel.len) != NULL)
        r->hooks.on_message(r->ctx, channel, payload);
}

enum mesa_status mesa_redis_subscribe(struct mesa_redis *r, struct mesa_span channel)
{
    if (r->mode != MESA_REDIS_SUBSCRIBER)
        return MESA_EINVAL;
    if (mesa_map_get(r->channels, channel.p, channel.len) != NULL)
        return MESA_OK;

    struct channel *c = calloc(1, sizeof *c);
    if (c == NULL)
        return MESA_ENOMEM;
    enum mesa_status rc = mesa_map_set(r->channels, channel.p, channel.len, c);
    if (rc == MESA_OK && linked(r)) {
        rc = request(r, MESA_SPAN("SUBSCRIBE"), channel);
        if (rc != MESA_OK)
            mesa_map_remove(r->channels, channel.p, channel.len);
    }
    if (rc != MESA_OK) {
        free(c);
        return rc;
    }
    c->request = r->requested;
    r->unconfirmed++;
    return MESA_OK;
}

enum mesa_status mesa_redis_unsubscribe(struct mesa_redis *r, struct mesa_span channel)
{
    if (r->mode != MESA_REDIS_SUBSCRIBER)
        return MESA_EINVAL;
    struct channel *c = mesa_map_remove(r->channels, channel.p, channel.len);
    if (c == NULL)
        return MESA_OK;
    if (!c->confirmed)
        r->unconfirmed--;
    free(c);
    return linked(r) ? request(r, MESA_SPAN("UNSUBSCRIBE"), channel) : MESA_OK;
}

bool mesa_redis_subscribed(const struct mesa_redis *r, struct mesa_span channel)
{
    const struct channel *c =
        r->channels != NULL ? mesa_map_get(r->channels, channel.p, channel.len) : NULL;
    return c != NULL && c->confirmed && mesa_redis_ready(r);
}
