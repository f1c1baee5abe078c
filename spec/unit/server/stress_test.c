/* stress_test.c - long random histories: whatever clients and handlers do, memory stays sound,
 * counts stay true, and nobody gets a message twice, torn or out of order. The numbers are
 * pseudo-random with fixed seeds: a failure comes back.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "app.h"

enum { CONNS = 12, STEPS = 10000, SEEDS = 12 };

static uint32_t state;

static uint32_t rnd(uint32_t below)
{
    state = state * 1664525u + 1013904223u;
    return (state >> 8) % below;
}

static struct mesa_conn *conns[CONNS];
static int last_seen[CONNS]; /* the newest broadcast each connection saw */
static int broadcasts;

static const char *const ids[] = {"a", "b", "c"};

static void do_something(struct mesa_client *c);

static void on_message(struct mesa_client *c, struct mesa_span d)
{
    (void)d;
    do_something(c);
}

static void on_disconnect(struct mesa_client *c)
{
    (void)c;
    if (rnd(4) == 0)
        app_send_to(ids[rnd(3)], "\"left\"");
}

static struct mesa_client *any_client(void)
{
    struct mesa_client *c = NULL;
    for (uint32_t i = rnd(CONNS); i-- > 0 || c == NULL;) {
        c = mesa_server_next(app.server, c);
        if (c == NULL)
            return NULL;
    }
    return c;
}

static void broadcast(void)
{
    char d[32];
    snprintf(d, sizeof d, "{\"n\":%d}", ++broadcasts);
    app_broadcast(d);
}

/* What a handler may do to any client, also from inside other handlers. */
static void do_something(struct mesa_client *c)
{
    switch (rnd(9)) {
    case 0:
        broadcast();
        break;
    case 1:
        app_send(c, "\"unicast\"");
        break;
    case 2:
        app_send_to(ids[rnd(3)], "\"to id\"");
        break;
    case 3:
        if (rnd(4) == 0)
            mesa_client_disconnect(c, 3000, MESA_SPAN("random"));
        break;
    case 4:
        mesa_client_update(c, app_span(ids[rnd(3)]));
        break;
    case 5:
        mesa_client_accept(c, 1 + rnd(2), app_span(ids[rnd(3)]), MESA_SPAN("{}"));
        break;
    case 6:
        if (rnd(6) == 0)
            mesa_client_refuse(c, 1 + rnd(2));
        break;
    case 7:
        mesa_client_pause(c);
        break;
    default:
        mesa_client_resume(c);
    }
}

static void read_all(int i)
{
    int n;
    for (const char *got = fake_next(conns[i]); got[0] != '\0'; got = fake_next(conns[i])) {
        if (sscanf(got, "{\"op\":0,\"d\":{\"n\":%d}}", &n) != 1)
            continue;
        CHECK(n > last_seen[i]);
        last_seen[i] = n;
    }
}

static void step(void)
{
    static const char *const texts[] = {"{\"op\":0,\"d\":1}",
                                        "{\"op\":0,\"d\":1}",
                                        "{\"op\":0,\"d\":1}",
                                        "{\"op\":2,\"d\":{}}",
                                        "{\"op\":2,\"d\":{\"shouldSync\":false}}",
                                        "{\"op\":1}",
                                        "{\"op\":11}",
                                        "nonsense"};
    uint32_t i = rnd(CONNS);
    struct mesa_conn *c = conns[i];
    struct mesa_client *client;
    if (c == NULL || fake_gone(c)) {
        conns[i] = fake_connect();
        last_seen[i] = broadcasts;
        return;
    }
    switch (rnd(8)) {
    case 0:
        fake_stall(c);
        break;
    case 1:
        fake_drain(c);
        break;
    case 2:
        if (rnd(5) == 0)
            fake_leave(c, 1001);
        break;
    case 3:
        fake_advance(rnd(8));
        break;
    case 4:
        fake_turn();
        break;
    case 5:
        client = any_client();
        if (client != NULL)
            do_something(client);
        break;
    default:
        fake_receive(c, texts[rnd(rnd(10) == 0 ? 8 : 7)]);
    }
    read_all((int)i);
}

static void run(uint32_t seed)
{
    state = seed;
    broadcasts = 0;
    memset(conns, 0, sizeof conns);
    app_begin();
    app.authenticates = true;
    app.on_message = on_message;
    app.on_disconnect = on_disconnect;
    app.cfg.sync.enabled = true;
    app.cfg.sync.redelivery_interval_ms = seed % 2 * 7;
    app.cfg.sync.max_messages = 20;
    app.cfg.heartbeat.enabled = true;
    app.cfg.heartbeat.interval_ms = 50;
    app.cfg.authentication.timeout_ms = 500;
    app.cfg.authentication.disconnect_on_fail = seed % 3 == 0;
    app.cfg.limits.max_backpressure = 250;
    app.cfg.limits.idle_timeout_ms = 400;
    app.cfg.store_messages = 3;
    app_start();
    for (int i = 0; i < STEPS; i++) {
        step();
        app_log();
    }

    fake_turn();
    size_t open = 0;
    for (struct mesa_client *c = NULL; (c = mesa_server_next(app.server, c)) != NULL; open++)
        CHECK(!mesa_client_closed(c));
    CHECK_EQ_INT(mesa_server_client_count(app.server), open);
    if (seed % 2 == 0) {
        mesa_server_close(app.server, 1001, "end", 50);
        fake_advance(12000);
        CHECK(strstr(app_log(), "closed\n") != NULL);
        CHECK_EQ_INT(mesa_server_metrics(app.server)->connections_open, 0);
    }
    app_end();
}

TEST(random_histories_keep_the_server_sound)
{
    for (uint32_t seed = 1; seed <= SEEDS; seed++)
        run(seed);
}
