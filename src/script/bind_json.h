/* bind_json.h - Mesa.json: the codec of messages as functions of Lua.
 *
 * Loop thread only. May include: lua.h.
 */
#ifndef MESA_SCRIPT_BIND_JSON_H
#define MESA_SCRIPT_BIND_JSON_H

#include <lua.h>

/* Pushes a table of encode, decode, null, array and isArray; creates the array metatable when
 * there is none yet. */
int mesa_bind_json(lua_State *L);

#endif
