/* redis_options.c - see redis_options.h. */
#include "script/redis_options.h"

#include <lauxlib.h>

enum { QUEUE_LIMIT = 100000 }; /* commands that wait for the first connection */

static void read_string(lua_State *L, int index, const char *key, char **out)
{
    lua_getfield(L, index, key);
    if (lua_isstring(L, -1) && mesa_redis_options_set(out, lua_tostring(L, -1)) != MESA_OK)
        luaL_error(L, "not enough memory");
    lua_pop(L, 1);
}

static void read_number(lua_State *L, int index, const char *key, uint32_t *out)
{
    lua_getfield(L, index, key);
    if (lua_isnumber(L, -1))
        *out = (uint32_t)lua_tonumber(L, -1);
    lua_pop(L, 1);
}

enum mesa_status mesa_script_redis_options(lua_State *L, int index, struct mesa_redis_options *o,
                                           char *err, size_t err_len)
{
    enum mesa_status rc = MESA_OK;
    lua_getfield(L, index, "uri");
    if (lua_isstring(L, -1))
        rc = mesa_redis_options_set_uri(o, lua_tostring(L, -1), err, err_len);
    lua_pop(L, 1);
    if (rc != MESA_OK)
        return rc;
    uint32_t port = o->port;
    read_string(L, index, "host", &o->host);
    read_number(L, index, "port", &port);
    o->port = (uint16_t)port;
    read_string(L, index, "path", &o->path);
    read_string(L, index, "user", &o->user);
    read_string(L, index, "password", &o->password);
    read_number(L, index, "db", &o->db);
    read_string(L, index, "name", &o->master);
    read_number(L, index, "connectTimeout", &o->connect_timeout_ms);
    read_number(L, index, "commandTimeout", &o->command_timeout_ms);
    lua_getfield(L, index, "sentinels");
    for (int i = 1; rc == MESA_OK && lua_istable(L, -1) && i <= (int)lua_objlen(L, -1); i++) {
        lua_rawgeti(L, -1, i);
        rc = mesa_redis_options_add_sentinel(o, luaL_checkstring(L, -1), err, err_len);
        lua_pop(L, 1);
    }
    lua_pop(L, 1);
    o->queue_limit = QUEUE_LIMIT;
    return rc == MESA_OK ? mesa_redis_options_check(o, err, err_len) : rc;
}
