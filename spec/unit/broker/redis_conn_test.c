/* redis_conn_test.c - a connection to a real redis-server: commands, login, loss and return. */
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "redis_fixture.h"
#include "test.h"

static struct redis_child child;
static struct seen s;

static bool begin(const char *const *args)
{
    seen_init(&s);
    s.options.port = child.port;
    if (!fixture_redis_start(&child, args))
        return false;
    return mesa_redis_options_set(&s.options.path, child.socket) == MESA_OK;
}

static void end(void)
{
    seen_close(&s);
    fixture_redis_remove(&child);
    mesa_loop_free(loop);
    loop = NULL;
}

TEST(commands_are_answered_in_order_with_every_type)
{
    CHECK_OR_RETURN(begin(NULL));
    seen_open(&s, MESA_REDIS_COMMANDS);
    CHECK_EQ_INT(seen_command(&s, "PING"), MESA_ECLOSED);
    CHECK(WAIT_FOR(s.ready, 1));
    CHECK(mesa_redis_ready(s.redis));
    CHECK_EQ_STR(mesa_redis_address(s.redis), child.socket);

    CHECK_EQ_INT(seen_command(&s, "SET k value"), MESA_OK);
    CHECK_EQ_INT(s.ok, 0);
    CHECK(WAIT_FOR(s.ok, 1));
    CHECK(s.type == MESA_REDIS_STATUS);
    CHECK_EQ_STR(s.text, "OK");
    seen_command(&s, "GET k");
    CHECK(WAIT_FOR(s.ok, 2));
    CHECK(s.type == MESA_REDIS_STRING);
    CHECK_EQ_STR(s.text, "value");
    seen_command(&s, "INCR n");
    CHECK(WAIT_FOR(s.ok, 3));
    CHECK(s.type == MESA_REDIS_INTEGER && s.integer == 1);
    seen_command(&s, "GET none");
    CHECK(WAIT_FOR(s.ok, 4));
    CHECK(s.type == MESA_REDIS_NIL);
    seen_command(&s, "INCR k");
    CHECK(WAIT_FOR(s.ok, 5));
    CHECK(s.type == MESA_REDIS_ERROR);
    CHECK_EQ_STR(s.text, "ERR value is not an integer or out of range");
    seen_command(&s, "MGET k n");
    CHECK(WAIT_FOR(s.ok, 6));
    CHECK(s.type == MESA_REDIS_ARRAY);
    CHECK_EQ_INT(mesa_redis_pending(s.redis), 0);
    CHECK_EQ_INT(s.lost + s.closed, 0);
    end();
}

static char big[3 << 20];
static size_t got_bytes;

static void on_big(void *ctx, enum mesa_status rc, const struct mesa_redis_reply *reply)
{
    (void)rc;
    got_bytes = mesa_redis_reply_string(reply).len;
    ++*(int *)ctx;
}

TEST(binary_and_large_values_survive)
{
    CHECK_OR_RETURN(begin(NULL));
    seen_open(&s, MESA_REDIS_COMMANDS);
    CHECK(WAIT_FOR(s.ready, 1));
    struct mesa_span set[] = {MESA_SPAN("SET"), MESA_SPAN("a\0b\r\n"), {big, sizeof big}};
    struct mesa_span get[] = {MESA_SPAN("GET"), MESA_SPAN("a\0b\r\n")};
    struct mesa_span empty[] = {MESA_SPAN("SET"), {NULL, 0}, MESA_SPAN("x")};
    int replies = 0;
    CHECK_EQ_INT(mesa_redis_command(s.redis, 3, set, NULL, NULL), MESA_OK);
    CHECK_EQ_INT(mesa_redis_command(s.redis, 2, get, on_big, &replies), MESA_OK);
    CHECK_EQ_INT(mesa_redis_command(s.redis, 3, empty, seen_on_reply, &s), MESA_OK);
    CHECK(WAIT_FOR(s.ok, 1));
    CHECK_EQ_INT(replies, 1);
    CHECK_EQ_INT(got_bytes, sizeof big);
    CHECK_EQ_STR(s.text, "OK");
    end();
}

