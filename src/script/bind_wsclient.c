/* bind_wsclient.c - the connections behind Mesa.Client (lua/mesa/ws_client.lua).
 *
 * A connection is userdata "mesa.ws_connection", pinned with its Lua function until the connection has ended. What happens to it becomes a task that calls the
 * function: ("open"), ("message", message, bytes), ("invalid", reason), ("drain"), ("violation", code, text), ("close", code, reason,
 * error).
 */
#include "base/log.h"
#include "io/wsclient.h"
#include "script/script.h"

struct ws_box {
    struct mesa_list link; /* vm->ws_clients */
    struct mesa_vm *vm;
    struct mesa_wsclient *client; /* NULL once it has ended */
    int self_ref, fn_ref;
};

/* A task with the function and the event's name pushed; NULL: no memory. */
static struct mesa_task *begin(struct ws_box *box, const char *event)
{
    struct mesa_task *t = mesa_task_begin(box->vm);
    if (t == NULL) {
        mesa_script_event_lost(box->vm, MESA_SPAN("no memory for a handler, an event is lost"));
        return NULL;
    }
    lua_rawgeti(mesa_task_state(t), LUA_REGISTRYINDEX, box->fn_ref);
    lua_pushstring(mesa_task_state(t), event);
    return t;
}

static void on_open(void *ctx)
{
    struct mesa_task *t = begin(ctx, "open");
    if (t != NULL)
        mesa_task_run(t, 1, NULL, NULL);
}

static void on_message(void *ctx, const char *data, size_t len, bool binary)
{
    struct ws_box *box = ctx;
    struct mesa_envelope e;
    struct mesa_json_error err;
    (void)binary; /* carries the same JSON text (PROTOCOL 1) */
    struct mesa_span text = {data, len};
    struct mesa_buf mended;
    mesa_buf_init(&mended);
    bool ok = mesa_envelope_receive(&text, MESA_JSON_DEPTH_MAX, &e, &mended, &err) == MESA_OK;
    struct mesa_task *t = begin(box, ok ? "message" : "invalid");
    if (t != NULL && ok)
        mesa_script_push_message(box->vm, mesa_task_state(t), &e);
    else if (t != NULL)
        lua_pushstring(mesa_task_state(t), err.text);
    mesa_buf_deinit(&mended);
    if (t == NULL)
        return;
    lua_pushnumber(mesa_task_state(t), (lua_Number)len);
    mesa_task_run(t, 3, NULL, NULL);
}

static void on_drained(void *ctx)
{
    struct mesa_task *t = begin(ctx, "drain");
    if (t != NULL)
        mesa_task_run(t, 1, NULL, NULL);
}

static void on_violation(void *ctx, int code, const char *text)
{
    struct mesa_task *t = begin(ctx, "violation");
    if (t == NULL)
        return;
    lua_pushinteger(mesa_task_state(t), code);
    lua_pushstring(mesa_task_state(t), text);
    mesa_task_run(t, 3, NULL, NULL);
}

static void release(struct ws_box *box)
{
    lua_State *L = box->vm->L;
    mesa_wsclient_free(box->client);
    box->client = NULL;
    mesa_list_remove(&box->link);
    luaL_unref(L, LUA_REGISTRYINDEX, box->fn_ref);
    luaL_unref(L, LUA_REGISTRYINDEX, box->self_ref);
}

static void on_close(void *ctx, int code, const char *reason, size_t len, const char *error)
{
    struct ws_box *box = ctx;
    struct mesa_vm *vm = box->vm;
    struct mesa_task *t = begin(box, "close");
    if (t != NULL) {
        lua_State *co = mesa_task_state(t);
        lua_pushinteger(co, code);
        lua_pushlstring(co, reason, len);
        if (error != NULL)
            lua_pushstring(co, error);
        else
            lua_pushnil(co);
    }
    release(box);
    if (t != NULL)
        mesa_task_run(t, 4, NULL, NULL);
    mesa_script_stop_when_closed(vm);
}

static struct ws_box *check(lua_State *L)
{
    return luaL_checkudata(L, 1, "mesa.ws_connection");
}

