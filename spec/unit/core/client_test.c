/* client_test.c - the protocol's state machine: PROTOCOL 1, 2, 5 and 6. */
#include "core/client.h"
#include "test.h"

static struct mesa_config cfg;
static struct mesa_client_state st;

static void begin(void)
{
    mesa_config_init(&cfg);
    mesa_client_state_init(&st);
}

static void end(void)
{
    mesa_config_deinit(&cfg);
}

static struct mesa_action receive(const char *text)
{
    struct mesa_envelope e;
    struct mesa_json_error err = {0, NULL};
    enum mesa_status rc = mesa_envelope_parse(text, strlen(text), 128, &e, &err);
    if (rc != MESA_OK)
        return mesa_client_state_malformed(rc, text, strlen(text), 128, &err);
    return mesa_client_state_receive(&st, &cfg, &e);
}

TEST(op_0_and_unknown_ops_are_messages)
{
    begin();
    CHECK_EQ_INT(receive("{\"op\":0,\"d\":{}}").kind, MESA_ACTION_MESSAGE);
    CHECK_EQ_INT(receive("{\"op\":3}").kind, MESA_ACTION_MESSAGE);
    CHECK_EQ_INT(receive("{\"op\":-7,\"d\":1}").kind, MESA_ACTION_MESSAGE);
    CHECK_EQ_INT(receive("{\"op\":9007199254740991}").kind, MESA_ACTION_MESSAGE);
    end();
}

TEST(a_clients_heartbeat_is_answered_and_its_answer_is_noted)
{
    begin();
    CHECK_EQ_INT(receive("{\"op\":1,\"d\":{}}").kind, MESA_ACTION_ANSWER);
    CHECK(!st.heartbeat.acknowledged);
    CHECK_EQ_INT(receive("{\"op\":11,\"d\":{}}").kind, MESA_ACTION_ACKNOWLEDGED);
    CHECK(st.heartbeat.acknowledged);
    end();
}

TEST(op_2_comes_later_while_the_connection_handlers_may_yet_set_an_authenticator)
{
    begin();
    st.connecting = true;
    CHECK_EQ_INT(receive("{\"op\":2,\"d\":{}}").kind, MESA_ACTION_LATER);
    st.authenticator = true;
    CHECK_EQ_INT(receive("{\"op\":2,\"d\":{}}").kind, MESA_ACTION_LATER);
    CHECK(!st.checking);
    CHECK_EQ_INT(receive("{\"op\":0,\"d\":{}}").kind, MESA_ACTION_MESSAGE);
    st.connecting = false;
    CHECK_EQ_INT(receive("{\"op\":2,\"d\":{}}").kind, MESA_ACTION_AUTHENTICATE);
    end();
}

TEST(op_5_from_a_client_is_a_protocol_error)
{
    begin();
    struct mesa_action a = receive("{\"op\":5,\"t\":\"DISCONNECT_CLIENT\",\"d\":{}}");
    CHECK_EQ_INT(a.kind, MESA_ACTION_CLOSE);
    CHECK_EQ_INT(a.close_code, 1007);
    CHECK_EQ_STR(a.error_code, "PROTOCOL");
    end();
}

TEST(what_only_servers_send_is_reported_and_goes_no_further)
{
    begin();
    CHECK_EQ_INT(receive("{\"op\":10,\"d\":{}}").kind, MESA_ACTION_ERROR);
    CHECK_EQ_INT(receive("{\"op\":22,\"d\":{}}").kind, MESA_ACTION_ERROR);
    CHECK(!st.authenticated);
    end();
}

TEST(text_that_is_no_envelope_closes_with_1007)
{
    begin();
    static const char *const not_json[] = {"", "{", "{\"op\":0,}", "nonsense", "{\"op\":0}x"};
    for (size_t i = 0; i < sizeof not_json / sizeof not_json[0]; i++) {
        struct mesa_action a = receive(not_json[i]);
        CHECK_EQ_INT(a.kind, MESA_ACTION_CLOSE);
        CHECK_EQ_INT(a.close_code, 1007);
        CHECK_EQ_STR(a.error_code, "JSON");
        CHECK(a.error_text != NULL);
    }
    static const char *const no_envelope[] = {
        "[]", "1", "{}", "{\"op\":\"0\"}", "{\"op\":1.5}", "{\"op\":0,\"t\":1}"};
    for (size_t i = 0; i < sizeof no_envelope / sizeof no_envelope[0]; i++) {
        struct mesa_action a = receive(no_envelope[i]);
        CHECK_EQ_INT(a.close_code, 1007);
        CHECK_EQ_STR(a.error_code, "PROTOCOL");
    }
    CHECK_EQ_INT(receive("{\"op\":0,\"d\":\"\xff\"}").close_code, 1007);
    end();
}

TEST(without_an_authenticator_op_2_is_a_message)
{
    begin();
    CHECK_EQ_INT(receive("{\"op\":2,\"d\":{}}").kind, MESA_ACTION_MESSAGE);
    CHECK(!st.checking);
    end();
}

