/* transport_message_test.c - messages of an open WebSocket: fragments, control frames between them,
 * UTF-8, sizes, violations. */
#include <stdlib.h>
#include <string.h>

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

TEST(text_binary_and_empty_messages_come_back)
{
    CHECK_OR_RETURN(begin());
    peer_send_frame(&p, 0x81, "hello", 5);
    peer_expect(&p, 1, "hello");
    CHECK(!f.clients[0].binary);
    peer_send_frame(&p, 0x82, "\xff\x01", 2);
    peer_expect(&p, 2, "\xff\x01");
    CHECK(f.clients[0].binary);
    peer_send_frame(&p, 0x81, "", 0);
    peer_expect(&p, 1, "");
    end();
}

TEST(lengths_of_every_form_arrive_whole)
{
    static const size_t lengths[] = {125,   126,   127,   16319,   16320,  16321,
                                     65535, 65536, 65537, 1000000, 1 << 20};
    CHECK_OR_RETURN(begin());
    char *data = malloc(1 << 20);
    for (size_t i = 0; i < 1 << 20; i++)
        data[i] = (char)(i * 7 >> 3);
    for (size_t i = 0; i < sizeof lengths / sizeof *lengths; i++) {
        struct peer_frame frame;
        CHECK(peer_send_frame(&p, 0x82, data, lengths[i]));
        if (CHECK(peer_read(&p, &frame)))
            CHECK_EQ_MEM(frame.data, frame.len, data, lengths[i]);
    }
    free(data);
    end();
}

TEST(fragments_are_joined_and_control_frames_pass_between_them)
{
    CHECK_OR_RETURN(begin());
    peer_send_frame(&p, 0x01, "one ", 4);
    peer_send_frame(&p, 0x89, "are you there", 13);
    peer_expect(&p, 10, "are you there");
    CHECK_EQ_INT(f.clients[0].messages, 0);
    peer_send_frame(&p, 0x00, "", 0);
    peer_send_frame(&p, 0x8a, "unasked", 7);
    peer_send_frame(&p, 0x00, "two ", 4);
    peer_send_frame(&p, 0x80, "three", 5);
    peer_expect(&p, 1, "one two three");
    CHECK_EQ_INT(f.clients[0].pongs, 1);
    CHECK_EQ_INT(f.clients[0].messages, 1);
    peer_send_frame(&p, 0x01, "", 0);
    peer_send_frame(&p, 0x80, "", 0);
    peer_expect(&p, 1, "");
    end();
}

TEST(bytes_may_come_one_by_one)
{
    static const unsigned char frames[] = {0x01, 0x82, 1, 2, 3, 4, 'a' ^ 1, 'b' ^ 2,
                                           0x80, 0x81, 0, 0, 0, 0, 'c'};
    CHECK_OR_RETURN(begin());
    for (size_t i = 0; i < sizeof frames; i++) {
        peer_send(&p, frames + i, 1);
        fixture_turn(&f);
    }
    peer_expect(&p, 1, "abc");
    end();
}

TEST(many_messages_in_one_read_keep_their_order)
{
    CHECK_OR_RETURN(begin());
    struct mesa_buf all;
    mesa_buf_init(&all);
    for (int i = 0; i < 500; i++) {
        char frame[10] = {(char)0x81, (char)0x84, 0, 0, 0, 0};
        frame[6] = (char)('0' + i / 100);
        frame[7] = (char)('0' + i / 10 % 10);
        frame[8] = (char)('0' + i % 10);
        frame[9] = '.';
        mesa_buf_append(&all, frame, sizeof frame);
    }
    peer_send(&p, all.data, all.len);
    mesa_buf_deinit(&all);
    for (int i = 0; i < 500; i++) {
        struct peer_frame frame;
        CHECK_OR_RETURN(peer_read(&p, &frame));
        CHECK_OR_RETURN(atoi(frame.data) == i);
    }
    end();
}

/* The peer sends `count` frames; the transport must close with `code` and report it. */
static void expect_violation(int code)
{
    peer_expect_close(&p, code);
    CHECK(f.clients[0].closes == 1 || f.clients[0].conn != NULL);
    peer_send_close(&p, code, "");
    peer_expect_eof(&p);
    CHECK(WAIT_FOR(&f, f.clients[0].closes == 1));
    CHECK_EQ_INT(f.clients[0].code, code);
    CHECK_EQ_INT(f.clients[0].error, code);
    CHECK(!f.clients[0].by_peer);
}

