/* redis_conn_sentinel.h - where the master is, and when it moves, as Redis Sentinels tell.
 *
 * Asks one sentinel after the other, stays with the first that knows, and listens there for
 * +switch-master; when that one is lost, finds another in the background. Loop thread only.
 * May include: base/, io/loop.h, hiredis.
 */
#ifndef MESA_BROKER_REDIS_CONN_SENTINEL_H
#define MESA_BROKER_REDIS_CONN_SENTINEL_H

#include "broker/redis_conn_link.h"

struct mesa_redis_sentinel; /* opaque */

struct mesa_redis_sentinel_hooks {
    /* The answer to _ask, or news: may name the same place again. */
    void (*on_master)(void *ctx, const char *host, uint16_t port);
    /* The answer to _ask: no sentinel knows. Ask again later. */
    void (*on_failed)(void *ctx, const char *reason);
};

/* Options and tls outlive it. NULL: out of memory. */
struct mesa_redis_sentinel *mesa_redis_sentinel_new(struct mesa_loop *loop,
                                                    const struct mesa_redis_options *options,
                                                    struct mesa_redis_tls *tls,
                                                    const struct mesa_redis_sentinel_hooks *hooks,
                                                    void *ctx);
void mesa_redis_sentinel_free(struct mesa_redis_sentinel *s);

/* One answer follows, never from inside. */
void mesa_redis_sentinel_ask(struct mesa_redis_sentinel *s);

#endif
