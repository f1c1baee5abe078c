/* guard.c - handlers that hold the loop for too long.
 *
 * A thread watches a counter that changes whenever the VM is entered and left. When it has stood still for limits.scriptTime inside, the thread signals the
 * loop's thread, whose signal handler sets a Lua hook (the one thing LuaJIT allows there); the hook notes where the script is. Nothing is interrupted: the
 * handler is logged when it ends. Machine code that LuaJIT has compiled runs no hooks, so that the note may come late or never.
 *
 * The hook also drops all machine code. LuaJIT before November 2023 may leave that of a loop over pairs() for the place where it
 * begins, and enter it again without a step done, for ever (its commit "Ensure forward progress on trace exit to BC_ITERN").
 * Interpreted, the loop goes on.
 */
#include <inttypes.h>
#include <luajit.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

#include "base/log.h"
#include "script/script.h"

enum { GUARD_SIGNAL = SIGURG /* ignored where nobody handles it */, SAMPLES = 4 };

struct mesa_guard {
    struct mesa_vm *vm;
    uv_thread_t thread;
    uv_mutex_t lock;
    uv_cond_t wake;
    bool stopping; /* under `lock` */
    pthread_t loop_thread;
    _Atomic uint64_t since_ns; /* when the thread first saw the entry that is too long */
    char *where;               /* the traceback the hook took */
};

static struct mesa_vm *guarded; /* of this process; for the signal handler */

/* Whether what runs is what was too long, which may have ended meanwhile. */
static bool is_slow(struct mesa_vm *vm)
{
    return vm->guard != NULL && atomic_load(&vm->entries) == atomic_load(&vm->slow_entry);
}

/* Notes where the script is that holds the loop. */
static void note_place(struct mesa_vm *vm, lua_State *L)
{
    struct mesa_guard *g = vm->guard;
    if (g->where != NULL)
        return;
    luaL_traceback(L, L, NULL, 0);
    g->where = strdup(lua_tostring(L, -1));
    lua_pop(L, 1);
}

void mesa_guard_hook(lua_State *L, lua_Debug *ar)
{
    struct mesa_vm *vm = mesa_script_vm(L);
    lua_sethook(L, NULL, 0, 0);
    if (is_slow(vm)) {
        luaJIT_setmode(L, 0, LUAJIT_MODE_ENGINE | LUAJIT_MODE_FLUSH);
        note_place(vm, L);
    }
    mesa_memory_look(vm, L, ar);
}

static void on_signal(int signum)
{
    (void)signum;
    struct mesa_vm *vm = guarded;
    if (vm != NULL && (atomic_load(&vm->entries) & 1) != 0)
        lua_sethook(vm->L, mesa_guard_hook, LUA_MASKCOUNT, 1);
}

static void watch(void *ctx)
{
    struct mesa_guard *g = ctx;
    const uint64_t limit_ns = (uint64_t)g->vm->script_time_ms * 1000000;
    uint64_t seen = 0, since = 0, next = 0;

    uv_mutex_lock(&g->lock);
    while (!g->stopping) {
        uv_cond_timedwait(&g->wake, &g->lock, limit_ns / SAMPLES);
        uint64_t now = uv_hrtime(), entries = atomic_load(&g->vm->entries);
        if (entries != seen) {
            seen = entries;
            since = now;
            next = now + limit_ns;
        } else if ((entries & 1) != 0 && now >= next) {
            next = now + limit_ns; /* it may have been compiled again */
            atomic_store(&g->since_ns, since);
            atomic_store(&g->vm->slow_entry, entries);
            pthread_kill(g->loop_thread, GUARD_SIGNAL);
        }
    }
    uv_mutex_unlock(&g->lock);
}

void mesa_guard_report(struct mesa_vm *vm)
{
    struct mesa_guard *g = vm->guard;
    uint64_t ms = (uv_hrtime() - atomic_load(&g->since_ns)) / 1000000;
    lua_sethook(vm->L, NULL, 0, 0);
    mesa_log(MESA_LOG_WARN, "script",
             "a handler held the loop for %" PRIu64 " ms (limits.scriptTime is %" PRIu32
             "), here:\n%s",
             ms, vm->script_time_ms,
             g->where != NULL ? g->where : "(in compiled code or a C function, place unknown)");
    free(g->where);
    g->where = NULL;
    MESA_LIST_FOREACH(it, &vm->servers) {
        struct script_server *s = MESA_CONTAINER_OF(it, struct script_server, link);
        mesa_server_metrics(s->server)->script_slow++;
    }
}

void mesa_guard_start(struct mesa_vm *vm)
{
    if (vm->script_time_ms == 0 || vm->guard != NULL)
        return;
    struct mesa_guard *g = calloc(1, sizeof *g);
    if (g == NULL)
        return;
    g->vm = vm;
    g->loop_thread = pthread_self();
    uv_mutex_init(&g->lock);
    uv_cond_init(&g->wake);
    vm->guard = g;
    guarded = vm;
    struct sigaction action = {.sa_handler = on_signal, .sa_flags = SA_RESTART};
    sigemptyset(&action.sa_mask);
    sigaction(GUARD_SIGNAL, &action, NULL);
    if (uv_thread_create(&g->thread, watch, g) == 0)
        return;
    mesa_log(MESA_LOG_WARN, "script", "limits.scriptTime has no effect: no thread");
    vm->guard = NULL;
    guarded = NULL;
    uv_cond_destroy(&g->wake);
    uv_mutex_destroy(&g->lock);
    free(g);
}

void mesa_guard_stop(struct mesa_vm *vm)
{
    struct mesa_guard *g = vm->guard;
    if (g == NULL)
        return;
    uv_mutex_lock(&g->lock);
    g->stopping = true;
    uv_cond_signal(&g->wake);
    uv_mutex_unlock(&g->lock);
    uv_thread_join(&g->thread);
    signal(GUARD_SIGNAL, SIG_IGN);
    guarded = NULL;
    vm->guard = NULL;
    uv_cond_destroy(&g->wake);
    uv_mutex_destroy(&g->lock);
    free(g->where);
    free(g);
}
