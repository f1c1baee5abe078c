/* envelope_test.c - parsing and writing envelopes (PROTOCOL 1). */
#include "core/envelope.h"

#include <stdlib.h>

#include "test.h"

static char *parsed_text; /* what the spans of the last parse() point into */

static enum mesa_status parse_bytes(const char *text, size_t len, unsigned max_depth,
                                    struct mesa_envelope *e, struct mesa_json_error *err)
{
    free(parsed_text);
    parsed_text = malloc(len > 0 ? len : 1); /* exactly as long, for the address sanitizer */
    memcpy(parsed_text, text, len);
    return mesa_envelope_parse(parsed_text, len, max_depth, e, err);
}

static bool parse(const char *text, struct mesa_envelope *e)
{
    struct mesa_json_error err = {0, "ok"};
    *e = (struct mesa_envelope){.op = -99};
    return test_check(parse_bytes(text, strlen(text), 8, e, &err) == MESA_OK, text, (int)err.offset,
                      err.text);
}

static void check_span(struct mesa_span got, const char *want)
{
    if (want == NULL)
        CHECK(got.p == NULL);
    else if (CHECK(got.p != NULL))
        CHECK_EQ_MEM(got.p, got.len, want, strlen(want));
}

static void check_parts(const char *text, int64_t op, const char *d, const char *t, const char *s,
                        const char *o)
{
    struct mesa_envelope e;
    CHECK_OR_RETURN(parse(text, &e));
    CHECK_EQ_INT(e.op, op);
    check_span(e.d, d);
    check_span(e.t, t);
    check_span(e.s, s);
    check_span(e.o, o);
}

TEST(surrogate_escapes_without_a_partner_are_mended_when_received)
{
    static const char *const texts[] = {
        "{\"op\":0,\"t\":\"\\ud83d\",\"d\":{\"\\ud83d\":1}}",
        "{\"op\":0,\"t\":\"\\ude00\",\"d\":{\"\\uDBFF\":1},\"padding\":\"to be read by an index of the "
        "structure, the text has to be longer than a block or two of it, which are sixty-four bytes each.\"}",
    };
    for (size_t i = 0; i < sizeof texts / sizeof texts[0]; i++) {
        struct mesa_span text = {texts[i], strlen(texts[i])};
        struct mesa_envelope e;
        struct mesa_json_error err;
        struct mesa_buf mended;
        mesa_buf_init(&mended);
        CHECK_EQ_INT(mesa_envelope_parse(text.p, text.len, 16, &e, &err), MESA_EPROTO);
        CHECK_OR_RETURN(mesa_envelope_receive(&text, 16, &e, &mended, &err) == MESA_OK);
        CHECK(text.p == mended.data && text.len == strlen(texts[i]));
        CHECK_EQ_MEM(e.t.p, e.t.len, "\"\\ufffd\"", 8);
        CHECK_EQ_MEM(e.d.p, e.d.len, "{\"\\ufffd\":1}", 12);
        mesa_buf_deinit(&mended);
    }
}

TEST(the_parts_are_found)
{
    check_parts("{\"op\":0}", 0, NULL, NULL, NULL, NULL);
    check_parts("{\"op\":1,\"d\":{}}", 1, "{}", NULL, NULL, NULL);
    check_parts("{\"op\":0,\"d\":{\"a\":[1,2]},\"t\":\"MSG\",\"s\":7,\"o\":{\"sync\":true}}", 0,
                "{\"a\":[1,2]}", "\"MSG\"", "7", "{\"sync\":true}");
    check_parts(" \t{ \"t\" : \"x\" ,\r\n \"d\" :  [ 1 ]  , \"op\" : 10 } \n", 10, "[ 1 ]", "\"x\"",
                NULL, NULL);
    check_parts("{\"op\":0,\"d\":null,\"t\":null,\"s\":null,\"o\":null}", 0, "null", NULL, NULL,
                NULL);
    check_parts("{\"op\":0,\"d\":\"text\"}", 0, "\"text\"", NULL, NULL, NULL);
    check_parts("{\"op\":0,\"d\":1e308}", 0, "1e308", NULL, NULL, NULL);
    check_parts("{\"op\":0,\"d\":false,\"t\":\"\"}", 0, "false", "\"\"", NULL, NULL);
    check_parts("{\"op\":0,\"x\":{\"op\":5},\"opp\":1,\"O\":2,\"D\":3,\"\":4,\"oq\":5,\"p\":6}", 0,
                NULL, NULL, NULL, NULL);
}

