/* json_scan_test.c - what is JSON and what is not. */
#include "core/json.h"
#include "core/json_scan.h"

#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "test.h"

struct sample {
    const char *text;
    size_t len;
};

#define S(literal)                   \
    {                                \
        literal, sizeof(literal) - 1 \
    }

/* Each text lies in a block of its own size, so that a read beyond the end is found by the address
 * sanitizer. */
static enum mesa_status check(const char *text, size_t len, unsigned max_depth,
                              struct mesa_json_error *err)
{
    char *copy = malloc(len > 0 ? len : 1);
    memcpy(copy, text, len);
    enum mesa_status rc = mesa_json_check(copy, len, max_depth, err);
    free(copy);
    return rc;
}

/* clang-format off */
static const struct sample valid[] = {
    S("null"), S("true"), S("false"), S("0"), S("-0"), S("1"), S("-1"),
    S("123456789012345678901234567890"), S("0.5"), S("-0.5"), S("1.25e10"), S("1E5"), S("1e+5"),
    S("1e-5"), S("0e0"), S("0e+1"), S("0e999"), S("-1e-999"), S("20e1"), S("1.0"), S("1e00"),
    S("-0.0e-0"), S("123e65"), S("0.00000000000000000000000000000000001"), S("\"\""), S("\"a\""),
    S(" \t\r\n1 \t\r\n"), S("\"\x7f\""), S("\"\xc2\x80\""), S("\"\xe2\x82\xac\""),
    S("\"\xf0\x9f\x98\x80\""), S("\"\xf4\x8f\xbf\xbf\""), S("\"\xed\x9f\xbf\""),
    S("\"\xee\x80\x80\""), S("\"\xef\xbf\xbe\""), S("\"\xef\xbb\xbf\""),
    S("\"\xe2\x80\xa8\xe2\x80\xa9\""), S("\"\\\"\\\\\\/\\b\\f\\n\\r\\t\""), S("\"\\u0000\""),
    S("\"\\u00e9\\uABCD\\uabcd\""), S("\"\\ud83d\\ude00\""), S("\"\\uD83D\\uDE00\\uD83D\\uDE00\""),
    S("\"\\uDBFF\\uDFFF\""), S("\"\\uffff\\ufffe\""), S("\"\\\\u0061\""), S("\"a/*b*/c/*d//e\""),
    S("\"new\\u000Aline\""), S("[]"), S("[ ]"), S("[1]"), S("[1,2]"), S("[ 1 , 2 ]"),
    S("[[],[[]],{}]"), S("[null,true,false,\"\",0]"), S("[\"a\",[\"b\"]]"), S("[1\n]"), S("[-0]"),
    S("[\"\"]"), S("[[[[[[[[]]]]]]]]"), S("[{},{},[]]"), S("[0,0.1,-1e1]"), S("{}"), S("{ }"),
    S("{\"\":0}"), S("{\"a\":1}"), S("{ \"a\" : 1 , \"b\" : [ ] }"), S("{\"a\":{\"a\":{}}}"),
    S("{\"a\":1,\"a\":2}"), S("{\"a\\u0000b\":1}"), S("{\"\\u0061\":[{}]}"), S("{\"a\":[]}"),
    S("{\"a\":{},\"b\":[{}]}"),
    S("{\"long key that is longer than sixteen bytes\":\"long value \xc3\xa9 that is longer than sixteen bytes\"}"),
    S("{\"text\":\"\xd0\x9f\xd0\xbe\xd0\xbb\xd1\x82\xd0\xbe\xd1\x80\xd0\xb0 \xd0\x97\xd0\xb5\xd0\xbc\xd0\xbb\xd0\xb5\xd0\xba\xd0\xbe\xd0\xbf\xd0\xb0\"}"),
};

