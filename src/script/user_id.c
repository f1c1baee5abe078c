/* user_id.c - what scripts may give as the id of a user, and its one text.
 *
 * Everything that takes an id asks here, so that a number means the same user everywhere.
 */
#include <stdio.h>

#include "script/script.h"

static const double max_exact = 9007199254740992.0; /* 2^53: above, integers are not exact */

/* Pushes why the value at `index` is no id. */
static void push_reason(lua_State *L, int index)
{
    if (lua_type(L, index) == LUA_TNUMBER)
        lua_pushfstring(L, "ids are strings, or integers up to 2^53, got %s: use a string",
                        lua_tostring(L, index));
    else
        lua_pushfstring(L, "ids are strings or integers, got %s", luaL_typename(L, index));
}

bool mesa_script_to_id(lua_State *L, int index, struct mesa_span *id)
{
    if (lua_type(L, index) == LUA_TNUMBER) {
        char text[32];
        double n = lua_tonumber(L, index);
        if (!(n >= -max_exact && n <= max_exact) || n != (double)(int64_t)n) {
            lua_pushvalue(L, index);
            push_reason(L, lua_gettop(L));
            lua_remove(L, -2);
            return false;
        }
        int len = snprintf(text, sizeof text, "%lld", (long long)n);
        lua_pushlstring(L, text, (size_t)len);
        lua_replace(L, index);
    } else if (lua_type(L, index) != LUA_TSTRING) {
        push_reason(L, index);
        return false;
    }
    id->p = lua_tolstring(L, index, &id->len);
    return true;
}

/* core.user_id(value) -> string | nil, why it is no id */
static int l_user_id(lua_State *L)
{
    struct mesa_span id;
    lua_settop(L, 1);
    if (mesa_script_to_id(L, 1, &id))
        return 1;
    lua_pushnil(L);
    lua_insert(L, -2);
    return 2;
}

void mesa_bind_user_id(lua_State *L)
{
    lua_pushcfunction(L, l_user_id);
    lua_setfield(L, -2, "user_id");
}
