/* Tests of script/bind_json.h: Mesa.json as scripts see it. */
#include <lauxlib.h>
#include <lualib.h>
#include <stdio.h>
#include <string.h>

#include "script/bind_json.h"
#include "test.h"

/* Runs the chunk with Mesa.json as the global `json`; false, and the error printed, when it
 * raises. */
static bool runs(const char *chunk)
{
    lua_State *L = luaL_newstate();
    luaL_openlibs(L);
    CHECK_EQ_INT(mesa_bind_json(L), 1);
    CHECK_EQ_INT(lua_gettop(L), 1);
    lua_setglobal(L, "json");
    bool ok =
        luaL_loadbuffer(L, chunk, strlen(chunk), "=script") == 0 && lua_pcall(L, 0, 0, 0) == 0;
    if (!ok)
        printf("%s\n", lua_tostring(L, -1));
    lua_close(L);
    return ok;
}

TEST(values_are_encoded_and_decoded)
{
    CHECK(runs("assert(json.encode({ a = { 1, json.null } }) == '{\"a\":[1,null]}')"));
    CHECK(runs("assert(json.encode('x') == '\"x\"' and json.encode(nil) == 'null')"));
    CHECK(runs(
        "local v = json.decode('{\"a\":[1,null]}') assert(v.a[1] == 1 and v.a[2] == json.null)"));
    CHECK(runs("assert(json.decode('null') == json.null)"));
}

TEST(a_large_text_is_encoded_again_and_again)
{
    CHECK(runs(
        "local s = ('x'):rep(200000) for i = 1, 5 do assert(json.encode(s) == '\"' .. s .. '\"') end"));
}

TEST(encode_raises_at_the_line_of_the_caller)
{
    CHECK(runs("\nlocal ok, e = pcall(function()\n json.encode({ list = { print } })\n end)\n"
               "assert(not ok and e == 'script:3: cannot encode a function at value.list[1]', e)"));
    CHECK(runs("local ok, e = pcall(json.encode) assert(not ok and e:find('value expected'), e)"));
}

TEST(decode_returns_nil_and_where)
{
    CHECK(runs("local v, e = json.decode('[1,]') assert(v == nil and e:find(' at byte 4$'), e)"));
    CHECK(runs("local v, e = json.decode('') assert(v == nil and e:find(' at byte 1$'), e)"));
    CHECK(runs("assert(not pcall(json.decode, 12) and not pcall(json.decode))"));
}

TEST(tables_are_marked_as_arrays)
{
    CHECK(runs("assert(json.encode(json.array()) == '[]' and json.isArray(json.array()))"));
    CHECK(runs(
        "local t = { 1, 2 } assert(json.array(t) == t and json.isArray(t) and json.array(t) == t)"));
    CHECK(runs("assert(json.isArray(json.decode('[]')) and not json.isArray(json.decode('{}')))"));
    CHECK(runs("assert(not json.isArray({}) and not json.isArray('x') and not json.isArray(nil))"));
}

TEST(what_cannot_be_an_array_is_refused)
{
    CHECK(runs(
        "local ok, e = pcall(json.array, { 1, x = 2 }) assert(not ok and e:find(\"the key 'x'\"), e)"));
    CHECK(runs(
        "assert(not pcall(json.array, { [0] = 1 }) and not pcall(json.array, { [1.5] = 1 }))"));
    CHECK(runs("assert(not pcall(json.array, { [true] = 1 }) and not pcall(json.array, 'x'))"));
    CHECK(runs("assert(not pcall(json.array, setmetatable({}, {})))"));
}