static const struct sample invalid[] = {
    S(""), S(" "), S("\n\t "), S("\0"), S("1\0"), S("\0001"), S("nul"), S("nulL"), S("nullx"),
    S("null null"), S("tru"), S("truth"), S("True"), S("TRUE"), S("fals"), S("falsee"),
    S("undefined"), S("NaN"), S("nan"), S("Infinity"), S("-Infinity"), S("inf"), S("-"), S("+1"),
    S("--1"), S("01"), S("-01"), S("00"), S("0x1"), S("0X1F"), S("1."), S(".5"), S("-.5"),
    S("1.e5"), S("1e999"), S("-1e999"), S("1.8e308"), S("[1e309]"), S("1e"), S("1e+"), S("1e-"), S("1E"), S("1e1.5"), S("1 2"), S("1,2"), S("1a"),
    S("1_000"), S("- 1"), S("0e"), S("0.e1"), S("1.2.3"), S("1e1e1"), S("-a"), S("-\"1\""),
    S("1,"), S("\xef\xbc\x91"), S("0b1"), S("1f"), S("1L"), S("0.1.2"), S("-1x"),
    S("\xe2\x88\x92" "1"), S("\v1"), S("\f1"), S("\xc2\xa0" "1"), S("1\xe2\x80\xa8"), S("\""),
    S("\"a"), S("a\""), S("'a'"), S("\"a\"b"), S("\"a\"\"b\""), S("\"\\"), S("\"\\\""),
    S("\"\\\"\\"), S("\"\\x41\""), S("\"\\a\""), S("\"\\'\""), S("\"\\0\""), S("\"\\U0041\""),
    S("\"\\u\""), S("\"\\u1\""), S("\"\\u12\""), S("\"\\u123\""), S("\"\\u123"), S("\"\\u123g\""),
    S("\"\\u 123\""), S("\"\\u+123\""), S("\"\\u-123\""), S("\"\\u0x41\""), S("\"\\v\""),
    S("\"\\e\""), S("\"\\\n\""), S("\"\\\xc3\xa9\""), S("\"\\ \""), S("\"\\ud800\""),
    S("\"\\udc00\""), S("\"\\udfff\""), S("\"\\udbff\""), S("\"\\ud800x\""), S("\"\\ud800\\n\""),
    S("\"\\ud800\\u0041\""), S("\"\\ud800\\ud800\""), S("\"\\ud800\\ue000\""),
    S("\"\\ud83d\\ude0\""), S("\"\\ud83d\\u\""), S("\"\\ud83d\\\""), S("\"\\ud83d\\"),
    S("\"\\ud83d\\u"), S("\"\\ude00\\ud83d\""), S("\"\\ud83d\\uzzzz\""), S("\"\n\""), S("\"\t\""),
    S("\"\r\""), S("\"\0\""), S("\"\x1f\""), S("\"abcdefghijklmnop\x01qrstuvwx\""), S("\"\x01\""),
    S("\"a\nb\""), S("["), S("]"), S("[1"), S("[1,"), S("[1,]"), S("[,1]"), S("[,]"), S("[1 2]"),
    S("[1,,2]"), S("[1]]"), S("[[1]"), S("[1}"), S("[a]"), S("[1:2]"), S("[1;2]"), S("[\"a\":1]"),
    S("[\"a\""), S("[\"\": 1]"), S("[*]"), S("[-]"), S("[\xff]"), S("[1\n,1\n,1"), S("[{}"),
    S("[]x"), S("[] []"), S("[]]"), S("[(1)]"), S("<null>"), S("[\v]"), S("[\\n]"),
    S("[\"a\",\n4\n,1,"), S("{"), S("}"), S("{]"), S("{\"a\""), S("{\"a\":"), S("{\"a\":1"),
    S("{\"a\":1,"), S("{\"a\":1,}"), S("{,}"), S("{\"a\"}"), S("{\"a\" 1}"), S("{\"a\"::1}"),
    S("{:1}"), S("{a:1}"), S("{'a':1}"), S("{1:1}"), S("{null:1}"), S("{\"a\":1 \"b\":2}"),
    S("{\"a\":1,,\"b\":2}"), S("{\"a\":}"), S("{\"a\":1}}"), S("{\"a\":1]"), S("{\"a\",1}"),
    S("{\"a\"=1}"), S("{\"a\":1}#"), S("{\"a\":1}{"), S("{[]:1}"), S("{{}:1}"), S("{\"a\":\"b"),
    S("{\"a\":/*c*/1}"), S("{\"a\":1}//c"), S("{\"a\":1}/**/"), S("/**/1"), S("#1"),
    S("{\"a\nb\":1}"), S("{\"\\ud800\":1}"), S("{\"a\":1,\"b\"}"), S("{\"a\":1,b:2}"),
    S("{\"a\":1,\"b\":2"), S("{\"a\":1\"b\":2}"), S("[\"x\"\"y\"]"), S("[1,2}"), S("{\"a\":[}]"),
    S("[{]}"), S("{\"a\":1;\"b\":2}"), S("{\"a\":tru}"), S("{\"a\":+1}"), S("{}}"), S("{} {}"),
    S("[][]"), S("{}\0"), S("[1,\0]"), S("{\"a\" \0:1}"), S("\xef\xbb\xbf{}"), S("\xef\xbb\xbf"),
    S("{}\xef\xbb\xbf"), S("\xff\xfe{\0}\0"), S("{\0}\0"), S("\xe9"),
};

