/* mode_rate.c - messages at a constant rate, whether or not the answers keep up; latency counts from when a message was due.
 *
 * Message n of all is due n / rate seconds after the start and goes to connection n modulo their number, so that its number on the
 * connection tells when it was due: a server that stalls is charged for everything that had to wait. The resident memory
 * of the server is read every second.
 */
#include <stdlib.h>

#include "bench.h"
#include "proc.h"

#define NS_PER_S UINT64_C(1000000000)
#define MAX_SAMPLES 3601 /* as many seconds as --duration allows */
#define MAX_BEHIND_S 10  /* more is no stall, but a rate the server does not reach */

struct rate {
    uint64_t start_ns;
    uint64_t sent; /* of all connections */
    uint64_t answered;
    uint64_t *got; /* of each connection */
    uint64_t rss[MAX_SAMPLES];
    uint32_t samples;
};

static uint32_t rate_connections(const struct options *o)
{
    return o->connections;
}

static void rate_init(struct bench *b)
{
    struct rate *r = xcalloc(1, sizeof *r);
    r->got = xcalloc(b->conn_count, sizeof *r->got);
    b->state = r;
}

static void rate_deinit(struct bench *b)
{
    struct rate *r = b->state;
    free(r->got);
    free(r);
}

static uint64_t due_ns(const struct bench *b, uint64_t n)
{
    const struct rate *r = b->state;
    return r->start_ns + n / b->opt.rate * NS_PER_S + n % b->opt.rate * NS_PER_S / b->opt.rate;
}

static void rate_start(struct bench *b)
{
    struct rate *r = b->state;
    r->start_ns = b->net.now_ns;
}

static void sample(struct bench *b)
{
    struct rate *r = b->state;
    if (b->opt.pid == 0 || b->phase != PHASE_MEASURE || r->samples == MAX_SAMPLES ||
        b->net.now_ns < b->measure_start_ns + r->samples * NS_PER_S)
        return;
    uint64_t *rss = &r->rss[r->samples++];
    if (!proc_rss_bytes(b->opt.pid, rss)) {
        net_fail(&b->net, "there is no process %ld", (long)b->opt.pid);
        return;
    }
    if (*rss > b->rss_peak)
        b->rss_peak = *rss;

    uint32_t quarter = (r->samples + 3) / 4;
    b->rss_begin = b->rss_end = 0;
    for (uint32_t i = 0; i < quarter; i++) {
        b->rss_begin += r->rss[i] / quarter;
        b->rss_end += r->rss[r->samples - 1 - i] / quarter;
    }
}

static void rate_turn(struct bench *b)
{
    struct rate *r = b->state;
    uint64_t now = now_ns();
    if (r->start_ns == 0)
        return;
    sample(b);
    while (due_ns(b, r->sent) <= now && bench_begin(b) && !b->net.failed) {
        struct conn *c = &b->conns[r->sent % b->conn_count];
        bench_send(b, c, message_number(r->sent / b->conn_count));
        r->sent++;
        if (!c->wants_write)
            net_flush(&b->net, c);
    }
    if (r->sent - r->answered > (uint64_t)b->opt.rate * MAX_BEHIND_S)
        net_fail(&b->net, "the server is %d s behind %u messages/s", MAX_BEHIND_S, b->opt.rate);
    uint64_t next = due_ns(b, r->sent);
    if (next < now + b->due_ns)
        b->due_ns = next > now ? next - now : 0;
}

static void rate_answer(struct bench *b, struct conn *c, uint32_t seq)
{
    struct rate *r = b->state;
    uint64_t k = r->got[c->index];
    uint64_t n = k * b->conn_count + c->index;
    if (n >= r->sent || seq != message_number(k)) {
        net_fail(&b->net, "connection %u: message %u instead of %u", c->index, seq,
                 message_number(k));
        return;
    }
    bench_count(b, due_ns(b, n));
    r->got[c->index]++;
    r->answered++;
}

static uint64_t rate_outstanding(const struct bench *b)
{
    const struct rate *r = b->state;
    return r->sent - r->answered;
}

const struct mode mode_rate = {
    .name = "rate",
    .unit = "messages",
    .default_type = "ECHO",
    .connections = rate_connections,
    .init = rate_init,
    .deinit = rate_deinit,
    .start = rate_start,
    .answer = rate_answer,
    .turn = rate_turn,
    .outstanding = rate_outstanding,
};
