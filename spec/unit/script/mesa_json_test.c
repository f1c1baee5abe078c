/* mesa_json_test.c - Mesa.json as a module of its own, for specs that run in a plain luajit. */
#include "script/bind_json.h"

int luaopen_mesa_json_test(lua_State *L);

int luaopen_mesa_json_test(lua_State *L)
{
    return mesa_bind_json(L);
}
