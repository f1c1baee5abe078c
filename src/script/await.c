/* await.c - Mesa.await: a handler waits for somebody to call a function.
 *
 * A wait has two ends: the token, which the resolving function holds, and the handle, which the waiting coroutine holds. When the token is collected, nobody can
 * resolve any more and the wait ends. The handler always goes on in a later turn of the loop than the call that resolved.
 */
#include <stdlib.h>

#include "script/script.h"

struct waiter {
    struct mesa_list link; /* vm->waiters */
    unsigned refs;         /* token, handle and the suspended task */
    struct mesa_vm *vm;
    struct mesa_task *task;  /* suspended for this; NULL before and after */
    struct mesa_timer timer; /* the timeout, or the turn to go on in */
    int values_ref;          /* what it was resolved with; LUA_NOREF before */
    int value_count;
    const char *failure; /* why nobody will resolve it */
};

static void waiter_unref(struct waiter *w)
{
    if (--w->refs > 0)
        return;
    mesa_loop_cancel(w->vm->loop, &w->timer);
    luaL_unref(w->vm->L, LUA_REGISTRYINDEX, w->values_ref);
    mesa_list_remove(&w->link);
    free(w);
}

/* LuaJIT drops the finalizer of an end that it collects while a stack overflow is being handled. */
void mesa_script_free_waits(struct mesa_vm *vm)
{
    MESA_LIST_FOREACH_SAFE(it, next, &vm->waiters) {
        struct waiter *w = MESA_CONTAINER_OF(it, struct waiter, link);
        mesa_loop_cancel(vm->loop, &w->timer);
        mesa_list_remove(it);
        free(w);
    }
}

/* Pushes the results of an ended wait; returns how many. */
static int push_results(struct waiter *w, lua_State *L)
{
    if (w->values_ref == LUA_NOREF) {
        lua_pushnil(L);
        lua_pushstring(L, w->failure);
        return 2;
    }
    luaL_checkstack(L, w->value_count + 1, "Mesa.await");
    lua_rawgeti(L, LUA_REGISTRYINDEX, w->values_ref);
    int values = lua_gettop(L);
    for (int i = 1; i <= w->value_count; i++)
        lua_rawgeti(L, values, i);
    lua_remove(L, values);
    luaL_unref(L, LUA_REGISTRYINDEX, w->values_ref);
    w->values_ref = LUA_NOREF;
    w->failure = "resolved";
    return w->value_count;
}

static void on_timer(struct mesa_timer *timer)
{
    struct waiter *w = MESA_CONTAINER_OF(timer, struct waiter, timer);
    struct mesa_task *t = w->task;
    w->task = NULL;
    if (w->values_ref == LUA_NOREF && w->failure == NULL)
        w->failure = "timeout";
    lua_State *co = mesa_task_results(t);
    int n = co != NULL ? push_results(w, co) : 0;
    waiter_unref(w);
    if (co != NULL)
        mesa_task_wake(t, n);
}

static void on_cancel(void *ctx)
{
    struct waiter *w = ctx;
    w->task = NULL;
    waiter_unref(w);
}

static struct waiter *check(lua_State *L, int index, const char *kind)
{
    return *(struct waiter **)luaL_checkudata(L, index, kind);
}

static void push_end(lua_State *L, const char *kind, struct waiter ***end)
{
    *end = lua_newuserdata(L, sizeof **end);
    **end = NULL;
    luaL_getmetatable(L, kind);
    lua_setmetatable(L, -2);
}

/* core.wait_new() -> token, handle; raises where a function cannot wait */
static int l_wait_new(lua_State *L)
{
    struct waiter **token, **handle;
    mesa_task_check(L, "Mesa.await");
    push_end(L, "mesa.wait_token", &token);
    push_end(L, "mesa.wait_handle", &handle);
    struct waiter *w = calloc(1, sizeof *w);
    if (w == NULL)
        return luaL_error(L, "not enough memory");
    w->vm = mesa_script_vm(L);
    mesa_list_append(&w->vm->waiters, &w->link);
    w->refs = 2;
    w->values_ref = LUA_NOREF;
    mesa_timer_init(&w->timer, on_timer);
    *token = *handle = w;
    return 2;
}

/* core.wait_resolve(token, ...) -> whether this call is the one that counts */
static int l_wait_resolve(lua_State *L)
{
    struct waiter *w = check(L, 1, "mesa.wait_token");
    if (w == NULL || w->values_ref != LUA_NOREF || w->failure != NULL) {
        lua_pushboolean(L, false);
        return 1;
    }
    int n = lua_gettop(L) - 1;
    lua_createtable(L, n, 0);
    lua_insert(L, 2);
    for (int i = n; i >= 1; i--)
        lua_rawseti(L, 2, i);
    w->value_count = n;
    w->values_ref = luaL_ref(L, LUA_REGISTRYINDEX);
    if (w->task != NULL)
        mesa_loop_arm(w->vm->loop, &w->timer, 0);
    lua_pushboolean(L, true);
    return 1;
}

/* core.wait_for(handle [, timeout]) -> what it was resolved with | nil, "timeout" | nil, "abandoned" */
static int l_wait_for(lua_State *L)
{
    struct waiter *w = check(L, 1, "mesa.wait_handle");
    lua_Number timeout = luaL_optnumber(L, 2, -1);
    struct mesa_task *t = mesa_task_check(L, "Mesa.await");
    lua_settop(L, 1);
    if (w->values_ref != LUA_NOREF || w->failure != NULL)
        return push_results(w, L);
    w->task = t;
    w->refs++; /* a suspended coroutine does not keep the handle */
    if (timeout >= 0)
        mesa_loop_arm(w->vm->loop, &w->timer, (uint64_t)timeout);
    return mesa_task_wait(t, on_cancel, w);
}

/* The waiter of a collected end: a finalizer may still hold the object, which has none from now on. */
static struct waiter *take(lua_State *L, const char *kind)
{
    struct waiter **end = luaL_checkudata(L, 1, kind);
    struct waiter *w = *end;
    *end = NULL;
    return w;
}

static int l_token_gc(lua_State *L)
{
    struct waiter *w = take(L, "mesa.wait_token");
    if (w == NULL)
        return 0;
    if (w->values_ref == LUA_NOREF && w->failure == NULL) {
        w->failure = "abandoned";
        if (w->task != NULL && !w->vm->closing)
            mesa_loop_arm(w->vm->loop, &w->timer, 0);
    }
    waiter_unref(w);
    return 0;
}

static int l_handle_gc(lua_State *L)
{
    struct waiter *w = take(L, "mesa.wait_handle");
    if (w != NULL)
        waiter_unref(w);
    return 0;
}

static void new_kind(lua_State *L, const char *kind, lua_CFunction gc)
{
    luaL_newmetatable(L, kind);
    lua_pushcfunction(L, gc);
    lua_setfield(L, -2, "__gc");
    lua_pop(L, 1);
}

void mesa_bind_await(lua_State *L)
{
    static const luaL_Reg functions[] = {
        {"wait_new", l_wait_new},
        {"wait_resolve", l_wait_resolve},
        {"wait_for", l_wait_for},
        {NULL, NULL},
    };
    new_kind(L, "mesa.wait_token", l_token_gc);
    new_kind(L, "mesa.wait_handle", l_handle_gc);
    luaL_register(L, NULL, functions);
}
