/* script.h - what the files of script/ share: the VM's parts and how C and Lua enter each other.
 *
 * Private to script/. Loop thread only.
 *
 * C enters Lua in two places only: mesa_task_run (a pooled coroutine per event) and mesa_script_call (a protected call while loading).
 */
#ifndef MESA_SCRIPT_SCRIPT_H
#define MESA_SCRIPT_SCRIPT_H

#include <lauxlib.h>
#include <lua.h>
#include <lualib.h>

#include <stdatomic.h>

#include "base/buf.h"
#include "base/list.h"
#include "base/pool.h"
#include "base/wheel.h"
#include "core/envelope.h"
#include "script/inbox.h"
#include "script/memory.h"
#include "script/value.h"
#include "script/vm.h"
#include "server/server.h"

enum { MESA_TASK_POOL_MAX = 256, MESA_SCRATCH_KEEP_BYTES = 256 * 1024, MESA_SCRATCH_DEPTH = 8 };

/* What Lua hands over once for a server: one function an event (lua/mesa/dispatch.lua). */
enum mesa_event {
    MESA_ON_CONNECTION,
    MESA_ON_MESSAGE,
    MESA_ON_AUTHENTICATE,
    MESA_ON_AUTHENTICATED,
    MESA_ON_DISCONNECT,
    MESA_ON_ERROR,
    MESA_ON_DRAIN,
    MESA_ON_UNDELIVERABLE,
    MESA_ON_REDELIVER,
    MESA_ON_DROPPED,
    MESA_ON_DELIVERED,
    MESA_ON_PORTAL,
    MESA_ON_CLOSED,
    MESA_ON_LISTENING,
    MESA_ON_REQUEST,
    MESA_ON_PROTOCOL,
    MESA_ON_UPGRADE,
    MESA_EVENT_COUNT,
};

struct mesa_vm {
    lua_State *L;
    struct mesa_loop *loop;
    struct mesa_transport *transport;
    struct mesa_vm_options opts;
    char *app_dir; /* absolute folder of the main script, see mesa_script_dir */
    char *lib_dir; /* where lua/mesa/ was found */
    struct mesa_list servers;
    struct mesa_list idle_tasks;
    struct mesa_list waiting_tasks;
    struct mesa_list timers; /* armed Lua timers */
    /* inbox.c: messages that wait for a handler */
    struct mesa_list left;  /* inboxes of clients that have left, oldest first */
    size_t queued_bytes;    /* of all clients */
    struct mesa_list redis; /* connections of scripts to Redis */
    struct mesa_turn redis_turn;
    struct mesa_list ws_clients; /* connections of Mesa.Client, see bind_wsclient.c */
    unsigned idle_task_count;
    struct mesa_task *current_task; /* whose coroutine is running; NULL while loading */
    struct mesa_buf scratch[MESA_SCRATCH_DEPTH]; /* see mesa_scratch_take */
    struct mesa_buf *scratch_free;               /* the first that is not in use */
    struct mesa_list waiters;                    /* those of Mesa.await */
    uint64_t waits;                              /* number of the last wait of a task */
    struct mesa_watch *watch;
    struct mesa_httpc *httpc; /* NULL until a script sends a request */
    int program_ref;          /* the table of functions that lua/mesa/program.lua gave */
    int client_meta_ref;
    const void *client_meta; /* its address */
    int new_message_ref;
    /* raw_data.c: data that nobody has read yet */
    struct mesa_raw_block *raw_block; /* the newest, which raw_ref anchors */
    double raw_number;                /* of the last data kept */
    int raw_ref, raw_meta_ref;
    const void *raw_meta; /* the address of the blocks' metatable */
    double unread_number; /* of the message being handled while nobody has read its data; 0: none */
    /* quick_send.c */
    struct client_box
        *handling; /* whose message was the last to be handed to Lua, while that has not returned */
    lua_State *quick; /* data are read here; the list of lua/mesa/answer.lua is its only value */
    struct mesa_buf quick_data;
    bool quick_sending;
    /* finalizer.c */
    struct mesa_job finalizer_job; /* queued while finalizers wait */
    int finalizers_ref, finalizer_first, finalizer_last;
    /* guard.c: a runaway script is noticed */
    _Atomic uint64_t entries;    /* odd while Lua runs in a task */
    _Atomic uint64_t slow_entry; /* the value of `entries` that has lasted too long */
    struct mesa_guard *guard;
    uint32_t script_time_ms; /* 0: off */
    struct mesa_value_names names;
    struct mesa_pool pool; /* all memory of the Lua state */
    struct mesa_memory memory;
    bool time_configured;
    int exit_code;
    bool listening; /* mesa_vm_listen was called */
    /* shutdown.c */
    bool shutting_down; /* a signal or os.exit asks for the end */
    bool leaving;       /* servers and clients are closing */
    bool exiting;       /* os.exit: no Lua runs any more */
    bool hooked;        /* os.exit or a script has set a hook, which is for what runs now */
    bool forced;        /* beforeExit was not waited for any longer */
    struct mesa_timer end_timer;
    uint64_t scripts_until_ms, close_until_ms; /* when they are not waited for any longer */
    bool closing;                              /* mesa_vm_free is under way */
};

