/* transport_stream_test.c - heads and frames cut anywhere, what no frame may be, and events that have grown
 * old within a turn. */
#include <dirent.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

#include "fixture.h"
#include "test.h"

#define HEAD                                                                      \
    "GET /a HTTP/1.1\r\nHost: h\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n" \
    "Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"

enum { MANY = 60 };

static struct fixture f;
static struct peer p, others[MANY];

static bool start(void)
{
    fixture_init(&f);
    f.echo = true;
    return CHECK(fixture_start(&f));
}

static bool begin(void)
{
    return start() && CHECK(peer_open(&p, &f, "/", ""));
}

static void end(void)
{
    peer_close(&p);
    fixture_stop(&f);
}

static bool open_others(int count)
{
    for (int i = 0; i < count; i++)
        if (!CHECK(peer_open(&others[i], &f, "/", "")))
            return false;
    return true;
}

static void close_others(int count)
{
    for (int i = 0; i < count; i++)
        peer_close(&others[i]);
}

/* Lets everything happen that can, then checks that nothing keeps the loop from sleeping. */
static void settle(void)
{
    struct pollfd backend = {.fd = uv_backend_fd(mesa_loop_uv(f.loop)), .events = POLLIN};
    for (int i = 0; i < 20; i++)
        fixture_turn(&f);
    CHECK_EQ_INT(poll(&backend, 1, 0), 0);
}

static void expect_closed(int code)
{
    CHECK(WAIT_FOR(&f, f.clients[0].closes == 1));
    CHECK_EQ_INT(f.clients[0].code, code);
}

static int open_descriptors(void)
{
    int count = 0;
    DIR *dir = opendir("/proc/self/fd");
    while (dir != NULL && readdir(dir) != NULL)
        count++;
    if (dir != NULL)
        closedir(dir);
    return count;
}

/* -- heads -- */

/* Sends `text` cut in two, the second part when the first has been looked at. */
static void send_in_two(const char *text, size_t len, size_t cut)
{
    peer_send(&p, text, cut);
    fixture_turn(&f);
    fixture_turn(&f);
    peer_send(&p, text + cut, len - cut);
}

TEST(a_handshake_and_the_frames_behind_it_may_be_cut_anywhere)
{
    static const char stream[] = HEAD "\x01\x82\0\0\0\0he\x89\x82\0\0\0\0hi\x80\x83\0\0\0\0llo";
    size_t len = sizeof stream - 1;
    CHECK_OR_RETURN(start());
    for (size_t cut = 0; cut <= len; cut++) {
        CHECK_OR_RETURN(peer_connect(&p, &f));
        send_in_two(stream, len, cut);
        CHECK_OR_RETURN(WAIT_FOR(&f, (peer_poll(&p), p.in.len >= 129 + 4 + 7)));
        char *end_of_head = memmem(p.in.data, p.in.len, "\r\n\r\n", 4);
        CHECK_OR_RETURN(end_of_head != NULL && memcmp(p.in.data, "HTTP/1.1 101 ", 13) == 0);
        peer_consume(&p, (size_t)(end_of_head + 4 - p.in.data));
        CHECK_OR_RETURN(peer_expect(&p, 10, "hi"));
        CHECK_OR_RETURN(peer_expect(&p, 1, "hello"));
        peer_close(&p);
    }
    end();
}

TEST(a_handshake_may_come_byte_by_byte)
{
    CHECK_OR_RETURN(start());
    CHECK_OR_RETURN(peer_connect(&p, &f));
    for (size_t i = 0; i < sizeof HEAD - 1; i++) {
        CHECK_EQ_INT(f.opened, 0);
        peer_send(&p, HEAD + i, 1);
        fixture_turn(&f);
    }
    CHECK(WAIT_FOR(&f, f.opened == 1));
    end();
}

