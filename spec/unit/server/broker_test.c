/* broker_test.c - the sync store of one process: order, bounds, going back (PROTOCOL 8, Sync). */
#include <stdio.h>
#include <string.h>

#include "broker/broker.h"
#include "fake.h"
#include "test.h"

static struct mesa_config cfg;
static struct mesa_broker *b;
static char dropped[1024], taken[4096];
static struct mesa_span kept[64]; /* the last backlog taken, copied */
static uint64_t kept_ms[64];
static char kept_bytes[64][32];
static size_t kept_count;
static bool store_when_dropped;
static size_t stored;

static struct mesa_span span(const char *text)
{
    return (struct mesa_span){text, strlen(text)};
}

/* A message to an id that is offline. */
static enum mesa_status send_to(const char *id, const char *json)
{
    struct mesa_frame *f;
    struct mesa_span ids = span(id);
    bool here = false;
    mesa_frame_new(&f, MESA_WS_TEXT, json, strlen(json));
    const struct mesa_publication p = {
        .frame = f, .ids = &ids, .taken = &here, .id_count = 1, .sync = true};
    enum mesa_status rc = b->ops->send(b, &p);
    mesa_frame_unref(f);
    return rc;
}

static void on_stored(void *ctx, struct mesa_span json, const struct mesa_span *ids, size_t count)
{
    (void)ctx;
    (void)json;
    (void)ids;
    stored += count;
}

static void on_dropped(void *ctx, struct mesa_span id, struct mesa_span json)
{
    (void)ctx;
    size_t at = strlen(dropped);
    snprintf(dropped + at, sizeof dropped - at, "%.*s:%.*s ", (int)id.len, id.p, (int)json.len,
             json.p);
    if (store_when_dropped) {
        store_when_dropped = false;
        send_to("a", "again");
    }
}

static void begin(void)
{
    mesa_config_init(&cfg);
    cfg.sync.enabled = true;
    cfg.sync.max_messages = 3;
    cfg.sync.max_bytes = 100;
    cfg.sync.max_age_ms = 1000;
    mesa_broker_memory_new(&b, fake_loop(), &cfg);
    b->hooks.on_dropped = on_dropped;
    b->hooks.on_stored = on_stored;
    stored = 0;
    dropped[0] = '\0';
}

static void end(void)
{
    b->ops->free(b);
    mesa_config_deinit(&cfg);
    fake_end();
}

static void store(const char *id, const char *json)
{
    CHECK_EQ_INT(send_to(id, json), MESA_OK);
}

static void on_taken(void *ctx, enum mesa_status rc, const struct mesa_backlog *backlog)
{
    ++*(int *)ctx;
    CHECK_EQ_INT(rc, MESA_OK);
    taken[0] = '\0';
    kept_count = backlog->count;
    for (size_t i = 0; i < backlog->count; i++) {
        struct mesa_span json = backlog->json[i];
        size_t at = strlen(taken);
        snprintf(taken + at, sizeof taken - at, "%.*s ", (int)json.len, json.p);
        snprintf(kept_bytes[i], sizeof kept_bytes[i], "%.*s", (int)json.len, json.p);
        kept[i] = span(kept_bytes[i]);
        kept_ms[i] = backlog->stamps[i];
    }
}

static const char *take(const char *id)
{
    int calls = 0;
    b->ops->take(b, span(id), &(struct mesa_take){0}, NULL, on_taken, &calls);
    CHECK_EQ_INT(calls, 1);
    return taken;
}

static void put_back(const char *id, size_t first)
{
    const struct mesa_backlog backlog = {
        .json = kept + first, .stamps = kept_ms + first, .count = kept_count - first};
    b->ops->put_back(b, span(id), &backlog);
}

TEST(a_backlog_is_taken_whole_oldest_first_and_once)
{
    begin();
    store("a", "1");
    store("b", "x");
    store("a", "2");
    CHECK_EQ_STR(take("a"), "1 2 ");
    CHECK_EQ_STR(take("a"), "");
    CHECK_EQ_STR(take("b"), "x ");
    CHECK_EQ_STR(dropped, "");
    end();
}

