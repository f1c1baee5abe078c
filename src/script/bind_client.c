/* bind_client.c - the client object of scripts.
 *
 * A userdata that holds one reference on its struct mesa_client, so everything readable stays readable after the client has left. The fields a script adds, and its
 * listeners, live in the userdata's environment table, made on the first assignment. A finalizer may
 * meet an object that was collected together with its own: that is a closed client without data.
 */
#include <string.h>

#include "script/script.h"
#include "script/value.h"

static struct client_box *to_client(lua_State *L, int index)
{
    struct client_box *box = lua_touserdata(L, index);
    if (box == NULL || !lua_getmetatable(L, index))
        return NULL;
    bool same = lua_topointer(L, -1) == mesa_script_vm(L)->client_meta;
    lua_pop(L, 1);
    return same ? box : NULL;
}

struct client_box *mesa_script_check_client(lua_State *L, int index)
{
    struct client_box *box = to_client(L, index);
    if (box == NULL)
        mesa_script_not_self(L, "client");
    return box;
}

void mesa_script_push_client(lua_State *L, struct script_server *s, struct mesa_client *c)
{
    struct client_box *box = mesa_client_data(c);
    if (box != NULL) {
        lua_rawgeti(L, LUA_REGISTRYINDEX, box->self_ref);
        return;
    }
    box = lua_newuserdata(L, sizeof *box);
    *box = (struct client_box){.server = s, .self_ref = LUA_NOREF, .connected = true};
    lua_rawgeti(L, LUA_REGISTRYINDEX, s->vm->client_meta_ref);
    lua_setmetatable(L, -2);
    lua_pushvalue(L, -1);
    box->self_ref = luaL_ref(L, LUA_REGISTRYINDEX);
    box->client = mesa_client_ref(c);
    s->pins++;
    mesa_client_set_data(c, box);
}

void mesa_script_release_client(lua_State *L, struct client_box *box)
{
    if (box->connected || box->handling || box->self_ref == LUA_NOREF)
        return;
    int ref = box->self_ref;
    box->self_ref = LUA_NOREF;
    mesa_client_set_data(box->client, NULL);
    luaL_unref(L, LUA_REGISTRYINDEX, ref);
}

void mesa_script_push_fields(lua_State *L, int index, const struct client_box *box)
{
    if (box->has_fields)
        lua_getfenv(L, index);
    else
        lua_pushnil(L);
}

static int l_client_gc(lua_State *L)
{
    struct client_box *box = lua_touserdata(L, 1);
    if (box->client == NULL) /* the object was never finished */
        return 0;
    mesa_inbox_free(box);
    mesa_client_unref(box->client);
    box->client = NULL;
    box->server->pins--;
    mesa_script_release_server(L, box->server);
    return 0;
}

/* -- fields --------------------------------------------------------------------------------------------------- */

static void push_span(lua_State *L, struct mesa_span s)
{
    if (s.p == NULL)
        lua_pushnil(L);
    else
        lua_pushlstring(L, s.p, s.len);
}

/* What is left of an object that has been collected. */
static int push_collected(lua_State *L, const char *name)
{
    if (strcmp(name, "closed") == 0 || strcmp(name, "authenticated") == 0)
        lua_pushboolean(L, name[0] == 'c');
    else if (strcmp(name, "buffered") == 0)
        lua_pushinteger(L, 0);
    else
        lua_pushnil(L);
    return 1;
}

static bool is_closed(const struct client_box *box)
{
    return box->client == NULL || mesa_client_closed(box->client);
}

static void get_id(lua_State *L, struct client_box *box)
{
    push_span(L, mesa_client_id(box->client));
}

static void get_server_id(lua_State *L, struct client_box *box)
{
    push_span(L, mesa_client_server_id(box->client));
}

static void get_authenticated(lua_State *L, struct client_box *box)
{
    lua_pushboolean(L, mesa_client_authenticated(box->client));
}

static void get_closed(lua_State *L, struct client_box *box)
{
    lua_pushboolean(L, mesa_client_closed(box->client));
}

static void get_buffered(lua_State *L, struct client_box *box)
{
    lua_pushinteger(L, (lua_Integer)mesa_client_buffered(box->client));
}

static void get_server(lua_State *L, struct client_box *box)
{
    lua_rawgeti(L, LUA_REGISTRYINDEX, box->server->table_ref);
}

