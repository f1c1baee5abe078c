/* bind_request.c - plain HTTP requests as the server's `request` event, and their answers; upgrades as its
 * `upgrade` event, and what is decided about them.
 *
 * A request that has to be answered is a userdata "mesa.http". Whoever holds it may answer whenever
 * it likes; collected without an answer, it answers 500 itself, so that nobody waits for ever.
 */
#include "base/log.h"
#include "script/script.h"

struct http_box {
    struct mesa_http *http; /* NULL: answered */
    struct mesa_vm *vm;
};

static void set_span(lua_State *L, const char *name, struct mesa_span s)
{
    lua_pushlstring(L, s.p != NULL ? s.p : "", s.len);
    lua_setfield(L, -2, name);
}

static void push_certificate(lua_State *L, const struct mesa_certificate *c)
{
    lua_createtable(L, 0, 6);
    set_span(L, "subject", c->subject);
    set_span(L, "issuer", c->issuer);
    set_span(L, "serial", c->serial);
    set_span(L, "fingerprint", c->fingerprint);
    lua_pushnumber(L, (lua_Number)c->not_after);
    lua_setfield(L, -2, "notAfter");
    lua_createtable(L, (int)c->name_count, 0);
    for (size_t i = 0; i < c->name_count; i++) {
        lua_pushlstring(L, c->names[i].p, c->names[i].len);
        lua_rawseti(L, -2, (int)i + 1);
    }
    lua_setfield(L, -2, "names");
}

void mesa_script_push_request(lua_State *L, const struct mesa_request *r)
{
    lua_createtable(L, 0, 11);
    set_span(L, "path", r->path);
    set_span(L, "queryString", r->query);
    set_span(L, "ip", r->ip);
    lua_pushboolean(L, r->secure);
    lua_setfield(L, -2, "secure");
    if (r->certificate != NULL) {
        push_certificate(L, r->certificate);
        lua_setfield(L, -2, "certificate");
    }
    lua_createtable(L, 0, (int)r->header_count);
    for (size_t i = 0; i < r->header_count; i++) {
        lua_pushlstring(L, r->headers[i].name.p, r->headers[i].name.len);
        lua_pushlstring(L, r->headers[i].value.p, r->headers[i].value.len);
        lua_rawset(L, -3);
    }
    lua_setfield(L, -2, "headers");
}

/* A task for something a peer has begun, and nobody needs yet. NULL: no memory, which is told. */
static struct mesa_task *begin_for_request(struct script_server *s)
{
    bool tell;
    bool admitted = !mesa_memory_exceeded(&s->vm->memory) || mesa_memory_admit(s->vm, &tell);
    struct mesa_task *t = admitted ? mesa_task_begin(s->vm) : NULL;
    if (t == NULL)
        mesa_script_event_lost(s->vm, MESA_SPAN("no memory for a handler, a request is refused"));
    else
        mesa_task_share(t, MESA_SHARE_EVENT);
    return t;
}

/* -- subprotocols -- */

/* What the event's function has returned: the number of an offer, 0 for none; -1: it failed. */
static void take_choice(struct mesa_task *t, void *ctx)
{
    lua_State *co = mesa_task_state(t);
    if (lua_gettop(co) == 1 && lua_isnumber(co, 1))
        *(int *)ctx = (int)lua_tointeger(co, 1);
}

int mesa_script_on_protocol(void *ctx, const struct mesa_request *req, struct mesa_span offered,
                            struct mesa_span *chosen)
{
    struct script_server *s = ctx;
    struct mesa_span list = offered, offer;
    struct mesa_task *t = begin_for_request(s);
    int choice = -1, n = 0;
    if (t == NULL)
        return 503;
    lua_State *co = mesa_task_state(t);
    mesa_script_push_event(s, co, MESA_ON_PROTOCOL);
    mesa_script_push_request(co, req);
    lua_newtable(co);
    while ((offer = mesa_http_list_next(&list)).p != NULL) {
        lua_pushlstring(co, offer.p, offer.len);
        lua_rawseti(co, -2, ++n);
    }
    lua_setfield(co, -2, "protocols");
    mesa_task_run(t, 1, take_choice, &choice); /* it cannot wait */
    if (choice < 0)
        return 500;
    for (; choice > 0; choice--)
        *chosen = mesa_http_list_next(&offered);
    return 0;
}

