/* redis_conn_sentinel_test.c - a master, its replica and a sentinel: found, followed, verified. */
#include <signal.h>
#include <stdio.h>
#include <string.h>

#include "redis_fixture.h"
#include "test.h"

static struct redis_child servers[2], sentinel;
static struct seen s;

static bool write_sentinel_conf(char *path, size_t len)
{
    /* the folder is made by a first, plain start */
    if (!fixture_redis_start(&sentinel, NULL))
        return false;
    fixture_redis_stop(&sentinel, SIGKILL);
    snprintf(path, len, "%s/sentinel.conf", sentinel.folder);
    FILE *f = fopen(path, "w");
    if (!CHECK(f != NULL))
        return false;
    fprintf(f,
            "sentinel monitor mymaster 127.0.0.1 %u 1\n"
            "sentinel down-after-milliseconds mymaster 400\n"
            "sentinel failover-timeout mymaster 2000\n"
            "requirepass sesame\n",
            servers[0].port);
    return CHECK_EQ_INT(fclose(f), 0);
}

static bool begin(void)
{
    char port[8], conf[128], endpoint[32];
    seen_init(&s);
    if (!fixture_redis_start(&servers[0], NULL))
        return false;
    snprintf(port, sizeof port, "%u", servers[0].port);
    const char *replica[] = {"--replicaof", "127.0.0.1", port, "--repl-diskless-sync-delay",
                             "0",           NULL};
    if (!fixture_redis_start(&servers[1], replica) || !write_sentinel_conf(conf, sizeof conf))
        return false;
    const char *args[] = {conf, "--sentinel", NULL};
    if (!fixture_redis_start(&sentinel, args))
        return false;

    snprintf(endpoint, sizeof endpoint, "127.0.0.1:%u", fixture_free_port()); /* nobody is there */
    mesa_redis_options_add_sentinel(&s.options, endpoint, s.err, sizeof s.err);
    snprintf(endpoint, sizeof endpoint, "localhost:%u", sentinel.port);
    mesa_redis_options_add_sentinel(&s.options, endpoint, s.err, sizeof s.err);
    mesa_redis_options_set(&s.options.master, "mymaster");
    mesa_redis_options_set(&s.options.sentinel_password, "sesame");
    s.options.backoff_max_ms = 200;
    return true;
}

static void end(void)
{
    seen_close(&s);
    fixture_redis_remove(&sentinel);
    fixture_redis_remove(&servers[0]);
    fixture_redis_remove(&servers[1]);
    mesa_loop_free(loop);
    loop = NULL;
}

static bool is_at(const struct redis_child *c)
{
    char address[32];
    snprintf(address, sizeof address, "127.0.0.1:%u", c->port);
    return CHECK_EQ_STR(mesa_redis_address(s.redis), address);
}

/* The sentinel has to learn of the replica before it can fail over to it; then it gets `command`, or
 * nothing when that is NULL. */
static void await_replica(const char *command)
{
    struct seen ask;
    seen_init(&ask);
    mesa_redis_options_set(&ask.options.path, sentinel.socket);
    mesa_redis_options_set(&ask.options.password, "sesame");
    seen_open(&ask, MESA_REDIS_COMMANDS);
    CHECK(WAIT_FOR(ask.ready, 1));
    for (int i = 0; i < 200; i++) {
        int before = ask.ok;
        seen_command(&ask, "INFO sentinel");
        CHECK(WAIT_FOR(ask.ok, before + 1));
        if (strstr(ask.text, "slaves=1") != NULL)
            break;
        run_for(50);
    }
    CHECK(strstr(ask.text, "slaves=1") != NULL);
    for (int i = 0; command != NULL && i < 100; i++) { /* the replica may not be good yet */
        int before = ask.ok;
        seen_command(&ask, command);
        CHECK(WAIT_FOR(ask.ok, before + 1));
        if (ask.type != MESA_REDIS_ERROR)
            break;
        run_for(50);
    }
    seen_close(&ask);
}

TEST(the_master_is_found_and_followed_when_it_dies)
{
    CHECK_OR_RETURN(begin());
    seen_open(&s, MESA_REDIS_COMMANDS);
    CHECK(WAIT_FOR(s.ready, 1));
    CHECK_EQ_INT(s.lost, 0);
    is_at(&servers[0]);
    await_replica(NULL);
    fixture_redis_stop(&servers[0], SIGKILL);
    CHECK(WAIT_FOR(s.lost, 1));
    CHECK(WAIT_FOR(s.ready, 2));
    is_at(&servers[1]);
    CHECK_EQ_INT(seen_command(&s, "SET k v"), MESA_OK);
    CHECK(WAIT_FOR(s.ok, 1));
    CHECK_EQ_STR(s.text, "OK");
    CHECK_EQ_INT(s.lost, 1);
    end();
}

