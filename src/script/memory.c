/* memory.c - see memory.h. */
#include "script/memory.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/inline.h"
#include "base/log.h"
#include "script/script.h"

#define NEVER SIZE_MAX

/* Full collections above the bound take at most a part of the time. */
enum { IDLE_PER_COLLECTION = 20, IDLE_MIN_NS = 100000000, TELL_NS = 1000000000 };
/* Parts of the bound: garbage between two full collections, and what a callback may add. */
enum { GARBAGE_PART = 8, SLACK_PART = 16, SLACK_MIN = 256 * 1024 };
/* Handlers of mesa's own that one task may lose before it ends as a whole. */
enum { CAUGHT_MAX = 4 };
/* Most bytes of the Lua state for a byte of JSON: {}, is a table and its place in a list. */
enum { BYTES_PER_JSON_BYTE = 32 };

enum mesa_status mesa_memory_init(struct mesa_memory *m)
{
    *m = (struct mesa_memory){
        .alarm = NEVER, .bound = NEVER, .hard = NEVER, .admitted = NEVER, .limit = NEVER};
    m->spare = malloc(MESA_MEMORY_KEPT_BYTES);
    return m->spare != NULL ? MESA_OK : MESA_ENOMEM;
}

void mesa_memory_deinit(struct mesa_memory *m)
{
    free(m->spare);
    m->spare = NULL;
}

/* Whether the system has refused memory and there is not enough again. */
static bool is_short(const struct mesa_memory *m)
{
    return m->spare == NULL;
}

static size_t max_size(size_t a, size_t b)
{
    return a > b ? a : b;
}

static size_t min_size(size_t a, size_t b)
{
    return a < b ? a : b;
}

static size_t slack(const struct mesa_memory *m)
{
    return m->bound / SLACK_PART + SLACK_MIN;
}

/* -- looking -- */

static void want_look(struct mesa_vm *vm)
{
    struct mesa_memory *m = &vm->memory;
    if (!m->looking) {
        m->looking = true;
        m->restart = 0;
    }
    lua_sethook(vm->L, mesa_guard_hook, LUA_MASKCOUNT, 1);
}

/* Each step of the collector goes as far as possible. */
static void press_collector(struct mesa_vm *vm)
{
    struct mesa_memory *m = &vm->memory;
    if (!m->pressed)
        m->step_multiplier = lua_gc(vm->L, LUA_GCSETSTEPMUL, 0);
    m->pressed = true;
}

/* Compiled code has been left: pressed further, the collector would run whole for every few objects of
 * code that is not ended. */
static void ease_collector(struct mesa_vm *vm)
{
    struct mesa_memory *m = &vm->memory;
    if (m->pressed)
        lua_gc(vm->L, LUA_GCSETSTEPMUL, m->step_multiplier);
    m->pressed = false;
}

static void stop_looking(struct mesa_vm *vm)
{
    struct mesa_memory *m = &vm->memory;
    if (!m->looking)
        return;
    m->looking = false;
    ease_collector(vm);
    lua_sethook(vm->L, NULL, 0, 0);
}

static void set_alarm(struct mesa_memory *m)
{
    if (is_short(m)) {
        m->alarm = m->limit;
        return;
    }
    size_t garbage = m->kept <= m->limit ? m->kept + m->bound / GARBAGE_PART : 0;
    m->alarm = min_size(max_size(m->limit, garbage), m->hard);
}

static void collect(struct mesa_vm *vm, lua_State *L)
{
    struct mesa_memory *m = &vm->memory;
    uint64_t from = uv_hrtime();
    bool running = lua_gc(L, LUA_GCISRUNNING, 0) != 0;
    m->alarm = m->hard; /* what the collector itself allocates is no reason to look */
    lua_gc(L, LUA_GCCOLLECT, 0);
    if (!running)
        lua_gc(L, LUA_GCSTOP, 0);
    m->collected_ns = uv_hrtime();
    m->collecting_ns = m->collected_ns - from;
    m->kept = m->used;
    set_alarm(m);
}

/* Whether enough has happened since the last full collection for another one. */
static bool may_collect(const struct mesa_memory *m)
{
    uint64_t idle = uv_hrtime() - m->collected_ns;
    return m->used > m->kept + m->bound / GARBAGE_PART ||
           (idle > IDLE_MIN_NS && idle > m->collecting_ns * IDLE_PER_COLLECTION);
}

/* Keeps spare memory again, if the system has as much. */
static bool keep_spare(struct mesa_vm *vm)
{
    struct mesa_memory *m = &vm->memory;
    m->spare = malloc(MESA_MEMORY_KEPT_BYTES);
    if (m->spare == NULL) {
        mesa_pool_trim(&vm->pool);
        m->spare = malloc(MESA_MEMORY_KEPT_BYTES);
    }
    if (m->spare == NULL)
        return false;
    m->admitted = m->bound;
    m->limit = m->bound;
    set_alarm(m);
    return true;
}

/* -- the allocator -- */