/* request = { path, queryString, query, headers, ip, protocol, secure, certificate } */
static void get_request(lua_State *L, struct client_box *box)
{
    const struct mesa_request *r = mesa_client_request(box->client);
    if (r == NULL)
        luaL_error(L, "not enough memory");
    mesa_script_push_request(L, r);
    push_span(L, r->protocol);
    lua_setfield(L, -2, "protocol");
    mesa_script_push_program(mesa_script_vm(L), L, "parse_query");
    push_span(L, r->query);
    lua_call(L, 1, 1);
    lua_setfield(L, -2, "query");
}

static void push_stored_list(lua_State *L, const struct mesa_client *c, enum mesa_stored which)
{
    struct mesa_vm *vm = mesa_script_vm(L);
    struct mesa_span json;
    lua_newtable(L);
    for (size_t i = 0; mesa_client_stored(c, which, i, &json); i++) {
        mesa_script_push_stored(vm, L, json);
        lua_rawseti(L, -2, (int)i + 1);
    }
}

/* messages = { sent = {Message …}, received = {Message …} }, oldest first */
static void get_messages(lua_State *L, struct client_box *box)
{
    lua_createtable(L, 0, 2);
    push_stored_list(L, box->client, MESA_STORED_SENT);
    lua_setfield(L, -2, "sent");
    push_stored_list(L, box->client, MESA_STORED_RECEIVED);
    lua_setfield(L, -2, "received");
}

static const struct client_field {
    const char *name;
    void (*get)(lua_State *L, struct client_box *box);
} client_fields[] = {
    {"id", get_id},
    {"serverId", get_server_id},
    {"authenticated", get_authenticated},
    {"closed", get_closed},
    {"request", get_request},
    {"messages", get_messages},
    {"buffered", get_buffered},
    {"server", get_server},
};

/* core.client_get(client, name) -> a built-in field (upvalue 1: name -> index), or a field of the script */
static int l_client_get(lua_State *L)
{
    struct client_box *box = mesa_script_check_client(L, 1);
    lua_settop(L, 2);
    lua_pushvalue(L, 2);
    lua_rawget(L, lua_upvalueindex(1));
    if (!lua_isnil(L, -1)) {
        const struct client_field *field = &client_fields[lua_tointeger(L, -1)];
        if (box->client == NULL)
            return push_collected(L, field->name);
        field->get(L, box);
        return 1;
    }
    if (!box->has_fields)
        return 1;
    lua_getfenv(L, 1);
    lua_pushvalue(L, 2);
    lua_rawget(L, -2);
    return 1;
}

void mesa_script_push_own_fields(lua_State *L, int index)
{
    struct client_box *box = lua_touserdata(L, index);
    if (!box->has_fields) {
        lua_createtable(L, 0, 2);
        lua_setfenv(L, index);
        box->has_fields = true;
    }
    lua_getfenv(L, index);
}

/* core.client_set(client, name, value): assigns a field of the script; upvalue 1 as above */
static int l_client_set(lua_State *L)
{
    mesa_script_check_client(L, 1);
    lua_settop(L, 3);
    lua_pushvalue(L, 2);
    lua_rawget(L, lua_upvalueindex(1));
    if (!lua_isnil(L, -1))
        return luaL_error(L, "client.%s cannot be assigned", lua_tostring(L, 2));
    lua_pop(L, 1);
    if (lua_isnil(L, 2))
        return luaL_error(L, "a field of a client cannot be nil");
    mesa_script_push_own_fields(L, 1);
    lua_insert(L, 2);
    lua_rawset(L, 2);
    return 0;
}

static int l_client_tostring(lua_State *L)
{
    struct client_box *box = mesa_script_check_client(L, 1);
    if (box->client == NULL) {
        lua_pushliteral(L, "client (collected)");
        return 1;
    }
    struct mesa_span id = mesa_client_id(box->client);
    struct mesa_span sid = mesa_client_server_id(box->client);
    lua_pushliteral(L, "client ");
    lua_pushlstring(L, sid.p, sid.len);
    lua_pushliteral(L, " (");
    if (id.p != NULL)
        lua_pushlstring(L, id.p, id.len);
    else
        lua_pushliteral(L, "not authenticated");
    lua_pushstring(L, mesa_client_closed(box->client) ? ", closed)" : ")");
    lua_concat(L, 5);
    return 1;
}

/* -- methods -------------------------------------------------------------------------------------------------- */

