/* mode_idle.c - what an idle connection costs the server: resident memory before, with, and after `connections` of them.
 *
 * A few connections are open before the first reading and stay, so that what a server sets up once is not counted. Before each
 * reading the server is asked to collect its garbage ("COLLECT", answered like an echo).
 */
#include <stdlib.h>

#include "bench.h"
#include "proc.h"

#define WARM 16
#define SETTLE_NS UINT64_C(1000000000)

enum step {
    STEP_OPEN_WARM,
    STEP_READ_BEFORE,
    STEP_OPEN_REST,
    STEP_STAY,
    STEP_READ_AFTER,
    STEP_CLOSE,
    STEP_READ_CLOSED,
};

struct idle {
    enum step step;
    uint64_t step_ns; /* since when */
    uint32_t asked;   /* collections */
    uint32_t answered;
    uint64_t answered_ns;
    uint32_t closed;
};

static uint32_t idle_connections(const struct options *o)
{
    return o->connections + WARM;
}

static void idle_init(struct bench *b)
{
    b->state = xcalloc(1, sizeof(struct idle));
    b->open_target = WARM;
    b->rss_connections = b->opt.connections;
}

static void idle_deinit(struct bench *b)
{
    free(b->state);
}

static void idle_answer(struct bench *b, struct conn *c, uint32_t seq)
{
    struct idle *s = b->state;
    if (c->index != 0 || s->answered == s->asked || seq != MESSAGE_SEQ_MIN + s->answered)
        net_fail(&b->net, "connection %u: message %u was not asked for", c->index, seq);
    s->answered++;
    s->answered_ns = b->net.now_ns;
}

static void idle_ended(struct bench *b, struct conn *c)
{
    struct idle *s = b->state;
    (void)c;
    s->closed++;
}

static void step_to(struct bench *b, enum step step)
{
    struct idle *s = b->state;
    s->step = step;
    s->step_ns = b->net.now_ns;
    switch (step) {
    case STEP_READ_BEFORE:
    case STEP_READ_AFTER:
    case STEP_READ_CLOSED:
        bench_send(b, &b->conns[0], MESSAGE_SEQ_MIN + s->asked++);
        net_flush(&b->net, &b->conns[0]);
        break;
    case STEP_OPEN_REST:
        b->open_target = b->conn_count;
        break;
    case STEP_CLOSE:
        for (uint32_t i = WARM; i < b->conn_count && !b->net.failed; i++)
            bench_close(b, &b->conns[i]);
        break;
    case STEP_OPEN_WARM:
    case STEP_STAY:
        break;
    }
}

/* True: read, some time after the server said that it has collected. */
static bool reading(struct bench *b, uint64_t *out)
{
    const struct idle *s = b->state;
    if (s->answered != s->asked || b->net.now_ns - s->answered_ns < SETTLE_NS)
        return false;
    if (b->opt.pid != 0 && !proc_rss_bytes(b->opt.pid, out))
        net_fail(&b->net, "there is no process %ld", (long)b->opt.pid);
    return true;
}

static bool step_over(struct bench *b)
{
    const struct idle *s = b->state;
    switch (s->step) {
    case STEP_OPEN_WARM:
    case STEP_OPEN_REST:
        return b->ready == b->open_target;
    case STEP_READ_BEFORE:
        return reading(b, &b->rss_before);
    case STEP_STAY:
        return (double)(b->net.now_ns - s->step_ns) >= b->opt.duration_s * 1e9;
    case STEP_READ_AFTER:
        return reading(b, &b->rss_after);
    case STEP_CLOSE:
        return s->closed == b->opt.connections;
    case STEP_READ_CLOSED:
        return reading(b, &b->rss_closed);
    }
    return false;
}

static void idle_turn(struct bench *b)
{
    const struct idle *s = b->state;
    if (step_over(b)) {
        if (s->step == STEP_READ_CLOSED)
            b->phase = PHASE_DONE;
        else
            step_to(b, s->step + 1);
    } else if (s->step_ns == 0) {
        step_to(b, STEP_OPEN_WARM);
    } else if (s->step != STEP_STAY &&
               (double)(b->net.now_ns - s->step_ns) > b->opt.timeout_s * 1e9) {
        net_fail(&b->net, "idle, step %d: %u open, %u closed after %g s", (int)s->step, b->ready,
                 s->closed, b->opt.timeout_s);
    }
}

const struct mode mode_idle = {
    .name = "idle",
    .unit = "connections",
    .default_type = "COLLECT",
    .connections = idle_connections,
    .init = idle_init,
    .deinit = idle_deinit,
    .answer = idle_answer,
    .ended = idle_ended,
    .turn = idle_turn,
    .own_phases = true,
};
