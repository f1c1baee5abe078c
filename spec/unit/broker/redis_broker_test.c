/* redis_broker_test.c - two brokers on one real Redis: messages, presence, the sync store, outages. */
#include <signal.h>
#include <stdio.h>
#include <string.h>

#include "base/map.h"
#include "broker/broker.h"
#include "redis_fixture.h"
#include "test.h"

/* A broker and what it told. */
struct node {
    struct mesa_config cfg;
    struct mesa_broker *b;
    int up, down, stored, dropped, delivered, errors, taken, closed, kept, unkept, gaps, healed;
    uint64_t number;    /* of what was delivered last */
    uint64_t upto;      /* of what was taken last */
    uint64_t stamps[8]; /* and of each of it */
    char last[256];     /* what was delivered, or taken, last */
    char error[256];
};

static struct redis_child child;
static struct node n1, n2;

static struct mesa_span span(const char *text)
{
    return (struct mesa_span){text, strlen(text)};
}

static void on_stored(void *ctx, struct mesa_span json, const struct mesa_span *ids, size_t count)
{
    (void)json;
    (void)ids;
    ((struct node *)ctx)->stored += (int)count;
}

static void on_dropped(void *ctx, struct mesa_span id, struct mesa_span json)
{
    (void)id;
    (void)json;
    ((struct node *)ctx)->dropped++;
}

static void on_delivery(void *ctx, const struct mesa_cluster_message *m)
{
    struct node *n = ctx;
    n->delivered++;
    n->number = m->number;
    snprintf(n->last, sizeof n->last, "%.*s", (int)m->envelope.d.len, m->envelope.d.p);
}

static void on_kept(void *ctx, struct mesa_span id)
{
    (void)id;
    ((struct node *)ctx)->kept++;
}

static void on_unkept(void *ctx, const struct mesa_span *ids, size_t count, uint64_t send)
{
    CHECK(ids != NULL && send > 0);
    ((struct node *)ctx)->unkept += (int)count;
}

static void on_gap(void *ctx)
{
    ((struct node *)ctx)->gaps++;
}

static void on_portal(void *ctx, struct mesa_span id, bool joined)
{
    (void)ctx;
    (void)id;
    (void)joined;
}

static void on_available(void *ctx, bool available)
{
    struct node *n = ctx;
    if (available)
        n->up++;
    else
        n->down++;
}

static void on_healed(void *ctx)
{
    ((struct node *)ctx)->healed++;
}

static void on_error(void *ctx, const char *code, const char *text)
{
    struct node *n = ctx;
    n->errors++;
    snprintf(n->error, sizeof n->error, "%s %s", code, text);
}

static void on_taken(void *ctx, enum mesa_status rc, const struct mesa_backlog *backlog)
{
    struct node *n = ctx;
    n->taken++;
    n->upto = rc == MESA_OK ? backlog->upto : 0;
    n->last[0] = '\0';
    for (size_t i = 0; rc == MESA_OK && i < backlog->count; i++) {
        size_t at = strlen(n->last);
        n->stamps[i & 7] = backlog->stamps[i];
        snprintf(n->last + at, sizeof n->last - at, "%.*s ", (int)backlog->json[i].len,
                 backlog->json[i].p);
    }
}

static enum mesa_wanted wanted(void *ctx, bool first)
{
    (void)ctx;
    (void)first;
    return MESA_WANTED;
}

static void on_closed(void *ctx)
{
    ((struct node *)ctx)->closed++;
}

static const struct mesa_broker_hooks hooks = {
    .on_stored = on_stored,
    .on_dropped = on_dropped,
    .on_delivery = on_delivery,
    .on_kept = on_kept,
    .on_unkept = on_unkept,
    .on_gap = on_gap,
    .on_portal = on_portal,
    .on_available = on_available,
    .on_healed = on_healed,
    .on_error = on_error,
};

