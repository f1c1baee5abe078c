/* transport_plain.c - connections without TLS, on sockets of our own.
 *
 * All of them are in one epoll set, which is one handle of libuv's: a connection costs no handle of its
 * own, and a turn asks once for all that happened. What arrives is read into one buffer for all, and
 * whole messages are passed on from there; only what is left of an incomplete frame is kept with its
 * connection. A request's head is looked at without taking it off the socket until it is complete, and of
 * its body no more is taken than it says it has: what follows is another request, and waits in the
 * kernel for its turn.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#include "io/transport_internal.h"

enum {
    EVENTS_PER_TURN = 32, /* more of them wait for the next one, as do timers */
    TURN_NS = 1000000,    /* of work, when handlers take long: what they answered goes out */
    INPUT_BYTES = 64 * 1024,
    READ_EVENTS = EPOLLIN | EPOLLRDHUP,
    ENDED_EVENTS = EPOLLRDHUP | EPOLLHUP | EPOLLERR,
};

struct mesa_poller {
    uv_poll_t poll;
    int fd;
    char input[INPUT_BYTES]; /* what was read last, for whichever connection */
};

/* Bytes that wait: to be written, or to be worked on. */
struct mesa_pending {
    struct mesa_buf bytes;
    size_t done;
    bool corked; /* output that waits for company until the end of the turn, not for the socket */
};

/* -- the set of sockets -- */

static uint32_t wanted_events(const struct mesa_conn *c)
{
    return (c->reading && c->input == NULL ? READ_EVENTS : 0) |
           (mesa_plain_buffered(c) || c->wants_writable ? (uint32_t)EPOLLOUT : 0) |
           (c->waits_for_head ? (uint32_t)EPOLLET : 0);
}

static void watch(struct mesa_conn *c)
{
    struct epoll_event e = {.events = wanted_events(c), .data.ptr = c};
    if (e.events != c->events && epoll_ctl(c->transport->poller->fd, EPOLL_CTL_MOD, c->fd, &e) == 0)
        c->events = e.events;
}

void mesa_plain_set_reading(struct mesa_conn *c, bool reading)
{
    c->reading = reading;
    if (reading && c->input != NULL)
        mesa_conn_mark(c);
    watch(c);
}

static void on_event(struct mesa_conn *c, uint32_t events);

