/* bind_message.c - Message objects: made from received envelopes, turned into frames.
 *
 * A Message is a Lua table {opcode, type, sequence, options, data} of lua/mesa/message.lua. The `data` of a received one stay raw JSON until
 * they are first read (raw_data.c): what is passed on unread is never decoded nor encoded. What will be read anyway, as far
 * as that can be told, is decoded beforehand (events.c).
 */
#include <string.h>

#include "script/script.h"
#include "script/value.h"

/* The fields of a Message as lua/mesa/message.lua hands them over, one after the other. */
enum { OPCODE, DATA, TYPE, SEQUENCE, OPTIONS, RAW, BLOCK };

/* -- from the wire -------------------------------------------------------------------------------------------- */

/* Pushes the unescaped text of a JSON string token. */
static void push_string_token(struct mesa_vm *vm, lua_State *L, struct mesa_span token,
                              bool escaped)
{
    if (!escaped) {
        mesa_value_push_name(L, &vm->names, token.p + 1, token.len - 2);
        return;
    }
    struct mesa_buf *text = mesa_scratch_take(vm, L);
    if (mesa_json_unescape(token, text) != MESA_OK) {
        mesa_scratch_give(vm, text);
        luaL_error(L, "not enough memory");
    }
    lua_pushlstring(L, text->data, text->len);
    mesa_scratch_give(vm, text);
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

/* Pushes number, block and value of the data: as they are, or decoded. */
static void push_data(struct mesa_vm *vm, lua_State *L, const struct mesa_envelope *e, bool decoded)
{
    vm->unread_number = 0;
    if (e->d.p != NULL && !decoded) {
        vm->unread_number = mesa_raw_push(vm, L, e->d);
        lua_pushnil(L);
        return;
    }
    lua_pushnil(L);
    lua_pushnil(L);
    if (e->d.p != NULL)
        mesa_value_push_indexed(L, e->d, e->d_place, &vm->names);
    else
        lua_pushnil(L);
}

int mesa_script_push_received(struct mesa_vm *vm, lua_State *L, const struct mesa_envelope *e,
                              bool decoded)
{
    push_data(vm, L, e, decoded);
    return 3 + push_members(vm, L, e);
}

void mesa_script_push_message(struct mesa_vm *vm, lua_State *L, const struct mesa_envelope *e)
{
    double unread = vm->unread_number; /* of another message */
    lua_rawgeti(L, LUA_REGISTRYINDEX, vm->new_message_ref);
    push_data(vm, L, e, false);
    vm->unread_number = unread;
    lua_call(L, 3 + push_members(vm, L, e), 1);
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

/* core.message_decode(number, block) -> the data they stand for. The script may change what it reads, so from now on the value counts. */
static int l_message_decode(lua_State *L)
{
    struct mesa_vm *vm = mesa_script_vm(L);
    struct mesa_span json;
    if (!mesa_raw_find(vm, L, 1, 2, &json))
        return 0;
    if (mesa_memory_bounded(&vm->memory))
        mesa_memory_check_json(L, json.len);
    if (lua_tonumber(L, 1) == vm->unread_number)
        vm->unread_number = 0;
    mesa_value_push(L, json, &vm->names);
    return 1;
}

/* core.message_setup(new): the function that makes a Message of what was received. */
static int l_message_setup(lua_State *L)
{
    luaL_checktype(L, 1, LUA_TFUNCTION);
    lua_settop(L, 1);
    mesa_script_vm(L)->new_message_ref = luaL_ref(L, LUA_REGISTRYINDEX);
    return 0;
}

/* -- towards the wire ----------------------------------------------------------------------------------------- */

/* Appends ,"d":<data>; absent data adds nothing. */
static enum mesa_status write_data(lua_State *L, int fields, struct mesa_buf *out,
                                   struct mesa_value_error *err)
{
    static const char key[] = ",\"d\":";
    struct mesa_span raw;
    bool decoded = !lua_isnil(L, fields + DATA);
    if (!decoded && !mesa_raw_find(mesa_script_vm(L), L, fields + RAW, fields + BLOCK, &raw))
        return MESA_OK;
    enum mesa_status rc = mesa_buf_append(out, key, sizeof key - 1);
    if (rc != MESA_OK)
        return rc;
    if (!decoded)
        return mesa_buf_append(out, raw.p, raw.len);
    return mesa_value_encode(L, fields + DATA, MESA_DATA_DEPTH_MAX, out, "data", err);
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

/* Appends ,"t":<type>. */
static enum mesa_status write_type(lua_State *L, int index, struct mesa_buf *out)
{
    size_t len;
    const char *type = lua_tolstring(L, index, &len);
    enum mesa_status rc = mesa_buf_append(out, ",\"t\":", 5);
    return rc == MESA_OK ? mesa_json_put_string(out, type, len) : rc;
}

/* Appends what is behind the opcode, and the end of the envelope. */
static enum mesa_status write_members(lua_State *L, int fields, int64_t sequence,
                                      struct mesa_buf *out, struct mesa_value_error *err)
{
    enum mesa_status rc = write_data(L, fields, out, err);
    if (rc == MESA_OK && !lua_isnil(L, fields + TYPE))
        rc = write_type(L, fields + TYPE, out);
    if (rc == MESA_OK && sequence > 0) {
        rc = mesa_buf_append(out, ",\"s\":", 5);
        if (rc == MESA_OK)
            rc = mesa_json_put_integer(out, sequence);
    }
    return rc == MESA_OK ? mesa_buf_push(out, '}') : rc;
}

/* Raises with what is wrong with a Message. */
static void raise_unsendable(lua_State *L, enum mesa_status rc, const struct mesa_value_error *err)
{
    if (rc == MESA_EINVAL)
        luaL_error(L, "%s", err->text);
    if (rc == MESA_EUTF8)
        luaL_error(L, "message.type is not valid UTF-8");
    luaL_error(L, "the message cannot be made: %s", mesa_status_text(rc));
}

/* The envelope (PROTOCOL 1) of a Message, in a buffer to be given back. */
static struct mesa_buf *take_envelope(struct mesa_vm *vm, lua_State *L, int fields, int64_t op)
{
    int type = lua_type(L, fields + TYPE);
    if (type != LUA_TSTRING && type != LUA_TNIL)
        luaL_error(L, "message.type is a %s, not a string", lua_typename(L, type));
    int64_t sequence =
        lua_isnil(L, fields + SEQUENCE) ? 0 : check_integer(L, fields + SEQUENCE, "sequence");
    struct mesa_value_error err;
    struct mesa_buf *out = mesa_scratch_take(vm, L);
    enum mesa_status rc = mesa_buf_append(out, "{\"op\":", 6);
    if (rc == MESA_OK)
        rc = mesa_json_put_integer(out, op);
    if (rc == MESA_OK)
        rc = write_members(L, fields, sequence, out, &err);
    if (rc == MESA_OK)
        return out;
    mesa_scratch_give(vm, out);
    raise_unsendable(L, rc, &err);
    return NULL;
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

    struct mesa_buf *text = take_envelope(vm, L, fields, out->op);
    enum mesa_status rc = mesa_frame_new(&out->frame, MESA_WS_TEXT, text->data, text->len);
    mesa_scratch_give(vm, text);
    if (rc != MESA_OK)
        raise_unsendable(L, rc, NULL);
}

/* core.message_serialize(message, fields...) -> string */
static int l_message_serialize(lua_State *L)
{
    struct mesa_vm *vm = mesa_script_vm(L);
    struct mesa_buf *text = take_envelope(vm, L, 2, check_opcode(L, 1, 2));
    lua_pushlstring(L, text->data, text->len);
    mesa_scratch_give(vm, text);
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
