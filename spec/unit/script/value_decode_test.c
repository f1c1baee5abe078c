/* Tests of script/value.h: JSON text to Lua values. */
#include <lauxlib.h>
#include <lualib.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "budget.h"
#include "script/value.h"
#include "test.h"

static lua_State *open_state(void)
{
    lua_State *L = luaL_newstate();
    luaL_openlibs(L);
    mesa_value_open(L);
    mesa_value_push_array_meta(L);
    lua_setglobal(L, "array");
    lua_pushlightuserdata(L, NULL);
    lua_setglobal(L, "null");
    return L;
}

/* Decodes a copy of exactly `len` bytes, so that a sanitizer sees any byte read behind it. */
static enum mesa_status decode(lua_State *L, const char *text, size_t len, unsigned depth,
                               struct mesa_json_error *err)
{
    char *copy = malloc(len > 0 ? len : 1);
    memcpy(copy, text, len);
    enum mesa_status rc = mesa_value_decode(L, copy, len, depth, err);
    free(copy);
    return rc;
}

/* Whether the text decodes to a value `v` for which the Lua expression holds. */
static bool holds(const char *text, const char *expression)
{
    lua_State *L = open_state();
    struct mesa_json_error err;
    char chunk[512];
    bool ok = false;

    snprintf(chunk, sizeof chunk, "local v = ... return %s", expression);
    if (luaL_loadstring(L, chunk) != 0 ||
        decode(L, text, strlen(text), MESA_JSON_DEPTH_DEFAULT, &err) != MESA_OK)
        printf("%s: not loaded or not decoded\n", text);
    else if (lua_gettop(L) != 2 || lua_pcall(L, 1, 1, 0) != 0)
        printf("%s: %s\n", text, lua_tostring(L, -1));
    else
        ok = lua_toboolean(L, -1);
    lua_close(L);
    return ok;
}

static void check_refused(const char *text, size_t len, unsigned depth)
{
    lua_State *L = open_state();
    struct mesa_json_error got = {0}, want = {0};
    enum mesa_status rc = mesa_json_check(text, len, depth, &want);
    CHECK(rc != MESA_OK);
    CHECK_EQ_INT(decode(L, text, len, depth, &got), rc);
    CHECK_EQ_INT(got.offset, want.offset);
    CHECK_EQ_STR(got.text, want.text);
    CHECK_EQ_INT(lua_gettop(L), 0);
    lua_close(L);
}

TEST(scalars_become_lua_values)
{
    CHECK(holds("true", "v == true"));
    CHECK(holds(" false ", "v == false"));
    CHECK(holds("null", "v == null"));
    CHECK(holds("\"\"", "v == ''"));
    CHECK(holds("\t\"text\"\r\n", "v == 'text'"));
}

TEST(numbers_keep_their_value)
{
    CHECK(holds("0", "v == 0 and 1 / v > 0"));
    CHECK(holds("-0", "v == 0 and 1 / v < 0"));
    CHECK(holds("-0.0", "v == 0 and 1 / v < 0"));
    CHECK(holds("9007199254740992", "v == 2 ^ 53"));
    CHECK(holds("9007199254740991", "v == 2 ^ 53 - 1"));
    CHECK(holds("-9007199254740992", "v == -2 ^ 53"));
    CHECK(holds("123456789012345", "v == 123456789012345"));
    CHECK(holds("1234567890123456", "v == 1234567890123456"));
    CHECK(holds("12345678901234567890", "v == 12345678901234567890"));
    CHECK(holds("1.5", "v == 1.5"));
    CHECK(holds("0.1", "v == 0.1"));
    CHECK(holds("-1.25E+2", "v == -125"));
    CHECK(holds("1e308", "v == 1e308"));
    CHECK(holds("1e-400", "v == 0"));
    CHECK(holds("5e-324", "v > 0 and v / 2 == 0"));
}

TEST(strings_are_unescaped)
{
    CHECK(holds("\"\\\"\\\\\\/\\b\\f\\n\\r\\t\"", "v == '\"\\\\/\\b\\f\\n\\r\\t'"));
    CHECK(holds("\"a\\u0000b\"", "v == 'a\\0b' and #v == 3"));
    CHECK(holds("\"\\u00e9\\u20ac\\ud83d\\ude00\"", "v == '\xc3\xa9\xe2\x82\xac\xf0\x9f\x98\x80'"));
    CHECK(holds("\"\xc3\xa9\xf0\x9f\x98\x80\"", "v == '\xc3\xa9\xf0\x9f\x98\x80'"));
    CHECK(holds("{\"k\\u0065y\": 1}", "v.key == 1"));
}