TEST(output_is_bounded)
{
    CHECK_OR_RETURN(begin(NULL));
    s.options.output_limit = 1 << 20;
    seen_open(&s, MESA_REDIS_COMMANDS);
    CHECK(WAIT_FOR(s.ready, 1));
    struct mesa_span set[] = {MESA_SPAN("SET"), MESA_SPAN("k"), {big, 600000}};
    CHECK_EQ_INT(mesa_redis_command(s.redis, 3, set, seen_on_reply, &s), MESA_OK);
    CHECK_EQ_INT(mesa_redis_command(s.redis, 3, set, seen_on_reply, &s), MESA_EAGAIN);
    CHECK(WAIT_FOR(s.ok, 1));
    CHECK_EQ_INT(mesa_redis_command(s.redis, 3, set, seen_on_reply, &s), MESA_OK);
    CHECK(WAIT_FOR(s.ok, 2));
    end();
}

TEST(commands_that_change_how_replies_come_are_refused)
{
    static const char *const words[] = {"SUBSCRIBE a", "psubscribe a",     "MONITOR",
                                        "Hello 3",     "CLIENT REPLY OFF", "RESET",
                                        "SYNC",        "UNSUBSCRIBE"};
    CHECK_OR_RETURN(begin(NULL));
    seen_open(&s, MESA_REDIS_COMMANDS);
    for (size_t i = 0; i < sizeof words / sizeof words[0]; i++)
        CHECK_EQ_INT(seen_command(&s, words[i]), MESA_EINVAL);
    CHECK_EQ_INT(mesa_redis_command(s.redis, 0, NULL, NULL, NULL), MESA_EINVAL);
    CHECK_EQ_INT(mesa_redis_subscribe(s.redis, MESA_SPAN("a")), MESA_EINVAL);
    end();
}

TEST(user_password_database_and_name_are_in_place_before_use)
{
    static const char *const args[] = {"--user", "bob", "on", ">s3cret", "~*", "&*", "+@all", NULL};
    char uri[192];
    CHECK_OR_RETURN(begin(args));
    snprintf(uri, sizeof uri, "redis://bob:s%%33cret@127.0.0.1:%u/3", child.port);
    CHECK_EQ_INT(mesa_redis_options_set_uri(&s.options, uri, s.err, sizeof s.err), MESA_OK);
    mesa_redis_options_set(&s.options.name, "mesa-1");
    seen_open(&s, MESA_REDIS_COMMANDS);
    CHECK(WAIT_FOR(s.ready, 1));
    seen_command(&s, "CLIENT INFO");
    CHECK(WAIT_FOR(s.ok, 1));
    CHECK(strstr(s.text, " name=mesa-1 ") != NULL && strstr(s.text, " db=3 ") != NULL);
    seen_command(&s, "ACL WHOAMI");
    CHECK(WAIT_FOR(s.ok, 2));
    CHECK_EQ_STR(s.text, "bob");
    end();
}

static void expect_refusal(const char *text)
{
    seen_open(&s, MESA_REDIS_COMMANDS);
    CHECK(WAIT_FOR(s.lost, 1));
    if (!CHECK(strstr(s.reason, text) != NULL))
        printf("%s\n", s.reason);
}

TEST(a_wrong_password_is_told_and_retried_slowly)
{
    static const char *const args[] = {"--requirepass", "right", NULL};
    CHECK_OR_RETURN(begin(args));
    s.options.refused_retry_ms = 600;
    s.options.backoff_min_ms = s.options.backoff_max_ms = 10;
    mesa_redis_options_set(&s.options.password, "wr0ng");
    uint64_t start = uv_hrtime();
    expect_refusal("AUTH: WRONGPASS");
    CHECK(strstr(s.reason, "wr0ng") == NULL);

    /* the password is made right meanwhile */
    struct seen admin;
    seen_init(&admin);
    mesa_redis_options_set(&admin.options.path, child.socket);
    mesa_redis_options_set(&admin.options.password, "right");
    seen_open(&admin, MESA_REDIS_COMMANDS);
    CHECK(WAIT_FOR(admin.ready, 1));
    seen_command(&admin, "CONFIG SET requirepass wr0ng");
    CHECK(WAIT_FOR(s.ready, 1));
    CHECK((uv_hrtime() - start) / 1000000 >= 300);
    CHECK_EQ_INT(s.lost, 1);
    CHECK_EQ_INT(s.failed, 0);
    seen_close(&admin);
    end();
}