/* -- requests -- */

/* Whether the table `field` of the server object has the key `event`. */
static bool has_handler(lua_State *L, const struct script_server *s, const char *field,
                        const char *event)
{
    int top = lua_gettop(L);
    bool found = false;
    lua_rawgeti(L, LUA_REGISTRYINDEX, s->table_ref);
    lua_pushstring(L, field);
    lua_rawget(L, -2);
    if (lua_istable(L, -1)) {
        lua_pushstring(L, event);
        lua_rawget(L, -2);
        found = !lua_isnil(L, -1);
    }
    lua_settop(L, top);
    return found;
}

/* Whether there are listeners for `request`, or a script. */
static bool is_listening(lua_State *L, const struct script_server *s)
{
    return has_handler(L, s, "_handlers", "request") || has_handler(L, s, "_scripts", "request");
}

bool mesa_script_on_http(void *ctx, struct mesa_http *h, const struct mesa_request *req,
                         struct mesa_span body)
{
    struct script_server *s = ctx;
    if (!is_listening(s->vm->L, s))
        return false;
    struct mesa_task *t = begin_for_request(s);
    if (t == NULL) {
        mesa_http_reply(h, 503, NULL, 0, NULL, 0);
        return true;
    }
    lua_State *co = mesa_task_state(t);
    mesa_script_push_event(s, co, MESA_ON_REQUEST);
    mesa_script_push_request(co, req);
    set_span(co, "method", req->method);
    set_span(co, "body", body);
    struct http_box *box = lua_newuserdata(co, sizeof *box);
    *box = (struct http_box){.http = h, .vm = s->vm};
    luaL_getmetatable(co, "mesa.http");
    lua_setmetatable(co, -2);
    mesa_task_run(t, 2, NULL, NULL);
    return true;
}

static int l_http_collect(lua_State *L)
{
    struct http_box *box = luaL_checkudata(L, 1, "mesa.http");
    if (box->http == NULL)
        return 0;
    if (!box->vm->closing)
        mesa_log_limited(MESA_LOG_ERROR, "script", "unanswered requests",
                         MESA_SPAN("an HTTP request was never answered: 500"));
    mesa_http_reply(box->http, 500, NULL, 0, NULL, 0);
    box->http = NULL;
    return 0;
}

/* Pushes nil and "answered". */
static int push_answered(lua_State *L)
{
    lua_pushnil(L);
    lua_pushliteral(L, "answered");
    return 2;
}

/* core.http_reply(http, status, headers, body) -> true | nil, "answered". `headers` is a list
 * { name, value, name, value ... } of strings that were checked (lua/mesa/request.lua). */
static int l_http_reply(lua_State *L)
{
    struct http_box *box = luaL_checkudata(L, 1, "mesa.http");
    int status = luaL_checkint(L, 2);
    luaL_checktype(L, 3, LUA_TTABLE);
    size_t len, count = lua_objlen(L, 3) / 2;
    const char *body = luaL_checklstring(L, 4, &len);
    struct mesa_header *headers = lua_newuserdata(L, (count + 1) * sizeof *headers);
    for (size_t i = 0; i < count * 2; i++) {
        struct mesa_span *s = i % 2 == 0 ? &headers[i / 2].name : &headers[i / 2].value;
        lua_rawgeti(L, 3, (int)i + 1);
        luaL_checktype(L, -1, LUA_TSTRING);
        s->p = lua_tolstring(L, -1, &s->len); /* the table keeps it */
        lua_pop(L, 1);
    }
    if (box->http == NULL)
        return push_answered(L);
    mesa_http_reply(box->http, status, headers, count, body, len);
    box->http = NULL;
    lua_pushboolean(L, 1);
    return 1;
}

