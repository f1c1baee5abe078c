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
    sub.options.keepalive_ms = sub.options.command_timeout_ms = 500;
    seen_open(&sub, MESA_REDIS_SUBSCRIBER);
    mesa_redis_subscribe(sub.redis, MESA_SPAN("a"));
    CHECK(WAIT_FOR(sub.ready, 1));
    run_for(1800);
    CHECK_EQ_INT(sub.lost, 0);
    kill(child.pid, SIGSTOP);
    CHECK(WAIT_FOR(sub.lost, 1));
    kill(child.pid, SIGCONT);
    CHECK(WAIT_FOR(sub.ready, 2));
    CHECK(mesa_redis_subscribed(sub.redis, MESA_SPAN("a")));
    end();
}

enum { FLOOD = 2000, FLOOD_BYTES = 16384 };

static int ticks;

static void on_tick(struct mesa_timer *t)
{
    ticks++;
    mesa_loop_arm(loop, t, 1);
}

/* Whether Redis has nothing more to send to its subscriber. */
static bool redis_is_empty(void)
{
    seen_command(&pub, "CLIENT LIST TYPE pubsub");
    if (!WAIT_FOR(pub.ok, pub.ok + 1))
        return true; /* reported */
    return strstr(pub.text, " omem=0 ") != NULL;
}

TEST(slow_work_on_messages_neither_fills_redis_nor_stalls_the_loop)
{
    static const char *const large_buffer[] = {
        "--client-output-buffer-limit", "pubsub", "0", "0", "0", NULL};
    struct mesa_timer tick;
    CHECK_OR_RETURN(begin(large_buffer));
    sub.message_us = 1000;
    mesa_redis_subscribe(sub.redis, MESA_SPAN("a"));
    CHECK(WAIT_FOR(sub.ready, 1));
    CHECK(WAIT_FOR(pub.ready, 1));
    struct mesa_span flood[] = {
        MESA_SPAN("EVAL"),
        MESA_SPAN("for i = 1, 2000 do redis.call('PUBLISH', 'a', string.rep('x', 16384)) end"),
        MESA_SPAN("0")};
    CHECK_EQ_INT(mesa_redis_command(pub.redis, 3, flood, seen_on_reply, &pub), MESA_OK);
    CHECK_OR_RETURN(WAIT_FOR(pub.ok, 1));
    while (!redis_is_empty())
        continue;
    /* a subscriber that reads only as fast as it works has nearly all the work done by then */
    if (!CHECK(sub.messages < FLOOD * 3 / 4))
        printf("%d of %d messages were worked on before Redis was empty\n", sub.messages, FLOOD);
    int left = FLOOD - sub.messages;
    ticks = 0;
    mesa_timer_init(&tick, on_tick);
    on_tick(&tick);
    CHECK(WAIT_FOR(sub.messages, FLOOD));
    CHECK_EQ_INT(sub.message_bytes, (long long)FLOOD * FLOOD_BYTES);
    CHECK_EQ_INT(sub.lost, 0);
    mesa_loop_cancel(loop, &tick);
    if (!CHECK(ticks > left / 100)) /* a slice of work is some ten messages */
        printf("%d turns of the loop while %d messages were worked on\n", ticks, left);
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