/* A server as scripts see it; userdata "mesa.server_core", pinned in the registry until it is closed and no client object refers to it. */
struct script_server {
    struct mesa_list link; /* vm->servers */
    struct mesa_vm *vm;
    struct mesa_server *server; /* NULL once closed */
    int self_ref;               /* pins this userdata */
    int table_ref;              /* the server object of scripts, client.server */
    unsigned pins;              /* client objects that refer to it */
    int events[MESA_EVENT_COUNT];
    uint64_t
        read_types; /* a bit for each hash of a type: handlers read the data of the last one that was left to them */
    unsigned handled;
    /* inbox.c, see limits.maxQueue and .maxQueueTotal */
    size_t max_queue, max_queue_total;
    struct mesa_list
        held;        /* inboxes of clients not read from because the process is at its bound */
    bool crowded;    /* it is at this server's bound, or was and is not below half of it yet */
    bool concurrent; /* options.concurrentMessages */
    bool raw;
    bool told_of_op_2; /* that it came and nobody answers it */
    bool listening;
};

/* A client as scripts see it; userdata "mesa.client". Holds one reference on the client, so its data stay readable after it has left. */
struct client_box {
    struct mesa_client *client;
    struct script_server *server; /* pinned by this box */
    int self_ref;                 /* pins the object while connected or handling; LUA_NOREF after */
    bool connected;
    bool has_fields;     /* the environment table is the script's own fields */
    bool connecting;     /* the connection handler is running or waiting */
    bool authenticating; /* the authentication handler has yet to begin */
    unsigned
        handling; /* handlers of this client that run or wait: one, unless messages are concurrent */
    bool draining;            /* the queue below is being worked off */
    struct mesa_inbox *inbox; /* messages that wait for a handler; NULL: none */
};

/* The VM is what its Lua state's allocator is called with: nothing tells it apart more quickly. */
static inline struct mesa_vm *mesa_script_vm(lua_State *L)
{
    void *vm;
    (void)lua_getallocf(L, &vm);
    return vm;
}

/* Calls the function below `nargs` arguments on the main state; on an error logs it with traceback and returns MESA_EINVAL with nothing on the stack. */
enum mesa_status mesa_script_call(struct mesa_vm *vm, int nargs, int nresults);
/* Reloads every handler script; false when it failed. Lines for people are appended to `report` unless NULL. */
bool mesa_script_reload(struct mesa_vm *vm, const char *reason, struct mesa_buf *report);
/* Raises during the end of the program, when nothing can begin any more; `what` cannot. */
void mesa_script_check_open(lua_State *L, const char *what);
/* Pushes program.<name> on `L`. */
void mesa_script_push_program(struct mesa_vm *vm, lua_State *L, const char *name);
/* Pushes on `L` the text on top of `from` and behind it a traceback of `from`. */
void mesa_script_push_traceback(lua_State *L, lua_State *from, int level);
/* Logs `what` and the text on top of `L` (pops it) as an error of scripts. */
void mesa_script_log_text(lua_State *L, const char *what);
/* Logs `what` and the error value on top of `co` with a traceback of `co` (pops it) and emits nothing. */
void mesa_script_log_error(struct mesa_vm *vm, lua_State *co, const char *what);

/* An empty buffer of the VM for text, to be given back before the caller returns or raises. What runs
 * meanwhile (a hook, a finalizer) is given another one. One that an unforeseen error keeps is taken
 * back at the end of the task. NULL: all are in use. */
static inline struct mesa_buf *mesa_scratch_try(struct mesa_vm *vm)
{
    struct mesa_buf *b = vm->scratch_free;
    if (b == vm->scratch + MESA_SCRATCH_DEPTH)
        return NULL;
    vm->scratch_free++;
    mesa_buf_reset(b, MESA_SCRATCH_KEEP_BYTES);
    return b;
}