TEST(any_way_to_write_an_integer_is_an_op)
{
    check_parts("{\"op\":22}", 22, NULL, NULL, NULL, NULL);
    check_parts("{\"op\":-3}", -3, NULL, NULL, NULL, NULL);
    check_parts("{\"op\":-0}", 0, NULL, NULL, NULL, NULL);
    check_parts("{\"op\":1.0}", 1, NULL, NULL, NULL, NULL);
    check_parts("{\"op\":1e0}", 1, NULL, NULL, NULL, NULL);
    check_parts("{\"op\":1.1e1}", 11, NULL, NULL, NULL, NULL);
    check_parts("{\"op\":9007199254740992}", INT64_C(9007199254740992), NULL, NULL, NULL, NULL);
    check_parts("{\"op\":-9007199254740992}", INT64_C(-9007199254740992), NULL, NULL, NULL, NULL);
}

TEST(the_last_duplicate_wins_and_only_its_type_counts)
{
    check_parts("{\"op\":1,\"op\":2}", 2, NULL, NULL, NULL, NULL);
    check_parts("{\"op\":\"x\",\"op\":2}", 2, NULL, NULL, NULL, NULL);
    check_parts("{\"op\":0,\"t\":5,\"t\":\"a\"}", 0, NULL, "\"a\"", NULL, NULL);
    check_parts("{\"op\":0,\"t\":\"a\",\"t\":null}", 0, NULL, NULL, NULL, NULL);
    check_parts("{\"op\":0,\"s\":\"a\",\"s\":3}", 0, NULL, NULL, "3", NULL);
    check_parts("{\"op\":0,\"o\":[],\"o\":{}}", 0, NULL, NULL, NULL, "{}");
    check_parts("{\"op\":0,\"d\":1,\"d\":[2]}", 0, "[2]", NULL, NULL, NULL);
}

TEST(keys_are_compared_after_unescaping)
{
    check_parts("{\"\\u006fp\":3}", 3, NULL, NULL, NULL, NULL);
    check_parts("{\"op\":1,\"o\\u0070\":3}", 3, NULL, NULL, NULL, NULL);
    check_parts("{\"op\":0,\"\\u0064\":1,\"\\u0074\":\"x\",\"\\u0073\":2,\"\\u006F\":{}}", 0, "1",
                "\"x\"", "2", "{}");
    check_parts("{\"op\":0,\"\\u0074\":\"x\",\"\\n\":1,\"op\\u0000\":7}", 0, NULL, "\"x\"", NULL,
                NULL);
}

static void check_refused(const char *text, size_t len, size_t offset, const char *message)
{
    struct mesa_envelope e = {.op = -99};
    struct mesa_json_error err = {0};
    CHECK_EQ_INT(parse_bytes(text, len, 4, &e, &err), MESA_EPROTO);
    CHECK_EQ_STR(err.text, message);
    CHECK_EQ_INT(err.offset, offset);
    CHECK_EQ_INT(e.op, -99); /* out-parameters change on success only */
}

#define REFUSED(text, offset, message) check_refused(text, sizeof(text) - 1, offset, message)

