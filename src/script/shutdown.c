/* shutdown.c - how the program ends: on a signal, or by os.exit.
 *
 * Scripts have their say (beforeExit, portals that leave), then every server closes over the drain time.
 * Neither is waited for beyond a time that is counted from the signal, so that the process ends within
 * the drain time and five seconds whatever scripts, peers and Redis do. Nothing here needs Lua to go on.
 */
#include <signal.h>

#include "base/log.h"
#include "io/deadline.h"
#include "script/script.h"

enum {
    /* Behind the drain time, from the signal on: */
    SCRIPTS_MS = 3000, /* until when scripts may take part */
    CLOSE_MS = 3800,   /* until when peers and Redis are waited for */
    END_MS = 4900,     /* until when the process is there: freeing takes time, too */
    /* From os.exit on: */
    EXIT_CLOSE_MS = 2000,
    EXIT_END_MS = 3000,
    LOOK_MS = 10, /* between looks at whether Redis has answered */
};

/* -- ending the loop -- */

static void wait_until(struct mesa_vm *vm, uint64_t at_ms)
{
    uint64_t now_ms = mesa_loop_now(vm->loop);
    mesa_loop_arm(vm->loop, &vm->end_timer, at_ms > now_ms ? at_ms - now_ms : 0);
}

static bool is_closed(const struct mesa_vm *vm)
{
    return mesa_list_empty(&vm->servers) && mesa_list_empty(&vm->ws_clients);
}

static void on_end_timer(struct mesa_timer *t)
{
    struct mesa_vm *vm = MESA_CONTAINER_OF(t, struct mesa_vm, end_timer);
    uint64_t now_ms = mesa_loop_now(vm->loop);
    if (!vm->leaving) {
        mesa_log(MESA_LOG_WARN, "server",
                 "beforeExit or a portal has not come to its end in time: closing without it");
        vm->forced = true;
        mesa_script_finish_shutdown(vm);
    } else if (is_closed(vm) && !mesa_script_redis_is_busy(vm)) {
        mesa_loop_stop(vm->loop);
    } else if (now_ms >= vm->close_until_ms) {
        mesa_log(MESA_LOG_WARN, "server", "not everything could be closed in time: ending");
        mesa_loop_stop(vm->loop);
    } else if (is_closed(vm)) {
        wait_until(vm, now_ms + LOOK_MS);
    } else {
        wait_until(vm, vm->close_until_ms);
    }
}

void mesa_script_stop_when_closed(struct mesa_vm *vm)
{
    if (vm->leaving && is_closed(vm))
        wait_until(vm, 0);
}

/* Closes what there is, the clients of servers over `drain_ms`. */
static void leave(struct mesa_vm *vm, uint32_t drain_ms)
{
    vm->leaving = true;
    MESA_LIST_FOREACH_SAFE(it, next, &vm->servers) {
        struct script_server *s = MESA_CONTAINER_OF(it, struct script_server, link);
        mesa_server_close(s->server, 1001, "server going away", drain_ms);
    }
    mesa_script_leave_servers(vm);
    wait_until(vm, is_closed(vm) ? 0 : vm->close_until_ms);
}

void mesa_script_shutdown_init(struct mesa_vm *vm)
{
    mesa_timer_init(&vm->end_timer, on_end_timer);
}

/* -- a signal -- */

void mesa_vm_shutdown(struct mesa_vm *vm, int signum)
{
    if (vm->shutting_down)
        return;
    vm->shutting_down = true;
    uint64_t drained_ms = mesa_loop_now(vm->loop) + vm->opts.drain_ms;
    vm->close_until_ms = drained_ms + CLOSE_MS;
    vm->scripts_until_ms = drained_ms + SCRIPTS_MS;
    wait_until(vm, vm->scripts_until_ms);
    struct mesa_task *t = mesa_task_begin(vm);
    if (t == NULL) {
        mesa_script_finish_shutdown(vm);
        return;
    }
    mesa_task_share(t, MESA_SHARE_SHUTDOWN);
    mesa_script_push_program(vm, mesa_task_state(t), "shutdown");
    lua_pushstring(mesa_task_state(t), signum == SIGINT    ? "SIGINT"
                                       : signum == SIGTERM ? "SIGTERM"
                                                           : "exit");
    mesa_task_run(t, 1, NULL, NULL);
}

