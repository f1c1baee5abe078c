/* bind_http.c - core.http_request: a handler waits for the answer to an HTTP request. */
#include "io/httpc.h"
#include "script/script.h"

static void push_headers(lua_State *L, const struct mesa_http_response *r)
{
    struct mesa_span name, value;
    lua_newtable(L);
    for (size_t i = 0; i < mesa_http_response_header_count(r); i++) {
        mesa_http_response_header_at(r, i, &name, &value);
        lua_pushlstring(L, name.p, name.len);
        lua_pushvalue(L, -1);
        lua_rawget(L, -3);
        if (mesa_span_eq(name, MESA_SPAN("set-cookie"))) { /* may have commas: always a list */
            if (lua_isnil(L, -1)) {
                lua_pop(L, 1);
                lua_newtable(L);
            }
            lua_pushlstring(L, value.p, value.len);
            lua_rawseti(L, -2, (int)lua_objlen(L, -2) + 1);
        } else if (lua_isnil(L, -1)) {
            lua_pop(L, 1);
            lua_pushlstring(L, value.p, value.len);
        } else {
            lua_pushliteral(L, ", ");
            lua_pushlstring(L, value.p, value.len);
            lua_concat(L, 3);
        }
        lua_rawset(L, -3);
    }
}

static void on_done(void *ctx, const struct mesa_httpc_result *result)
{
    struct mesa_task *t = ctx;
    lua_State *co = mesa_task_results(t);
    if (co == NULL)
        return;
    const struct mesa_http_response *r = result->response;
    if (r == NULL) {
        lua_pushnil(co);
        lua_pushstring(co, result->text);
        lua_pushstring(co, result->code);
        mesa_task_wake(t, 3);
        return;
    }
    lua_pushinteger(co, r->status);
    push_headers(co, r);
    lua_pushlstring(co, r->body.len > 0 ? r->body.data : "", r->body.len);
    lua_pushlstring(co, result->url.p, result->url.len);
    mesa_task_wake(t, 4);
}

static void on_cancelled(void *ctx)
{
    mesa_httpc_cancel(ctx);
}

/* The headers of the list { name, value, name, value ... } at `index`, in a userdata that is left
 * on the stack. */
static const struct mesa_httpc_header *check_headers(lua_State *L, int index, size_t *count)
{
    luaL_checktype(L, index, LUA_TTABLE);
    *count = lua_objlen(L, index) / 2;
    struct mesa_httpc_header *headers = lua_newuserdata(L, (*count + 1) * sizeof *headers);
    for (size_t i = 0; i < *count * 2; i++) {
        struct mesa_span *s = i % 2 == 0 ? &headers[i / 2].name : &headers[i / 2].value;
        lua_rawgeti(L, index, (int)i + 1);
        if (lua_type(L, -1) != LUA_TSTRING)
            luaL_argerror(L, index, "a list of strings expected");
        s->p = lua_tolstring(L, -1, &s->len); /* the table keeps it */
        lua_pop(L, 1);
    }
    return headers;
}

static struct mesa_span check_span(lua_State *L, int index)
{
    struct mesa_span s;
    s.p = luaL_checklstring(L, index, &s.len);
    return s;
}

/* The lazily made client of the VM; raises without memory. */
static struct mesa_httpc *client_of(lua_State *L, struct mesa_vm *vm)
{
    if (vm->httpc == NULL && mesa_httpc_new(&vm->httpc, vm->loop) != MESA_OK)
        luaL_error(L, "not enough memory for the HTTP client");
    return vm->httpc;
}

/* core.http_request(method, url, headers, body, timeout, connectTimeout, maxRedirects, maxSize, ca,
 * insecure) -> status, headers, body, url | nil, text, code. Waits. `body` and `ca` may be nil; the
 * numbers have been checked (lua/mesa/http.lua). */
static int l_http_request(lua_State *L)
{
    struct mesa_vm *vm = mesa_script_vm(L);
    struct mesa_task *t = mesa_task_check(L, "Mesa.http");
    struct mesa_httpc *client = client_of(L, vm);
    size_t count;
    lua_settop(L, 10);
    const struct mesa_httpc_header *headers = check_headers(L, 3, &count);
    const struct mesa_httpc_request request = {
        .method = check_span(L, 1),
        .url = check_span(L, 2),
        .headers = headers,
        .header_count = count,
        .body = lua_isnoneornil(L, 4) ? (struct mesa_span){NULL, 0} : check_span(L, 4),
        .timeout_ms = (uint64_t)luaL_checknumber(L, 5),
        .connect_timeout_ms = (uint64_t)luaL_checknumber(L, 6),
        .max_redirects = (unsigned)luaL_checknumber(L, 7),
        .max_body_bytes = (size_t)luaL_checknumber(L, 8),
        .ca = luaL_optstring(L, 9, NULL),
        .insecure = lua_toboolean(L, 10),
    };

    struct mesa_httpc_call *call;
    char err[256];
    enum mesa_status rc = mesa_httpc_send(&call, client, &request, on_done, t, err, sizeof err);
    if (rc == MESA_OK)
        return mesa_task_wait(t, on_cancelled, call);
    lua_pushnil(L);
    lua_pushstring(L, err);
    lua_pushstring(L, rc == MESA_EINVAL ? "INVALID" : "MEMORY");
    return 3;
}

void mesa_bind_http(lua_State *L)
{
    lua_pushcfunction(L, l_http_request);
    lua_setfield(L, -2, "http_request");
}
