/* bind_json.c - Mesa.json. */
#include "script/bind_json.h"

#include <lauxlib.h>

#include "script/value.h"
#include "script/value_internal.h"

/* Memory the encoder's buffer keeps between calls. */
#define KEEP_BYTES ((size_t)64 * 1024)

/* Where text is built. Lua owns it, so that making the string may raise. */
struct json_buffer {
    struct mesa_buf text;
    bool taken; /* in use, lost to an error, or collected */
};

static int collect_buffer(lua_State *L)
{
    struct json_buffer *b = lua_touserdata(L, 1);
    b->taken = true;
    mesa_buf_deinit(&b->text);
    return 0;
}

static struct json_buffer *push_buffer(lua_State *L)
{
    struct json_buffer *b = lua_newuserdata(L, sizeof *b);
    b->taken = false;
    mesa_buf_init(&b->text);
    lua_createtable(L, 0, 1);
    lua_pushcfunction(L, collect_buffer);
    lua_setfield(L, -2, "__gc");
    lua_setmetatable(L, -2);
    return b;
}

/* json.encode(value) -> string; raises at the caller's line. Making the string may run a finalizer
 * that encodes, too: it finds the buffer taken. */
static int l_json_encode(lua_State *L)
{
    struct json_buffer *b = lua_touserdata(L, lua_upvalueindex(1));
    struct mesa_value_error err;

    luaL_checkany(L, 1);
    if (b->taken)
        b = push_buffer(L);
    mesa_buf_reset(&b->text, KEEP_BYTES);
    if (mesa_value_encode(L, 1, MESA_JSON_DEPTH_DEFAULT, &b->text, "value", &err) != MESA_OK)
        return luaL_error(L, "%s", err.text);
    b->taken = true;
    lua_pushlstring(L, b->text.data, b->text.len);
    b->taken = false;
    return 1;
}

/* json.decode(text) -> value | nil, "message at byte N" */
static int l_json_decode(lua_State *L)
{
    struct mesa_json_error err;
    size_t len;

    luaL_checktype(L, 1, LUA_TSTRING);
    const char *text = lua_tolstring(L, 1, &len);
    if (mesa_value_decode(L, text, len, MESA_JSON_DEPTH_DEFAULT, &err) == MESA_OK)
        return 1;
    lua_pushnil(L);
    lua_pushfstring(L, "%s at byte %d", err.text, (int)err.offset + 1);
    return 2;
}

/* json.array(t?) -> t, or a new table, marked as an array */
static int l_json_array(lua_State *L)
{
    double n;

    if (lua_isnoneornil(L, 1)) {
        lua_settop(L, 0);
        lua_newtable(L);
    }
    luaL_checktype(L, 1, LUA_TTABLE);
    lua_settop(L, 1);
    if (mesa_value_is_array(L, 1))
        return 1;
    if (lua_getmetatable(L, 1))
        return luaL_argerror(L, 1, "a table with another metatable cannot become an array");

    lua_pushnil(L);
    while (lua_next(L, 1)) {
        lua_pop(L, 1);
        if (mesa_value_index_key(L, -1, &n))
            continue;
        if (lua_type(L, -1) == LUA_TSTRING)
            return luaL_argerror(
                L, 1, lua_pushfstring(L, "an array cannot have the key '%s'", lua_tostring(L, -1)));
        return luaL_argerror(L, 1, "an array has no keys but 1, 2, 3 and so on");
    }
    mesa_value_push_array_meta(L);
    lua_setmetatable(L, 1);
    return 1;
}

/* json.isArray(v) -> whether v is marked as an array */
static int l_json_is_array(lua_State *L)
{
    luaL_checkany(L, 1);
    lua_pushboolean(L, lua_istable(L, 1) && mesa_value_is_array(L, 1));
    return 1;
}

int mesa_bind_json(lua_State *L)
{
    static const luaL_Reg functions[] = {
        {"decode", l_json_decode},
        {"array", l_json_array},
        {"isArray", l_json_is_array},
        {NULL, NULL},
    };

    mesa_value_open(L);
    lua_newtable(L);
    luaL_register(L, NULL, functions);
    push_buffer(L);
    lua_pushcclosure(L, l_json_encode, 1);
    lua_setfield(L, -2, "encode");
    lua_pushlightuserdata(L, NULL);
    lua_setfield(L, -2, "null");
    return 1;
}
