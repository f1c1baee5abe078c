/* bind_message.c - Message objects: made from received envelopes, turned into frames.
 *
 * A Message is a Lua table {opcode, type, sequence, options, data} of lua/mesa/message.lua. The `data` of a received one stays raw JSON until it is first read; what is
 * passed on unread is never decoded nor encoded. While the transport still has the message, the private field `_raw` is its number, and the JSON is where it was received;
 * a message that is left unread when its handler waits or ends gets a copy, in a userdata whose metatable tells it from what a script may put there. What will be read anyway, as far as that can be told, is decoded beforehand (events.c).
 */
#include <string.h>

#include "script/script.h"
#include "script/value.h"

/* What mesa-lua sends, a peer with the default limit must accept; the envelope is a level of its own. */
enum { DATA_DEPTH_MAX = MESA_JSON_DEPTH_DEFAULT - 1 };

/* The fields of a Message as lua/mesa/message.lua hands them over, one after the other. */
enum { OPCODE, DATA, TYPE, SEQUENCE, OPTIONS, RAW };

/* -- from the wire -------------------------------------------------------------------------------------------- */

/* Pushes the unescaped text of a JSON string token. */
static void push_string_token(struct mesa_vm *vm, lua_State *L, struct mesa_span token,
                              bool escaped)
{
    if (!escaped) {
        mesa_value_push_name(L, &vm->names, token.p + 1, token.len - 2);
        return;
    }
    mesa_buf_reset(&vm->scratch, MESA_SCRATCH_KEEP_BYTES);
    if (mesa_json_unescape(token, &vm->scratch) != MESA_OK)
        luaL_error(L, "not enough memory");
    lua_pushlstring(L, vm->scratch.data, vm->scratch.len);
}

static void push_copy(struct mesa_vm *vm, lua_State *L, struct mesa_span bytes)
{
    memcpy(lua_newuserdata(L, bytes.len), bytes.p, bytes.len);
    lua_rawgeti(L, LUA_REGISTRYINDEX, vm->copy_meta_ref);
    lua_setmetatable(L, -2);
}

static bool is_copy(struct mesa_vm *vm, lua_State *L, int index)
{
    if (lua_type(L, index) != LUA_TUSERDATA || !lua_getmetatable(L, index))
        return false;
    bool same = lua_topointer(L, -1) == vm->copy_meta;
    lua_pop(L, 1);
    return same;
}

/* Pushes opcode, type and what is rare; returns their number. */
static int push_members(struct mesa_vm *vm, lua_State *L, const struct mesa_envelope *e)
{
    lua_pushnumber(L, (lua_Number)e->op);
    if (e->t.p != NULL)
        push_string_token(vm, L, e->t, e->t_escaped);
    else
        lua_pushnil(L);
    if (e->s.p == NULL && e->o.p == NULL)
        return 2;
    if (e->s.p != NULL)
        lua_pushnumber(L, mesa_json_number(e->s));
    else
        lua_pushnil(L);
    if (e->o.p != NULL)
        mesa_value_push(L, e->o, &vm->names);
    else
        lua_pushnil(L);
    return 4;
}

int mesa_script_push_received(struct mesa_vm *vm, lua_State *L, const struct mesa_envelope *e,
                              bool decoded)
{
    mesa_script_keep_received(vm);
    if (e->d.p == NULL) {
        lua_pushnil(L);
        lua_pushnil(L);
    } else if (decoded) {
        lua_pushnil(L);
        mesa_value_push(L, e->d, &vm->names);
    } else {
        vm->received = e->d;
        lua_pushnumber(L, ++vm->received_number);
        lua_pushnil(L);
    }
    return 2 + push_members(vm, L, e);
}

void mesa_script_keep_received(struct mesa_vm *vm)
{
    lua_State *L = vm->L;
    if (vm->received.p == NULL)
        return;
    lua_rawgeti(L, LUA_REGISTRYINDEX, vm->received_ref); /* {message, "_raw"} */
    lua_rawgeti(L, -1, 1);
    lua_rawgeti(L, -2, 2);
    if (lua_istable(L, -2)) {
        lua_pushvalue(L, -1);
        lua_rawget(L, -3);
        bool same = lua_tonumber(L, -1) == vm->received_number;
        lua_pop(L, 1);
        if (same) {
            push_copy(vm, L, vm->received);
            lua_rawset(L, -3);
            lua_pushnil(L);
        }
    }
    lua_pop(L, 3);
    vm->received.p = NULL;
}

void mesa_script_push_message(struct mesa_vm *vm, lua_State *L, const struct mesa_envelope *e)
{
    lua_rawgeti(L, LUA_REGISTRYINDEX, vm->new_message_ref);
    if (e->d.p != NULL)
        push_copy(vm, L, e->d);
    else
        lua_pushnil(L);
    lua_pushnil(L);
    lua_call(L, 2 + push_members(vm, L, e), 1);
}

