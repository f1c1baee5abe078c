/* cluster_test.c - a server in a cluster: who is online, whatever its connections do meanwhile. */
#include <string.h>

#include "app.h"
#include "fake_broker.h"

static void begin(void)
{
    fake_cluster_begin();
    app_begin();
    app.authenticates = true;
    app.cfg.redis.enabled = true;
    app.cfg.sync.enabled = true;
    app.cfg.authentication.timeout_ms = 0;
    app.cfg.limits.max_backpressure = 600;
    app_start();
}

static enum mesa_status accept_as(const char *id)
{
    return mesa_client_accept(app.last, app.check, app_span(id), MESA_SPAN("{}"));
}

/* Ids of a length that is not shared by anything else, so that a sanitizer sees their end. */
static const char first[] = "first first first first first first first first first";
static const char second[] = "second second second second second second second";

TEST(a_client_that_overflows_while_it_becomes_another_user_leaves_the_first)
{
    begin();
    struct mesa_conn *c = app_connect();
    fake_receive(c, "{\"op\":2,\"d\":{}}");
    CHECK_EQ_INT(accept_as(first), MESA_OK);
    CHECK(fake_cluster_online(app_span(first)));
    CHECK_EQ_INT(fake_cluster_takes(), 1); /* no answer yet: what comes for it waits */
    fake_turn();
    fake_stall(c);
    for (int i = 0; i < 5; i++)
        app_send(app.last, "\"a message straight to the connection, behind which little fits\"");
    for (int i = 0; i < 4; i++)
        app_send_to(first, "\"a message to the user, which waits for what was kept\"");
    fake_receive(c, "{\"op\":2,\"d\":{}}");
    CHECK_EQ_INT(accept_as(second), MESA_ECLOSED);
    CHECK_EQ_INT(fake_close_code(c), 1013);
    CHECK_EQ_INT(fake_cluster_online_count(), 0);
    CHECK(strstr(fake_cluster.log, "second") == NULL);
    app_end();
}

static void close_last(void)
{
    fake_cluster.inside = NULL;
    mesa_client_disconnect(app.last, 3000, (struct mesa_span){0});
}

TEST(a_client_that_is_closed_while_it_becomes_another_user_is_neither)
{
    begin();
    struct mesa_conn *c = app_connect();
    fake_receive(c, "{\"op\":2,\"d\":{}}");
    accept_as(first);
    fake_cluster_answer(MESA_OK, NULL, 0);
    fake_receive(c, "{\"op\":2,\"d\":{}}");
    fake_cluster.inside = close_last; /* an error listener, when Redis cannot be told */
    CHECK_EQ_INT(accept_as(second), MESA_OK);
    CHECK(mesa_client_closed(app.last));
    CHECK_EQ_INT(fake_cluster_online_count(), 0);
    app_end();
}

TEST(a_client_that_is_closed_while_it_confirms_is_let_go)
{
    begin();
    struct mesa_conn *c = app_connect();
    fake_receive(c, "{\"op\":2,\"d\":{}}");
    accept_as(first);
    const char *const kept[] = {"{\"op\":0,\"d\":1}", "{\"op\":0,\"d\":2}"};
    fake_cluster_answer(MESA_OK, kept, 2);
    fake_turn();
    fake_pong(c);
    fake_cluster.inside = close_last;
    fake_advance(20);
    CHECK(fake_cluster.inside == NULL);
    CHECK(mesa_client_closed(app.last));
    app_end();
}

static const char third[] = "third third third third third third third third third";

static void rename_last(void)
{
    fake_cluster.inside = NULL;
    CHECK_EQ_INT(mesa_client_update(app.last, app_span(third)), MESA_OK);
}

TEST(a_client_that_a_listener_makes_a_third_user_meanwhile_is_that_one)
{
    begin();
    struct mesa_conn *c = app_connect();
    fake_receive(c, "{\"op\":2,\"d\":{}}");
    accept_as(first);
    fake_cluster_answer(MESA_OK, NULL, 0);
    fake_receive(c, "{\"op\":2,\"d\":{}}");
    fake_cluster.inside = rename_last; /* when the first is told good-bye */
    CHECK_EQ_INT(accept_as(second), MESA_OK);
    CHECK(fake_cluster.inside == NULL);
    CHECK(mesa_span_eq(mesa_client_id(app.last), app_span(third)));
    CHECK(fake_cluster_online(app_span(third)));
    CHECK_EQ_INT(fake_cluster_online_count(), 1);
    app_end();
}

