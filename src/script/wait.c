/* wait.c - where a handler may wait, and what a script is told where it may not.
 *
 * A handler waits by suspending its coroutine. Lua cannot suspend a function that C code has called and waits for (a
 * callback of string.gsub, a module that `require` runs), so that is asked before anything begins.
 */
#include <stdio.h>
#include <string.h>

#include "script/script.h"

/* Whether the function of `ar` is part of mesa's own Lua. */
static bool is_own(const struct mesa_vm *vm, const lua_Debug *ar)
{
    size_t n = strlen(vm->lib_dir);
    return ar->source[0] == '@' && strncmp(ar->source + 1, vm->lib_dir, n) == 0 &&
           strncmp(ar->source + 1 + n, "/mesa/", 6) == 0;
}

void mesa_script_push_where(lua_State *L)
{
    const struct mesa_vm *vm = mesa_script_vm(L);
    lua_Debug ar;
    for (int level = 1; lua_getstack(L, level, &ar); level++) {
        lua_getinfo(L, "Sl", &ar);
        if (ar.currentline > 0 && !is_own(vm, &ar)) {
            lua_pushfstring(L, "%s:%d: ", ar.short_src, ar.currentline);
            return;
        }
    }
    lua_pushliteral(L, "");
}

/* Where a function that cannot wait is called from: the innermost C function or script that is being loaded. */
struct obstacle {
    bool loading;
    char name[LUA_IDSIZE]; /* of the script or the function; "" when it has none */
};

/* Copies the name of the function on top of the stack in the table of globals or of a module: "string.gsub". Takes the
 * function from the stack. */
static bool find_global_name(lua_State *L, char *name, size_t size)
{
    int fn = lua_gettop(L);
    bool found = false;
    lua_getfield(L, LUA_REGISTRYINDEX, "_LOADED");
    lua_pushnil(L);
    while (!found && lua_next(L, fn + 1)) {
        if (lua_type(L, fn + 2) == LUA_TSTRING && lua_istable(L, fn + 3)) {
            const char *module = lua_tostring(L, fn + 2);
            bool global = strcmp(module, "_G") == 0;
            lua_pushnil(L);
            while (!found && lua_next(L, fn + 3)) {
                found = lua_type(L, fn + 4) == LUA_TSTRING && lua_rawequal(L, fn + 5, fn);
                if (found)
                    snprintf(name, size, "%s%s%s", global ? "" : module, global ? "" : ".",
                             lua_tostring(L, fn + 4));
                lua_settop(L, fn + 4);
            }
        }
        lua_settop(L, fn + 2);
    }
    lua_settop(L, fn - 1);
    return found;
}

/* LuaJIT's own pcall and xpcall are no obstacle, and have no C function. */
static struct obstacle find_obstacle(lua_State *L)
{
    struct obstacle o = {.loading = false};
    lua_Debug ar;
    for (int level = 1; lua_getstack(L, level, &ar); level++) {
        lua_getinfo(L, "Snf", &ar);
        if (lua_tocfunction(L, -1) != NULL) {
            if (!find_global_name(L, o.name, sizeof o.name) && ar.name != NULL)
                snprintf(o.name, sizeof o.name, "%s", ar.name);
            break;
        }
        lua_pop(L, 1);
        if (strcmp(ar.what, "main") == 0) {
            o.loading = true;
            memcpy(o.name, ar.short_src, sizeof o.name);
            break;
        }
    }
    return o;
}

static bool is_own_coroutine(lua_State *L, const struct mesa_task *t)
{
    bool main = lua_pushthread(L);
    lua_pop(L, 1);
    return !main && (t == NULL || mesa_task_state(t) != L);
}

/* Pushes why the function that runs on `L` cannot wait; `who` is what waits. */
static void push_refusal(lua_State *L, const struct mesa_task *t, const char *who)
{
    const struct obstacle o = find_obstacle(L);
    if (o.loading)
        lua_pushfstring(L,
                        "%s cannot wait while a script loads (%s): call it in a handler, such as "
                        "the one of server:on(\"listening\", ...), or in a function that is given "
                        "to Mesa.setTimeout",
                        who, o.name);
    else if (is_own_coroutine(L, t))
        lua_pushfstring(L,
                        "%s can only wait inside a handler or a timer, not inside a coroutine of "
                        "your own: wait in the handler, and resume the coroutine with the result",
                        who);
    else
        lua_pushfstring(L,
                        "%s cannot wait %s%s: Lua cannot suspend a function that C code calls "
                        "(callbacks of string.gsub and table.sort, modules that require runs, "
                        "message handlers of xpcall); wait before or after it",
                        who, o.name[0] != '\0' ? "inside " : "here", o.name);
}

struct mesa_task *mesa_task_check(lua_State *L, const char *who)
{
    struct mesa_task *t = mesa_script_vm(L)->current_task;
    if (t != NULL && mesa_task_state(t) == L && lua_isyieldable(L))
        return t;
    luaL_checkstack(L, 12, NULL);
    mesa_script_push_where(L);
    push_refusal(L, t, who);
    lua_concat(L, 2);
    lua_error(L);
    return NULL;
}

/* core.check_wait(who): raises, naming `who`, when the caller cannot wait */
static int l_check_wait(lua_State *L)
{
    mesa_task_check(L, luaL_checkstring(L, 1));
    return 0;
}

/* core.in_handler() -> whether the caller runs directly in a handler's coroutine */
static int l_in_handler(lua_State *L)
{
    const struct mesa_task *t = mesa_script_vm(L)->current_task;
    lua_pushboolean(L, t != NULL && mesa_task_state(t) == L);
    return 1;
}

/* -- coroutines of handlers, which scripts get hold of by coroutine.running ------------------------------------ */

/* core.keep_coroutine(co): when it is a handler's, no other handler runs in it later: a script may know this one by it */
static int l_keep_coroutine(lua_State *L)
{
    luaL_checktype(L, 1, LUA_TTHREAD);
    struct mesa_task *t = mesa_task_of(L, 1);
    if (t != NULL)
        mesa_task_keep(t);
    return 0;
}

/* core.is_handler(co) -> whether the coroutine is a handler's, which only the core resumes */
static int l_is_handler(lua_State *L)
{
    lua_pushboolean(L, lua_isthread(L, 1) && mesa_task_of(L, 1) != NULL);
    return 1;
}

void mesa_bind_wait(lua_State *L)
{
    static const luaL_Reg functions[] = {
        {"check_wait", l_check_wait},
        {"in_handler", l_in_handler},
        {"keep_coroutine", l_keep_coroutine},
        {"is_handler", l_is_handler},
        {NULL, NULL},
    };
    luaL_register(L, NULL, functions);
}