static const struct sample invalid_utf8[] = {
    S("\"\x80\""), S("\"\xbf\""), S("\"\xc0\x80\""), S("\"\xc0\xaf\""), S("\"\xc1\xbf\""),
    S("\"\xc2\""), S("\"\xc2"), S("\"\xc3\x28\""), S("\"\xe0\x80\x80\""), S("\"\xe0\x9f\xbf\""),
    S("\"\xe2\x82\""), S("\"\xe2\x82"), S("\"\xe2\x28\xa1\""), S("\"\xe2\x82\x28\""),
    S("\"\xed\xa0\x80\""), S("\"\xed\xbf\xbf\""), S("\"\xed\xa0\xbd\xed\xb8\x80\""),
    S("\"\xf0\x80\x80\x80\""), S("\"\xf0\x8f\xbf\xbf\""), S("\"\xf0\x9f\x98\""),
    S("\"\xf0\x9f\x98"), S("\"\xf0\x28\x8c\xbc\""), S("\"\xf4\x90\x80\x80\""),
    S("\"\xf5\x80\x80\x80\""), S("\"\xf8\x88\x80\x80\x80\""), S("\"\xfc\x84\x80\x80\x80\x80\""),
    S("\"\xfe\""), S("\"\xff\""), S("\"\xc3\xa9\xff\""), S("{\"\xff\":1}"),
    S("[\"abcdefghijklmnopqrstuvwxyz\x80\"]"), S("\"\xe9t\xe9\""), S("\"\\n\xc3\""),
};
/* clang-format on */

TEST(valid_texts_are_accepted)
{
    for (size_t i = 0; i < sizeof valid / sizeof valid[0]; i++) {
        struct mesa_json_error err = {0};
        if (!CHECK_EQ_INT(check(valid[i].text, valid[i].len, 16, &err), MESA_OK))
            CHECK_EQ_STR(valid[i].text, err.text);
    }
}

TEST(invalid_texts_are_refused)
{
    for (size_t i = 0; i < sizeof invalid / sizeof invalid[0]; i++) {
        struct mesa_json_error err = {0};
        if (!CHECK_EQ_INT(check(invalid[i].text, invalid[i].len, 16, &err), MESA_EPROTO))
            CHECK_EQ_STR(invalid[i].text, "refused");
        CHECK(err.text != NULL);
        CHECK(err.offset <= invalid[i].len);
    }
}

TEST(invalid_utf8_has_its_own_status)
{
    for (size_t i = 0; i < sizeof invalid_utf8 / sizeof invalid_utf8[0]; i++) {
        struct mesa_json_error err = {0};
        if (!CHECK_EQ_INT(check(invalid_utf8[i].text, invalid_utf8[i].len, 16, &err), MESA_EUTF8))
            CHECK_EQ_STR(invalid_utf8[i].text, "refused");
        CHECK_EQ_STR(err.text, "invalid UTF-8");
    }
}

/* No prefix of an array or object is valid, and where it ends is where it stops being JSON. */
TEST(a_text_cut_anywhere_is_refused_at_its_end)
{
    static const char text[] =
        "{\"a\":[1.5e-3,true,{\"k\\u00e9\\n\":null}],\"b\":\"some text, \\ud83d\\ude00 and more\",\"c\":false}";
    struct mesa_json_error err;
    CHECK_EQ_INT(check(text, sizeof text - 1, 16, &err), MESA_OK);
    for (size_t len = 0; len < sizeof text - 1; len++) {
        CHECK_EQ_INT(check(text, len, 16, &err), MESA_EPROTO);
        CHECK(err.offset <= len &&
              len - err.offset <= 7); /* half a surrogate pair is reported where the pair starts */
    }
}

static void check_error(const char *text, size_t offset, const char *message)
{
    struct mesa_json_error err = {0};
    CHECK(check(text, strlen(text), 4, &err) != MESA_OK);
    CHECK_EQ_INT(err.offset, offset);
    CHECK_EQ_STR(err.text, message);
}