#define BAD_ID "the id must be 1 to 512 bytes of UTF-8, and not \"*\""

static int push_failure(lua_State *L, const char *why)
{
    lua_pushnil(L);
    lua_pushstring(L, why);
    return 2;
}

/* What `send` returns for a message queued to this connection with result `rc`. */
static int push_send_result(lua_State *L, enum mesa_status rc)
{
    switch (rc) {
    case MESA_OK:
        lua_pushboolean(L, 1);
        return 1;
    case MESA_EAGAIN:
        lua_pushboolean(L, 1);
        lua_pushliteral(L, "backpressure");
        return 2;
    case MESA_ECLOSED:
        return push_failure(L, "closed");
    default:
        return push_failure(L, "dropped");
    }
}

/* To every connection of the user; the result speaks for this one. */
static enum mesa_status send_to_user(lua_State *L, struct client_box *box,
                                     const struct message_ref *m)
{
    struct mesa_span id = mesa_client_id(box->client);
    char copy[MESA_ID_MAX]; /* a listener that is called meanwhile may give the client another id */
    memcpy(copy, id.p, id.len);
    id.p = copy;
    struct mesa_recipients to = {.ids = &id, .id_count = 1};
    enum mesa_status rc = mesa_script_send(L, box->server, 2, m, &to);
    if (rc == MESA_EUNAVAILABLE) /* the connections here got it */
        rc = MESA_OK;
    if (rc != MESA_OK || box->server->server == NULL)
        return rc;
    if (mesa_client_closed(box->client))
        return MESA_ETOOBIG;
    size_t half = mesa_server_config(box->server->server)->limits.max_backpressure / 2;
    return mesa_client_buffered(box->client) > half ? MESA_EAGAIN : MESA_OK;
}

/* core.client_send(client, message [, directly], fields...) -> true | true, "backpressure" | nil, "closed" | nil, "dropped" | nil, "not authenticated"
 * In raw mode: core.client_send(client, string [, {binary = true}]). */
static int l_client_send(lua_State *L)
{
    struct client_box *box = mesa_script_check_client(L, 1);
    struct mesa_vm *vm = mesa_script_vm(L);
    if (is_closed(box) || box->server->server == NULL)
        return push_failure(L, "closed");
    bool raw = mesa_server_config(box->server->server)->raw;
    struct message_ref m;
    if (raw)
        mesa_script_check_bytes(L, 2, 3, &m);
    else
        mesa_script_check_message(vm, L, 2, 4, &m);
    if (m.disconnect)
        return push_send_result(
            L, mesa_client_disconnect(box->client, 1000, (struct mesa_span){NULL, 0}));

    if (mesa_client_must_authenticate(box->client)) {
        mesa_frame_unref(m.frame);
        return push_failure(L, "not authenticated");
    }
    bool directly = raw || lua_toboolean(L, 3) || mesa_client_id(box->client).p == NULL;
    enum mesa_status rc =
        directly ? mesa_client_send(box->client, m.frame) : send_to_user(L, box, &m);
    mesa_frame_unref(m.frame);
    return push_send_result(L, rc);
}

/* client:disconnect([code [, reason]]) -> true | nil, "closed" */
static int l_client_disconnect(lua_State *L)
{
    struct client_box *box = mesa_script_check_client(L, 1);
    lua_Number code = luaL_optnumber(L, 2, 1000);
    size_t len = 0;
    const char *reason = luaL_optlstring(L, 3, "", &len);
    if (is_closed(box))
        return push_failure(L, "closed");
    enum mesa_status rc =
        code == (int)code
            ? mesa_client_disconnect(box->client, (int)code, (struct mesa_span){reason, len})
            : MESA_EINVAL;
    if (rc == MESA_EINVAL)
        return luaL_error(
            L,
            "client:disconnect: the code must be 1000-1003, 1007-1014 or 3000-4999 and the reason at most 123 bytes of UTF-8 "
            "(got %f, %d bytes)",
            code, (int)len);
    lua_pushboolean(L, 1);
    return 1;
}

/* core.client_set_authenticator(client, present) */
static int l_client_set_authenticator(lua_State *L)
{
    struct client_box *box = mesa_script_check_client(L, 1);
    if (box->client != NULL)
        mesa_client_set_authenticator(box->client, lua_toboolean(L, 2));
    return 0;
}

