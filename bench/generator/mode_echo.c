/* mode_echo.c - each connection keeps `depth` messages in flight; each answer must be the next one expected. */
#include <stdlib.h>

#include "bench.h"

struct echo_conn {
    uint64_t sent;
    uint64_t got;
};

struct echo {
    struct echo_conn *conns;
    uint64_t *sent_ns; /* `depth` for each connection, by number modulo depth */
};

static uint32_t echo_connections(const struct options *o)
{
    return o->connections;
}

static void echo_init(struct bench *b)
{
    struct echo *e = xcalloc(1, sizeof *e);
    e->conns = xcalloc(b->conn_count, sizeof *e->conns);
    e->sent_ns = xcalloc((size_t)b->conn_count * b->opt.depth, sizeof *e->sent_ns);
    b->state = e;
}

static void echo_deinit(struct bench *b)
{
    struct echo *e = b->state;
    free(e->conns);
    free(e->sent_ns);
    free(e);
}

static uint64_t *time_of(const struct bench *b, const struct conn *c, uint64_t n)
{
    const struct echo *e = b->state;
    return &e->sent_ns[(size_t)c->index * b->opt.depth + n % b->opt.depth];
}

static void send_next(struct bench *b, struct conn *c)
{
    struct echo *e = b->state;
    uint64_t n = e->conns[c->index].sent++;
    *time_of(b, c, n) = b->net.now_ns;
    bench_send(b, c, message_number(n));
}

static void echo_start(struct bench *b)
{
    for (uint32_t i = 0; i < b->conn_count && !b->net.failed; i++) {
        for (uint32_t k = 0; k < b->opt.depth && bench_begin(b); k++)
            send_next(b, &b->conns[i]);
        net_flush(&b->net, &b->conns[i]);
    }
}

static void echo_answer(struct bench *b, struct conn *c, uint32_t seq)
{
    struct echo *e = b->state;
    struct echo_conn *ec = &e->conns[c->index];
    if (ec->got == ec->sent || seq != message_number(ec->got)) {
        net_fail(&b->net, "connection %u: message %u instead of %u", c->index, seq,
                 message_number(ec->got));
        return;
    }
    bench_count(b, *time_of(b, c, ec->got));
    ec->got++;
    if (bench_begin(b))
        send_next(b, c); /* goes out with the others of this read */
}

static uint64_t echo_outstanding(const struct bench *b)
{
    const struct echo *e = b->state;
    uint64_t sum = 0;
    for (uint32_t i = 0; i < b->conn_count; i++)
        sum += e->conns[i].sent - e->conns[i].got;
    return sum;
}

const struct mode mode_echo = {
    .name = "echo",
    .unit = "messages",
    .default_type = "ECHO",
    .connections = echo_connections,
    .init = echo_init,
    .deinit = echo_deinit,
    .start = echo_start,
    .answer = echo_answer,
    .outstanding = echo_outstanding,
};
