/* redis_conn_link.h - one socket to Redis, for its life: connects, sends commands, matches replies.
 *
 * Sockets, parsing and TLS are hiredis's redisContext; its asynchronous layer is not used, because it
 * aborts the process (assert) on replies nobody asked for and loses the replies to PING of subscribers
 * in 0.14. Loop thread only. May include: base/, io/loop.h, hiredis.
 */
#ifndef MESA_BROKER_REDIS_CONN_LINK_H
#define MESA_BROKER_REDIS_CONN_LINK_H

#include <hiredis/hiredis.h>
#include <stdbool.h>
#include <sys/socket.h>

#include "base/buf.h"
#include "broker/redis_conn.h"
#include "broker/redis_conn_tls.h"
#include "io/loop.h"

struct mesa_redis_link; /* opaque */

struct mesa_redis_address {
    struct sockaddr_storage sa;
    socklen_t len;
};

struct mesa_redis_link_options {
    const struct mesa_redis_options *redis; /* outlives the link */
    struct mesa_redis_tls *tls;             /* NULL: plain; outlives the link */
    const char *host;                       /* whom the certificate must name; only during open */
};

/* The owner may free the link in each of them. */
struct mesa_redis_link_hooks {
    void (*on_open)(void *ctx); /* connected; commands may be sent */
    /* NULL unless the link subscribes: "message" replies come here. */
    void (*on_message)(void *ctx, struct mesa_span channel, struct mesa_span payload);
    /* It ended by itself; pending commands have had their callbacks. The link stays to be freed. */
    void (*on_closed)(void *ctx, const char *reason);
};

/* Starts to connect. On failure `err` says why; hooks are called only after MESA_OK, and not from
 * inside. */
enum mesa_status mesa_redis_link_open(struct mesa_redis_link **out, struct mesa_loop *loop,
                                      const struct mesa_redis_address *address,
                                      const struct mesa_redis_link_options *options,
                                      const struct mesa_redis_link_hooks *hooks, void *ctx,
                                      char *err, size_t err_len);
/* Closes at once; pending commands get MESA_ECLOSED, no hook is called. NULL is accepted. */
void mesa_redis_link_free(struct mesa_redis_link *l);

/* Ends the link as if it had failed by itself: on_closed is called from inside. */
void mesa_redis_link_fail(struct mesa_redis_link *l, const char *reason);

/* For another owner; NULL: none. */
void mesa_redis_link_set_hooks(struct mesa_redis_link *l, const struct mesa_redis_link_hooks *hooks,
                               void *ctx);

/* Whether commands may be sent. */
bool mesa_redis_link_up(const struct mesa_redis_link *l);
size_t mesa_redis_link_pending(const struct mesa_redis_link *l);

/* MESA_ECLOSED, MESA_EAGAIN (output_limit), MESA_ENOMEM. `fn` may be NULL. */
enum mesa_status mesa_redis_link_command(struct mesa_redis_link *l, size_t argc,
                                         const struct mesa_span *argv, mesa_redis_reply_fn fn,
                                         void *ctx);
/* `user` may be NULL. */
enum mesa_status mesa_redis_link_auth(struct mesa_redis_link *l, const char *user,
                                      const char *password, mesa_redis_reply_fn fn, void *ctx);

#endif