TEST(what_is_no_envelope_is_refused_with_a_reason)
{
    REFUSED("", 0, "unexpected end");
    REFUSED("  ", 2, "unexpected end");
    REFUSED("\0", 0, "the envelope is not an object");
    REFUSED("\xef\xbb\xbf{\"op\":0}", 0, "the envelope is not an object");
    REFUSED("[]", 0, "the envelope is not an object");
    REFUSED(" 5", 1, "the envelope is not an object");
    REFUSED("null", 0, "the envelope is not an object");
    REFUSED("hello", 0, "the envelope is not an object");
    REFUSED("{}", 2, "op is missing");
    REFUSED("{\"d\":{}}", 8, "op is missing");
    REFUSED("{\"OP\":1}", 8, "op is missing");
    REFUSED("{\"op\":\"1\"}", 6, "op is not an integer");
    REFUSED("{\"op\":null}", 6, "op is not an integer");
    REFUSED("{\"op\":true}", 6, "op is not an integer");
    REFUSED("{\"op\":[1]}", 6, "op is not an integer");
    REFUSED("{\"op\":{}}", 6, "op is not an integer");
    REFUSED("{\"op\":1.5}", 6, "op is not an integer");
    REFUSED("{\"op\":1e999}", 6, "number out of range");
    REFUSED("{\"op\":1e300}", 6, "op is not an integer");
    REFUSED("{\"op\":0,\"d\":[1e999]}", 13, "number out of range");
    REFUSED("{\"op\":1e-999}", 6, "op is not an integer");
    REFUSED("{\"op\":9007199254740993}", 6, "op is not an integer");
    REFUSED("{\"op\":1,\"op\":\"2\"}", 13, "op is not an integer");
    REFUSED("{\"op\":0,\"t\":5}", 12, "t is not a string");
    REFUSED("{\"op\":0,\"t\":{}}", 12, "t is not a string");
    REFUSED("{\"op\":0,\"t\":false}", 12, "t is not a string");
    REFUSED("{\"op\":0,\"t\":\"a\",\"t\":5}", 20, "t is not a string");
    REFUSED("{\"op\":0,\"s\":\"5\"}", 12, "s is not an integer");
    REFUSED("{\"op\":0,\"s\":1.5}", 12, "s is not an integer");
    REFUSED("{\"op\":0,\"s\":[]}", 12, "s is not an integer");
    REFUSED("{\"op\":0,\"o\":[]}", 12, "o is not an object");
    REFUSED("{\"op\":0,\"o\":\"x\"}", 12, "o is not an object");
    REFUSED("{\"op\":0,\"o\":true}", 12, "o is not an object");
}

TEST(what_is_no_json_is_refused_with_a_reason)
{
    REFUSED("{", 1, "unexpected end");
    REFUSED("{\"op\":0", 7, "unexpected end");
    REFUSED("{\"op\":0,", 8, "unexpected end");
    REFUSED("{\"op\":", 6, "unexpected end");
    REFUSED("{\"op\"", 5, "unexpected end");
    REFUSED("{\"op\":0,}", 8, "expected a key");
    REFUSED("{op:0}", 1, "expected a key");
    REFUSED("{\"op\" 0}", 6, "expected ':'");
    REFUSED("{\"op\":0]", 7, "expected ',' or '}'");
    REFUSED("{\"op\":0}}", 8, "unexpected bytes after the value");
    REFUSED("{\"op\":0}{\"op\":1}", 8, "unexpected bytes after the value");
    REFUSED("{\"op\":0}\0", 8, "unexpected bytes after the value");
    REFUSED("{\"op\":0,\"d\":[1,]}", 15, "expected a value");
    REFUSED("{\"op\":0,\"d\":{\"a\":01}}", 18, "leading zero");
    REFUSED("{\"op\":0,\"x\":{\"y\":\"\\q\"}}", 19, "invalid escape");
    REFUSED("{\"op\":0,\"t\":\"a\nb\"}", 14, "control character in string");
    REFUSED("{\"op\":0,\"d\":\"\0\"}", 13, "control character in string");
    REFUSED("{\"op\":\"x\",\"d\":nul}", 17, "invalid literal");
    REFUSED("{\"op\":0,\"d\":[[[[1]]]]}", 15, "nesting too deep");
}

