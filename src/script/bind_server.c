/* bind_server.c - the server object's primitives: create, send, disconnect, look up, close. */
#include <stdlib.h>

#include "script/bind_config.h"
#include "script/script.h"

static const char *const event_names[MESA_EVENT_COUNT] = {
    [MESA_ON_CONNECTION] = "connection",
    [MESA_ON_MESSAGE] = "message",
    [MESA_ON_AUTHENTICATE] = "authenticate",
    [MESA_ON_AUTHENTICATED] = "authenticated",
    [MESA_ON_DISCONNECT] = "disconnect",
    [MESA_ON_ERROR] = "error",
    [MESA_ON_DRAIN] = "drain",
    [MESA_ON_UNDELIVERABLE] = "undeliverable",
    [MESA_ON_REDELIVER] = "redeliver",
    [MESA_ON_DROPPED] = "dropped",
    [MESA_ON_DELIVERED] = "delivered",
    [MESA_ON_PORTAL] = "portal",
    [MESA_ON_CLOSED] = "closed",
    [MESA_ON_LISTENING] = "listening",
    [MESA_ON_REQUEST] = "request",
    [MESA_ON_PROTOCOL] = "protocol",
    [MESA_ON_UPGRADE] = "upgrade",
};

/* Of several servers the one with the strictest limits decides. */
static void apply_script_limits(struct mesa_vm *vm, struct script_server *s,
                                const struct mesa_config *cfg)
{
    uint32_t ms = cfg->limits.script_time_ms;
    s->concurrent = cfg->concurrent_messages;
    s->raw = cfg->raw;
    s->max_queue = cfg->limits.max_queue;
    s->max_queue_total = cfg->limits.max_queue_total;
    if (!vm->time_configured || (ms != 0 && (vm->script_time_ms == 0 || ms < vm->script_time_ms)))
        vm->script_time_ms = ms;
    vm->time_configured = true;
    mesa_memory_bind(vm, cfg->limits.script_memory);
}

/* Puts the new server on the port of the one at `index`, if there is one; the reason why not. */
static const char *join_host(lua_State *L, int index, struct script_server *s)
{
    if (lua_isnoneornil(L, index))
        return NULL;
    const struct script_server *host = luaL_checkudata(L, index, "mesa.server_core");
    enum mesa_status rc =
        host->server != NULL ? mesa_server_join(s->server, host->server) : MESA_ECLOSED;
    if (rc == MESA_EINUSE)
        return "path is taken: another server serves it on this port";
    return rc != MESA_OK ? "server must be one that listens itself" : NULL;
}

/* core.server_new(config, events, server [, host]) -> core object. `config` comes from
 * lua/mesa/config.lua, `events` has one function an event, `server` is the object of scripts,
 * `host` the core object of the server whose port it uses. */
static int l_server_new(lua_State *L)
{
    struct mesa_vm *vm = mesa_script_vm(L);
    mesa_script_check_open(L, "Mesa.new");
    luaL_checktype(L, 1, LUA_TTABLE);
    luaL_checktype(L, 2, LUA_TTABLE);
    luaL_checktype(L, 3, LUA_TTABLE);
    if (vm->listening) {
        lua_pushnil(L);
        lua_pushliteral(L, "servers are made while the main script runs, not later in handlers");
        return 2;
    }

    struct script_server *s = lua_newuserdata(L, sizeof *s);
    *s = (struct script_server){.vm = vm, .self_ref = LUA_NOREF};
    mesa_list_init(&s->link);
    mesa_list_init(&s->held);
    luaL_getmetatable(L, "mesa.server_core");
    lua_setmetatable(L, -2);
    for (int e = 0; e < MESA_EVENT_COUNT; e++) {
        lua_getfield(L, 2, event_names[e]);
        luaL_checktype(L, -1, LUA_TFUNCTION);
        s->events[e] = luaL_ref(L, LUA_REGISTRYINDEX);
    }

    lua_pushvalue(L, 3);
    s->table_ref = luaL_ref(L, LUA_REGISTRYINDEX);

    struct mesa_config cfg;
    struct mesa_config_error err = {"not enough memory"};
    enum mesa_status rc = mesa_bind_config(L, 1, &cfg, &err);
    if (rc == MESA_OK) {
        if (vm->opts.port >= 0 && mesa_list_empty(&vm->servers))
            cfg.port = (uint16_t)vm->opts.port;
        rc = mesa_server_new(&s->server, vm->loop, vm->transport, &cfg, &mesa_script_hooks, s,
                             err.text, sizeof err.text);
        if (rc == MESA_OK)
            apply_script_limits(vm, s, mesa_server_config(s->server));
        mesa_config_deinit(&cfg);
    }
    const char *why = rc == MESA_OK ? join_host(L, 4, s) : err.text;
    if (why != NULL) {
        mesa_server_free(s->server);
        s->server = NULL;
        lua_pushnil(L);
        lua_pushstring(L, why);
        return 2;
    }
    mesa_list_append(&vm->servers, &s->link);
    lua_pushvalue(L, -1);
    s->self_ref = luaL_ref(L, LUA_REGISTRYINDEX);
    return 1;
}

