/* sync_test.c - messages for the offline: kept, redelivered in order, given back (PROTOCOL 8, Sync,
 * without Redis). */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "app.h"

static void begin(void)
{
    app_begin();
    app.authenticates = true;
    app.cfg.sync.enabled = true;
}

static void keep(int count)
{
    char d[16];
    for (int i = 1; i <= count; i++) {
        snprintf(d, sizeof d, "\"m%d\"", i);
        app_send_to("a", d);
    }
    app_log();
}

/* Begins an authentication as "a" on a new connection; hello is skipped. */
static struct mesa_conn *authenticate(const char *op_2)
{
    struct mesa_conn *c = app_connect();
    fake_skip(c);
    fake_receive(c, op_2);
    mesa_client_accept(app.last, app.check, MESA_SPAN("a"), MESA_SPAN("{}"));
    return c;
}

static struct mesa_conn *login(void)
{
    struct mesa_conn *c = authenticate("{\"op\":2,\"d\":{}}");
    fake_turn();
    CHECK_EQ_STR(fake_next(c), "{\"op\":22,\"d\":{}}");
    return c;
}

static void check_next(struct mesa_conn *c, int message, int sequence)
{
    char want[64];
    snprintf(want, sizeof want, "{\"op\":0,\"d\":\"m%d\",\"s\":%d}", message, sequence);
    CHECK_EQ_STR(fake_next(c), want);
}

TEST(a_message_for_an_offline_id_is_kept_and_sent_after_op_22)
{
    begin();
    app_start();
    app_send_to("a", "\"m1\"");
    CHECK_EQ_STR(app_log(), "kept for a\n");
    app_send_to("a", "\"m2\"");
    app_log();
    struct mesa_conn *c = login();
    CHECK_EQ_STR(app_log(), "check {}\nauthenticated a\nredeliver 2\n");
    check_next(c, 1, 1);
    check_next(c, 2, 2);
    CHECK_EQ_STR(fake_next(c), "");
    fake_leave(c, 1000);
    fake_turn();
    struct mesa_conn *again = login(); /* it was delivered */
    CHECK_EQ_STR(fake_next(again), "");
    app_end();
}

TEST(nothing_is_kept_for_the_online_for_everybody_or_without_sync)
{
    begin();
    app_start();
    struct mesa_conn *c = login();
    app_log();
    app_send_to("a", "1");
    app_broadcast("2");
    struct mesa_frame *f = app_frame("3");
    const struct mesa_span ids[] = {MESA_SPAN("b")};
    const struct mesa_recipients to = {.ids = ids, .id_count = 1};
    mesa_server_send(app.server, f, &to, false, NULL, NULL);
    mesa_frame_unref(f);
    CHECK_EQ_STR(app_log(), "");
    fake_turn();
    CHECK_EQ_STR(fake_next(c), "{\"op\":0,\"d\":1}");
    app_end();
    begin();
    app.cfg.sync.enabled = false;
    app_start();
    app_send_to("a", "1");
    CHECK_EQ_STR(app_log(), "");
    app_end();
}

TEST(should_sync_false_drops_the_backlog)
{
    begin();
    app_start();
    keep(2);
    struct mesa_conn *c = authenticate("{\"op\":2,\"d\":{\"shouldSync\":false}}");
    fake_turn();
    CHECK_EQ_STR(fake_next(c), "{\"op\":22,\"d\":{}}");
    CHECK_EQ_STR(fake_next(c), "");
    fake_leave(c, 1000);
    fake_turn();
    c = login();
    CHECK_EQ_STR(fake_next(c), "");
    app_end();
}

