/* memory.h - limits.scriptMemory: a bound on the memory of the Lua state.
 *
 * Private to script/. Loop thread only.
 *
 * LuaJIT cannot be refused memory: the error it raises then destroys values of running functions, in
 * compiled code above all. So the allocator refuses nothing. Above the bound it asks for a look, which
 * the next instruction of a script gives (guard.c's hook): garbage is collected, and if that was not it,
 * "not enough memory" is raised, again and again until the handler has ended. New events fail while
 * the bound is exceeded. A reserve above it serves what runs, the core and the shutdown; beyond the
 * reserve the process ends.
 *
 * The same where the system refuses memory, with limits.scriptMemory or without: some is kept for
 * that time, given back then, and the handler that runs is to end. New events fail until as much can
 * be kept again; when the system refuses even so, the process ends.
 *
 * So nothing the core does in Lua fails for lack of memory. That is why what it pushes for an event
 * needs no protected call, which would cost each message 150 instructions. What is left:
 * - Blocks beyond MESA_MEMORY_REFUSED_BYTES, which may be refused: their error ends a handler that
 *   makes one, and the process where the core hands over such a message.
 * - Lua that the core calls: handlers run in mesa_task_run, the program's functions in
 *   mesa_script_call. The one function that is called by lua_call (mesa_script_push_message) only
 *   makes a table, and the hook raises nothing in mesa's own modules.
 * - The collector, which runs while anything is pushed: finalizers of scripts wait for a task of
 *   their own (finalizer.c), those of the core only free.
 * - Inside a bracket of the server (mesa_server_enter) nothing is done on the state of a handler: an
 *   error would leave the bracket open for ever. Hooks use the state of a task, or the main state.
 */
#ifndef MESA_SCRIPT_MEMORY_H
#define MESA_SCRIPT_MEMORY_H

#include <lua.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/status.h"

struct mesa_vm;

enum {
    MESA_MEMORY_EXIT = 3, /* exit status of a process beyond its reserve */
    /* The reserve: so many times the bound, and some. What doubles in compiled code takes it before that is left. */
    MESA_MEMORY_RESERVE_TIMES = 5,
    MESA_MEMORY_RESERVE = 16 * 1024 * 1024,
    /* Kept for when the system refuses, and from which size on a single block may be refused. */
    MESA_MEMORY_KEPT_BYTES = 16 * 1024 * 1024,
    MESA_MEMORY_REFUSED_BYTES = 8 * 1024 * 1024,
};

/* How far what runs may keep more than the bound: quarters of it, all of the reserve for a shutdown. */
enum mesa_memory_share {
    MESA_SHARE_EVENT,    /* none: new events fail */
    MESA_SHARE_CALLBACK, /* timers, answers, what goes on after a wait */
    MESA_SHARE_CLOSING,  /* what frees memory or tells of trouble: disconnect, error */
    MESA_SHARE_SHUTDOWN,
};

struct mesa_memory {
    size_t used;
    size_t alarm;           /* a look is wanted above it; at most `hard` */
    size_t bound, hard;     /* SIZE_MAX: none */
    size_t admitted;        /* new events fail above it: the bound, or 0 while `spare` is NULL */
    void *spare;            /* NULL: the system has refused memory, and this was given back */
    size_t limit;           /* of what runs now */
    size_t restart;         /* the collector is not made to begin again below it */
    size_t kept;            /* used after the last full collection */
    uint64_t collected_ns;  /* when that ended */
    uint64_t collecting_ns; /* how long it took */
    uint64_t told_ns;       /* of the log */
    uint64_t untold;        /* events and handlers since */
    int step_multiplier;    /* of the collector while it is not pressed */
    enum mesa_memory_share share;
    unsigned caught; /* errors of this task */
    bool looking;    /* the hook is set */
    bool pressed;    /* the collector's steps have no bound */
    bool ending;     /* the running handler has been refused */
};

/* MESA_ENOMEM */
enum mesa_status mesa_memory_init(struct mesa_memory *m);
void mesa_memory_deinit(struct mesa_memory *m);
/* The allocator of the Lua state, for lua_newstate; `ctx` is the VM. */
void *mesa_memory_allocate(void *ctx, void *block, size_t old, size_t size);
/* Of several bounds the smallest holds. 0: none. */
void mesa_memory_bind(struct mesa_vm *vm, size_t bytes);
/* Whether a new event may be handled; false: counted and logged, and *tell is whether an error event is due, too. */
bool mesa_memory_admit(struct mesa_vm *vm, bool *tell);
/* A task begins to run on its own. */
void mesa_memory_enter(struct mesa_vm *vm, enum mesa_memory_share share);
/* It has come back, having been looked at. */
void mesa_memory_leave(struct mesa_vm *vm);
/* For the hook: raises when the handler that runs is to end. */
void mesa_memory_look(struct mesa_vm *vm, lua_State *L, lua_Debug *ar);

/* Raises when there is no room for the value of so much JSON. */
void mesa_memory_check_json(lua_State *L, size_t bytes);

static inline bool mesa_memory_exceeded(const struct mesa_memory *m)
{
    return m->used > m->admitted;
}

static inline bool mesa_memory_bounded(const struct mesa_memory *m)
{
    return m->bound != SIZE_MAX;
}

static inline bool mesa_memory_looked(const struct mesa_memory *m)
{
    return m->looking || m->ending || m->caught > 0;
}

#endif
