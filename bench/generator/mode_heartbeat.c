/* mode_heartbeat.c - connections that do nothing but answer the server's heartbeats; what that costs the server. */
#include "bench.h"

static uint32_t heartbeat_connections(const struct options *o)
{
    return o->connections;
}

static void heartbeat_came(struct bench *b)
{
    bench_count(b, b->net.now_ns);
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
    .init = bench_nothing,
    .deinit = bench_nothing,
    .start = bench_nothing,
    .heartbeat = heartbeat_came,
    .answer = bench_no_answer,
    .outstanding = heartbeat_outstanding,
};
