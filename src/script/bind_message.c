/* bind_message.c - Message objects: made from received envelopes, turned into frames.
 *
 * A Message is a Lua table {opcode, type, sequence, options, data}. The `data` of a received one stays raw JSON under a private key until it is first read;
 * what is passed on unread is never decoded nor encoded.
 */
#include <math.h>
#include <string.h>

#include "script/script.h"
#include "script/value.h"

static const char raw_key; /* its address is the private key */

/* What mesa-lua sends, a peer with the default limit must accept; the envelope is a level of its own. */
enum { DATA_DEPTH_MAX = MESA_JSON_DEPTH_DEFAULT - 1 };

#define PUSH_RAW_KEY(L) lua_pushlightuserdata((L), (void *)&raw_key)

/* Pushes the unescaped text of a JSON string token. */
static void push_string_token(struct mesa_vm *vm, lua_State *L, struct mesa_span token,
                              bool escaped)
{
    if (!escaped) {
        lua_pushlstring(L, token.p + 1, token.len - 2);
        return;
    }
    mesa_buf_reset(&vm->scratch, MESA_SCRATCH_KEEP_BYTES);
    if (mesa_json_unescape(token, &vm->scratch) != MESA_OK)
        luaL_error(L, "not enough memory");
    lua_pushlstring(L, vm->scratch.data, vm->scratch.len);
}

