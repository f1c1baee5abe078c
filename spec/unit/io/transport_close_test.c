/* transport_close_test.c - every way a WebSocket ends. */
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

#include "fixture.h"
#include "test.h"

static struct fixture f;
static struct peer p;

static bool begin(void)
{
    fixture_init(&f);
    f.echo = true;
    return CHECK(fixture_start(&f)) && CHECK(peer_open(&p, &f, "/", ""));
}

static void end(void)
{
    peer_close(&p);
    fixture_stop(&f);
}

static void expect_closed(int code, const char *reason, bool by_peer)
{
    CHECK(WAIT_FOR(&f, f.clients[0].closes == 1));
    CHECK_EQ_INT(f.clients[0].code, code);
    CHECK_EQ_STR(f.clients[0].reason, reason);
    CHECK_EQ_INT(f.clients[0].by_peer, by_peer);
    for (int i = 0; i < 20; i++)
        fixture_turn(&f);
    CHECK_EQ_INT(f.clients[0].closes, 1);
}

TEST(the_peer_closes_with_a_code)
{
    CHECK_OR_RETURN(begin());
    peer_send_close(&p, 4321, "enough");
    peer_expect_close(&p, 4321);
    peer_expect_eof(&p);
    expect_closed(4321, "enough", true);
    CHECK_EQ_INT(f.clients[0].error, 0);
    end();
}

TEST(the_peer_closes_without_a_code)
{
    struct peer_frame frame;
    CHECK_OR_RETURN(begin());
    peer_send_frame(&p, 0x88, "", 0);
    if (CHECK(peer_read(&p, &frame))) {
        CHECK_EQ_INT(frame.opcode, 8);
        CHECK_EQ_INT(frame.len, 0);
    }
    peer_expect_eof(&p);
    expect_closed(1005, "", true);
    end();
}

TEST(close_frames_that_are_wrong_are_answered_with_what_is_wrong)
{
    static const struct {
        const char *body;
        size_t len;
        int answer;
    } cases[] = {
        {"\x03", 1, 1002},         {"\x03\xe7", 2, 1002}, {"\x03\xec", 2, 1002},
        {"\x03\xed", 2, 1002},     {"\x03\xee", 2, 1002}, {"\x03\xf7", 2, 1002},
        {"\x07\xd0", 2, 1002},     {"\x13\x88", 2, 1002}, {"\xff\xff", 2, 1002},
        {"\x03\xe8\xff", 3, 1007},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        CHECK_OR_RETURN(begin());
        peer_send_frame(&p, 0x88, cases[i].body, cases[i].len);
        peer_expect_close(&p, cases[i].answer);
        peer_expect_eof(&p);
        CHECK(WAIT_FOR(&f, f.clients[0].closes == 1));
        CHECK_EQ_INT(f.clients[0].code, cases[i].answer);
        end();
    }
}

TEST(the_peer_vanishes)
{
    CHECK_OR_RETURN(begin());
    peer_close(&p);
    expect_closed(1006, "", true);
    fixture_stop(&f);

    CHECK_OR_RETURN(begin());
    peer_reset(&p);
    expect_closed(1006, "", true);
    fixture_stop(&f);

    CHECK_OR_RETURN(begin());
    shutdown(p.fd, SHUT_WR);
    expect_closed(1006, "", true);
    end();
}

TEST(this_side_closes_and_the_peer_answers)
{
    CHECK_OR_RETURN(begin());
    fixture_send(&f.clients[0], 1, "last words", 10);
    mesa_conn_close(f.clients[0].conn, 4000, "that is all", 11, false);
    mesa_conn_close(f.clients[0].conn, 4001, "again", 5, true);
    CHECK_EQ_INT(f.clients[0].closes, 0);
    CHECK_EQ_INT(mesa_conn_write(f.clients[0].conn, "\x81\x00", 2), MESA_ECLOSED);
    peer_expect(&p, 1, "last words");
    peer_expect_close(&p, 4000);
    for (int i = 0; i < 20; i++)
        fixture_turn(&f);
    CHECK_EQ_INT(f.clients[0].closes, 0);
    peer_send_frame(&p, 0x81, "too late", 8);
    peer_send_close(&p, 4000, "");
    peer_expect_eof(&p);
    expect_closed(4000, "that is all", false);
    CHECK_EQ_INT(f.clients[0].messages, 0);
    end();
}

