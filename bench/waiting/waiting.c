/* waiting.c - many clients authenticate at once through a slow service, while one client's echoes are timed.
 *
 *   mesa-bench-waiting PORT [clients [rounds [idle seconds]]]
 *
 * The server is examples/auth-http/server.lua. A round is a while in which nothing else happens, and then a burst: every client sends
 * op 2 at once, and the round ends when all have op 22. All the time a process of its own sends an echo every millisecond and times it
 * from when it was due, so that a server which does nothing for 40 ms is seen by 40 echoes and not by one.
 * Prints a line of JSON for each round. Exit 0 only when every client got in and every echo came, in order.
 */
#include <sched.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "hist.h"
#include "message.h"
#include "net.h"
#include "proc.h"

#define ECHO_INTERVAL_NS 1000000u
#define OPEN_WINDOW 64
#define TIMEOUT_NS 30000000000u
#define MESSAGE_BYTES 128
#define PROBE_AUTH "{\"op\":2,\"d\":{\"token\":\"probe-secret\"}}"

enum phase { PHASE_OTHER, PHASE_IDLE, PHASE_BURST, PHASE_END, PHASE_COUNT };

/* What the two processes share. Only the probe writes the histograms, and only while `phase` is theirs. */
struct shared {
    _Atomic int phase;
    _Atomic int acknowledged; /* the phase the probe is in */
    _Atomic bool failed;
    char error[256];
    struct hist hist[PHASE_COUNT];
};

static uint64_t later_ns(uint64_t ns)
{
    return now_ns() + ns;
}

/* ---- the probe ---- */

struct probe {
    struct net net;
    struct message message;
    struct conn conn;
    uint32_t sent, answered;
    bool in; /* authenticated */
};

static void probe_message(void *user, struct conn *c, const char *text, size_t len)
{
    struct probe *p = user;
    uint32_t seq;
    bool ours = message_check(&p->message, text, len, &seq);
    enum said said = ours ? SAID_NOTHING : p->message.dialect->said((struct json_span){text, len});
    if (said == SAID_HELLO) {
        net_queue(c, WS_TEXT, PROBE_AUTH, sizeof PROBE_AUTH - 1);
        net_flush(&p->net, c);
        return;
    }
    if (said == SAID_AUTHENTICATED) {
        p->in = true;
        return;
    }
    if (!ours || seq != MESSAGE_SEQ_MIN + p->answered)
        net_fail(&p->net, "the probe expected echo %u, got %.*s", p->answered, (int)len, text);
    p->answered++;
}

static void probe_upgraded(void *user, struct conn *c)
{
    (void)user;
    (void)c;
}

static void probe_closed(void *user, struct conn *c, unsigned code)
{
    struct probe *p = user;
    (void)c;
    net_fail(&p->net, "the probe was closed with %u", code);
}

static void probe_ended(void *user, struct conn *c, enum conn_state was, int error)
{
    struct probe *p = user;
    (void)c;
    (void)was;
    net_fail(&p->net, "the probe's connection ended (%s)", strerror(error));
}

static void probe_wait(struct probe *p, uint32_t answers)
{
    uint64_t deadline = later_ns(TIMEOUT_NS);
    while (!p->net.failed && !(p->in && p->answered >= answers)) {
        net_poll(&p->net, 100);
        if (now_ns() > deadline)
            net_fail(&p->net, "the probe got no answer");
    }
}

static void probe_echo(struct probe *p)
{
    uint8_t *out = bytes_reserve(&p->conn.out, p->message.frame_len);
    message_write(&p->message, out, MESSAGE_SEQ_MIN + p->sent++);
    bytes_commit(&p->conn.out, p->message.frame_len);
    net_flush(&p->net, &p->conn);
    probe_wait(p, p->sent);
}

static void sleep_until(uint64_t ns)
{
    struct timespec at = {.tv_sec = (time_t)(ns / 1000000000u),
                          .tv_nsec = (long)(ns % 1000000000u)};
    while (clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &at, NULL) != 0)
        ;
}

