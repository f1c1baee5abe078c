/* quick_send.c - client:send from compiled code, to the client whose message is being handled.
 *
 * To call a function of the Lua API, LuaJIT leaves compiled code; a call through the FFI is compiled. The function below is called so. It may
 * not run Lua, raise or collect garbage, nor look at the running Lua state, which need not be up to date: data to send are in a slot, and are read on a state of
 * their own. Whatever is out of the ordinary it leaves undone, for core.client_send to do or to refuse in words.
 */
#include <string.h>

#include "base/uninit.h"
#include "script/script.h"

/* What the function is told of the data; above it, the number of data that nobody has read (raw_data.c). */
enum { NO_DATA_AT_ALL = -1, DATA_IN_SLOT = 0 };
enum { CLIENT = 1, DATA = 2, LIST_SIZE = 3 };

/* The data as JSON; false: not here, or not JSON. */
static bool find_data(struct mesa_vm *vm, double which, struct mesa_span *json)
{
    MESA_UNINIT struct mesa_value_error err;
    if (which == NO_DATA_AT_ALL)
        return true;
    if (which != DATA_IN_SLOT)
        return mesa_raw_find_current(vm, which, json);
    mesa_buf_reset(&vm->quick_data, MESA_SCRATCH_KEEP_BYTES);
    lua_rawgeti(vm->quick, 1, DATA);
    vm->quick_sending = true;
    enum mesa_status rc =
        mesa_value_encode(vm->quick, 2, MESA_DATA_DEPTH_MAX, &vm->quick_data, "data", &err);
    vm->quick_sending = false;
    lua_settop(vm->quick, 1);
    *json = (struct mesa_span){vm->quick_data.data, vm->quick_data.len};
    return rc == MESA_OK;
}

/* Sends to the client whose message is being handled, or to its user if that is the same; `type` may be NULL. 0: nothing was done. */
static int quick_send(struct mesa_vm *vm, int directly, double opcode, double data,
                      const char *type, double type_len)
{
    struct mesa_frame *f;
    struct mesa_outgoing m = {.type = {type, (size_t)type_len}};
    if (vm->handling == NULL || (!directly && !mesa_client_is_whole_user(vm->handling->client)) ||
        !(opcode >= 0 && opcode < 1e6) || opcode == MESA_OP_INTERNAL || !find_data(vm, data, &m.d))
        return 0;
    m.op = (int64_t)opcode;
    struct mesa_buf *text = (double)m.op == opcode ? mesa_scratch_try(vm) : NULL;
    if (text == NULL)
        return 0;
    bool made = mesa_envelope_write(text, &m) == MESA_OK &&
                mesa_frame_new(&f, MESA_WS_TEXT, text->data, text->len) == MESA_OK;
    mesa_scratch_give(vm, text);
    if (!made)
        return 0;
    bool sent = mesa_client_try_send(vm->handling->client, f);
    mesa_frame_unref(f);
    return sent;
}

/* core.quick_send() -> the list of lua/mesa/answer.lua, the function's address and its first argument. */
static int l_quick_send(lua_State *L)
{
    struct mesa_vm *vm = mesa_script_vm(L);
    int (*function)(struct mesa_vm *, int, double, double, const char *, double) = quick_send;
    void *address;
    _Static_assert(sizeof address == sizeof function, "a function's address is a pointer like any");
    memcpy(&address, &function, sizeof address);
    lua_pushvalue(vm->quick, 1);
    lua_xmove(vm->quick, L, 1);
    lua_pushlightuserdata(L, address);
    lua_pushlightuserdata(L, vm);
    return 3;
}

void mesa_quick_forget(struct mesa_vm *vm)
{
    lua_pushboolean(vm->quick, 0);
    lua_rawseti(vm->quick, 1, CLIENT);
}

/* core.message_done(): where compiled code of a message ends. LuaJIT compiles what ends in a call, and not what returns to the core. */
static int l_message_done(lua_State *L)
{
    (void)L;
    return 0;
}

/* The list is here before any handler can wait, whether or not a script ever loads what answers. */
static void open_list(struct mesa_vm *vm, lua_State *L)
{
    vm->quick = lua_newthread(L);
    luaL_ref(L, LUA_REGISTRYINDEX);
    lua_createtable(vm->quick, LIST_SIZE, 0);
    for (int i = 1; i <= LIST_SIZE; i++) {
        lua_pushboolean(vm->quick, 0);
        lua_rawseti(vm->quick, 1, i);
    }
}

void mesa_bind_quick_send(lua_State *L)
{
    static const luaL_Reg functions[] = {
        {"quick_send", l_quick_send},
        {"message_done", l_message_done},
        {NULL, NULL},
    };
    luaL_register(L, NULL, functions);
    open_list(mesa_script_vm(L), L);
}
