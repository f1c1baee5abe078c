/* reentry_test.c - hooks that do whatever a script may do, from inside everything the server does.
 *
 * Each hook and each operation of the broker closes clients, gives them other users, sends, or frees
 * the server. What a sanitizer would see is that something was held across such a call; what is
 * checked here is that the broker knows in the end who is online. The numbers are pseudo-random with
 * fixed seeds: a failure comes back.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "app.h"
#include "fake_broker.h"

enum { CONNS = 8, STEPS = 3000, SEEDS = 24, NESTED_MAX = 3 };

static uint32_t state;
static int nested;
static bool may_free;
static struct mesa_conn *conns[CONNS];

static const char *const ids[] = {"a user with a long name, of its own length", "b",
                                  "another user, c"};
enum { IDS = sizeof ids / sizeof ids[0] };

static uint32_t rnd(uint32_t below)
{
    state = state * 1664525u + 1013904223u;
    return (state >> 8) % below;
}

static const char *any_id(void)
{
    return ids[rnd(IDS)];
}

static struct mesa_client *any_client(void)
{
    struct mesa_client *c = NULL;
    for (uint32_t i = 1 + rnd(CONNS); i-- > 0;) {
        struct mesa_client *next = mesa_server_next(app.server, c);
        if (next == NULL)
            break;
        c = next;
    }
    return c;
}

static void send_to_many(void)
{
    struct mesa_frame *f = app_frame("\"to many\"");
    struct mesa_span to[IDS];
    for (int i = 0; i < IDS; i++)
        to[i] = app_span(ids[i]);
    mesa_server_send(app.server, f, &(struct mesa_recipients){.ids = to, .id_count = IDS},
                     rnd(2) == 0, NULL, NULL);
    mesa_frame_unref(f);
}

static void from_elsewhere(void)
{
    if (fake_cluster.broker == NULL)
        return;
    switch (rnd(6)) {
    case 0:
        fake_cluster_deliver(any_id(), "\"from elsewhere\"", rnd(3));
        break;
    case 1:
        fake_cluster_kept(any_id());
        break;
    case 2:
        fake_cluster_gap();
        break;
    case 3:
        fake_cluster_available(rnd(2) == 0);
        break;
    case 4:
        fake_cluster_dropped(any_id());
        break;
    default:
        fake_cluster_error();
    }
}

static void free_server(void)
{
    mesa_server_free(app.server);
    app.server = NULL;
}

/* What a listener may do to any client. */
static void do_something(void)
{
    if (app.server == NULL || nested == NESTED_MAX)
        return;
    struct mesa_client *c = any_client();
    if (c == NULL)
        return;
    nested++;
    mesa_client_ref(c);
    switch (rnd(12)) {
    case 0:
        app_broadcast("\"to everybody\"");
        break;
    case 1:
        app_send(c, "\"to one\"");
        break;
    case 2:
        app_send_to(any_id(), "\"to a user\"");
        break;
    case 3:
        send_to_many();
        break;
    case 4:
        mesa_client_disconnect(c, 3000, MESA_SPAN("random"));
        break;
    case 5:
    case 6:
        mesa_client_update(c, app_span(any_id()));
        break;
    case 7:
    case 8:
        mesa_client_accept(c, 1 + rnd(3), app_span(any_id()), MESA_SPAN("{\"id\":1}"));
        break;
    case 9:
        mesa_client_refuse(c, 1 + rnd(3));
        break;
    case 10:
        mesa_server_disconnect(app.server,
                               &(struct mesa_recipients){
                                   .ids = (struct mesa_span[]){app_span(any_id())}, .id_count = 1},
                               rnd(2) == 0);
        break;
    default:
        if (may_free && rnd(40) == 0)
            free_server();
    }
    mesa_client_unref(c);
    nested--;
}

static void sometimes(void)
{
    if (rnd(3) == 0)
        do_something();
}

static void on_client(struct mesa_client *c)
{
    (void)c;
    sometimes();
}

static void on_message(struct mesa_client *c, struct mesa_span d)
{
    (void)c;
    (void)d;
    sometimes();
}

