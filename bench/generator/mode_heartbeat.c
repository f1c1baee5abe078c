/* mode_heartbeat.c - connections that do nothing but answer the server's heartbeats; what that costs the server. */
#include "bench.h"

static uint32_t heartbeat_connections(const struct options *o)
{
    return o->connections;
}

static void heartbeat_nothing(struct bench *b)
{
    (void)b;
}

static void heartbeat_came(struct bench *b)
{
    bench_count(b, b->net.now_ns);
}

static void heartbeat_answer(struct bench *b, struct conn *c, uint32_t seq)
{
    net_fail(&b->net, "connection %u: message %u was not asked for", c->index, seq);
}

static uint64_t heartbeat_outstanding(const struct bench *b)
{
    (void)b;
    return 0;
}

const struct mode mode_heartbeat = {
    .name = "heartbeat",
    .unit = "heartbeats",
    .default_type = "ECHO",
    .connections = heartbeat_connections,
    .init = heartbeat_nothing,
    .deinit = heartbeat_nothing,
    .start = heartbeat_nothing,
    .heartbeat = heartbeat_came,
    .answer = heartbeat_answer,
    .outstanding = heartbeat_outstanding,
};
