/* bind_system.c - log, clock, watched files, exit: what the Lua modules need of the process. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/log.h"
#include "io/watch.h"
#include "script/script.h"

/* core.log(level, area, text): level 1 debug … 4 error. */
static int l_log(lua_State *L)
{
    int level = luaL_checkint(L, 1);
    luaL_argcheck(L, level >= 1 && level <= 4, 1, "a level from 1 to 4 expected");
    struct mesa_span text;
    text.p = luaL_checklstring(L, 3, &text.len);
    mesa_log_write((enum mesa_log_level)(level - 1), luaL_checkstring(L, 2), text);
    return 0;
}

/* core.log_limited(level, area, key, text): see mesa_log_limited. */
static int l_log_limited(lua_State *L)
{
    int level = luaL_checkint(L, 1);
    luaL_argcheck(L, level >= 1 && level <= 4, 1, "a level from 1 to 4 expected");
    struct mesa_span text;
    text.p = luaL_checklstring(L, 4, &text.len);
    mesa_log_limited((enum mesa_log_level)(level - 1), luaL_checkstring(L, 2),
                     luaL_checkstring(L, 3), text);
    return 0;
}

/* core.log_enabled(level) -> boolean */
static int l_log_enabled(lua_State *L)
{
    lua_pushboolean(L, mesa_log_enabled((enum mesa_log_level)(luaL_checkint(L, 1) - 1)));
    return 1;
}

/* core.now() -> monotonic milliseconds with fractions */
static int l_now(lua_State *L)
{
    (void)L;
    lua_pushnumber(L, (lua_Number)uv_hrtime() / 1e6);
    return 1;
}

/* core.path_problem(path, "file" | "folder") -> why it cannot be read | nil */
static int l_path_problem(lua_State *L)
{
    static const char *const kinds[] = {"file", "folder", NULL};
    const char *path = luaL_checkstring(L, 1);
    bool folder = luaL_checkoption(L, 2, NULL, kinds) == 1;
    struct stat st;
    bool there = stat(path, &st) == 0, is_folder = there && S_ISDIR(st.st_mode);
    if (!there || (is_folder == folder && access(path, folder ? R_OK | X_OK : R_OK) != 0))
        lua_pushstring(L, strerror(errno));
    else if (folder && !is_folder)
        lua_pushliteral(L, "it is no folder");
    else if (!folder && is_folder)
        lua_pushliteral(L, "it is a folder");
    else
        lua_pushnil(L);
    return 1;
}

static void on_files_changed(void *ctx, const char *const *paths, size_t count)
{
    struct mesa_vm *vm = ctx;
    int scripts = 0;
    if (vm->shutting_down)
        return;
    mesa_script_push_program(vm, vm->L, "files_changed");
    lua_createtable(vm->L, (int)count, 0);
    for (size_t i = 0; i < count; i++) {
        if (mesa_script_is_certificate(vm, paths[i]))
            continue;
        lua_pushstring(vm->L, paths[i]);
        lua_rawseti(vm->L, -2, ++scripts);
    }
    if (scripts > 0)
        mesa_script_call(vm, 1, 0);
    else
        lua_pop(vm->L, 2);
    mesa_script_certificates_changed(vm, paths, count);
}

void mesa_script_watch(struct mesa_vm *vm, const char *path)
{
    enum mesa_status rc = MESA_OK;
    if (!vm->opts.watch || vm->closing)
        return;
    if (vm->watch == NULL)
        rc = mesa_watch_new(&vm->watch, vm->loop, MESA_WATCH_DEBOUNCE_MS, on_files_changed, vm);
    if (rc == MESA_OK)
        rc = mesa_watch_add(vm->watch, path);
    if (rc != MESA_OK)
        mesa_log(MESA_LOG_WARN, "reload", "%s is not watched: %s", path, mesa_status_text(rc));
}

/* core.watch(path): reports changes of the file from now on; without effect under --no-watch. */
static int l_watch(lua_State *L)
{
    mesa_script_watch(mesa_script_vm(L), luaL_checkstring(L, 1));
    return 0;
}

/* core.unwatch(path) */
static int l_unwatch(lua_State *L)
{
    struct mesa_vm *vm = mesa_script_vm(L);
    const char *path = luaL_checkstring(L, 1);
    if (vm->watch != NULL)
        mesa_watch_remove(vm->watch, path);
    return 0;
}

/* core.watch_busy(path) -> whether somebody is writing the watched file */
static int l_watch_busy(lua_State *L)
{
    struct mesa_vm *vm = mesa_script_vm(L);
    const char *path = luaL_checkstring(L, 1);
    lua_pushboolean(L, vm->watch != NULL && mesa_watch_busy(vm->watch, path));
    return 1;
}

/* core.call_now(fn, handler, ...): as xpcall, and nothing that it calls can wait. */
static int l_call_now(lua_State *L)
{
    luaL_checktype(L, 1, LUA_TFUNCTION);
    luaL_checktype(L, 2, LUA_TFUNCTION);
    lua_pushvalue(L, 2);
    lua_insert(L, 1);
    lua_remove(L, 3); /* handler, fn, arguments */
    int rc = lua_pcall(L, lua_gettop(L) - 2, LUA_MULTRET, 1);
    lua_pushboolean(L, rc == 0);
    lua_replace(L, 1);
    return lua_gettop(L);
}

/* core.app_dir() -> absolute folder of the main script */
static int l_app_dir(lua_State *L)
{
    lua_pushstring(L, mesa_script_vm(L)->app_dir);
    return 1;
}

/* core.random(count) -> that many bytes nobody can guess */
static int l_random(lua_State *L)
{
    unsigned char bytes[256];
    int count = luaL_checkint(L, 1);
    luaL_argcheck(L, count >= 0 && count <= (int)sizeof bytes, 1, "0 to 256 expected");
    if (getrandom(bytes, (size_t)count, 0) != count)
        return luaL_error(L, "the system has no random bytes");
    lua_pushlstring(L, (const char *)bytes, (size_t)count);
    return 1;
}

void mesa_bind_system(lua_State *L)
{
    static const luaL_Reg functions[] = {
        {"log", l_log},
        {"log_limited", l_log_limited},
        {"log_enabled", l_log_enabled},
        {"now", l_now},
        {"path_problem", l_path_problem},
        {"watch", l_watch},
        {"unwatch", l_unwatch},
        {"watch_busy", l_watch_busy},
        {"call_now", l_call_now},
        {"app_dir", l_app_dir},
        {"random", l_random},
        {NULL, NULL},
    };
    luaL_register(L, NULL, functions);
    lua_pushliteral(L, MESA_VERSION);
    lua_setfield(L, -2, "version");
}