/* What the broker calls from inside its operations is an error, mostly. */
static void inside(void)
{
    if (app.server == NULL || fake_cluster.broker == NULL || nested == NESTED_MAX || rnd(6) != 0)
        return;
    nested++;
    fake_cluster.send_rc = rnd(5) == 0 ? MESA_EUNAVAILABLE : MESA_OK;
    if (rnd(2) == 0)
        fake_cluster_error();
    else
        fake_cluster_dropped(any_id());
    nested--;
    do_something();
}

static void step(void)
{
    static const char *const texts[] = {"{\"op\":0,\"d\":1}", "{\"op\":2,\"d\":{}}",
                                        "{\"op\":2,\"d\":{\"shouldSync\":false}}", "nonsense"};
    static const char *const kept[] = {"{\"op\":0,\"d\":1}", "{\"op\":0,\"d\":\"two\"}",
                                       "{\"op\":0,\"d\":[3]}"};
    uint32_t i = rnd(CONNS);
    struct mesa_conn *c = conns[i];
    if (c == NULL || fake_gone(c)) {
        conns[i] = fake_connect();
        return;
    }
    switch (rnd(12)) {
    case 0:
        fake_stall(c);
        break;
    case 1:
        fake_drain(c);
        break;
    case 2:
        if (rnd(4) == 0)
            fake_leave(c, 1001);
        break;
    case 3:
        fake_advance(rnd(30));
        break;
    case 4:
        fake_turn();
        break;
    case 5:
        fake_pong(c);
        break;
    case 6:
        if (fake_cluster.broker != NULL)
            fake_cluster_answer(rnd(6) == 0 ? MESA_EIO : MESA_OK, kept, rnd(4));
        break;
    case 7:
        from_elsewhere();
        break;
    case 8:
        do_something();
        break;
    default:
        fake_receive(c, texts[rnd(rnd(8) == 0 ? 4 : 3)]);
    }
}

static void start(uint32_t seed)
{
    fake_cluster_begin();
    app_begin();
    app.authenticates = true;
    app.on_message = on_message;
    app.on_connection = app.on_disconnect = app.on_error = app.on_authenticated = on_client;
    app.cfg.redis.enabled = seed % 4 != 0;
    app.cfg.portal.enabled = app.cfg.redis.enabled && seed % 3 == 0;
    app.cfg.sync.enabled = seed % 8 != 1;
    app.cfg.sync.redelivery_interval_ms = seed % 2 * 5;
    app.cfg.sync.max_messages = 5;
    app.cfg.heartbeat.enabled = true;
    app.cfg.heartbeat.interval_ms = 40;
    app.cfg.authentication.disconnect_on_fail = seed % 3 == 0;
    app.cfg.authentication.timeout_ms = 300;
    app.cfg.limits.max_backpressure = 220;
    app_start();
    fake_cluster.inside = inside;
}

/* In the end the broker knows of those who are here, and of nobody else. */
static void check_presence(void)
{
    size_t users = 0;
    if (fake_cluster.broker == NULL)
        return;
    for (int i = 0; i < IDS; i++) {
        bool here = mesa_server_next_of(app.server, app_span(ids[i]), NULL) != NULL;
        CHECK_EQ_INT(fake_cluster_online(app_span(ids[i])), here);
        users += here;
    }
    CHECK_EQ_INT(fake_cluster_online_count(), users);
}

static void run(uint32_t seed, bool freeing)
{
    state = seed * 7919;
    nested = 0;
    may_free = freeing;
    memset(conns, 0, sizeof conns);
    start(seed);
    for (int i = 0; i < STEPS && app.server != NULL; i++) {
        step();
        app_log();
        fake_cluster.log[0] = '\0';
        if (app.server != NULL)
            check_presence();
    }
    fake_cluster.inside = NULL;
    app.on_message = NULL;
    app.on_connection = app.on_disconnect = app.on_error = app.on_authenticated = NULL;
    fake_turn();
    app_end();
}

TEST(hooks_may_do_anything_to_any_client)
{
    for (uint32_t seed = 1; seed <= SEEDS; seed++)
        run(seed, false);
}

TEST(hooks_may_free_the_server)
{
    for (uint32_t seed = 1; seed <= SEEDS; seed++)
        run(seed, true);
}
