/* broker.h - what reaches users beyond this server's own connections: messages, presence, the sync
 * store, portals.
 *
 * An interface: memory.c implements it inside one process, redis.c over Redis. Callbacks come on the
 * loop thread, possibly from inside the operation that causes them, and each exactly once. A hook may
 * call any operation again, and close the client that the operation is about: ids, backlogs and
 * confirmations are not looked at any more once one was called. The broker itself is not freed before
 * the end of the turn. Loop thread only. May include: base/, core/, io/loop.h.
 */
#ifndef MESA_BROKER_BROKER_H
#define MESA_BROKER_BROKER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/buf.h"
#include "base/status.h"
#include "core/cluster.h"
#include "core/config.h"
#include "core/frame.h"
#include "io/loop.h"

struct mesa_broker; /* implementations embed it first */

/* Messages for one user, oldest first; `json` are envelopes without "s". Valid during the callback. */
struct mesa_backlog {
    const struct mesa_span *json;
    /* One for each, growing, in the broker's own measure, to be handed back to put_back unchanged. NULL: unknown,
     * counts as now. */
    const uint64_t *stamps;
    size_t count;
    /* What a broker for more than one server took: it keeps them until `confirm`, for whoever comes
     * after, and nothing is to be put back. */
    uint64_t
        upto; /* what is delivered with a number up to this is among them, or others confirmed it */
};

typedef void (*mesa_backlog_fn)(void *ctx, enum mesa_status rc, const struct mesa_backlog *backlog);
/* Whether the backlog is still of use; and whether the user has other connections here, which may be
 * about to confirm some of it. `first`: what this server sends from now on is not part of it. */
enum mesa_wanted { MESA_UNWANTED, MESA_WANTED, MESA_WANTED_BESIDE };
typedef enum mesa_wanted (*mesa_backlog_wanted_fn)(void *ctx, bool first);

/* What a connection asks for. */
struct mesa_take {
    enum mesa_take_mode {
        MESA_TAKE,
        MESA_TAKE_DROP,    /* the backlog is to be dropped */
        MESA_TAKE_NOTHING, /* only to know which messages came before */
    } mode;
    uint64_t after; /* of what is kept it was given what was taken up to this stamp */
    uint64_t seen;  /* and what was delivered up to this number */
};

typedef void (*mesa_broker_closed_fn)(void *ctx);

/* What a connection has received. */
struct mesa_confirmation {
    uint64_t from, live; /* all that was delivered with numbers behind `from` up to `live` */
    uint64_t send;       /* all that this server sent up to this count */
    const uint64_t *stamps;
    size_t count; /* of what was taken, that with these stamps */
};

/* A message of this server, after its own connections got it. */
struct mesa_publication {
    struct mesa_frame *frame;    /* the envelope as a text frame, or what raw clients get */
    bool raw;                    /* the latter; never with `sync` */
    const struct mesa_span *ids; /* each once; NULL: everybody */
    const bool *taken;           /* whether a connection here took it, for each id */
    size_t id_count;
    const struct mesa_span *excluding; /* of everybody */
    size_t excluding_count;
    bool sync;     /* to be kept for ids that are offline everywhere, and until it is confirmed */
    uint64_t send; /* a count of this server that grows */
};

/* Something a portal may want to know (PROTOCOL 9). */
enum mesa_portal_event_type {
    MESA_PORTAL_CONNECTION,
    MESA_PORTAL_AUTHENTICATION,
    MESA_PORTAL_MESSAGE,
    MESA_PORTAL_DISCONNECTION,
};

struct mesa_portal_event {
    enum mesa_portal_event_type type;
    struct mesa_span client_id;           /* absent before authentication */
    const struct mesa_envelope *envelope; /* of MESA_PORTAL_MESSAGE */
};