/* core.client_accept(client, check, id, user) -> true | nil, "closed" | nil, reason. Does not raise on what the handler's result contains. */
static int l_client_accept(lua_State *L)
{
    struct client_box *box = mesa_script_check_client(L, 1);
    struct mesa_vm *vm = mesa_script_vm(L);
    uint32_t check = (uint32_t)luaL_checknumber(L, 2);
    size_t len;
    const char *id = luaL_checklstring(L, 3, &len);
    struct mesa_value_error err;

    if (is_closed(box))
        return push_failure(L, "closed");
    struct mesa_buf *json = mesa_scratch_take(vm, L);
    enum mesa_status rc = mesa_value_encode(L, 4, MESA_JSON_DEPTH_DEFAULT, json, "user", &err);
    const char *why = rc == MESA_EINVAL ? err.text : NULL;
    if (rc == MESA_OK) {
        rc = mesa_client_accept(box->client, check, (struct mesa_span){id, len},
                                (struct mesa_span){json->data, json->len});
        if (rc == MESA_EINVAL)
            why = BAD_ID;
    }
    mesa_scratch_give(vm, json);
    if (rc == MESA_OK) {
        lua_pushboolean(L, 1);
        return 1;
    }
    if (why == NULL)
        why = rc == MESA_ECLOSED ? "closed" : mesa_status_text(rc);
    return push_failure(L, why);
}

/* core.client_refuse(client, check) */
static int l_client_refuse(lua_State *L)
{
    struct client_box *box = mesa_script_check_client(L, 1);
    uint32_t check = (uint32_t)luaL_checknumber(L, 2);
    if (box->client != NULL)
        mesa_client_refuse(box->client, check);
    return 0;
}

/* core.client_update(client, id) -> true | nil, reason */
static int l_client_update(lua_State *L)
{
    struct client_box *box = mesa_script_check_client(L, 1);
    size_t len;
    const char *id = luaL_checklstring(L, 2, &len);
    enum mesa_status rc = is_closed(box)
                              ? MESA_ECLOSED
                              : mesa_client_update(box->client, (struct mesa_span){id, len});
    if (rc == MESA_EINVAL)
        return push_failure(L, BAD_ID);
    if (rc != MESA_OK)
        return push_failure(L, rc == MESA_ECLOSED ? "closed" : mesa_status_text(rc));
    lua_pushboolean(L, 1);
    return 1;
}

/* core.client_metatable(index, newindex): makes the metatable of every client. */
static int l_client_metatable(lua_State *L)
{
    luaL_checktype(L, 1, LUA_TFUNCTION);
    luaL_checktype(L, 2, LUA_TFUNCTION);
    lua_settop(L, 2);
    struct mesa_vm *vm = mesa_script_vm(L);
    lua_createtable(L, 0, 8);
    lua_insert(L, 1);
    lua_setfield(L, 1, "__newindex");
    lua_setfield(L, 1, "__index");
    lua_pushcfunction(L, l_client_gc);
    lua_setfield(L, 1, "__gc");
    lua_pushcfunction(L, l_client_tostring);
    lua_setfield(L, 1, "__tostring");
    lua_pushliteral(L, "mesa.client");
    lua_setfield(L, 1, "__metatable"); /* scripts cannot reach __index and __gc */
    vm->client_meta = lua_topointer(L, 1);
    vm->client_meta_ref = luaL_ref(L, LUA_REGISTRYINDEX);
    return 0;
}

void mesa_bind_client(lua_State *L)
{
    static const luaL_Reg functions[] = {
        {"client_metatable", l_client_metatable},
        {"client_send", l_client_send},
        {"client_disconnect", l_client_disconnect},
        {"client_set_authenticator", l_client_set_authenticator},
        {"client_accept", l_client_accept},
        {"client_refuse", l_client_refuse},
        {"client_update", l_client_update},
        {NULL, NULL},
    };
    luaL_register(L, NULL, functions);
    lua_createtable(L, 0, sizeof client_fields / sizeof client_fields[0]);
    for (size_t i = 0; i < sizeof client_fields / sizeof client_fields[0]; i++) {
        lua_pushinteger(L, (lua_Integer)i);
        lua_setfield(L, -2, client_fields[i].name);
    }
    lua_pushvalue(L, -1);
    lua_pushcclosure(L, l_client_get, 1);
    lua_setfield(L, -3, "client_get");
    lua_pushcclosure(L, l_client_set, 1);
    lua_setfield(L, -2, "client_set");
}