void mesa_script_release_server(lua_State *L, struct script_server *s)
{
    if (s->server != NULL || s->pins > 0 || s->self_ref == LUA_NOREF)
        return;
    int ref = s->self_ref;
    s->self_ref = LUA_NOREF;
    for (int e = 0; e < MESA_EVENT_COUNT; e++)
        luaL_unref(L, LUA_REGISTRYINDEX, s->events[e]);
    luaL_unref(L, LUA_REGISTRYINDEX, s->table_ref);
    luaL_unref(L, LUA_REGISTRYINDEX, ref);
}

void mesa_script_server_closed(struct script_server *s)
{
    struct mesa_vm *vm = s->vm;
    mesa_server_free(s->server);
    s->server = NULL;
    mesa_list_remove(&s->link);
    struct mesa_task *t = mesa_task_begin(vm);
    if (t != NULL) {
        mesa_script_push_event(s, mesa_task_state(t), MESA_ON_CLOSED);
        mesa_task_run(t, 0, NULL, NULL);
    }
    mesa_script_release_server(vm->L, s);
    mesa_script_stop_when_closed(vm);
}

int mesa_script_not_self(lua_State *L, const char *what)
{
    lua_Debug called = {.name = NULL};
    if (lua_getstack(L, 0, &called))
        lua_getinfo(L, "n", &called);
    const char *name = called.name != NULL ? called.name : "method";
    return luaL_error(L, "%s:%s is a method: call it with ':', as in %s:%s(...)", what, name, what,
                      name);
}

struct script_server *mesa_script_check_server(lua_State *L, int index)
{
    struct script_server *s = NULL;
    if (lua_istable(L, index)) {
        lua_pushliteral(L, "_core");
        lua_rawget(L, index);
        if (lua_isuserdata(L, -1))
            s = luaL_checkudata(L, -1, "mesa.server_core");
        lua_pop(L, 1);
    }
    if (s == NULL)
        mesa_script_not_self(L, "server");
    return s;
}

/* -- recipients ----------------------------------------------------------------------------------------------- */

struct id_list {
    struct mesa_span *
        ids; /* in a userdata on the stack, which collects it; NULL: everybody (nil or "*" among the ids) */
    size_t count;
};

static void add_id(lua_State *L, int what, struct id_list *list, int anchor)
{
    if (!mesa_script_to_id(L, lua_gettop(L), &list->ids[list->count++]))
        luaL_argerror(L, what, lua_tostring(L, -1));
    lua_rawseti(L, anchor, (int)list->count);
}

/* Reads nil, one id, or a list of ids at `index`. Leaves two values on the stack that keep the spans alive. */
static void check_ids(lua_State *L, int index, struct id_list *list)
{
    *list = (struct id_list){NULL, 0};
    if (lua_isnoneornil(L, index)) {
        lua_pushnil(L);
        lua_pushnil(L);
        return;
    }
    bool one = !lua_istable(L, index);
    size_t n = one ? 1 : lua_objlen(L, index);
    list->ids = lua_newuserdata(L, (n > 0 ? n : 1) * sizeof *list->ids);
    lua_createtable(L, (int)n, 0);
    int anchor = lua_gettop(L);
    if (one) {
        lua_pushvalue(L, index);
        add_id(L, index, list, anchor);
        return;
    }
    for (size_t i = 1; i <= n; i++) {
        lua_rawgeti(L, index, (int)i);
        add_id(L, index, list, anchor);
    }
}

