/* redis_batch.h - commands of scripts on their way to Redis: what waits for the replies, and replies as Lua values.
 *
 * A batch is one command or those of a pipeline. It belongs to its connection object from batch_new on, and ends itself when the
 * last reply has come. Private to script/. Loop thread only.
 */
#ifndef MESA_SCRIPT_REDIS_BATCH_H
#define MESA_SCRIPT_REDIS_BATCH_H

#include "broker/redis_conn.h"
#include "script/script.h"

/* Userdata "mesa.redis_core". */
struct script_redis {
    struct mesa_list link; /* vm->redis */
    struct mesa_vm *vm;    /* NULL: forgotten by the VM */
    struct mesa_redis_options options;
    struct mesa_redis *commands, *subscriber; /* NULL: not open */
    struct mesa_list batches;                 /* under way */
    unsigned subscriptions;
    int self_ref;    /* pins this object while batches or subscriptions exist */
    int deliver_ref; /* called with (channel, payload) */
    int active_ref; /* called with (channel) when its subscription has begun, again after each loss */
    int scripts_ref; /* table hash -> text of the scripts that commands run; NOREF: none */
    bool away;       /* commands would not be answered now */
    bool closing;    /* closed by the script; ends when the last batch is over */
};

struct redis_batch; /* opaque */

/* Keeps the object at `index` while batches or subscriptions exist. */
void mesa_script_redis_pin(struct script_redis *r, lua_State *L, int index);
void mesa_script_redis_unpin(struct script_redis *r);
/* Opens the connection for commands unless it is open. */
enum mesa_status mesa_script_redis_open(struct script_redis *r);

/* Sets the metatable at `index` as that of the error objects among replies. */
void mesa_script_set_error_class(lua_State *L, int index);
/* Pushes nil, text, code; returns 3. */
int mesa_script_push_trouble(lua_State *L, const char *text, const char *code);

/* A batch for `count` commands of the object at 1, with the callback at `fn` (0: none). Raises with nothing held. */
struct redis_batch *mesa_script_batch_new(lua_State *L, struct script_redis *r, size_t count,
                                          int fn, bool single);
/* Sends its command number `index`. Once one could not be sent, the others are not, and the outcome is that Redis is unavailable. */
void mesa_script_batch_send(struct redis_batch *b, size_t index, const struct mesa_span *args,
                            size_t count);
/* Everything was sent: what the binding returns. Without a task it does not wait. */
int mesa_script_batch_start(lua_State *L, struct redis_batch *b, struct mesa_task *task);
/* Forgets all batches; no reply may come any more. */
void mesa_script_batch_free_all(struct script_redis *r);

#endif