struct mesa_broker_hooks {
    /* A message was kept for these offline ids; `json` is its envelope. */
    void (*on_stored)(void *ctx, struct mesa_span json, const struct mesa_span *ids,
                      size_t id_count);
    /* A stored message of `id` went to make room or was too old, or was too big to be stored at all. */
    void (*on_dropped)(void *ctx, struct mesa_span id, struct mesa_span json);
    /* A message from elsewhere in the cluster, for connections here. */
    void (*on_delivery)(void *ctx, const struct mesa_cluster_message *m);
    /* There may be something to take for a user who is online. */
    void (*on_kept)(void *ctx, struct mesa_span id);
    /* It is not certain that what was sent with this count is kept until the connections of these ids confirm
     * it: whoever cares puts it back. */
    void (*on_unkept)(void *ctx, const struct mesa_span *ids, size_t id_count, uint64_t send);
    /* Messages from elsewhere may have been missed: on_available comes when they can be taken. */
    void (*on_gap)(void *ctx);
    void (*on_portal)(void *ctx, struct mesa_span id, bool joined);
    /* Redis can be reached and knows of all that is here, after it did not: what was sent to users
     * here meanwhile may have been stored. Or it cannot be reached any more. */
    void (*on_available)(void *ctx, bool available);
    /* Redis takes again what it refused: what could not be taken may be asked for once more. */
    void (*on_healed)(void *ctx);
    /* `code` is a stable upper-case word: "REDIS", "CLUSTER", "SYNC", "MEMORY". */
    void (*on_error)(void *ctx, const char *code, const char *text);
};

struct mesa_broker_ops {
    /* Ends at once; backlogs that are on their way are reported with MESA_ECLOSED. No hook is called any more. */
    void (*free)(struct mesa_broker *b);
    /* Takes what this server announced back and tells when that is done, or when it cannot be; bounded in time. Only free may follow. */
    void (*close)(struct mesa_broker *b, mesa_broker_closed_fn fn, void *ctx);
    /* A connection was made / has ended. */
    void (*connected)(struct mesa_broker *b);
    void (*disconnected)(struct mesa_broker *b);
    /* `id` has connections on this server, or none any more. Repeating has no effect. */
    void (*user_online)(struct mesa_broker *b, struct mesa_span id);
    /* `unread` are messages that it may not have received and nobody keeps: they go back in front of
     * what was stored since then. */
    void (*user_offline)(struct mesa_broker *b, struct mesa_span id,
                         const struct mesa_backlog *unread);
    /* Brings a message to where else its recipients are, and keeps it for those who are offline, within sync.maxMessages, maxBytes and maxAge: the oldest go first.
     * MESA_EUNAVAILABLE: the cluster cannot be reached. MESA_ENOMEM. */
    enum mesa_status (*send)(struct mesa_broker *b, const struct mesa_publication *p);
    /* Takes the backlog of `id`: what is stored, and what other connections did not confirm, after they have
     * had a moment for it. MESA_EUNAVAILABLE, MESA_EIO: it may still be stored; MESA_ECLOSED: not wanted any more. */
    void (*take)(struct mesa_broker *b, struct mesa_span id, const struct mesa_take *what,
                 mesa_backlog_wanted_fn wanted, mesa_backlog_fn fn, void *ctx);
    /* A connection of `id` has received what `c` says. MESA_EUNAVAILABLE, MESA_ENOMEM: nothing was done. */
    enum mesa_status (*confirm)(struct mesa_broker *b, struct mesa_span id,
                                const struct mesa_confirmation *c);
    /* Puts back messages that were not received and that nobody keeps, in front of what was stored later. The bounds
     * hold, the oldest go first. If the user is online, on_kept follows. */
    void (*put_back)(struct mesa_broker *b, struct mesa_span id, const struct mesa_backlog *unread);
    /* Why the cluster cannot be used as it should be, a line for people; NULL: it can. */
    const char *(*trouble)(struct mesa_broker *b);
    /* Tells one portal. */
    void (*tell_portal)(struct mesa_broker *b, const struct mesa_portal_event *e);
};

struct mesa_broker {
    const struct mesa_broker_ops *ops;
    struct mesa_broker_hooks hooks;
    void *hooks_ctx;
};

/* The broker for one process without Redis. `cfg` outlives it. Ages are checked on access and by a slow periodic sweep on the loop's wheel. */
enum mesa_status mesa_broker_memory_new(struct mesa_broker **out, struct mesa_loop *loop,
                                        const struct mesa_config *cfg);
/* The broker over cfg->redis. Connects at once and again whenever the connection is lost; a Redis that is not there is no failure.
 * MESA_EINVAL: cfg->redis does not say where Redis is, `err` is a line for people. `cfg` outlives it. */
enum mesa_status mesa_broker_redis_new(struct mesa_broker **out, struct mesa_loop *loop,
                                       const struct mesa_config *cfg, char *err, size_t err_len);

#endif