TEST(a_request_that_is_no_upgrade_may_be_cut_anywhere)
{
    static const char stream[] =
        "POST /form?x HTTP/1.1\r\nHost: h\r\nX-Test: yes\r\nContent-Length: 11\r\n\r\nhello world";
    size_t len = sizeof stream - 1;
    CHECK_OR_RETURN(start());
    for (size_t cut = 0; cut <= len; cut++) {
        CHECK_OR_RETURN(peer_connect(&p, &f));
        send_in_two(stream, len, cut);
        CHECK_OR_RETURN(CHECK(strstr(peer_read_answer(&p), "\r\n\r\nhello") != NULL));
        CHECK_EQ_INT(f.http_requests, (int)cut + 1);
        CHECK_EQ_MEM(f.body.data, f.body.len, "hello world", 11);
        CHECK(strncmp(f.request.data, "POST /form?x 127.0.0.1 []", 25) == 0);
        CHECK(strstr(f.request.data, "\nx-test: yes\n") != NULL);
        peer_close(&p);
    }
    end();
}

TEST(a_request_is_answered_though_its_peer_has_said_its_last)
{
    CHECK_OR_RETURN(start());
    CHECK_OR_RETURN(peer_connect(&p, &f));
    peer_send_text(&p, "GET / HTTP/1.1\r\nHost: h\r\n\r\n");
    peer_end(&p);
    CHECK(strstr(peer_read_all(&p), "\r\n\r\nhello") != NULL);
    end();
}

TEST(half_a_head_costs_nothing_while_it_waits_and_ends_with_its_peer)
{
    static const char *const halves[] = {"G", "GET / HTTP/1.1\r\nHost: h\r\n"};
    CHECK_OR_RETURN(start());
    int before = open_descriptors();
    for (size_t i = 0; i < 2; i++)
        for (int how = 0; how < 3; how++) {
            CHECK_OR_RETURN(peer_connect(&p, &f));
            peer_send_text(&p, halves[i]);
            settle();
            if (how == 0)
                peer_close(&p);
            else if (how == 1)
                peer_reset(&p);
            else
                peer_end(&p);
            if (how == 2)
                peer_expect_eof(&p);
            peer_close(&p);
            CHECK(WAIT_FOR(&f, open_descriptors() == before));
        }
    CHECK_EQ_INT(f.refusals, 0);
    end();
}

static void send_much(struct fixture_client *c)
{
    char *data = calloc(1, 5u << 20);
    fixture_send(c, 2, data, 5u << 20);
    free(data);
}

TEST(what_on_open_writes_follows_the_answer_whatever_the_socket_takes)
{
    struct peer_frame frame;
    CHECK_OR_RETURN(start());
    f.on_open = send_much;
    CHECK_OR_RETURN(peer_open(&p, &f, "/", ""));
    if (CHECK(peer_read(&p, &frame)))
        CHECK_EQ_INT(frame.len, 5u << 20);
    peer_send_frame(&p, 0x81, "hi", 2);
    peer_expect(&p, 1, "hi");
    end();
}

/* -- frames -- */

TEST(every_ping_of_a_read_gets_its_pong_and_they_keep_their_place)
{
    struct mesa_buf all;
    char text[16];
    mesa_buf_init(&all);
    CHECK_OR_RETURN(begin());
    for (int i = 0; i < 300; i++) {
        mesa_buf_printf(&all, "\x89%c", 0x84);
        mesa_buf_append(&all, "\0\0\0\0", 4);
        mesa_buf_printf(&all, "%04d", i);
        mesa_buf_append(&all, i % 100 == 99 ? "\x81\x81\0\0\0\0x" : "", i % 100 == 99 ? 7 : 0);
    }
    peer_send(&p, all.data, all.len);
    mesa_buf_deinit(&all);
    for (int i = 0; i < 300; i++) {
        snprintf(text, sizeof text, "%04d", i);
        CHECK_OR_RETURN(peer_expect(&p, 10, text));
        if (i % 100 == 99)
            CHECK_OR_RETURN(peer_expect(&p, 1, "x"));
    }
    end();
}

TEST(a_flood_of_pings_is_answered_whole_and_never_outgrows_the_reader)
{
    enum { PINGS = 20000, ROUNDS = 40 };
    char *pings = malloc(PINGS * 6);
    for (int i = 0; i < PINGS; i++)
        memcpy(pings + i * 6, "\x89\x80\0\0\0\0", 6);
    CHECK_OR_RETURN(begin());
    size_t pongs = 0;
    for (int round = 0; round < ROUNDS; round++) {
        CHECK_OR_RETURN(CHECK(peer_send(&p, pings, PINGS * 6)));
        peer_poll(&p);
    }
    free(pings);
    CHECK(WAIT_FOR(&f, (peer_poll(&p), p.in.len == (size_t)PINGS * ROUNDS * 2)));
    for (size_t i = 0; i + 1 < p.in.len; i += 2)
        pongs += (unsigned char)p.in.data[i] == 0x8a && p.in.data[i + 1] == 0;
    CHECK_EQ_INT(pongs, PINGS * ROUNDS);
    end();
}

