/* http_test.c - plain HTTP, upgrades that are refused, and the admin listener. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "app.h"

static void start_with_path(void)
{
    app_begin();
    app.cfg.path = strdup("/ws");
    app_start();
}

TEST(an_upgrade_on_another_path_is_404)
{
    start_with_path();
    CHECK(fake_connect() == NULL);
    CHECK_EQ_INT(fake_status(), 404);
    CHECK(fake_connect_as(&(struct fake_peer){.path = "/ws"}) != NULL);
    CHECK(fake_connect_as(&(struct fake_peer){.path = "/ws/"}) == NULL);
    app_end();
}

TEST(an_origin_that_is_not_listed_is_403)
{
    app_begin();
    app.cfg.origins = calloc(1, sizeof *app.cfg.origins);
    app.cfg.origins[0] = strdup("https://example.org");
    app.cfg.origin_count = 1;
    app_start();
    CHECK(fake_connect_as(&(struct fake_peer){.origin = "https://evil.example"}) == NULL);
    CHECK_EQ_INT(fake_status(), 403);
    CHECK(fake_connect_as(&(struct fake_peer){.origin = "https://example.org.evil"}) == NULL);
    CHECK(fake_connect_as(&(struct fake_peer){.origin = "null"}) == NULL);
    CHECK(fake_connect_as(&(struct fake_peer){.origin = "https://EXAMPLE.org"}) != NULL);
    CHECK(fake_connect() != NULL); /* no browser */
    app_end();
}

static void connect_with(const char *offer, const char *agreed)
{
    struct mesa_conn *conn = fake_connect_as(&(struct fake_peer){.protocols = offer});
    CHECK_EQ_INT(conn != NULL, agreed != NULL);
    if (conn == NULL)
        return;
    const struct mesa_request *req = mesa_client_request(app.last);
    CHECK_EQ_INT(req->protocol.len, strlen(agreed));
    CHECK(memcmp(req->protocol.p, agreed, req->protocol.len) == 0);
}

TEST(the_first_subprotocol_of_ours_that_is_offered_is_chosen)
{
    app_begin();
    app.cfg.protocols.names = calloc(2, sizeof *app.cfg.protocols.names);
    app.cfg.protocols.names[0] = strdup("v2");
    app.cfg.protocols.names[1] = strdup("v1");
    app.cfg.protocols.count = 2;
    app.cfg.protocols.required = true;
    app_start();
    connect_with("v1, v2", "v2");
    connect_with("v0,v1", "v1");
    connect_with("v", NULL);
    CHECK_EQ_INT(fake_status(), 400);
    connect_with(NULL, NULL);
    CHECK_EQ_INT(fake_status(), 400);
    app_end();
}

TEST(a_get_on_the_websocket_path_is_426)
{
    start_with_path();
    fake_request("GET", "/ws", false, NULL);
    CHECK_EQ_INT(fake_status(), 426);
    CHECK_EQ_STR(fake_header("upgrade"), "websocket");
    fake_request("GET", "/other", false, NULL);
    CHECK_EQ_INT(fake_status(), 404);
    fake_request("POST", "/ws", false, NULL);
    CHECK_EQ_INT(fake_status(), 405);
    CHECK_EQ_STR(fake_header("allow"), "GET, HEAD");
    app_end();
}

TEST(a_file_comes_before_the_handler_and_the_handler_before_404)
{
    app_begin();
    app.cfg.path = strdup("/ws");
    app.cfg.static_root = strdup("/srv/www");
    app_start();
    fake_set_file("/index.html");
    fake_request("GET", "/index.html", false, NULL);
    CHECK_EQ_INT(fake_status(), 200);
    CHECK_EQ_STR(app_log(), "");
    fake_request("GET", "/other", false, NULL);
    CHECK_EQ_INT(fake_status(), 404);
    CHECK_EQ_STR(app_log(), "http GET /other\n");
    app.http_answers = true;
    fake_request("POST", "/index.html", false, NULL);
    CHECK_EQ_INT(fake_status(), 299);
    app_end();
}

static char reported[512];

static void keep_report(struct mesa_client *c)
{
    CHECK(c == NULL);
    snprintf(reported, sizeof reported, "%s", app.error_text);
}

