/* redis_conn_internal.h - the parts of a reconnecting connection, for redis_conn*.c only.
 *
 * redis_conn.c connects, logs in and starts over; redis_conn_channel.c keeps the channels of a
 * subscriber. Loop thread only. May include: base/, io/loop.h, hiredis.
 */
#ifndef MESA_BROKER_REDIS_CONN_INTERNAL_H
#define MESA_BROKER_REDIS_CONN_INTERNAL_H

#include "base/map.h"
#include "broker/redis_conn.h"
#include "broker/redis_conn_dial.h"
#include "broker/redis_conn_link.h"
#include "broker/redis_conn_sentinel.h"

enum mesa_redis_state {
    MESA_REDIS_WAITING,     /* for the timer to try again */
    MESA_REDIS_ASKING,      /* the sentinels */
    MESA_REDIS_DIALLING,    /* looking up and connecting */
    MESA_REDIS_LOGGING_IN,  /* up to the reply to PING or ROLE */
    MESA_REDIS_SUBSCRIBING, /* until Redis has confirmed each channel */
    MESA_REDIS_READY,
};

enum { MESA_REDIS_LOGIN_STEPS = 4, MESA_REDIS_REASONS = 8, MESA_REDIS_REASON_BYTES = 512 };

struct mesa_redis {
    struct mesa_loop *loop;
    enum mesa_redis_mode mode;
    struct mesa_redis_options options;
    struct mesa_redis_hooks hooks;
    void *ctx;
    unsigned refs; /* the owner's, and one for each call of it that calls back */
    bool freed;    /* no hook is called any more */

    struct mesa_redis_tls *tls;
    struct mesa_redis_sentinel *sentinel; /* NULL: the place is known */
    char *master_host;                    /* where the sentinels say */
    uint16_t master_port;

    enum mesa_redis_state state;
    struct mesa_redis_dial *dial; /* while dialling */
    struct mesa_redis_link *link; /* from logging in on */
    struct mesa_timer timer;
    unsigned failures; /* in a row */
    uint64_t ready_since;
    uint8_t steps[MESA_REDIS_LOGIN_STEPS]; /* of the login, in the order of their replies */
    size_t step_count, step_next;

    bool outage; /* on_lost was called */
    char address[160];
    uint64_t reasons[MESA_REDIS_REASONS]; /* hashes of those reported in this outage */
    size_t reason_count;

    struct mesa_list queue;
    size_t queue_count, queue_bytes;

    struct mesa_map *channels; /* of a subscriber */
    size_t unconfirmed;
    uint64_t requested, answered; /* SUBSCRIBE and UNSUBSCRIBE on this link */
};

void mesa_redis_ref(struct mesa_redis *r);
void mesa_redis_unref(struct mesa_redis *r);

/* Ends what there is, tells why, and tries again: later, or much later when Redis `refused`. The
 * connection may be gone when it returns, unless the caller holds a reference. */
void mesa_redis_fail(struct mesa_redis *r, const char *reason, bool refused);
/* As above, with the error of Redis that is the reply to `what`. */
void mesa_redis_fail_reply(struct mesa_redis *r, const char *what,
                           const struct mesa_redis_reply *reply);
/* Everything is in place. */
void mesa_redis_become_ready(struct mesa_redis *r);

enum mesa_status mesa_redis_channels_init(struct mesa_redis *r);
void mesa_redis_channels_deinit(struct mesa_redis *r);
/* Subscribes to all of them on a new link, then becomes ready. */
void mesa_redis_channels_restore(struct mesa_redis *r);
void mesa_redis_channels_on_message(void *r, struct mesa_span channel, struct mesa_span payload);

#endif