static void probe_run(struct shared *s, const struct net_options *o)
{
    static const struct net_handlers handlers = {probe_upgraded, probe_message, probe_closed,
                                                 probe_ended};
    static struct probe p;
    p.conn.fd = -1;
    message_init(&p.message, &dialect_mesa, "ECHO", MESSAGE_BYTES);
    if (net_init(&p.net, o, &handlers, &p)) {
        net_open(&p.net, &p.conn);
        probe_wait(&p, 0);
    }
    uint64_t due = now_ns();
    while (!p.net.failed && atomic_load(&s->phase) != PHASE_END) {
        int phase = atomic_load(&s->phase);
        if (atomic_load(&s->acknowledged) != phase) {
            due = now_ns(); /* a phase does not answer for the one before */
            atomic_store(&s->acknowledged, phase);
        }
        due += ECHO_INTERVAL_NS;
        if (now_ns() < due)
            sleep_until(due);
        probe_echo(&p);
        hist_add(&s->hist[phase], now_ns() - due);
    }
    if (p.net.failed) {
        memcpy(s->error, p.net.error, sizeof s->error);
        atomic_store(&s->failed, true);
    }
    net_close(&p.conn);
    message_deinit(&p.message);
    net_deinit(&p.net);
}

/* ---- the crowd ---- */

struct crowd {
    struct net net;
    struct shared *shared;
    struct conn *conns;
    uint32_t count, opened, greeted, in;
};

static void crowd_message(void *user, struct conn *c, const char *text, size_t len)
{
    struct crowd *w = user;
    if (c->state == CONN_HELLO) {
        c->state = CONN_READY;
        w->greeted++;
    } else if (c->state == CONN_AUTH && memmem(text, len, "\"op\":22", 7) != NULL) {
        c->state = CONN_READY;
        w->in++;
    } else {
        net_fail(&w->net, "client %u did not expect %.*s", c->index, (int)len, text);
    }
}

static void crowd_upgraded(void *user, struct conn *c)
{
    (void)user;
    (void)c;
}

static void crowd_closed(void *user, struct conn *c, unsigned code)
{
    struct crowd *w = user;
    net_fail(&w->net, "client %u was closed with %u", c->index, code);
}

static void crowd_ended(void *user, struct conn *c, enum conn_state was, int error)
{
    struct crowd *w = user;
    (void)was;
    net_fail(&w->net, "the connection of client %u ended (%s)", c->index, strerror(error));
}

static void crowd_poll(struct crowd *w, uint64_t deadline)
{
    net_poll(&w->net, 5);
    if (atomic_load(&w->shared->failed))
        net_fail(&w->net, "%s", w->shared->error);
    else if (now_ns() > deadline)
        net_fail(&w->net, "%u of %u clients were in in time", w->in, w->count);
}

static void crowd_open(struct crowd *w)
{
    uint64_t deadline = later_ns(TIMEOUT_NS);
    while (w->greeted < w->count && !w->net.failed) {
        while (w->opened < w->count && w->opened - w->greeted < OPEN_WINDOW)
            net_open(&w->net, &w->conns[w->opened++]);
        crowd_poll(w, deadline);
    }
}

static void enter_phase(struct crowd *w, int phase)
{
    uint64_t deadline = later_ns(TIMEOUT_NS);
    if (phase != PHASE_OTHER)
        hist_reset(&w->shared->hist[phase]);
    atomic_store(&w->shared->phase, phase);
    while (atomic_load(&w->shared->acknowledged) != phase && !w->net.failed)
        crowd_poll(w, deadline);
}

static void authenticate(struct crowd *w, struct conn *c)
{
    char text[64];
    int len =
        snprintf(text, sizeof text, "{\"op\":2,\"d\":{\"token\":\"user%u-secret\"}}", c->index);
    c->state = CONN_AUTH;
    net_queue(c, WS_TEXT, text, (size_t)len);
    net_flush(&w->net, c);
}

