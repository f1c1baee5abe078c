/* paths.c - where scripts are.
 *
 * Paths keep the names they were given: a folder that is a symbolic link stays one, so that it is
 * followed anew whenever a file is opened, and a release that the link is turned to is found.
 */
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "script/script.h"

enum { PATHS_LINKS_MAX = 40 }; /* as the kernel */

/* The working directory by the name it was entered with, if the shell has told. */
static char *working_dir(void)
{
    const char *logical = getenv("PWD");
    struct stat named, here;
    if (logical != NULL && logical[0] == '/' && stat(logical, &named) == 0 &&
        stat(".", &here) == 0 && named.st_dev == here.st_dev && named.st_ino == here.st_ino)
        return strdup(logical);
    return getcwd(NULL, 0);
}

/* Takes out "//" and "/./". Not "..", which behind a link means another folder. */
static void tidy(char *path)
{
    char *to = path;
    for (char *from = path; *from != '\0';) {
        if (from[0] == '/' && from[1] == '/')
            from++;
        else if (from[0] == '/' && from[1] == '.' && (from[2] == '/' || from[2] == '\0'))
            from += 2;
        else
            *to++ = *from++;
    }
    if (to == path)
        *to++ = '/';
    *to = '\0';
}

/* base/path, or path alone when it is absolute. NULL: no memory. */
static char *join(const char *base, const char *path)
{
    char *joined;
    if (path[0] == '/') {
        joined = strdup(path);
    } else {
        size_t bytes = strlen(base) + strlen(path) + 2;
        joined = malloc(bytes);
        if (joined != NULL)
            snprintf(joined, bytes, "%s/%s", base, path);
    }
    if (joined != NULL)
        tidy(joined);
    return joined;
}

char *mesa_script_absolute(const char *path)
{
    char *dir = working_dir();
    char *absolute = dir != NULL ? join(dir, path) : NULL;
    free(dir);
    return absolute;
}

/* Cuts the last component of an absolute path. */
static void to_dir(char *path)
{
    char *slash = strrchr(path, '/');
    slash[slash == path ? 1 : 0] = '\0';
}

char *mesa_script_dir(const char *script)
{
    char *path = mesa_script_absolute(script), target[PATH_MAX];
    for (int links = 0; path != NULL && links < PATHS_LINKS_MAX; links++) {
        ssize_t n = readlink(path, target, sizeof target - 1);
        if (n < 0)
            break;
        target[n] = '\0';
        to_dir(path);
        char *next = join(path, target);
        free(path);
        path = next;
    }
    if (path != NULL)
        to_dir(path);
    return path;
}

/* core.absolute(path) -> the absolute path, links and all */
static int l_absolute(lua_State *L)
{
    char *path = mesa_script_absolute(luaL_checkstring(L, 1));
    if (path == NULL)
        return luaL_error(L, "the working directory is gone");
    lua_pushstring(L, path);
    free(path);
    return 1;
}

/* core.file_state(path) -> which file it is, when it was written | nil: there is none */
static int l_file_state(lua_State *L)
{
    struct stat st;
    char text[64];
    if (stat(luaL_checkstring(L, 1), &st) != 0 || !S_ISREG(st.st_mode))
        return 0;
    snprintf(text, sizeof text, "%llx:%llx", (unsigned long long)st.st_dev,
             (unsigned long long)st.st_ino);
    lua_pushstring(L, text);
    snprintf(text, sizeof text, "%lld.%09ld", (long long)st.st_mtim.tv_sec, st.st_mtim.tv_nsec);
    lua_pushstring(L, text);
    return 2;
}

/* core.follow_script(path) -> the folder before, the folder now | nil: it is the same. The main
 * script, a link, may have been turned to another folder. */
static int l_follow_script(lua_State *L)
{
    struct mesa_vm *vm = mesa_script_vm(L);
    const char *script = luaL_checkstring(L, 1);
    lua_pushstring(L, vm->app_dir);
    char *dir = mesa_script_dir(script);
    if (dir == NULL || strcmp(dir, vm->app_dir) == 0) {
        free(dir);
        return 0;
    }
    free(vm->app_dir);
    vm->app_dir = dir;
    lua_pushstring(L, dir);
    return 2;
}

/* core.lib_dir() -> the folder of mesa's own modules */
static int l_lib_dir(lua_State *L)
{
    lua_pushstring(L, mesa_script_vm(L)->lib_dir);
    return 1;
}

/* A loader as in package.loaders: mesa's own modules. It comes before package.path, whose templates
 * cannot hold every folder's name. */
static int l_load_own(lua_State *L)
{
    static const char *const suffixes[] = {".lua", "/init.lua"};
    const char *dir = mesa_script_vm(L)->lib_dir;
    const char *file = luaL_gsub(L, luaL_checkstring(L, 1), ".", "/");
    lua_pushliteral(L, "");
    for (size_t i = 0; i < sizeof suffixes / sizeof suffixes[0]; i++) {
        const char *path = lua_pushfstring(L, "%s/%s%s", dir, file, suffixes[i]);
        if (access(path, R_OK) == 0) {
            if (luaL_loadfile(L, path) != 0)
                return lua_error(L);
            return 1;
        }
        lua_pushfstring(L, "\n\tno file '%s'", path);
        lua_remove(L, -2);
        lua_concat(L, 2);
    }
    return 1;
}

static void add_loader(lua_State *L)
{
    lua_getfield(L, -1, "loaders");
    for (int i = (int)lua_objlen(L, -1); i > 1; i--) { /* the first looks into package.preload */
        lua_rawgeti(L, -1, i);
        lua_rawseti(L, -2, i + 1);
    }
    lua_pushcfunction(L, l_load_own);
    lua_rawseti(L, -2, 2);
    lua_pop(L, 1);
}

/* Puts "<app_dir>TEMPLATE" for each template before a field of package. */
static void prepend(lua_State *L, const char *field, const char *app_dir, const char *const *names)
{
    lua_getfield(L, -1, field);
    for (; *names != NULL; names++) {
        lua_pushfstring(L, "%s%s;", app_dir, *names);
        lua_insert(L, -2);
        lua_concat(L, 2);
    }
    lua_setfield(L, -2, field);
}

void mesa_script_set_paths(struct mesa_vm *vm)
{
    static const char *const lua_files[] = {"/?/init.lua", "/?.lua", NULL};
    static const char *const c_files[] = {"/?.so", NULL};
    lua_State *L = vm->L;
    lua_getglobal(L, "package");
    add_loader(L);
    if (strpbrk(vm->app_dir, ";?") == NULL) { /* else lua/mesa/finder.lua looks there */
        prepend(L, "path", vm->app_dir, lua_files);
        prepend(L, "cpath", vm->app_dir, c_files);
    }
    lua_pop(L, 1);
}

void mesa_bind_paths(lua_State *L)
{
    static const luaL_Reg functions[] = {
        {"absolute", l_absolute},
        {"file_state", l_file_state},
        {"follow_script", l_follow_script},
        {"lib_dir", l_lib_dir},
        {NULL, NULL},
    };
    luaL_register(L, NULL, functions);
}