/* core.http_refuse(http, server, method, path) -> true | nil, "answered": no listener wanted it. */
static int l_http_refuse(lua_State *L)
{
    struct http_box *box = luaL_checkudata(L, 1, "mesa.http");
    struct script_server *s = mesa_script_check_server(L, 2);
    struct mesa_span method, path;
    method.p = luaL_checklstring(L, 3, &method.len);
    path.p = luaL_checklstring(L, 4, &path.len);
    if (box->http == NULL)
        return push_answered(L);
    if (s->server != NULL)
        mesa_server_refuse_http(s->server, box->http, method, path);
    else
        mesa_http_reply(box->http, 503, NULL, 0, NULL, 0);
    box->http = NULL;
    lua_pushboolean(L, 1);
    return 1;
}

/* -- upgrades -- */

struct upgrade_box {
    struct mesa_server_upgrade *upgrade; /* NULL: decided */
    struct mesa_vm *vm;
};

bool mesa_script_decides_upgrades(void *ctx)
{
    struct script_server *s = ctx;
    return has_handler(s->vm->L, s, "_handlers", "upgrade");
}

void mesa_script_on_upgrade(void *ctx, struct mesa_server_upgrade *u,
                            const struct mesa_request *req)
{
    struct script_server *s = ctx;
    struct mesa_task *t = begin_for_request(s);
    if (t == NULL) {
        (void)mesa_server_decide_upgrade(u, 503, (struct mesa_span){NULL, 0});
        return;
    }
    lua_State *co = mesa_task_state(t);
    mesa_script_push_event(s, co, MESA_ON_UPGRADE);
    mesa_script_push_request(co, req);
    set_span(co, "protocol", req->protocol);
    struct upgrade_box *box = lua_newuserdata(co, sizeof *box);
    *box = (struct upgrade_box){.upgrade = u, .vm = s->vm};
    luaL_getmetatable(co, "mesa.upgrade");
    lua_setmetatable(co, -2);
    mesa_task_run(t, 2, NULL, NULL);
}

static int l_upgrade_collect(lua_State *L)
{
    struct upgrade_box *box = luaL_checkudata(L, 1, "mesa.upgrade");
    struct mesa_server_upgrade *u = box->upgrade;
    if (u == NULL)
        return 0;
    box->upgrade = NULL;
    enum mesa_status rc = mesa_server_decide_upgrade(u, 500, (struct mesa_span){NULL, 0});
    if (rc == MESA_OK && !box->vm->closing)
        mesa_log_limited(
            MESA_LOG_ERROR, "script", "undecided upgrades",
            MESA_SPAN("no listener of `upgrade` has called decide, and nothing is left "
                      "that could: 500"));
    return 0;
}

/* core.upgrade_decide(upgrade, status, text) -> true | nil, "closed": 0 lets the peer in. */
static int l_upgrade_decide(lua_State *L)
{
    struct upgrade_box *box = luaL_checkudata(L, 1, "mesa.upgrade");
    int status = luaL_checkint(L, 2);
    struct mesa_span text;
    text.p = luaL_optlstring(L, 3, NULL, &text.len);
    struct mesa_server_upgrade *u = box->upgrade;
    if (u == NULL)
        return luaL_error(L, "decided twice");
    box->upgrade = NULL;
    if (mesa_server_decide_upgrade(u, status, text) == MESA_OK) {
        lua_pushboolean(L, 1);
        return 1;
    }
    lua_pushnil(L);
    lua_pushliteral(L, "closed");
    return 2;
}

/* A metatable whose values end with `collect`. */
static void make_type(lua_State *L, const char *name, lua_CFunction collect)
{
    luaL_newmetatable(L, name);
    lua_pushcfunction(L, collect);
    lua_setfield(L, -2, "__gc");
    lua_pop(L, 1);
}

void mesa_bind_request(lua_State *L)
{
    static const luaL_Reg functions[] = {
        {"http_reply", l_http_reply},
        {"http_refuse", l_http_refuse},
        {"upgrade_decide", l_upgrade_decide},
        {NULL, NULL},
    };
    make_type(L, "mesa.http", l_http_collect);
    make_type(L, "mesa.upgrade", l_upgrade_collect);
    luaL_register(L, NULL, functions);
}
