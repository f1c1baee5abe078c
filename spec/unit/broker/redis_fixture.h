/* redis_fixture.h - real Redis servers and a scripted fake one, and what a connection has told.
 *
 * Real servers are child processes with a folder, a free port and a Unix socket of their own; a missing
 * redis-server fails the test. The fake one shares the test's loop. Every wait runs the loop until its
 * condition holds or the deadline has passed.
 */
#ifndef MESA_SPEC_BROKER_REDIS_FIXTURE_H
#define MESA_SPEC_BROKER_REDIS_FIXTURE_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "broker/redis_conn.h"
#include "io/loop.h"

enum { FIXTURE_DEADLINE_MS = 45000 };

struct redis_child {
    pid_t pid; /* 0: not running */
    uint16_t port;
    char folder[64];
    char socket[96];
};

uint16_t fixture_free_port(void);
/* Starts redis-server and waits until it listens; `args` go to its command line, NULL at the end. A
 * child that was stopped comes back on the same port and socket, empty. False: reported. */
bool fixture_redis_start(struct redis_child *c, const char *const *args);
/* `signum` ends it; gone when this returns. */
void fixture_redis_stop(struct redis_child *c, int signum);
/* Stops it and removes its folder. */
void fixture_redis_remove(struct redis_child *c);

/* A server that answers as a test says. */
struct fake_peer;
struct fake {
    uv_tcp_t listener;
    uint16_t port;
    int accepted, reads; /* connections, and chunks of bytes that came */
    /* Called with each chunk; may answer and hang up. NULL: says nothing. */
    void (*on_data)(struct fake *f, struct fake_peer *p, const char *data, size_t len);
    void (*on_accept)(struct fake *f, struct fake_peer *p); /* may be NULL */
    void *ctx;
};
void fake_start(struct fake *f, struct mesa_loop *loop);
void fake_stop(struct fake *f);
void fake_say(struct fake_peer *p, const void *data, size_t len);
void fake_hang_up(struct fake_peer *p);

/* One connection and what it has told. */
struct seen {
    struct mesa_redis *redis;
    struct mesa_redis_options options;
    int ready, lost, failed, subscribed, messages;
    size_t message_bytes;
    unsigned message_us; /* each takes so long */
    char reason[512];    /* of on_lost or on_failed, the last */
    char channel[64];
    char payload[256]; /* of the last message */
    char err[256];
    int ok, closed; /* replies, and commands that were lost */
    long long integer;
    char text[1024]; /* of the last reply that is a string, status or error */
    enum mesa_redis_type type;
    bool free_on_ready, free_on_lost, free_on_reply, free_on_message;
};

extern struct mesa_loop *loop;

/* A loop, and options for the child (by its Unix socket) or for 127.0.0.1:`port`. */
void seen_init(struct seen *s);
void seen_open(struct seen *s, enum mesa_redis_mode mode);
void seen_close(struct seen *s);

/* Words apart by spaces. The reply is counted in `s`. */
enum mesa_status seen_command(struct seen *s, const char *words);
void seen_on_reply(void *ctx, enum mesa_status rc, const struct mesa_redis_reply *reply);

/* Runs the loop until *counter >= value; reports when that does not come. */
bool wait_for(const char *what, const int *counter, int value);
void run_for(unsigned ms);
#define WAIT_FOR(counter, value) wait_for(#counter, &(counter), (value))

#endif
