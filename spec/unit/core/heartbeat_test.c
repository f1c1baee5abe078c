/* heartbeat_test.c - PROTOCOL 4. */
#include "core/heartbeat.h"
#include "test.h"

TEST(the_first_tick_sends_a_plain_heartbeat)
{
    struct mesa_heartbeat hb;
    mesa_heartbeat_init(&hb);
    CHECK_EQ_INT(mesa_heartbeat_tick(&hb, 3), MESA_HEARTBEAT_SEND);
    CHECK_EQ_INT(hb.tries, 0);
}

TEST(a_silent_client_gets_three_and_is_closed_at_the_fourth_tick)
{
    struct mesa_heartbeat hb;
    mesa_heartbeat_init(&hb);
    CHECK_EQ_INT(mesa_heartbeat_tick(&hb, 2), MESA_HEARTBEAT_SEND);
    CHECK_EQ_INT(mesa_heartbeat_tick(&hb, 2), MESA_HEARTBEAT_RETRY);
    CHECK_EQ_INT(hb.tries, 1);
    CHECK_EQ_INT(mesa_heartbeat_tick(&hb, 2), MESA_HEARTBEAT_RETRY);
    CHECK_EQ_INT(hb.tries, 2);
    CHECK_EQ_INT(mesa_heartbeat_tick(&hb, 2), MESA_HEARTBEAT_CLOSE);
}

TEST(an_answer_resets_the_tries)
{
    struct mesa_heartbeat hb;
    mesa_heartbeat_init(&hb);
    mesa_heartbeat_tick(&hb, 2);
    mesa_heartbeat_tick(&hb, 2);
    mesa_heartbeat_acknowledge(&hb);
    CHECK_EQ_INT(mesa_heartbeat_tick(&hb, 2), MESA_HEARTBEAT_SEND);
    CHECK_EQ_INT(hb.tries, 0);
    CHECK_EQ_INT(mesa_heartbeat_tick(&hb, 2), MESA_HEARTBEAT_RETRY);
}

TEST(an_answer_that_nobody_asked_for_does_not_count_for_the_first_heartbeat)
{
    struct mesa_heartbeat hb;
    mesa_heartbeat_init(&hb);
    mesa_heartbeat_acknowledge(&hb);
    CHECK_EQ_INT(mesa_heartbeat_tick(&hb, 1), MESA_HEARTBEAT_SEND);
    CHECK_EQ_INT(mesa_heartbeat_tick(&hb, 1), MESA_HEARTBEAT_RETRY);
}
