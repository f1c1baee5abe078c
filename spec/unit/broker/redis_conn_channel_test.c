/* redis_conn_channel_test.c - subscribers: channels are kept, restored and drained fast. */
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "redis_fixture.h"
#include "test.h"

static struct redis_child child;
static struct seen sub, pub;

static bool begin(const char *const *args)
{
    seen_init(&sub);
    seen_init(&pub);
    if (!fixture_redis_start(&child, args))
        return false;
    mesa_redis_options_set(&sub.options.path, child.socket);
    mesa_redis_options_set(&pub.options.path, child.socket);
    seen_open(&sub, MESA_REDIS_SUBSCRIBER);
    seen_open(&pub, MESA_REDIS_COMMANDS);
    return true;
}

static void end(void)
{
    seen_close(&sub);
    seen_close(&pub);
    fixture_redis_remove(&child);
    mesa_loop_free(loop);
    loop = NULL;
}

TEST(messages_of_subscribed_channels_arrive)
{
    CHECK_OR_RETURN(begin(NULL));
    CHECK_EQ_INT(mesa_redis_subscribe(sub.redis, MESA_SPAN("a")), MESA_OK);
    CHECK(WAIT_FOR(sub.ready, 1));
    CHECK_EQ_INT(sub.subscribed, 1); /* before it was ready */
    CHECK(mesa_redis_subscribed(sub.redis, MESA_SPAN("a")));
    CHECK_EQ_INT(mesa_redis_subscribe(sub.redis, MESA_SPAN("b")), MESA_OK);
    CHECK_EQ_INT(mesa_redis_subscribe(sub.redis, MESA_SPAN("b")), MESA_OK);
    CHECK(!mesa_redis_subscribed(sub.redis, MESA_SPAN("b")));
    CHECK(WAIT_FOR(sub.subscribed, 2));
    CHECK(WAIT_FOR(pub.ready, 1));
    seen_command(&pub, "PUBLISH a one");
    CHECK(WAIT_FOR(sub.messages, 1));
    CHECK_EQ_STR(sub.channel, "a");
    CHECK_EQ_STR(sub.payload, "one");
    seen_command(&pub, "PUBLISH b two");
    CHECK(WAIT_FOR(sub.messages, 2));
    CHECK_EQ_STR(sub.channel, "b");
    CHECK_EQ_INT(seen_command(&sub, "PING"), MESA_EINVAL);
    end();
}

TEST(a_channel_may_be_left_and_joined_again_at_once)
{
    CHECK_OR_RETURN(begin(NULL));
    CHECK(WAIT_FOR(sub.ready, 1));
    CHECK(WAIT_FOR(pub.ready, 1));
    for (int i = 0; i < 20; i++) {
        mesa_redis_subscribe(sub.redis, MESA_SPAN("a"));
        mesa_redis_unsubscribe(sub.redis, MESA_SPAN("a"));
    }
    mesa_redis_subscribe(sub.redis, MESA_SPAN("a"));
    CHECK(WAIT_FOR(sub.subscribed, 1));
    seen_command(&pub, "PUBLISH a one");
    CHECK(WAIT_FOR(sub.messages, 1));
    CHECK_EQ_INT(sub.subscribed, 1); /* the last one only */

    mesa_redis_unsubscribe(sub.redis, MESA_SPAN("a"));
    mesa_redis_unsubscribe(sub.redis, MESA_SPAN("never"));
    seen_command(&pub, "PUBLISH a two");
    CHECK(WAIT_FOR(pub.ok, 2));
    run_for(20);
    CHECK_EQ_INT(sub.messages, 1);
    CHECK_EQ_INT(sub.lost, 0);
    end();
}

TEST(channels_come_back_with_redis)
{
    CHECK_OR_RETURN(begin(NULL));
    for (int i = 0; i < 300; i++) {
        char name[16];
        int n = snprintf(name, sizeof name, "c%d", i);
        mesa_redis_subscribe(sub.redis, (struct mesa_span){name, (size_t)n});
    }
    CHECK(WAIT_FOR(sub.ready, 1));
    CHECK_EQ_INT(sub.subscribed, 300);
    for (int round = 1; round <= 3; round++) {
        fixture_redis_stop(&child, SIGKILL);
        CHECK(WAIT_FOR(sub.lost, round));
        CHECK(WAIT_FOR(pub.lost, round));
        mesa_redis_unsubscribe(sub.redis, MESA_SPAN("c0"));
        mesa_redis_subscribe(sub.redis, MESA_SPAN("new"));
        CHECK_OR_RETURN(fixture_redis_start(&child, NULL));
        CHECK(WAIT_FOR(sub.ready, round + 1));
        CHECK(WAIT_FOR(pub.ready, round + 1));
        CHECK_EQ_INT(sub.subscribed, 300 + 300 * round);
        seen_command(&pub, "PUBLISH c0 x");
        seen_command(&pub, "PUBLISH c299 x");
        seen_command(&pub, "PUBLISH new x");
        CHECK(WAIT_FOR(sub.messages, 2 * round));
    }
    end();
}

