/* Tests of script/value.h: Lua values to JSON text. */
#include <lauxlib.h>
#include <lualib.h>
#include <stdio.h>
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
    lua_setglobal(L, "array_meta");
    lua_pushlightuserdata(L, NULL);
    lua_setglobal(L, "null");
    CHECK(luaL_dostring(L, "function array(t) return setmetatable(t, array_meta) end") == 0);
    return L;
}

/* Encodes what the chunk `source` returns behind "kept"; checks that failure leaves the buffer
 * and the stack alone. */
static enum mesa_status encode(const char *source, unsigned depth, struct mesa_buf *out,
                               struct mesa_value_error *err)
{
    lua_State *L = open_state();
    if (luaL_dostring(L, source) != 0) {
        printf("%s\n", lua_tostring(L, -1));
        lua_close(L);
        return MESA_EIO;
    }
    int top = lua_gettop(L);
    mesa_buf_append(out, "kept", 4);
    enum mesa_status rc = mesa_value_encode(L, -1, depth, out, "d", err);
    CHECK_EQ_INT(lua_gettop(L), top);
    CHECK(out->len >= 4 && memcmp(out->data, "kept", 4) == 0);
    CHECK(rc == MESA_OK || out->len == 4);
    lua_close(L);
    return rc;
}

static bool gives_at(const char *source, unsigned depth, const char *want)
{
    struct mesa_buf out;
    struct mesa_value_error err = {""};
    mesa_buf_init(&out);
    enum mesa_status rc = encode(source, depth, &out, &err);
    bool ok = rc == MESA_OK && out.len == strlen(want) + 4 &&
              memcmp(out.data + 4, want, out.len - 4) == 0;
    if (!ok)
        printf("%s gives %.*s %s\n", source, (int)out.len, out.len > 0 ? out.data : "", err.text);
    mesa_buf_deinit(&out);
    return ok;
}

static bool gives(const char *source, const char *want)
{
    return gives_at(source, MESA_JSON_DEPTH_DEFAULT, want);
}

static void check_refused(const char *source, const char *want)
{
    struct mesa_buf out;
    struct mesa_value_error err = {""};
    mesa_buf_init(&out);
    CHECK_EQ_INT(encode(source, MESA_JSON_DEPTH_DEFAULT, &out, &err), MESA_EINVAL);
    CHECK_EQ_STR(err.text, want);
    mesa_buf_deinit(&out);
}

TEST(scalars_become_json)
{
    CHECK(gives("return nil", "null"));
    CHECK(gives("return null", "null"));
    CHECK(gives("return true", "true"));
    CHECK(gives("return false", "false"));
    CHECK(gives("return ''", "\"\""));
    CHECK(gives("return 'text / more'", "\"text / more\""));
}

TEST(integers_have_no_point_and_no_exponent)
{
    CHECK(gives("return 0", "0"));
    CHECK(gives("local zero = 0 return -zero", "-0"));
    CHECK(gives("return 7", "7"));
    CHECK(gives("return -10", "-10"));
    CHECK(gives("return 99", "99"));
    CHECK(gives("return 100", "100"));
    CHECK(gives("return 12345", "12345"));
    CHECK(gives("return 1e15", "1000000000000000"));
    CHECK(gives("return 1e15 - 1", "999999999999999"));
    CHECK(gives("return -1e15 + 1", "-999999999999999"));
    CHECK(gives("return 2 ^ 53", "9007199254740992"));
    CHECK(gives("return -2 ^ 53", "-9007199254740992"));
}

TEST(other_numbers_read_back_the_same)
{
    CHECK(gives("return 0.1", "0.1"));
    CHECK(gives("return 1.5", "1.5"));
    CHECK(gives("return -3.25", "-3.25"));
    CHECK(gives("return 1 / 3", "0.3333333333333333"));
    CHECK(gives("return 0.1 + 0.2", "0.30000000000000004"));
}

TEST(strings_are_escaped_where_they_must_be)
{
    CHECK(gives("return 'say \"hi\" \\\\'", "\"say \\\"hi\\\" \\\\\""));
    CHECK(gives("return 'a\\nb'", "\"a\\nb\""));
    CHECK(gives("return 'a\\0b'", "\"a\\u0000b\""));
    CHECK(gives("return '\xc3\xa9 \xf0\x9f\x98\x80'", "\"\xc3\xa9 \xf0\x9f\x98\x80\""));
    CHECK(gives("return { ['a\"b'] = 1 }", "{\"a\\\"b\":1}"));
}

