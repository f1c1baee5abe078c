/* transport_poller.c - the sockets of all connections in one epoll set.
 *
 * The set is one handle of libuv's: a connection costs no handle of its own, and a turn asks once for
 * all that happened.
 */
#include <stdlib.h>
#include <unistd.h>

#include "io/transport_internal.h"

enum {
    /* of events in one turn, when handlers take long: what they answered goes out, and timers run */
    TURN_NS = 1000000,
    READ_EVENTS = EPOLLIN | EPOLLRDHUP,
};

static uint32_t wanted_events(const struct mesa_conn *c)
{
    uint32_t out = mesa_link_buffered(c) || c->wants_writable ? (uint32_t)EPOLLOUT : 0;
    /* told once: a handshake that waits for its turn must not be reported again and again */
    if (mesa_secure_begins(c))
        return READ_EVENTS | (uint32_t)EPOLLET | out;
    if (c->phase == MESA_CONN_DECIDING)
        return (uint32_t)EPOLLRDHUP | out; /* nothing is read, but who leaves is not waited for */
    return (c->reading && (c->input == NULL || c->starved) ? READ_EVENTS : 0) | out;
}

void mesa_link_watch(struct mesa_conn *c)
{
    struct epoll_event e = {.events = wanted_events(c), .data.ptr = c};
    if (e.events != c->events && epoll_ctl(c->transport->poller->fd, EPOLL_CTL_MOD, c->fd, &e) == 0)
        c->events = e.events;
}

void mesa_link_set_reading(struct mesa_conn *c, bool reading)
{
    c->reading = reading;
    mesa_input_go_on(c);
    mesa_link_watch(c);
}

void mesa_link_want_writable(struct mesa_conn *c)
{
    if (mesa_link_buffered(c))
        return; /* it is watched already */
    c->wants_writable = true;
    mesa_link_watch(c);
}

static void on_writable(struct mesa_conn *c)
{
    if (c->wants_writable) {
        c->wants_writable = false;
        mesa_link_watch(c);
    }
    if (!mesa_link_flush(c)) {
        mesa_conn_kill_later(c);
        return;
    }
    if (mesa_link_buffered(c))
        return;
    mesa_input_go_on(c); /* reading may have waited for it */
    if (c->phase == MESA_CONN_HTTP)
        mesa_http_writable(c);
    else
        mesa_ws_writable(c);
}

static void on_event(struct mesa_conn *c, uint32_t events, uint64_t now_ns)
{
    if (c->kill)
        return;
    if (c->lingering) {
        mesa_linger_read(c);
        return;
    }
    if (c->phase == MESA_CONN_PREAMBLE) {
        mesa_preamble_read(c);
        return;
    }
    if (mesa_secure_begins(c)) {
        mesa_input_go_on(c);
        return;
    }
    if ((events & EPOLLOUT) != 0)
        on_writable(c);
    if ((events & ~(uint32_t)EPOLLOUT) == 0 || c->kill)
        return;
    if (c->reading && c->input != NULL && !c->starved)
        return; /* something to work on first */
    if (c->reading)
        mesa_input_read(c, now_ns);
    else if ((events & (EPOLLHUP | EPOLLERR)) != 0 || c->phase == MESA_CONN_DECIDING)
        /* whoever had their turn before may have stopped it: only a reset is news */
        mesa_conn_kill_later(c);
}

/* Those for which no time is left come first in the next turn: the kernel would begin with the same ones
 * again. None of them goes away here: connections end at the end of the turn. */
static void on_ready(uv_poll_t *poll, int status, int events)
{
    struct mesa_poller *p = poll->data;
    (void)status;
    (void)events;
    if (p->event_next >= p->event_count) {
        p->event_next = 0;
        p->event_count = epoll_wait(p->fd, p->events, MESA_EVENTS_PER_POLL, 0);
    }
    uint64_t now = uv_hrtime(), end = now + TURN_NS;
    while (p->event_next < p->event_count && now < end) {
        const struct epoll_event *e = &p->events[p->event_next++];
        if (e->data.ptr != NULL)
            on_event(e->data.ptr, e->events, now);
        now = uv_hrtime();
    }
}

enum mesa_status mesa_poller_open(struct mesa_transport *t)
{
    struct mesa_poller *p = malloc(sizeof *p);
    if (p == NULL)
        return MESA_ENOMEM;
    p->fd = epoll_create1(EPOLL_CLOEXEC);
    if (p->fd < 0 || uv_poll_init(mesa_loop_uv(t->loop), &p->poll, p->fd) != 0) {
        if (p->fd >= 0)
            close(p->fd);
        free(p);
        return MESA_EIO;
    }
    p->event_next = p->event_count = 0;
    p->poll.data = p;
    uv_poll_start(&p->poll, UV_READABLE, on_ready);
    uv_unref((uv_handle_t *)&p->poll); /* connections keep the loop alive */
    t->poller = p;
    return MESA_OK;
}

static void on_poller_closed(uv_handle_t *h)
{
    free(h->data);
}

void mesa_poller_close(struct mesa_transport *t)
{
    struct mesa_poller *p = t->poller;
    if (p == NULL)
        return;
    t->poller = NULL;
    uv_poll_stop(&p->poll);
    close(p->fd);
    uv_close((uv_handle_t *)&p->poll, on_poller_closed);
}

bool mesa_link_begin(struct mesa_conn *c, int fd)
{
    struct epoll_event e = {.events = wanted_events(c), .data.ptr = c};
    if (epoll_ctl(c->transport->poller->fd, EPOLL_CTL_ADD, fd, &e) != 0)
        return false;
    c->fd = fd;
    c->events = e.events;
    return true;
}

void mesa_link_close(struct mesa_conn *c)
{
    struct mesa_poller *p = c->transport->poller;
    for (int i = p->event_next; i < p->event_count; i++)
        if (p->events[i].data.ptr == c)
            p->events[i].data.ptr = NULL;
    /* a child being started may hold the descriptor: closing it would not take it out of the set */
    (void)epoll_ctl(p->fd, EPOLL_CTL_DEL, c->fd, NULL);
    close(c->fd);
    c->fd = -1;
}