TEST(a_silent_subscriber_is_kept_by_pings)
{
    CHECK_OR_RETURN(begin(NULL));
    seen_close(&sub);
    seen_init(&sub);
    mesa_redis_options_set(&sub.options.path, child.socket);
    sub.options.keepalive_ms = sub.options.command_timeout_ms = 60;
    seen_open(&sub, MESA_REDIS_SUBSCRIBER);
    mesa_redis_subscribe(sub.redis, MESA_SPAN("a"));
    CHECK(WAIT_FOR(sub.ready, 1));
    run_for(400);
    CHECK_EQ_INT(sub.lost, 0);
    kill(child.pid, SIGSTOP);
    CHECK(WAIT_FOR(sub.lost, 1));
    kill(child.pid, SIGCONT);
    CHECK(WAIT_FOR(sub.ready, 2));
    CHECK(mesa_redis_subscribed(sub.redis, MESA_SPAN("a")));
    end();
}

enum { FLOOD = 4000, FLOOD_BYTES = 16384 };

/* Less than the flood, which a subscriber that reads only as fast as it works would leave with Redis; enough for a
 * machine that lets Redis run alone for a while. */
static const char *const small_buffer[] = {
    "--client-output-buffer-limit", "pubsub", "24mb", "0", "0", NULL};

static void publish_flood(int count)
{
    static char payload[FLOOD_BYTES];
    memset(payload, 'x', sizeof payload);
    mesa_redis_subscribe(sub.redis, MESA_SPAN("a"));
    CHECK(WAIT_FOR(sub.ready, 1));
    CHECK(WAIT_FOR(pub.ready, 1));
    struct mesa_span publish[] = {MESA_SPAN("PUBLISH"), MESA_SPAN("a"), {payload, FLOOD_BYTES}};
    for (int i = 0; i < count; i++) {
        CHECK_EQ_INT(mesa_redis_command(pub.redis, 3, publish, seen_on_reply, &pub), MESA_OK);
        if (i % 16 == 15)
            uv_run(mesa_loop_uv(loop), UV_RUN_NOWAIT);
    }
}

TEST(a_flood_is_drained_before_redis_cuts_the_subscriber_off)
{
    CHECK_OR_RETURN(begin(small_buffer));
    publish_flood(FLOOD);
    CHECK(WAIT_FOR(sub.messages, FLOOD));
    CHECK_EQ_INT(sub.message_bytes, (long long)FLOOD * FLOOD_BYTES);
    CHECK_EQ_INT(sub.lost, 0);
    end();
}

static uint64_t last_tick, longest;

static void on_tick(struct mesa_timer *t)
{
    uint64_t now = uv_hrtime() / 1000000;
    if (last_tick != 0 && now - last_tick > longest)
        longest = now - last_tick;
    last_tick = now;
    mesa_loop_arm(loop, t, 1);
}

TEST(slow_work_on_messages_neither_fills_redis_nor_stalls_the_loop)
{
    struct mesa_timer tick;
    CHECK_OR_RETURN(begin(small_buffer));
    sub.message_us = 400;
    mesa_timer_init(&tick, on_tick);
    last_tick = longest = 0;
    on_tick(&tick);
    publish_flood(FLOOD);
    CHECK(WAIT_FOR(sub.messages, FLOOD));
    CHECK_EQ_INT(sub.lost, 0);
    mesa_loop_cancel(loop, &tick);
    if (!CHECK(longest < 500))
        printf("a turn took %d ms\n", (int)longest);
    end();
}

TEST(a_channel_that_is_not_allowed_is_told)
{
    static const char *const args[] = {"--user", "bob",           "on", ">pw", "~*",
                                       "+@all",  "resetchannels", "&a", NULL};
    CHECK_OR_RETURN(begin(args));
    seen_close(&sub);
    seen_init(&sub);
    mesa_redis_options_set(&sub.options.path, child.socket);
    mesa_redis_options_set(&sub.options.user, "bob");
    mesa_redis_options_set(&sub.options.password, "pw");
    seen_open(&sub, MESA_REDIS_SUBSCRIBER);
    mesa_redis_subscribe(sub.redis, MESA_SPAN("b"));
    CHECK(WAIT_FOR(sub.lost, 1));
    CHECK(strstr(sub.reason, "SUBSCRIBE: NOPERM") != NULL);
    CHECK_EQ_INT(sub.ready, 0);
    end();
}

TEST(a_subscriber_may_be_freed_while_it_receives)
{
    CHECK_OR_RETURN(begin(NULL));
    sub.free_on_message = true;
    mesa_redis_subscribe(sub.redis, MESA_SPAN("a"));
    CHECK(WAIT_FOR(sub.ready, 1));
    CHECK(WAIT_FOR(pub.ready, 1));
    for (int i = 0; i < 10; i++)
        seen_command(&pub, "PUBLISH a x");
    CHECK(WAIT_FOR(pub.ok, 10));
    run_for(20);
    CHECK_EQ_INT(sub.messages, 1);
    CHECK(sub.redis == NULL);
    end();
}