/* The same; raises instead of NULL. */
static inline struct mesa_buf *mesa_scratch_take(struct mesa_vm *vm, lua_State *L)
{
    struct mesa_buf *b = mesa_scratch_try(vm);
    if (b == NULL)
        luaL_error(L, "not enough memory: calls of the API are nested too deeply");
    return b;
}

static inline void mesa_scratch_give(struct mesa_vm *vm, struct mesa_buf *b)
{
    vm->scratch_free = b;
}

/* -- shutdown.c -- */
void mesa_script_shutdown_init(struct mesa_vm *vm);
/* Closes every server with 1001; the loop stops behind the last one. */
void mesa_script_finish_shutdown(struct mesa_vm *vm);
/* Stops the loop when nothing is left to close and the program is to end. */
void mesa_script_stop_when_closed(struct mesa_vm *vm);
/* What the process exits with, as things stand. */
int mesa_script_exit_status(const struct mesa_vm *vm);
/* Lua has returned to the core: hooks that were set by os.exit, or by the script, end. Whether it was os.exit. */
bool mesa_script_unwound(struct mesa_vm *vm);
/* Logs that there was no memory for a handler, and what that means; nothing after os.exit. */
void mesa_script_event_lost(struct mesa_vm *vm, struct mesa_span text);
void mesa_bind_shutdown(lua_State *L);

/* -- task.c ---------------------------------------------------------------------------------------------------- */

struct mesa_task;
/* Called when the task's function has returned, failed or been cancelled. */
typedef void (*mesa_task_done_fn)(struct mesa_task *t, void *ctx);

/* A coroutine to push a function and its arguments on. NULL: no memory, or os.exit was called. Must be followed by mesa_task_run. */
struct mesa_task *mesa_task_begin(struct mesa_vm *vm);
lua_State *mesa_task_state(const struct mesa_task *t);
/* The task of the coroutine at `index`; NULL: it is none of ours, or its task is over. */
struct mesa_task *mesa_task_of(lua_State *L, int index);
/* Its coroutine is not used for another task: a script knows it. */
void mesa_task_keep(struct mesa_task *t);
/* How much it may take while limits.scriptMemory is exceeded; MESA_SHARE_CALLBACK unless said. */
void mesa_task_share(struct mesa_task *t, enum mesa_memory_share share);
/* Runs the function below `nargs` arguments until it returns or waits. `done` may be NULL; it is called exactly once, perhaps before this returns. */
void mesa_task_run(struct mesa_task *t, int nargs, mesa_task_done_fn done, void *ctx);

/* As mesa_task_run in a job of the loop; `begun` is called when it first waits or is over, exactly once. */
void mesa_task_queue(struct mesa_task *t, int nargs, void (*begun)(void *ctx), void *ctx);

/* A binding that waits calls mesa_task_check before it begins anything, starts its operation, and ends with
 * `return mesa_task_wait(…)`; nothing between the two may raise. When the operation has completed it pushes the results on
 * mesa_task_results(t) and wakes the task, which goes on in a job of the loop. An operation that has completed before the
 * wait must not wait. */
/* Called instead of the wake when the task ends first: the operation must forget it. Must not call Lua. */
typedef void (*mesa_task_cancel_fn)(void *ctx);
/* Suspends the task; drops what is on its stack. `cancel` may be NULL. */
int mesa_task_wait(struct mesa_task *t, mesa_task_cancel_fn cancel, void *ctx);
/* The state to push the results of the wait on. NULL: the task was resumed by somebody else, and is over. */
lua_State *mesa_task_results(struct mesa_task *t);
/* Has a suspended task go on with the topmost `nresults` values of its state as what the binding returns. */
void mesa_task_wake(struct mesa_task *t, int nresults);
/* Ends every waiting task without running it further and frees the pool. */
void mesa_task_close_all(struct mesa_vm *vm);
/* Stops every timer a script has armed. */
void mesa_task_close_timers(struct mesa_vm *vm);

/* Calls what the collector has found so far, at once. */
void mesa_script_finish_finalizers(struct mesa_vm *vm);

/* -- wait.c ---------------------------------------------------------------------------------------------------- */

/* The task that runs on `L`. Where its function cannot be suspended it raises at the script's line: what (`who`) cannot
 * wait there, and why. */
struct mesa_task *mesa_task_check(lua_State *L, const char *who);
/* Pushes "file:line: " of the innermost function that is a script's and not mesa's own, or "". */
void mesa_script_push_where(lua_State *L);

/* Frees what is left of the waits of Mesa.await; the Lua state is closed. */
void mesa_script_free_waits(struct mesa_vm *vm);