TEST(who_is_turned_away_is_reported_once_a_second_of_each_kind)
{
    app_begin();
    app.cfg.path = strdup("/ws");
    app.cfg.admin.enabled = true;
    app.cfg.origins = calloc(1, sizeof *app.cfg.origins);
    app.cfg.origins[0] = strdup("https://example.org");
    app.cfg.origin_count = 1;
    app_start();
    app.on_error = keep_report;
    for (int i = 0; i < 100; i++)
        fake_connect_as(&(struct fake_peer){.path = "/a\xff"});
    CHECK_EQ_STR(app_log(), "error PATH\n");
    CHECK_EQ_STR(reported, "no WebSockets on the path /a..., from 192.0.2.1");
    fake_connect_as(&(struct fake_peer){.path = "/ws", .origin = "https://evil.example"});
    CHECK_EQ_STR(app_log(), "error ORIGIN\n");
    CHECK_EQ_STR(reported, "not one of the origins: https://evil.example, from 192.0.2.1");
    fake_advance(999);
    fake_connect();
    CHECK_EQ_STR(app_log(), "");
    fake_advance(1);
    fake_connect();
    CHECK_EQ_STR(app_log(), "error PATH\n");
    CHECK_EQ_STR(reported, "no WebSockets on the path /, from 192.0.2.1; 100 before it were not "
                           "reported");
    static const char *const codes[] = {"HEADERS", "HANDSHAKE", "LIMIT"};
    for (int i = 0; i < 3; i++) {
        fake_refuse(codes[i], "it was so");
        fake_refuse(codes[i], "it was so");
        CHECK(strstr(app_log(), codes[i]) != NULL);
        CHECK_EQ_STR(reported, "it was so, from 192.0.2.1");
    }
    fake_request("GET", "/metrics", true, NULL);
    CHECK(strstr(fake_body(), "mesa_errors_total{code=\"PATH\"} 102\n") != NULL);
    CHECK(strstr(fake_body(), "mesa_errors_total{code=\"LIMIT\"} 2\n") != NULL);
    app_end();
}

static void start_with_admin(void)
{
    app_begin();
    app.cfg.admin.enabled = true;
    app_start();
}

TEST(metrics_count_what_happened)
{
    start_with_admin();
    struct mesa_conn *c = app_login("a");
    fake_receive(c, "nonsense");
    fake_turn();
    app_connect();
    mesa_server_metrics(app.server)->reloads++;
    fake_request("GET", "/metrics", true, NULL);
    CHECK_EQ_INT(fake_status(), 200);
    CHECK_EQ_STR(fake_header("content-type"), "text/plain; version=0.0.4; charset=utf-8");
    CHECK(strstr(fake_body(), "mesa_connections_total 2\n") != NULL);
    CHECK(strstr(fake_body(), "mesa_connections_open 1\n") != NULL);
    CHECK(strstr(fake_body(), "mesa_messages_received_total 2\n") != NULL);
    CHECK(strstr(fake_body(), "mesa_messages_sent_total 3\n") != NULL);
    CHECK(strstr(fake_body(), "mesa_authentication_accepted_total 1\n") != NULL);
    CHECK(strstr(fake_body(), "mesa_errors_total{code=\"JSON\"} 1\n") != NULL);
    CHECK(strstr(fake_body(), "mesa_closes_total{code=\"1007\"} 1\n") != NULL);
    CHECK(strstr(fake_body(), "mesa_reloads_total 1\n") != NULL);
    app_end();
}

TEST(health_is_ok_until_the_server_closes)
{
    start_with_admin();
    struct mesa_conn *c = app_connect();
    fake_request("GET", "/healthz", true, NULL);
    CHECK_EQ_INT(fake_status(), 200);
    CHECK_EQ_STR(fake_body(), "ok\n");
    mesa_server_close(app.server, 1001, "bye", 1000);
    fake_request("GET", "/healthz", true, NULL);
    CHECK_EQ_INT(fake_status(), 503);
    CHECK(!fake_gone(c));
    app_end();
}

TEST(reload_is_a_post_and_not_from_a_page)
{
    start_with_admin();
    fake_request("POST", "/reload", true, NULL);
    CHECK_EQ_INT(fake_status(), 200);
    CHECK_EQ_STR(fake_body(), "reloaded\n");
    app.reload_fails = true;
    fake_request("POST", "/reload", true, NULL);
    CHECK_EQ_INT(fake_status(), 500);
    app_log();
    fake_request("GET", "/reload", true, NULL);
    CHECK_EQ_INT(fake_status(), 405);
    CHECK_EQ_STR(fake_header("allow"), "POST");
    fake_request("POST", "/reload", true, "https://evil.example");
    CHECK_EQ_INT(fake_status(), 403);
    CHECK_EQ_STR(app_log(), "");
    app_end();
}

TEST(the_admin_listener_has_nothing_else)
{
    start_with_admin();
    fake_request("GET", "/", true, NULL);
    CHECK_EQ_INT(fake_status(), 404);
    fake_request("POST", "/metrics", true, NULL);
    CHECK_EQ_INT(fake_status(), 405);
    app_end();
}
