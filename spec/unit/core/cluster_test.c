/* cluster_test.c - what is read from the channels of a cluster (PROTOCOL 8, 9). */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/cluster.h"
#include "test.h"

enum { DEPTH = 16 };

static struct mesa_cluster_message m;
static struct mesa_json_error err;

static enum mesa_status parse(const char *text)
{
    err = (struct mesa_json_error){0, NULL};
    return mesa_cluster_message_parse(text, strlen(text), DEPTH, &m, &err);
}

static void check_refused(const char *text, const char *why)
{
    CHECK_EQ_INT(parse(text), MESA_EPROTO);
    CHECK_EQ_STR(err.text, why);
}

static void check_id(const struct mesa_cluster_ids *ids, size_t i, const char *want)
{
    CHECK_OR_RETURN(i < ids->count);
    CHECK_EQ_MEM(ids->at[i].p, ids->at[i].len, want, strlen(want));
}

TEST(a_message_of_a_node_server)
{
    CHECK_OR_RETURN(parse("{\"message\":{\"op\":0,\"d\":{\"a\":[]},\"t\":\"T\"},"
                          "\"recipients\":[\"1\",\"\\u00e9/\\\"\"]}") == MESA_OK);
    CHECK_EQ_INT(m.envelope.op, 0);
    CHECK_EQ_MEM(m.envelope.d.p, m.envelope.d.len, "{\"a\":[]}", 8);
    CHECK(!m.everybody);
    CHECK_EQ_INT(m.recipients.count, 2);
    check_id(&m.recipients, 0, "1");
    check_id(&m.recipients, 1, "\xc3\xa9/\"");
    CHECK_EQ_INT(m.excluding.count, 0);
    mesa_cluster_message_deinit(&m);
}

TEST(surrogate_escapes_without_a_partner_are_mended)
{
    CHECK_OR_RETURN(parse("{\"message\":{\"op\":0,\"d\":\"\\ud83d\",\"t\":\"\\ude00\"},"
                          "\"recipients\":[\"\\ud83d\"]}") == MESA_OK);
    CHECK_EQ_MEM(m.envelope.d.p, m.envelope.d.len, "\"\\ufffd\"", 8);
    CHECK_EQ_MEM(m.envelope.t.p, m.envelope.t.len, "\"\\ufffd\"", 8);
    check_id(&m.recipients, 0, "\xef\xbf\xbd");
    mesa_cluster_message_deinit(&m);
}

TEST(everybody_but_some)
{
    CHECK_OR_RETURN(parse(" {\"origin\":\"x\",\"message\":{\"op\":5},\"recipients\":[\"a\",\"*\"],"
                          "\"excluding\":[\"b\"],\"more\":{}} ") == MESA_OK);
    CHECK(m.everybody);
    check_id(&m.excluding, 0, "b");
    mesa_cluster_message_deinit(&m);
}

static void check_raw(const char *more, enum mesa_cluster_kind kind, const void *want, size_t len)
{
    char text[256];
    snprintf(text, sizeof text, "{\"message\":%s,\"recipients\":[\"a\"],\"sync\":true%s}",
             MESA_CLUSTER_RAW, more);
    CHECK_OR_RETURN(parse(text) == MESA_OK);
    CHECK_EQ_INT(m.kind, kind);
    CHECK_EQ_MEM(m.raw.data, m.raw.len, want, len);
    CHECK_EQ_INT(m.sync, kind == MESA_CLUSTER_ENVELOPE);
    check_id(&m.recipients, 0, "a");
    mesa_cluster_message_deinit(&m);
}

TEST(raw_messages)
{
    check_raw("", MESA_CLUSTER_ENVELOPE, "", 0);
    check_raw(",\"binary\":7", MESA_CLUSTER_ENVELOPE, "", 0);
    check_raw(",\"raw\":\"\"", MESA_CLUSTER_TEXT, "", 0);
    check_raw(",\"raw\":\"a\\u0000\\ud83d\\ude00\"", MESA_CLUSTER_TEXT, "a\0\xf0\x9f\x98\x80", 6);
    check_raw(",\"raw\":\"AP8=\",\"binary\":false", MESA_CLUSTER_TEXT, "AP8=", 4);
    check_raw(",\"raw\":\"AP8=\",\"binary\":true", MESA_CLUSTER_BINARY, "\0\xff", 2);
    check_raw(",\"raw\":\"\\/\\u002b==\",\"raw\":\"\",\"binary\":true", MESA_CLUSTER_BINARY, "", 0);
    check_raw(",\"raw\":\"\\/Q\\u003d=\",\"binary\":true", MESA_CLUSTER_BINARY, "\xfd", 1);
}