/* Whether commands of scripts have no answer of Redis yet. */
bool mesa_script_redis_is_busy(const struct mesa_vm *vm);
/* Ends every connection of scripts to Redis; no task waits any more. */
void mesa_script_close_redis(struct mesa_vm *vm);
/* -- guard.c --------------------------------------------------------------------------------------------------- */

/* Watches for handlers that hold the loop longer than vm->script_time_ms; nothing when that is 0. */
void mesa_guard_start(struct mesa_vm *vm);
void mesa_guard_stop(struct mesa_vm *vm);
/* The outermost task has come back from Lua: logs and counts one that took too long. */
void mesa_guard_report(struct mesa_vm *vm);
/* The only hook of the VM: set to be called before the next instruction of a script. */
void mesa_guard_hook(lua_State *L, lua_Debug *ar);

/* -- certificates.c: the files of every server's `tls` ---------------------------------------------------------- */

/* Has them read again when they change. */
void mesa_script_watch_certificates(struct mesa_vm *vm);
bool mesa_script_is_certificate(const struct mesa_vm *vm, const char *path);
/* Has the servers that use any of these files read theirs again. */
void mesa_script_certificates_changed(struct mesa_vm *vm, const char *const *paths, size_t count);
/* Has every server do so; false: some cannot be used. Lines for people are appended to `report` unless NULL. */
bool mesa_script_reload_certificates(struct mesa_vm *vm, struct mesa_buf *report);

/* -- bind_system.c: reports changes of the file from now on; without effect under --no-watch -- */
void mesa_script_watch(struct mesa_vm *vm, const char *path);

/* -- paths.c --------------------------------------------------------------------------------------------------- */

/* The path in front of which the working directory stands; links stay. NULL: no memory, or the working directory is gone. */
char *mesa_script_absolute(const char *path);
/* The folder of a script. A script that is a link is followed, folders on the way are not. NULL as above. */
char *mesa_script_dir(const char *script);
/* Lets `require` find mesa's own modules, then the application's folder, then what LuaJIT brings. */
void mesa_script_set_paths(struct mesa_vm *vm);

/* -- bind_*.c: each fills functions into the table on top of the stack (the module mesa.core) ------------------- */
void mesa_bind_task(lua_State *L);
void mesa_bind_server(lua_State *L);
void mesa_bind_client(lua_State *L);
void mesa_bind_http(lua_State *L);
void mesa_bind_request(lua_State *L);
void mesa_bind_message(lua_State *L);
void mesa_bind_quick_send(lua_State *L);
void mesa_bind_system(lua_State *L);
void mesa_bind_redis(lua_State *L);
void mesa_bind_user_id(lua_State *L);
void mesa_bind_await(lua_State *L);
void mesa_bind_wait(lua_State *L);
void mesa_bind_wsclient(lua_State *L);
void mesa_bind_counts(lua_State *L);
void mesa_bind_finalizer(lua_State *L);
void mesa_bind_paths(lua_State *L);
void mesa_bind_memory(lua_State *L);
/* Says goodbye with 1001 to every server a Mesa.Client is connected to. */
void mesa_script_leave_servers(struct mesa_vm *vm);
/* Ends every connection of a Mesa.Client without a word. */
void mesa_script_close_ws_clients(struct mesa_vm *vm);
/* The opener of the module luv, on the server's own loop. */
int mesa_script_open_luv(lua_State *L);
void mesa_script_close_luv(struct mesa_vm *vm);

/* Pushes the client's object, made on first use. Raises only on lack of memory. */
void mesa_script_push_client(lua_State *L, struct script_server *s, struct mesa_client *c);
/* Unpins the object once the client has left and none of its handlers runs. */
void mesa_script_release_client(lua_State *L, struct client_box *box);
struct client_box *mesa_script_check_client(lua_State *L, int index);
/* Pushes the client's fields table or nil. `index` is the object of `box`. */
void mesa_script_push_fields(lua_State *L, int index, const struct client_box *box);
/* As above, and makes the table when it is missing. */
void mesa_script_push_own_fields(lua_State *L, int index);

/* Raises: the running function is a method, and was called without its object ("server", "client"). */
int mesa_script_not_self(lua_State *L, const char *what);

/* The hook for plain HTTP requests. */
bool mesa_script_on_http(void *ctx, struct mesa_http *h, const struct mesa_request *req,
                         struct mesa_span body);