TEST(a_check_is_numbered_and_answered_once)
{
    begin();
    st.authenticator = true;
    struct mesa_action a = receive("{\"op\":2,\"d\":{\"token\":1}}");
    CHECK_EQ_INT(a.kind, MESA_ACTION_AUTHENTICATE);
    CHECK(a.check != 0);
    CHECK(!mesa_client_state_answer(&st, a.check + 1, true));
    CHECK(!mesa_client_state_answer(&st, 0, true));
    CHECK(!st.authenticated);
    CHECK(mesa_client_state_answer(&st, a.check, true));
    CHECK(st.authenticated);
    CHECK(!mesa_client_state_answer(&st, a.check, false));
    CHECK(st.authenticated);
    end();
}

TEST(op_2_while_one_is_checked_is_refused)
{
    begin();
    st.authenticator = true;
    struct mesa_action first = receive("{\"op\":2,\"d\":{}}");
    struct mesa_action second = receive("{\"op\":2,\"d\":{\"shouldSync\":false}}");
    CHECK_EQ_INT(second.kind, MESA_ACTION_ERROR);
    CHECK_EQ_STR(second.error_code, "AUTH_BUSY");
    CHECK(st.should_sync); /* the refused one changes nothing */
    CHECK(mesa_client_state_answer(&st, first.check, true));
    end();
}

TEST(after_success_op_2_authenticates_again_with_a_new_number)
{
    begin();
    st.authenticator = true;
    struct mesa_action first = receive("{\"op\":2,\"d\":{}}");
    mesa_client_state_answer(&st, first.check, true);
    struct mesa_action again = receive("{\"op\":2,\"d\":{}}");
    CHECK_EQ_INT(again.kind, MESA_ACTION_AUTHENTICATE);
    CHECK(again.check != first.check);
    CHECK(!mesa_client_state_answer(&st, first.check, false));
    CHECK(mesa_client_state_answer(&st, again.check, false));
    CHECK(st.authenticated); /* a refused re-authentication does not undo the first */
    end();
}

TEST(should_sync_is_true_unless_it_is_false)
{
    begin();
    static const struct {
        const char *text;
        bool want;
    } cases[] = {
        {"{\"op\":2}", true},
        {"{\"op\":2,\"d\":null}", true},
        {"{\"op\":2,\"d\":{}}", true},
        {"{\"op\":2,\"d\":{\"shouldSync\":true}}", true},
        {"{\"op\":2,\"d\":{\"shouldSync\":0}}", true},
        {"{\"op\":2,\"d\":{\"shouldSync\": false }}", false},
        {"{\"op\":2,\"d\":{\"shouldSync\":true,\"shouldSync\":false}}", false},
    };
    st.authenticator = true;
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct mesa_action a = receive(cases[i].text);
        CHECK_EQ_INT(a.kind, MESA_ACTION_AUTHENTICATE);
        CHECK_EQ_INT(st.should_sync, cases[i].want);
        mesa_client_state_answer(&st, a.check, false);
    }
    end();
}

TEST(versions_are_compared_only_when_enforced)
{
    begin();
    const char *other = "{\"op\":0,\"t\":\"CLIENT_VERSION\",\"d\":{\"v\":\"0.0.1\"}}";
    CHECK_EQ_INT(receive(other).kind, MESA_ACTION_MESSAGE);
    cfg.client.enforce_equal_versions = true;
    struct mesa_action a = receive(other);
    CHECK_EQ_INT(a.kind, MESA_ACTION_CLOSE);
    CHECK_EQ_INT(a.close_code, 1002);
    end();
}

TEST(an_equal_version_is_taken_note_of_and_not_handed_on)
{
    begin();
    cfg.client.enforce_equal_versions = true;
    CHECK_EQ_INT(receive("{\"op\":0,\"t\":\"CLIENT_VERSION\",\"d\":{\"v\":\"1.5.8\"}}").kind,
                 MESA_ACTION_NONE);
    CHECK_EQ_INT(receive("{\"op\":0,\"t\":\"CLIENT_VERSION\",\"d\":{\"v\":\"1.5.\\u0038\"}}").kind,
                 MESA_ACTION_NONE);
    CHECK_EQ_INT(receive("{\"op\":0,\"t\":\"OTHER\",\"d\":{\"v\":\"0\"}}").kind,
                 MESA_ACTION_MESSAGE);
    end();
}

TEST(a_version_that_is_missing_or_no_string_is_another_version)
{
    begin();
    cfg.client.enforce_equal_versions = true;
    static const char *const texts[] = {"{\"op\":0,\"t\":\"CLIENT_VERSION\"}",
                                        "{\"op\":0,\"t\":\"CLIENT_VERSION\",\"d\":{}}",
                                        "{\"op\":0,\"t\":\"CLIENT_VERSION\",\"d\":{\"v\":1}}",
                                        "{\"op\":0,\"t\":\"CLIENT_VERSION\",\"d\":[]}",
                                        "{\"op\":0,\"t\":\"CLIENT_VERSION\",\"d\":{\"v\":\"\"}}"};
    for (size_t i = 0; i < sizeof texts / sizeof texts[0]; i++)
        CHECK_EQ_INT(receive(texts[i]).close_code, 1002);
    end();
}
