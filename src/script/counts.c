/* counts.c - core.counts: what is open, waiting and allocated, for specs that look for leaks. */
#include <malloc.h>

#include "script/script.h"

static void count_handle(uv_handle_t *h, void *ctx)
{
    (void)h;
    ++*(lua_Number *)ctx;
}

static lua_Number list_length(const struct mesa_list *l)
{
    lua_Number n = 0;
    MESA_LIST_FOREACH(it, l)
        n++;
    return n;
}

/* What luaL_ref keeps in the registry; a number there is a link of its list of free places. */
static lua_Number count_references(lua_State *L)
{
    lua_Number n = 0;
    for (int i = 1; i <= (int)lua_objlen(L, LUA_REGISTRYINDEX); i++) {
        lua_rawgeti(L, LUA_REGISTRYINDEX, i);
        n += !lua_isnil(L, -1) && lua_type(L, -1) != LUA_TNUMBER;
        lua_pop(L, 1);
    }
    return n;
}

static void set(lua_State *L, const char *name, lua_Number n)
{
    lua_pushnumber(L, n);
    lua_setfield(L, -2, name);
}

/* core.counts() -> { handles, requests, references, waiting, idle, timers, bytes }: of libuv, of the registry, coroutines, script
 * timers, and what the C heap has handed out (LuaJIT's own memory is not part of it). */
static int l_counts(lua_State *L)
{
    struct mesa_vm *vm = mesa_script_vm(L);
    uv_loop_t *loop = mesa_loop_uv(vm->loop);
    struct mallinfo2 heap = mallinfo2();
    lua_Number handles = 0;
    uv_walk(loop, count_handle, &handles);
    lua_newtable(L);
    set(L, "handles", handles);
    set(L, "requests", loop->active_reqs.count);
    set(L, "references", count_references(L));
    set(L, "waiting", list_length(&vm->waiting_tasks));
    set(L, "idle", vm->idle_task_count);
    set(L, "timers", list_length(&vm->timers));
    set(L, "bytes", (lua_Number)(heap.uordblks + heap.hblkhd));
    return 1;
}

void mesa_bind_counts(lua_State *L)
{
    lua_pushcfunction(L, l_counts);
    lua_setfield(L, -2, "counts");
}
