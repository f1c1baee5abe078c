/* lifecycle_test.c - listening, closing gracefully, freeing at any time. */
#include <stdio.h>
#include <string.h>

#include "app.h"

TEST(a_port_in_use_is_reported_and_the_server_can_be_freed)
{
    char err[64] = "";
    const struct mesa_server_hooks none = {0};
    app_begin();
    CHECK_EQ_INT(mesa_server_new(&app.server, fake_loop(), fake_transport(), &app.cfg, &none, NULL,
                                 err, sizeof err),
                 MESA_OK);
    CHECK(app.cfg.client.version == NULL); /* moved */
    fake_fail_listen();
    CHECK_EQ_INT(mesa_server_listen(app.server, err, sizeof err), MESA_EINUSE);
    CHECK_EQ_STR(err, "port 4000 is in use");
    app_end();
}

TEST(hooks_that_are_absent_are_not_missed)
{
    char err[64];
    const struct mesa_server_hooks none = {0};
    app_begin();
    app.cfg.sync.enabled = true;
    app.cfg.sync.max_messages = 1;
    mesa_server_new(&app.server, fake_loop(), fake_transport(), &app.cfg, &none, NULL, err,
                    sizeof err);
    CHECK_EQ_INT(mesa_server_listen(app.server, err, sizeof err), MESA_OK);
    CHECK_EQ_INT(mesa_server_port(app.server), 4321);
    struct mesa_conn *c = fake_connect();
    struct mesa_client *client = mesa_server_next(app.server, NULL);
    fake_receive(c, "{\"op\":0}");
    mesa_client_set_authenticator(client, true);
    fake_receive(c, "{\"op\":2}");
    CHECK_EQ_INT(mesa_client_accept(client, 1, MESA_SPAN("a"), MESA_SPAN("{}")), MESA_OK);
    app_send_to("b", "1");
    app_send_to("b", "2");
    fake_request("GET", "/", false, NULL);
    fake_receive(c, "x");
    fake_turn();
    mesa_server_close(app.server, 1001, NULL, 0);
    fake_advance(2);
    app_end();
}

TEST(closing_says_1001_to_everybody_and_then_closed)
{
    app_begin();
    app_start();
    struct mesa_conn *a = app_connect(), *b = app_connect();
    mesa_server_close(app.server, 1001, "server shutting down", 0);
    CHECK(!fake_listening());
    CHECK_EQ_INT(app_broadcast("1"), MESA_ECLOSED);
    CHECK_EQ_STR(app_log(), "");
    fake_advance(2);
    CHECK_EQ_INT(fake_close_code(a), 1001);
    CHECK_EQ_STR(fake_close_reason(b), "server shutting down");
    CHECK_EQ_STR(app_log(), "disconnect 1001 server shutting down\n"
                            "disconnect 1001 server shutting down\nclosed\n");
    mesa_server_close(app.server, 1001, NULL, 0);
    fake_advance(10);
    CHECK_EQ_STR(app_log(), ""); /* once */
    app_end();
}

TEST(an_empty_server_closes_in_a_later_turn)
{
    app_begin();
    app_start();
    mesa_server_close(app.server, 1001, NULL, 5000);
    CHECK_EQ_STR(app_log(), "");
    fake_advance(1);
    CHECK_EQ_STR(app_log(), "closed\n");
    app_end();
}

TEST(closing_is_paced_over_the_drain_time)
{
    app_begin();
    app_start();
    for (int i = 0; i < 100; i++)
        fake_connect();
    mesa_server_close(app.server, 1001, NULL, 1000);
    size_t last = 100;
    for (int i = 1; i <= 10; i++) {
        fake_advance(100);
        size_t left = mesa_server_client_count(app.server);
        CHECK(last - left >= 8 && last - left <= 12);
        last = left;
    }
    fake_advance(20);
    CHECK_EQ_INT(mesa_server_client_count(app.server), 0);
    CHECK(strstr(app_log(), "closed\n") != NULL);
    app_end();
}

TEST(a_second_close_hastens_the_first)
{
    app_begin();
    app_start();
    fake_connect();
    fake_connect();
    mesa_server_close(app.server, 1001, NULL, 60000);
    fake_advance(100);
    CHECK_EQ_INT(mesa_server_client_count(app.server), 2);
    mesa_server_close(app.server, 1001, NULL, 0);
    fake_advance(2);
    CHECK(strstr(app_log(), "closed\n") != NULL);
    app_end();
}