static void check_recipients(lua_State *L, int ids, int excluding, struct mesa_recipients *to)
{
    struct id_list list, without;
    check_ids(L, ids, &list);
    check_ids(L, excluding, &without);
    *to = (struct mesa_recipients){.ids = list.ids,
                                   .id_count = list.count,
                                   .excluding = without.ids,
                                   .excluding_count = without.count};
    for (size_t i = 0; i < list.count; i++) {
        if (list.ids[i].len == 1 && list.ids[i].p[0] == '*') {
            to->ids = NULL;
            to->id_count = 0;
        }
    }
}

/* -- methods -------------------------------------------------------------------------------------------------- */

/* Whom a message has reached, to be made a list of when the server has sent it. */
struct sent_list {
    struct mesa_client **clients; /* a reference to each */
    size_t count, cap;
};

/* Within the server's send: nothing here may touch Lua. */
static void on_sent(void *ctx, struct mesa_client *c)
{
    struct sent_list *sent = ctx;
    if (sent->count == sent->cap) {
        size_t cap = sent->cap > 0 ? sent->cap * 2 : 16;
        struct mesa_client **clients = realloc(sent->clients, cap * sizeof(struct mesa_client *));
        if (clients == NULL)
            return; /* middleware is told of the others */
        sent->clients = clients;
        sent->cap = cap;
    }
    sent->clients[sent->count++] = mesa_client_ref(c);
}

/* Pushes the list, and frees it. A client that has left meanwhile without an object is left out. */
static void push_sent_list(lua_State *L, struct script_server *s, struct sent_list *sent)
{
    int n = 0;
    lua_createtable(L, (int)sent->count, 0);
    for (size_t i = 0; i < sent->count; i++) {
        struct mesa_client *c = sent->clients[i];
        if (mesa_client_data(c) != NULL || !mesa_client_closed(c)) {
            mesa_script_push_client(L, s, c);
            lua_rawseti(L, -2, ++n);
        }
        mesa_client_unref(c);
    }
    free(sent->clients);
}

bool mesa_script_push_observer(lua_State *L, const struct script_server *s)
{
    lua_rawgeti(L, LUA_REGISTRYINDEX, s->table_ref);
    lua_pushliteral(L, "_on_sent");
    lua_rawget(L, -2);
    lua_remove(L, -2);
    if (lua_isfunction(L, -1))
        return true;
    lua_pop(L, 1);
    return false;
}

enum mesa_status mesa_script_send(lua_State *L, struct script_server *s, int message,
                                  const struct message_ref *m, const struct mesa_recipients *to)
{
    if (!mesa_script_push_observer(L, s))
        return mesa_server_send(s->server, m->frame, to, m->sync, NULL, NULL);
    struct sent_list sent = {.clients = NULL};
    enum mesa_status rc = mesa_server_send(s->server, m->frame, to, m->sync, on_sent, &sent);
    struct mesa_task *t = sent.count > 0 ? mesa_task_begin(s->vm) : NULL;
    if (t == NULL) {
        lua_pop(L, 1);
        while (sent.count > 0)
            mesa_client_unref(sent.clients[--sent.count]);
        free(sent.clients);
        return rc;
    }
    lua_State *co = mesa_task_state(t);
    lua_xmove(L, co, 1);
    if (s->raw) {
        mesa_script_push_raw(co, mesa_frame_payload(m->frame), m->frame->opcode == MESA_WS_BINARY);
    } else {
        lua_pushvalue(L, message);
        lua_xmove(L, co, 1);
    }
    push_sent_list(co, s, &sent);
    mesa_task_run(t, 2, NULL, NULL);
    return rc;
}

int mesa_script_push_sent(lua_State *L, enum mesa_status rc)
{
    if (rc == MESA_OK) {
        lua_pushboolean(L, 1);
        return 1;
    }
    lua_pushnil(L);
    if (rc == MESA_ECLOSED)
        lua_pushliteral(L, "closed");
    else if (rc == MESA_EUNAVAILABLE)
        lua_pushliteral(L, "redis unavailable");
    else
        lua_pushstring(L, mesa_status_text(rc));
    return 2;
}

/* core.server_send(server, message, recipients, excluding, nil, fields...) -> true | nil, "closed" | nil, "redis unavailable"
 * In raw mode: core.server_send(server, string, recipients, excluding, options), options being {binary = true}. */