TEST(invalid_utf8_anywhere_is_refused)
{
    static const char *const texts[] = {"{\"op\":0,\"d\":\"\xff\"}", "{\"op\":0,\"t\":\"\xc3\"}",
                                        "{\"op\":0,\"\xed\xa0\x80\":1}",
                                        "{\"op\":0,\"x\":[\"\xc0\x80\"]}"};
    for (size_t i = 0; i < sizeof texts / sizeof texts[0]; i++) {
        struct mesa_envelope e;
        struct mesa_json_error err = {0};
        CHECK_EQ_INT(parse_bytes(texts[i], strlen(texts[i]), 8, &e, &err), MESA_EUTF8);
        CHECK_EQ_STR(err.text, "invalid UTF-8");
    }
}

TEST(the_envelope_itself_counts_as_one_level)
{
    static const char text[] = "{\"op\":0,\"d\":[{}]}";
    struct mesa_envelope e;
    CHECK_EQ_INT(parse_bytes(text, sizeof text - 1, 3, &e, NULL), MESA_OK);
    CHECK_EQ_INT(parse_bytes(text, sizeof text - 1, 2, &e, NULL), MESA_EPROTO);
    CHECK_EQ_INT(parse_bytes("{\"op\":0}", 8, 1, &e, NULL), MESA_OK);
    CHECK_EQ_INT(parse_bytes("{\"op\":0}", 8, 0, &e, NULL), MESA_EPROTO);
}

TEST(no_sync_is_the_options_sync_false)
{
    static const struct {
        const char *text;
        bool no_sync;
    } table[] = {
        {"{\"op\":0}", false},
        {"{\"op\":0,\"o\":null}", false},
        {"{\"op\":0,\"o\":{}}", false},
        {"{\"op\":0,\"o\":{\"sync\":true}}", false},
        {"{\"op\":0,\"o\":{\"sync\":null}}", false},
        {"{\"op\":0,\"o\":{\"sync\":0}}", false},
        {"{\"op\":0,\"o\":{\"sync\":\"false\"}}", false},
        {"{\"op\":0,\"o\":{\"x\":{\"sync\":false}}}", false},
        {"{\"op\":0,\"o\":{\"sync\":false}}", true},
        {"{\"op\":0,\"o\":{ \"x\" : 1 , \"sync\" : false } }", true},
        {"{\"op\":0,\"o\":{\"\\u0073ync\":false}}", true},
        {"{\"op\":0,\"o\":{\"sync\":true,\"sync\":false}}", true},
        {"{\"op\":0,\"o\":{\"sync\":false},\"o\":{}}", false},
    };
    for (size_t i = 0; i < sizeof table / sizeof table[0]; i++) {
        struct mesa_envelope e;
        if (parse(table[i].text, &e))
            CHECK_EQ_INT(e.no_sync, table[i].no_sync);
    }
}

TEST(the_type_is_compared_after_unescaping)
{
    struct mesa_envelope e;
    CHECK_OR_RETURN(parse("{\"op\":0,\"t\":\"CLIENT_VERSION\"}", &e));
    CHECK(!e.t_escaped);
    CHECK(mesa_envelope_type_is(&e, "CLIENT_VERSION"));
    CHECK(!mesa_envelope_type_is(&e, "CLIENT_VERSIO"));
    CHECK(!mesa_envelope_type_is(&e, "CLIENT_VERSION2"));
    CHECK(!mesa_envelope_type_is(&e, "CLIENT_VERSIOM"));
    CHECK(!mesa_envelope_type_is(&e, ""));
    CHECK_OR_RETURN(parse("{\"op\":0,\"t\":\"\\u0043LIENT_VERSION\"}", &e));
    CHECK(e.t_escaped);
    CHECK(mesa_envelope_type_is(&e, "CLIENT_VERSION"));
    CHECK(!mesa_envelope_type_is(&e, "CLIENT"));
    CHECK_OR_RETURN(parse("{\"op\":0,\"t\":\"\\n\",\"t\":\"a\"}", &e));
    CHECK(!e.t_escaped);
    CHECK_OR_RETURN(parse("{\"op\":0,\"t\":\"\\n\",\"t\":null}", &e));
    CHECK(!e.t_escaped);
    CHECK(!mesa_envelope_type_is(&e, ""));
    CHECK_OR_RETURN(parse("{\"op\":0,\"t\":\"\"}", &e));
    CHECK(mesa_envelope_type_is(&e, ""));
}

