/* luv.c - require "luv" runs on the server's own loop, and an error in one of its callbacks does not end the process. */
#include <dlfcn.h>

#include "base/log.h"
#include "script/script.h"

typedef int (*luv_pcall_fn)(lua_State *L, int nargs, int nresults, int flags);

static int traceback(lua_State *L)
{
    lua_settop(L, 1);
    if (!lua_isstring(L, 1)) {
        lua_pushstring(L, luaL_typename(L, 1));
        lua_replace(L, 1);
    }
    mesa_script_push_traceback(L, L, 1);
    return 1;
}

/* A callback whose results luv needs cannot wait. */
static int call_now(lua_State *L, int nargs, int nresults)
{
    int base = lua_gettop(L) - nargs;
    lua_pushcfunction(L, traceback);
    lua_insert(L, base);
    int rc = lua_pcall(L, nargs, nresults, base);
    lua_remove(L, base);
    if (rc == 0)
        return nresults == LUA_MULTRET ? lua_gettop(L) - base + 1 : nresults;
    mesa_script_log_text(L, "luv callback failed: ");
    return -rc;
}

/* Runs a luv callback as a task, so that it may wait; luv's own version prints and exits the process on an error. */
static int run_callback(lua_State *L, int nargs, int nresults, int flags)
{
    (void)flags;
    struct mesa_vm *vm = mesa_script_vm(L);
    if (nresults != 0 || vm == NULL || vm->closing)
        return call_now(L, nargs, nresults);
    struct mesa_task *t = mesa_task_begin(vm);
    if (t == NULL) {
        lua_pop(L, nargs + 1);
        return 0;
    }
    lua_State *co = mesa_task_state(t);
    luaL_checkstack(co, nargs + 2, "luv callback");
    mesa_script_push_program(vm, co, "luv_callback");
    lua_xmove(L, co, nargs + 1);
    mesa_task_run(t, nargs + 1, NULL, NULL);
    return 0;
}

static const char *find_module(lua_State *L)
{
    lua_getglobal(L, "package");
    lua_getfield(L, -1, "searchpath");
    lua_pushliteral(L, "luv");
    lua_getfield(L, -3, "cpath");
    lua_call(L, 2, 2);
    if (lua_isnil(L, -2))
        luaL_error(L, "module 'luv' is not installed (package lua-luv):%s", lua_tostring(L, -1));
    return lua_tostring(L, -2);
}

int mesa_script_open_luv(lua_State *L)
{
    struct mesa_vm *vm = mesa_script_vm(L);
    const char *path = find_module(L);
    void *lib = dlopen(path, RTLD_NOW | RTLD_LOCAL | RTLD_NODELETE);
    if (lib == NULL)
        return luaL_error(L, "module 'luv' cannot be loaded: %s", dlerror());
    void (*set_loop)(lua_State *, uv_loop_t *);
    void (*set_callback)(lua_State *, luv_pcall_fn);
    lua_CFunction open;
    *(void **)&set_loop = dlsym(lib, "luv_set_loop");
    *(void **)&set_callback = dlsym(lib, "luv_set_callback");
    *(void **)&open = dlsym(lib, "luaopen_luv");
    if (set_loop == NULL || set_callback == NULL || open == NULL)
        return luaL_error(L, "module 'luv' (%s) is too old: it has no luv_set_loop", path);
    /* luv runs its callbacks on the state it was opened on: not the coroutine that requires it */
    lua_State *main = vm->L;
    set_loop(main, mesa_loop_uv(vm->loop));
    set_callback(main, run_callback);
    lua_pushcfunction(main, open);
    int rc = lua_pcall(main, 0, 1, 0);
    if (rc == 0) {
        mesa_script_push_program(vm, main, "adapt_luv");
        lua_insert(main, -2);
        rc = lua_pcall(main, 1, 1, 0);
    }
    if (main != L)
        lua_xmove(main, L, 1);
    return rc == 0 ? 1 : lua_error(L);
}

/* Handles that scripts left open are closed while the Lua state lives: luv's callbacks need it. Work on the thread pool cannot be stopped and is waited for. */
void mesa_script_close_luv(struct mesa_vm *vm)
{
    uv_loop_t *loop = mesa_loop_uv(vm->loop);
    mesa_script_push_program(vm, vm->L, "close_luv");
    if (mesa_script_call(vm, 0, 1) != MESA_OK)
        return;
    bool used = lua_toboolean(vm->L, -1);
    lua_pop(vm->L, 1);
    if (!used)
        return;
    uv_run(loop, UV_RUN_NOWAIT);
    /* the last request may have been what kept a handle from being closed (of fs_poll, for one) */
    while (loop->active_reqs.count > 0 || loop->closing_handles != NULL)
        uv_run(loop, UV_RUN_ONCE);
}
