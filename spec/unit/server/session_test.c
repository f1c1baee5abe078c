/* session_test.c - one connection's life: hello, opcodes, heartbeats, limits, errors, closing
 * (PROTOCOL 1-4, 6, 7). */
#include <string.h>

#include "app.h"

TEST(the_very_first_frame_is_hello_with_the_rules_in_order)
{
    app_begin();
    app.cfg.heartbeat.enabled = app.cfg.reconnect.enabled = true;
    app.cfg.client.enforce_equal_versions = true;
    app.cfg.store_messages = 5;
    app_start();
    struct mesa_conn *c = app_connect();
    CHECK_EQ_STR(fake_next(c),
                 "{\"op\":10,\"d\":{\"c_heartbeat_interval\":10000,\"c_reconnect_interval\":5000,"
                 "\"c_authentication_timeout\":10000,\"rules\":[\"enforce_equal_versions\","
                 "\"store_messages\",\"sends_user_object\"]}}");
    CHECK_EQ_STR(fake_next(c), "");
    app_end();
}

TEST(hello_has_rules_even_when_there_are_none)
{
    app_begin();
    app.cfg.authentication.timeout_ms = 0;
    app.cfg.authentication.send_user_object = false;
    app_start();
    struct mesa_conn *c = app_connect();
    CHECK_EQ_STR(fake_next(c), "{\"op\":10,\"d\":{\"rules\":[]}}");
    app_end();
}

static void greet(struct mesa_client *c)
{
    app_send(c, "1");
}

TEST(hello_comes_before_what_the_connection_handler_sends)
{
    app_begin();
    app.on_connection = greet;
    app_start();
    struct mesa_conn *c = app_connect();
    CHECK(strstr(fake_next(c), "\"op\":10") != NULL);
    CHECK_EQ_STR(fake_next(c), "{\"op\":0,\"d\":1}");
    CHECK_EQ_INT(fake_writes(c), 1);
    app_end();
}

TEST(a_client_knows_its_request_and_has_an_id_of_its_own)
{
    app_begin();
    app_start();
    app_connect();
    struct mesa_client *first = mesa_client_ref(app.last);
    app_connect();
    const struct mesa_request *req = mesa_client_request(first);
    CHECK(mesa_span_eq(req->path, MESA_SPAN("/")));
    CHECK(mesa_span_eq(req->query, MESA_SPAN("a=1")));
    CHECK(mesa_span_eq(req->ip, MESA_SPAN("192.0.2.1")));
    CHECK_EQ_INT(req->header_count, 1);
    CHECK(mesa_span_eq(req->headers[0].name, MESA_SPAN("user-agent")));
    CHECK(mesa_span_eq(req->headers[0].value, MESA_SPAN("fake")));
    CHECK_EQ_INT(mesa_client_server_id(first).len, 22);
    CHECK(!mesa_span_eq(mesa_client_server_id(first), mesa_client_server_id(app.last)));
    mesa_client_unref(first);
    app_end();
}

TEST(messages_reach_the_handler_and_core_ops_do_not)
{
    app_begin();
    app_start();
    struct mesa_conn *c = app_connect();
    fake_skip(c);
    fake_receive(c, "{\"op\":0,\"d\":{\"a\":[]}}");
    fake_receive(c, "{\"op\":42,\"d\":null}");
    fake_receive(c, "{\"op\":2,\"d\":1}");
    CHECK_EQ_STR(app_log(), "message 0 {\"a\":[]}\nmessage 42 null\nmessage 2 1\n");
    fake_receive(c, "{\"op\":1,\"d\":{}}");
    fake_receive(c, "{\"op\":11,\"d\":{}}");
    CHECK_EQ_STR(app_log(), "");
    fake_turn();
    CHECK_EQ_STR(fake_next(c), "{\"op\":11,\"d\":{}}");
    CHECK_EQ_STR(fake_next(c), "");
    app_end();
}

TEST(malformed_text_gets_an_error_event_and_1007)
{
    app_begin();
    app_start();
    struct mesa_conn *c = app_connect();
    fake_receive(c, "{\"op\":0,");
    CHECK_EQ_STR(app_log(), "error JSON\n");
    CHECK_EQ_INT(fake_close_code(c), 1007);
    fake_turn();
    CHECK_EQ_STR(app_log(), "disconnect 1007 malformed JSON\n");
    struct mesa_conn *other = app_connect();
    fake_receive(other, "{\"op\":5,\"t\":\"DISCONNECT_CLIENT\"}");
    CHECK_EQ_INT(fake_close_code(other), 1007);
    CHECK_EQ_STR(app_log(), "error PROTOCOL\n");
    app_end();
}

