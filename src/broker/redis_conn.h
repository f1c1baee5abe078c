/* redis_conn.h - one connection to Redis on the loop, which heals by itself.
 *
 * It connects when it is made and again whenever it is lost, with growing delays, until it is freed.
 * Commands issued in one turn of the loop go out in one write, and are answered in order. No call
 * blocks and none calls a callback from inside, except mesa_redis_free. Callbacks and hooks may call
 * anything here, mesa_redis_free included. Loop thread only. May include: base/, io/loop.h.
 */
#ifndef MESA_BROKER_REDIS_CONN_H
#define MESA_BROKER_REDIS_CONN_H

#include <stdbool.h>
#include <stddef.h>

#include "base/buf.h"
#include "base/status.h"
#include "broker/redis_uri.h"
#include "io/loop.h"

struct mesa_redis;       /* opaque */
struct mesa_redis_reply; /* opaque; valid during the callback that gets it */

enum mesa_redis_type {
    MESA_REDIS_NIL,
    MESA_REDIS_STRING,
    MESA_REDIS_STATUS, /* "OK" */
    MESA_REDIS_INTEGER,
    MESA_REDIS_ARRAY,
    MESA_REDIS_ERROR, /* "WRONGTYPE ...": the command failed, the connection is fine */
};

/* Called exactly once for each command accepted. MESA_OK: `reply` is there, and may be an error of
 * Redis. MESA_ECLOSED: the connection was lost or freed first, `reply` is NULL, and the command may
 * have been executed or not. */
typedef void (*mesa_redis_reply_fn)(void *ctx, enum mesa_status rc,
                                    const struct mesa_redis_reply *reply);

enum mesa_redis_mode {
    MESA_REDIS_COMMANDS,
    MESA_REDIS_SUBSCRIBER, /* takes no commands, receives messages of channels */
};

/* Each may be NULL. */
struct mesa_redis_hooks {
    /* Logged in and, for a subscriber, Redis has confirmed every channel. Queued commands go out
     * after those issued here. */
    void (*on_ready)(void *ctx);
    /* An outage begins: a ready connection ended, or the first attempt of all failed. Commands that
     * were pending have had their callbacks. Once for each outage. */
    void (*on_lost)(void *ctx, const char *reason);
    /* During an outage: an attempt failed for a reason not reported in it before; a few of them. */
    void (*on_failed)(void *ctx, const char *reason);
    void (*on_subscribed)(void *ctx, struct mesa_span channel);
    void (*on_message)(void *ctx, struct mesa_span channel, struct mesa_span payload);
};

/* Copies options and hooks; the first attempt starts in the next turn. MESA_EINVAL: see
 * mesa_redis_options_check, `err` (may be NULL) has a line for people. MESA_ENOMEM. */
enum mesa_status mesa_redis_new(struct mesa_redis **out, struct mesa_loop *loop,
                                enum mesa_redis_mode mode, const struct mesa_redis_options *options,
                                const struct mesa_redis_hooks *hooks, void *ctx, char *err,
                                size_t err_len);
/* Pending commands get MESA_ECLOSED before it returns; no hook is called any more. NULL is
 * accepted. */
void mesa_redis_free(struct mesa_redis *r);

bool mesa_redis_ready(const struct mesa_redis *r);
/* Commands without a reply yet, queued ones included. */
size_t mesa_redis_pending(const struct mesa_redis *r);
/* Where it is connected, or tried last: "127.0.0.1:6379"; "" before the first attempt. */
const char *mesa_redis_address(const struct mesa_redis *r);

/* Issues a command; `fn` may be NULL. MESA_ECLOSED: not ready and there is no queue. MESA_EAGAIN:
 * the queue or the output is full. MESA_EINVAL: no argument, a subscriber, or a command that changes
 * how replies come (SUBSCRIBE and its kin, MONITOR, HELLO, RESET, SYNC, CLIENT REPLY). MESA_ENOMEM.
 * `fn` is called only after MESA_OK. Commands that wait, such as BLPOP, must end within
 * command_timeout_ms; SELECT and AUTH do not outlast the connection: use the options. */
enum mesa_status mesa_redis_command(struct mesa_redis *r, size_t argc, const struct mesa_span *argv,
                                    mesa_redis_reply_fn fn, void *ctx);

/* For subscribers, at any time: the set of channels is remembered and restored after each loss. A
 * channel already subscribed to is no error. MESA_EINVAL: not a subscriber. MESA_ENOMEM. */
enum mesa_status mesa_redis_subscribe(struct mesa_redis *r, struct mesa_span channel);
/* No message of the channel is reported any more, from now on. */
enum mesa_status mesa_redis_unsubscribe(struct mesa_redis *r, struct mesa_span channel);
/* Whether Redis has confirmed the channel on this connection, and it is ready. */
bool mesa_redis_subscribed(const struct mesa_redis *r, struct mesa_span channel);

enum mesa_redis_type mesa_redis_reply_type(const struct mesa_redis_reply *reply);
/* 0 unless it is an integer. */
long long mesa_redis_reply_integer(const struct mesa_redis_reply *reply);
/* Of a string, status or error; absent otherwise. */
struct mesa_span mesa_redis_reply_string(const struct mesa_redis_reply *reply);
/* Elements of an array, 0 otherwise. */
size_t mesa_redis_reply_count(const struct mesa_redis_reply *reply);
/* `i` is below the count. */
const struct mesa_redis_reply *mesa_redis_reply_element(const struct mesa_redis_reply *reply,
                                                        size_t i);

#endif
