/* vm.c - the life of the Lua state: modules, main script, listening, reload, shutdown. */
#include <limits.h>
#include <luajit.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/log.h"
#include "io/httpc.h"
#include "io/tls_context.h"
#include "io/watch.h"
#include "script/bind_json.h"
#include "script/script.h"
#include "script/value.h"

const char *mesa_vm_library_version(void)
{
    return LUAJIT_VERSION;
}

/* -- errors and calls ----------------------------------------------------------------------------------------- */

/* Replaces the error value on top of `L` by text. */
static void error_to_text(lua_State *L)
{
    if (lua_isstring(L, -1))
        return;
    if (luaL_callmeta(L, -1, "__tostring") && lua_isstring(L, -1)) {
        lua_remove(L, -2);
        return;
    }
    lua_pushfstring(L, "(error object is a %s value)", luaL_typename(L, -1));
    lua_remove(L, -2);
}

void mesa_script_push_traceback(lua_State *L, lua_State *from, int level)
{
    size_t len;
    const char *text = lua_tolstring(from, -1, &len);
    lua_pushlstring(L, text, len); /* luaL_traceback would end it at a NUL */
    lua_pushliteral(L, "\n");
    luaL_traceback(L, from, NULL, level);
    lua_concat(L, 3);
}

void mesa_script_log_text(lua_State *L, const char *what)
{
    struct mesa_vm *vm = mesa_script_vm(L);
    struct mesa_span text;
    if (vm->exiting) { /* what it ended with was only to end it */
        mesa_script_unwound(vm);
        lua_pop(L, 1);
        return;
    }
    lua_pushstring(L, what);
    lua_insert(L, -2);
    lua_concat(L, 2);
    text.p = lua_tolstring(L, -1, &text.len);
    mesa_log_limited(MESA_LOG_ERROR, "script", "SCRIPT", text);
    lua_pop(L, 1);
}

void mesa_script_log_error(struct mesa_vm *vm, lua_State *co, const char *what)
{
    error_to_text(co);
    mesa_script_push_traceback(vm->L, co, 0);
    mesa_script_log_text(vm->L, what);
    lua_pop(co, 1);
}

/* An error outside of any protected call: there was no memory for what has to be. LuaJIT ends the process. */
static int on_panic(lua_State *L)
{
    mesa_log(MESA_LOG_ERROR, "script", "unprotected error: %s", lua_tostring(L, -1));
    return 0;
}

/* An error object of lua/mesa/errors.lua has the traceback of the script, or wants none. */
static int add_traceback(lua_State *L)
{
    if (lua_istable(L, 1)) {
        lua_getfield(L, 1, "traceback");
        if (!lua_isstring(L, -1))
            lua_getfield(L, 1, "message");
        if (lua_isstring(L, -1))
            return 1;
        lua_settop(L, 1);
    }
    error_to_text(L);
    mesa_script_push_traceback(L, L, 1);
    return 1;
}

enum mesa_status mesa_script_call(struct mesa_vm *vm, int nargs, int nresults)
{
    lua_State *L = vm->L;
    int base = lua_gettop(L) - nargs;
    lua_pushcfunction(L, add_traceback);
    lua_insert(L, base);
    int rc = lua_pcall(L, nargs, nresults, base);
    if (vm->hooked)
        mesa_script_unwound(vm);
    lua_remove(L, base);
    if (rc == 0)
        return MESA_OK;
    mesa_script_log_text(L, "");
    return MESA_EINVAL;
}

void mesa_script_check_open(lua_State *L, const char *what)
{
    if (mesa_script_vm(L)->closing)
        luaL_error(L, "%s: closed, the program is ending", what);
}

void mesa_script_push_program(struct mesa_vm *vm, lua_State *L, const char *name)
{
    lua_rawgeti(L, LUA_REGISTRYINDEX, vm->program_ref);
    lua_getfield(L, -1, name);
    lua_remove(L, -2);
}

/* -- creation ------------------------------------------------------------------------------------------------- */