TEST(redelivery_is_paced_and_live_messages_do_not_wait_for_it)
{
    begin();
    app.cfg.sync.redelivery_interval_ms = 100;
    app_start();
    keep(3);
    struct mesa_conn *c = login();
    check_next(c, 1, 1);
    CHECK_EQ_STR(fake_next(c), "");
    fake_advance(50);
    app_send_to("a", "\"live\"");
    fake_advance(49);
    CHECK_EQ_STR(fake_next(c), "{\"op\":0,\"d\":\"live\"}");
    CHECK_EQ_STR(fake_next(c), "");
    fake_advance(1);
    check_next(c, 2, 2);
    fake_advance(100);
    check_next(c, 3, 3);
    fake_advance(1000);
    CHECK_EQ_STR(fake_next(c), "");
    app_end();
}

TEST(what_a_leaving_client_was_not_sent_goes_back_in_order)
{
    begin();
    app.cfg.sync.redelivery_interval_ms = 100;
    app_start();
    keep(4);
    struct mesa_conn *c = login();
    fake_advance(100);
    check_next(c, 1, 1);
    check_next(c, 2, 2);
    fake_leave(c, 1006);
    app_send_to("a", "\"m5\"");
    fake_turn();
    c = login();
    check_next(c, 3, 1);
    fake_advance(200);
    check_next(c, 4, 2);
    check_next(c, 5, 3);
    app_end();
}

TEST(what_was_queued_but_not_written_goes_back_too)
{
    begin();
    app_start();
    keep(3);
    struct mesa_conn *c = app_connect();
    fake_stall(c);
    fake_receive(c, "{\"op\":2}");
    mesa_client_accept(app.last, app.check, MESA_SPAN("a"), MESA_SPAN("{}"));
    fake_turn();
    fake_leave(c, 1006);
    fake_turn();
    c = login();
    check_next(c, 1, 1);
    check_next(c, 2, 2);
    check_next(c, 3, 3);
    app_end();
}

TEST(a_close_that_gives_up_on_a_stalled_reader_gives_back)
{
    begin();
    app_start();
    keep(2);
    struct mesa_conn *c = app_connect();
    fake_stall(c);
    fake_receive(c, "{\"op\":2}");
    mesa_client_accept(app.last, app.check, MESA_SPAN("a"), MESA_SPAN("{}"));
    mesa_client_disconnect(app.last, 1000, MESA_SPAN(""));
    fake_advance(6000);
    CHECK(fake_gone(c));
    c = login();
    check_next(c, 1, 1);
    check_next(c, 2, 2);
    app_end();
}

TEST(a_close_that_waits_for_the_reader_delivers_what_was_queued)
{
    begin();
    app_start();
    keep(2);
    struct mesa_conn *c = app_connect();
    fake_stall(c);
    fake_receive(c, "{\"op\":2}");
    mesa_client_accept(app.last, app.check, MESA_SPAN("a"), MESA_SPAN("{}"));
    mesa_client_disconnect(app.last, 1000, MESA_SPAN(""));
    fake_drain(c);
    fake_turn();
    c = login();
    CHECK_EQ_STR(fake_next(c), "");
    app_end();
}

TEST(a_large_backlog_never_overflows_the_queue)
{
    begin();
    app.cfg.limits.max_backpressure = 400;
    app_start();
    keep(100);
    struct mesa_conn *c = app_connect();
    fake_skip(c);
    fake_stall(c);
    fake_receive(c, "{\"op\":2}");
    mesa_client_accept(app.last, app.check, MESA_SPAN("a"), MESA_SPAN("{}"));
    fake_advance(50);
    CHECK_EQ_INT(fake_close_code(c), 0);
    CHECK(mesa_client_buffered(app.last) <= 200);
    CHECK_EQ_INT(app_send(app.last, "\"live\""), MESA_OK); /* there is room for it */
    fake_drain(c);
    fake_turn();
    CHECK_EQ_STR(fake_next(c), "{\"op\":22,\"d\":{}}");
    int next = 1, live = 0;
    for (const char *got = fake_next(c); got[0] != '\0'; got = fake_next(c)) {
        char want[64];
        snprintf(want, sizeof want, "{\"op\":0,\"d\":\"m%d\",\"s\":%d}", next, next);
        if (strcmp(got, want) == 0)
            next++;
        else
            live++;
    }
    CHECK_EQ_INT(next, 101);
    CHECK_EQ_INT(live, 1);
    CHECK_EQ_INT(fake_close_code(c), 0);
    app_end();
}

