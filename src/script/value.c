/* value.c - the array metatable both directions of the codec share. */
#include "script/value.h"

#include <lauxlib.h>

#include "script/value_internal.h"

/* The metatable is in the registry twice: under its documented name, and under this address,
 * which needs no string to be interned. */
static char array_key;

void mesa_value_open(lua_State *L)
{
    if (luaL_newmetatable(L, "mesa.array")) {
        lua_pushliteral(L, "mesa.array");
        lua_setfield(L, -2, "__name");
        lua_pushlightuserdata(L, &array_key);
        lua_pushvalue(L, -2);
        lua_rawset(L, LUA_REGISTRYINDEX);
    }
    lua_pop(L, 1);
}

void mesa_value_push_array_meta(lua_State *L)
{
    lua_pushlightuserdata(L, &array_key);
    lua_rawget(L, LUA_REGISTRYINDEX);
}

bool mesa_value_is_array(lua_State *L, int index)
{
    if (!lua_getmetatable(L, index))
        return false;
    mesa_value_push_array_meta(L);
    bool same = lua_rawequal(L, -1, -2);
    lua_pop(L, 2);
    return same;
}
