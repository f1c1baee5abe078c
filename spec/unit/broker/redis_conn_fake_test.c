/* redis_conn_fake_test.c - servers that are not Redis: garbage, silence, halves, refusals. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "redis_fixture.h"
#include "test.h"

#define PONG "+PONG\r\n"

static struct fake fake;
static struct seen s;
static const char *script; /* what follows the PONG of the login */
static size_t script_len;
static bool hangs_up, answers;

static void on_data(struct fake *f, struct fake_peer *p, const char *data, size_t len)
{
    (void)data;
    (void)len;
    if (!answers || (script != NULL && f->reads > 1))
        return;
    fake_say(p, PONG, strlen(PONG));
    if (script != NULL)
        fake_say(p, script, script_len);
    if (hangs_up)
        fake_hang_up(p);
}

static void begin(void)
{
    memset(&fake, 0, sizeof fake);
    script = NULL;
    hangs_up = false;
    answers = true;
    seen_init(&s);
    fake.on_data = on_data;
    fake_start(&fake, loop);
    s.options.port = fake.port;
    s.options.backoff_min_ms = s.options.backoff_max_ms = 2000;
}

static void end(void)
{
    seen_close(&s);
    fake_stop(&fake);
    mesa_loop_free(loop);
    loop = NULL;
}

TEST(garbage_after_the_login_costs_the_connection_only)
{
    static const struct {
        const char *bytes;
        size_t len;
    } garbage[] = {
#define G(text) {text, sizeof(text) - 1}
        G("HTTP/1.1 400 Bad Request\r\n\r\n"),
        G("\0\0\0\0\0\0"),
        G("+OK\r\n"),
        G("+OK\r\n+OK\r\n:1\r\n"),
        G("-ERR go away\r\n"),
        G("*3\r\n$7\r\nmessage\r\n$1\r\na\r\n$1\r\nb\r\n"),
        G("*3\r\n$9\r\nsubscribe\r\n$1\r\na\r\n:1\r\n"),
        G("*0\r\n"),
        G("*-1\r\n"),
        G("*-7\r\n"),
        G("$-9\r\n"),
        G("$99999999999999999999\r\n"),
        G("*99999999999999999999\r\n"),
        G("*1\r\n*1\r\n*1\r\n*1\r\n*1\r\n*1\r\n*1\r\n*1\r\n*1\r\n*1\r\n*1\r\n:1\r\n"),
        G(":12a\r\n"),
        G("\r\n\r\n"),
#undef G
    };
    for (size_t i = 0; i < sizeof garbage / sizeof garbage[0]; i++) {
        for (int mode = MESA_REDIS_COMMANDS; mode <= MESA_REDIS_SUBSCRIBER; mode++) {
            begin();
            s.options.reply_limit = 1 << 20;
            script = garbage[i].bytes;
            script_len = garbage[i].len;
            seen_open(&s, (enum mesa_redis_mode)mode);
            bool is_message = mode == MESA_REDIS_SUBSCRIBER && i == 5;
            if (is_message)
                CHECK(WAIT_FOR(s.ready, 1));
            else if (!WAIT_FOR(s.lost, 1))
                printf("garbage %zu, mode %d\n", i, mode);
            CHECK_EQ_INT(s.messages, 0);
            end();
        }
    }
}

static char *random_bytes;

TEST(random_bytes_cost_the_connection_only)
{
    unsigned seed = 12345;
    enum { ROUNDS = 60, LEN = 3000 };
    random_bytes = malloc(LEN);
    for (int round = 0; round < ROUNDS; round++) {
        static const char alphabet[] = "+-:$*0123456789\r\n\r\n\r\nmessagePONG";
        begin();
        for (int i = 0; i < LEN; i++)
            random_bytes[i] = alphabet[(unsigned)rand_r(&seed) % (sizeof alphabet - 1)];
        script = random_bytes;
        script_len = LEN;
        hangs_up = true;
        seen_open(&s, round % 2 ? MESA_REDIS_SUBSCRIBER : MESA_REDIS_COMMANDS);
        CHECK(WAIT_FOR(s.lost, 1));
        end();
    }
    free(random_bytes);
}

TEST(a_server_that_never_answers_is_given_up)
{
    begin();
    answers = false;
    s.options.command_timeout_ms = 100;
    seen_open(&s, MESA_REDIS_COMMANDS);
    CHECK(WAIT_FOR(s.lost, 1));
    CHECK(strstr(s.reason, "no reply within 100 ms") != NULL);
    CHECK_EQ_INT(s.ready, 0);
    end();
}

TEST(a_half_reply_is_given_up)
{
    static const char half[] = "*2\r\n$3\r\nab";
    for (int round = 0; round < 2; round++) {
        begin();
        hangs_up = round == 1;
        s.options.command_timeout_ms = 100;
        s.options.keepalive_ms = 50;
        script = half;
        script_len = sizeof half - 1;
        seen_open(&s, MESA_REDIS_COMMANDS);
        CHECK(WAIT_FOR(s.lost, 1));
        CHECK(strstr(s.reason, hangs_up ? "closed the connection" : "no reply within") != NULL);
        CHECK_EQ_INT(s.ready, 1);
        end();
    }
}