TEST(this_side_closes_and_the_peer_never_answers)
{
    CHECK_OR_RETURN(begin());
    uint64_t start = fixture_now_ms();
    mesa_conn_close(f.clients[0].conn, 1001, "", 0, false);
    peer_expect_close(&p, 1001);
    peer_expect_eof(&p);
    CHECK(fixture_now_ms() - start >= 4500 && fixture_now_ms() - start < 7000);
    expect_closed(1001, "", false);
    end();
}

TEST(a_paused_connection_can_be_closed)
{
    CHECK_OR_RETURN(begin());
    mesa_conn_pause(f.clients[0].conn);
    mesa_conn_close(f.clients[0].conn, 1001, "", 0, false);
    peer_expect_close(&p, 1001);
    peer_send_close(&p, 1001, "");
    peer_expect_eof(&p);
    expect_closed(1001, "", false);
    end();
}

TEST(drop_does_not_wait_for_an_answer)
{
    CHECK_OR_RETURN(begin());
    uint64_t start = fixture_now_ms();
    mesa_conn_close(f.clients[0].conn, 4008, "too fast", 8, true);
    CHECK_EQ_INT(f.clients[0].closes, 0);
    peer_expect_close(&p, 4008);
    peer_expect_eof(&p);
    CHECK(fixture_now_ms() - start < 2000);
    expect_closed(4008, "too fast", false);
    end();
}

TEST(a_long_reason_is_cut_at_a_character)
{
    char reason[200];
    struct peer_frame frame;
    for (size_t i = 0; i + 1 < sizeof reason; i += 2)
        memcpy(reason + i, "\xc3\xa9", 2);
    CHECK_OR_RETURN(begin());
    mesa_conn_close(f.clients[0].conn, 1000, reason, sizeof reason, true);
    if (CHECK(peer_read(&p, &frame)))
        CHECK_EQ_INT(frame.len, 2 + 122);
    end();
}

static void close_self(struct fixture_client *c, const char *data, size_t len)
{
    (void)data;
    mesa_conn_close(c->conn, 4100, "bye", 3, len == 4);
}

TEST(on_message_closes_its_own_connection)
{
    for (int drop = 0; drop < 2; drop++) {
        CHECK_OR_RETURN(begin());
        f.echo = false;
        f.on_message = close_self;
        char frames[10 + 10] = "\x81\x84\0\0\0\0drop\x81\x84\0\0\0\0more";
        if (!drop)
            memcpy(frames, "\x81\x83\0\0\0\0dr", 8), memmove(frames + 9, frames + 10, 10);
        peer_send(&p, frames, drop ? 20 : 19);
        peer_expect_close(&p, 4100);
        if (!drop)
            peer_send_close(&p, 4100, "");
        peer_expect_eof(&p);
        expect_closed(4100, "bye", false);
        CHECK_EQ_INT(f.clients[0].messages, 1);
        end();
    }
}

static void close_all(struct fixture_client *c, const char *data, size_t len)
{
    (void)data;
    (void)len;
    for (int i = 0; i < c->fixture->opened; i++)
        if (c->fixture->clients[i].conn != NULL)
            mesa_conn_close(c->fixture->clients[i].conn, 4200, "all", 3, i % 2 == 1);
}