TEST(raw_messages_of_the_wrong_shape_are_refused)
{
#define RAW "{\"message\":" MESA_CLUSTER_RAW ",\"recipients\":[],\"raw\":"
    check_refused(RAW "1}", "raw is not a string");
    check_refused(RAW "null}", "raw is not a string");
    check_refused(RAW "[\"x\"]}", "raw is not a string");
    check_refused(RAW "\"x\",\"binary\":\"true\"}", "binary is not true or false");
    check_refused(RAW "\"x\",\"binary\":null}", "binary is not true or false");
    check_refused(RAW "\"AA\",\"binary\":true}", "raw is not base64");
    check_refused(RAW "\"AB==\",\"binary\":true}", "raw is not base64");
#undef RAW
    const char *why = "raw without the envelope of a raw message";
    check_refused("{\"message\":{\"op\":0,\"t\":\"RAW\"},\"recipients\":[],\"raw\":\"x\"}", why);
    check_refused("{\"message\":{\"op\":5},\"recipients\":[],\"raw\":\"x\"}", why);
    check_refused("{\"message\":{\"op\":5,\"t\":\"DISCONNECT_CLIENT\"},\"recipients\":[],"
                  "\"raw\":\"x\"}",
                  why);
}

TEST(numbers_are_ids_and_null_is_nobody)
{
    CHECK_OR_RETURN(parse("{\"message\":{\"op\":0},\"recipients\":[7,null,-1e2,\"\"]}") == MESA_OK);
    CHECK_EQ_INT(m.recipients.count, 3);
    check_id(&m.recipients, 0, "7");
    check_id(&m.recipients, 1, "-100");
    check_id(&m.recipients, 2, "");
    mesa_cluster_message_deinit(&m);
}

TEST(the_last_of_duplicate_keys_counts)
{
    CHECK_OR_RETURN(parse("{\"message\":1,\"recipients\":[\"a\"],\"recip\\u0069ents\":[],"
                          "\"message\":{\"op\":3}}") == MESA_OK);
    CHECK_EQ_INT(m.envelope.op, 3);
    CHECK_EQ_INT(m.recipients.count, 0);
    mesa_cluster_message_deinit(&m);
}

TEST(what_is_kept_says_so_and_has_a_number)
{
    const struct {
        const char *text;
        bool sync;
        uint64_t number;
    } cases[] = {
        {"{\"message\":{\"op\":0},\"recipients\":[]}", true, 0},
        {"{\"message\":{\"op\":0,\"o\":{\"sync\":false}},\"recipients\":[]}", false, 0},
        {"{\"origin\":\"x\",\"message\":{\"op\":0},\"recipients\":[]}", false, 0},
        {"{\"origin\":\"x\",\"message\":{\"op\":0},\"recipients\":[],\"sync\":true,\"number\":"
         "1764000000000001}",
         true, 1764000000000001},
        {"{\"message\":{\"op\":0},\"recipients\":[],\"number\":-1}", true, 0},
        {"{\"message\":{\"op\":0},\"recipients\":[],\"number\":\"1\"}", true, 0},
        {"{\"message\":{\"op\":0},\"recipients\":[],\"number\":1.5}", true, 0},
        {"{\"message\":{\"op\":0},\"recipients\":[],\"number\":1e300}", true, 0},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        CHECK_OR_RETURN(parse(cases[i].text) == MESA_OK);
        CHECK_EQ_INT(m.sync, cases[i].sync);
        CHECK(m.number == cases[i].number);
        mesa_cluster_message_deinit(&m);
    }
}

TEST(many_recipients)
{
    char text[65536];
    size_t at = (size_t)snprintf(text, sizeof text, "{\"message\":{\"op\":0},\"recipients\":[");
    for (int i = 0; i < 5000; i++)
        at += (size_t)snprintf(text + at, sizeof text - at, "%s\"u%d\"", i > 0 ? "," : "", i);
    snprintf(text + at, sizeof text - at, "]}");
    CHECK_OR_RETURN(parse(text) == MESA_OK);
    CHECK_EQ_INT(m.recipients.count, 5000);
    check_id(&m.recipients, 4999, "u4999");
    mesa_cluster_message_deinit(&m);
}

