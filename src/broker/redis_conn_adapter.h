/* redis_conn_adapter.h - a hiredis context on the libuv loop, and what was received for it.
 *
 * Polls the context's socket and tells what happened, errors of polling included, which the adapter
 * that comes with hiredis 0.14 ignores. Owns the context and its socket. Loop thread only.
 * May include: io/loop.h, hiredis.
 */
#ifndef MESA_BROKER_REDIS_CONN_ADAPTER_H
#define MESA_BROKER_REDIS_CONN_ADAPTER_H

#include <hiredis/hiredis.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/socket.h>
#include <uv.h>

#include "base/buf.h"

struct mesa_redis_adapter {
    redisContext *context; /* NULL: closed */
    uv_poll_t poll;
    int events;
    struct mesa_buf input; /* received and not fed to the parser: from input_taken on */
    size_t input_taken;
    bool ended;       /* nothing more comes */
    char reason[160]; /* why */
    /* `status` is 0 or libuv's error; `events` are UV_READABLE and UV_WRITABLE. */
    void (*on_event)(struct mesa_redis_adapter *a, int status, int events);
    void (*on_released)(struct mesa_redis_adapter *a); /* its memory may go */
};

/* Starts to connect; writable is when it is decided, and SO_ERROR how. on_event and on_released are
 * set before. Returns libuv's error; then nothing is called and the memory may go. */
int mesa_redis_adapter_connect(struct mesa_redis_adapter *a, uv_loop_t *loop,
                               const struct sockaddr *sa, socklen_t len, uint32_t keepalive_ms);
/* What to wait for: UV_READABLE and UV_WRITABLE. Returns libuv's error. */
int mesa_redis_adapter_watch(struct mesa_redis_adapter *a, int events);
/* Takes what the socket has, so that it does not pile up in Redis, which cuts off a subscriber with
 * too much of it. Tells whether anything came. */
bool mesa_redis_adapter_receive(struct mesa_redis_adapter *a);
/* Feeds some of it to the context's parser and tells how much; 0: there is none. False: the
 * parser is out of memory. */
bool mesa_redis_adapter_feed(struct mesa_redis_adapter *a, size_t *bytes);

/* Closes the socket at once; on_released comes in a later turn. Once. */
void mesa_redis_adapter_close(struct mesa_redis_adapter *a);
/* Gives the room of the first `taken` bytes back, moving no byte more than twice. */
void mesa_redis_drop_taken(struct mesa_buf *b, size_t *taken, size_t keep_bytes);

#endif
