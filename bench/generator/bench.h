/* bench.h - one run: its connections up to the moment a mode takes them over, its phases, and what was measured.
 *
 * Opens the connections in windows, waits for each hello, authenticates, answers heartbeats, checks every message, and drives
 * open -> warm-up -> measurement -> drain. A mode says what is sent and what an answer means.
 * Single thread. May include: everything of the generator but main.
 */
#ifndef MESA_BENCH_BENCH_H
#define MESA_BENCH_BENCH_H

#include <stdbool.h>
#include <stdint.h>

#include "hist.h"
#include "message.h"
#include "net.h"
#include "options.h"

enum phase {
    PHASE_OPEN,
    PHASE_WARMUP,
    PHASE_MEASURE,
    PHASE_DRAIN, /* nothing new is sent; what is outstanding must come */
    PHASE_DONE,
};

struct bench;

struct mode {
    const char *name;
    const char *unit;         /* of what is counted */
    const char *default_type; /* of its messages */
    uint32_t (*connections)(const struct options *o);
    void (*init)(struct bench *b);
    void (*deinit)(struct bench *b);
    void (*ready)(struct bench *b, struct conn *c); /* optional: greeted and authenticated */
    void (*start)(struct bench *b);                 /* all are ready */
    void (*heartbeat)(struct bench *b);             /* optional: one was answered */
    void (*answer)(struct bench *b, struct conn *c, uint32_t seq);
    void (*ended)(struct bench *b,
                  struct conn *c); /* optional: the end of one that bench_close closed */
    void (*turn)(struct bench *b); /* optional: after each batch of events */
    uint64_t (*outstanding)(const struct bench *b);
    bool own_phases; /* `turn` drives the run and sets PHASE_DONE */
};

struct bench {
    struct options opt;
    const struct mode *mode;
    void *state; /* the mode's */
    struct net net;
    struct conn *conns;
    uint32_t conn_count;
    uint32_t open_target; /* open as many, in windows */
    uint32_t opened;
    uint32_t ready;
    struct message message;
    enum phase phase;
    uint64_t phase_end_ns;
    uint64_t due_ns;      /* `turn` may shorten the wait before the next one, each time anew */
    uint64_t progress_ns; /* the last time anything useful came */

    struct hist latency;
    uint64_t count;
    uint64_t begun; /* of --count */
    uint64_t measure_start_ns;
    uint64_t server_cpu_ns;
    uint64_t own_cpu_ns;
    double seconds;
    uint64_t rss_before, rss_after, rss_closed; /* idle only */
    uint64_t rss_begin, rss_end, rss_peak;      /* rate only: means of its first and last quarter */
    uint32_t rss_connections;
};

extern const struct mode mode_echo, mode_fanout, mode_handshake, mode_heartbeat, mode_idle,
    mode_rate;

/* True: measured, and everything that came was right. Otherwise b->net.error says what was not. */
bool bench_run(struct bench *b, const struct mode *mode, const struct options *o);
void bench_free(struct bench *b);

/* Counts one answer and its latency, when measuring. */
void bench_count(struct bench *b, uint64_t since_ns);

/* Whether a new message, publication or connection may begin. True: it is taken off --count, so it must. */
bool bench_begin(struct bench *b);

/* Queues the message numbered `seq`. */
void bench_send(struct bench *b, struct conn *c, uint32_t seq);

/* Begins the closing handshake with 1000; the mode's `ended` follows. */
void bench_close(struct bench *b, struct conn *c);

/* For modes that have nothing to do at a moment, and those that ask for no message. */
void bench_nothing(struct bench *b);
void bench_no_answer(struct bench *b, struct conn *c, uint32_t seq);

#endif