TEST(a_missing_password_and_a_wrong_database_are_told)
{
    static const char *const args[] = {"--requirepass", "right", NULL};
    CHECK_OR_RETURN(begin(args));
    expect_refusal("PING: NOAUTH");
    mesa_redis_free(s.redis);
    mesa_redis_options_set(&s.options.password, "right");
    s.options.db = 99;
    s.lost = 0;
    expect_refusal("SELECT: ERR DB index is out of range");
    end();
}

TEST(pending_commands_end_once_when_redis_is_killed_and_it_returns)
{
    CHECK_OR_RETURN(begin(NULL));
    seen_open(&s, MESA_REDIS_COMMANDS);
    CHECK(WAIT_FOR(s.ready, 1));
    for (int round = 1; round <= 5; round++) {
        int before = s.ok;
        s.closed = 0;
        CHECK_EQ_INT(seen_command(&s, "PING"), MESA_OK);
        CHECK(WAIT_FOR(s.ok, before + 1));
        CHECK_EQ_INT(seen_command(&s, "BLPOP nothing 60"), MESA_OK);
        for (int i = 0; i < 99; i++)
            CHECK_EQ_INT(seen_command(&s, "INCR n"), MESA_OK);
        run_for(10);
        fixture_redis_stop(&child, SIGKILL);
        CHECK(WAIT_FOR(s.lost, round));
        CHECK_EQ_INT(s.closed, 100);
        CHECK_EQ_INT(mesa_redis_pending(s.redis), 0);
        CHECK_EQ_INT(seen_command(&s, "PING"), MESA_ECLOSED);
        run_for(30);
        uint64_t start = uv_hrtime();
        CHECK_OR_RETURN(fixture_redis_start(&child, NULL));
        CHECK(WAIT_FOR(s.ready, round + 1));
        CHECK((uv_hrtime() - start) / 1000000 < 2000);
    }
    CHECK_EQ_INT(s.lost, 5);
    end();
}

TEST(freeing_ends_pending_commands_at_once)
{
    CHECK_OR_RETURN(begin(NULL));
    seen_open(&s, MESA_REDIS_COMMANDS);
    CHECK(WAIT_FOR(s.ready, 1));
    for (int i = 0; i < 10; i++)
        seen_command(&s, "PING");
    struct mesa_redis *redis = s.redis;
    s.redis = NULL;
    mesa_redis_free(redis);
    CHECK_EQ_INT(s.closed, 10);
    run_for(20);
    CHECK_EQ_INT(s.ok + s.lost, 0);
    end();
}

TEST(it_may_be_freed_in_any_callback)
{
    CHECK_OR_RETURN(begin(NULL));
    s.free_on_ready = true;
    seen_open(&s, MESA_REDIS_COMMANDS);
    CHECK(WAIT_FOR(s.ready, 1));
    CHECK(s.redis == NULL);

    s.free_on_ready = false;
    s.free_on_reply = true;
    seen_open(&s, MESA_REDIS_COMMANDS);
    CHECK(WAIT_FOR(s.ready, 2));
    for (int i = 0; i < 5; i++)
        seen_command(&s, "PING");
    CHECK(WAIT_FOR(s.ok, 1));
    CHECK(s.redis == NULL && s.closed == 4);

    seen_open(&s, MESA_REDIS_COMMANDS); /* freed while commands are failing */
    CHECK(WAIT_FOR(s.ready, 3));
    s.free_on_reply = true;
    s.closed = 0;
    seen_command(&s, "BLPOP nothing 60");
    for (int i = 0; i < 5; i++)
        seen_command(&s, "PING");
    run_for(10);
    fixture_redis_stop(&child, SIGKILL);
    CHECK(WAIT_FOR(s.closed, 6));
    CHECK(s.redis == NULL && s.lost == 0);

    s.free_on_lost = true;
    seen_open(&s, MESA_REDIS_COMMANDS);
    CHECK(WAIT_FOR(s.lost, 1));
    run_for(20);
    CHECK(s.redis == NULL && s.failed == 0);
    end();
}