TEST(pongs_without_a_payload_are_reported)
{
    CHECK_OR_RETURN(begin());
    peer_send(&p, "\x8a\x80\0\0\0\0\x8a\x80\0\0\0\0\x8a\x81\0\0\0\0x", 19);
    CHECK(WAIT_FOR(&f, f.clients[0].pongs == 3));
    end();
}

TEST(what_rfc_6455_forbids_is_1002_however_it_arrives)
{
    static const struct {
        const char *bytes;
        size_t len;
        const char *what;
    } cases[] = {
        {"\x81\x01x", 3, "unmasked"},
        {"\x89\x00", 2, "unmasked"},
        {"\x88\x02\x03\xe8", 4, "unmasked"},
        {"\x81\xfe\x00\x05\0\0\0\0hello", 13, "length not minimal"},
        {"\x82\xff\0\0\0\0\0\0\xff\xff\0\0\0\0", 14, "length not minimal"},
        {"\x82\xff\x80\0\0\0\0\0\0\0\0\0\0\0", 14, "length over 63 bits"},
        {"\x89\xfe\0\x7e\0\0\0\0", 8, "control frame over 125 bytes"},
        {"\x88\xfe\0\x7e\0\0\0\0", 8, "control frame over 125 bytes"},
        {"\x09\x80\0\0\0\0", 6, "fragmented control frame"},
        {"\xc1\x80\0\0\0\0", 6, "reserved bits"},
        {"\x83\x80\0\0\0\0", 6, "unknown opcode"},
        {"\x80\x80\0\0\0\0", 6, "continuation of nothing"},
        {"\x01\x80\0\0\0\0\x81\x80\0\0\0\0", 12, "message inside another"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++)
        for (int bytewise = 0; bytewise < 2; bytewise++) {
            char reason[64];
            CHECK_OR_RETURN(begin());
            for (size_t k = 0; bytewise && k + 1 < cases[i].len; k++) {
                (void)peer_send(&p, cases[i].bytes + k, 1);
                fixture_turn(&f);
            }
            if (bytewise)
                (void)peer_send(&p, cases[i].bytes + cases[i].len - 1, 1);
            else
                peer_send(&p, cases[i].bytes, cases[i].len);
            peer_expect_close(&p, 1002);
            peer_expect_eof(&p);
            expect_closed(1002);
            snprintf(reason, sizeof reason, "invalid frame: %s", cases[i].what);
            CHECK_EQ_STR(f.clients[0].reason, reason);
            CHECK_EQ_INT(f.clients[0].error, 1002);
            CHECK(!f.clients[0].by_peer);
            end();
        }
}

TEST(nothing_that_follows_a_violation_or_a_close_is_taken)
{
    static const char *const ends[] = {"\x83\x80\0\0\0\0", "\x88\x80\0\0\0\0"};
    for (size_t i = 0; i < 2; i++) {
        struct peer_frame frame;
        char stream[7 + 6 + 7 + 6 + 1] = "\x81\x81\0\0\0\0a";
        memcpy(stream + 7, ends[i], 6);
        memcpy(stream + 13, "\x81\x81\0\0\0\0b\x89\x80\0\0\0\0", 13);
        CHECK_OR_RETURN(begin());
        peer_send(&p, stream, 26);
        peer_expect(&p, 1, "a");
        if (CHECK(peer_read(&p, &frame)))
            CHECK_EQ_INT(frame.opcode, 8);
        CHECK(!peer_read(&p, &frame));
        expect_closed(i == 0 ? 1002 : 1005);
        CHECK_EQ_INT(f.clients[0].messages, 1);
        end();
    }
}

TEST(pings_are_not_answered_behind_a_close_frame)
{
    struct peer_frame frame;
    CHECK_OR_RETURN(begin());
    mesa_conn_close(f.clients[0].conn, 1001, "", 0, false);
    peer_expect_close(&p, 1001);
    peer_send(&p, "\x89\x80\0\0\0\0\x8a\x80\0\0\0\0\x81\x81\0\0\0\0x\x88\x82\0\0\0\0\x03\xe9", 27);
    CHECK(!peer_read(&p, &frame));
    expect_closed(1001);
    CHECK_EQ_INT(f.clients[0].pongs, 0);
    CHECK_EQ_INT(f.clients[0].messages, 0);
    end();
}

TEST(a_peer_may_vanish_in_the_middle_of_anything)
{
    static const char stream[] = "\x01\x81\0\0\0\0a\x89\x82\0\0\0\0hi\x80\xfe\x01\0\0\0\0\0....";
    for (size_t len = 1; len < sizeof stream; len++)
        for (int reset = 0; reset < 2; reset++) {
            CHECK_OR_RETURN(begin());
            peer_send(&p, stream, len);
            fixture_turn(&f);
            if (reset)
                peer_reset(&p);
            else
                peer_close(&p);
            expect_closed(1006);
            CHECK(f.clients[0].by_peer && f.clients[0].messages == 0);
            end();
        }
}

/* -- pauses -- */

static void pause_self(struct fixture_client *c, const char *data, size_t len)
{
    (void)data;
    (void)len;
    mesa_conn_pause(c->conn);
}

TEST(what_was_read_before_a_pause_is_delivered_though_the_peer_has_left)
{
    CHECK_OR_RETURN(begin());
    f.echo = false;
    f.on_message = pause_self;
    peer_send(&p, "\x81\x81\0\0\0\0a\x81\x81\0\0\0\0b\x81\x85\0\0\0\0cut", 23);
    CHECK(WAIT_FOR(&f, f.clients[0].messages == 1));
    peer_end(&p);
    settle();
    CHECK_EQ_INT(f.clients[0].messages, 1);
    mesa_conn_resume(f.clients[0].conn);
    CHECK(WAIT_FOR(&f, f.clients[0].messages == 2));
    CHECK_EQ_INT(f.clients[0].closes, 0);
    mesa_conn_resume(f.clients[0].conn);
    expect_closed(1006);
    CHECK_EQ_INT(f.clients[0].messages, 2);
    end();
}

TEST(a_reset_is_noticed_during_a_pause)
{
    CHECK_OR_RETURN(begin());
    f.echo = false;
    f.on_message = pause_self;
    peer_send(&p, "\x81\x81\0\0\0\0a\x81\x81\0\0\0\0b", 14);
    CHECK(WAIT_FOR(&f, f.clients[0].messages == 1));
    peer_reset(&p);
    expect_closed(1006);
    end();
}

TEST(a_close_during_a_pause_does_not_wait_for_the_end_of_it)
{
    CHECK_OR_RETURN(begin());
    f.echo = false;
    f.on_message = pause_self;
    peer_send(&p, "\x81\x81\0\0\0\0a\x81\x81\0\0\0\0b", 14);
    CHECK(WAIT_FOR(&f, f.clients[0].messages == 1));
    mesa_conn_close(f.clients[0].conn, 4000, "", 0, false);
    peer_expect_close(&p, 4000);
    peer_send_close(&p, 4000, "");
    peer_expect_eof(&p);
    expect_closed(4000);
    CHECK_EQ_INT(f.clients[0].messages, 1);
    end();
}

/* -- events that are old when their turn comes -- */

static void pause_others(struct fixture_client *c, const char *data, size_t len)
{
    (void)data;
    (void)len;
    for (int i = 0; i < f.opened; i++)
        if (&f.clients[i] != c)
            mesa_conn_pause(f.clients[i].conn);
}

TEST(a_connection_that_another_one_pauses_in_the_same_turn_lives)
{
    CHECK_OR_RETURN(start());
    CHECK_OR_RETURN(open_others(3));
    f.on_message = pause_others;
    for (int i = 0; i < 3; i++)
        peer_send_frame(&others[i], 0x81, "hi", 2);
    settle();
    CHECK_EQ_INT(f.clients[0].messages + f.clients[1].messages + f.clients[2].messages, 1);
    f.on_message = NULL;
    for (int i = 0; i < 3; i++) {
        CHECK_OR_RETURN(CHECK_EQ_INT(f.clients[i].closes, 0));
        mesa_conn_resume(f.clients[i].conn);
        peer_expect(&others[i], 1, "hi");
    }
    close_others(3);
    fixture_stop(&f);
}

static void stall_others(struct fixture_client *c, const char *data, size_t len)
{
    static char bulk[1 << 16];
    (void)data;
    (void)len;
    for (int i = 0; i < f.opened; i++)
        while (&f.clients[i] != c && f.clients[i].out.len == 0)
            fixture_send(&f.clients[i], 2, bulk, sizeof bulk);
}

TEST(a_connection_that_another_one_writes_full_in_the_same_turn_lives)
{
    struct peer_frame frame;
    CHECK_OR_RETURN(start());
    CHECK_OR_RETURN(open_others(2));
    f.on_message = stall_others;
    for (int i = 0; i < 2; i++)
        peer_send_frame(&others[i], 0x81, "hi", 2);
    CHECK(WAIT_FOR(&f, f.clients[0].messages + f.clients[1].messages > 0));
    f.on_message = NULL;
    for (int i = 0; i < 2; i++) { /* whichever came second */
        do
            CHECK_OR_RETURN(CHECK(peer_read(&others[i], &frame)));
        while (frame.opcode == 2);
        CHECK_EQ_MEM(frame.data, frame.len, "hi", 2);
    }
    close_others(2);
    fixture_stop(&f);
}

static void free_listener(struct fixture_client *c, const char *data, size_t len)
{
    (void)data;
    (void)len;
    mesa_listener_free(c->fixture->listener);
    c->fixture->listener = NULL;
}

TEST(the_listener_may_be_freed_while_other_connections_have_events)
{
    CHECK_OR_RETURN(start());
    CHECK_OR_RETURN(open_others(MANY));
    struct peer half;
    CHECK_OR_RETURN(peer_connect(&half, &f));
    f.echo = false;
    f.on_message = free_listener;
    for (int i = 0; i < MANY; i++) {
        peer_send_frame(&others[i], 0x81, "hi", 2);
        if (i % 3 == 1)
            peer_close(&others[i]);
        else if (i % 3 == 2)
            peer_end(&others[i]);
    }
    peer_send_text(&half, HEAD);
    int messages = 0;
    for (int i = 0; i < MANY; i++) {
        CHECK(WAIT_FOR(&f, f.clients[i].closes == 1));
        messages += f.clients[i].messages;
    }
    CHECK_EQ_INT(messages, 1);
    peer_expect_eof(&half);
    peer_close(&half);
    close_others(MANY);
    fixture_stop(&f);
}

/* -- crowds -- */

static void close_each(struct fixture_client *c, const char *data, size_t len)
{
    (void)data;
    for (int i = 0; i < f.opened; i++)
        if (f.clients[i].conn != NULL)
            mesa_conn_close(f.clients[i].conn, 4000, "", 0, len == 4 || c == &f.clients[i]);
}

TEST(many_connections_may_end_in_one_turn)
{
    CHECK_OR_RETURN(start());
    f.echo = false;
    int before = open_descriptors();
    for (int how = 0; how < 4; how++) {
        f.opened = 0;
        CHECK_OR_RETURN(open_others(MANY));
        f.on_message = close_each;
        if (how < 2)
            peer_send_frame(&others[0], 0x81, "drop", how == 0 ? 4 : 3);
        for (int i = 0; i < MANY; i++)
            if (how == 1)
                peer_expect_close(&others[i], 4000), peer_send_close(&others[i], 4000, "");
            else if (how == 2)
                peer_reset(&others[i]);
            else if (how == 3)
                peer_send_close(&others[i], 4000, "");
        for (int i = 0; i < MANY; i++) {
            CHECK(WAIT_FOR(&f, f.clients[i].closes == 1));
            CHECK_EQ_INT(f.clients[i].code, how == 2 ? 1006 : 4000);
        }
        close_others(MANY);
        CHECK(WAIT_FOR(&f, open_descriptors() == before));
    }
    fixture_stop(&f);
}