TEST(tables_are_arrays_or_objects)
{
    CHECK(gives("return {}", "{}"));
    CHECK(gives("return array {}", "[]"));
    CHECK(gives("return { 1, 'two', { 3 }, {} }", "[1,\"two\",[3],{}]"));
    CHECK(gives("return { a = { b = { 1 } } }", "{\"a\":{\"b\":[1]}}"));
    CHECK(gives("return array { 1, array {} }", "[1,[]]"));
    CHECK(gives("return { null }", "[null]"));
    CHECK(gives("return setmetatable({ a = 1 }, { __index = { b = 2 } })", "{\"a\":1}"));
    CHECK(gives("local t = {} for i = 5, 1, -1 do t[i] = i end return t", "[1,2,3,4,5]"));
    CHECK(gives("local t = { x = 1 } t.x = nil t[1] = 'a' return t", "[\"a\"]"));
}

TEST(holes_up_to_half_the_length_are_null)
{
    CHECK(gives("return { 1, nil, 3 }", "[1,null,3]"));
    CHECK(gives("return { nil, 2 }", "[null,2]"));
    CHECK(gives("return { nil, nil, 3, { 4 } }", "[null,null,3,[4]]"));
    CHECK(gives("return array { 1, nil, 3 }", "[1,null,3]"));
    check_refused(
        "return { x = { [3] = 1 } }",
        "cannot encode a sparse array (1 of 3 elements) at d.x (for an object use string keys, as tostring(id))");
    check_refused(
        "return { [1] = 1, [1000000000] = 2 }",
        "cannot encode a sparse array (2 of 1000000000 elements) at d (for an object use string keys, as tostring(id))");
}

TEST(number_keys_of_an_object_become_strings)
{
    CHECK(gives("return { [0] = 'a' }", "{\"0\":\"a\"}"));
    CHECK(gives("return { [-1.5] = true }", "{\"-1.5\":true}"));
    CHECK(gives(
        "local t = { [0] = 'a' } for k in pairs(t) do assert(type(k) == 'number') end return t",
        "{\"0\":\"a\"}"));
}

TEST(mixed_and_other_keys_are_refused)
{
    check_refused(
        "return { u = { 1, x = 2 } }",
        "cannot encode a table that mixes indices with other keys at d.u (an object needs string keys, a list 1, 2, 3 ...)");
    check_refused(
        "return { [0] = 1, x = 2 }",
        "cannot encode a table that mixes indices with other keys at d (an object needs string keys, a list 1, 2, 3 ...)");
    check_refused(
        "return { [0] = 1, [1] = 2 }",
        "cannot encode a table that mixes indices with other keys at d (an object needs string keys, a list 1, 2, 3 ...)");
    check_refused(
        "return array { 1, x = 2 }",
        "cannot encode a table that mixes indices with other keys at d (an object needs string keys, a list 1, 2, 3 ...)");
    check_refused(
        "return array { x = 2 }",
        "cannot encode a table that mixes indices with other keys at d (an object needs string keys, a list 1, 2, 3 ...)");
    check_refused("return { [true] = 1 }", "cannot encode a table with a boolean key at d");
    check_refused("return { a = { [{}] = 1 } }", "cannot encode a table with a table key at d.a");
}

TEST(values_that_json_lacks_are_refused)
{
    check_refused("return print", "cannot encode a function at d");
    check_refused("return { users = { {}, {}, { callback = print } } }",
                  "cannot encode a function at d.users[3].callback");
    check_refused("return { a = coroutine.create(print) }", "cannot encode a thread at d.a");
    check_refused("return io.stdout", "cannot encode a userdata at d");
    check_refused("return { 1, 0 / 0 }", "cannot encode NaN at d[2]");
    check_refused("return { x = -1 / 0 }", "cannot encode an infinite number at d.x");
    check_refused("return { ['odd key'] = print }", "cannot encode a function at d[\"odd key\"]");
    check_refused("return { [0] = print }", "cannot encode a function at d[0]");
    check_refused("return { ['\\n'] = print }", "cannot encode a function at d[\"?\"]");
    check_refused("return require('ffi').new('int64_t', 1)", "cannot encode a cdata at d");
}

TEST(strings_that_are_not_utf8_are_refused)
{
    check_refused("return { name = 'ascii \\255' }",
                  "cannot encode a string that is not UTF-8 at d.name");
    check_refused("return { '\\237\\160\\128' }",
                  "cannot encode a string that is not UTF-8 at d[1]");
    check_refused("return { a = { ['\\255'] = 1 } }",
                  "cannot encode a key that is not UTF-8 at d.a");
}

TEST(cycles_and_deep_nesting_are_refused)
{
    check_refused("local t = {} t.self = t return t",
                  "cannot encode a table that contains itself at d.self");
    check_refused("local t = { list = {} } t.list[1] = { up = t } return t",
                  "cannot encode a table that contains itself at d.list[1].up");

    struct mesa_buf out;
    struct mesa_value_error err;
    mesa_buf_init(&out);
    CHECK_EQ_INT(encode("return { { { 1 } } }", 2, &out, &err), MESA_EINVAL);
    CHECK_EQ_STR(err.text, "cannot encode nesting deeper than 2 at d[1][1]");
    mesa_buf_deinit(&out);
    CHECK(gives_at("return { { 1 } }", 2, "[[1]]"));
    CHECK(gives_at("return 1", 0, "1"));
    CHECK(gives("local t = {} return { t, t }", "[{},{}]"));
}

