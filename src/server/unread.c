/* unread.c - what a user was sent in a cluster with sync, and may not have received.
 *
 * That the kernel took a message says nothing about a peer that has died. So a ping follows the
 * messages, one at a time, and its pong confirms what was sent before it. Until then the messages are
 * kept where any other server finds them: the broker is told what was confirmed, by number, and
 * whoever comes next is given the rest. Messages that have no number, because a Node server published
 * them or the cluster could not be reached, are kept here, and go back when the connection ends.
 */
#include <stdlib.h>
#include <string.h>

#include "server/internal.h"

enum {
    CONFIRM_MS = 10, /* until the broker is told */
    AGAIN_MS = 1000, /* until what was refused is asked for again */
};

struct item {
    struct mesa_frame *frame; /* NULL once it is sent, if it is kept elsewhere */
    uint64_t position; /* in the queue of the client; of those that wait it has no meaning yet */
    uint64_t floor;    /* its number is higher */
    uint64_t send;     /* of a message of this server: the count of its sends */
    enum mesa_keep keep;
};

struct mesa_unread {
    struct item *items;             /* sent and not confirmed, then those that wait */
    size_t first, sent, count, cap; /* items[first..sent) and items[sent..count) */
    size_t bytes;
    uint64_t received; /* frames of the client's queue it confirmed */
    uint64_t asked;    /* how many there were when it was asked */
    uint64_t upto;     /* what is delivered with a number up to this it has, or will have */
    uint64_t taken;    /* the stamp up to which it was given what was kept */
    uint64_t seen;     /* what was delivered to it before something may have been missed */
    uint64_t sends;    /* this server's, of those it confirmed */
    uint64_t before_ask,
        before_take;   /* the server's, of those that what was asked for or taken includes */
    uint64_t again_ms; /* when what it could not be given is asked for again */
    uint64_t told_live, told_sends; /* to the broker */
    uint64_t *stamps;               /* of what was redelivered: received, and not told yet */
    size_t stamp_count, stamp_cap;
    bool asking, holding;
    bool covered; /* it was sent everything with a number beyond `upto` since then */
};

static struct mesa_unread *get(struct mesa_client *c)
{
    if (c->unread == NULL && c->server->confirm != NULL)
        c->unread = calloc(1, sizeof *c->unread);
    return c->unread;
}

static void let_go(struct mesa_unread *u, struct item *item)
{
    if (item->frame != NULL)
        u->bytes -= item->frame->len;
    mesa_frame_unref(item->frame);
    item->frame = NULL;
}

static void drop_first(struct mesa_unread *u)
{
    struct item *item = &u->items[u->first++];
    if (item->keep == MESA_KEEP_OWN)
        u->sends = item->send;
    let_go(u, item);
    if (u->first == u->count)
        u->first = u->sent = u->count = 0;
}

static void drop_sent(struct mesa_unread *u)
{
    while (u->first < u->sent)
        drop_first(u);
}

static enum mesa_status make_room(struct mesa_unread *u)
{
    if (u->count < u->cap)
        return MESA_OK;
    if (u->first > 0) {
        memmove(u->items, u->items + u->first, (u->count - u->first) * sizeof *u->items);
        u->count -= u->first;
        u->sent -= u->first;
        u->first = 0;
        if (u->count < u->cap)
            return MESA_OK;
    }
    size_t cap = u->cap > 0 ? u->cap * 2 : 8;
    struct item *items = realloc(u->items, cap * sizeof *items);
    if (items == NULL)
        return MESA_ENOMEM;
    u->items = items;
    u->cap = cap;
    return MESA_OK;
}

static enum mesa_status add(struct mesa_client *c, const struct mesa_kept_frame *m,
                            uint64_t position)
{
    struct mesa_unread *u = c->unread;
    enum mesa_status rc = make_room(u);
    if (rc != MESA_OK)
        return rc;
    u->items[u->count++] = (struct item){.frame = mesa_frame_ref(m->frame),
                                         .position = position,
                                         .floor = m->number > 0 ? m->number - 1 : c->server->seen,
                                         .send = m->send,
                                         .keep = m->keep};
    u->bytes += m->frame->len;
    return MESA_OK;
}

