/* auth_test.c - authentication, presence, several connections of one user (PROTOCOL 5). */
#include <string.h>

#include "app.h"

static const char op_2[] = "{\"op\":2,\"d\":{\"token\":\"t\"}}";

static enum mesa_status accept_as(const char *id, const char *user)
{
    return mesa_client_accept(app.last, app.check, app_span(id), app_span(user));
}

static void begin(void)
{
    app_begin();
    app.authenticates = true;
}

TEST(accepting_sends_op_22_with_the_user)
{
    begin();
    app_start();
    struct mesa_conn *c = app_connect();
    fake_skip(c);
    fake_receive(c, op_2);
    CHECK_EQ_STR(app_log(), "check {\"token\":\"t\"}\n");
    CHECK(!mesa_client_authenticated(app.last));
    CHECK_EQ_INT(accept_as("u1", "{\"id\":\"u1\",\"n\":[]}"), MESA_OK);
    CHECK_EQ_STR(app_log(), "authenticated u1\n");
    CHECK(mesa_client_authenticated(app.last));
    CHECK(mesa_span_eq(mesa_client_id(app.last), MESA_SPAN("u1")));
    fake_turn();
    CHECK_EQ_STR(fake_next(c), "{\"op\":22,\"d\":{\"id\":\"u1\",\"n\":[]}}");
    app_end();
}

TEST(op_22_is_empty_when_the_user_object_stays_home)
{
    begin();
    app.cfg.authentication.send_user_object = false;
    app_start();
    struct mesa_conn *c = app_connect();
    fake_skip(c);
    fake_receive(c, op_2);
    accept_as("u1", "{\"secret\":1}");
    fake_turn();
    CHECK_EQ_STR(fake_next(c), "{\"op\":22,\"d\":{}}");
    app_end();
}

TEST(refusing_closes_with_1008_and_says_nothing_of_the_script)
{
    begin();
    app_start();
    struct mesa_conn *c = app_connect();
    fake_receive(c, op_2);
    CHECK_EQ_INT(mesa_client_refuse(app.last, app.check), MESA_OK);
    CHECK_EQ_INT(fake_close_code(c), 1008);
    CHECK_EQ_STR(fake_close_reason(c), "authentication refused");
    CHECK_EQ_INT(accept_as("u1", "{}"), MESA_ECLOSED);
    app_end();
}

TEST(without_disconnect_on_fail_a_refused_client_stays_and_may_try_again)
{
    begin();
    app.cfg.authentication.disconnect_on_fail = false;
    app_start();
    struct mesa_conn *c = app_connect();
    fake_receive(c, op_2);
    CHECK_EQ_INT(mesa_client_refuse(app.last, app.check), MESA_OK);
    CHECK_EQ_INT(fake_close_code(c), 0);
    CHECK(!mesa_client_authenticated(app.last));
    CHECK_EQ_INT(mesa_client_refuse(app.last, app.check), MESA_ECLOSED);
    fake_receive(c, op_2);
    CHECK_EQ_INT(accept_as("u1", "{}"), MESA_OK);
    app_end();
}

TEST(stale_and_invented_check_numbers_have_no_effect)
{
    begin();
    app_start();
    struct mesa_conn *c = app_connect();
    CHECK_EQ_INT(mesa_client_accept(app.last, 0, MESA_SPAN("u"), MESA_SPAN("{}")), MESA_ECLOSED);
    fake_receive(c, op_2);
    uint32_t first = app.check;
    CHECK_EQ_INT(mesa_client_refuse(app.last, first + 1), MESA_ECLOSED);
    CHECK_EQ_INT(accept_as("u1", "{}"), MESA_OK);
    CHECK_EQ_INT(accept_as("u2", "{}"), MESA_ECLOSED);
    fake_receive(c, op_2);
    CHECK_EQ_INT(mesa_client_refuse(app.last, first), MESA_ECLOSED);
    CHECK_EQ_INT(accept_as("u3", "{}"), MESA_OK);
    CHECK(mesa_span_eq(mesa_client_id(app.last), MESA_SPAN("u3")));
    app_end();
}

TEST(ids_are_1_to_512_bytes_of_utf_8_and_nobody_is_everybody)
{
    begin();
    app_start();
    struct mesa_conn *c = app_connect();
    char long_id[514];
    memset(long_id, 'x', 513);
    long_id[513] = '\0';
    fake_receive(c, op_2);
    CHECK_EQ_INT(accept_as("", "{}"), MESA_EINVAL);
    CHECK_EQ_INT(accept_as("\xc3", "{}"), MESA_EINVAL);
    CHECK_EQ_INT(accept_as("*", "{}"), MESA_EINVAL);
    CHECK_EQ_INT(accept_as(long_id, "{}"), MESA_EINVAL);
    long_id[512] = '\0';
    CHECK_EQ_INT(accept_as(long_id, "{}"), MESA_OK); /* the check was still under way */
    app_end();
}

TEST(a_second_op_2_while_one_is_checked_is_an_error_event_and_nothing_else)
{
    begin();
    app_start();
    struct mesa_conn *c = app_connect();
    fake_skip(c);
    fake_receive(c, op_2);
    uint32_t first = app.check;
    app_log();
    fake_receive(c, op_2);
    CHECK_EQ_STR(app_log(), "error AUTH_BUSY\n");
    CHECK_EQ_INT(app.check, first);
    fake_turn();
    CHECK_EQ_STR(fake_next(c), "");
    CHECK_EQ_INT(accept_as("u1", "{}"), MESA_OK);
    app_end();
}

