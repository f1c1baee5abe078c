/* delivery_test.c - recipients, order, gathered writes, backpressure. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "app.h"

static void count_sent(void *ctx, struct mesa_client *c)
{
    (void)c;
    ++*(int *)ctx;
}

/* Sends to a list of ids without some; returns how many clients got it. */
static int send_to(const char *const *ids, const char *const *excluding)
{
    struct mesa_span id[16], ex[16];
    struct mesa_recipients to = {.ids = ids != NULL ? id : NULL, .excluding = ex};
    for (; ids != NULL && ids[to.id_count] != NULL; to.id_count++)
        id[to.id_count] = app_span(ids[to.id_count]);
    for (; excluding != NULL && excluding[to.excluding_count] != NULL; to.excluding_count++)
        ex[to.excluding_count] = app_span(excluding[to.excluding_count]);
    int sent = 0;
    struct mesa_frame *f = app_frame("0");
    CHECK_EQ_INT(mesa_server_send(app.server, f, &to, true, count_sent, &sent), MESA_OK);
    CHECK_EQ_INT(f->refs, 1 + sent);
    mesa_frame_unref(f);
    return sent;
}

TEST(recipients_are_everybody_ids_or_all_but_some)
{
    app_begin();
    app_start();
    app_login("a");
    app_login("a");
    app_login("b");
    app_connect(); /* without an id */
    CHECK_EQ_INT(send_to(NULL, NULL), 4);
    CHECK_EQ_INT(send_to(NULL, (const char *[]){"a", NULL}), 2);
    CHECK_EQ_INT(send_to(NULL, (const char *[]){"a", "b", "c", "a", NULL}), 1);
    CHECK_EQ_INT(send_to((const char *[]){"a", NULL}, NULL), 2);
    CHECK_EQ_INT(send_to((const char *[]){"b", "a", "b", "a", "nobody", NULL}, NULL), 3);
    CHECK_EQ_INT(send_to((const char *[]){"a", "b", NULL}, (const char *[]){"a", NULL}), 1);
    CHECK_EQ_INT(send_to((const char *[]){NULL}, NULL), 0);
    CHECK_EQ_INT(
        send_to((const char *[]){"1", "2", "3", "4", "5", "6", "7", "8", "9", "b", "b", NULL},
                NULL),
        1);
    app_end();
}

TEST(authentication_required_leaves_out_who_is_not)
{
    app_begin();
    app.cfg.authentication.required = true;
    app_start();
    app_login("a");
    app_connect();
    CHECK_EQ_INT(send_to(NULL, NULL), 1);
    CHECK_EQ_INT(app_send(app.last, "1"), MESA_OK); /* directly it goes to anybody */
    app_end();
}

TEST(a_turn_is_one_write_per_connection_in_order)
{
    app_begin();
    app_start();
    struct mesa_conn *a = app_login("a");
    unsigned before = fake_writes(a);
    app_send(app.last, "1");
    app_broadcast("2");
    app_send_to("a", "3");
    CHECK_EQ_STR(fake_next(a), "");
    fake_turn();
    CHECK_EQ_INT(fake_writes(a) - before, 1);
    CHECK_EQ_STR(fake_next(a), "{\"op\":0,\"d\":1}");
    CHECK_EQ_STR(fake_next(a), "{\"op\":0,\"d\":2}");
    CHECK_EQ_STR(fake_next(a), "{\"op\":0,\"d\":3}");
    CHECK_EQ_STR(fake_next(a), "");
    app_end();
}

TEST(equal_queues_are_gathered_once)
{
    app_begin();
    app_start();
    struct mesa_conn *a = app_login("a"), *b = app_login("b");
    struct mesa_client *client_b = app.last;
    app_broadcast("1");
    app_broadcast("2");
    fake_turn();
    CHECK_EQ_STR(fake_next(a), "{\"op\":0,\"d\":1}");
    CHECK_EQ_STR(fake_next(b), "{\"op\":0,\"d\":1}");
    CHECK_EQ_STR(fake_next(b), "{\"op\":0,\"d\":2}");
    CHECK(fake_same_memory(a, b));

    app_broadcast("3");
    app_send(client_b, "4");
    fake_turn();
    fake_next(a);
    CHECK_EQ_STR(fake_next(a), "{\"op\":0,\"d\":3}");
    CHECK_EQ_STR(fake_next(a), "");
    CHECK_EQ_STR(fake_next(b), "{\"op\":0,\"d\":3}");
    CHECK_EQ_STR(fake_next(b), "{\"op\":0,\"d\":4}");
    app_end();
}

static void echo(struct mesa_client *c, struct mesa_span d)
{
    (void)d;
    app_send(c, "\"echo\"");
}

/* -- compression -- */