static void end_process(const struct mesa_memory *m, size_t more)
{
    if (m->used + more > m->hard)
        mesa_log(
            MESA_LOG_ERROR, "script",
            "out of memory: %zu bytes are in use, %zu more are wanted, and limits.scriptMemory "
            "is %zu with a reserve of %zu; the process ends with status %d",
            m->used, more, m->bound, m->hard - m->bound, MESA_MEMORY_EXIT);
    else
        mesa_log(MESA_LOG_ERROR, "script",
                 "out of memory: scripts use %zu bytes, and the system refuses %zu more; the "
                 "process ends with status %d",
                 m->used, more, MESA_MEMORY_EXIT);
    fflush(stdout);
    _exit(MESA_MEMORY_EXIT);
}

/* Compiled code runs no hooks. It is left where the collector is about to end its marking, so the
 * collector is made to begin and to get there with the next object. */
static void on_alarm(struct mesa_vm *vm, size_t more)
{
    struct mesa_memory *m = &vm->memory;
    if (m->used + more > m->hard)
        end_process(m, more);
    if (m->used + more <= m->alarm || vm->closing)
        return;
    want_look(vm);
    if (m->used + more < m->restart || !lua_gc(vm->L, LUA_GCISRUNNING, 0))
        return;
    m->restart =
        m->used + more + m->bound / SLACK_PART; /* in a long C function it comes to nothing */
    press_collector(vm);
    lua_gc(vm->L, LUA_GCRESTART, 0);
}

static void *allocate(struct mesa_vm *vm, void *block, size_t old, size_t size)
{
    return block == NULL ? mesa_pool_alloc(&vm->pool, size)
                         : mesa_pool_resize(&vm->pool, block, old, size);
}

/* The system has refused. */
static void *allocate_of_spare(struct mesa_vm *vm, void *block, size_t old, size_t size)
{
    struct mesa_memory *m = &vm->memory;
    if (size >= MESA_MEMORY_REFUSED_BYTES || vm->L == NULL)
        return NULL;
    void *result = NULL;
    if (!is_short(m)) {
        mesa_memory_deinit(m);
        m->admitted = m->limit = 0;
        set_alarm(m);
        if (!vm->closing) {
            want_look(vm);
            press_collector(vm);
        }
        result = allocate(vm, block, old, size);
    }
    if (result == NULL)
        end_process(m, size - old);
    return result;
}

/* A new block, or a block with another size, in every case. */
static MESA_NOINLINE void *allocate_slowly(struct mesa_vm *vm, void *block, size_t old, size_t size)
{
    struct mesa_memory *m = &vm->memory;
    if (size > old && m->used + (size - old) > m->alarm)
        on_alarm(vm, size - old);
    void *result = allocate(vm, block, old, size);
    if (result == NULL)
        result = allocate_of_spare(vm, block, old, size);
    if (result != NULL)
        m->used += size - old;
    return result;
}

void *mesa_memory_allocate(void *ctx, void *block, size_t old, size_t size)
{
    struct mesa_vm *vm = ctx;
    struct mesa_memory *m = &vm->memory;
    if (size == 0) {
        m->used -= old;
        if (block != NULL)
            mesa_pool_free(&vm->pool, block, old);
        return NULL;
    }
    void *result = NULL;
    if (block == NULL && m->used + size <= m->alarm)
        result = mesa_pool_alloc_quickly(&vm->pool, size);
    if (result == NULL)
        return allocate_slowly(vm, block, old, size);
    m->used += size;
    return result;
}

/* -- handlers -- */

void mesa_memory_bind(struct mesa_vm *vm, size_t bytes)
{
    struct mesa_memory *m = &vm->memory;
    if (bytes == 0 || bytes >= m->bound)
        return;
    m->bound = m->admitted = m->limit = bytes;
    m->hard = bytes + MESA_MEMORY_RESERVE_TIMES * bytes + MESA_MEMORY_RESERVE;
    set_alarm(m);
}

/* Once a second a line in the log; whether this is one. */
static bool tell(struct mesa_memory *m, const char *what)
{
    uint64_t now = uv_hrtime();
    m->untold++;
    if (m->told_ns != 0 && now - m->told_ns < TELL_NS)
        return false;
    m->told_ns = now;
    char why[64] = "the system has none left";
    if (!is_short(m))
        snprintf(why, sizeof why, "limits.scriptMemory is %zu", m->bound);
    mesa_log(MESA_LOG_ERROR, "script",
             "%s: not enough memory: %zu bytes are in use, %s (%llu times)", what, m->used, why,
             (unsigned long long)m->untold);
    m->untold = 0;
    return true;
}

bool mesa_memory_admit(struct mesa_vm *vm, bool *is_told)
{
    struct mesa_memory *m = &vm->memory;
    *is_told = false;
    if (vm->shutting_down || (!is_short(m) && m->kept <= m->bound && !may_collect(m)))
        return true;
    if (may_collect(m))
        collect(vm, vm->L);
    if ((!is_short(m) || keep_spare(vm)) && m->kept <= m->bound)
        return true;
    *is_told = tell(m, "an event is not handled");
    return false;
}