TEST(a_handshake_that_ends_while_the_server_closes_is_refused)
{
    app_begin();
    app_start();
    struct mesa_conn *a = app_connect();
    mesa_server_close(app.server, 1001, NULL, 10000);
    CHECK(fake_connect() == NULL);
    CHECK_EQ_INT(fake_status(), 503);
    CHECK_EQ_INT(fake_close_code(a), 0);
    app_end();
}

static void free_server(struct mesa_client *c)
{
    mesa_server_free(app.server);
    app.server = NULL;
    CHECK(mesa_client_closed(c));
    CHECK(mesa_client_server(c) == NULL);
}

static void free_on_message(struct mesa_client *c, struct mesa_span d)
{
    (void)d;
    free_server(c);
}

TEST(a_message_handler_may_free_the_server)
{
    app_begin();
    app.on_message = free_on_message;
    app_start();
    app_connect();
    struct mesa_conn *b = app_connect();
    fake_receive(b, "{\"op\":0}");
    CHECK_EQ_STR(app_log(), "message 0 \ndisconnect 1001 server freed\n"
                            "disconnect 1001 server freed\n");
    CHECK_EQ_INT(app_send(app.last, "1"), MESA_ECLOSED);
    fake_turn();
    CHECK(fake_gone(b));
    app_end();
}

TEST(a_connection_handler_may_free_the_server)
{
    app_begin();
    app.on_connection = free_server;
    app_start();
    app_connect();
    fake_turn();
    app_end();
}

TEST(an_error_handler_may_free_the_server)
{
    app_begin();
    app.on_error = free_server;
    app_start();
    struct mesa_conn *c = app_connect();
    fake_receive(c, "x");
    fake_turn();
    app_end();
}

TEST(an_error_handler_may_free_the_server_in_a_broadcast)
{
    app_begin();
    app.cfg.limits.max_backpressure = 60;
    app.on_error = free_server;
    app_start();
    struct mesa_conn *slow = app_connect();
    app_connect();
    fake_stall(slow);
    while (app.server != NULL)
        app_broadcast("\"0123456789\"");
    fake_turn();
    app_end();
}

static void free_on_disconnect(struct mesa_client *c)
{
    (void)c;
    mesa_server_free(app.server);
    app.server = NULL;
}

TEST(a_disconnect_handler_may_free_the_server)
{
    app_begin();
    app.on_disconnect = free_on_disconnect;
    app_start();
    struct mesa_conn *a = app_connect();
    app_connect();
    fake_leave(a, 1000);
    fake_turn();
    fake_turn();
    app_end();
}

static void free_on_closed(void)
{
    mesa_server_free(app.server);
    app.server = NULL;
}

TEST(the_closed_handler_may_free_the_server)
{
    app_begin();
    app.on_closed = free_on_closed;
    app_start();
    app_connect();
    mesa_server_close(app.server, 1001, NULL, 0);
    fake_advance(2);
    CHECK(app.server == NULL);
    app_end();
}

TEST(freeing_says_good_bye_to_those_still_there)
{
    app_begin();
    app_start();
    struct mesa_conn *c = app_login("a");
    mesa_server_free(app.server);
    app.server = NULL;
    CHECK(fake_gone(c));
    CHECK(strstr(app_log(), "disconnect 1001") != NULL);
    app_end();
}

TEST(iterating_is_safe_while_clients_come_and_go)
{
    app_begin();
    app_start();
    struct mesa_conn *c[4];
    for (int i = 0; i < 4; i++)
        c[i] = app_connect();
    struct mesa_client *first = mesa_client_ref(mesa_server_next(app.server, NULL));
    struct mesa_client *second = mesa_server_next(app.server, first);
    fake_leave(c[0], 1000);
    fake_turn(); /* the first is only kept by our reference */
    CHECK(mesa_server_next(app.server, first) == second);
    fake_leave(c[1], 1000);
    struct mesa_client *third = mesa_server_next(app.server, first);
    CHECK(third != NULL && third != second);
    fake_turn();
    CHECK(mesa_server_next(app.server, first) == third);
    mesa_client_unref(first);
    app_end();
}