static void check_written(struct mesa_outgoing m, const char *want)
{
    struct mesa_buf b;
    mesa_buf_init(&b);
    mesa_buf_append(&b, "~", 1);
    CHECK_EQ_INT(mesa_envelope_write(&b, &m), MESA_OK);
    CHECK_EQ_MEM(b.data + 1, b.len - 1, want, strlen(want));
    mesa_buf_deinit(&b);

    struct mesa_frame *f = NULL;
    CHECK_EQ_INT(mesa_envelope_frame(&f, &m), MESA_OK);
    CHECK_OR_RETURN(f != NULL);
    struct mesa_span p = mesa_frame_payload(f);
    CHECK_EQ_INT(f->opcode, MESA_WS_TEXT);
    CHECK_EQ_MEM(p.p, p.len, want, strlen(want));
    struct mesa_envelope e;
    CHECK_EQ_INT(mesa_envelope_parse(p.p, p.len, 8, &e, NULL), MESA_OK);
    CHECK_EQ_INT(e.op, m.op);
    mesa_frame_unref(f);
}

TEST(envelopes_are_written_in_order_and_without_what_is_absent)
{
    check_written((struct mesa_outgoing){.op = 0}, "{\"op\":0}");
    check_written((struct mesa_outgoing){.op = 1, .d = MESA_SPAN("{}")}, "{\"op\":1,\"d\":{}}");
    check_written(
        (struct mesa_outgoing){
            .op = -5, .d = MESA_SPAN("[1]"), .type = MESA_SPAN("a\"\n\xc3\xa9"), .s = 4294967295u},
        "{\"op\":-5,\"d\":[1],\"t\":\"a\\\"\\n\xc3\xa9\",\"s\":4294967295}");
    check_written((struct mesa_outgoing){.op = 9007199254740992, .type = MESA_SPAN(""), .s = 1},
                  "{\"op\":9007199254740992,\"t\":\"\",\"s\":1}");
}

TEST(a_type_that_is_not_utf8_is_refused_and_nothing_written)
{
    struct mesa_outgoing m = {.op = 0, .d = MESA_SPAN("{}"), .type = MESA_SPAN("\xff")};
    struct mesa_buf b;
    mesa_buf_init(&b);
    mesa_buf_append(&b, "kept", 4);
    CHECK_EQ_INT(mesa_envelope_write(&b, &m), MESA_EUTF8);
    CHECK_EQ_MEM(b.data, b.len, "kept", 4);
    mesa_buf_deinit(&b);
    struct mesa_frame *f = NULL;
    CHECK_EQ_INT(mesa_envelope_frame(&f, &m), MESA_EUTF8);
    CHECK(f == NULL);
}

TEST(a_sequence_is_put_into_a_stored_envelope)
{
    struct mesa_frame *f = NULL;
    CHECK_EQ_INT(mesa_envelope_frame_with_sequence(&f, MESA_SPAN("{\"op\":0,\"d\":{}}"), 12),
                 MESA_OK);
    CHECK_OR_RETURN(f != NULL);
    struct mesa_span p = mesa_frame_payload(f);
    CHECK_EQ_MEM(p.p, p.len, "{\"op\":0,\"d\":{},\"s\":12}", 22);
    mesa_frame_unref(f);
    f = NULL;
    CHECK_EQ_INT(mesa_envelope_frame_with_sequence(&f, MESA_SPAN("{\"op\":0} "), 1), MESA_EINVAL);
    CHECK_EQ_INT(mesa_envelope_frame_with_sequence(&f, MESA_SPAN(""), 1), MESA_EINVAL);
    CHECK(f == NULL);
}

TEST(zz_cleanup)
{
    free(parsed_text);
    parsed_text = NULL;
}