TEST(a_message_over_the_limit_is_refused_before_it_is_buffered)
{
    static const unsigned char huge[] = {0x82, 0xff, 0x7f, 0xff, 0xff, 0xff, 0xff,
                                         0xff, 0xff, 0xff, 0,    0,    0,    0};
    char *chunk = calloc(1, 20000);
    CHECK_OR_RETURN(begin());
    peer_send(&p, huge, sizeof huge);
    peer_send(&p, chunk, 20000);
    peer_expect_close(&p, 1009);
    end();
    CHECK_EQ_INT(f.clients[0].error, 1009);
    CHECK_EQ_INT(f.clients[0].messages, 0);

    CHECK_OR_RETURN(begin());
    for (int i = 0; i < 60; i++)
        peer_send_frame(&p, i == 0 ? 0x02 : 0x00, chunk, 20000);
    free(chunk);
    expect_violation(1009);
    end();
}

TEST(a_large_message_after_a_refused_one_is_ignored)
{
    CHECK_OR_RETURN(begin());
    char *data = calloc(1, (1 << 20) + 1);
    peer_send_frame(&p, 0x82, data, (1 << 20) + 1);
    peer_send_frame(&p, 0x82, data, 1 << 20);
    free(data);
    expect_violation(1009);
    CHECK_EQ_INT(f.clients[0].messages, 0);
    end();
}

TEST(text_that_is_not_utf8_is_refused)
{
    static const char *const bad[] = {"\xff",        "\xc0\x80", "\xed\xa0\x80", "\xf4\x90\x80\x80",
                                      "abc\xe2\x82", "\x80"};
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        CHECK_OR_RETURN(begin());
        peer_send_frame(&p, 0x81, bad[i], strlen(bad[i]));
        expect_violation(1007);
        CHECK_EQ_INT(f.clients[0].messages, 0);
        end();
    }
}

TEST(a_character_may_be_split_between_fragments)
{
    static const char text[] = "\xe2\x82\xac\xf0\x9f\x98\x80\xc3\xa9\xed\x9f\xbf\xf4\x8f\xbf\xbf";
    CHECK_OR_RETURN(begin());
    for (size_t i = 0; i + 1 < sizeof text; i++)
        peer_send_frame(&p, i == 0 ? 0x01 : 0x00, text + i, 1);
    peer_send_frame(&p, 0x80, "", 0);
    peer_expect(&p, 1, text);
    end();
}

TEST(bad_utf8_in_fragments_is_refused_at_once)
{
    /* each is refused before the message ends */
    static const char *const bad[] = {"ok\xf4\x90", "\xed\xa0", "\xe0\x80", "\xf0\x8f",
                                      "\xc1",       "\xf5",     "\xe2\x28", "\xf0\x9f\x98\x28"};
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        CHECK_OR_RETURN(begin());
        peer_send_frame(&p, 0x01, bad[i], strlen(bad[i]));
        expect_violation(1007);
        end();
    }
    /* and this one when it does */
    CHECK_OR_RETURN(begin());
    peer_send_frame(&p, 0x01, "\xf0\x9f\x98", 3);
    peer_send_frame(&p, 0x80, "", 0);
    expect_violation(1007);
    end();
}

TEST(large_text_in_pieces_is_checked_across_reads)
{
    CHECK_OR_RETURN(begin());
    size_t len = 300000;
    char *text = malloc(len);
    for (size_t i = 0; i < len; i += 3)
        memcpy(text + i, "\xe2\x82\xac", 3);
    struct peer_frame frame;
    peer_send_frame(&p, 0x81, text, len);
    if (CHECK(peer_read(&p, &frame)))
        CHECK_EQ_MEM(frame.data, frame.len, text, len);
    text[len - 100] = 'x';
    peer_send_frame(&p, 0x81, text, len);
    free(text);
    expect_violation(1007);
    end();
}