static void flood(struct fake *f, struct fake_peer *p, const char *data, size_t len)
{
    static char zeros[1 << 20];
    (void)f;
    (void)data;
    (void)len;
    fake_say(p, PONG "$90000000\r\n", strlen(PONG "$90000000\r\n"));
    for (int i = 0; i < 4; i++)
        fake_say(p, zeros, sizeof zeros);
}

static void endless(struct fake *f, struct fake_peer *p, const char *data, size_t len)
{
    static char integers[1 << 20];
    (void)f;
    (void)data;
    (void)len;
    for (size_t i = 0; i + 4 <= sizeof integers; i += 4)
        memcpy(integers + i, ":1\r\n", 4);
    fake_say(p, PONG "*9000000\r\n", strlen(PONG "*9000000\r\n"));
    for (int i = 0; i < 4; i++)
        fake_say(p, integers, sizeof integers);
}

TEST(a_reply_that_is_too_large_is_given_up)
{
    for (int round = 0; round < 2; round++) {
        begin();
        fake.on_data = round == 0 ? flood : endless;
        s.options.reply_limit = 2 << 20;
        seen_open(&s, MESA_REDIS_COMMANDS);
        CHECK(WAIT_FOR(s.lost, 1));
        CHECK(strstr(s.reason, "reply_limit") != NULL);
        end();
    }
}

static void on_accept_refuse(struct fake *f, struct fake_peer *p)
{
    static const char full[] = "-ERR max number of clients reached\r\n";
    (void)f;
    fake_say(p, full, strlen(full));
    fake_hang_up(p);
}

static void on_data_loading(struct fake *f, struct fake_peer *p, const char *data, size_t len)
{
    static const char loading[] = "-LOADING Redis is loading the dataset in memory\r\n";
    (void)data;
    (void)len;
    fake_say(p, f->accepted < 5 ? loading : PONG, strlen(f->accepted < 5 ? loading : PONG));
}

TEST(commands_of_one_turn_go_out_in_one_write)
{
    begin();
    seen_open(&s, MESA_REDIS_COMMANDS);
    CHECK(WAIT_FOR(s.ready, 1));
    int before = fake.reads;
    for (int i = 0; i < 100; i++)
        CHECK_EQ_INT(seen_command(&s, "PING"), MESA_OK);
    CHECK(WAIT_FOR(s.ok, 1));
    run_for(20);
    CHECK_EQ_INT(fake.reads, before + 1);
    end();
}

TEST(attempts_back_off)
{
    begin();
    fake_stop(&fake);
    s.options.backoff_min_ms = 10;
    s.options.backoff_max_ms = 400;
    seen_open(&s, MESA_REDIS_COMMANDS);
    CHECK(WAIT_FOR(s.lost, 1));
    CHECK(strstr(s.reason, "Connection refused") != NULL);
    run_for(500);
    CHECK_EQ_INT(s.lost, 1);
    CHECK_EQ_INT(s.failed, 0);
    seen_close(&s);
    mesa_loop_free(loop);
    loop = NULL;

    begin();
    fake.on_accept = on_accept_refuse;
    fake.on_data = NULL;
    s.options.backoff_min_ms = 10;
    s.options.backoff_max_ms = 400;
    seen_open(&s, MESA_REDIS_COMMANDS);
    run_for(1000);
    CHECK(fake.accepted >= 5 && fake.accepted <= 20);
    CHECK_EQ_INT(s.lost, 1);
    end();
}

TEST(a_redis_that_is_loading_is_awaited)
{
    begin();
    fake.on_data = on_data_loading;
    s.options.backoff_min_ms = s.options.backoff_max_ms = 20;
    s.options.refused_retry_ms = 60000;
    seen_open(&s, MESA_REDIS_COMMANDS);
    CHECK(WAIT_FOR(s.ready, 1));
    CHECK_EQ_INT(fake.accepted, 5);
    CHECK_EQ_INT(s.lost, 1);
    CHECK(strstr(s.reason, "LOADING") != NULL);
    end();
}

TEST(tls_is_refused_clearly_where_hiredis_has_none)
{
    static const struct mesa_redis_hooks none;
    begin();
    CHECK_EQ_INT(mesa_redis_options_set_uri(&s.options, "rediss://127.0.0.1", s.err, sizeof s.err),
                 MESA_OK);
    enum mesa_status rc = mesa_redis_new(&s.redis, loop, MESA_REDIS_COMMANDS, &s.options, &none,
                                         NULL, s.err, sizeof s.err);
    CHECK(rc == MESA_OK || (rc == MESA_EINVAL && strstr(s.err, "rediss://") != NULL));
    end();
}
