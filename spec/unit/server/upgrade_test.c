/* upgrade_test.c - upgrades that somebody has still to decide about. */
#include <string.h>

#include "app.h"

static const struct mesa_span no_text = {NULL, 0};

static void begin(void)
{
    app_begin();
    app.decides = true;
    app_start();
    CHECK(fake_connect() == NULL);
    CHECK_EQ_STR(app_log(), "upgrade /\n");
    CHECK(fake_deciding());
}

static uint64_t refused(void)
{
    return mesa_server_metrics(app.server)->upgrades_refused;
}

TEST(who_is_let_in_becomes_a_client)
{
    begin();
    CHECK(app.last == NULL);
    CHECK_EQ_INT(mesa_server_decide_upgrade(app.upgrade, 0, no_text), MESA_OK);
    CHECK(!fake_deciding());
    struct mesa_conn *c = fake_let_in();
    CHECK_OR_RETURN(CHECK(c != NULL));
    fake_turn();
    CHECK(app.last != NULL);
    fake_receive(c, "{\"op\":0,\"d\":1}");
    CHECK_EQ_STR(app_log(), "message 0 1\n");
    CHECK_EQ_INT(refused(), 0);
    app_end();
}

TEST(who_is_refused_is_counted_and_nobodys_client)
{
    begin();
    CHECK_EQ_INT(mesa_server_decide_upgrade(app.upgrade, 403, app_span("no")), MESA_OK);
    CHECK_EQ_INT(fake_status(), 403);
    CHECK(fake_let_in() == NULL);
    CHECK(app.last == NULL);
    CHECK_EQ_INT(refused(), 1);
    app_end();
}

TEST(a_decision_about_who_has_left_changes_nothing)
{
    for (int status = 0; status <= 403; status += 403) {
        begin();
        fake_leave_undecided();
        CHECK_EQ_INT(mesa_server_decide_upgrade(app.upgrade, status, no_text), MESA_ECLOSED);
        CHECK(!fake_deciding());
        CHECK(fake_let_in() == NULL);
        CHECK(app.last == NULL);
        CHECK_EQ_INT(refused(), 0);
        app_end();
    }
}

TEST(a_server_that_closes_refuses_those_that_wait)
{
    begin();
    mesa_server_close(app.server, 1001, "bye", 1000);
    CHECK(!fake_deciding());
    CHECK_EQ_INT(fake_status(), 503);
    CHECK_EQ_INT(mesa_server_decide_upgrade(app.upgrade, 0, no_text), MESA_ECLOSED);
    CHECK(fake_let_in() == NULL);
    app_end();
}

TEST(an_upgrade_outlives_the_server)
{
    begin();
    app_end();
    CHECK(!fake_deciding());
    CHECK_EQ_INT(fake_status(), 503);
    CHECK_EQ_INT(mesa_server_decide_upgrade(app.upgrade, 0, no_text), MESA_ECLOSED);
}

TEST(nobody_is_asked_about_what_is_refused_anyway)
{
    app_begin();
    app.decides = true;
    app.cfg.path = strdup("/ws");
    app_start();
    CHECK(fake_connect_as(&(struct fake_peer){.path = "/elsewhere"}) == NULL);
    CHECK(fake_status() != 0);
    CHECK_EQ_STR(app_log(), "error PATH\n");
    CHECK(!fake_deciding());
    app_end();
}