void mesa_script_push_message(struct mesa_vm *vm, lua_State *L, const struct mesa_envelope *e)
{
    lua_createtable(L, 0, 4);
    lua_pushnumber(L, (lua_Number)e->op);
    lua_setfield(L, -2, "opcode");
    if (e->t.p != NULL) {
        push_string_token(vm, L, e->t, e->t_escaped);
        lua_setfield(L, -2, "type");
    }
    if (e->d.p != NULL) {
        PUSH_RAW_KEY(L);
        lua_pushlstring(L, e->d.p, e->d.len);
        lua_rawset(L, -3);
    }
    if (e->s.p != NULL) {
        lua_pushnumber(L, mesa_json_number(e->s));
        lua_setfield(L, -2, "sequence");
    }
    if (e->o.p != NULL) {
        mesa_value_push(L, e->o);
        lua_setfield(L, -2, "options");
    }
    lua_rawgeti(L, LUA_REGISTRYINDEX, vm->message_meta_ref);
    lua_setmetatable(L, -2);
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

/* Message.__index: decodes `data` when it is first read; everything else is a method (upvalue 1). */
static int l_message_index(lua_State *L)
{
    size_t len;
    const char *key = lua_type(L, 2) == LUA_TSTRING ? lua_tolstring(L, 2, &len) : NULL;
    if (key == NULL || len != 4 || memcmp(key, "data", 4) != 0) {
        lua_settop(L, 2);
        lua_rawget(L, lua_upvalueindex(1));
        return 1;
    }
    PUSH_RAW_KEY(L);
    lua_rawget(L, 1);
    const char *raw = lua_tolstring(L, -1, &len);
    if (raw == NULL) {
        lua_pushnil(L);
        return 1;
    }
    mesa_value_push(L, (struct mesa_span){raw, len});
    PUSH_RAW_KEY(L); /* the script may change what it reads, so from now on the values count */
    lua_pushnil(L);
    lua_rawset(L, 1);
    lua_pushvalue(L, 2);
    lua_pushvalue(L, -2);
    lua_rawset(L, 1);
    return 1;
}

/* Message.__newindex: assigning `data` replaces what was received. */
static int l_message_newindex(lua_State *L)
{
    lua_settop(L, 3);
    if (lua_type(L, 2) == LUA_TSTRING && strcmp(lua_tostring(L, 2), "data") == 0) {
        PUSH_RAW_KEY(L);
        lua_pushnil(L);
        lua_rawset(L, 1);
    }
    lua_rawset(L, 1);
    return 0;
}

/* core.message_metatable(methods): makes the metatable of every Message. */
static int l_message_metatable(lua_State *L)
{
    luaL_checktype(L, 1, LUA_TTABLE);
    struct mesa_vm *vm = mesa_script_vm(L);
    lua_createtable(L, 0, 4);
    lua_pushvalue(L, 1);
    lua_pushcclosure(L, l_message_index, 1);
    lua_setfield(L, -2, "__index");
    lua_pushcfunction(L, l_message_newindex);
    lua_setfield(L, -2, "__newindex");
    lua_pushliteral(L, "mesa.message");
    lua_setfield(L, -2, "__name");
    lua_pushvalue(L, -1);
    vm->message_meta_ref = luaL_ref(L, LUA_REGISTRYINDEX);
    return 1;
}

/* -- towards the wire ----------------------------------------------------------------------------------------- */

static bool is_message(struct mesa_vm *vm, lua_State *L, int index)
{
    if (!lua_istable(L, index) || !lua_getmetatable(L, index))
        return false;
    lua_rawgeti(L, LUA_REGISTRYINDEX, vm->message_meta_ref);
    bool same = lua_rawequal(L, -1, -2);
    lua_pop(L, 2);
    return same;
}

static void raw_field(lua_State *L, int index, const char *name)
{
    lua_pushstring(L, name);
    lua_rawget(L, index);
}

/* Appends ,"d":<data>; absent data adds nothing. Raises when it cannot be JSON. */
static enum mesa_status write_data(lua_State *L, int index, struct mesa_buf *out)
{
    static const char key[] = ",\"d\":";
    raw_field(L, index, "data");
    if (!lua_isnil(L, -1)) {
        struct mesa_value_error err;
        enum mesa_status rc = mesa_buf_append(out, key, sizeof key - 1);
        if (rc == MESA_OK)
            rc = mesa_value_encode(L, lua_gettop(L), DATA_DEPTH_MAX, out, "data", &err);
        if (rc == MESA_EINVAL)
            luaL_error(L, "%s", err.text);
        lua_pop(L, 1);
        return rc;
    }
    PUSH_RAW_KEY(L);
    lua_rawget(L, index);
    size_t len;
    const char *raw = lua_tolstring(L, -1, &len);
    enum mesa_status rc = MESA_OK;
    if (raw != NULL) {
        rc = mesa_buf_append(out, key, sizeof key - 1);
        if (rc == MESA_OK)
            rc = mesa_buf_append(out, raw, len);
    }
    lua_pop(L, 2);
    return rc;
}

/* A whole number that a double holds exactly, from field `name`; `def` when nil. */
static int64_t integer_field(lua_State *L, int index, const char *name, int64_t def)
{
    raw_field(L, index, name);
    if (lua_isnil(L, -1)) {
        lua_pop(L, 1);
        return def;
    }
    lua_Number n = lua_tonumber(L, -1);
    if (lua_type(L, -1) != LUA_TNUMBER || n != floor(n) || fabs(n) > 9007199254740992.0)
        luaL_error(L, "message.%s is not an integer", name);
    lua_pop(L, 1);
    return (int64_t)n;
}

static enum mesa_status put_integer(struct mesa_buf *out, int64_t n)
{
    if (n >= 0 && n < 10)
        return mesa_buf_push(out, (char)('0' + n));
    return mesa_json_put_number(out, (double)n);
}

/* Appends ,"t":<type> from the string or nil on top of the stack. */
static enum mesa_status write_type(lua_State *L, struct mesa_buf *out)
{
    if (lua_isnil(L, -1))
        return MESA_OK;
    if (lua_type(L, -1) != LUA_TSTRING)
        luaL_error(L, "message.type is a %s, not a string", luaL_typename(L, -1));
    size_t len;
    const char *type = lua_tolstring(L, -1, &len);
    enum mesa_status rc = mesa_buf_append(out, ",\"t\":", 5);
    if (rc == MESA_OK)
        rc = mesa_json_put_string(out, type, len);
    if (rc == MESA_EUTF8)
        luaL_error(L, "message.type is not valid UTF-8");
    return rc;
}

/* Writes the envelope (PROTOCOL 1) of the Message at `index` into `out`, which is empty. */
static enum mesa_status write_envelope(lua_State *L, int index, struct mesa_buf *out, int64_t op)
{
    int64_t sequence = integer_field(L, index, "sequence", 0);
    enum mesa_status rc = mesa_buf_append(out, "{\"op\":", 6);
    if (rc == MESA_OK)
        rc = put_integer(out, op);
    if (rc == MESA_OK)
        rc = write_data(L, index, out);
    if (rc == MESA_OK) {
        raw_field(L, index, "type");
        rc = write_type(L, out);
        lua_pop(L, 1);
    }
    if (rc == MESA_OK && sequence > 0) {
        rc = mesa_buf_append(out, ",\"s\":", 5);
        if (rc == MESA_OK)
            rc = put_integer(out, sequence);
    }
    return rc == MESA_OK ? mesa_buf_push(out, '}') : rc;
}

static bool wants_sync(lua_State *L, int index)
{
    bool sync = true;
    raw_field(L, index, "options");
    if (lua_istable(L, -1)) {
        lua_getfield(L, -1, "sync");
        sync = !(lua_isboolean(L, -1) && !lua_toboolean(L, -1));
        lua_pop(L, 1);
    }
    lua_pop(L, 1);
    return sync;
}

static bool is_disconnect_type(lua_State *L, int index)
{
    raw_field(L, index, "type");
    bool is =
        lua_type(L, -1) == LUA_TSTRING && strcmp(lua_tostring(L, -1), "DISCONNECT_CLIENT") == 0;
    lua_pop(L, 1);
    return is;
}

static void check_raw(lua_State *L, int index, int options, struct message_ref *out)
{
    size_t len;
    if (lua_type(L, index) != LUA_TSTRING)
        luaL_argerror(L, index, "a string expected: this server is raw");
    const char *bytes = lua_tolstring(L, index, &len);
    bool binary = false;
    if (options != 0 && lua_istable(L, options)) {
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

void mesa_script_check_message(struct mesa_vm *vm, lua_State *L, int index, bool raw, int options,
                               struct message_ref *out)
{
    if (raw) {
        check_raw(L, index, options, out);
        return;
    }
    if (!is_message(vm, L, index))
        luaL_argerror(L, index,
                      lua_pushfstring(
                          L,
                          "a Message expected, got %s: make one with Mesa.Message(op, data, type)",
                          luaL_typename(L, index)));
    luaL_checkstack(L, 8, "message");
    raw_field(L, index, "opcode");
    if (lua_isnil(L, -1))
        luaL_error(L, "message.opcode is missing");
    lua_pop(L, 1);
    *out = (struct message_ref){.op = integer_field(L, index, "opcode", 0),
                                .sync = wants_sync(L, index)};
    out->disconnect = out->op == MESA_OP_INTERNAL && is_disconnect_type(L, index);
    if (out->op == MESA_OP_INTERNAL && !out->disconnect)
        luaL_error(L, "op 5 stays inside the cluster; only its type DISCONNECT_CLIENT can be sent");
    if (out->disconnect)
        return;

    mesa_buf_reset(&vm->scratch, MESA_SCRATCH_KEEP_BYTES);
    enum mesa_status rc = write_envelope(L, index, &vm->scratch, out->op);
    if (rc == MESA_OK)
        rc = mesa_frame_new(&out->frame, MESA_WS_TEXT, vm->scratch.data, vm->scratch.len);
    if (rc != MESA_OK)
        luaL_error(L, "the message cannot be made: %s", mesa_status_text(rc));
}

/* core.message_serialize(message) -> string */
static int l_message_serialize(lua_State *L)
{
    struct mesa_vm *vm = mesa_script_vm(L);
    if (!is_message(vm, L, 1))
        return luaL_argerror(L, 1, "a Message expected");
    lua_settop(L, 1);
    mesa_buf_reset(&vm->scratch, MESA_SCRATCH_KEEP_BYTES);
    enum mesa_status rc = write_envelope(L, 1, &vm->scratch, integer_field(L, 1, "opcode", 0));
    if (rc != MESA_OK)
        return luaL_error(L, "the message cannot be made: %s", mesa_status_text(rc));
    lua_pushlstring(L, vm->scratch.data, vm->scratch.len);
    return 1;
}

void mesa_bind_message(lua_State *L)
{
    lua_pushcfunction(L, l_message_metatable);
    lua_setfield(L, -2, "message_metatable");
    lua_pushcfunction(L, l_message_serialize);
    lua_setfield(L, -2, "message_serialize");
}