TEST(another_version_closes_with_1002_unseen_by_scripts)
{
    app_begin();
    app.cfg.client.enforce_equal_versions = true;
    app_start();
    struct mesa_conn *c = app_connect();
    fake_receive(c, "{\"op\":0,\"t\":\"CLIENT_VERSION\",\"d\":{\"v\":\"0.1.0\"}}");
    CHECK_EQ_STR(app_log(), "error VERSION\n");
    CHECK_EQ_INT(fake_close_code(c), 1002);
    app_end();
}

TEST(heartbeats_go_out_every_interval_and_silence_closes_with_4009)
{
    app_begin();
    app.cfg.heartbeat.enabled = true;
    app.cfg.heartbeat.interval_ms = 100;
    app.cfg.heartbeat.max_attempts = 2;
    app_start();
    struct mesa_conn *c = app_connect();
    fake_skip(c);
    fake_advance(99);
    CHECK_EQ_STR(fake_next(c), "");
    fake_advance(1);
    CHECK_EQ_STR(fake_next(c), "{\"op\":1,\"d\":{}}");
    fake_advance(100);
    CHECK_EQ_STR(fake_next(c), "{\"op\":1,\"d\":{\"tries\":1,\"max\":2}}");
    fake_advance(100);
    CHECK_EQ_STR(fake_next(c), "{\"op\":1,\"d\":{\"tries\":2,\"max\":2}}");
    fake_advance(99);
    CHECK_EQ_INT(fake_close_code(c), 0);
    fake_advance(1);
    CHECK_EQ_INT(fake_close_code(c), 4009);
    CHECK_EQ_STR(fake_next(c), "");
    CHECK_EQ_STR(app_log(), "disconnect 4009 heartbeats unanswered\n");
    app_end();
}

TEST(heartbeats_keep_the_phase_of_each_connections_own_connect_time)
{
    app_begin();
    app.cfg.heartbeat.enabled = true;
    app.cfg.heartbeat.interval_ms = 400;
    app_start();
    struct mesa_conn *conns[4];
    for (size_t i = 0; i < 4; i++) {
        conns[i] = app_connect();
        fake_skip(conns[i]);
        fake_advance(40);
    }
    fake_advance(400 - 4 * 40 - 1);
    for (size_t i = 0; i < 4; i++) {
        CHECK_EQ_STR(fake_next(conns[i]), ""); /* not yet, though others have had theirs */
        fake_advance(1);
        CHECK_EQ_STR(fake_next(conns[i]), "{\"op\":1,\"d\":{}}");
        fake_advance(39);
    }
    app_end();
}

TEST(an_acknowledged_heartbeat_keeps_the_connection)
{
    app_begin();
    app.cfg.heartbeat.enabled = true;
    app.cfg.heartbeat.interval_ms = 100;
    app.cfg.heartbeat.max_attempts = 1;
    app_start();
    struct mesa_conn *c = app_connect();
    fake_skip(c);
    for (int i = 0; i < 20; i++) {
        fake_advance(100);
        CHECK_EQ_STR(fake_next(c), "{\"op\":1,\"d\":{}}");
        fake_receive(c, "{\"op\":11,\"d\":{}}");
    }
    CHECK_EQ_INT(fake_close_code(c), 0);
    app_end();
}

TEST(each_connection_keeps_the_phase_of_its_own_begin)
{
    app_begin();
    app.cfg.heartbeat.enabled = true;
    app.cfg.heartbeat.interval_ms = 100;
    app_start();
    struct mesa_conn *a = app_connect();
    fake_advance(30);
    struct mesa_conn *b = app_connect();
    fake_skip(a);
    fake_skip(b);
    fake_advance(70);
    CHECK_EQ_STR(fake_next(a), "{\"op\":1,\"d\":{}}");
    CHECK_EQ_STR(fake_next(b), "");
    fake_advance(30);
    CHECK_EQ_STR(fake_next(b), "{\"op\":1,\"d\":{}}");
    app_end();
}

TEST(raw_mode_speaks_no_envelope_and_pings)
{
    app_begin();
    app.cfg.raw = true;
    app.cfg.heartbeat.enabled = true;
    app.cfg.heartbeat.interval_ms = 100;
    app.cfg.heartbeat.max_attempts = 1;
    app_start();
    struct mesa_conn *c = app_connect();
    CHECK_EQ_STR(fake_next(c), "");
    fake_receive(c, "{\"op\":5}");
    fake_receive(c, "hello");
    CHECK_EQ_STR(app_log(), "raw text {\"op\":5}\nraw text hello\n");
    fake_advance(100);
    CHECK_EQ_STR(fake_next(c), "ping");
    fake_pong(c);
    fake_advance(100);
    CHECK_EQ_STR(fake_next(c), "ping");
    fake_advance(100);
    CHECK_EQ_STR(fake_next(c), "ping");
    fake_advance(100);
    CHECK_EQ_INT(fake_close_code(c), 4009);
    app_end();
}