TEST(frames_that_break_the_protocol_close_with_1002)
{
    static const struct {
        int first[2];
    } cases[] = {
        {{0x83, 0}},    /* reserved opcode */
        {{0x8b, 0}},    /* reserved control opcode */
        {{0xc1, 0}},    /* compressed, which was not agreed on */
        {{0xa1, 0}},    /* reserved bit */
        {{0x80, 0}},    /* a continuation of nothing */
        {{0x09, 0}},    /* a fragmented ping */
        {{0x01, 0x81}}, /* a new message inside another one */
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        CHECK_OR_RETURN(begin());
        peer_send_frame(&p, cases[i].first[0], "x", 1);
        if (cases[i].first[1] != 0)
            peer_send_frame(&p, cases[i].first[1], "x", 1);
        if (!peer_expect_close(&p, 1002))
            CHECK_EQ_INT(cases[i].first[0], 0);
        peer_close(&p);
        CHECK(WAIT_FOR(&f, f.clients[0].closes == 1));
        CHECK_EQ_INT(f.clients[0].code, 1002);
        CHECK_EQ_INT(f.clients[0].error, 1002);
        CHECK(!f.clients[0].by_peer);
        fixture_stop(&f);
    }
}

TEST(a_paused_connection_is_read_again_after_resume)
{
    CHECK_OR_RETURN(begin());
    mesa_conn_pause(f.clients[0].conn);
    peer_send_frame(&p, 0x81, "later", 5);
    for (int i = 0; i < 50; i++)
        fixture_turn(&f);
    CHECK_EQ_INT(f.clients[0].messages, 0);
    mesa_conn_resume(f.clients[0].conn);
    peer_expect(&p, 1, "later");
    end();
}

static void pause_after_first(struct fixture_client *c, const char *data, size_t len)
{
    (void)data;
    (void)len;
    if (c->messages == 1)
        mesa_conn_pause(c->conn);
}

TEST(a_pause_from_inside_on_message_holds_what_was_read_with_it)
{
    CHECK_OR_RETURN(begin());
    f.on_message = pause_after_first;
    char frames[140];
    for (int i = 0; i < 20; i++)
        memcpy(frames + i * 7, "\x81\x81\0\0\0\0x", 7);
    peer_send(&p, frames, sizeof frames);
    peer_expect(&p, 1, "x");
    for (int i = 0; i < 50; i++)
        fixture_turn(&f);
    CHECK_EQ_INT(f.clients[0].messages, 1);
    mesa_conn_resume(f.clients[0].conn);
    for (int i = 1; i < 20; i++)
        CHECK_OR_RETURN(peer_expect(&p, 1, "x"));
    end();
}

static void pause_each(struct fixture_client *c, const char *data, size_t len)
{
    (void)data;
    (void)len;
    mesa_conn_pause(c->conn);
}

TEST(a_pause_at_every_message_loses_and_stalls_nothing)
{
    /* around the sizes of a receive buffer and of a TLS record */
    static const size_t lengths[] = {1, 16310, 16328, 16330, 16332, 16336, 16376, 16384, 32768, 5};
    enum { COUNT = sizeof lengths / sizeof *lengths };
    static struct mesa_buf all;
    CHECK_OR_RETURN(begin());
    f.echo = false;
    f.on_message = pause_each;
    char *data = calloc(1, 65536);
    for (size_t first = 0; first < COUNT; first++) {
        int seen = f.clients[0].messages;
        mesa_buf_reset(&all, 0);
        for (size_t i = 0; i < COUNT; i++) {
            size_t len = lengths[(first + i) % COUNT];
            char head[] = {(char)0x82, (char)0xfe, (char)(len >> 8), (char)len, 0, 0, 0, 0};
            if (len < 126) {
                head[1] = (char)(0x80 | len);
                memmove(head + 2, head + 4, 4);
            }
            mesa_buf_append(&all, head, len < 126 ? 6 : 8);
            mesa_buf_append(&all, data, len);
        }
        CHECK(peer_send(&p, all.data, all.len));
        for (int i = 1; i <= COUNT; i++) {
            CHECK_OR_RETURN(WAIT_FOR(&f, f.clients[0].messages == seen + i));
            for (int turns = 0; turns < 5; turns++)
                fixture_turn(&f);
            mesa_conn_resume(f.clients[0].conn);
        }
    }
    mesa_buf_deinit(&all);
    free(data);
    end();
}
