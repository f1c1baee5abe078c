/* transport_input.c - what comes in: request heads, bodies and frames, in whatever pieces.
 *
 * What arrives is read into one buffer for all connections, and worked on there. Only the rest is kept
 * with its connection: the beginning of a head, or everything behind the point where reading stopped.
 *
 * A read may hold thousands of messages, and a handler may take long. So each connection works for a slice;
 * what it has left then is kept, its socket is not read, and it goes on as a job of the loop: behind the
 * others that wait so, while everything that is polled has its turn in between.
 */
#include <errno.h>
#include <string.h>
#include <sys/socket.h>

#include "io/transport_internal.h"

/* Of one connection. In between the clock is read first often, then seldom: cheap messages do not pay for
 * it, and expensive ones do not add up. */
enum { SLICE_NS = 2000000, SLICE_ITEMS = 256, ITEMS_PER_LOOK = 8 };

static void begin_slice(struct mesa_conn *c, uint64_t now_ns)
{
    c->transport->poller->slice = (struct mesa_slice){.end_ns = now_ns + SLICE_NS};
}

/* Counts a frame or a request, behind which there is more. */
static void count_item(struct mesa_slice *s)
{
    unsigned n = ++s->items;
    if (n % ITEMS_PER_LOOK == 0 || (n & (n - 1)) == 0)
        s->over = n >= SLICE_ITEMS || uv_hrtime() >= s->end_ns;
}

/* -- the request -- */

static void refuse_head(struct mesa_conn *c, enum mesa_status why)
{
    int status = mesa_head_refused(c, why);
    mesa_conn_refuse(c, status, "", (struct mesa_span){NULL, 0});
}

static void upgrade(struct mesa_conn *c)
{
    const struct mesa_request *req = &c->transport->upgrade.request;
    const char *headers = "";
    bool waits = false;
    int status = mesa_upgrade_decide(c, &headers, &waits);
    if (c->listener == NULL)
        return; /* a hook freed it */
    if (status == 0 && waits && mesa_handshake_begin(c))
        return;
    if (status == 0 && waits)
        status = 503; /* no memory */
    if (status != 0) {
        mesa_conn_refuse(c, status, headers, (struct mesa_span){NULL, 0});
        return;
    }
    mesa_upgrade_answer(c, req);
    if (!c->kill)
        mesa_ws_opened(c, req);
}

/* Returns where the head ends; `p`: it is not complete, or refused. */
static char *take_head(struct mesa_conn *c, char *p, char *end)
{
    c->starved = end - p == 1 && *p == '\r';
    if (c->starved)
        return p;
    if (p[0] == '\r' &&
        p[1] == '\n') /* RFC 9112 section 2.2: in front of a request it means nothing */
        return p + 2;
    size_t have = (size_t)(end - p);
    size_t len = mesa_http_request_end(p, have);
    if (!mesa_http_request_may_begin(p[0]) || len == MESA_HTTP_BARE_LF) {
        refuse_head(c, MESA_EPROTO);
    } else if (len > MESA_MAX_HEADER_BYTES || (len == 0 && have > MESA_MAX_HEADER_BYTES)) {
        refuse_head(c, MESA_ETOOBIG);
    } else if (len == 0) {
        c->starved = true;
    } else {
        enum mesa_status rc = mesa_head_read(c, p, len);
        if (rc != MESA_OK)
            refuse_head(c, rc);
        else if (mesa_upgrade_wanted(&c->transport->upgrade.request))
            upgrade(c);
        else
            mesa_http_begin(c);
        return p + len;
    }
    return p;
}

static char *take_request(struct mesa_conn *c, char *p, char *end)
{
    p = take_head(c, p, end);
    if (p < end)
        count_item(&c->transport->poller->slice);
    return p;
}

static char *take_body(struct mesa_conn *c, char *p, const char *end)
{
    size_t left = mesa_http_body_left(c), have = (size_t)(end - p);
    size_t n = have < left ? have : left;
    mesa_http_body(c, p, n);
    return p + n;
}

/* -- frames -- */

static void answer_ping(struct mesa_conn *c, const struct mesa_ws_item *ping)
{
    unsigned char pong[2 + MESA_WS_CONTROL_MAX] = {0x80 | MESA_WS_PONG, (unsigned char)ping->len};
    if (c->closing != NULL)
        return;
    memcpy(pong + 2, ping->data, ping->len);
    mesa_link_cork(c, pong, 2 + ping->len); /* a read may have thousands */
}

static void take_control(struct mesa_conn *c, const struct mesa_ws_item *item)
{
    if (item->opcode == MESA_WS_PING) {
        answer_ping(c, item);
    } else if (item->opcode == MESA_WS_PONG) {
        mesa_ws_pong(c);
    } else {
        c->deaf = true;
        mesa_ws_peer_closed(c, (const unsigned char *)item->data, item->len);
    }
}

