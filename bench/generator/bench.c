#include "bench.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "proc.h"

#define NS_PER_S 1e9
#define OPEN_WINDOW 128 /* connecting at once: below any server's backlog */
#define TURN_NS UINT64_C(10000000)

static const uint8_t close_normal[2] = {1000 >> 8, 1000 & 0xff};

static uint64_t seconds_from_now(const struct bench *b, double seconds)
{
    return b->net.now_ns + (uint64_t)(seconds * NS_PER_S);
}

void bench_count(struct bench *b, uint64_t since_ns)
{
    b->progress_ns = b->net.now_ns;
    if (b->phase != PHASE_MEASURE)
        return;
    b->count++;
    hist_add(&b->latency, b->net.now_ns > since_ns ? b->net.now_ns - since_ns : 0);
}

bool bench_begin(struct bench *b)
{
    if ((b->phase != PHASE_WARMUP && b->phase != PHASE_MEASURE) ||
        (b->opt.count != 0 && b->begun == b->opt.count))
        return false;
    b->begun++;
    return true;
}

void bench_send(struct bench *b, struct conn *c, uint32_t seq)
{
    message_write(&b->message, bytes_reserve(&c->out, b->message.frame_len), seq);
    bytes_commit(&c->out, b->message.frame_len);
}

void bench_close(struct bench *b, struct conn *c)
{
    net_queue(c, WS_CLOSE, close_normal, sizeof close_normal);
    c->state = CONN_CLOSING;
    net_flush(&b->net, c);
}

void bench_nothing(struct bench *b)
{
    (void)b;
}

void bench_no_answer(struct bench *b, struct conn *c, uint32_t seq)
{
    net_fail(&b->net, "connection %u: message %u was not asked for", c->index, seq);
}

/* ---- what the server says ---- */

static void complain(struct bench *b, const struct conn *c, const char *what, const char *text,
                     size_t len)
{
    net_fail(&b->net, "connection %u: %s: %.*s%s", c->index, what, len > 160 ? 160 : (int)len, text,
             len > 160 ? "…" : "");
}

static void become_ready(struct bench *b, struct conn *c)
{
    c->state = CONN_READY;
    b->ready++;
    b->progress_ns = b->net.now_ns;
    if (b->mode->ready != NULL)
        b->mode->ready(b, c);
}

static void greeted(struct bench *b, struct conn *c)
{
    const struct dialect *d = b->opt.dialect;
    if (!b->opt.auth && !d->must_join) {
        become_ready(b, c);
        return;
    }
    char text[64];
    int len = snprintf(text, sizeof text, d->join, c->index);
    net_queue(c, WS_TEXT, text, (size_t)len);
    c->state = CONN_AUTH;
}

static void on_heartbeat(struct bench *b, struct conn *c)
{
    const char *ack = b->opt.dialect->ack;
    net_queue(c, WS_TEXT, ack, strlen(ack));
    if (b->mode->heartbeat != NULL)
        b->mode->heartbeat(b);
}

/* Everything but messages of ours. */
static void on_word(struct bench *b, struct conn *c, const char *text, size_t len)
{
    enum said said = b->opt.dialect->said((struct json_span){text, len});
    if ((said == SAID_HELLO) != (c->state == CONN_HELLO))
        complain(b, c, "the first frame, and no other, has to be a hello", text, len);
    else if (said == SAID_HELLO)
        greeted(b, c);
    else if (said == SAID_AUTHENTICATED && c->state == CONN_AUTH)
        become_ready(b, c);
    else if (said == SAID_HEARTBEAT)
        on_heartbeat(b, c);
    else if (said == SAID_WRONG)
        complain(b, c, "not what was sent", text, len);
}

static void on_message(void *user, struct conn *c, const char *text, size_t len)
{
    struct bench *b = user;
    uint32_t seq;

    if (c->state == CONN_CLOSING)
        return;
    if (c->state == CONN_READY && message_check(&b->message, text, len, &seq))
        b->mode->answer(b, c, seq);
    else
        on_word(b, c, text, len);
}

static void on_closed(void *user, struct conn *c, unsigned code)
{
    struct bench *b = user;
    if (c->state != CONN_CLOSING || code != 1000)
        net_fail(&b->net, "connection %u: closed by the server with %u", c->index, code);
}

static void on_ended(void *user, struct conn *c, enum conn_state was, int error)
{
    struct bench *b = user;
    if (was == CONN_CLOSING && b->mode->ended != NULL)
        b->mode->ended(b, c);
    else
        net_fail(&b->net, "connection %u: %s", c->index,
                 error != 0 ? strerror(error) : "the stream ended");
}

static void on_upgraded(void *user, struct conn *c)
{
    struct bench *b = user;
    (void)c;
    b->progress_ns = b->net.now_ns;
}

static const struct net_handlers handlers = {on_upgraded, on_message, on_closed, on_ended};

/* ---- phases ---- */

static void open_more(struct bench *b)
{
    while (b->opened < b->open_target && b->opened - b->ready < OPEN_WINDOW && !b->net.failed)
        net_open(&b->net, &b->conns[b->opened++]);
}

