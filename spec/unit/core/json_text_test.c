/* json_text_test.c - strings and members. */
#include "core/json.h"

#include <stdio.h>
#include <stdlib.h>

#include "test.h"

static struct mesa_span span(const char *text)
{
    return (struct mesa_span){text, strlen(text)};
}

static void check_unescape(const char *token, const char *want, size_t want_len)
{
    struct mesa_buf b;
    mesa_buf_init(&b);
    CHECK_EQ_INT(mesa_json_unescape(span(token), &b), MESA_OK);
    CHECK_EQ_MEM(b.data, b.len, want, want_len);
    CHECK(mesa_json_string_is(span(token), want, want_len));
    CHECK(!mesa_json_string_is(span(token), "something else", 14));
    if (want_len > 0)
        CHECK(!mesa_json_string_is(span(token), want, want_len - 1));
    mesa_buf_deinit(&b);
}

TEST(escapes_decode)
{
    check_unescape("\"\"", "", 0);
    check_unescape("\"plain\"", "plain", 5);
    check_unescape("\"\\\"\\\\\\/\\b\\f\\n\\r\\t\"", "\"\\/\b\f\n\r\t", 8);
    check_unescape("\"\\u0000\\u0041\\u007f\"", "\0A\x7f", 3);
    check_unescape("\"\\u0080\\u07FF\\u07ff\"", "\xc2\x80\xdf\xbf\xdf\xbf", 6);
    check_unescape("\"\\u0800\\uffff\\uD7FF\\uE000\"",
                   "\xe0\xa0\x80\xef\xbf\xbf\xed\x9f\xbf\xee\x80\x80", 12);
    check_unescape("\"\\ud800\\udc00\\uDBFF\\uDFFF\"", "\xf0\x90\x80\x80\xf4\x8f\xbf\xbf", 8);
    check_unescape("\"a\\u00e9b\xc3\xa9"
                   "c\"",
                   "a\xc3\xa9"
                   "b\xc3\xa9"
                   "c",
                   7);
    check_unescape("\"\\\\u0041\"", "\\u0041", 6);
}

static void check_mend(const char *text, size_t count, const char *want)
{
    char copy[64];
    size_t len = strlen(text);
    CHECK_OR_RETURN(len < sizeof copy);
    memcpy(copy, text, len);
    CHECK_EQ_INT(mesa_json_mend(copy, len), count);
    CHECK_EQ_MEM(copy, len, want, strlen(want));
}

TEST(surrogate_escapes_without_a_partner_are_mended)
{
    check_mend("\"cut \\ud83d\"", 1, "\"cut \\ufffd\"");
    check_mend("\"\\uDE00\\ud83d\"", 2, "\"\\ufffd\\ufffd\"");
    check_mend("\"\\ud83d\\ud83d\\ude00\\ude00\"", 2, "\"\\ufffd\\ud83d\\ude00\\ufffd\"");
    check_mend("\"\\ud83d\\n\\ud83dx\"", 2, "\"\\ufffd\\n\\ufffdx\"");
    check_mend("\"\\\\ud83d\\\\\\ud83d\"", 1, "\"\\\\ud83d\\\\\\ufffd\"");
    check_mend("\"\\ud83d\\ude00\\u00e9\\\"", 0, "\"\\ud83d\\ude00\\u00e9\\\"");
    check_mend("\"\\ud83", 0, "\"\\ud83");
    check_mend("\"\\ud83d\\ude0", 1, "\"\\ufffd\\ude0");
    check_mend("\\", 0, "\\");
    check_mend("", 0, "");
}

TEST(unescape_appends)
{
    struct mesa_buf b;
    mesa_buf_init(&b);
    mesa_buf_append(&b, "before ", 7);
    CHECK_EQ_INT(mesa_json_unescape(span("\"x\\ty\""), &b), MESA_OK);
    CHECK_EQ_MEM(b.data, b.len, "before x\ty", 10);
    mesa_buf_deinit(&b);
}

static void check_put(const char *s, size_t len, const char *want)
{
    struct mesa_buf b;
    mesa_buf_init(&b);
    CHECK_EQ_INT(mesa_json_put_string(&b, s, len), MESA_OK);
    CHECK_EQ_MEM(b.data, b.len, want, strlen(want));
    mesa_buf_deinit(&b);
}

TEST(only_what_must_be_is_escaped)
{
    check_put("", 0, "\"\"");
    check_put("a/b'c\x7f", 6, "\"a/b'c\x7f\"");
    check_put("\"\\", 2, "\"\\\"\\\\\"");
    check_put("\b\f\n\r\t", 5, "\"\\b\\f\\n\\r\\t\"");
    check_put("\0\x01\x1f", 3, "\"\\u0000\\u0001\\u001f\"");
    check_put("\xc3\xa9\xe2\x82\xac\xf0\x9f\x98\x80", 9,
              "\"\xc3\xa9\xe2\x82\xac\xf0\x9f\x98\x80\"");
    check_put("\xc3\xa9\n\xc3\xa9", 5, "\"\xc3\xa9\\n\xc3\xa9\"");
}

