/* broker.h - what reaches users beyond this server's own connections: publishing, presence, the
 * sync store.
 *
 * An interface: memory.c implements it inside one process, redis.c over Redis. Every operation may
 * complete later, on the loop thread; callbacks are never called from inside the operation that was
 * given them unless documented, and always exactly once; on_dropped may be called from inside store
 * and put_back. Loop thread only. May include: base/, core/, io/loop.h.
 */
#ifndef MESA_BROKER_BROKER_H
#define MESA_BROKER_BROKER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/buf.h"
#include "base/status.h"
#include "core/config.h"
#include "io/loop.h"

struct mesa_broker; /* implementations embed it first */

/* Stored messages taken for one user, oldest first; `json` are envelopes without "s". Valid during
 * the callback. */
struct mesa_backlog {
    const struct mesa_span *json;
    /* When each was stored, in the broker's own clock; goes back to put_back as it is. NULL:
     * unknown, counts as now. */
    const uint64_t *stored_ms;
    size_t count;
};

typedef void (*mesa_backlog_fn)(void *ctx, enum mesa_status rc, const struct mesa_backlog *backlog);

struct mesa_broker_hooks {
    /* Stored messages of `id` went to make room or were too old; `json` is each envelope. */
    void (*on_dropped)(void *ctx, struct mesa_span id, struct mesa_span json);
};

struct mesa_broker_ops {
    void (*free)(struct mesa_broker *b);
    /* The first connection of `id` on this server was authenticated / the last one left. */
    void (*user_online)(struct mesa_broker *b, struct mesa_span id);
    void (*user_offline)(struct mesa_broker *b, struct mesa_span id);
    /* Whether the user may be online elsewhere in the cluster; the memory broker says no. */
    bool (*may_be_elsewhere)(struct mesa_broker *b, struct mesa_span id);
    /* Appends an envelope to the backlog of an offline user, within sync.maxMessages, maxBytes and
     * maxAge: the oldest go first. MESA_ETOOBIG: alone it exceeds maxBytes; it was reported as
     * dropped. MESA_ENOMEM. */
    enum mesa_status (*store)(struct mesa_broker *b, struct mesa_span id, struct mesa_span json);
    /* Takes the whole backlog of `id`: it is no longer stored. Calls `fn` exactly once, possibly
     * before returning. */
    void (*take)(struct mesa_broker *b, struct mesa_span id, mesa_backlog_fn fn, void *ctx);
    /* Puts back, in front of what is stored, messages that were taken but never written; the bounds
     * hold, the oldest go first. */
    void (*put_back)(struct mesa_broker *b, struct mesa_span id,
                     const struct mesa_backlog *backlog);
};

struct mesa_broker {
    const struct mesa_broker_ops *ops;
    struct mesa_broker_hooks hooks;
    void *hooks_ctx;
};

/* The broker for one process without Redis. `cfg` outlives it. Ages are checked on access and by a
 * slow periodic sweep on the loop's wheel. */
enum mesa_status mesa_broker_memory_new(struct mesa_broker **out, struct mesa_loop *loop,
                                        const struct mesa_config *cfg);

#endif