TEST(the_deepest_nesting_is_encoded)
{
    struct mesa_buf out;
    struct mesa_value_error err;
    mesa_buf_init(&out);
    CHECK_EQ_INT(encode("local t = {} for i = 2, 1024 do t = { a = t } end return t",
                        MESA_JSON_DEPTH_MAX, &out, &err),
                 MESA_OK);
    mesa_buf_reset(&out, 0);
    CHECK_EQ_INT(
        encode("local t = {} for i = 2, 1025 do t = { a = t } end return t", 5000, &out, &err),
        MESA_EINVAL);
    mesa_buf_deinit(&out);
}

TEST(a_long_path_is_cut)
{
    struct mesa_buf out;
    struct mesa_value_error err;
    mesa_buf_init(&out);
    CHECK_EQ_INT(encode("local t = print for i = 1, 60 do t = { ['caf\xc3\xa9'] = t } end return t",
                        MESA_JSON_DEPTH_DEFAULT, &out, &err),
                 MESA_EINVAL);
    size_t len = strlen(err.text);
    CHECK(len < sizeof err.text);
    CHECK(mesa_utf8_valid(err.text, len));
    CHECK_EQ_STR(err.text + len - 3, "...");
    mesa_buf_deinit(&out);
}

TEST(what_was_decoded_is_encoded_alike)
{
    static const char *const texts[] = {
        "[]",
        "{}",
        "[[],{}]",
        "{\"a\":[]}",
        "[null]",
        "{\"a\":null}",
        "[1,2.5,-3,\"x\",true,false,null,[],{}]",
        "\"\\u0000\\n\"",
        "[[[[1]]]]",
    };
    for (size_t i = 0; i < sizeof texts / sizeof texts[0]; i++) {
        lua_State *L = open_state();
        struct mesa_json_error jerr;
        struct mesa_value_error verr;
        struct mesa_buf out;
        mesa_buf_init(&out);
        CHECK_EQ_INT(
            mesa_value_decode(L, texts[i], strlen(texts[i]), MESA_JSON_DEPTH_DEFAULT, &jerr),
            MESA_OK);
        CHECK_EQ_INT(mesa_value_encode(L, 1, MESA_JSON_DEPTH_DEFAULT, &out, "d", &verr), MESA_OK);
        CHECK_EQ_MEM(out.data, out.len, texts[i], strlen(texts[i]));
        mesa_buf_deinit(&out);
        lua_close(L);
    }
}

TEST(an_array_emptied_by_a_script_stays_an_array)
{
    lua_State *L = open_state();
    struct mesa_json_error jerr;
    struct mesa_value_error verr;
    struct mesa_buf out;
    mesa_buf_init(&out);
    mesa_value_decode(L, "[1]", 3, MESA_JSON_DEPTH_DEFAULT, &jerr);
    lua_pushnil(L);
    lua_rawseti(L, 1, 1);
    CHECK_EQ_INT(mesa_value_encode(L, 1, MESA_JSON_DEPTH_DEFAULT, &out, "d", &verr), MESA_OK);
    CHECK_EQ_MEM(out.data, out.len, "[]", 2);
    mesa_buf_deinit(&out);
    lua_close(L);
}

/* (table, lightuserdata buffer) */
static int encode_protected(lua_State *L)
{
    struct mesa_value_error err;
    struct mesa_buf *out = lua_touserdata(L, 2);
    enum mesa_status rc = mesa_value_encode(L, 1, MESA_JSON_DEPTH_MAX, out, "d", &err);
    lua_pushboolean(L, rc == MESA_OK);
    return 1;
}

TEST(a_stack_that_cannot_grow_leaves_the_buffer_to_its_owner)
{
    bool succeeded = false;
    for (long n = 0; n < 50 && !succeeded; n++) {
        long budget = -1;
        lua_State *L = lua_newstate(budget_alloc, &budget);
        struct mesa_buf out;
        CHECK_OR_RETURN(L != NULL);
        mesa_buf_init(&out);
        mesa_value_open(L);
        lua_pushcfunction(L, encode_protected);
        lua_newtable(L);
        for (int i = 1; i < 500; i++) {
            lua_newtable(L);
            lua_insert(L, -2);
            lua_rawseti(L, -2, 1);
        }
        lua_pushlightuserdata(L, &out);
        lua_gc(L, LUA_GCSTOP, 0);
        budget = n;
        int status = lua_pcall(L, 2, 1, 0);
        budget = -1;
        succeeded = status == 0 && lua_toboolean(L, -1);
        CHECK(status == 0 || status == LUA_ERRMEM);
        mesa_buf_deinit(&out);
        lua_close(L);
    }
    CHECK(succeeded);
}