static void open_node(struct node *n)
{
    char err[128] = "";
    memset(n, 0, sizeof *n);
    mesa_config_init(&n->cfg);
    n->cfg.redis.enabled = true;
    n->cfg.redis.path = strdup(child.socket);
    n->cfg.redis.lease_ms = 1000;
    n->cfg.sync.enabled = true;
    n->cfg.sync.max_messages = 2;
    CHECK_EQ_INT(mesa_broker_redis_new(&n->b, loop, &n->cfg, err, sizeof err), MESA_OK);
    n->b->hooks = hooks;
    n->b->hooks_ctx = n;
    WAIT_FOR(n->up, 1);
}

static void close_node(struct node *n)
{
    n->b->ops->close(n->b, on_closed, n);
    WAIT_FOR(n->closed, 1);
    n->b->ops->free(n->b);
    mesa_config_deinit(&n->cfg);
}

static struct seen own; /* only for its loop */

static void begin(void)
{
    CHECK(fixture_redis_start(&child, NULL));
    seen_init(&own);
    open_node(&n1);
    open_node(&n2);
}

static void end(void)
{
    close_node(&n1);
    close_node(&n2);
    seen_close(&own);
    fixture_redis_remove(&child);
}

static uint64_t sends;

static enum mesa_status send_to(struct node *n, const char *id, const char *d, bool here)
{
    struct mesa_frame *f;
    struct mesa_span ids = id != NULL ? span(id) : span("");
    mesa_envelope_frame(&f, &(struct mesa_outgoing){.op = 0, .d = span(d)});
    const struct mesa_publication p = {.frame = f,
                                       .ids = id != NULL ? &ids : NULL,
                                       .taken = &here,
                                       .id_count = id != NULL ? 1 : 0,
                                       .sync = true,
                                       .send = ++sends};
    enum mesa_status rc = n->b->ops->send(n->b, &p);
    mesa_frame_unref(f);
    return rc;
}

static const char *take_as(struct node *n, const char *id, const struct mesa_take *what)
{
    n->taken = 0;
    n->b->ops->take(n->b, span(id), what, wanted, on_taken, n);
    WAIT_FOR(n->taken, 1);
    return n->last;
}

static const char *take(struct node *n, const char *id)
{
    return take_as(n, id, &(struct mesa_take){.mode = MESA_TAKE});
}

static void online(struct node *n, const char *id)
{
    n->b->ops->user_online(n->b, span(id));
    take(n, id); /* so that Redis knows */
}

static void offline(struct node *n, const char *id)
{
    n->b->ops->user_offline(n->b, span(id), &(struct mesa_backlog){0});
}

TEST(messages_reach_the_other_node_and_not_their_sender)
{
    begin();
    online(&n2, "a");
    CHECK_EQ_INT(send_to(&n1, "a", "1", false), MESA_OK);
    WAIT_FOR(n2.delivered, 1);
    CHECK_EQ_STR(n2.last, "1");
    send_to(&n1, NULL, "2", false);
    WAIT_FOR(n2.delivered, 2);
    send_to(&n2, NULL, "3", false);
    WAIT_FOR(n1.delivered, 1);
    CHECK_EQ_STR(n1.last, "3");
    CHECK_EQ_INT(n2.delivered, 2);
    end();
}

TEST(messages_to_the_offline_are_kept_within_bounds_and_taken_once)
{
    begin();
    send_to(&n1, "a", "1", false);
    send_to(&n1, "a", "2", false);
    WAIT_FOR(n1.stored, 2);
    send_to(&n2, "a", "[]", false);
    WAIT_FOR(n2.stored, 1);
    WAIT_FOR(n2.dropped, 1);
    CHECK_EQ_STR(take(&n1, "a"), "{\"op\":0,\"d\":2} {\"op\":0,\"d\":[]} ");
    n1.b->ops->confirm(n1.b, span("a"),
                       &(struct mesa_confirmation){.stamps = n1.stamps, .count = 2});
    n1.b->ops->put_back(n1.b, span("a"), &(struct mesa_backlog){0}); /* sends what was confirmed */
    take(&n1, "nobody");
    CHECK_EQ_STR(take(&n2, "a"), "");
    end();
}