TEST(a_paced_redelivery_waits_for_a_stalled_reader_without_spinning)
{
    begin();
    app.cfg.sync.redelivery_interval_ms = 10;
    app.cfg.limits.max_backpressure = 200;
    app_start();
    keep(20);
    struct mesa_conn *c = app_connect();
    fake_skip(c);
    fake_stall(c);
    fake_receive(c, "{\"op\":2}");
    mesa_client_accept(app.last, app.check, MESA_SPAN("a"), MESA_SPAN("{}"));
    fake_advance(500);
    CHECK_EQ_INT(fake_close_code(c), 0);
    fake_drain(c);
    fake_advance(500);
    CHECK_EQ_STR(fake_next(c), "{\"op\":22,\"d\":{}}");
    for (int i = 1; i <= 20; i++)
        check_next(c, i, i);
    app_end();
}

TEST(authenticating_anew_during_a_redelivery_loses_and_doubles_nothing)
{
    begin();
    app.cfg.sync.redelivery_interval_ms = 100;
    app_start();
    keep(3);
    struct mesa_conn *c = login();
    check_next(c, 1, 1);
    fake_receive(c, "{\"op\":2}");
    mesa_client_accept(app.last, app.check, MESA_SPAN("a"), MESA_SPAN("{}"));
    fake_advance(300);
    CHECK_EQ_STR(fake_next(c), "{\"op\":22,\"d\":{}}");
    check_next(c, 2, 1);
    check_next(c, 3, 2);
    CHECK_EQ_STR(fake_next(c), "");
    app_end();
}

TEST(becoming_another_user_leaves_the_backlog_to_the_first)
{
    begin();
    app.cfg.sync.redelivery_interval_ms = 100;
    app_start();
    keep(3);
    struct mesa_conn *c = login();
    check_next(c, 1, 1);
    mesa_client_update(app.last, MESA_SPAN("b"));
    fake_advance(500);
    CHECK_EQ_STR(fake_next(c), "");
    c = login();
    check_next(c, 2, 1);
    app_end();
}

TEST(a_message_is_kept_when_the_only_connection_is_dropped_by_it)
{
    begin();
    app.cfg.limits.max_backpressure = 100;
    app_start();
    struct mesa_conn *c = login();
    fake_stall(c);
    for (int i = 0; i < 4 && fake_close_code(c) == 0; i++)
        app_send_to("a", "\"0123456789012345678901234567\"");
    CHECK_EQ_INT(fake_close_code(c), 1013);
    CHECK(strstr(app_log(), "kept for a") != NULL);
    app_end();
}

TEST(the_bounds_drop_the_oldest_and_say_so)
{
    begin();
    app.cfg.sync.max_messages = 2;
    app_start();
    app_send_to("a", "1");
    app_send_to("a", "2");
    app_log();
    app_send_to("a", "3");
    CHECK_EQ_STR(app_log(), "dropped for a {\"op\":0,\"d\":1}\nkept for a\n");
    app_end();
}

static void leave(struct mesa_client *c)
{
    mesa_client_disconnect(c, 1000, MESA_SPAN(""));
}

TEST(closing_in_the_authenticated_handler_keeps_the_backlog)
{
    begin();
    app_start();
    keep(2);
    app.on_authenticated = leave;
    struct mesa_conn *c = authenticate("{\"op\":2}");
    fake_turn();
    CHECK(fake_gone(c));
    app.on_authenticated = NULL;
    c = login();
    check_next(c, 1, 1);
    check_next(c, 2, 2);
    app_end();
}

TEST(freeing_the_server_during_a_redelivery_leaks_nothing)
{
    begin();
    app.cfg.sync.redelivery_interval_ms = 100;
    app_start();
    keep(3);
    login();
    app_end();
}