void mesa_script_push_stored(struct mesa_vm *vm, lua_State *L, struct mesa_span json)
{
    struct mesa_envelope e;
    struct mesa_json_error err;
    if (mesa_envelope_parse(json.p, json.len, MESA_JSON_DEPTH_MAX, &e, &err) == MESA_OK)
        mesa_script_push_message(vm, L, &e);
    else
        lua_pushnil(L);
}

/* The JSON that the `_raw` at `index` stands for; false: none. */
static bool raw_json(struct mesa_vm *vm, lua_State *L, int index, struct mesa_span *json)
{
    if (lua_type(L, index) == LUA_TNUMBER) {
        *json = vm->received;
        return json->p != NULL && lua_tonumber(L, index) == vm->received_number;
    }
    if (!is_copy(vm, L, index))
        return false;
    *json = (struct mesa_span){lua_touserdata(L, index), lua_objlen(L, index)};
    return true;
}

/* core.message_decode(raw) -> the data that a message's `_raw` stands for. The script may change what it reads, so from now on the values count. */
static int l_message_decode(lua_State *L)
{
    struct mesa_vm *vm = mesa_script_vm(L);
    struct mesa_span json;
    if (!raw_json(vm, L, 1, &json))
        return 0;
    mesa_value_push(L, json, &vm->names);
    if (json.p == vm->received.p)
        vm->received.p = NULL;
    return 1;
}

/* core.message_setup(new, received): the function that makes a Message of what was received, and the list {message being handled, "_raw"}. */
static int l_message_setup(lua_State *L)
{
    struct mesa_vm *vm = mesa_script_vm(L);
    luaL_checktype(L, 1, LUA_TFUNCTION);
    luaL_checktype(L, 2, LUA_TTABLE);
    lua_settop(L, 2);
    vm->received_ref = luaL_ref(L, LUA_REGISTRYINDEX);
    vm->new_message_ref = luaL_ref(L, LUA_REGISTRYINDEX);
    lua_createtable(L, 0, 1);
    lua_pushboolean(L, false);
    lua_setfield(L, -2, "__metatable");
    vm->copy_meta = lua_topointer(L, -1);
    vm->copy_meta_ref = luaL_ref(L, LUA_REGISTRYINDEX);
    return 0;
}

/* -- towards the wire ----------------------------------------------------------------------------------------- */

/* Appends ,"d":<data>; absent data adds nothing. Raises when it cannot be JSON. */
static enum mesa_status write_data(lua_State *L, int fields, struct mesa_buf *out)
{
    static const char key[] = ",\"d\":";
    struct mesa_span raw;
    bool decoded = !lua_isnil(L, fields + DATA);
    if (!decoded && !raw_json(mesa_script_vm(L), L, fields + RAW, &raw))
        return MESA_OK;
    enum mesa_status rc = mesa_buf_append(out, key, sizeof key - 1);
    if (rc != MESA_OK)
        return rc;
    if (!decoded)
        return mesa_buf_append(out, raw.p, raw.len);
    struct mesa_value_error err;
    rc = mesa_value_encode(L, fields + DATA, DATA_DEPTH_MAX, out, "data", &err);
    if (rc == MESA_EINVAL)
        luaL_error(L, "%s", err.text);
    return rc;
}

/* A whole number that a double holds exactly. */
static int64_t check_integer(lua_State *L, int index, const char *name)
{
    const lua_Number max = 9007199254740992.0;
    lua_Number n = lua_type(L, index) == LUA_TNUMBER ? lua_tonumber(L, index) : max * 2;
    if (!(n >= -max && n <= max) || n != (lua_Number)(int64_t)n)
        luaL_error(L, "message.%s is not an integer", name);
    return (int64_t)n;
}

static enum mesa_status put_integer(struct mesa_buf *out, int64_t n)
{
    if (n >= 0 && n < 10)
        return mesa_buf_push(out, (char)('0' + n));
    return mesa_json_put_number(out, (double)n);
}

/* Appends ,"t":<type>. */
static enum mesa_status write_type(lua_State *L, int index, struct mesa_buf *out)
{
    size_t len;
    const char *type = lua_tolstring(L, index, &len);
    enum mesa_status rc = mesa_buf_append(out, ",\"t\":", 5);
    if (rc == MESA_OK)
        rc = mesa_json_put_string(out, type, len);
    if (rc == MESA_EUTF8)
        luaL_error(L, "message.type is not valid UTF-8");
    return rc;
}

/* Writes the envelope (PROTOCOL 1) of a Message into `out`, which is empty. */
static enum mesa_status write_envelope(lua_State *L, int fields, struct mesa_buf *out, int64_t op)
{
    int type = lua_type(L, fields + TYPE);
    if (type != LUA_TSTRING && type != LUA_TNIL)
        luaL_error(L, "message.type is a %s, not a string", lua_typename(L, type));
    int64_t sequence =
        lua_isnil(L, fields + SEQUENCE) ? 0 : check_integer(L, fields + SEQUENCE, "sequence");
    enum mesa_status rc = mesa_buf_append(out, "{\"op\":", 6);
    if (rc == MESA_OK)
        rc = put_integer(out, op);
    if (rc == MESA_OK)
        rc = write_data(L, fields, out);
    if (rc == MESA_OK && type == LUA_TSTRING)
        rc = write_type(L, fields + TYPE, out);
    if (rc == MESA_OK && sequence > 0) {
        rc = mesa_buf_append(out, ",\"s\":", 5);
        if (rc == MESA_OK)
            rc = put_integer(out, sequence);
    }
    return rc == MESA_OK ? mesa_buf_push(out, '}') : rc;
}

