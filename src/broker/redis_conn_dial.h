/* redis_conn_dial.h - from a name to a connected link: looks the name up and tries each address.
 *
 * One attempt. Neither the lookup nor a connect blocks the loop, and each has connect_timeout_ms.
 * Loop thread only. May include: base/, io/loop.h, hiredis.
 */
#ifndef MESA_BROKER_REDIS_CONN_DIAL_H
#define MESA_BROKER_REDIS_CONN_DIAL_H

#include "broker/redis_conn_link.h"

struct mesa_redis_dial; /* opaque */

struct mesa_redis_target {
    const char *host; /* NULL with `path` */
    const char *path;
    uint16_t port;
};

/* Called once, never from inside _start; the attempt is over and freed. `link` is up and without
 * hooks, `address` where it leads to; or `link` is NULL and `reason` says why, with the address. */
typedef void (*mesa_redis_dial_fn)(void *ctx, struct mesa_redis_link *link, const char *address,
                                   const char *reason);

/* Copies the target. NULL: out of memory. */
struct mesa_redis_dial *mesa_redis_dial_start(struct mesa_loop *loop,
                                              const struct mesa_redis_options *options,
                                              struct mesa_redis_tls *tls,
                                              const struct mesa_redis_target *target,
                                              mesa_redis_dial_fn fn, void *ctx);
/* The callback does not come. NULL is accepted. */
void mesa_redis_dial_cancel(struct mesa_redis_dial *d);

#endif