static int l_server_send(lua_State *L)
{
    struct script_server *s = mesa_script_check_server(L, 1);
    if (s->server == NULL) {
        lua_pushnil(L);
        lua_pushliteral(L, "closed");
        return 2;
    }
    struct message_ref m;
    struct mesa_recipients to;
    check_recipients(L, 3, 4, &to);
    if (mesa_server_config(s->server)->raw)
        mesa_script_check_bytes(L, 2, 5, &m);
    else
        mesa_script_check_message(s->vm, L, 2, 6, &m);

    enum mesa_status rc;
    if (m.disconnect) {
        rc = mesa_server_disconnect(s->server, &to, true);
    } else {
        rc = mesa_script_send(L, s, 2, &m, &to);
        mesa_frame_unref(m.frame);
    }
    return mesa_script_push_sent(L, rc);
}

/* server:client(id) -> list of the user's open connections here */
static int l_server_client(lua_State *L)
{
    struct script_server *s = mesa_script_check_server(L, 1);
    struct mesa_span span;
    if (!mesa_script_to_id(L, 2, &span))
        return luaL_argerror(L, 2, lua_tostring(L, -1));
    lua_newtable(L);
    if (s->server == NULL)
        return 1;
    int n = 0;
    for (struct mesa_client *c = mesa_server_next_of(s->server, span, NULL); c != NULL;
         c = mesa_server_next_of(s->server, span, c)) {
        mesa_script_push_client(L, s, c);
        lua_rawseti(L, -2, ++n);
    }
    return 1;
}

/* core.server_clients(server) -> list of all open connections */
static int l_server_clients(lua_State *L)
{
    struct script_server *s = mesa_script_check_server(L, 1);
    lua_newtable(L);
    if (s->server == NULL)
        return 1;
    int n = 0;
    for (struct mesa_client *c = mesa_server_next(s->server, NULL); c != NULL;
         c = mesa_server_next(s->server, c)) {
        mesa_script_push_client(L, s, c);
        lua_rawseti(L, -2, ++n);
    }
    return 1;
}

/* server:count() -> number of open connections */
static int l_server_count(lua_State *L)
{
    struct script_server *s = mesa_script_check_server(L, 1);
    lua_pushinteger(L, s->server != NULL ? (lua_Integer)mesa_server_client_count(s->server) : 0);
    return 1;
}

/* server:close([code [, reason]]) -> true | nil, "closed": 1001 to every client; the close event follows. */
static int l_server_close(lua_State *L)
{
    struct script_server *s = mesa_script_check_server(L, 1);
    int code = luaL_optint(L, 2, 1001);
    const char *reason = luaL_optstring(L, 3, "server closing");
    if (s->server == NULL) {
        lua_pushnil(L);
        lua_pushliteral(L, "closed");
        return 2;
    }
    mesa_server_close(s->server, code, reason, 0);
    lua_pushboolean(L, 1);
    return 1;
}

/* core.server_count_event(server, what): "script_error", "reload" or "reload_failure" in the server's metrics. */
static int l_server_count_event(lua_State *L)
{
    static const char *const names[] = {"script_error", "reload", "reload_failure", NULL};
    struct script_server *s = mesa_script_check_server(L, 1);
    int what = luaL_checkoption(L, 2, NULL, names);
    if (s->server == NULL)
        return 0;
    struct mesa_metrics *m = mesa_server_metrics(s->server);
    uint64_t *counters[] = {&m->script_errors, &m->reloads, &m->reload_failures};
    ++*counters[what];
    return 0;
}

/* core.server_methods(methods): adds the C methods. */
static int l_server_methods(lua_State *L)
{
    static const luaL_Reg methods[] = {
        {"client", l_server_client},
        {"count", l_server_count},
        {"close", l_server_close},
        {NULL, NULL},
    };
    luaL_checktype(L, 1, LUA_TTABLE);
    lua_settop(L, 1);
    luaL_register(L, NULL, methods);
    return 0;
}

void mesa_bind_server(lua_State *L)
{
    static const luaL_Reg functions[] = {
        {"server_new", l_server_new},         {"server_send", l_server_send},
        {"server_clients", l_server_clients}, {"server_count_event", l_server_count_event},
        {"server_methods", l_server_methods}, {NULL, NULL},
    };
    luaL_newmetatable(L, "mesa.server_core");
    lua_pop(L, 1);
    luaL_register(L, NULL, functions);
}