TEST(on_message_closes_every_connection)
{
    struct peer others[6];
    CHECK_OR_RETURN(begin());
    f.on_message = close_all;
    for (int i = 0; i < 6; i++)
        CHECK_OR_RETURN(peer_open(&others[i], &f, "/", ""));
    peer_send_frame(&others[2], 0x81, "all out", 7);
    for (int i = 0; i < 6; i++)
        if (i == 2)
            peer_expect(&others[2], 1, "all out");
    for (int i = 0; i < 6; i++) {
        peer_expect_close(&others[i], 4200);
        peer_send_close(&others[i], 4200, "");
    }
    peer_expect_close(&p, 4200);
    peer_send_close(&p, 4200, "");
    for (int i = 0; i < 7; i++)
        CHECK(WAIT_FOR(&f, f.clients[i].closes == 1));
    for (int i = 0; i < 6; i++)
        peer_close(&others[i]);
    end();
}

static void close_at_open(struct fixture_client *c)
{
    fixture_send(c, 1, "hi", 2);
    mesa_conn_close(c->conn, 1008, "no", 2, false);
}

TEST(on_open_writes_and_closes)
{
    fixture_init(&f);
    f.on_open = close_at_open;
    CHECK_OR_RETURN(fixture_start(&f));
    CHECK_OR_RETURN(peer_open(&p, &f, "/", ""));
    peer_expect(&p, 1, "hi");
    peer_expect_close(&p, 1008);
    peer_send_close(&p, 1008, "");
    peer_expect_eof(&p);
    expect_closed(1008, "no", false);
    end();
}

static struct mesa_turn turn;
static struct mesa_timer timer;

static void close_in_turn(struct mesa_turn *t)
{
    (void)t;
    if (f.clients[0].conn != NULL)
        mesa_conn_close(f.clients[0].conn, 4300, "turn", 4, true);
}

TEST(a_turn_hook_closes)
{
    CHECK_OR_RETURN(begin());
    turn = (struct mesa_turn){.fn = close_in_turn};
    mesa_list_init(&turn.link);
    mesa_loop_add_turn(f.loop, &turn);
    uv_run(mesa_loop_uv(f.loop), UV_RUN_ONCE); /* must not block: closing is work to do */
    peer_expect_close(&p, 4300);
    expect_closed(4300, "turn", false);
    mesa_loop_remove_turn(&turn);
    end();
}

static void close_in_timer(struct mesa_timer *t)
{
    (void)t;
    mesa_conn_close(f.clients[0].conn, 4301, "timer", 5, true);
}

TEST(a_timer_closes)
{
    CHECK_OR_RETURN(begin());
    mesa_timer_init(&timer, close_in_timer);
    mesa_loop_arm(f.loop, &timer, 5);
    peer_expect_close(&p, 4301);
    expect_closed(4301, "timer", false);
    end();
}

static void free_listener(struct fixture_client *c, const char *data, size_t len)
{
    (void)data;
    (void)len;
    struct fixture *owner = c->fixture;
    mesa_listener_free(owner->listener);
    owner->listener = NULL;
}

TEST(on_message_frees_the_listener)
{
    struct peer other;
    CHECK_OR_RETURN(begin());
    f.echo = false;
    CHECK_OR_RETURN(peer_open(&other, &f, "/", ""));
    f.on_message = free_listener;
    peer_send(&p, "\x81\x81\0\0\0\0x\x81\x81\0\0\0\0y", 14);
    expect_closed(1006, "", true);
    CHECK_EQ_INT(f.clients[1].closes, 1);
    CHECK_EQ_INT(f.clients[0].messages, 1);
    peer_expect_eof(&p);
    peer_expect_eof(&other);
    peer_close(&other);
    end();
}

static void free_at_open(struct fixture_client *c)
{
    mesa_listener_free(c->fixture->listener);
    c->fixture->listener = NULL;
}

TEST(on_open_frees_the_listener)
{
    fixture_init(&f);
    f.on_open = free_at_open;
    CHECK_OR_RETURN(fixture_start(&f));
    (void)peer_open(&p, &f, "/", "");
    expect_closed(1006, "", true);
    peer_expect_eof(&p);
    end();
}

