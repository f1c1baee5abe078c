/* value.c - the array metatable both directions of the codec share, and strings that come again. */
#include "script/value.h"

#include <lauxlib.h>
#include <string.h>

#include "base/inline.h"
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

/* ---- names ---- */

enum { NAME_BYTES = 16 }; /* longer strings are not remembered */

void mesa_value_names_init(lua_State *L, struct mesa_value_names *names)
{
    memset(names, 0, sizeof *names);
    for (size_t i = 0; i < sizeof names->slots / sizeof *names->slots; i++) {
        lua_pushboolean(L, 0);
        names->slots[i].ref = luaL_ref(L, LUA_REGISTRYINDEX);
    }
    mesa_value_push_array_meta(L);
    names->array_meta_ref = luaL_ref(L, LUA_REGISTRYINDEX);
}

/* Reads 1 to 16 bytes as two numbers, which together with the length stand for them. */
static inline void read_name(const char *p, size_t len, uint64_t *head, uint64_t *tail)
{
    uint32_t low, high;
    if (len >= 8) {
        memcpy(head, p, 8);
        memcpy(tail, p + len - 8, 8);
    } else if (len >= 4) {
        memcpy(&low, p, 4);
        memcpy(&high, p + len - 4, 4);
        *head = low;
        *tail = high;
    } else {
        *head = (unsigned char)p[0] | (uint64_t)(unsigned char)p[len / 2] << 8;
        *tail = (unsigned char)p[len - 1];
    }
}

/* Pushes a string that its slot does not have, and gives it the slot. */
static MESA_NOINLINE void push_new_name(lua_State *L, struct mesa_value_name *name, const char *p,
                                        size_t len)
{
    lua_pushlstring(L, p, len);
    lua_pushvalue(L, -1);
    lua_rawseti(L, LUA_REGISTRYINDEX, name->ref);
    read_name(p, len, &name->head, &name->tail);
    name->len = len;
}

void mesa_value_push_name(lua_State *L, struct mesa_value_names *names, const char *p, size_t len)
{
    uint64_t head, tail;
    if (len == 0 || len > NAME_BYTES) {
        lua_pushlstring(L, p, len);
        return;
    }
    read_name(p, len, &head, &tail);
    uint64_t hash = (head ^ tail << 7 ^ len) * UINT64_C(0x9e3779b97f4a7c15);
    struct mesa_value_name *name = &names->slots[hash >> 57];
    if (name->head == head && name->tail == tail && name->len == len)
        lua_rawgeti(L, LUA_REGISTRYINDEX, name->ref);
    else
        push_new_name(L, name, p, len);
}
