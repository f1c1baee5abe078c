/* task.c - handlers run in pooled coroutines, and what they wait for. */
#include <math.h>
#include <stdlib.h>

#include "base/inline.h"
#include "base/log.h"
#include "script/script.h"

struct mesa_task {
    struct mesa_list link; /* idle_tasks or waiting_tasks */
    struct mesa_vm *vm;
    lua_State *co;
    int ref;   /* anchors co */
    bool kept; /* a script knows the coroutine: it is not used again */
    bool waiting;
    uint64_t wait; /* number of the wait; while it lasts, the lowest value on co's stack */
    enum mesa_memory_share share;
    mesa_task_cancel_fn cancel; /* of what it waits for */
    void *cancel_ctx;
    struct mesa_timer timer; /* sleep */
    struct mesa_job resume;  /* queued: what it waited for has come */
    int nresults;
    void (*begun)(void *ctx); /* of a queued task */
    void *begun_ctx;
    mesa_task_done_fn done;
    void *ctx;
};

static void on_sleep_over(struct mesa_timer *timer);
static void on_resume(struct mesa_job *job);

static const char coroutines_key; /* registry[&coroutines_key][co]: its task; keys are weak */

/* Makes it on the stack of vm->L. */
static void push_coroutines(lua_State *L)
{
    lua_pushlightuserdata(L, (void *)&coroutines_key);
    lua_rawget(L, LUA_REGISTRYINDEX);
    if (!lua_isnil(L, -1))
        return;
    lua_pop(L, 1);
    lua_newtable(L);
    lua_createtable(L, 0, 1);
    lua_pushliteral(L, "k");
    lua_setfield(L, -2, "__mode");
    lua_setmetatable(L, -2);
    lua_pushlightuserdata(L, (void *)&coroutines_key);
    lua_pushvalue(L, -2);
    lua_rawset(L, LUA_REGISTRYINDEX);
}

/* Writes `task` (NULL: none) as what the coroutine t->co belongs to. */
static void set_owner(struct mesa_task *t, struct mesa_task *task)
{
    lua_State *L = t->vm->L;
    push_coroutines(L);
    lua_rawgeti(L, LUA_REGISTRYINDEX, t->ref);
    if (task != NULL)
        lua_pushlightuserdata(L, task);
    else
        lua_pushnil(L);
    lua_rawset(L, -3);
    lua_pop(L, 1);
}

struct mesa_task *mesa_task_of(lua_State *L, int index)
{
    lua_pushvalue(L, index);
    push_coroutines(L);
    lua_insert(L, -2);
    lua_rawget(L, -2);
    struct mesa_task *t = lua_touserdata(L, -1);
    lua_pop(L, 2);
    return t;
}

void mesa_task_keep(struct mesa_task *t)
{
    t->kept = true;
}

struct mesa_task *mesa_task_begin(struct mesa_vm *vm)
{
    if (vm->exiting)
        return NULL;
    if (!mesa_list_empty(&vm->idle_tasks)) {
        struct mesa_task *t = MESA_CONTAINER_OF(vm->idle_tasks.next, struct mesa_task, link);
        mesa_list_remove(&t->link);
        vm->idle_task_count--;
        t->share = MESA_SHARE_CALLBACK;
        return t;
    }
    struct mesa_task *t = calloc(1, sizeof *t);
    if (t == NULL)
        return NULL;
    t->vm = vm;
    t->share = MESA_SHARE_CALLBACK;
    mesa_list_init(&t->link);
    mesa_timer_init(&t->timer, on_sleep_over);
    mesa_job_init(&t->resume, on_resume);
    t->co = lua_newthread(vm->L);
    t->ref = luaL_ref(vm->L, LUA_REGISTRYINDEX);
    set_owner(t, t);
    return t;
}

lua_State *mesa_task_state(const struct mesa_task *t)
{
    return t->co;
}

void mesa_task_share(struct mesa_task *t, enum mesa_memory_share share)
{
    t->share = share;
}

static MESA_NOINLINE void task_free(struct mesa_task *t)
{
    mesa_loop_cancel(t->vm->loop, &t->timer);
    mesa_job_cancel(&t->resume);
    mesa_list_remove(&t->link);
    set_owner(t, NULL);
    luaL_unref(t->vm->L, LUA_REGISTRYINDEX, t->ref);
    free(t);
}