/* Milliseconds until everybody was in. */
static double burst(struct crowd *w)
{
    uint64_t began = now_ns(), deadline = later_ns(TIMEOUT_NS);
    w->in = 0;
    for (uint32_t i = 0; i < w->count && !w->net.failed; i++)
        authenticate(w, &w->conns[i]);
    while (w->in < w->count && !w->net.failed)
        crowd_poll(w, deadline);
    return (double)(now_ns() - began) / 1e6;
}

static void print_hist(const char *name, const struct hist *h)
{
    printf(",\"%s\":{\"echoes\":%llu,\"p50_us\":%.0f,\"p99_us\":%.0f,\"max_us\":%.0f}", name,
           (unsigned long long)h->count, (double)hist_quantile_ns(h, 0.5) / 1e3,
           (double)hist_quantile_ns(h, 0.99) / 1e3, (double)h->max_ns / 1e3);
}

static void round_trip(struct crowd *w, double idle_s)
{
    enter_phase(w, PHASE_IDLE);
    uint64_t until = later_ns((uint64_t)(idle_s * 1e9));
    while (now_ns() < until && !w->net.failed)
        crowd_poll(w, until + TIMEOUT_NS);
    enter_phase(w, PHASE_BURST);
    double ms = burst(w);
    enter_phase(w, PHASE_OTHER);
    if (w->net.failed)
        return;
    printf("{\"clients\":%u,\"all_in_ms\":%.0f", w->count, ms);
    print_hist("idle", &w->shared->hist[PHASE_IDLE]);
    print_hist("burst", &w->shared->hist[PHASE_BURST]);
    puts("}");
    fflush(stdout);
}

static bool crowd_run(struct shared *s, const struct net_options *o, uint32_t clients,
                      unsigned rounds, double idle_s)
{
    static const struct net_handlers handlers = {crowd_upgraded, crowd_message, crowd_closed,
                                                 crowd_ended};
    struct crowd w = {.shared = s, .count = clients};
    w.conns = xcalloc(clients, sizeof *w.conns);
    for (uint32_t i = 0; i < clients; i++) {
        w.conns[i].fd = -1;
        w.conns[i].index = i;
    }
    if (net_init(&w.net, o, &handlers, &w))
        crowd_open(&w);
    for (unsigned i = 0; i < rounds && !w.net.failed; i++)
        round_trip(&w, idle_s);
    if (w.net.failed)
        fprintf(stderr, "mesa-bench-waiting: %s\n", w.net.error);
    bool ok = !w.net.failed;
    for (uint32_t i = 0; i < clients; i++)
        net_close(&w.conns[i]);
    net_deinit(&w.net);
    free(w.conns);
    return ok;
}

int main(int argc, char **argv)
{
    if (argc < 2) {
        fprintf(stderr, "mesa-bench-waiting PORT [clients [rounds [idle seconds]]]\n");
        return 2;
    }
    const struct net_options net = {.host = "127.0.0.1",
                                    .port = (uint16_t)atoi(argv[1]),
                                    .path = "/",
                                    .sources = 1,
                                    .max_message = 65536};
    uint32_t clients = argc > 2 ? (uint32_t)atoi(argv[2]) : 1000;
    unsigned rounds = argc > 3 ? (unsigned)atoi(argv[3]) : 5;
    double idle_s = argc > 4 ? atof(argv[4]) : 2;

    struct shared *s =
        mmap(NULL, sizeof *s, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    if (s == MAP_FAILED)
        return 1;
    pid_t probe = fork();
    if (probe == 0) {
        /* it measures the server, not how the kernel shares the core with the crowd and the service */
        const struct sched_param first = {.sched_priority = 1};
        if (sched_setscheduler(0, SCHED_FIFO, &first) != 0)
            fprintf(stderr, "mesa-bench-waiting: no real-time priority for the probe\n");
        prctl(PR_SET_PDEATHSIG, SIGKILL);
        probe_run(s, &net);
        _exit(0);
    }
    bool ok = crowd_run(s, &net, clients, rounds, idle_s);
    atomic_store(&s->phase, PHASE_END);
    waitpid(probe, NULL, 0);
    return ok && !atomic_load(&s->failed) ? 0 : 1;
}