static bool wants_sync(lua_State *L, int options)
{
    if (!lua_istable(L, options))
        return true;
    lua_getfield(L, options, "sync");
    bool sync = !(lua_isboolean(L, -1) && !lua_toboolean(L, -1));
    lua_pop(L, 1);
    return sync;
}

static bool is_disconnect_type(lua_State *L, int type)
{
    return lua_type(L, type) == LUA_TSTRING &&
           strcmp(lua_tostring(L, type), "DISCONNECT_CLIENT") == 0;
}

void mesa_script_push_raw(lua_State *L, struct mesa_span bytes, bool binary)
{
    lua_createtable(L, 0, 2);
    lua_pushlstring(L, bytes.p, bytes.len);
    lua_setfield(L, -2, "data");
    lua_pushboolean(L, binary);
    lua_setfield(L, -2, "binary");
}

void mesa_script_check_bytes(lua_State *L, int index, int options, struct message_ref *out)
{
    size_t len;
    if (lua_type(L, index) != LUA_TSTRING)
        luaL_argerror(L, index, "a string expected: this server is raw");
    const char *bytes = lua_tolstring(L, index, &len);
    bool binary = false;
    if (lua_istable(L, options)) {
        lua_getfield(L, options, "binary");
        binary = lua_toboolean(L, -1);
        lua_pop(L, 1);
    }
    if (!binary && !mesa_utf8_valid(bytes, len))
        luaL_argerror(L, index, "not valid UTF-8; send it with { binary = true }");
    *out = (struct message_ref){.sync = false};
    if (mesa_frame_new(&out->frame, binary ? MESA_WS_BINARY : MESA_WS_TEXT, bytes, len) != MESA_OK)
        luaL_error(L, "not enough memory for a message of %d bytes", (int)len);
}

/* The opcode of the Message at `index`, which is one when message.lua found its fields. */
static int64_t check_opcode(lua_State *L, int index, int fields)
{
    int type = lua_type(L, fields + OPCODE);
    if (type == LUA_TNIL && lua_gettop(L) > fields + OPCODE)
        luaL_error(L, "message.opcode is missing");
    if (type == LUA_TNONE || type == LUA_TNIL)
        luaL_argerror(L, index,
                      lua_pushfstring(
                          L,
                          "a Message expected, got %s: make one with Mesa.Message(op, data, type)",
                          luaL_typename(L, index)));
    return check_integer(L, fields + OPCODE, "opcode");
}

void mesa_script_check_message(struct mesa_vm *vm, lua_State *L, int index, int fields,
                               struct message_ref *out)
{
    *out = (struct message_ref){.op = check_opcode(L, index, fields),
                                .sync = wants_sync(L, fields + OPTIONS)};
    out->disconnect = out->op == MESA_OP_INTERNAL && is_disconnect_type(L, fields + TYPE);
    if (out->op == MESA_OP_INTERNAL && !out->disconnect)
        luaL_error(L, "op 5 stays inside the cluster; only its type DISCONNECT_CLIENT can be sent");
    if (out->disconnect)
        return;

    mesa_buf_reset(&vm->scratch, MESA_SCRATCH_KEEP_BYTES);
    enum mesa_status rc = write_envelope(L, fields, &vm->scratch, out->op);
    if (rc == MESA_OK)
        rc = mesa_frame_new(&out->frame, MESA_WS_TEXT, vm->scratch.data, vm->scratch.len);
    if (rc != MESA_OK)
        luaL_error(L, "the message cannot be made: %s", mesa_status_text(rc));
}

/* core.message_serialize(message, fields...) -> string */
static int l_message_serialize(lua_State *L)
{
    struct mesa_vm *vm = mesa_script_vm(L);
    int64_t op = check_opcode(L, 1, 2);
    mesa_buf_reset(&vm->scratch, MESA_SCRATCH_KEEP_BYTES);
    enum mesa_status rc = write_envelope(L, 2, &vm->scratch, op);
    if (rc != MESA_OK)
        return luaL_error(L, "the message cannot be made: %s", mesa_status_text(rc));
    lua_pushlstring(L, vm->scratch.data, vm->scratch.len);
    return 1;
}

void mesa_bind_message(lua_State *L)
{
    static const luaL_Reg functions[] = {
        {"message_setup", l_message_setup},
        {"message_decode", l_message_decode},
        {"message_serialize", l_message_serialize},
        {NULL, NULL},
    };
    luaL_register(L, NULL, functions);
}
