/* quick_send.c - client:send from compiled code, for the client whose message is being handled.
 *
 * LuaJIT leaves compiled code to call a function of the Lua API, and what follows is interpreted. Through the FFI it stays. Such a function must not
 * run Lua, raise or collect garbage, nor touch the running state, which is not up to date then: data to encode are read from a slot, on a
 * state of their own. Whatever is out of the ordinary is left undone, for core.client_send to do or to refuse in words.
 */
#include <string.h>

#include "script/script.h"

enum { DATA_DEPTH_MAX = MESA_JSON_DEPTH_DEFAULT - 1, SLOT = 2, DATA_NONE = -1, DATA_IN_SLOT = 0 };

static enum mesa_status write_data(struct mesa_vm *vm, double data, struct mesa_buf *out)
{
    struct mesa_value_error err;
    struct mesa_span raw;
    if (data == DATA_NONE)
        return MESA_OK;
    if (data != DATA_IN_SLOT && !mesa_raw_find_current(vm, data, &raw))
        return MESA_EINVAL;
    enum mesa_status rc = mesa_buf_append(out, ",\"d\":", 5);
    if (rc != MESA_OK)
        return rc;
    if (data != DATA_IN_SLOT)
        return mesa_buf_append(out, raw.p, raw.len);
    lua_rawgeti(vm->quick, 1, SLOT);
    rc = mesa_value_encode(vm->quick, 2, DATA_DEPTH_MAX, out, "data", &err);
    lua_settop(vm->quick, 1);
    return rc;
}

/* {"op":0,"d":...,"t":...}; MESA_EINVAL: not that simple. */
static enum mesa_status write_envelope(struct mesa_vm *vm, double opcode, double data,
                                       const char *type, double type_len, struct mesa_buf *out)
{
    if (!(opcode >= 0 && opcode < 10) || opcode != (int)opcode || opcode == MESA_OP_INTERNAL)
        return MESA_EINVAL;
    enum mesa_status rc = mesa_buf_append(out, "{\"op\":0", 7);
    if (rc != MESA_OK)
        return rc;
    out->data[6] = (char)('0' + (int)opcode);
    rc = write_data(vm, data, out);
    if (rc == MESA_OK && type != NULL) {
        rc = mesa_buf_append(out, ",\"t\":", 5);
        if (rc == MESA_OK)
            rc = mesa_json_put_string(out, type, (size_t)type_len);
    }
    return rc == MESA_OK ? mesa_buf_push(out, '}') : rc;
}

/* Sends to the client whose message is being handled. `data` is DATA_NONE, DATA_IN_SLOT, or the number of the message whose data nobody has read; `type` may be
 * NULL. 0: nothing was done. */
static int quick_send(struct mesa_vm *vm, double opcode, double data, const char *type,
                      double type_len)
{
    struct client_box *box = vm->handling;
    struct mesa_buf *out = &vm->scratch;
    struct mesa_frame *frame;
    if (box == NULL)
        return 0;
    mesa_buf_reset(out, MESA_SCRATCH_KEEP_BYTES);
    vm->quick_sending = true;
    enum mesa_status rc = write_envelope(vm, opcode, data, type, type_len, out);
    vm->quick_sending = false;
    if (rc != MESA_OK || mesa_frame_new(&frame, MESA_WS_TEXT, out->data, out->len) != MESA_OK)
        return 0;
    bool sent = mesa_client_try_send(box->client, frame);
    mesa_frame_unref(frame);
    return sent;
}

/* core.quick_send(handled) -> the function's address and its first argument. The list is {message being handled, "_raw", its client, data to send}. */
static int l_quick_send(lua_State *L)
{
    struct mesa_vm *vm = mesa_script_vm(L);
    int (*function)(struct mesa_vm *, double, double, const char *, double) = quick_send;
    void *address;
    luaL_checktype(L, 1, LUA_TTABLE);
    _Static_assert(sizeof address == sizeof function, "a function's address fits");
    memcpy(&address, &function, sizeof address);
    vm->quick = lua_newthread(L);
    luaL_ref(L, LUA_REGISTRYINDEX);
    lua_pushvalue(L, 1);
    lua_xmove(L, vm->quick, 1);
    lua_pushlightuserdata(L, address);
    lua_pushlightuserdata(L, vm);
    return 2;
}

static int l_message_done(lua_State *L)
{
    (void)L;
    return 0;
}

void mesa_bind_quick_send(lua_State *L)
{
    lua_pushcfunction(L, l_quick_send);
    lua_setfield(L, -2, "quick_send");
    lua_pushcfunction(L, l_message_done);
    lua_setfield(L, -2, "message_done");
}