TEST(long_escaped_strings_are_unescaped)
{
    enum { COUNT = 5000 };
    char *text = malloc(2 * COUNT + 2), *want = malloc(COUNT);
    lua_State *L = open_state();
    struct mesa_json_error err;

    text[0] = text[2 * COUNT + 1] = '"';
    for (size_t i = 0; i < COUNT; i++) {
        memcpy(text + 1 + 2 * i, "\\n", 2);
        want[i] = '\n';
    }
    CHECK_EQ_INT(decode(L, text, 2 * COUNT + 2, 0, &err), MESA_OK);
    size_t len;
    const char *got = lua_tolstring(L, -1, &len);
    CHECK_EQ_MEM(got, len, want, COUNT);
    CHECK_EQ_INT(lua_gettop(L), 1);
    lua_close(L);
    free(text);
    free(want);
}

TEST(arrays_are_marked_and_objects_are_not)
{
    CHECK(holds("[]", "#v == 0 and getmetatable(v) == array"));
    CHECK(holds("[ ]", "next(v) == nil and getmetatable(v) == array"));
    CHECK(holds("{}", "next(v) == nil and getmetatable(v) == nil"));
    CHECK(holds("{ }", "getmetatable(v) == nil"));
    CHECK(holds("[1, \"two\", [3], null]",
                "#v == 4 and v[1] == 1 and v[2] == 'two' and v[3][1] == 3 and v[4] == null"));
    CHECK(holds("[[]]", "getmetatable(v[1]) == array"));
    CHECK(holds("{\"a\": [], \"b\": {}, \"\": null}",
                "getmetatable(v.a) == array and getmetatable(v.b) == nil and v[''] == null"));
}

TEST(the_last_of_equal_keys_wins)
{
    CHECK(holds("{\"a\": 1, \"b\": 2, \"a\": 3}", "v.a == 3 and v.b == 2"));
    CHECK(holds("{\"a\": 1, \"\\u0061\": null}", "v.a == null"));
}

TEST(many_members_and_elements_arrive)
{
    enum { COUNT = 20000 };
    struct mesa_buf text;
    lua_State *L = open_state();
    struct mesa_json_error err;

    mesa_buf_init(&text);
    for (unsigned i = 1; i <= COUNT; i++)
        mesa_buf_printf(&text, "%c%u", i == 1 ? '[' : ',', i);
    mesa_buf_push(&text, ']');
    CHECK_EQ_INT(decode(L, text.data, text.len, 1, &err), MESA_OK);
    CHECK_EQ_INT(lua_objlen(L, -1), COUNT);
    for (int i = 1; i <= COUNT; i += 63) {
        lua_rawgeti(L, 1, i);
        CHECK_EQ_INT(lua_tointeger(L, -1), i);
        lua_pop(L, 1);
    }
    lua_settop(L, 0);

    mesa_buf_reset(&text, SIZE_MAX);
    for (unsigned i = 1; i <= COUNT; i++)
        mesa_buf_printf(&text, "%c\"k%u\":%u", i == 1 ? '{' : ',', i, i);
    mesa_buf_push(&text, '}');
    CHECK_EQ_INT(decode(L, text.data, text.len, 1, &err), MESA_OK);
    lua_getfield(L, -1, "k19999");
    CHECK_EQ_INT(lua_tointeger(L, -1), 19999);
    mesa_buf_deinit(&text);
    lua_close(L);
}

/* `depth` times `open`, a number, and `depth` times `close`. */
static void append_nested(struct mesa_buf *text, unsigned depth, const char *open,
                          const char *close)
{
    for (unsigned i = 0; i < depth; i++)
        mesa_buf_append(text, open, strlen(open));
    mesa_buf_append(text, "1", 1);
    for (unsigned i = 0; i < depth; i++)
        mesa_buf_append(text, close, strlen(close));
}

TEST(the_deepest_nesting_fits_the_stack)
{
    static const char *const forms[][2] = {
        {"[", "]"}, {"{\"k\":", "}"}, {"[0,0,0,", ",0,0,0]"}, {"[0,{\"k\":", "},0]"}};
    for (size_t f = 0; f < sizeof forms / sizeof forms[0]; f++) {
        unsigned depth = f == 3 ? MESA_JSON_DEPTH_MAX / 2 : MESA_JSON_DEPTH_MAX;
        struct mesa_buf text;
        struct mesa_json_error err;
        lua_State *L = open_state();
        mesa_buf_init(&text);
        append_nested(&text, depth, forms[f][0], forms[f][1]);
        CHECK_EQ_INT(decode(L, text.data, text.len, MESA_JSON_DEPTH_MAX, &err), MESA_OK);
        CHECK_EQ_INT(lua_gettop(L), 1);
        mesa_buf_deinit(&text);
        lua_close(L);
    }
}