uint64_t mesa_vm_shutdown_ms(uint32_t drain_ms)
{
    return (uint64_t)drain_ms + END_MS;
}

/* What scripts have taken of the time is not there for draining. */
void mesa_script_finish_shutdown(struct mesa_vm *vm)
{
    if (vm->leaving)
        return;
    uint64_t now_ms = mesa_loop_now(vm->loop);
    uint64_t left_ms = vm->scripts_until_ms > now_ms ? vm->scripts_until_ms - now_ms : 0;
    leave(vm, left_ms < vm->opts.drain_ms ? (uint32_t)left_ms : vm->opts.drain_ms);
}

/* core.finish_shutdown(code): the scripts agree to end: 1001 to all, then the loop stops. */
static int l_finish_shutdown(lua_State *L)
{
    struct mesa_vm *vm = mesa_script_vm(L);
    if (!vm->leaving)
        vm->exit_code = (int)lua_tointeger(L, 1);
    mesa_script_finish_shutdown(vm);
    return 0;
}

/* core.leaving() -> whether the program has begun to close its connections */
static int l_leaving(lua_State *L)
{
    lua_pushboolean(L, mesa_script_vm(L)->leaving);
    return 1;
}

/* core.shutting_down() -> whether a signal has asked the program to end, or os.exit */
static int l_shutting_down(lua_State *L)
{
    lua_pushboolean(L, mesa_script_vm(L)->shutting_down);
    return 1;
}

/* -- os.exit -- */

/* Raises in whatever Lua goes on to run: what pcall has caught, and coroutines of the script's own. */
static void on_hook(lua_State *L, lua_Debug *ar)
{
    (void)ar;
    luaL_error(L, "the program has ended (os.exit)");
}

bool mesa_script_unwound(struct mesa_vm *vm)
{
    bool by_exit = lua_gethook(vm->L) == on_hook;
    if (vm->hooked && vm->current_task == NULL) {
        lua_sethook(vm->L, NULL, 0, 0);
        vm->hooked = false;
    }
    return by_exit;
}

/* core.exit(status): what was sent goes out, within two seconds; no script runs any more. */
static int l_exit(lua_State *L)
{
    struct mesa_vm *vm = mesa_script_vm(L);
    if (!vm->exiting) {
        vm->exit_code = (int)lua_tointeger(L, 1);
        vm->shutting_down = vm->exiting = true;
        vm->close_until_ms = mesa_loop_now(vm->loop) + EXIT_CLOSE_MS;
        mesa_deadline_set_status(vm->exit_code);
        mesa_deadline_arm(EXIT_END_MS);
        if (!vm->closing) /* else a finalizer calls it, or a listener of what is cut */
            leave(vm, 0);
    }
    vm->hooked = true;
    lua_sethook(vm->L, on_hook, LUA_MASKCOUNT | LUA_MASKCALL | LUA_MASKRET, 1);
    return luaL_error(L, "the program has ended (os.exit)");
}

int mesa_script_exit_status(const struct mesa_vm *vm)
{
    bool asked = vm->exiting || vm->exit_code != 0;
    return vm->forced && !asked ? MESA_VM_EXIT_FORCED : vm->exit_code;
}

/* core.hooked(): before the script sets a hook. LuaJIT has one for all coroutines. */
static int l_hooked(lua_State *L)
{
    mesa_script_vm(L)->hooked = true;
    return 0;
}

bool mesa_vm_exiting(const struct mesa_vm *vm)
{
    return vm->exiting;
}

void mesa_script_event_lost(struct mesa_vm *vm, struct mesa_span text)
{
    if (!vm->exiting)
        mesa_log_limited(MESA_LOG_ERROR, "script", "MEMORY", text);
}

void mesa_bind_shutdown(lua_State *L)
{
    static const luaL_Reg functions[] = {
        {"exit", l_exit},       {"finish_shutdown", l_finish_shutdown}, {"hooked", l_hooked},
        {"leaving", l_leaving}, {"shutting_down", l_shutting_down},     {NULL, NULL},
    };
    luaL_register(L, NULL, functions);
}