static inline void report_begun(struct mesa_task *t)
{
    void (*begun)(void *ctx) = t->begun;
    t->begun = NULL;
    if (begun != NULL)
        begun(t->begun_ctx);
}

/* The task is over. A coroutine that ended well is used again, unless a script may still mean this task by it. */
MESA_INLINE void task_finish(struct mesa_task *t, bool reusable)
{
    mesa_task_done_fn done = t->done;
    void *ctx = t->ctx;
    t->done = NULL;
    report_begun(t);
    if (done != NULL)
        done(t, ctx);
    struct mesa_vm *vm = t->vm;
    if (reusable && !t->kept && vm->idle_task_count < MESA_TASK_POOL_MAX) {
        if (lua_gettop(t->co) > 0)
            lua_settop(t->co, 0);
        mesa_list_remove(&t->link);
        mesa_list_prepend(&vm->idle_tasks, &t->link); /* what it needs is still at hand */
        vm->idle_task_count++;
    } else {
        task_free(t);
    }
}

/* Only this thread writes the counter, so that plain stores do. */
static uint64_t count_entry(struct mesa_vm *vm)
{
    uint64_t entry = atomic_load_explicit(&vm->entries, memory_order_relaxed);
    atomic_store_explicit(&vm->entries, entry + 1, memory_order_relaxed);
    return entry;
}

/* The VM is idle again. */
static void left_lua(struct mesa_vm *vm)
{
    uint64_t entry = count_entry(vm);
    if (atomic_load_explicit(&vm->slow_entry, memory_order_relaxed) == entry)
        mesa_guard_report(vm);
    if (mesa_memory_looked(&vm->memory))
        mesa_memory_leave(vm);
}

/* It has not returned: it waits, or is over all the same. */
static MESA_NOINLINE void not_returned(struct mesa_task *t, int status)
{
    struct mesa_vm *vm = t->vm;
    if (status == LUA_YIELD && t->waiting) {
        mesa_list_remove(&t->link);
        mesa_list_append(&vm->waiting_tasks, &t->link);
        mesa_quick_forget(vm);
        report_begun(t);
        return;
    }
    if (!vm->exiting) { /* what it ended with was not only to end it */
        if (status == LUA_YIELD) {
            lua_settop(t->co, 0);
            lua_pushliteral(t->co, "it yielded from C code that is not mesa's, and was abandoned");
        }
        mesa_script_log_error(vm, t->co, "handler failed: ");
    }
    task_finish(t, false);
}

static void task_resume(struct mesa_task *t, int nargs)
{
    struct mesa_vm *vm = t->vm;
    struct mesa_task *outer = vm->current_task;
    struct mesa_buf *scratch_free = vm->scratch_free;
    vm->current_task = t;
    if (outer == NULL) {
        count_entry(vm);
        if (vm->memory.share != t->share || mesa_memory_exceeded(&vm->memory))
            mesa_memory_enter(vm, t->share);
    }
    int status = lua_resume(t->co, nargs);
    vm->current_task = outer;
    vm->scratch_free = scratch_free;
    if (vm->hooked)
        mesa_script_unwound(vm);
    if (outer == NULL)
        left_lua(vm);
    if (status == 0)
        task_finish(t, true);
    else
        not_returned(t, status);
}

void mesa_task_run(struct mesa_task *t, int nargs, mesa_task_done_fn done, void *ctx)
{
    t->done = done;
    t->ctx = ctx;
    task_resume(t, nargs);
}

void mesa_task_queue(struct mesa_task *t, int nargs, void (*begun)(void *ctx), void *ctx)
{
    t->begun = begun;
    t->begun_ctx = ctx;
    mesa_list_append(&t->vm->waiting_tasks, &t->link);
    mesa_task_wake(t, nargs);
}

int mesa_task_wait(struct mesa_task *t, mesa_task_cancel_fn cancel, void *ctx)
{
    t->waiting = true;
    t->wait = ++t->vm->waits;
    t->cancel = cancel;
    t->cancel_ctx = ctx;
    lua_settop(t->co, 0);
    lua_pushnumber(t->co, (lua_Number)t->wait);
    return lua_yield(t->co, 1);
}