/* A client that never confirms does not cost more than one that does not read. */
static void bound(struct mesa_client *c)
{
    struct mesa_unread *u = c->unread;
    while (u->first < u->sent && (u->bytes > c->server->cfg.sync.max_bytes ||
                                  u->sent - u->first > c->server->cfg.sync.max_messages))
        drop_first(u);
}

/* Whether something before it was missed, so that Redis is asked for both. */
static bool comes_again(const struct mesa_client *c, enum mesa_keep keep)
{
    const struct mesa_unread *u = c->unread;
    return keep == MESA_KEEP_NUMBERED && !u->covered && u->seen > 0 && c->fetching == 0;
}

/* The next of those that wait is on its way. */
static void mark_sent(struct mesa_unread *u)
{
    struct item *item = &u->items[u->sent++];
    if (item->keep == MESA_KEEP_NOT || item->keep == MESA_KEEP_NUMBERED)
        let_go(u, item);
}

static enum mesa_status send_now(struct mesa_client *c, const struct mesa_kept_frame *m)
{
    uint64_t position = c->pushed;
    enum mesa_status rc = mesa_client_send(c, m->frame);
    struct mesa_unread *u = c->unread; /* gone, if that closed the client */
    if (m->keep == MESA_KEEP_NOT || u == NULL || (rc != MESA_OK && rc != MESA_EAGAIN) ||
        u->sent < u->count)
        return rc;
    if (add(c, m, position) == MESA_OK) { /* without memory it counts as received */
        mark_sent(u);
        bound(c);
        mesa_unread_ask(c);
    }
    return rc;
}

static void ask_again(struct mesa_client *c)
{
    uint64_t now_ms = mesa_loop_now(c->server->loop);
    if (now_ms < c->unread->again_ms)
        return;
    c->unread->again_ms = now_ms + AGAIN_MS;
    mesa_redelivery_again(c);
}

enum mesa_status mesa_unread_send(struct mesa_client *c, const struct mesa_kept_frame *m)
{
    if (m->keep == MESA_KEEP_NOT && c->unread == NULL)
        return mesa_client_send(c, m->frame);
    if (c->closed)
        return MESA_ECLOSED;
    struct mesa_unread *u = c->state.authenticated ? get(c) : NULL;
    if (u == NULL)
        return mesa_client_send(c, m->frame);
    if (m->number > 0 && m->number <= u->upto)
        return MESA_OK; /* it is part of its backlog */
    if (comes_again(c, m->keep)) {
        ask_again(c);
        return MESA_OK;
    }
    if (u->holding && u->bytes + m->frame->len <= c->server->cfg.limits.max_backpressure)
        return add(c, m, 0);
    if (u->holding)
        mesa_unread_release(c); /* the order is worth less than the client */
    return c->closed ? MESA_ECLOSED : send_now(c, m);
}

void mesa_unread_release(struct mesa_client *c)
{
    if (c->unread != NULL)
        c->unread->holding = false;
    for (struct mesa_unread *u; (u = c->unread) != NULL && u->sent < u->count;) {
        struct item *item = &u->items[u->sent];
        struct mesa_frame *f = mesa_frame_ref(item->frame);
        bool is_in_backlog = (item->keep == MESA_KEEP_NUMBERED && item->floor < u->upto) ||
                             (item->keep == MESA_KEEP_OWN && item->send <= u->before_take);
        bool is_sent = !is_in_backlog && !comes_again(c, item->keep);
        item->position = c->pushed;
        mark_sent(u);
        if (is_sent)
            mesa_client_send(c, f); /* may close it, and then the unread is gone */
        mesa_frame_unref(f);
    }
    if (c->unread != NULL && c->unread->sent > c->unread->first)
        mesa_unread_ask(c);
}

/* -- confirming -- */