static struct mesa_conn *connect_with(const char *extensions)
{
    struct mesa_conn *c = fake_connect_as(&(struct fake_peer){.extensions = extensions});
    fake_turn();
    fake_skip(c);
    return c;
}

static char big[2001];

static void start_with_compression(bool takeover)
{
    app_begin();
    app.cfg.compression.enabled = true;
    app.cfg.compression.context_takeover = takeover;
    app_start();
    memset(big, '7', sizeof big - 1);
}

TEST(a_broadcast_is_compressed_once_for_all_with_windows_of_one_size)
{
    start_with_compression(false);
    struct mesa_conn *plain = connect_with(NULL), *a = connect_with("permessage-deflate");
    struct mesa_conn *b = connect_with("permessage-deflate; client_max_window_bits");
    struct mesa_conn *small = connect_with("permessage-deflate; server_max_window_bits=9");
    app_broadcast(big);
    fake_turn();
    CHECK_EQ_INT(strlen(fake_next(plain)), sizeof big - 1 + 13);
    CHECK(fake_same_memory(a, b));
    CHECK(!fake_same_memory(a, plain));
    CHECK(!fake_same_memory(a, small));
    const struct mesa_metrics *m = mesa_server_metrics(app.server);
    CHECK(m->deflate_wire_out < m->deflate_plain_out / 10);
    app_end();
}

TEST(nothing_is_compressed_while_it_cannot_be_written)
{
    for (int takeover = 0; takeover < 2; takeover++) {
        start_with_compression(takeover != 0);
        struct mesa_conn *c = connect_with("permessage-deflate");
        const struct mesa_metrics *m = mesa_server_metrics(app.server);
        uint64_t before = m->deflate_wire_out;
        struct mesa_frame *f = app_frame(big);
        fake_stall(c);
        mesa_client_send(app.last, f);
        fake_turn();
        CHECK(f->compressed == NULL && m->deflate_wire_out == before);
        fake_drain(c);
        CHECK((f->compressed != NULL) == (takeover == 0) && m->deflate_wire_out > before);
        mesa_frame_unref(f);
        app_end();
    }
}

TEST(small_messages_and_control_frames_are_not_compressed)
{
    start_with_compression(true);
    struct mesa_conn *c = connect_with("permessage-deflate");
    app_broadcast("1");
    struct mesa_frame *ping;
    CHECK_EQ_INT(mesa_frame_new(&ping, MESA_WS_PING, "mesa", 4), MESA_OK);
    mesa_client_send(app.last, ping);
    mesa_frame_unref(ping);
    fake_turn();
    CHECK_EQ_STR(fake_next(c), "{\"op\":0,\"d\":1}");
    CHECK_EQ_STR(fake_next(c), "ping");
    app_end();
}

TEST(answers_of_a_turn_go_out_at_its_end_in_one_write_each)
{
    app_begin();
    app.on_message = echo;
    app_start();
    struct mesa_conn *a = app_login("a"), *b = app_login("b");
    unsigned before_a = fake_writes(a), before_b = fake_writes(b);
    for (int i = 0; i < 16; i++)
        fake_receive(a, "{\"op\":0}");
    fake_receive(b, "{\"op\":0}");
    CHECK_EQ_INT(fake_writes(a) - before_a, 0);
    fake_turn();
    CHECK_EQ_INT(fake_writes(a) - before_a, 1);
    CHECK_EQ_INT(fake_writes(b) - before_b, 1);
    for (int i = 0; i < 16; i++)
        CHECK_EQ_STR(fake_next(a), "{\"op\":0,\"d\":\"echo\"}");
    CHECK_EQ_STR(fake_next(a), "");
    CHECK_EQ_STR(fake_next(b), "{\"op\":0,\"d\":\"echo\"}");
    app_end();
}

/* A JSON string of n bytes, quotes included. */
static char *string_of(size_t n)
{
    char *text = malloc(n + 1);
    memset(text, 'x', n);
    text[0] = text[n - 1] = '"';
    text[n] = '\0';
    return text;
}

TEST(large_frames_and_small_ones_arrive_whole_and_in_order)
{
    app_begin();
    app_start();
    struct mesa_conn *a = app_login("a");
    char *large = string_of(100000), *medium = string_of(5000);
    for (int i = 0; i < 40; i++) {
        app_send(app.last, "1");
        app_send(app.last, i % 10 == 5 ? large : medium);
    }
    fake_turn();
    for (int i = 0; i < 40; i++) {
        CHECK_EQ_STR(fake_next(a), "{\"op\":0,\"d\":1}");
        CHECK_EQ_INT(strlen(fake_next(a)), i % 10 == 5 ? 100013 : 5013);
    }
    CHECK_EQ_STR(fake_next(a), "");
    free(large);
    free(medium);
    app_end();
}