TEST(a_switch_is_followed_when_the_old_master_hangs)
{
    CHECK_OR_RETURN(begin());
    s.options.command_timeout_ms = 60000; /* so that it is the sentinel's news */
    seen_open(&s, MESA_REDIS_SUBSCRIBER);
    mesa_redis_subscribe(s.redis, MESA_SPAN("a"));
    CHECK(WAIT_FOR(s.ready, 1));
    await_replica(NULL);
    kill(servers[0].pid, SIGSTOP);
    CHECK(WAIT_FOR(s.ready, 2));
    CHECK(strstr(s.reason, "the master has moved to 127.0.0.1:") != NULL);
    is_at(&servers[1]);
    CHECK_EQ_INT(s.subscribed, 2);
    end();
}

TEST(a_planned_failover_is_followed_too)
{
    CHECK_OR_RETURN(begin());
    seen_open(&s, MESA_REDIS_COMMANDS);
    CHECK(WAIT_FOR(s.ready, 1));
    await_replica("SENTINEL FAILOVER mymaster");
    CHECK(WAIT_FOR(s.ready, 2));
    for (int i = 0; i < 100; i++) {
        char address[32];
        snprintf(address, sizeof address, "127.0.0.1:%u", servers[1].port);
        if (strcmp(mesa_redis_address(s.redis), address) == 0 && mesa_redis_ready(s.redis))
            break;
        run_for(50);
    }
    is_at(&servers[1]);
    CHECK_EQ_INT(seen_command(&s, "SET k v"), MESA_OK);
    CHECK(WAIT_FOR(s.ok, 1));
    CHECK_EQ_STR(s.text, "OK");
    end();
}

TEST(sentinels_that_are_away_are_asked_again)
{
    CHECK_OR_RETURN(begin());
    seen_open(&s, MESA_REDIS_COMMANDS);
    CHECK(WAIT_FOR(s.ready, 1));
    char conf[128];
    snprintf(conf, sizeof conf, "%s/sentinel.conf", sentinel.folder);
    const char *args[] = {conf, "--sentinel", NULL};
    fixture_redis_stop(&sentinel, SIGKILL);
    run_for(100);
    CHECK_EQ_INT(s.lost, 0); /* the master is there */
    mesa_redis_free(s.redis);
    seen_open(&s, MESA_REDIS_COMMANDS);
    CHECK(WAIT_FOR(s.lost, 1));
    CHECK(strstr(s.reason, "sentinel ") != NULL && strstr(s.reason, "refused") != NULL);
    CHECK_OR_RETURN(fixture_redis_start(&sentinel, args));
    CHECK(WAIT_FOR(s.ready, 2));
    is_at(&servers[0]);

    mesa_redis_free(s.redis);
    mesa_redis_options_set(&s.options.master, "other");
    s.lost = 0;
    seen_open(&s, MESA_REDIS_COMMANDS);
    CHECK(WAIT_FOR(s.lost, 1));
    mesa_redis_free(s.redis);
    mesa_redis_options_set(&s.options.sentinel_password, "wrong");
    s.lost = 0;
    seen_open(&s, MESA_REDIS_COMMANDS);
    CHECK(WAIT_FOR(s.lost, 1));
    CHECK_EQ_INT(s.ready, 2);
    end();
}

TEST(a_replica_is_not_taken_for_the_master)
{
    CHECK_OR_RETURN(begin());
    struct seen admin;
    seen_init(&admin);
    mesa_redis_options_set(&admin.options.path, servers[0].socket);
    seen_open(&admin, MESA_REDIS_COMMANDS);
    CHECK(WAIT_FOR(admin.ready, 1));
    char words[64];
    fixture_redis_stop(&servers[1], SIGKILL);
    kill(sentinel.pid, SIGSTOP); /* it must not notice before it is asked */
    snprintf(words, sizeof words, "REPLICAOF 127.0.0.1 %u", servers[1].port);
    seen_command(&admin, words);
    CHECK(WAIT_FOR(admin.ok, 1));
    kill(sentinel.pid, SIGCONT);
    seen_open(&s, MESA_REDIS_COMMANDS);
    CHECK(WAIT_FOR(s.lost, 1));
    CHECK(strstr(s.reason, "is not a master") != NULL);
    seen_close(&admin);
    end();
}
