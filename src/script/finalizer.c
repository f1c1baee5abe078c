/* finalizer.c - finalizers of scripts run as tasks, not inside the garbage collector.
 *
 * LuaJIT calls a finalizer in the middle of whatever allocates, and hands its error to that code: to
 * another handler, or to the core, where it ends the process. So the collector only queues what
 * scripts install (lua/mesa/finalizer.lua), and a job of the loop runs it like any handler.
 */
#include <stdio.h>

#include "base/log.h"
#include "script/script.h"

/* The queue is a table in the registry: function, object, function, object ... */
enum { VALUES = 2, FUNCTION = 1 };

enum { SLICE_NS = 1000000 };

/* Pushes the oldest function and its object, and takes them off the queue. */
static void push_oldest(struct mesa_vm *vm, lua_State *L)
{
    lua_rawgeti(L, LUA_REGISTRYINDEX, vm->finalizers_ref);
    for (int i = 1; i <= VALUES; i++) {
        lua_rawgeti(L, -i, vm->finalizer_first + i);
        lua_pushnil(L);
        lua_rawseti(L, -2 - i, vm->finalizer_first + i);
    }
    lua_remove(L, -1 - VALUES);
    vm->finalizer_first += VALUES;
    if (vm->finalizer_first == vm->finalizer_last)
        vm->finalizer_first = vm->finalizer_last = 0;
}

static bool is_waiting(const struct mesa_vm *vm)
{
    return vm->finalizer_first < vm->finalizer_last;
}

/* They free memory, so that they run when new events are refused for lack of it. */
static bool run_oldest(struct mesa_vm *vm)
{
    struct mesa_task *t = mesa_task_begin(vm);
    if (t == NULL)
        return false;
    lua_State *co = mesa_task_state(t);
    mesa_task_share(t, MESA_SHARE_CLOSING);
    mesa_script_push_program(vm, co, "finalizer");
    push_oldest(vm, co);
    mesa_task_run(t, VALUES, NULL, NULL);
    return true;
}

/* A slice a turn: mesa_loop_queue puts the next one behind what else is waiting. Fewer would let the
 * queue, and what its objects refer to, grow without end where turns are long. */
static void on_job(struct mesa_job *job)
{
    struct mesa_vm *vm = MESA_CONTAINER_OF(job, struct mesa_vm, finalizer_job);
    uint64_t until = uv_hrtime() + SLICE_NS;
    /* once os.exit was called they are called when the state is closed */
    while (!vm->exiting && is_waiting(vm) && run_oldest(vm)) {
        if (uv_hrtime() >= until)
            break;
    }
    if (!vm->exiting && is_waiting(vm) && !mesa_job_queued(&vm->finalizer_job))
        mesa_loop_queue(vm->loop, &vm->finalizer_job);
}

static void run_now(struct mesa_vm *vm, lua_State *L)
{
    int rc = lua_pcall(L, 1, 0, 0);
    bool by_exit = mesa_script_unwound(vm);
    if (rc == 0)
        return;
    const char *what = lua_tostring(L, -1);
    char text[256];
    int len = snprintf(text, sizeof text, "error in a finalizer: %s",
                       what != NULL ? what : luaL_typename(L, -1));
    if (!by_exit)
        mesa_log_limited(
            MESA_LOG_ERROR, "script", "finalizers",
            (struct mesa_span){text, len < (int)sizeof text ? (size_t)len : sizeof text - 1});
    lua_pop(L, 1);
}

/* What the collector calls with the object; upvalue 1 is the script's function. */
static int l_collected(lua_State *L)
{
    struct mesa_vm *vm = mesa_script_vm(L);
    if (vm->closing) { /* there is no later */
        lua_settop(L, 1);
        lua_pushvalue(L, lua_upvalueindex(FUNCTION));
        lua_insert(L, 1);
        run_now(vm, L);
        return 0;
    }
    if (lua_gc(L, LUA_GCISRUNNING, 0)) { /* not the collector: the script itself calls it */
        lua_pushvalue(L, lua_upvalueindex(FUNCTION));
        lua_insert(L, 1);
        lua_call(L, lua_gettop(L) - 1, LUA_MULTRET);
        return lua_gettop(L);
    }
    lua_settop(L, 1);
    lua_rawgeti(L, LUA_REGISTRYINDEX, vm->finalizers_ref);
    lua_pushvalue(L, lua_upvalueindex(FUNCTION));
    lua_rawseti(L, 2, ++vm->finalizer_last);
    lua_pushvalue(L, 1);
    lua_rawseti(L, 2, ++vm->finalizer_last);
    if (!mesa_job_queued(&vm->finalizer_job))
        mesa_loop_queue(vm->loop, &vm->finalizer_job);
    return 0;
}

/* core.finalizer(fn) -> the function to install in place of fn */
static int l_finalizer(lua_State *L)
{
    luaL_checkany(L, 1);
    lua_settop(L, 1);
    lua_pushcclosure(L, l_collected, 1);
    return 1;
}

void mesa_script_finish_finalizers(struct mesa_vm *vm)
{
    if (vm->finalizers_ref == 0) /* the modules were never loaded */
        return;
    mesa_job_cancel(&vm->finalizer_job);
    while (is_waiting(vm)) {
        push_oldest(vm, vm->L);
        run_now(vm, vm->L);
    }
}

void mesa_bind_finalizer(lua_State *L)
{
    struct mesa_vm *vm = mesa_script_vm(L);
    mesa_job_init(&vm->finalizer_job, on_job);
    lua_newtable(L);
    vm->finalizers_ref = luaL_ref(L, LUA_REGISTRYINDEX);
    lua_pushcfunction(L, l_finalizer);
    lua_setfield(L, -2, "finalizer");
}