TEST(wide_and_deep_arrays_fit_the_stack)
{
    struct mesa_buf text;
    struct mesa_json_error err;
    lua_State *L = open_state();
    mesa_buf_init(&text);
    for (unsigned level = 0; level < MESA_JSON_DEPTH_MAX; level++) {
        mesa_buf_push(&text, '[');
        for (unsigned i = 0; i < 63 && level < MESA_JSON_DEPTH_MAX - 1; i++)
            mesa_buf_append(&text, "0,", 2);
    }
    for (unsigned level = 0; level < MESA_JSON_DEPTH_MAX; level++)
        mesa_buf_push(&text, ']');
    CHECK_EQ_INT(decode(L, text.data, text.len, MESA_JSON_DEPTH_MAX, &err), MESA_OK);
    mesa_buf_deinit(&text);
    lua_close(L);
}

TEST(nesting_beyond_the_limit_is_refused)
{
    CHECK(holds("[[1]]", "v[1][1] == 1"));
    check_refused("[[[1]]]", 7, 2);
    check_refused("{\"a\":{\"b\":{}}}", 15, 2);
    check_refused("[]", 2, 0);

    struct mesa_buf text;
    mesa_buf_init(&text);
    append_nested(&text, 2000000, "[", "");
    check_refused(text.data, text.len, MESA_JSON_DEPTH_DEFAULT);
    check_refused(text.data, text.len, MESA_JSON_DEPTH_MAX);

    mesa_buf_reset(&text, SIZE_MAX);
    append_nested(&text, MESA_JSON_DEPTH_MAX + 1, "[", "]");
    lua_State *L = open_state();
    struct mesa_json_error err;
    CHECK_EQ_INT(decode(L, text.data, text.len, UINT32_MAX, &err), MESA_EPROTO);
    lua_close(L);
    mesa_buf_deinit(&text);
}

TEST(what_is_not_json_is_refused_as_core_json_says)
{
    static const char *const texts[] = {
        "",
        " ",
        "[1,]",
        "[1 2]",
        "{\"a\" 1}",
        "{\"a\":}",
        "{\"a\":1,}",
        "{a:1}",
        "tru",
        "True",
        "nul",
        "nullx",
        "01",
        "-",
        "-01",
        "1.",
        ".5",
        "1e",
        "+1",
        "NaN",
        "Infinity",
        "0x10",
        "\"",
        "\"\\x\"",
        "\"\\u12\"",
        "\"\n\"",
        "1e400",
        "-1e400",
        "1 2",
        "[1]]",
        "[",
        "{",
        "{\"a\":1",
        "[1,",
        "'a'",
        "/**/1",
        "\"\xff\"",
        "\"\xc0\x80\"",
        "\"\xed\xa0\x80\"",
        "\"ascii first, then \xe2\x82\"",
        "{\"\xff\":1}",
    };
    for (size_t i = 0; i < sizeof texts / sizeof texts[0]; i++)
        check_refused(texts[i], strlen(texts[i]), MESA_JSON_DEPTH_DEFAULT);
    check_refused("1\0", 2, MESA_JSON_DEPTH_DEFAULT);
}

TEST(surrogate_escapes_without_a_partner_become_the_replacement_character)
{
    CHECK(holds("\"\\ud83d\"", "v == '\xef\xbf\xbd'"));
    CHECK(holds("\"cut \\uD83D!\"", "v == 'cut \xef\xbf\xbd!'"));
    CHECK(holds("\"\\ude00\\ud800\"", "v == '\xef\xbf\xbd\xef\xbf\xbd'"));
    CHECK(holds("\"\\ud83d\\ud83d\\ude00\"", "v == '\xef\xbf\xbd\xf0\x9f\x98\x80'"));
    CHECK(holds("{\"\\ud83d\":[\"\\\\ud83d\"]}", "v['\xef\xbf\xbd'][1] == '\\\\ud83d'"));
    /* what else is wrong stays wrong, and is found where it is */
    static const char bad[] = "[\"\\ud83d\",]";
    struct mesa_json_error err = {0, NULL};
    lua_State *L = open_state();
    CHECK_EQ_INT(mesa_value_decode(L, bad, sizeof bad - 1, 8, &err), MESA_EPROTO);
    CHECK_EQ_INT(err.offset, 10);
    CHECK_EQ_STR(err.text, "expected a value");
    CHECK_EQ_INT(lua_gettop(L), 0);
    lua_close(L);
}