static char *dir_of(const char *path)
{
    char *slash, *copy = strdup(path);
    if (copy != NULL && (slash = strrchr(copy, '/')) != NULL)
        slash[slash == copy ? 1 : 0] = '\0';
    return copy;
}

static char *resolved(const char *path)
{
    char *real = realpath(path, NULL);
    return real != NULL ? real : strdup(path);
}

char *mesa_vm_library_dir(void)
{
    static const char *const candidates[] = {"%s/../lua", "%s/../../lua", "%s/../share/lua/5.1"};
    char exe[PATH_MAX], path[PATH_MAX + 64], probe[PATH_MAX + 128];
    ssize_t n = readlink("/proc/self/exe", exe, sizeof exe - 1);
    if (n <= 0)
        return NULL;
    exe[n] = '\0';
    char *dir = dir_of(exe), *found = NULL;
    for (size_t i = 0; dir != NULL && found == NULL && i < sizeof candidates / sizeof candidates[0];
         i++) {
        snprintf(path, sizeof path, candidates[i], dir);
        snprintf(probe, sizeof probe, "%s/mesa/init.lua", path);
        if (access(probe, R_OK) == 0)
            found = resolved(path);
    }
    free(dir);
    return found;
}

static int open_core(lua_State *L)
{
    lua_newtable(L);
    mesa_bind_task(L);
    mesa_bind_wait(L);
    mesa_bind_server(L);
    mesa_bind_client(L);
    mesa_bind_http(L);
    mesa_bind_request(L);
    mesa_raw_open(mesa_script_vm(L));
    mesa_bind_message(L);
    mesa_bind_quick_send(L);
    mesa_bind_system(L);
    mesa_bind_shutdown(L);
    mesa_bind_redis(L);
    mesa_bind_user_id(L);
    mesa_bind_await(L);
    mesa_bind_wsclient(L);
    mesa_bind_counts(L);
    mesa_bind_finalizer(L);
    mesa_bind_paths(L);
    mesa_bind_memory(L);
    mesa_bind_json(L);
    lua_setfield(L, -2, "json");
    return 1;
}

static void preload(lua_State *L, const char *name, lua_CFunction open)
{
    lua_getglobal(L, "package");
    lua_getfield(L, -1, "preload");
    lua_pushcfunction(L, open);
    lua_setfield(L, -2, name);
    lua_pop(L, 2);
}

static void set_arguments(struct mesa_vm *vm)
{
    lua_State *L = vm->L;
    lua_createtable(L, vm->opts.argc, 1);
    for (int i = 0; i < vm->opts.argc; i++) {
        lua_pushstring(L, vm->opts.argv[i]);
        lua_rawseti(L, -2, i);
    }
    lua_setglobal(L, "arg");
}

static int open_program(lua_State *L)
{
    struct mesa_vm *vm = lua_touserdata(L, 1);
    luaL_openlibs(L);
    mesa_value_open(L);
    mesa_value_names_init(L, &vm->names);
    mesa_script_set_paths(vm);
    set_arguments(vm);
    preload(L, "mesa.core", open_core);
    preload(L, "luv", mesa_script_open_luv);
    lua_getglobal(L, "require");
    lua_pushliteral(L, "mesa.program");
    lua_call(L, 1, 1);
    vm->program_ref = luaL_ref(L, LUA_REGISTRYINDEX);
    return 0;
}

enum mesa_status mesa_vm_new(struct mesa_vm **out, struct mesa_loop *loop,
                             struct mesa_transport *transport, const struct mesa_vm_options *opts)
{
    enum mesa_status rc = MESA_ENOMEM;
    struct mesa_vm *vm = calloc(1, sizeof *vm);
    if (vm == NULL)
        return rc;
    vm->loop = loop;
    vm->transport = transport;
    vm->opts = *opts;
    vm->script_time_ms = MESA_SCRIPT_TIME_MS;
    bool has_memory = mesa_memory_init(&vm->memory) == MESA_OK;
    mesa_pool_init(&vm->pool);
    for (int i = 0; i < MESA_SCRATCH_DEPTH; i++)
        mesa_buf_init(&vm->scratch[i]);
    vm->scratch_free = vm->scratch;
    mesa_buf_init(&vm->quick_data);
    mesa_list_init(&vm->servers);
    mesa_list_init(&vm->idle_tasks);
    mesa_list_init(&vm->waiting_tasks);
    mesa_list_init(&vm->timers);
    mesa_list_init(&vm->left);
    mesa_list_init(&vm->redis);
    mesa_list_init(&vm->redis_turn.link);
    mesa_list_init(&vm->ws_clients);
    mesa_list_init(&vm->waiters);
    mesa_script_shutdown_init(vm);

