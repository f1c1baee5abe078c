/* raw_data.c - the `d` of received messages that nobody has read yet.
 *
 * A Message holds a number and a block: one userdata for the data of several messages, so that a message that is passed on or forgotten
 * costs no object of its own, and one that a script keeps has its data as long as it likes. Only a block says where a
 * number's data are: what scripts may put in a Message's private fields finds nothing.
 */
#include <string.h>

#include "script/script.h"

/* What is kept of a short message holds at most a block. */
enum { BLOCK_MESSAGES = 32, BLOCK_BYTES = 2048, ALONE_BYTES = 512 };

struct mesa_raw_block {
    double first; /* number */
    uint32_t count, size;
    uint32_t ends[BLOCK_MESSAGES]; /* data i are bytes[ends[i - 1]..ends[i]) */
    char bytes[];
};

/* Pushes a block with room for `size` bytes, the VM's current one from now on. */
static struct mesa_raw_block *push_new_block(struct mesa_vm *vm, lua_State *L, size_t size)
{
    struct mesa_raw_block *b = lua_newuserdata(L, sizeof *b + size);
    b->first = vm->raw_number + 1;
    b->count = 0;
    b->size = (uint32_t)size;
    lua_rawgeti(L, LUA_REGISTRYINDEX, vm->raw_meta_ref);
    lua_setmetatable(L, -2);
    lua_pushvalue(L, -1);
    lua_rawseti(L, LUA_REGISTRYINDEX, vm->raw_ref);
    vm->raw_block = b;
    return b;
}

/* Pushes a block that takes `len` more bytes. */
static struct mesa_raw_block *push_block(struct mesa_vm *vm, lua_State *L, size_t len)
{
    struct mesa_raw_block *b = vm->raw_block;
    if (b == NULL || b->count == BLOCK_MESSAGES ||
        len > b->size - (b->count > 0 ? b->ends[b->count - 1] : 0))
        return push_new_block(vm, L, len > ALONE_BYTES ? len : BLOCK_BYTES);
    lua_rawgeti(L, LUA_REGISTRYINDEX, vm->raw_ref);
    return b;
}

double mesa_raw_push(struct mesa_vm *vm, lua_State *L, struct mesa_span json)
{
    lua_pushnumber(L, vm->raw_number + 1);
    struct mesa_raw_block *b = push_block(vm, L, json.len);
    uint32_t from = b->count > 0 ? b->ends[b->count - 1] : 0;
    memcpy(b->bytes + from, json.p, json.len);
    b->ends[b->count++] = from + (uint32_t)json.len;
    return ++vm->raw_number;
}

static bool find(const struct mesa_raw_block *b, double number, struct mesa_span *json)
{
    double at = b != NULL ? number - b->first : -1;
    if (!(at >= 0 && at < b->count) || at != (uint32_t)at)
        return false;
    uint32_t i = (uint32_t)at, from = i > 0 ? b->ends[i - 1] : 0;
    *json = (struct mesa_span){b->bytes + from, b->ends[i] - from};
    return true;
}

bool mesa_raw_find_current(const struct mesa_vm *vm, double number, struct mesa_span *json)
{
    return find(vm->raw_block, number, json);
}

bool mesa_raw_find(struct mesa_vm *vm, lua_State *L, int number, int block, struct mesa_span *json)
{
    if (lua_type(L, number) != LUA_TNUMBER || lua_type(L, block) != LUA_TUSERDATA ||
        !lua_getmetatable(L, block))
        return false;
    bool ours = lua_topointer(L, -1) == vm->raw_meta;
    lua_pop(L, 1);
    return ours && find(lua_touserdata(L, block), lua_tonumber(L, number), json);
}

void mesa_raw_open(struct mesa_vm *vm)
{
    lua_State *L = vm->L;
    lua_createtable(L, 0, 1);
    lua_pushboolean(L, false);
    lua_setfield(L, -2, "__metatable");
    vm->raw_meta = lua_topointer(L, -1);
    vm->raw_meta_ref = luaL_ref(L, LUA_REGISTRYINDEX);
    lua_pushboolean(L, false);
    vm->raw_ref = luaL_ref(L, LUA_REGISTRYINDEX);
}