static void take_item(struct mesa_conn *c, const struct mesa_ws_item *item)
{
    switch (item->kind) {
    case MESA_WS_ITEM_NONE:
        break;
    case MESA_WS_ITEM_DATA:
        mesa_ws_received(c, item);
        break;
    case MESA_WS_ITEM_CONTROL:
        take_control(c, item);
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

/* Whether nothing the peer sends means anything any more. */
static bool is_deaf(const struct mesa_conn *c)
{
    return c->deaf || c->kill;
}

static char *take_frames(struct mesa_conn *c, char *p, char *end)
{
    struct mesa_slice *slice = &c->transport->poller->slice;
    struct mesa_ws_item item = {.kind = MESA_WS_ITEM_DATA};
    while (item.kind != MESA_WS_ITEM_NONE) {
        if (is_deaf(c) || c->phase != MESA_CONN_OPEN)
            return end;
        if (!c->reading || slice->over)
            return p;
        mesa_ws_reader_next(&c->reader, &p, end, &item);
        take_item(c, &item);
        if (p < end)
            count_item(slice);
    }
    return end;
}

/* -- whatever comes -- */

/* Takes what it can from `p`; returns how far it came: less than `end` when reading has stopped, the slice
 * is over, or the rest is the beginning of a head (c->starved). */
static char *take(struct mesa_conn *c, char *p, char *end)
{
    struct mesa_slice *slice = &c->transport->poller->slice;
    c->starved = false;
    while (p < end && c->reading && !c->starved && !slice->over) {
        if (is_deaf(c))
            return end;
        if (c->phase == MESA_CONN_OPEN)
            p = take_frames(c, p, end);
        else if (c->phase == MESA_CONN_REQUEST)
            p = take_request(c, p, end);
        else if (c->phase == MESA_CONN_HTTP)
            p = take_body(c, p, end);
        else
            return end;
    }
    return is_deaf(c) ? end : p;
}

/* Goes on with what was kept. */
static void take_kept(struct mesa_conn *c)
{
    struct mesa_pending *in = c->input;
    char *end = in->bytes.data + in->bytes.len;
    char *p = take(c, in->bytes.data + in->done, end);
    if (p == end) {
        mesa_pending_drop(&c->input);
        return;
    }
    in->done = (size_t)(p - in->bytes.data);
    if (!c->starved)
        return;
    memmove(in->bytes.data, p, (size_t)(end - p)); /* more of the head comes behind it */
    in->bytes.len -= in->done;
    in->done = 0;
}

static void take_new(struct mesa_conn *c, char *p, char *end)
{
    p = take(c, p, end);
    if (p < end && !mesa_pending_keep(&c->input, p, (size_t)(end - p)))
        mesa_conn_kill_later(c);
}

/* Whether something is kept that can be worked on now. */
static bool has_work(const struct mesa_conn *c)
{
    return c->input != NULL && !c->starved && c->reading;
}

/* Whether the TLS session has bytes that can be worked on now. */
static bool has_unread(const struct mesa_conn *c)
{
    return mesa_secure_has_more(c) && c->reading && (c->input == NULL || c->starved);
}

void mesa_input_go_on(struct mesa_conn *c)
{
    if ((c->input == NULL && c->tls == NULL) || c->kill || mesa_job_queued(&c->job))
        return;
    if (mesa_secure_begins(c) || has_work(c) || has_unread(c))
        mesa_loop_queue(c->transport->loop, &c->job);
}

void mesa_input_on_job(struct mesa_job *job)
{
    struct mesa_conn *c = MESA_CONTAINER_OF(job, struct mesa_conn, job);
    if (c->kill)
        return;
    if (mesa_secure_begins(c)) {
        mesa_secure_shake_hands(c);
    } else if (has_work(c)) {
        begin_slice(c, uv_hrtime());
        take_kept(c);
        mesa_input_go_on(c);
        mesa_link_watch(c);
    } else if (has_unread(c)) {
        mesa_input_read(c, uv_hrtime());
    }
}

void mesa_input_read(struct mesa_conn *c, uint64_t now_ns)
{
    char *p = c->transport->poller->input;
    ssize_t n = c->tls == NULL ? recv(c->fd, p, MESA_INPUT_BYTES, MSG_DONTWAIT)
                               : mesa_tls_read(&c->tls->session, p, MESA_INPUT_BYTES);
    begin_slice(c, now_ns);
    if (n > 0 && c->input == NULL) {
        take_new(c, p, p + n);
    } else if (n > 0) {
        if (mesa_pending_keep(&c->input, p, (size_t)n))
            take_kept(c);
        else
            mesa_conn_kill_later(c);
    } else if (n == 0 || (errno != EAGAIN && errno != EINTR)) {
        mesa_conn_kill_later(c);
    }
    if (c->tls != NULL && c->tls->session.wants_write)
        c->wants_writable = true;
    mesa_input_go_on(c);
    mesa_link_watch(c);
}