TEST(invalid_utf8_is_refused_and_nothing_appended)
{
    struct mesa_buf b;
    mesa_buf_init(&b);
    mesa_buf_append(&b, "kept", 4);
    CHECK_EQ_INT(mesa_json_put_string(&b, "abc\n\xff", 5), MESA_EUTF8);
    CHECK_EQ_INT(mesa_json_put_string(&b, "\xc3", 1), MESA_EUTF8);
    CHECK_EQ_INT(mesa_json_put_string(&b, "\xed\xa0\x80", 3), MESA_EUTF8);
    CHECK_EQ_MEM(b.data, b.len, "kept", 4);
    mesa_buf_deinit(&b);
}

/* Each control character, quote, backslash and some text at each offset: valid JSON that decodes to
 * what it was. */
TEST(strings_survive_a_round_trip)
{
    struct mesa_buf json, back;
    mesa_buf_init(&json);
    mesa_buf_init(&back);
    for (unsigned c = 0; c < 0x80; c++)
        for (size_t len = 1; len < 40; len++)
            for (size_t at = 0; at < len; at += 3) {
                char s[40];
                memset(s, 'x', sizeof s);
                s[at] = (char)c;
                json.len = back.len = 0;
                CHECK_EQ_INT(mesa_json_put_string(&json, s, len), MESA_OK);
                CHECK_EQ_INT(mesa_json_check(json.data, json.len, 0, NULL), MESA_OK);
                CHECK_EQ_INT(mesa_json_unescape((struct mesa_span){json.data, json.len}, &back),
                             MESA_OK);
                CHECK_EQ_MEM(back.data, back.len, s, len);
            }
    mesa_buf_deinit(&json);
    mesa_buf_deinit(&back);
}

TEST(every_code_point_survives_a_round_trip)
{
    struct mesa_buf back;
    mesa_buf_init(&back);
    unsigned wrong = 0;
    for (uint32_t code = 0; code < 0x110000; code++) {
        char token[16];
        if (code >= 0xd800 && code < 0xe000)
            continue;
        if (code < 0x10000)
            snprintf(token, sizeof token, "\"\\u%04x\"", (unsigned)code);
        else
            snprintf(token, sizeof token, "\"\\u%04X\\u%04X\"",
                     (unsigned)(0xd800 + ((code - 0x10000) >> 10)),
                     (unsigned)(0xdc00 + (code & 0x3ff)));
        back.len = 0;
        wrong += mesa_json_unescape(span(token), &back) != MESA_OK ||
                 !mesa_utf8_valid(back.data, back.len);
        wrong += back.len != (code < 0x80 ? 1u : code < 0x800 ? 2u : code < 0x10000 ? 3u : 4u);
        uint32_t lead = back.len == 1 ? 0x7f : 0x7fu >> back.len,
                 decoded = (unsigned char)back.data[0] & lead;
        for (size_t i = 1; i < back.len; i++)
            decoded = decoded << 6 | ((unsigned char)back.data[i] & 0x3f);
        wrong += decoded != code;
    }
    CHECK_EQ_INT(wrong, 0);
    mesa_buf_deinit(&back);
}

static void check_find(const char *object, const char *key, const char *want)
{
    /* a block of its own, see json_scan_test.c */
    size_t len = strlen(object);
    char *copy = malloc(len > 0 ? len : 1);
    memcpy(copy, object, len);
    struct mesa_span v = {NULL, 0};
    bool found = mesa_json_find((struct mesa_span){copy, len}, key, &v);
    CHECK_EQ_INT(found, want != NULL);
    if (found && want != NULL)
        CHECK_EQ_MEM(v.p, v.len, want, strlen(want));
    free(copy);
}

TEST(find_returns_the_last_member_of_that_name)
{
    check_find("{\"a\":1}", "a", "1");
    check_find("{\"a\":1}", "b", NULL);
    check_find("{}", "a", NULL);
    check_find(" { } ", "a", NULL);
    check_find("{\"a\":1,\"b\":2,\"a\":3}", "a", "3");
    check_find(" { \"a\" : true , \"b\" : [1, {\"a\":2}] } ", "b", "[1, {\"a\":2}]");
    check_find(" { \"b\" : [1, {\"a\":2}] , \"a\" : null\n}", "a", "null");
    check_find("{\"b\":{\"a\":2}}", "a", NULL);
    check_find("{\"b\":\"}\\\"a\",\"a\":\"{\"}", "a", "\"{\"");
    check_find("{\"\\u0061\":1}", "a", "1");
    check_find("{\"a\":1,\"\\u0061\":2}", "a", "2");
    check_find("{\"a\\n\":1}", "a\n", "1");
    check_find("{\"\":1}", "", "1");
    check_find("{\"a\":-1.5e3,\"b\":{}}", "a", "-1.5e3");
    check_find("{\"a\":{},\"b\":[]}", "a", "{}");
    check_find("{\"a\":[],\"b\":[]}", "b", "[]");
    check_find("{\"ab\":1,\"a\":2}", "a", "2");
    check_find("{\"a\":1,\"ab\":2}", "ab", "2");
    check_find("{\"sync\":false}", "sync", "false");
    check_find("{\"a\\\\\":\"\\\\\",\"b\":\"x\"}", "b", "\"x\"");
}

TEST(find_in_what_is_no_object_finds_nothing)
{
    check_find("[1]", "a", NULL);
    check_find("\"a\"", "a", NULL);
    check_find("1", "a", NULL);
    check_find("", "a", NULL);
    CHECK(!mesa_json_find((struct mesa_span){NULL, 0}, "a", &(struct mesa_span){NULL, 0}));
}