    vm->app_dir = mesa_script_dir(opts->script);
    vm->lib_dir = mesa_vm_library_dir();
    vm->L = lua_newstate(mesa_memory_allocate, vm); /* NULL also from a LuaJIT without GC64 */
    if (!has_memory || vm->app_dir == NULL || vm->L == NULL)
        goto fail;
    lua_atpanic(vm->L, on_panic);
    if (vm->lib_dir == NULL) {
        mesa_log(
            MESA_LOG_ERROR, "script",
            "the Lua modules of mesa were found neither beside the program nor in ../share/lua/5.1");
        rc = MESA_ENOTFOUND;
        goto fail;
    }
    lua_pushcfunction(vm->L, open_program);
    lua_pushlightuserdata(vm->L, vm);
    rc = mesa_script_call(vm, 1, 0);
    if (rc != MESA_OK)
        goto fail;
    *out = vm;
    return MESA_OK;

fail:
    mesa_vm_free(vm);
    return rc;
}

int mesa_vm_free(struct mesa_vm *vm)
{
    if (vm == NULL)
        return 0;
    vm->closing = true;
    mesa_guard_stop(vm);
    mesa_loop_cancel(vm->loop, &vm->end_timer);
    mesa_watch_free(vm->watch);
    vm->watch = NULL;
    MESA_LIST_FOREACH_SAFE(it, next, &vm->servers) {
        struct script_server *s = MESA_CONTAINER_OF(it, struct script_server, link);
        mesa_list_remove(it);
        mesa_server_free(s->server);
        s->server = NULL;
    }
    if (vm->L != NULL) {
        if (vm->program_ref != 0)
            mesa_script_close_luv(vm);
        mesa_script_close_ws_clients(vm);
        mesa_task_close_timers(vm);
        mesa_task_close_all(vm);
        mesa_script_close_redis(vm);
        mesa_script_finish_finalizers(vm);
        lua_close(vm->L);
    }
    mesa_script_free_waits(vm);
    mesa_httpc_free(vm->httpc);
    mesa_pool_deinit(&vm->pool);
    mesa_memory_deinit(&vm->memory);
    for (int i = 0; i < MESA_SCRATCH_DEPTH; i++)
        mesa_buf_deinit(&vm->scratch[i]);
    mesa_buf_deinit(&vm->quick_data);
    free(vm->app_dir);
    free(vm->lib_dir);
    int status = mesa_script_exit_status(vm);
    free(vm);
    return status;
}

/* -- the program ---------------------------------------------------------------------------------------------- */

enum mesa_status mesa_vm_load(struct mesa_vm *vm)
{
    mesa_script_push_program(vm, vm->L, "load");
    lua_pushstring(vm->L, vm->opts.script);
    return mesa_script_call(vm, 1, 0);
}

static void log_admin(const struct mesa_server *server)
{
    const char *host = mesa_server_config(server)->admin.host;
    if (host == NULL)
        host = "127.0.0.1";
    mesa_log(MESA_LOG_INFO, "server",
             strchr(host, ':') != NULL ? "admin endpoint on http://[%s]:%u/"
                                       : "admin endpoint on http://%s:%u/",
             host, mesa_server_admin_port(server));
}