TEST(damaged_texts_are_judged_as_core_json_judges_them)
{
    static const char base[] =
        "{\"op\":0,\"d\":{\"content\":\"h\\u00e9llo \xc3\xa9\",\"n\":-12.5e3,\"list\":[1,true,null,[]],\"e\":{}},\"t\":\"M\"}";
    static const char bytes[] = "{}[]\",:\\ue0123456789.-+ \n\x01\x80\xc3\xff"
                                "tfna";
    lua_State *L = open_state();
    uint32_t seed = 12345;

    for (int round = 0; round < 60000; round++) {
        char text[sizeof base];
        size_t len = sizeof base - 1;
        memcpy(text, base, sizeof base);
        for (unsigned edits = 0; edits < 1 + (seed >> 28) % 3; edits++) {
            seed = seed * 1664525 + 1013904223;
            text[(seed >> 8) % len] = bytes[(seed >> 20) % (sizeof bytes - 1)];
        }
        if (round % 5 == 0)
            len = (seed >> 4) % len;

        struct mesa_json_error got = {0}, want = {0};
        enum mesa_status rc = mesa_json_check(text, len, MESA_JSON_DEPTH_DEFAULT, &want);
        bool same = decode(L, text, len, MESA_JSON_DEPTH_DEFAULT, &got) == rc &&
                    got.offset == want.offset && lua_gettop(L) == (rc == MESA_OK);
        if (!CHECK(same)) {
            printf("%.*s\n", (int)len, text);
            break;
        }
        lua_settop(L, 0);
    }
    lua_close(L);
}

TEST(a_validated_span_is_pushed)
{
    static const char text[] = "{\"list\":[1,2],\"s\":\"\xc3\xa9\\n\"}";
    lua_State *L = open_state();
    mesa_value_push(L, MESA_SPAN(text), NULL);
    CHECK_EQ_INT(lua_gettop(L), 1);
    lua_getfield(L, 1, "s");
    CHECK_EQ_STR(lua_tostring(L, -1), "\xc3\xa9\n");
    lua_close(L);
}

TEST(decoding_works_in_a_coroutine)
{
    lua_State *L = open_state();
    lua_State *co = lua_newthread(L);
    struct mesa_json_error err;
    struct mesa_buf text;
    mesa_buf_init(&text);
    append_nested(&text, MESA_JSON_DEPTH_DEFAULT, "[0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,",
                  "]");
    CHECK_EQ_INT(decode(co, text.data, text.len, MESA_JSON_DEPTH_DEFAULT, &err), MESA_OK);
    CHECK_EQ_INT(lua_gettop(co), 1);
    mesa_buf_deinit(&text);
    lua_close(L);
}

static int decode_protected(lua_State *L)
{
    struct mesa_json_error err;
    const char *text = lua_touserdata(L, 1);
    lua_pushboolean(L, mesa_value_decode(L, text, strlen(text), MESA_JSON_DEPTH_DEFAULT, &err) ==
                           MESA_OK);
    return 1;
}

TEST(lack_of_memory_raises_and_leaks_nothing)
{
    static char text[] =
        "{\"never seen before\":[[1,2,3],{\"x\":\"\\u00e9 and some more text for a string\"}],\"another\":{\"a\":{},\"b\":[],\"c\":1,\"d\":2,\"e\":3}}";
    bool succeeded = false;
    for (long n = 0; n < 200 && !succeeded; n++) {
        long budget = -1;
        lua_State *L = lua_newstate(budget_alloc, &budget);
        CHECK_OR_RETURN(L != NULL);
        mesa_value_open(L);
        lua_gc(L, LUA_GCSTOP, 0);
        lua_pushcfunction(L, decode_protected);
        lua_pushlightuserdata(L, text);
        budget = n;
        int status = lua_pcall(L, 1, 1, 0);
        budget = -1;
        succeeded = status == 0;
        CHECK(succeeded || status == LUA_ERRMEM);
        lua_close(L);
    }
    CHECK(succeeded);
}

/* Strings of all short lengths, many of which fall into the same places and differ in one byte. */
TEST(names_are_the_strings_they_stand_for)
{
    static struct mesa_value_names names;
    lua_State *L = luaL_newstate();
    mesa_value_open(L);
    mesa_value_names_init(L, &names);
    bool same = true;
    for (int round = 0; round < 3; round++) {
        for (size_t len = 0; len <= 20; len++) {
            for (size_t at = 0; at <= len; at++) {
                char name[24];
                size_t n;
                memset(name, 'a', sizeof name);
                if (at < len)
                    name[at] = round == 1 ? '\0' : 'b';
                mesa_value_push_name(L, &names, name, len);
                const char *got = lua_tolstring(L, -1, &n);
                same = same && n == len && memcmp(got, name, len) == 0;
                lua_pop(L, 1);
            }
        }
        lua_gc(L, LUA_GCCOLLECT, 0);
    }
    CHECK(same);
    mesa_value_push(L, MESA_SPAN("{\"a\":{\"a\":1,\"\\u0061b\":2},\"b\":[{\"a\":3}]}"), &names);
    lua_getfield(L, -1, "a");
    lua_getfield(L, -1, "ab");
    CHECK_EQ_INT(lua_tointeger(L, -1), 2);
    lua_close(L);
}