TEST(a_redis_that_hangs_costs_the_connection_and_is_found_again)
{
    CHECK_OR_RETURN(begin(NULL));
    s.options.command_timeout_ms = 600;
    s.options.keepalive_ms = 400;
    seen_open(&s, MESA_REDIS_COMMANDS);
    CHECK(WAIT_FOR(s.ready, 1));
    seen_command(&s, "PING");
    CHECK(WAIT_FOR(s.ok, 1));

    kill(child.pid, SIGSTOP);
    seen_command(&s, "PING");
    CHECK(WAIT_FOR(s.lost, 1));
    CHECK(strstr(s.reason, "no reply within 600 ms") != NULL);
    CHECK_EQ_INT(s.closed, 1);
    run_for(400);
    kill(child.pid, SIGCONT);
    CHECK(WAIT_FOR(s.ready, 2));

    kill(child.pid, SIGSTOP); /* nothing is asked: silence alone must be noticed */
    CHECK(WAIT_FOR(s.lost, 2));
    kill(child.pid, SIGCONT);
    CHECK(WAIT_FOR(s.ready, 3));
    run_for(1300); /* and answered PINGs keep it */
    CHECK_EQ_INT(s.lost, 2);
    end();
}

TEST(a_turn_that_takes_long_does_not_cost_the_connection)
{
    CHECK_OR_RETURN(begin(NULL));
    s.options.command_timeout_ms = 500;
    seen_open(&s, MESA_REDIS_COMMANDS);
    CHECK(WAIT_FOR(s.ready, 1));
    usleep(700000);
    seen_command(&s, "PING");
    usleep(700000);
    CHECK(WAIT_FOR(s.ok, 1));
    seen_command(&s, "PING");
    uv_run(mesa_loop_uv(loop), UV_RUN_NOWAIT);
    usleep(700000);
    CHECK(WAIT_FOR(s.ok, 2));
    CHECK_EQ_INT(s.lost, 0);
    end();
}

TEST(queued_commands_go_out_in_order_once_redis_is_there)
{
    CHECK_OR_RETURN(begin(NULL));
    fixture_redis_stop(&child, SIGKILL);
    s.options.queue_limit = 3;
    seen_open(&s, MESA_REDIS_COMMANDS);
    CHECK_EQ_INT(seen_command(&s, "RPUSH l a"), MESA_OK);
    CHECK_EQ_INT(seen_command(&s, "RPUSH l b"), MESA_OK);
    CHECK_EQ_INT(seen_command(&s, "LINDEX l -1"), MESA_OK);
    CHECK_EQ_INT(seen_command(&s, "RPUSH l c"), MESA_EAGAIN);
    CHECK_EQ_INT(mesa_redis_pending(s.redis), 3);
    CHECK(WAIT_FOR(s.lost, 1));
    CHECK_OR_RETURN(fixture_redis_start(&child, NULL));
    CHECK(WAIT_FOR(s.ok, 3));
    CHECK_EQ_STR(s.text, "b");

    fixture_redis_stop(&child, SIGKILL);
    CHECK(WAIT_FOR(s.lost, 2));
    CHECK_EQ_INT(seen_command(&s, "PING"), MESA_OK);
    struct mesa_redis *redis = s.redis;
    s.redis = NULL;
    mesa_redis_free(redis);
    CHECK_EQ_INT(s.closed, 1);
    end();
}

TEST(a_name_is_looked_up_and_each_of_its_addresses_tried)
{
    CHECK_OR_RETURN(begin(NULL));
    char uri[64];
    snprintf(uri, sizeof uri, "redis://localhost:%u",
             child.port); /* ::1 is refused, if it is there */
    CHECK_EQ_INT(mesa_redis_options_set_uri(&s.options, uri, s.err, sizeof s.err), MESA_OK);
    seen_open(&s, MESA_REDIS_COMMANDS);
    CHECK(WAIT_FOR(s.ready, 1));
    CHECK(strstr(mesa_redis_address(s.redis), "127.0.0.1:") != NULL);
    mesa_redis_free(s.redis);

    mesa_redis_options_set(&s.options.host, "no-such-host.invalid");
    seen_open(&s, MESA_REDIS_COMMANDS);
    CHECK(WAIT_FOR(s.lost, 1));
    CHECK(strstr(s.reason, "cannot look up no-such-host.invalid") != NULL);
    mesa_redis_free(s.redis);

    seen_open(&s, MESA_REDIS_COMMANDS); /* freed while the lookup is under way */
    uv_run(mesa_loop_uv(loop), UV_RUN_NOWAIT);
    end();
}