TEST(too_many_push_out_the_oldest)
{
    begin();
    for (const char *const *json = (const char *[]){"1", "2", "3", "4", "5", NULL}; *json; json++)
        store("a", *json);
    CHECK_EQ_STR(dropped, "a:1 a:2 ");
    CHECK_EQ_STR(take("a"), "3 4 5 ");
    end();
}

TEST(too_many_bytes_push_out_the_oldest)
{
    char half[61];
    memset(half, 'h', 60);
    half[60] = '\0';
    begin();
    store("a", "1");
    store("a", half);
    CHECK_EQ_STR(dropped, "");
    store("a", half);
    CHECK(strncmp(dropped, "a:1 a:hhh", 9) == 0);
    take("a");
    CHECK_EQ_INT(kept_count, 1);
    end();
}

TEST(a_message_over_the_bound_does_not_push_out_the_others)
{
    char big[102];
    memset(big, 'x', 101);
    big[101] = '\0';
    begin();
    store("a", "1");
    store("a", big);
    CHECK_EQ_INT(stored, 1);
    CHECK(strncmp(dropped, "a:xxx", 5) == 0);
    CHECK_EQ_STR(take("a"), "1 ");
    end();
}

TEST(the_old_are_not_delivered)
{
    begin();
    store("a", "old");
    fake_advance(600);
    store("a", "young");
    fake_advance(500);
    CHECK_EQ_STR(take("a"), "young ");
    CHECK_EQ_STR(dropped, "a:old ");
    end();
}

TEST(the_sweep_drops_what_nobody_asks_for)
{
    begin();
    store("a", "1");
    store("b", "2");
    fake_advance(60000);
    CHECK_EQ_STR(dropped, "a:1 b:2 ");
    end(); /* and no timer is left, or fake_end complains */
}

TEST(what_is_put_back_is_first_again)
{
    begin();
    store("a", "1");
    store("a", "2");
    take("a");
    store("a", "3");
    put_back("a", 1);
    CHECK_EQ_STR(take("a"), "2 3 ");
    put_back("nobody", kept_count); /* nothing */
    CHECK_EQ_STR(take("nobody"), "");
    end();
}

TEST(what_is_put_back_keeps_its_age)
{
    begin();
    store("a", "1");
    fake_advance(600);
    take("a");
    put_back("a", 0);
    fake_advance(500);
    CHECK_EQ_STR(take("a"), "");
    CHECK_EQ_STR(dropped, "a:1 ");
    end();
}

TEST(putting_back_holds_the_bounds)
{
    begin();
    store("a", "1");
    store("a", "2");
    take("a");
    store("a", "3");
    store("a", "4");
    put_back("a", 0);
    CHECK_EQ_STR(dropped, "a:1 ");
    CHECK_EQ_STR(take("a"), "2 3 4 ");
    end();
}

TEST(the_hook_may_store_again)
{
    begin();
    cfg.sync.max_messages = 1;
    store("a", "1");
    store_when_dropped = true;
    store("a", "2");
    CHECK_EQ_STR(dropped, "a:1 a:2 ");
    CHECK_EQ_STR(take("a"), "again ");
    end();
}

TEST(what_was_taken_or_is_not_to_be_kept_is_not)
{
    struct mesa_frame *f;
    struct mesa_span ids[] = {span("a"), span("b")};
    bool was_taken[] = {true, false};
    begin();
    mesa_frame_new(&f, MESA_WS_TEXT, "1", 1);
    struct mesa_publication p = {.frame = f, .ids = ids, .taken = was_taken, .id_count = 2};
    b->ops->send(b, &p);
    CHECK_EQ_INT(stored, 0);
    p.sync = true;
    b->ops->send(b, &p);
    CHECK_EQ_INT(stored, 1);
    CHECK_EQ_STR(take("a"), "");
    CHECK_EQ_STR(take("b"), "1 ");
    mesa_frame_unref(f);
    end();
}