void mesa_memory_enter(struct mesa_vm *vm, enum mesa_memory_share share)
{
    struct mesa_memory *m = &vm->memory;
    m->share = share;
    if (is_short(m)) {
        m->limit = m->used + SLACK_MIN;
        set_alarm(m);
        return;
    }
    if (m->bound == NEVER)
        return;
    if (vm->shutting_down)
        share = MESA_SHARE_SHUTDOWN;
    size_t end = m->bound + m->bound / 4 * share;
    size_t limit = max_size(m->bound, m->kept) + slack(m);
    if (share == MESA_SHARE_SHUTDOWN)
        limit = end = m->hard;
    m->limit = min_size(limit, end);
    set_alarm(m);
}

void mesa_memory_leave(struct mesa_vm *vm)
{
    struct mesa_memory *m = &vm->memory;
    bool failed = m->ending || m->caught > 0;
    m->ending = false;
    m->caught = 0;
    stop_looking(vm);
    if (!failed)
        return;
    if (may_collect(m) || m->used > m->bound)
        collect(vm, vm->L);
    tell(m, "a handler was ended");
}

/* Whether the function that runs is of mesa's own modules, which are not interrupted. */
static bool is_own(const struct mesa_vm *vm, const lua_Debug *ar)
{
    size_t len = strlen(vm->lib_dir);
    return ar->source[0] == '@' && strncmp(ar->source + 1, vm->lib_dir, len) == 0 &&
           strncmp(ar->source + 1 + len, "/mesa/", 6) == 0;
}

static void raise_error(const struct mesa_memory *m, lua_State *L, const lua_Debug *ar)
{
    if (is_short(m))
        lua_pushfstring(L, "%s:%d: not enough memory (the system has none left)", ar->short_src,
                        ar->currentline);
    else
        lua_pushfstring(L, "%s:%d: not enough memory (limits.scriptMemory is %f)", ar->short_src,
                        ar->currentline, (lua_Number)m->bound);
    lua_error(L);
}

void mesa_memory_look(struct mesa_vm *vm, lua_State *L, lua_Debug *ar)
{
    struct mesa_memory *m = &vm->memory;
    if (!m->looking)
        return;
    ease_collector(vm);
    lua_getinfo(L, "Sl", ar);
    if (!is_own(vm, ar) && !m->ending) {
        stop_looking(vm);
        if (is_short(m) || m->kept <= m->limit || may_collect(m))
            collect(vm, L);
        if ((!is_short(m) || keep_spare(vm)) && m->used <= m->limit)
            return;
        m->ending = true;
    }
    want_look(vm);
    if (is_own(vm, ar))
        return;
    press_collector(vm);
    raise_error(m, L, ar);
}

/* core.memory_caught(): the error has come back to mesa's own code, which may tell of it. */
static int l_memory_caught(lua_State *L)
{
    struct mesa_vm *vm = mesa_script_vm(L);
    struct mesa_memory *m = &vm->memory;
    if (!m->ending || ++m->caught > CAUGHT_MAX)
        return 0;
    m->ending = false;
    stop_looking(vm);
    m->limit = min_size(max_size(m->limit, m->used + slack(m)), m->hard);
    m->alarm = m->limit;
    return 0;
}

/* Raises at the caller of the Lua function when so much more cannot be had. */
static void check_room(lua_State *L, lua_Number bytes)
{
    struct mesa_vm *vm = mesa_script_vm(L);
    struct mesa_memory *m = &vm->memory;
    if (m->bound == NEVER || (lua_Number)m->used + bytes <= (lua_Number)m->bound)
        return;
    if (may_collect(m) || m->kept <= m->bound)
        collect(vm, L);
    lua_Number room = (lua_Number)max_size(m->limit, m->bound + m->bound / 2);
    if ((lua_Number)m->used + bytes <= room)
        return;
    luaL_where(L, 2);
    lua_pushfstring(L, "not enough memory (limits.scriptMemory is %f)", (lua_Number)m->bound);
    lua_concat(L, 2);
    lua_error(L);
}

/* core.memory_want(bytes): before a single operation that takes so much. */
static int l_memory_want(lua_State *L)
{
    check_room(L, luaL_checknumber(L, 1));
    return 0;
}

void mesa_memory_check_json(lua_State *L, size_t bytes)
{
    check_room(L, (lua_Number)bytes * BYTES_PER_JSON_BYTE);
}

/* core.memory_want_json(bytes): before so much JSON is decoded. */
static int l_memory_want_json(lua_State *L)
{
    check_room(L, luaL_checknumber(L, 1) * BYTES_PER_JSON_BYTE);
    return 0;
}

void mesa_bind_memory(lua_State *L)
{
    static const luaL_Reg functions[] = {
        {"memory_caught", l_memory_caught},
        {"memory_want", l_memory_want},
        {"memory_want_json", l_memory_want_json},
        {NULL, NULL},
    };
    luaL_register(L, NULL, functions);
}