TEST(wrong_shapes_are_refused)
{
    check_refused("", "unexpected end");
    check_refused("hello", "not an object");
    check_refused("[]", "not an object");
    check_refused("{}", "message is missing");
    check_refused("{\"message\":{\"op\":0}}", "recipients is not an array");
    check_refused("{\"message\":{\"op\":0},\"recipients\":\"*\"}", "recipients is not an array");
    check_refused("{\"message\":{\"op\":0},\"recipients\":[{}]}",
                  "an id is neither a string nor an integer");
    check_refused("{\"message\":{\"op\":0},\"recipients\":[true]}",
                  "an id is neither a string nor an integer");
    check_refused("{\"message\":{\"op\":0},\"recipients\":[1.5]}",
                  "an id is neither a string nor an integer");
    check_refused("{\"message\":{\"op\":0},\"recipients\":[],\"excluding\":\"a\"}",
                  "excluding is not an array");
    check_refused("{\"message\":[],\"recipients\":[]}", "the envelope is not an object");
    check_refused("{\"message\":{\"d\":1},\"recipients\":[]}", "op is missing");
    check_refused("{\"message\":{\"op\":0},\"recipients\":[]}x",
                  "unexpected bytes after the value");
    check_refused("{\"message\":{\"op\":0},\"recipients\":[}", "expected a value");
}

TEST(bad_utf8_is_refused)
{
    CHECK_EQ_INT(parse("{\"message\":{\"op\":0},\"recipients\":[\"\xff\"]}"), MESA_EUTF8);
}

TEST(portals_come_and_go)
{
    struct mesa_portal_update u;
    const char *join = "{\"id\":\"p\\u0031\",\"ready\":true}",
               *leave = "{\"ready\":false,\"id\":\"x\"}";
    CHECK_OR_RETURN(mesa_portal_update_parse(join, strlen(join), DEPTH, &u, &err) == MESA_OK);
    CHECK(u.ready);
    CHECK_EQ_MEM(u.id.data, u.id.len, "p1", 2);
    mesa_portal_update_deinit(&u);
    CHECK_OR_RETURN(mesa_portal_update_parse(leave, strlen(leave), DEPTH, &u, &err) == MESA_OK);
    CHECK(!u.ready);
    mesa_portal_update_deinit(&u);
}

TEST(news_of_portals_that_say_nothing_are_refused)
{
    const char *const bad[] = {"",
                               "1",
                               "{}",
                               "{\"id\":1,\"ready\":true}",
                               "{\"id\":\"\",\"ready\":true}",
                               "{\"id\":\"a\"}",
                               "{\"id\":\"a\",\"ready\":1}"};
    struct mesa_portal_update u;
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++)
        CHECK_EQ_INT(mesa_portal_update_parse(bad[i], strlen(bad[i]), DEPTH, &u, &err),
                     MESA_EPROTO);
}

TEST(the_elements_of_an_array)
{
    const char *text = " [ {\"a\":[1,2]} , \"x,]\" ,null] ";
    struct mesa_span *at;
    size_t count;
    CHECK_OR_RETURN(mesa_cluster_elements(text, strlen(text), DEPTH, &at, &count, &err) == MESA_OK);
    CHECK_EQ_INT(count, 3);
    CHECK_EQ_MEM(at[0].p, at[0].len, "{\"a\":[1,2]}", 11);
    CHECK_EQ_MEM(at[1].p, at[1].len, "\"x,]\"", 5);
    free(at);
    CHECK_OR_RETURN(mesa_cluster_elements("[]", 2, DEPTH, &at, &count, &err) == MESA_OK);
    CHECK_EQ_INT(count, 0);
    free(at);
    CHECK_EQ_INT(mesa_cluster_elements("{}", 2, DEPTH, &at, &count, &err), MESA_EPROTO);
    CHECK_EQ_INT(mesa_cluster_elements("[1", 2, DEPTH, &at, &count, &err), MESA_EPROTO);
    CHECK_EQ_INT(mesa_cluster_elements("", 0, DEPTH, &at, &count, &err), MESA_EPROTO);
}