/* core.ws_connect(fn, url, ca|nil, timeout, max_payload, max_queue) -> connection | nil, reason */
static int l_ws_connect(lua_State *L)
{
    static const struct mesa_wsclient_hooks hooks = {
        .on_open = on_open,
        .on_message = on_message,
        .on_drained = on_drained,
        .on_violation = on_violation,
        .on_close = on_close,
    };
    const struct mesa_wsclient_config cfg = {
        .url = luaL_checkstring(L, 2),
        .ca = luaL_optstring(L, 3, NULL),
        .timeout_ms = (uint32_t)luaL_checknumber(L, 4),
        .max_payload_bytes = (size_t)luaL_checknumber(L, 5),
        .max_queue_bytes = (size_t)luaL_checknumber(L, 6),
    };
    char err[256];
    mesa_script_check_open(L, "Mesa.Client");
    luaL_checktype(L, 1, LUA_TFUNCTION);
    if (mesa_script_vm(L)->leaving) { /* the program would wait for it to end */
        lua_pushnil(L);
        lua_pushliteral(L, "the program is shutting down");
        return 2;
    }
    struct ws_box *box = lua_newuserdata(L, sizeof *box);
    *box = (struct ws_box){.vm = mesa_script_vm(L), .self_ref = LUA_NOREF, .fn_ref = LUA_NOREF};
    mesa_list_init(&box->link);
    luaL_getmetatable(L, "mesa.ws_connection");
    lua_setmetatable(L, -2);
    lua_pushvalue(L, 1);
    box->fn_ref = luaL_ref(L, LUA_REGISTRYINDEX);
    lua_pushvalue(L, -1);
    box->self_ref = luaL_ref(L, LUA_REGISTRYINDEX);
    if (mesa_wsclient_connect(&box->client, box->vm->transport, &cfg, &hooks, box, err,
                              sizeof err) != MESA_OK) {
        release(box);
        lua_pushnil(L);
        lua_pushstring(L, err);
        return 2;
    }
    mesa_list_append(&box->vm->ws_clients, &box->link);
    return 1;
}

/* core.ws_send(connection, text) -> true | nil, "closed" | nil, "full" */
static int l_ws_send(lua_State *L)
{
    struct ws_box *box = check(L);
    size_t len;
    const char *text = luaL_checklstring(L, 2, &len);
    enum mesa_status rc =
        box->client != NULL ? mesa_wsclient_send(box->client, text, len) : MESA_ECLOSED;
    if (rc == MESA_OK) {
        lua_pushboolean(L, true);
        return 1;
    }
    lua_pushnil(L);
    lua_pushstring(L, rc == MESA_ECLOSED ? "closed" : rc == MESA_EAGAIN ? "full" : "out of memory");
    return 2;
}

/* core.ws_close(connection, code, reason) */
static int l_ws_close(lua_State *L)
{
    struct ws_box *box = check(L);
    size_t len;
    const char *reason = luaL_checklstring(L, 3, &len);
    if (box->client != NULL)
        mesa_wsclient_close(box->client, luaL_checkint(L, 2), reason, len);
    return 0;
}

/* core.ws_pause(connection, boolean) */
static int l_ws_pause(lua_State *L)
{
    struct ws_box *box = check(L);
    if (box->client != NULL)
        mesa_wsclient_pause(box->client, lua_toboolean(L, 2));
    return 0;
}

void mesa_script_leave_servers(struct mesa_vm *vm)
{
    static const char reason[] = "going away";
    MESA_LIST_FOREACH(it, &vm->ws_clients) {
        struct ws_box *box = MESA_CONTAINER_OF(it, struct ws_box, link);
        mesa_wsclient_close(box->client, 1001, reason, sizeof reason - 1);
    }
}

void mesa_script_close_ws_clients(struct mesa_vm *vm)
{
    while (!mesa_list_empty(&vm->ws_clients))
        release(MESA_CONTAINER_OF(vm->ws_clients.next, struct ws_box, link));
}

void mesa_bind_wsclient(lua_State *L)
{
    static const luaL_Reg functions[] = {
        {"ws_connect", l_ws_connect}, {"ws_send", l_ws_send}, {"ws_close", l_ws_close},
        {"ws_pause", l_ws_pause},     {NULL, NULL},
    };
    luaL_newmetatable(L, "mesa.ws_connection");
    lua_pop(L, 1);
    luaL_register(L, NULL, functions);
}