TEST(a_stalled_reader_is_not_read_from_and_gets_everything_in_order_when_it_reads_on)
{
    app_begin();
    app.cfg.limits.max_backpressure = 1000;
    app_start();
    struct mesa_conn *a = app_login("a");
    char d[32];
    fake_stall(a);
    for (int i = 0; i < 20; i++) {
        snprintf(d, sizeof d, "%d", i);
        CHECK_EQ_INT(app_send(app.last, d), MESA_OK);
        fake_turn();
    }
    CHECK(fake_paused(a));
    CHECK(mesa_client_buffered(app.last) > 0);
    app_log();
    fake_drain(a);
    CHECK(!fake_paused(a));
    for (int i = 0; i < 20; i++) {
        snprintf(d, sizeof d, "{\"op\":0,\"d\":%d}", i);
        CHECK_EQ_STR(fake_next(a), d);
    }
    CHECK_EQ_STR(app_log(), ""); /* nobody had been told of backpressure */
    app_end();
}

TEST(over_half_of_the_bound_send_says_so_and_drain_comes_once)
{
    app_begin();
    app.cfg.limits.max_backpressure = 1000;
    app_start();
    struct mesa_conn *a = app_login("a");
    char *medium = string_of(300);
    fake_stall(a);
    CHECK_EQ_INT(app_send(app.last, medium), MESA_OK);
    CHECK_EQ_INT(app_send(app.last, medium), MESA_EAGAIN);
    CHECK_EQ_INT(app_send(app.last, medium), MESA_EAGAIN);
    app_log();
    fake_drain(a);
    CHECK_EQ_STR(app_log(), "drain\n");
    fake_stall(a);
    app_send(app.last, "1");
    fake_turn();
    fake_drain(a);
    CHECK_EQ_STR(app_log(), "");
    free(medium);
    app_end();
}

TEST(a_fast_reader_is_never_told_of_backpressure)
{
    app_begin();
    app.cfg.limits.max_backpressure = 1000;
    app_start();
    struct mesa_conn *a = app_login("a");
    char *medium = string_of(300);
    for (int i = 0; i < 50; i++)
        CHECK_EQ_INT(app_send(app.last, medium), MESA_OK);
    fake_turn();
    CHECK(fake_received_bytes(a) > 50 * 300);
    free(medium);
    app_end();
}

TEST(over_the_bound_the_client_is_dropped_with_1013)
{
    app_begin();
    app.cfg.limits.max_backpressure = 1000;
    app_start();
    struct mesa_conn *a = app_login("a");
    char *medium = string_of(400);
    fake_stall(a);
    app_send(app.last, medium);
    app_send(app.last, medium);
    app_log();
    CHECK_EQ_INT(app_send(app.last, medium), MESA_ETOOBIG);
    CHECK_EQ_STR(app_log(), "error BACKPRESSURE\n");
    CHECK_EQ_INT(fake_close_code(a), 1013);
    CHECK(fake_close_drop(a));
    CHECK_EQ_INT(mesa_client_buffered(app.last), 0);
    CHECK_EQ_INT(app_send(app.last, medium), MESA_ECLOSED);
    fake_turn();
    CHECK_EQ_STR(app_log(), "disconnect 1013 too slow a reader\n");
    free(medium);
    app_end();
}

TEST(one_stalled_reader_does_not_keep_the_others_from_a_broadcast)
{
    app_begin();
    app.cfg.limits.max_backpressure = 200;
    app_start();
    struct mesa_conn *a = app_login("a"), *slow = app_login("slow"), *b = app_login("b");
    fake_stall(slow);
    for (int i = 0; i < 50; i++) {
        app_broadcast("\"0123456789\"");
        fake_turn();
    }
    CHECK_EQ_INT(fake_close_code(slow), 1013);
    for (int i = 0; i < 50; i++) {
        CHECK_EQ_STR(fake_next(a), "{\"op\":0,\"d\":\"0123456789\"}");
        CHECK_EQ_STR(fake_next(b), "{\"op\":0,\"d\":\"0123456789\"}");
    }
    app_end();
}

TEST(a_close_waits_for_a_reader_that_is_behind)
{
    app_begin();
    app_start();
    struct mesa_conn *a = app_login("a");
    fake_stall(a);
    app_send(app.last, "\"before\"");
    mesa_client_disconnect(app.last, 3000, MESA_SPAN("why"));
    CHECK_EQ_INT(fake_close_code(a), 0);
    CHECK_EQ_INT(app_send(app.last, "\"after\""), MESA_ECLOSED);
    fake_advance(1000);
    fake_drain(a);
    CHECK_EQ_STR(fake_next(a), "{\"op\":0,\"d\":\"before\"}");
    CHECK_EQ_STR(fake_next(a), "");
    CHECK_EQ_INT(fake_close_code(a), 3000);
    CHECK(!fake_close_drop(a));
    app_end();
}