/* Where it can be reached, and what it has loaded. */
static void log_listening(struct script_server *s)
{
    const struct mesa_config *cfg = mesa_server_config(s->server);
    const char *scheme = cfg->tls.cert != NULL ? "wss" : "ws";
    const char *path = cfg->path != NULL ? cfg->path : "/";
    const char *host = cfg->host != NULL ? cfg->host : "localhost";
    const char *everywhere = cfg->host != NULL ? "" : " (every address)";
    lua_State *L = s->vm->L;
    unsigned port = mesa_server_port(s->server);

    mesa_script_push_program(s->vm, L, "describe");
    lua_rawgeti(L, LUA_REGISTRYINDEX, s->table_ref);
    if (mesa_script_call(s->vm, 1, 1) != MESA_OK)
        lua_pushliteral(L, "");
    const char *loaded = lua_tostring(L, -1);
    if (mesa_server_admin_port(s->server) != 0) /* first: who waits for "listening" has read it */
        log_admin(s->server);
    if (mesa_server_is_guest(s->server))
        mesa_log(MESA_LOG_INFO, "server", "serving %s on port %u%s", path, port, loaded);
    else if (strncmp(host, "unix:", 5) == 0)
        mesa_log(MESA_LOG_INFO, "server", "mesa-lua " MESA_VERSION " listening on %s%s", host,
                 loaded);
    else
        mesa_log(MESA_LOG_INFO, "server",
                 strchr(host, ':') != NULL
                     ? "mesa-lua " MESA_VERSION " listening on %s://[%s]:%u%s%s%s"
                     : "mesa-lua " MESA_VERSION " listening on %s://%s:%u%s%s%s",
                 scheme, host, port, path, everywhere, loaded);
    lua_pop(L, 1);
}

enum mesa_status mesa_vm_print_check(struct mesa_vm *vm)
{
    mesa_script_push_program(vm, vm->L, "print_check");
    lua_pushstring(vm->L, vm->opts.script);
    lua_pushinteger(vm->L, vm->opts.port);
    return mesa_script_call(vm, 2, 0);
}

enum mesa_status mesa_vm_listen(struct mesa_vm *vm)
{
    char err[MESA_TLS_ERROR_BYTES];
    vm->listening = true;
    mesa_guard_start(vm);
    mesa_script_watch_certificates(vm); /* before they are read */
    MESA_LIST_FOREACH(it, &vm->servers) {
        struct script_server *s = MESA_CONTAINER_OF(it, struct script_server, link);
        if (mesa_server_is_closing(s->server))
            continue; /* a script has closed it before it listened */
        enum mesa_status rc = mesa_server_listen(s->server, err, sizeof err);
        if (rc != MESA_OK) {
            mesa_log(MESA_LOG_ERROR, "server", "cannot listen: %s", err);
            return rc;
        }
        log_listening(s);
    }
    MESA_LIST_FOREACH_SAFE(it, next, &vm->servers) {
        struct script_server *s = MESA_CONTAINER_OF(it, struct script_server, link);
        if (mesa_server_is_closing(s->server))
            continue;
        struct mesa_task *t = mesa_task_begin(vm);
        if (t == NULL)
            return MESA_ENOMEM;
        mesa_script_push_event(s, mesa_task_state(t), MESA_ON_LISTENING);
        lua_pushinteger(mesa_task_state(t), mesa_server_port(s->server));
        lua_pushinteger(mesa_task_state(t), mesa_server_admin_port(s->server));
        mesa_task_run(t, 2, NULL, NULL);
    }
    return MESA_OK;
}

bool mesa_script_reload(struct mesa_vm *vm, const char *reason, struct mesa_buf *report)
{
    lua_State *L = vm->L;
    if (vm->shutting_down)
        return false;
    mesa_script_push_program(vm, L, "reload");
    lua_pushstring(L, reason);
    if (mesa_script_call(vm, 1, 2) != MESA_OK) {
        mesa_script_reload_certificates(vm, report);
        return false;
    }
    bool ok = lua_toboolean(L, -2);
    if (report != NULL)
        mesa_buf_printf(report, "%s\n", lua_tostring(L, -1));
    lua_pop(L, 2);
    return mesa_script_reload_certificates(vm, report) && ok;
}

void mesa_vm_reload(struct mesa_vm *vm, const char *reason)
{
    mesa_script_reload(vm, reason, NULL);
}