/* Whether the coroutine is suspended where mesa_task_wait left it, under `nresults` values. It is not when C code other
 * than the core's has resumed it. */
static bool still_waits(const struct mesa_task *t, int nresults)
{
    return lua_status(t->co) == LUA_YIELD && lua_gettop(t->co) == 1 + nresults &&
           lua_type(t->co, 1) == LUA_TNUMBER && lua_tonumber(t->co, 1) == (lua_Number)t->wait;
}

static void abandon(struct mesa_task *t)
{
    mesa_log(MESA_LOG_ERROR, "script",
             "a handler's coroutine was resumed from C code that is not mesa's while it waited, "
             "and is abandoned");
    task_finish(t, false);
}

lua_State *mesa_task_results(struct mesa_task *t)
{
    t->cancel = NULL;
    if (still_waits(t, 0))
        return t->co;
    abandon(t);
    return NULL;
}

void mesa_task_wake(struct mesa_task *t, int nresults)
{
    t->cancel = NULL;
    t->nresults = nresults;
    mesa_loop_queue(t->vm->loop, &t->resume);
}

static void on_resume(struct mesa_job *job)
{
    struct mesa_task *t = MESA_CONTAINER_OF(job, struct mesa_task, resume);
    if (t->vm->exiting)
        return; /* it waits for the end */
    if (t->waiting && !still_waits(t, t->nresults)) {
        abandon(t);
        return;
    }
    if (t->waiting)
        lua_remove(t->co, 1);
    t->waiting = false;
    mesa_list_remove(&t->link);
    task_resume(t, t->nresults);
}

static void on_sleep_over(struct mesa_timer *timer)
{
    struct mesa_task *t = MESA_CONTAINER_OF(timer, struct mesa_task, timer);
    if (mesa_task_results(t) != NULL)
        mesa_task_wake(t, 0);
}

void mesa_task_close_all(struct mesa_vm *vm)
{
    while (!mesa_list_empty(&vm->waiting_tasks)) {
        struct mesa_task *t = MESA_CONTAINER_OF(vm->waiting_tasks.next, struct mesa_task, link);
        if (t->cancel != NULL)
            t->cancel(t->cancel_ctx);
        task_finish(t, false);
    }
    while (!mesa_list_empty(&vm->idle_tasks))
        task_free(MESA_CONTAINER_OF(vm->idle_tasks.next, struct mesa_task, link));
    vm->idle_task_count = 0;
}

/* Milliseconds at `index`: a finite number from 0 to 2^31-1, rounded up. */
static uint64_t check_delay(lua_State *L, int index)
{
    lua_Number ms = luaL_checknumber(L, index);
    if (!(ms >= 0 && ms <= 2147483647.0))
        luaL_argerror(L, index, "a time in milliseconds from 0 to 2147483647 expected");
    return (uint64_t)ceil(ms);
}

/* core.sleep(ms): suspends the running handler for `ms`. Raises outside of one. */
static int l_sleep(lua_State *L)
{
    struct mesa_vm *vm = mesa_script_vm(L);
    uint64_t ms = check_delay(L, 1);
    struct mesa_task *t = mesa_task_check(L, "Mesa.sleep");
    mesa_loop_arm(vm->loop, &t->timer, ms);
    return mesa_task_wait(t, NULL, NULL);
}

/* core.run_task(fn, ...): calls the function in a coroutine of its own, in which it may wait, and goes on when it waits
 * or is over. */
static int l_run_task(lua_State *L)
{
    struct mesa_vm *vm = mesa_script_vm(L);
    luaL_checktype(L, 1, LUA_TFUNCTION);
    int n = lua_gettop(L);
    struct mesa_task *t = mesa_task_begin(vm);
    if (t == NULL || !lua_checkstack(mesa_task_state(t), n))
        return luaL_error(L, "not enough memory");
    lua_xmove(L, mesa_task_state(t), n);
    mesa_task_run(t, n - 1, NULL, NULL);
    return 0;
}

/* -- timers of scripts ---------------------------------------------------------------------------------------- */

