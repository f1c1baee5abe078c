/* mode_fanout.c - publishers keep `depth` publications each in flight; the server sends each to every connection, publishers included.
 *
 * Every connection must see every publisher's numbers without a gap and in order. A publication is over when all have it.
 */
#include <stdlib.h>

#include "bench.h"

#define SPAN 10000000u /* numbers of one publisher: 1P0000000 .. 1P9999999, P from 10 */
#define FIRST_PREFIX 10u

struct publication {
    uint64_t sent_ns;
    uint32_t missing; /* connections that have not had it */
};

struct publisher {
    uint64_t sent;
    uint64_t complete;
};

struct fanout {
    struct publisher *publishers;
    struct publication *slots; /* `depth` for each publisher, by number modulo depth */
    uint64_t *expected;        /* the next number of each publisher, for each connection */
};

static uint32_t fanout_connections(const struct options *o)
{
    return o->connections + o->publishers;
}

static void fanout_init(struct bench *b)
{
    struct fanout *f = xcalloc(1, sizeof *f);
    f->publishers = xcalloc(b->opt.publishers, sizeof *f->publishers);
    f->slots = xcalloc((size_t)b->opt.publishers * b->opt.depth, sizeof *f->slots);
    f->expected = xcalloc((size_t)b->conn_count * b->opt.publishers, sizeof *f->expected);
    b->state = f;
}

static void fanout_deinit(struct bench *b)
{
    struct fanout *f = b->state;
    free(f->publishers);
    free(f->slots);
    free(f->expected);
    free(f);
}

static uint32_t number(uint32_t publisher, uint64_t n)
{
    return (FIRST_PREFIX + publisher) * SPAN + (uint32_t)(n % SPAN);
}

static void publish(struct bench *b, uint32_t p)
{
    struct fanout *f = b->state;
    struct publisher *pub = &f->publishers[p];
    struct conn *c = &b->conns[b->opt.connections + p];

    if (pub->sent - pub->complete == b->opt.depth)
        return;
    while (pub->sent - pub->complete < b->opt.depth && bench_begin(b)) {
        uint64_t n = pub->sent++;
        f->slots[(size_t)p * b->opt.depth + n % b->opt.depth] =
            (struct publication){b->net.now_ns, b->conn_count};
        bench_send(b, c, number(p, n));
    }
    if (!c->wants_write)
        net_flush(&b->net, c);
}

/* Once per batch of events, so that publications that ended together are followed by one write. */
static void fanout_turn(struct bench *b)
{
    for (uint32_t p = 0; p < b->opt.publishers; p++)
        publish(b, p);
}

static void fanout_answer(struct bench *b, struct conn *c, uint32_t seq)
{
    struct fanout *f = b->state;
    uint32_t p = seq / SPAN - FIRST_PREFIX;
    if (p >= b->opt.publishers) {
        net_fail(&b->net, "connection %u: message %u of no publisher", c->index, seq);
        return;
    }
    struct publisher *pub = &f->publishers[p];
    uint64_t *expected = &f->expected[(size_t)c->index * b->opt.publishers + p];
    if (*expected == pub->sent || seq != number(p, *expected)) {
        net_fail(&b->net, "connection %u: publication %u instead of %u", c->index, seq,
                 number(p, *expected));
        return;
    }

    struct publication *slot = &f->slots[(size_t)p * b->opt.depth + *expected % b->opt.depth];
    ++*expected;
    bench_count(b, slot->sent_ns);
    if (--slot->missing == 0)
        pub->complete++; /* connections get them in order, so publications end in order */
}

static uint64_t fanout_outstanding(const struct bench *b)
{
    const struct fanout *f = b->state;
    uint64_t sum = 0;
    for (uint32_t p = 0; p < b->opt.publishers; p++) {
        for (uint32_t i = 0; i < b->conn_count; i++)
            sum += f->publishers[p].sent - f->expected[(size_t)i * b->opt.publishers + p];
    }
    return sum;
}

const struct mode mode_fanout = {
    .name = "fanout",
    .unit = "deliveries",
    .default_type = "PUBLISH",
    .connections = fanout_connections,
    .init = fanout_init,
    .deinit = fanout_deinit,
    .start = fanout_turn,
    .answer = fanout_answer,
    .turn = fanout_turn,
    .outstanding = fanout_outstanding,
};