static void on_ready(uv_poll_t *poll, int status, int events)
{
    struct epoll_event ready[EVENTS_PER_TURN];
    struct mesa_poller *p = poll->data;
    (void)status;
    (void)events;
    int n = epoll_wait(p->fd, ready, EVENTS_PER_TURN, 0);
    uint64_t end = uv_hrtime() + TURN_NS;
    bool late = false;
    /* none of them goes away here: connections end at the end of the turn */
    for (int i = 0; i < n; i++) {
        struct mesa_conn *c = ready[i].data.ptr;
        if (late && !c->waits_for_head)
            continue; /* is told again */
        on_event(c, ready[i].events);
        late = uv_hrtime() > end;
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

bool mesa_plain_begin(struct mesa_conn *c, int fd)
{
    struct epoll_event e = {.events = READ_EVENTS, .data.ptr = c};
    if (epoll_ctl(c->transport->poller->fd, EPOLL_CTL_ADD, fd, &e) != 0)
        return false;
    c->fd = fd;
    c->events = e.events;
    return true;
}

/* -- out -- */

bool mesa_plain_buffered(const struct mesa_conn *c)
{
    return c->output != NULL && !c->output->corked;
}

static void drop(struct mesa_pending **p)
{
    if (*p == NULL)
        return;
    mesa_buf_deinit(&(*p)->bytes);
    free(*p);
    *p = NULL;
}

/* What send() takes of `len` bytes; -1: the socket is dead. */
static ssize_t send_some(struct mesa_conn *c, const char *bytes, size_t len)
{
    ssize_t n = send(c->fd, bytes, len, MSG_NOSIGNAL | MSG_DONTWAIT);
    if (n >= 0)
        return n;
    return errno == EAGAIN || errno == EINTR || errno == ENOBUFS ? 0 : -1;
}

static bool keep(struct mesa_pending **p, const char *bytes, size_t len)
{
    if (*p == NULL)
        *p = calloc(1, sizeof **p);
    return *p != NULL && mesa_buf_append(&(*p)->bytes, bytes, len) == MESA_OK;
}

static bool flush(struct mesa_conn *c)
{
    struct mesa_pending *o = c->output;
    o->corked = false;
    ssize_t n = send_some(c, o->bytes.data + o->done, o->bytes.len - o->done);
    if (n < 0)
        return false;
    o->done += (size_t)n;
    if (o->done == o->bytes.len)
        drop(&c->output);
    watch(c);
    return true;
}

/* Goes out with what is written next, or with the turn. */
static void cork(struct mesa_conn *c, const void *bytes, size_t len)
{
    bool first = c->output == NULL;
    if (!keep(&c->output, bytes, len)) {
        mesa_conn_kill_later(c);
    } else if (first) {
        c->output->corked = true;
        mesa_conn_mark(c);
    }
}

bool mesa_plain_write(struct mesa_conn *c, const void *bytes, size_t len)
{
    if (c->output != NULL) {
        bool corked = c->output->corked;
        return keep(&c->output, bytes, len) && (!corked || flush(c));
    }
    ssize_t n = send_some(c, bytes, len);
    if (n < 0)
        return false;
    if ((size_t)n == len)
        return true;
    if (!keep(&c->output, (const char *)bytes + n, len - (size_t)n))
        return false;
    watch(c);
    return true;
}

void mesa_plain_want_writable(struct mesa_conn *c)
{
    if (mesa_plain_buffered(c))
        return; /* it is watched already */
    c->wants_writable = true;
    watch(c);
}

/* -- the request -- */

static void refuse(struct mesa_conn *c, int status, const char *headers)
{
    mesa_http_refuse(c, status, headers);
    c->linger = true;
    mesa_conn_kill_later(c);
}

static void refuse_head(struct mesa_conn *c, enum mesa_status why)
{
    int status = mesa_head_refused(c, why);
    refuse(c, status, "");
}

static void accept_upgrade(struct mesa_conn *c)
{
    char answer[MESA_UPGRADE_ANSWER_MAX];
    size_t len = mesa_upgrade_answer(c->transport, answer);
    cork(c, answer, len);
    if (!c->kill)
        mesa_ws_opened(c);
}

static void upgrade(struct mesa_conn *c)
{
    const char *headers = "";
    int status = mesa_upgrade_decide(c, &headers);
    if (c->listener == NULL)
        return; /* a hook freed it */
    if (status == 0)
        accept_upgrade(c);
    else
        refuse(c, status, headers);
}

/* Takes the head off the socket, where it has been looked at. */
static bool take_head(struct mesa_conn *c, size_t len)
{
    char unused[MESA_MAX_HEADER_BYTES];
    return recv(c->fd, unused, len, MSG_DONTWAIT) == (ssize_t)len;
}

/* A head that is not complete is left where it is, and looked at again when more has come. */
static void wait_for_head(struct mesa_conn *c, bool wait)
{
    if (c->waits_for_head == wait)
        return;
    c->waits_for_head = wait;
    watch(c);
}

static void read_head(struct mesa_conn *c, bool ended)
{
    char *p = c->transport->poller->input;
    ssize_t n = recv(c->fd, p, INPUT_BYTES, MSG_PEEK | MSG_DONTWAIT);
    if (n <= 0) {
        if (n == 0 || (errno != EAGAIN && errno != EINTR))
            mesa_conn_kill_later(c);
        return;
    }
    size_t len = mesa_http_request_end(p, (size_t)n);
    if (!mesa_http_request_may_begin(p[0])) {
        refuse_head(c, MESA_EPROTO);
    } else if (len > MESA_MAX_HEADER_BYTES || (len == 0 && n > MESA_MAX_HEADER_BYTES)) {
        refuse_head(c, MESA_ETOOBIG);
    } else if (len == 0 && ended) {
        mesa_conn_kill_later(c);
    } else if (len == 0) {
        wait_for_head(c, true);
    } else {
        enum mesa_status rc = mesa_head_read(c, p, len);
        wait_for_head(c, false);
        if (rc != MESA_OK)
            refuse_head(c, rc);
        else if (!take_head(c, len))
            mesa_conn_kill_later(c);
        else if (mesa_request_header(&c->transport->upgrade.request, "upgrade").p != NULL)
            upgrade(c);
        else
            mesa_http_begin_plain(c);
    }
}

static void read_body(struct mesa_conn *c)
{
    char *p = c->transport->poller->input;
    size_t left = mesa_http_body_left(c);
    ssize_t n = recv(c->fd, p, left < INPUT_BYTES ? left : INPUT_BYTES, MSG_DONTWAIT);
    if (n <= 0) {
        if (n == 0 || (errno != EAGAIN && errno != EINTR))
            mesa_conn_kill_later(c);
    } else if (mesa_http_body(c, p, (size_t)n) != 0) {
        mesa_conn_kill_later(c);
    } else if ((size_t)n == left) {
        (void)mesa_http_body_complete(c);
    }
}

/* -- frames -- */

static void answer_ping(struct mesa_conn *c, const struct mesa_ws_item *ping)
{
    unsigned char pong[2 + MESA_WS_CONTROL_MAX] = {0x80 | MESA_WS_PONG, (unsigned char)ping->len};
    if (c->closing != NULL)
        return;
    memcpy(pong + 2, ping->data, ping->len);
    cork(c, pong, 2 + ping->len); /* a read may have thousands */
}

static void control(struct mesa_conn *c, const struct mesa_ws_item *item)
{
    if (item->opcode == MESA_WS_PING) {
        answer_ping(c, item);
    } else if (item->opcode == MESA_WS_PONG) {
        mesa_ws_pong(c);
    } else {
        (void)mesa_ws_peer_closed(c, (const unsigned char *)item->data, item->len);
        c->deaf = true;
        c->linger = c->closing != NULL && c->closing->failed;
        if (!mesa_plain_buffered(c)) /* otherwise once it is written, or in time */
            mesa_conn_kill_later(c);
    }
}

static void take_item(struct mesa_conn *c, const struct mesa_ws_item *item)
{
    switch (item->kind) {
    case MESA_WS_ITEM_NONE:
        break;
    case MESA_WS_ITEM_DATA: {
        struct mesa_ws_piece piece = {.data = item->data,
                                      .len = item->len,
                                      .rest = item->rest,
                                      .final = item->final,
                                      .ascii = item->ascii,
                                      .binary = item->opcode == MESA_WS_BINARY};
        mesa_ws_received(c, &piece);
        break;
    }
    case MESA_WS_ITEM_CONTROL:
        control(c, item);
        break;
    case MESA_WS_ITEM_PROBLEM:
        c->deaf = true;
        mesa_ws_violated(c, item->problem);
        break;
    case MESA_WS_ITEM_NO_MEMORY:
        mesa_conn_kill_later(c);
        break;
    }
}

/* Takes what it can from `p`; returns how far it came: less than `end` when reading has stopped. */
static char *feed(struct mesa_conn *c, char *p, char *end)
{
    struct mesa_ws_item item = {.kind = MESA_WS_ITEM_DATA};
    while (item.kind != MESA_WS_ITEM_NONE) {
        if (c->deaf || c->kill || c->phase != MESA_CONN_OPEN)
            return end;
        if (!c->reading)
            return p;
        mesa_ws_reader_next(&c->reader, &p, end, &item);
        take_item(c, &item);
    }
    return end;
}

static void read_frames(struct mesa_conn *c)
{
    char *p = c->transport->poller->input;
    ssize_t n = recv(c->fd, p, INPUT_BYTES, MSG_DONTWAIT);
    if (n <= 0) {
        if (n == 0 || (errno != EAGAIN && errno != EINTR))
            mesa_conn_kill_later(c);
        return;
    }
    char *end = p + n;
    p = feed(c, p, end);
    if (p == end)
        return;
    if (!keep(&c->input, p, (size_t)(end - p)))
        mesa_conn_kill_later(c);
    watch(c);
}

/* What was read before reading stopped comes first. */
static void feed_kept(struct mesa_conn *c)
{
    struct mesa_pending *in = c->input;
    char *end = in->bytes.data + in->bytes.len;
    char *p = feed(c, in->bytes.data + in->done, end);
    in->done = (size_t)(p - in->bytes.data);
    if (p < end)
        return;
    drop(&c->input);
    watch(c);
}

void mesa_plain_turn(struct mesa_conn *c)
{
    if (c->output != NULL && c->output->corked) {
        if (!flush(c))
            c->kill = true;
        mesa_ws_hold_if_buffered(c);
    }
    if (c->input != NULL && c->reading)
        feed_kept(c);
}

static void on_writable(struct mesa_conn *c)
{
    if (c->wants_writable) {
        c->wants_writable = false;
        watch(c);
    }
    if (c->output != NULL && !flush(c))
        mesa_conn_kill_later(c);
    if (c->output != NULL)
        return;
    if (c->phase == MESA_CONN_HTTP)
        (void)mesa_http_writable(c);
    else if (c->deaf && c->closing != NULL && !c->closing->failed)
        mesa_conn_kill_later(c); /* the closing handshake is done */
    else
        mesa_ws_writable(c);
}

static void on_event(struct mesa_conn *c, uint32_t events)
{
    if (c->kill)
        return;
    if ((events & EPOLLOUT) != 0)
        on_writable(c);
    if ((events & ~(uint32_t)EPOLLOUT) == 0 || c->kill || (c->input != NULL && c->reading))
        return; /* nothing to read, or something to work on first */
    if (!c->reading) {
        /* whoever had their turn before may have stopped it: only a reset is news */
        if ((events & (EPOLLHUP | EPOLLERR)) != 0)
            mesa_conn_kill_later(c);
    } else if (c->phase == MESA_CONN_REQUEST) {
        read_head(c, (events & ENDED_EVENTS) != 0);
    } else if (c->phase == MESA_CONN_OPEN) {
        read_frames(c);
    } else if (c->phase == MESA_CONN_HTTP && mesa_http_body_left(c) > 0) {
        read_body(c);
    } else {
        mesa_conn_kill_later(c);
    }
}

void mesa_plain_end(struct mesa_conn *c)
{
    /* a child being started may hold the descriptor: closing it would not take it out of the set */
    (void)epoll_ctl(c->transport->poller->fd, EPOLL_CTL_DEL, c->fd, NULL);
    close(c->fd);
    c->fd = -1;
    drop(&c->output);
    drop(&c->input);
    mesa_ws_reader_deinit(&c->reader);
    mesa_conn_destroyed(c);
}