void mesa_unread_ask(struct mesa_client *c)
{
    struct mesa_unread *u = c->closed ? NULL : get(c);
    if (u == NULL || u->asking)
        return;
    u->asking = true;
    u->asked = c->pushed;
    mesa_client_push(c, c->server->confirm);
}

void mesa_unread_received_stamp(struct mesa_client *c, uint64_t stamp)
{
    struct mesa_unread *u = c->unread;
    if (u == NULL)
        return;
    if (u->stamp_count == u->stamp_cap) {
        size_t cap = u->stamp_cap > 0 ? u->stamp_cap * 2 : 16;
        uint64_t *stamps = realloc(u->stamps, cap * sizeof *stamps);
        if (stamps == NULL)
            return; /* it comes again */
        u->stamps = stamps;
        u->stamp_cap = cap;
    }
    u->stamps[u->stamp_count++] = stamp;
}

/* What is known to be received has no need to be kept. */
static void tell_now(struct mesa_client *c)
{
    struct mesa_unread *u = c->unread;
    if (u == NULL)
        return;
    struct mesa_confirmation said = {.stamps = u->stamps, .count = u->stamp_count};
    if (u->covered) {
        said.from = u->upto;
        said.live = u->first < u->count ? u->items[u->first].floor : c->server->seen;
        said.send = u->sends;
    }
    bool news = u->covered && (said.live > u->told_live || said.send != u->told_sends);
    struct mesa_broker *b = c->server->broker;
    if ((!news && said.count == 0) || b->ops->confirm(b, mesa_client_id(c), &said) != MESA_OK)
        return; /* once more when Redis is back */
    if (c->unread != u)
        return; /* a hook that was told of an error has closed the client */
    u->stamp_count = 0;
    if (u->covered) {
        u->told_live = said.live;
        u->told_sends = said.send;
    }
}

void mesa_unread_tell(struct mesa_client *c)
{
    struct mesa_server *s = c->server;
    if (c->unread == NULL || !mesa_list_empty(&c->confirming))
        return;
    mesa_list_append(&s->confirming, &c->confirming);
    if (!mesa_timer_armed(&s->confirm_timer))
        mesa_loop_arm(s->loop, &s->confirm_timer, CONFIRM_MS);
}

void mesa_unread_on_confirm_timer(struct mesa_timer *t)
{
    struct mesa_server *s = MESA_CONTAINER_OF(t, struct mesa_server, confirm_timer);
    mesa_server_enter(s);
    while (!mesa_list_empty(&s->confirming)) {
        struct mesa_client *c =
            MESA_CONTAINER_OF(s->confirming.next, struct mesa_client, confirming);
        mesa_list_remove(&c->confirming);
        tell_now(c);
    }
    mesa_server_leave(s);
}

void mesa_unread_confirmed(struct mesa_client *c)
{
    struct mesa_unread *u = c->unread;
    if (u == NULL || !u->asking)
        return;
    u->asking = false;
    u->received = u->asked;
    while (u->first < u->sent && u->items[u->first].position < u->received)
        drop_first(u);
    bool more = mesa_redelivery_trim(c);
    mesa_unread_tell(c);
    if (more || u->first < u->sent)
        mesa_unread_ask(c);
}

uint64_t mesa_unread_received(const struct mesa_client *c)
{
    return c->unread != NULL ? c->unread->received : 0;
}

void mesa_unread_unkept(struct mesa_client *c, uint64_t send)
{
    struct mesa_unread *u = c->unread;
    if (u == NULL)
        return;
    for (size_t i = u->count; i > u->first && u->items[i - 1].send >= send; i--) {
        if (u->items[i - 1].send == send && u->items[i - 1].keep == MESA_KEEP_OWN)
            u->items[i - 1].keep = MESA_KEEP_HERE;
    }
}

/* -- taking what was kept -- */

void mesa_unread_before_take(struct mesa_client *c, struct mesa_take *what)
{
    struct mesa_unread *u = get(c);
    if (u == NULL)
        return;
    u->taken = mesa_redelivery_give_up(c, u->taken);
    what->after = u->taken;
    what->seen = u->covered ? UINT64_MAX : u->seen;
    u->holding = u->holding || !u->covered;
}