TEST(what_is_not_confirmed_is_stored_when_the_last_connection_goes)
{
    begin();
    online(&n1, "a");
    send_to(&n2, "a", "1", false);
    send_to(&n2, "a", "2", false);
    WAIT_FOR(n1.delivered, 2);
    uint64_t second = n1.number;
    send_to(&n1, "a", "3", true);
    n1.b->ops->confirm(n1.b, span("a"), &(struct mesa_confirmation){.live = second - 1});
    n1.cfg.sync.max_messages = 3;
    offline(&n1, "a");
    send_to(&n1, "a", "4", false);
    WAIT_FOR(n1.stored, 1);
    n2.cfg.sync.max_messages = 3;
    CHECK_EQ_STR(take(&n2, "a"), "{\"op\":0,\"d\":2} {\"op\":0,\"d\":3} {\"op\":0,\"d\":4} ");
    CHECK(n2.stamps[0] == second && n2.stamps[0] < n2.stamps[1] && n2.stamps[1] < n2.stamps[2]);
    CHECK(n2.stamps[2] <= n2.upto);
    end();
}

TEST(what_was_sent_to_one_connection_and_taken_by_another_is_confirmed_by_either)
{
    begin();
    send_to(&n2, "a", "0", false);
    WAIT_FOR(n2.stored, 1);
    online(&n1, "a");
    uint64_t upto = n1.upto;
    send_to(&n2, "a", "1", false);
    WAIT_FOR(n1.delivered, 1);
    CHECK_EQ_STR(take(&n2, "a"), "{\"op\":0,\"d\":0} {\"op\":0,\"d\":1} ");
    n1.b->ops->confirm(n1.b, span("a"),
                       &(struct mesa_confirmation){.from = upto, .live = n1.number});
    take(&n1, "nobody"); /* sends it */
    CHECK_EQ_STR(take(&n2, "a"), "{\"op\":0,\"d\":0} ");
    end();
}

TEST(own_messages_are_confirmed_by_the_count_of_sends)
{
    begin();
    online(&n1, "a");
    send_to(&n1, "a", "1", true);
    uint64_t first = sends;
    send_to(&n1, "a", "2", true);
    n1.b->ops->confirm(n1.b, span("a"), &(struct mesa_confirmation){.send = first});
    offline(&n1, "a");
    CHECK_EQ_STR(take(&n1, "a"), "{\"op\":0,\"d\":2} ");
    end();
}

TEST(what_was_taken_stays_until_it_is_confirmed)
{
    begin();
    send_to(&n2, "a", "1", false);
    send_to(&n2, "a", "2", false);
    WAIT_FOR(n2.stored, 2);
    CHECK_EQ_STR(take(&n1, "a"), "{\"op\":0,\"d\":1} {\"op\":0,\"d\":2} ");
    CHECK_EQ_STR(take(&n2, "a"), "{\"op\":0,\"d\":1} {\"op\":0,\"d\":2} ");
    const struct mesa_take rest = {.after = n2.stamps[0]};
    CHECK_EQ_STR(take_as(&n2, "a", &rest), "{\"op\":0,\"d\":2} ");
    n1.b->ops->confirm(n1.b, span("a"),
                       &(struct mesa_confirmation){.stamps = n1.stamps, .count = 1});
    CHECK_EQ_STR(take(&n1, "a"), "{\"op\":0,\"d\":2} ");
    n2.b->ops->confirm(n2.b, span("a"),
                       &(struct mesa_confirmation){.stamps = n2.stamps, .count = 1});
    CHECK_EQ_STR(take(&n2, "a"), "");
    end();
}

TEST(what_can_still_be_confirmed_elsewhere_is_waited_for)
{
    begin();
    online(&n1, "a");
    send_to(&n2, "a", "1", false);
    WAIT_FOR(n1.delivered, 1);
    n2.b->ops->user_online(n2.b, span("a"));
    n2.taken = 0;
    n2.b->ops->take(n2.b, span("a"), &(struct mesa_take){0}, wanted, on_taken, &n2);
    n1.b->ops->confirm(n1.b, span("a"), &(struct mesa_confirmation){.live = n1.number});
    WAIT_FOR(n2.taken, 1);
    CHECK_EQ_STR(n2.last, "");
    CHECK(n2.upto >= n1.number);
    send_to(&n2, "a", "2", true);
    WAIT_FOR(n1.delivered, 2);
    n1.b->ops->user_online(n1.b, span("a"));
    CHECK_EQ_STR(take(&n1, "a"), "{\"op\":0,\"d\":2} "); /* it was not confirmed in time */
    end();
}

