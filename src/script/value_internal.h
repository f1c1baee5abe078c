/* value_internal.h - what the halves of the codec and its Lua functions share.
 *
 * Loop thread only. May include: lua.h.
 */
#ifndef MESA_SCRIPT_VALUE_INTERNAL_H
#define MESA_SCRIPT_VALUE_INTERNAL_H

#include <lua.h>
#include <stdbool.h>
#include <stdint.h>

/* 2^53: the integers a double holds exactly. */
#define MESA_VALUE_MAX_INTEGER 9007199254740992.0

/* Whether the value carries the array metatable. Needs three free stack slots; never raises. */
bool mesa_value_is_array(lua_State *L, int index);

/* Whether the value is a number that can be an array index: a positive integer up to 2^53, stored
 * in *n. */
static inline bool mesa_value_index_key(lua_State *L, int index, double *n)
{
    if (lua_type(L, index) != LUA_TNUMBER)
        return false;
    double d = lua_tonumber(L, index);
    if (!(d >= 1 && d <= MESA_VALUE_MAX_INTEGER) || d != (double)(int64_t)d)
        return false;
    *n = d;
    return true;
}

#endif