TEST(a_client_that_does_not_authenticate_in_time_is_closed)
{
    begin();
    app.cfg.authentication.timeout_ms = 300;
    app_start();
    struct mesa_conn *c = app_connect();
    fake_advance(100);
    fake_receive(c, op_2); /* a check under way does not count */
    app_log();
    fake_advance(199);
    CHECK_EQ_INT(fake_close_code(c), 0);
    fake_advance(1);
    CHECK_EQ_INT(fake_close_code(c), 1008);
    CHECK_EQ_STR(fake_close_reason(c), "authentication timeout");
    CHECK_EQ_STR(app_log(), "error AUTH_TIMEOUT\ndisconnect 1008 authentication timeout\n");
    app_end();
}

TEST(the_timeout_ends_with_success_and_does_not_run_without_an_authenticator)
{
    begin();
    app.cfg.authentication.timeout_ms = 300;
    app_start();
    struct mesa_conn *a = app_connect();
    fake_receive(a, op_2);
    accept_as("u1", "{}");
    struct mesa_conn *b = app_connect();
    mesa_client_set_authenticator(app.last, false);
    fake_advance(1000);
    CHECK_EQ_INT(fake_close_code(a), 0);
    CHECK_EQ_INT(fake_close_code(b), 0);
    mesa_client_set_authenticator(app.last, true);
    fake_advance(200);
    mesa_client_set_authenticator(app.last, true); /* another handler does not win time */
    fake_advance(100);
    CHECK_EQ_INT(fake_close_code(b), 1008);
    app_end();
}

TEST(timeout_zero_is_off)
{
    begin();
    app.cfg.authentication.timeout_ms = 0;
    app_start();
    struct mesa_conn *c = app_connect();
    fake_advance(20000);
    CHECK_EQ_INT(fake_close_code(c), 0);
    app_end();
}

TEST(authenticating_again_moves_the_client_to_the_new_id)
{
    begin();
    app_start();
    struct mesa_conn *c = app_login("a");
    fake_receive(c, op_2);
    CHECK_EQ_INT(accept_as("b", "{\"n\":2}"), MESA_OK);
    fake_turn();
    CHECK_EQ_STR(fake_next(c), "{\"op\":22,\"d\":{\"n\":2}}");
    CHECK(mesa_server_next_of(app.server, MESA_SPAN("a"), NULL) == NULL);
    CHECK(mesa_server_next_of(app.server, MESA_SPAN("b"), NULL) == app.last);
    app_end();
}

TEST(update_changes_the_id_without_op_22_and_only_after_authentication)
{
    begin();
    app_start();
    struct mesa_conn *c = app_connect();
    CHECK_EQ_INT(mesa_client_update(app.last, MESA_SPAN("x")), MESA_EINVAL);
    fake_receive(c, op_2);
    accept_as("a", "{}");
    fake_turn();
    fake_skip(c);
    CHECK_EQ_INT(mesa_client_update(app.last, MESA_SPAN("b")), MESA_OK);
    CHECK_EQ_INT(mesa_client_update(app.last, MESA_SPAN("")), MESA_EINVAL);
    fake_turn();
    CHECK_EQ_STR(fake_next(c), "");
    CHECK(mesa_span_eq(mesa_client_id(app.last), MESA_SPAN("b")));
    app_end();
}

TEST(in_raw_mode_update_authenticates)
{
    app_begin();
    app.cfg.raw = true;
    app_start();
    struct mesa_conn *c = app_connect();
    mesa_client_set_authenticator(app.last, true);
    CHECK_EQ_INT(mesa_client_update(app.last, MESA_SPAN("r1")), MESA_OK);
    CHECK_EQ_STR(app_log(), "authenticated r1\n");
    CHECK(mesa_client_authenticated(app.last));
    fake_turn();
    CHECK_EQ_STR(fake_next(c), "");
    CHECK(mesa_server_next_of(app.server, MESA_SPAN("r1"), NULL) == app.last);
    CHECK_EQ_INT(mesa_client_accept(app.last, 0, MESA_SPAN("r2"), MESA_SPAN("{}")), MESA_OK);
    CHECK_EQ_STR(app_log(), "");
    fake_advance(20000);
    CHECK_EQ_INT(fake_close_code(c), 0); /* the timeout ended, too */
    app_end();
}

TEST(every_connection_of_an_id_gets_what_is_sent_to_it)
{
    begin();
    app_start();
    struct mesa_conn *a1 = app_login("a"), *a2 = app_login("a"), *b = app_login("b");
    app_send_to("a", "1");
    fake_turn();
    CHECK_EQ_STR(fake_next(a1), "{\"op\":0,\"d\":1}");
    CHECK_EQ_STR(fake_next(a2), "{\"op\":0,\"d\":1}");
    CHECK_EQ_STR(fake_next(b), "");
    fake_leave(a1, 1000);
    app_send_to("a", "2");
    fake_turn();
    CHECK_EQ_STR(fake_next(a2), "{\"op\":0,\"d\":2}");
    CHECK_EQ_STR(fake_next(a1), "");
    app_end();
}

static void leave(struct mesa_client *c)
{
    mesa_client_disconnect(c, 1000, MESA_SPAN(""));
}

TEST(a_handler_of_the_authentication_may_close_the_client)
{
    begin();
    app.on_authenticated = leave;
    app.cfg.sync.enabled = true;
    app_start();
    struct mesa_conn *c = app_connect();
    fake_receive(c, op_2);
    accept_as("a", "{}");
    CHECK_EQ_INT(fake_close_code(c), 1000);
    fake_turn();
    CHECK(mesa_server_next_of(app.server, MESA_SPAN("a"), NULL) == NULL);
    app_end();
}