struct lua_timer {
    struct mesa_timer timer;
    struct mesa_job job;   /* queued: it is due */
    struct mesa_list link; /* vm->timers while armed */
    struct mesa_vm *vm;
    uint64_t interval_ms; /* 0: fires once */
    int self_ref;         /* anchors the object while armed */
    int fn_ref;
};

static void lua_timer_stop(struct lua_timer *t)
{
    if (t->vm == NULL)
        return;
    lua_State *L = t->vm->L;
    mesa_loop_cancel(t->vm->loop, &t->timer);
    mesa_job_cancel(&t->job);
    mesa_list_remove(&t->link);
    luaL_unref(L, LUA_REGISTRYINDEX, t->fn_ref);
    luaL_unref(L, LUA_REGISTRYINDEX, t->self_ref);
    t->fn_ref = t->self_ref = LUA_NOREF;
    t->vm = NULL;
}

static void on_lua_timer(struct mesa_timer *timer)
{
    struct lua_timer *t = MESA_CONTAINER_OF(timer, struct lua_timer, timer);
    mesa_loop_queue(t->vm->loop, &t->job);
}

static void run_lua_timer(struct mesa_job *job)
{
    struct lua_timer *t = MESA_CONTAINER_OF(job, struct lua_timer, job);
    struct mesa_vm *vm = t->vm;
    struct mesa_task *task = mesa_task_begin(vm);
    if (task != NULL) {
        mesa_script_push_program(vm, mesa_task_state(task), "timer");
        lua_rawgeti(mesa_task_state(task), LUA_REGISTRYINDEX, t->fn_ref);
    }
    if (t->interval_ms > 0)
        mesa_loop_arm(vm->loop, &t->timer, t->interval_ms);
    else
        lua_timer_stop(t);
    if (task != NULL)
        mesa_task_run(task, 1, NULL, NULL);
    else
        mesa_script_event_lost(vm, MESA_SPAN("no memory for a timer's function, it is not called"));
}

/* core.timer_start(fn, ms, repeats) -> timer */
static int l_timer_start(lua_State *L)
{
    mesa_script_check_open(L, "timer");
    luaL_checktype(L, 1, LUA_TFUNCTION);
    uint64_t ms = check_delay(L, 2);
    bool repeats = lua_toboolean(L, 3);
    struct mesa_vm *vm = mesa_script_vm(L);

    struct lua_timer *t = lua_newuserdata(L, sizeof *t);
    *t = (struct lua_timer){
        .interval_ms = repeats ? (ms > 0 ? ms : 1) : 0, .self_ref = LUA_NOREF, .fn_ref = LUA_NOREF};
    mesa_timer_init(&t->timer, on_lua_timer);
    mesa_job_init(&t->job, run_lua_timer);
    mesa_list_init(&t->link);
    luaL_getmetatable(L, "mesa.timer");
    lua_setmetatable(L, -2);
    lua_pushvalue(L, 1);
    t->fn_ref = luaL_ref(L, LUA_REGISTRYINDEX);
    lua_pushvalue(L, -1);
    t->self_ref = luaL_ref(L, LUA_REGISTRYINDEX);
    t->vm = vm;
    mesa_list_append(&vm->timers, &t->link);
    mesa_loop_arm(vm->loop, &t->timer, repeats ? t->interval_ms : ms);
    return 1;
}

/* core.timer_stop(timer): safe to repeat, also from the timer's own function. */
static int l_timer_stop(lua_State *L)
{
    lua_timer_stop(luaL_checkudata(L, 1, "mesa.timer"));
    return 0;
}

void mesa_task_close_timers(struct mesa_vm *vm)
{
    while (!mesa_list_empty(&vm->timers))
        lua_timer_stop(MESA_CONTAINER_OF(vm->timers.next, struct lua_timer, link));
}

void mesa_bind_task(lua_State *L)
{
    luaL_newmetatable(L, "mesa.timer");
    lua_pop(L, 1);
    lua_pushcfunction(L, l_sleep);
    lua_setfield(L, -2, "sleep");
    lua_pushcfunction(L, l_run_task);
    lua_setfield(L, -2, "run_task");
    lua_pushcfunction(L, l_timer_start);
    lua_setfield(L, -2, "timer_start");
    lua_pushcfunction(L, l_timer_stop);
    lua_setfield(L, -2, "timer_stop");
}