TEST(errors_say_where_and_what)
{
    check_error("", 0, "unexpected end");
    check_error("  ", 2, "unexpected end");
    check_error(" ?", 1, "expected a value");
    check_error("[1,]", 3, "expected a value");
    check_error("[1 2]", 3, "expected ',' or ']'");
    check_error("{\"a\":1]", 6, "expected ',' or '}'");
    check_error("{\"a\" 1}", 5, "expected ':'");
    check_error("{a:1}", 1, "expected a key");
    check_error("{\"a\":1,}", 7, "expected a key");
    check_error("[[[[[]]]]]", 4, "nesting too deep");
    check_error("trup", 3, "invalid literal");
    check_error("1 x", 2, "unexpected bytes after the value");
    check_error("-x", 1, "expected a digit");
    check_error("012", 1, "leading zero");
    check_error("\"abc", 4, "unterminated string");
    check_error("\"a\\x\"", 3, "invalid escape");
    check_error("\"a\\ud800\"", 2, "lone surrogate escape");
    check_error("[1e999]", 1, "number out of range");
    check_error("{\"a\":-1e309}", 5, "number out of range");
    check_error("\"a\nb\"", 2, "control character in string");
    check_error("\"ab\xff\"", 3, "invalid UTF-8");
}

TEST(an_offending_byte_is_found_at_every_offset_of_a_string)
{
    static const char bad[] = {'\0', '\x01', '\x1f', '\n'};
    char text[80];
    for (size_t len = 2; len <= sizeof text; len++) {
        memset(text, 'a', sizeof text);
        text[0] = text[len - 1] = '"';
        CHECK_EQ_INT(check(text, len, 0, NULL), MESA_OK);
        for (size_t i = 1; i + 1 < len; i++) {
            struct mesa_json_error err = {0};
            for (size_t b = 0; b < sizeof bad; b++) {
                text[i] = bad[b];
                CHECK_EQ_INT(check(text, len, 0, &err), MESA_EPROTO);
                CHECK_EQ_INT(err.offset, i);
            }
            text[i] = (char)0xff;
            CHECK_EQ_INT(check(text, len, 0, &err), MESA_EUTF8);
            CHECK_EQ_INT(err.offset, i);
            text[i] = '"';
            CHECK_EQ_INT(check(text, len, 0, &err), MESA_EPROTO);
            CHECK_EQ_INT(err.offset, i + 1);
            text[i] = 'a';
        }
    }
}

TEST(every_byte_in_a_string_is_judged_alike_at_every_alignment)
{
    for (unsigned c = 0; c < 256; c++) {
        enum mesa_status want = c < 0x20 || c == '"' || c == '\\' ? MESA_EPROTO
                                : c >= 0x80                       ? MESA_EUTF8
                                                                  : MESA_OK;
        for (size_t at = 1; at < 40; at++) {
            char text[48];
            memset(text, 'z', sizeof text);
            text[0] = text[sizeof text - 1] = '"';
            text[at] = (char)c;
            CHECK_EQ_INT(check(text, sizeof text, 0, NULL), want);
        }
    }
}

static void check_depth(unsigned depth, unsigned max_depth, bool objects, enum mesa_status want)
{
    struct mesa_buf b;
    mesa_buf_init(&b);
    for (unsigned i = 0; i < depth; i++)
        mesa_buf_append(&b, objects ? "{\"k\":" : "[", objects ? 5 : 1);
    mesa_buf_append(&b, "1", 1);
    for (unsigned i = 0; i < depth; i++)
        mesa_buf_append(&b, objects ? "}" : "]", 1);
    struct mesa_json_error err = {0};
    CHECK_EQ_INT(mesa_json_check(b.data, b.len, max_depth, &err), want);
    if (want != MESA_OK)
        CHECK_EQ_STR(err.text, "nesting too deep");
    mesa_buf_deinit(&b);
}

TEST(depth_is_counted_exactly)
{
    static const unsigned limits[] = {0, 1, 2, 63, 64, 65, 128, 1023, 1024};
    for (size_t i = 0; i < sizeof limits / sizeof limits[0]; i++)
        for (int objects = 0; objects < 2; objects++) {
            check_depth(limits[i], limits[i], objects, MESA_OK);
            check_depth(limits[i] + 1, limits[i], objects, MESA_EPROTO);
        }
    check_depth(MESA_JSON_DEPTH_MAX, 1000000, false, MESA_OK);
    check_depth(MESA_JSON_DEPTH_MAX + 1, 1000000, false, MESA_EPROTO);
}