TEST(freeing_everything_with_live_connections_reports_each_once)
{
    struct peer others[8];
    CHECK_OR_RETURN(begin());
    for (int i = 0; i < 8; i++)
        CHECK_OR_RETURN(i % 2 ? peer_open(&others[i], &f, "/", "") : peer_connect(&others[i], &f));
    fixture_turn(&f);
    mesa_conn_close(f.clients[1].conn, 1001, "", 0, false);
    peer_send_text(&others[0], "GET / HT");
    fixture_turn(&f);
    fixture_stop(&f);
    for (int i = 0; i < 5; i++) {
        CHECK_EQ_INT(f.clients[i].closes, 1);
        CHECK_EQ_INT(f.clients[i].code, 1006);
    }
    for (int i = 0; i < 8; i++)
        peer_close(&others[i]);
    peer_close(&p);
}

TEST(both_sides_close_at_the_same_time)
{
    CHECK_OR_RETURN(begin());
    peer_send_close(&p, 4444, "peer");
    mesa_conn_close(f.clients[0].conn, 4000, "server", 6, false);
    peer_expect_close(&p, 4000);
    peer_expect_eof(&p);
    expect_closed(4000, "server", false);
    end();
}

/* The peer says nothing to a close frame, and does not hang up. */
TEST(a_violation_is_not_waited_for)
{
    static const struct {
        const char *bytes;
        size_t len;
        int code;
    } cases[] = {
        {"\xc1\x81\0\0\0\0x", 7, 1002},                    /* reserved bits */
        {"\x83\x81\0\0\0\0x", 7, 1002},                    /* a reserved opcode */
        {"\x89\xfe\x00\x7e\0\0\0\0x", 9, 1002},            /* a ping over 125 bytes */
        {"\x81\x81\0\0\0\0\xff", 7, 1007},                 /* no UTF-8 */
        {"\x82\xff\0\0\0\0\x40\0\0\0\0\0\0\0x", 15, 1009}, /* too big */
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        CHECK_OR_RETURN(begin());
        uint64_t start = fixture_now_ms();
        peer_send(&p, cases[i].bytes, cases[i].len);
        peer_expect_close(&p, cases[i].code);
        peer_expect_eof(&p);
        expect_closed(cases[i].code, f.clients[0].reason, false);
        CHECK_EQ_INT(f.clients[0].error, cases[i].code);
        CHECK(fixture_now_ms() - start < 2000);
        end();
    }
}

TEST(a_close_frame_reaches_a_peer_that_goes_on_sending)
{
    static char rest[1 << 18];
    for (int drop = 0; drop < 2; drop++) {
        CHECK_OR_RETURN(begin());
        if (drop)
            mesa_conn_close(f.clients[0].conn, 1009, "", 0, true);
        else
            peer_send(&p, "\x82\xff\0\0\0\0\x40\0\0\0\0\0\0\0", 14);
        CHECK(peer_send(&p, rest, sizeof rest));
        CHECK(WAIT_FOR(&f, f.clients[0].closes == 1));
        for (int i = 0; i < 4; i++) {
            for (int k = 0; k < 5; k++)
                fixture_turn(&f);
            /* no reset, which could destroy the frame */
            CHECK(peer_send(&p, rest, sizeof rest));
        }
        peer_expect_close(&p, 1009);
        end();
    }
}

TEST(a_violation_while_closing_ends_the_connection)
{
    CHECK_OR_RETURN(begin());
    mesa_conn_close(f.clients[0].conn, 4000, "first", 5, false);
    peer_expect_close(&p, 4000);
    uint64_t start = fixture_now_ms();
    peer_send(&p, "\x83\x81\0\0\0\0x", 7);
    peer_expect_eof(&p);
    expect_closed(4000, "first", false);
    CHECK(fixture_now_ms() - start < 2000);
    end();
}
