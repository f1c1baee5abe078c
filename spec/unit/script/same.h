/* same.h - whether two decoded values are the same: in type, value, members and metatables, and -0 is
 * not 0. Needs luaL_openlibs.
 */
#ifndef MESA_SPEC_SAME_H
#define MESA_SPEC_SAME_H

#include <lauxlib.h>
#include <stdbool.h>
#include <stdio.h>

/* Makes the global function same(a, b). */
static inline void same_open(lua_State *L)
{
    static const char chunk[] =
        "function same(a, b)\n"
        "  if type(a) ~= 'table' or type(b) ~= 'table' then\n"
        "    return rawequal(a, b) and (a ~= 0 or 1 / a == 1 / b)\n"
        "  end\n"
        "  if getmetatable(a) ~= getmetatable(b) then return false end\n"
        "  for k, v in next, a do if not same(v, rawget(b, k)) then return false end end\n"
        "  for k in next, b do if rawget(a, k) == nil then return false end end\n"
        "  return true\n"
        "end\n";
    if (luaL_dostring(L, chunk) != 0)
        printf("%s\n", lua_tostring(L, -1));
}

/* Takes the two values from the stack. */
static inline bool same_values(lua_State *L)
{
    lua_getglobal(L, "same");
    lua_insert(L, -3);
    bool same = lua_pcall(L, 2, 1, 0) == 0 && lua_toboolean(L, -1);
    lua_pop(L, 1);
    return same;
}

#endif