/* Which kind of container is open must be remembered at every depth. */
TEST(mixed_nesting_closes_in_order)
{
    for (unsigned seed = 1; seed < 200; seed++) {
        struct mesa_buf b;
        mesa_buf_init(&b);
        bool object[200];
        unsigned state = seed * 2654435761u;
        for (unsigned i = 0; i < 200; i++) {
            state = state * 1664525u + 1013904223u;
            object[i] = state >> 31;
            mesa_buf_append(&b, object[i] ? "{\"k\":" : "[", object[i] ? 5 : 1);
        }
        mesa_buf_append(&b, "0", 1);
        size_t first_close = b.len;
        for (unsigned i = 200; i-- > 0;)
            mesa_buf_append(&b, object[i] ? "}" : "]", 1);
        CHECK_EQ_INT(mesa_json_check(b.data, b.len, 200, NULL), MESA_OK);
        size_t wrong = first_close + seed;
        b.data[wrong] = b.data[wrong] == '}' ? ']' : '}';
        struct mesa_json_error err = {0};
        CHECK_EQ_INT(mesa_json_check(b.data, b.len, 200, &err), MESA_EPROTO);
        CHECK_EQ_INT(err.offset, wrong);
        mesa_buf_deinit(&b);
    }
}

TEST(ten_megabytes_of_brackets_are_refused_at_once)
{
    enum { BYTES = 10 * 1000 * 1000 };
    char *text = malloc(BYTES);
    CHECK_OR_RETURN(text != NULL);
    memset(text, '[', BYTES);
    clock_t begin = clock();
    struct mesa_json_error err = {0};
    CHECK_EQ_INT(mesa_json_check(text, BYTES, MESA_JSON_DEPTH_DEFAULT, &err), MESA_EPROTO);
    CHECK(clock() - begin < CLOCKS_PER_SEC / 10);
    CHECK_EQ_STR(err.text, "nesting too deep");
    CHECK_EQ_INT(err.offset, MESA_JSON_DEPTH_DEFAULT);
    free(text);
}

TEST(value_stops_behind_one_value_and_trims_its_span)
{
    static const char text[] = " [1, 2] ,\"x\" 3";
    const char *p = text, *end = text + sizeof text - 1;
    struct mesa_span v;
    CHECK_EQ_INT(mesa_json_value(&p, end, 4, &v, NULL), MESA_OK);
    CHECK_EQ_MEM(v.p, v.len, "[1, 2]", 6);
    CHECK_EQ_INT(p - text, 7);
    p += 2;
    CHECK_EQ_INT(mesa_json_value(&p, end, 4, &v, NULL), MESA_OK);
    CHECK_EQ_MEM(v.p, v.len, "\"x\"", 3);
    CHECK_EQ_INT(mesa_json_value(&p, end, 4, NULL, NULL), MESA_OK);
    CHECK(p == end);

    struct mesa_json_error err = {0};
    CHECK_EQ_INT(mesa_json_value(&p, end, 4, &v, &err), MESA_EPROTO);
    CHECK(p == end);
    CHECK_EQ_INT(err.offset, 0);

    p = text + 1; /* offsets count from the *p given */
    CHECK_EQ_INT(mesa_json_value(&p, text + 4, 4, &v, &err), MESA_EPROTO);
    CHECK_EQ_INT(err.offset, 3);
    CHECK(p == text + 1);
}

/* Places one byte everywhere in plain text of every short length; the searches must see exactly the
 * bytes that are not plain. */
TEST(a_byte_that_is_not_plain_is_found_wherever_it_is)
{
    static const unsigned char bytes[] = {0,   0x1f, ' ',  '!',  '"',  '#',  '[', '\\',
                                          ']', '~',  0x7f, 0x80, 0xa2, 0xdc, 0xff};
    char text[50], copy[50];
    bool found = true, told = true;
    for (size_t n = 0; n < 40; n++) {
        for (size_t at = 0; at < n; at++) {
            for (size_t b = 0; b < sizeof bytes; b++) {
                memset(text, 'x', sizeof text);
                text[n] = '"'; /* behind the end, not to be seen */
                text[at] = (char)bytes[b];
                if (at + 1 < n)
                    text[at + 1] = '!'; /* what a borrow from below would change */
                bool plain = mesa_json_is_plain((char)bytes[b]);
                const char *want = plain ? text + n : text + at;
                found = found && mesa_json_skip_plain(text, text + n) == want;
                memset(copy, 0, sizeof copy);
                told = told && mesa_json_copy_plain(copy, text, n) == plain;
                told = told && (!plain || memcmp(copy, text, n) == 0) && copy[n] == 0;
            }
        }
    }
    CHECK(found);
    CHECK(told);
    CHECK(mesa_json_copy_plain(copy, text, 0));
}