static void server_cpu(struct bench *b, uint64_t *out)
{
    if (b->opt.pid != 0 && !proc_cpu_ns(b->opt.pid, out))
        net_fail(&b->net, "there is no process %ld", (long)b->opt.pid);
}

static void measure_begin(struct bench *b)
{
    hist_reset(&b->latency);
    b->count = 0;
    b->measure_start_ns = b->net.now_ns;
    server_cpu(b, &b->server_cpu_ns);
    b->own_cpu_ns = own_cpu_ns();
}

static void measure_end(struct bench *b)
{
    uint64_t server_ns = 0;
    b->seconds = (double)(b->net.now_ns - b->measure_start_ns) / NS_PER_S;
    server_cpu(b, &server_ns);
    b->server_cpu_ns = server_ns - b->server_cpu_ns;
    b->own_cpu_ns = own_cpu_ns() - b->own_cpu_ns;
    if (b->count == 0)
        net_fail(&b->net, "nothing was measured");
}

static void start(struct bench *b)
{
    b->phase = PHASE_WARMUP;
    b->phase_end_ns = seconds_from_now(b, b->opt.warmup_s);
    if (b->opt.count != 0) {
        b->phase = PHASE_MEASURE;
        measure_begin(b);
    }
    b->mode->start(b);
}

static bool measured(const struct bench *b)
{
    if (b->opt.count != 0)
        return b->begun == b->opt.count && b->mode->outstanding(b) == 0;
    return b->net.now_ns >= b->phase_end_ns;
}

static void advance(struct bench *b)
{
    bool over = b->net.now_ns >= b->phase_end_ns;
    switch (b->phase) {
    case PHASE_OPEN:
        open_more(b);
        if (b->ready == b->open_target) {
            start(b);
        } else if (over) {
            net_fail(&b->net, "%u of %u connections after %g s", b->ready, b->open_target,
                     b->opt.timeout_s);
        }
        break;
    case PHASE_WARMUP:
        if (over) {
            b->phase = PHASE_MEASURE;
            b->phase_end_ns = seconds_from_now(b, b->opt.duration_s);
            measure_begin(b);
        }
        break;
    case PHASE_MEASURE:
        if (measured(b)) {
            measure_end(b);
            b->phase = PHASE_DRAIN;
            b->phase_end_ns = seconds_from_now(b, b->opt.timeout_s);
        }
        break;
    case PHASE_DRAIN:
        if (b->mode->outstanding(b) == 0)
            b->phase = PHASE_DONE;
        else if (over)
            net_fail(&b->net, "%llu never came", (unsigned long long)b->mode->outstanding(b));
        break;
    case PHASE_DONE:
        break;
    }
}

static void close_all(struct bench *b)
{
    for (uint32_t i = 0; i < b->opened; i++) {
        struct conn *c = &b->conns[i];
        if (c->state == CONN_READY && !b->net.failed)
            bench_close(b, c);
        net_close(c);
    }
}

static void run(struct bench *b)
{
    while (b->phase != PHASE_DONE && !b->net.failed) {
        net_poll(&b->net, b->due_ns);
        b->due_ns = TURN_NS;
        if (b->net.failed)
            break;
        if (!b->mode->own_phases) {
            advance(b);
            if (b->phase != PHASE_OPEN &&
                (double)b->net.now_ns - (double)b->progress_ns > b->opt.timeout_s * NS_PER_S)
                net_fail(&b->net, "no answer for %g s", b->opt.timeout_s);
        } else {
            open_more(b);
        }
        if (b->mode->turn != NULL && !b->net.failed)
            b->mode->turn(b);
    }
    close_all(b);
}

bool bench_run(struct bench *b, const struct mode *mode, const struct options *o)
{
    const char *type = o->type != NULL ? o->type : mode->default_type;
    struct net_options net = {.host = o->host,
                              .port = o->port,
                              .path = o->path != NULL ? o->path : o->dialect->path,
                              .sources = o->sources,
                              .max_message = o->size + 65536,
                              .trusted = o->tls};

    *b = (struct bench){.opt = *o, .mode = mode, .conn_count = mode->connections(o)};
    b->open_target = b->conn_count;
    b->conns = xcalloc(b->conn_count, sizeof *b->conns);
    for (uint32_t i = 0; i < b->conn_count; i++) {
        b->conns[i].fd = -1;
        b->conns[i].index = i;
    }
    b->due_ns = TURN_NS;
    message_init(&b->message, o->dialect, type, o->size);
    mode->init(b);
    if (net_init(&b->net, &net, &handlers, b)) {
        b->net.now_ns = now_ns();
        b->progress_ns = b->net.now_ns;
        b->phase_end_ns = seconds_from_now(b, o->timeout_s);
        run(b);
    }
    return !b->net.failed;
}

void bench_free(struct bench *b)
{
    b->mode->deinit(b);
    message_deinit(&b->message);
    net_deinit(&b->net);
    free(b->conns);
}
