/* mode_handshake.c - `connections` at once: connect, upgrade, hello, closing handshake, and again.
 *
 * The server ends the stream first (RFC 6455, 7.1.1), so no port of this side stays in TIME_WAIT.
 */
#include "bench.h"

static uint32_t handshake_connections(const struct options *o)
{
    return o->connections;
}

static void handshake_ready(struct bench *b, struct conn *c)
{
    if (b->phase == PHASE_OPEN)
        return; /* the first ones wait for each other */
    bench_count(b, c->opened_ns);
    bench_close(b, c);
}

static void handshake_start(struct bench *b)
{
    for (uint32_t i = 0; i < b->conn_count && !b->net.failed; i++)
        bench_close(b, &b->conns[i]);
}

static void handshake_ended(struct bench *b, struct conn *c)
{
    if (bench_begin(b))
        net_open(&b->net, c);
}

static uint64_t handshake_outstanding(const struct bench *b)
{
    uint64_t sum = 0;
    for (uint32_t i = 0; i < b->conn_count; i++)
        sum += b->conns[i].state != CONN_CLOSED;
    return sum;
}

const struct mode mode_handshake = {
    .name = "handshake",
    .unit = "connections",
    .default_type = "ECHO",
    .connections = handshake_connections,
    .init = bench_nothing,
    .deinit = bench_nothing,
    .ready = handshake_ready,
    .start = handshake_start,
    .answer = bench_no_answer,
    .ended = handshake_ended,
    .outstanding = handshake_outstanding,
};
