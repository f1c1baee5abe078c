/* fake_broker.h - a broker in place of the one over Redis, for the tests of server/.
 *
 * fake_broker.c implements mesa_broker_redis_new: a server with cfg.redis.enabled gets it. It knows
 * who is online, keeps what it is asked to take until a test answers, and may call back from inside
 * every operation, as the real one may.
 */
#ifndef MESA_SPEC_FAKE_BROKER_H
#define MESA_SPEC_FAKE_BROKER_H

#include "broker/broker.h"

struct fake_cluster {
    struct mesa_broker *broker; /* of the server made last; NULL once it was freed */
    char log[8192];             /* a line for each change of presence */
    /* Called at the end of each operation, when nothing it was given is looked at any more. */
    void (*inside)(void);
    enum mesa_status send_rc;
    size_t unread; /* messages that came back */
    const char *trouble;
};

extern struct fake_cluster fake_cluster;

void fake_cluster_begin(void);
/* Whether the broker was told that the id has connections here. */
bool fake_cluster_online(struct mesa_span id);
size_t fake_cluster_online_count(void);
/* Takes without an answer. */
size_t fake_cluster_takes(void);
/* Answers the oldest take: with these messages, or with `rc`. */
void fake_cluster_answer(enum mesa_status rc, const char *const *json, size_t count);

/* -- what comes from elsewhere -- */
void fake_cluster_deliver(const char *id, const char *d, uint64_t number);
void fake_cluster_kept(const char *id);
void fake_cluster_gap(void);
void fake_cluster_available(bool available);
void fake_cluster_healed(void);
void fake_cluster_error(void);
void fake_cluster_dropped(const char *id);

#endif