TEST(what_goes_back_is_put_between_the_others_or_is_for_those_who_are_here)
{
    begin();
    online(&n1, "a");
    send_to(&n2, "a", "1", false);
    send_to(&n2, "a", "3", false);
    WAIT_FOR(n1.delivered, 2);
    const struct mesa_span json = MESA_SPAN("{\"op\":0,\"d\":2}");
    const uint64_t stamp = n1.number - 1;
    const struct mesa_backlog unread = {.json = &json, .stamps = &stamp, .count = 1};
    n1.cfg.sync.max_messages = 3;
    n1.b->ops->user_offline(n1.b, span("a"), &unread);
    n2.cfg.sync.max_messages = 3;
    CHECK_EQ_STR(take(&n2, "a"), "{\"op\":0,\"d\":1} {\"op\":0,\"d\":2} {\"op\":0,\"d\":3} ");
    n2.b->ops->confirm(n2.b, span("a"),
                       &(struct mesa_confirmation){.stamps = n2.stamps, .count = 3});
    online(&n2, "a");
    CHECK_EQ_INT(n2.kept, 0);
    n1.b->ops->put_back(n1.b, span("a"), &unread);
    WAIT_FOR(n2.kept, 1);
    CHECK_EQ_STR(take(&n2, "a"), "{\"op\":0,\"d\":2} ");
    end();
}

TEST(a_backlog_may_be_dropped_or_left_alone)
{
    begin();
    send_to(&n1, "a", "1", false);
    WAIT_FOR(n1.stored, 1);
    CHECK_EQ_STR(take_as(&n2, "a", &(struct mesa_take){.mode = MESA_TAKE_NOTHING}), "");
    CHECK_EQ_STR(take_as(&n2, "a", &(struct mesa_take){.mode = MESA_TAKE_DROP}),
                 "{\"op\":0,\"d\":1} ");
    CHECK_EQ_STR(take(&n2, "a"), "");
    end();
}

TEST(a_node_that_dies_leaves_what_was_not_confirmed)
{
    begin();
    online(&n1, "a");
    send_to(&n2, "a", "1", false);
    WAIT_FOR(n1.delivered, 1);
    n1.b->ops->free(n1.b);
    mesa_config_deinit(&n1.cfg);
    CHECK_EQ_STR(take(&n2, "a"), "{\"op\":0,\"d\":1} ");
    open_node(&n1);
    end();
}

TEST(without_redis_sends_say_so_and_it_heals)
{
    begin();
    fixture_redis_stop(&child, SIGKILL);
    WAIT_FOR(n1.down, 1);
    WAIT_FOR(n2.down, 1);
    CHECK(strncmp(n1.error, "REDIS ", 6) == 0);
    CHECK_EQ_INT(send_to(&n1, "a", "1", false), MESA_EUNAVAILABLE);
    take(&n1, "a");
    CHECK(fixture_redis_start(&child, NULL));
    WAIT_FOR(n1.up, 2);
    WAIT_FOR(n2.up, 2);
    CHECK_EQ_INT(send_to(&n1, "a", "1", false), MESA_OK);
    WAIT_FOR(n1.stored, 1);
    CHECK_EQ_STR(take(&n2, "a"), "{\"op\":0,\"d\":1} ");
    end();
}

TEST(a_closed_broker_may_be_freed_with_all_that_is_under_way)
{
    begin();
    int taken = n2.taken;
    n2.b->ops->take(n2.b, span("a"), &(struct mesa_take){0}, wanted, on_taken, &n2);
    send_to(&n2, "a", "1", false);
    n2.b->ops->user_online(n2.b, span("a"));
    n2.b->ops->free(n2.b);
    CHECK_EQ_INT(n2.taken, taken + 1);
    mesa_config_deinit(&n2.cfg);
    open_node(&n2);
    end();
}