TEST(a_close_does_not_wait_for_ever)
{
    app_begin();
    app_start();
    struct mesa_conn *a = app_login("a");
    fake_stall(a);
    app_send(app.last, "1");
    mesa_client_disconnect(app.last, 3000, MESA_SPAN("why"));
    fake_advance(4999);
    CHECK_EQ_INT(fake_close_code(a), 0);
    fake_advance(1);
    CHECK_EQ_INT(fake_close_code(a), 3000);
    CHECK(fake_close_drop(a));
    CHECK_EQ_INT(mesa_client_buffered(app.last), 0);
    app_end();
}

TEST(a_peer_that_leaves_while_its_close_waits_is_no_trouble)
{
    app_begin();
    app_start();
    struct mesa_conn *a = app_login("a");
    fake_stall(a);
    app_send(app.last, "1");
    mesa_client_disconnect(app.last, 3000, MESA_SPAN("why"));
    fake_leave(a, 1006);
    fake_turn();
    CHECK_EQ_STR(app_log(), "check {}\nauthenticated a\ndisconnect 1006 \n");
    app_end();
}

static void everybody_out(struct mesa_client *c, struct mesa_span d)
{
    (void)c;
    (void)d;
    struct mesa_client *each = NULL;
    while ((each = mesa_server_next(app.server, each)) != NULL) {
        app_broadcast("\"one leaves\"");
        mesa_client_disconnect(each, 1000, MESA_SPAN(""));
    }
}

TEST(a_handler_may_disconnect_everybody_in_the_middle_of_broadcasts)
{
    app_begin();
    app.on_message = everybody_out;
    app_start();
    struct mesa_conn *c[5];
    for (int i = 0; i < 5; i++)
        c[i] = app_login("same");
    fake_receive(c[2], "{\"op\":0}");
    CHECK_EQ_INT(mesa_server_client_count(app.server), 0);
    fake_turn();
    for (int i = 0; i < 5; i++) {
        CHECK(fake_gone(c[i]));
        for (int n = 0; n <= i; n++)
            CHECK_EQ_STR(fake_next(c[i]), "{\"op\":0,\"d\":\"one leaves\"}");
        CHECK_EQ_STR(fake_next(c[i]), "");
    }
    CHECK(mesa_server_next(app.server, NULL) == NULL);
    app_end();
}

static void disconnect_sent(void *ctx, struct mesa_client *c)
{
    ++*(int *)ctx;
    mesa_client_disconnect(c, 1000, MESA_SPAN(""));
}

TEST(the_told_of_each_recipient_may_close_it)
{
    app_begin();
    app_start();
    struct mesa_conn *a1 = app_login("a"), *a2 = app_login("a");
    int sent = 0;
    struct mesa_frame *f = app_frame("1");
    const struct mesa_span ids[] = {MESA_SPAN("a")};
    mesa_server_send(app.server, f, &(struct mesa_recipients){.ids = ids, .id_count = 1}, true,
                     disconnect_sent, &sent);
    mesa_frame_unref(f);
    CHECK_EQ_INT(sent, 2);
    CHECK_EQ_STR(fake_next(a1), "{\"op\":0,\"d\":1}");
    CHECK_EQ_STR(fake_next(a2), "{\"op\":0,\"d\":1}");
    CHECK_EQ_INT(fake_close_code(a1), 1000);
    app_end();
}

TEST(disconnect_client_closes_every_connection_of_the_recipients)
{
    app_begin();
    app_start();
    struct mesa_conn *a1 = app_login("a"), *b = app_login("b"), *a2 = app_login("a");
    const struct mesa_span ids[] = {MESA_SPAN("a"), MESA_SPAN("nobody")};
    mesa_server_disconnect(app.server, &(struct mesa_recipients){.ids = ids, .id_count = 2}, true);
    CHECK_EQ_INT(fake_close_code(a1), 1000);
    CHECK_EQ_INT(fake_close_code(a2), 1000);
    CHECK_EQ_INT(fake_close_code(b), 0);
    mesa_server_disconnect(app.server, &(struct mesa_recipients){.ids = NULL}, true);
    CHECK_EQ_INT(fake_close_code(b), 1000);
    app_end();
}

TEST(raw_frames_are_sent_as_they_are)
{
    app_begin();
    app.cfg.raw = true;
    app_start();
    struct mesa_conn *c = app_connect();
    struct mesa_frame *f = NULL;
    mesa_frame_new(&f, MESA_WS_BINARY, "\x01\x02z", 3);
    CHECK_EQ_INT(mesa_client_send(app.last, f), MESA_OK);
    mesa_frame_unref(f);
    fake_turn();
    CHECK_EQ_STR(fake_next(c), "\x01\x02z");
    app_end();
}