TEST(in_mesa_mode_a_pong_answers_no_heartbeat)
{
    app_begin();
    app.cfg.heartbeat.enabled = true;
    app.cfg.heartbeat.interval_ms = 100;
    app.cfg.heartbeat.max_attempts = 1;
    app_start();
    struct mesa_conn *c = app_connect();
    fake_advance(200);
    fake_pong(c);
    fake_advance(100);
    CHECK_EQ_INT(fake_close_code(c), 4009);
    app_end();
}

TEST(too_many_messages_close_with_4008)
{
    app_begin();
    app.cfg.limits.messages_per_second = 10;
    app.cfg.limits.burst = 3;
    app_start();
    struct mesa_conn *c = app_connect();
    for (int i = 0; i < 3; i++)
        fake_receive(c, "{\"op\":0}");
    CHECK_EQ_INT(fake_close_code(c), 0);
    fake_advance(100);
    fake_receive(c, "{\"op\":0}");
    CHECK_EQ_INT(fake_close_code(c), 0);
    app_log();
    fake_receive(c, "{\"op\":0}");
    CHECK_EQ_INT(fake_close_code(c), 4008);
    CHECK_EQ_STR(app_log(), "error RATE\n");
    app_end();
}

TEST(a_client_that_sends_nothing_is_closed_after_the_idle_timeout)
{
    app_begin();
    app.cfg.limits.idle_timeout_ms = 500;
    app_start();
    struct mesa_conn *c = app_connect();
    fake_advance(400);
    fake_receive(c, "{\"op\":0}");
    fake_advance(400);
    fake_pong(c);
    fake_advance(499);
    CHECK_EQ_INT(fake_close_code(c), 0);
    fake_advance(1);
    CHECK_EQ_INT(fake_close_code(c), 1008);
    app_end();
}

TEST(what_the_transport_refuses_is_an_error_event)
{
    app_begin();
    app_start();
    struct mesa_conn *c = app_connect();
    fake_protocol_error(c, 1009);
    CHECK_EQ_STR(app_log(), "error PAYLOAD\n");
    CHECK(mesa_client_closed(app.last));
    CHECK_EQ_INT(app_send(app.last, "1"), MESA_ECLOSED);
    fake_turn();
    CHECK_EQ_STR(app_log(), "disconnect 1009 \n");
    app_end();
}

TEST(a_closed_client_stays_readable_and_refuses_sends)
{
    app_begin();
    app_start();
    struct mesa_conn *c = app_login("kept");
    fake_leave(c, 1001);
    fake_turn();
    CHECK(mesa_client_closed(app.last));
    CHECK(mesa_client_server(app.last) == NULL);
    CHECK(mesa_span_eq(mesa_client_id(app.last), MESA_SPAN("kept")));
    CHECK_EQ_INT(app_send(app.last, "1"), MESA_ECLOSED);
    CHECK_EQ_INT(mesa_client_disconnect(app.last, 1000, MESA_SPAN("")), MESA_OK);
    CHECK_EQ_INT(mesa_client_update(app.last, MESA_SPAN("x")), MESA_ECLOSED);
    mesa_client_pause(app.last);
    mesa_client_resume(app.last);
    mesa_client_set_authenticator(app.last, true);
    mesa_server_free(app.server);
    app.server = NULL;
    CHECK(mesa_span_eq(mesa_client_request(app.last)->path, MESA_SPAN("/")));
    app_end();
}

TEST(only_codes_an_application_may_use_are_taken)
{
    app_begin();
    app_start();
    app_connect();
    static const int bad[] = {0, 999, 1004, 1005, 1006, 1015, 1016, 2999, 5000, -1};
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++)
        CHECK_EQ_INT(mesa_client_disconnect(app.last, bad[i], MESA_SPAN("")), MESA_EINVAL);
    char long_reason[124];
    memset(long_reason, 'x', sizeof long_reason);
    CHECK_EQ_INT(mesa_client_disconnect(app.last, 1000, (struct mesa_span){long_reason, 124}),
                 MESA_EINVAL);
    CHECK_EQ_INT(mesa_client_disconnect(app.last, 1000, MESA_SPAN("\xff")), MESA_EINVAL);
    CHECK(!mesa_client_closed(app.last));
    CHECK_EQ_INT(mesa_client_disconnect(app.last, 4999, (struct mesa_span){long_reason, 123}),
                 MESA_OK);
    CHECK(mesa_client_closed(app.last));
    CHECK_EQ_INT(mesa_client_disconnect(app.last, 1000, MESA_SPAN("")), MESA_OK);
    app_end();
}