/* The next frame that is no ping. */
static const char *next_message(struct mesa_conn *c)
{
    const char *frame = fake_next(c);
    while (strcmp(frame, "ping") == 0)
        frame = fake_next(c);
    return frame;
}

TEST(what_comes_behind_a_gap_waits_until_what_was_missed_is_given)
{
    begin();
    struct mesa_conn *c = app_connect();
    fake_receive(c, "{\"op\":2,\"d\":{}}");
    accept_as(first);
    fake_cluster_answer(MESA_OK, NULL, 0);
    fake_turn();
    fake_skip(c);
    fake_cluster_deliver(first, "1", 1);
    fake_turn();
    CHECK_EQ_STR(next_message(c), "{\"op\":0,\"d\":1}");

    fake_cluster_gap();
    fake_cluster_deliver(first, "3", 2);
    CHECK_EQ_INT(fake_cluster_takes(), 1);
    fake_cluster_deliver(first, "4", 1);
    fake_cluster_answer(MESA_EIO, NULL, 0);
    fake_turn();
    CHECK_EQ_STR(next_message(c), "");
    CHECK_EQ_INT(fake_cluster_takes(), 0);

    fake_cluster_healed();
    CHECK_EQ_INT(fake_cluster_takes(), 1);
    fake_cluster_healed(); /* it is asked for already */
    CHECK_EQ_INT(fake_cluster_takes(), 1);
    const char *const kept[] = {"{\"op\":0,\"d\":2}", "{\"op\":0,\"d\":3}", "{\"op\":0,\"d\":4}"};
    fake_cluster_answer(MESA_OK, kept, 3);
    fake_turn();
    CHECK_EQ_STR(next_message(c), "{\"op\":0,\"d\":2,\"s\":1}");
    CHECK_EQ_STR(next_message(c), "{\"op\":0,\"d\":3,\"s\":2}");
    CHECK_EQ_STR(next_message(c), "{\"op\":0,\"d\":4,\"s\":3}");
    CHECK_EQ_STR(next_message(c), "");
    fake_cluster_healed();
    CHECK_EQ_INT(fake_cluster_takes(), 0);
    app_end();
}

TEST(a_server_is_ready_while_it_takes_part_in_the_cluster)
{
    fake_cluster_begin();
    app_begin();
    app.cfg.redis.enabled = true;
    app.cfg.admin.enabled = true;
    app_start();
    fake_request("GET", "/readyz", true, NULL);
    CHECK_EQ_INT(fake_status(), 200);
    CHECK_EQ_STR(fake_body(), "ready\n");
    fake_request("GET", "/metrics", true, NULL);
    CHECK(strstr(fake_body(), "\nmesa_redis_ready 1\n") != NULL);

    fake_cluster.trouble = "the channel is not there";
    fake_request("GET", "/readyz", true, NULL);
    CHECK_EQ_INT(fake_status(), 503);
    CHECK_EQ_STR(fake_body(), "not ready: the channel is not there\n");
    fake_request("GET", "/metrics", true, NULL);
    CHECK(strstr(fake_body(), "\nmesa_redis_ready 0\n") != NULL);
    fake_request("GET", "/healthz", true, NULL);
    CHECK_EQ_INT(fake_status(), 200);
    fake_request("POST", "/readyz", true, NULL);
    CHECK_EQ_INT(fake_status(), 405);

    fake_cluster.trouble = NULL;
    struct mesa_conn *c = app_connect();
    mesa_server_close(app.server, 1001, "bye", 1000);
    fake_request("GET", "/readyz", true, NULL);
    CHECK_EQ_INT(fake_status(), 503);
    CHECK_EQ_STR(fake_body(), "not ready: closing\n");
    CHECK(!fake_gone(c));
    app_end();
}