/* The hook for the function that chooses a subprotocol. */
bool mesa_script_decides_upgrades(void *ctx);
void mesa_script_on_upgrade(void *ctx, struct mesa_server_upgrade *u,
                            const struct mesa_request *req);
int mesa_script_on_protocol(void *ctx, const struct mesa_request *req, struct mesa_span offered,
                            struct mesa_span *chosen);
/* Pushes { path, queryString, headers, ip, secure }. */
void mesa_script_push_request(lua_State *L, const struct mesa_request *r);
/* The text of the user id at `index` (positive): a string, or an integer up to 2^53, which its
 * decimal text replaces on the stack. False: it is none, and why is pushed. */
bool mesa_script_to_id(lua_State *L, int index, struct mesa_span *id);
/* The core of the server object (a table with the field _core) at `index`. */
struct script_server *mesa_script_check_server(lua_State *L, int index);

/* Pushes what lua/mesa/message.lua makes a Message of, its data decoded or not, and returns how many values that is. */
int mesa_script_push_received(struct mesa_vm *vm, lua_State *L, const struct mesa_envelope *e,
                              bool decoded);
/* Pushes a Message made from an envelope. */
void mesa_script_push_message(struct mesa_vm *vm, lua_State *L, const struct mesa_envelope *e);
/* Pushes a Message made from the JSON of an envelope that mesa-lua wrote or validated; nil when it is not one. */
void mesa_script_push_stored(struct mesa_vm *vm, lua_State *L, struct mesa_span json);

/* -- raw_data.c: once for a VM: */
void mesa_raw_open(struct mesa_vm *vm);
/* Keeps a copy of `json`: pushes its number, which it returns, and its block. Raises only on lack of memory. */
double mesa_raw_push(struct mesa_vm *vm, lua_State *L, struct mesa_span json);
/* The data that the number and the block at these indices stand for; false: none. */
bool mesa_raw_find(struct mesa_vm *vm, lua_State *L, int number, int block, struct mesa_span *json);
/* As above, in the newest block, and without a look at any Lua state. */
bool mesa_raw_find_current(const struct mesa_vm *vm, double number, struct mesa_span *json);

/* -- quick_send.c: the handler waits, others have their turn. */
void mesa_quick_forget(struct mesa_vm *vm);

/* What a script wants to send. */
struct message_ref {
    struct mesa_frame *frame; /* one reference */
    int64_t op;
    bool sync;
    bool disconnect; /* op 5, t "DISCONNECT_CLIENT": nothing to send */
};
enum { MESA_MESSAGE_FIELDS = 7 };
/* What mesa-lua sends, a peer with the default limit must accept; the envelope is a level of its own. */
enum { MESA_DATA_DEPTH_MAX = MESA_JSON_DEPTH_DEFAULT - 1 };
/* From the Message at `index`, whose fields are at `fields`: the last values on the stack, or none for what is no Message.
 * Raises with the reason when it cannot be sent; holds nothing then. */
void mesa_script_check_message(struct mesa_vm *vm, lua_State *L, int index, int fields,
                               struct message_ref *out);
/* Pushes {data=, binary=}, the message of a raw server. */
void mesa_script_push_raw(lua_State *L, struct mesa_span bytes, bool binary);
/* From the string at `index` and perhaps {binary = true} at `options`, in raw mode. Raises like the above. */
void mesa_script_check_bytes(lua_State *L, int index, int options, struct message_ref *out);

/* Pushes what is to be called with what was sent and whom it has reached, if middleware wants to know. */
bool mesa_script_push_observer(lua_State *L, const struct script_server *s);
/* Sends what mesa_script_check_message made of the value at `message`, and tells the middleware whom it reached. */
enum mesa_status mesa_script_send(lua_State *L, struct script_server *s, int message,
                                  const struct message_ref *m, const struct mesa_recipients *to);
/* The results of a send through the server: true, or nil and why not. Returns their number. */
int mesa_script_push_sent(lua_State *L, enum mesa_status rc);

/* The server has closed: frees it, lets scripts know, and ends the program when it was the last one of a shutdown. */
void mesa_script_server_closed(struct script_server *s);
/* Unpins a closed server that nothing refers to. */
void mesa_script_release_server(lua_State *L, struct script_server *s);

/* The hooks of script/events.c that turn server events into tasks. */
extern const struct mesa_server_hooks mesa_script_hooks;

/* Pushes s's function for `e` on `co`. */
static inline void mesa_script_push_event(const struct script_server *s, lua_State *co,
                                          enum mesa_event e)
{
    lua_rawgeti(co, LUA_REGISTRYINDEX, s->events[e]);
}

#endif