void mesa_unread_left_over(struct mesa_client *c)
{
    struct mesa_unread *u = c->unread;
    if (u != NULL && c->redelivery == NULL && u->stamp_count == 0)
        u->taken = 0;
}

void mesa_unread_asked(struct mesa_client *c)
{
    if (c->unread != NULL && !c->unread->covered)
        c->unread->before_ask = c->server->sends;
}

/* What is stored may have got its number after the question was asked. */
static uint64_t largest(const struct mesa_backlog *backlog)
{
    uint64_t last = backlog->count > 0 ? backlog->stamps[backlog->count - 1] : 0;
    return last > backlog->upto ? last : backlog->upto;
}

void mesa_unread_after_take(struct mesa_client *c, const struct mesa_take *what,
                            const struct mesa_backlog *backlog, bool missed)
{
    struct mesa_unread *u = c->unread;
    if (u == NULL)
        return;
    if (what->mode != MESA_TAKE_NOTHING)
        u->taken = largest(backlog);
    if (what->seen != UINT64_MAX) {
        u->upto = u->seen = backlog->upto;
        u->before_take = what->mode == MESA_TAKE ? u->before_ask : 0;
        u->covered = !missed;
    }
    u->told_live = u->told_sends = 0;
}

void mesa_unread_gap(struct mesa_client *c)
{
    struct mesa_unread *u = c->unread;
    if (u == NULL || !u->covered)
        return;
    /* What waits is given again. */
    uint64_t seen = u->sent < u->count ? u->items[u->sent].floor : c->server->seen;
    u->covered = false;
    u->seen = seen > u->upto ? seen : u->upto;
    u->holding = u->holding || c->fetching > 0; /* what is on its way is not what was missed */
}

/* -- leaving -- */

/* Whether another connection here has been the user's since before the message. */
static bool has_witness(const struct mesa_client *c, const struct item *item)
{
    struct mesa_client *other = NULL;
    while (c->server != NULL &&
           (other = mesa_server_next_of(c->server, mesa_client_id(c), other)) != NULL) {
        const struct mesa_unread *u = other != c ? other->unread : NULL;
        if (u != NULL && u->covered && u->upto <= item->floor)
            return true;
    }
    return false;
}

size_t mesa_unread_count(const struct mesa_client *c)
{
    return c->unread != NULL ? c->unread->count - c->unread->first : 0;
}

size_t mesa_unread_leave(struct mesa_client *c, bool vanished, struct mesa_span *json,
                         uint64_t *stamps)
{
    struct mesa_unread *u = c->unread;
    size_t count = 0;
    if (u == NULL)
        return 0;
    /* What this server said just before a good-bye counts as received. */
    for (size_t i = u->first; !vanished && i < u->sent; i++) {
        if (u->items[i].keep == MESA_KEEP_OWN)
            u->sends = u->items[i].send;
    }
    tell_now(c);
    for (size_t i = vanished ? u->first : u->sent; i < u->count; i++) {
        const struct item *item = &u->items[i];
        if (item->keep != MESA_KEEP_HERE || has_witness(c, item))
            continue;
        json[count] = mesa_frame_payload(item->frame);
        stamps[count++] = item->floor;
    }
    return count;
}

void mesa_unread_reset(struct mesa_client *c)
{
    mesa_unread_release(c);
    struct mesa_unread *u = c->unread;
    if (u == NULL)
        return;
    drop_sent(u);
    u->stamp_count = 0; /* they were another user's */
    u->upto = u->taken = u->seen = 0;
    u->covered = false;
}

void mesa_unread_free(struct mesa_client *c)
{
    struct mesa_unread *u = c->unread;
    if (u == NULL)
        return;
    mesa_list_remove(&c->confirming);
    u->sent = u->count;
    drop_sent(u);
    free(u->items);
    free(u->stamps);
    free(u);
    c->unread = NULL;
}