static void leave_at_once(struct mesa_client *c, struct mesa_span d)
{
    (void)d;
    app_send(c, "\"bye\"");
    mesa_client_disconnect(c, 3001, MESA_SPAN("done"));
    CHECK_EQ_INT(app_send(c, "\"late\""), MESA_ECLOSED);
}

TEST(a_close_waits_as_long_as_the_reader_takes_something)
{
    app_begin();
    app_start();
    struct mesa_conn *c = app_login("a");
    fake_skip(c);
    fake_stall(c);
    app_send(app.last, "1");
    fake_turn();
    mesa_client_disconnect(app.last, 4001, MESA_SPAN("enough"));
    for (int i = 0; i < 5; i++) {
        fake_read_some(c);
        fake_advance(4500);
        CHECK_EQ_INT(fake_close_code(c), 0);
    }
    fake_drain(c);
    CHECK_EQ_STR(fake_next(c), "{\"op\":0,\"d\":1}");
    CHECK_EQ_INT(fake_close_code(c), 4001);
    CHECK(!fake_close_drop(c));
    app_end();
}

TEST(what_was_queued_goes_out_before_the_close_and_nothing_is_delivered_after)
{
    app_begin();
    app.on_message = leave_at_once;
    app_start();
    struct mesa_conn *c = app_connect();
    fake_skip(c);
    fake_receive(c, "{\"op\":0,\"d\":1}");
    CHECK_EQ_STR(fake_next(c), "{\"op\":0,\"d\":\"bye\"}");
    CHECK_EQ_INT(fake_close_code(c), 3001);
    CHECK_EQ_STR(fake_close_reason(c), "done");
    CHECK(!fake_close_drop(c));
    fake_turn();
    CHECK_EQ_STR(app_log(), "message 0 1\ndisconnect 3001 done\n");
    app_end();
}

TEST(messages_are_kept_in_both_directions_within_the_bound)
{
    struct mesa_span json;
    app_begin();
    app.cfg.store_messages = 2;
    app_start();
    struct mesa_conn *c = app_connect();
    CHECK(!mesa_client_stored(app.last, MESA_STORED_SENT, 0, &json));
    for (int i = 0; i < 3; i++) {
        fake_receive(c, i == 2 ? "{\"op\":0,\"d\":\"last\"}" : "{\"op\":0,\"d\":0}");
        app_send(app.last, i == 2 ? "\"last\"" : "0");
    }
    CHECK(mesa_client_stored(app.last, MESA_STORED_SENT, 1, &json));
    CHECK(mesa_span_eq(json, MESA_SPAN("{\"op\":0,\"d\":\"last\"}")));
    CHECK(mesa_client_stored(app.last, MESA_STORED_RECEIVED, 1, &json));
    CHECK(mesa_span_eq(json, MESA_SPAN("{\"op\":0,\"d\":\"last\"}")));
    CHECK(!mesa_client_stored(app.last, MESA_STORED_SENT, 2, &json));
    fake_leave(c, 1000);
    fake_turn();
    CHECK(mesa_client_stored(app.last, MESA_STORED_SENT, 0, &json));
    app_end();
}

TEST(a_script_can_stop_reading_a_client)
{
    app_begin();
    app_start();
    struct mesa_conn *c = app_connect();
    mesa_client_pause(app.last);
    CHECK(fake_paused(c));
    mesa_client_pause(app.last);
    mesa_client_resume(app.last);
    CHECK(!fake_paused(c));
    mesa_client_pause(app.last);
    mesa_client_disconnect(app.last, 1000, MESA_SPAN(""));
    CHECK(!fake_paused(c)); /* to read the peer's answer */
    app_end();
}

TEST(a_client_is_not_blamed_for_answers_that_were_not_read)
{
    app_begin();
    app.cfg.heartbeat.enabled = true;
    app.cfg.heartbeat.interval_ms = 100;
    app.cfg.heartbeat.max_attempts = 1;
    app.cfg.limits.idle_timeout_ms = 300;
    app_start();
    struct mesa_conn *c = app_connect();
    mesa_client_pause(app.last); /* a handler that waits */
    fake_advance(1000);
    CHECK_EQ_INT(fake_close_code(c), 0);
    mesa_client_resume(app.last);
    fake_advance(90);
    fake_receive(c, "{\"op\":11}");

    for (int i = 0; i < 10; i++) { /* a slow reader that makes progress */
        fake_stall(c);
        app_send(app.last, "1");
        fake_advance(90);
        fake_drain(c);
    }
    CHECK_EQ_INT(fake_close_code(c), 0);
    fake_stall(c);
    app_send(app.last, "1");
    fake_advance(300); /* one that makes none */
    CHECK(mesa_client_closed(app.last));
    fake_drain(c);
    app_end();
}
