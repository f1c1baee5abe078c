/* unread.c - what a user was sent in a cluster with sync, and may not have received.
 *
 * That the kernel took a message says nothing about a peer that has died. So a ping follows the
 * messages, one at a time, and its pong confirms what was sent before it. When the connection ends,
 * what was not confirmed goes back to the store: at least once, in order. Whoever left between
 * receiving and confirming gets it again, with the same "s" if it was redelivered.
 */
#include <stdlib.h>
#include <string.h>

#include "server/internal.h"

struct item {
    struct mesa_frame *frame;
    uint64_t number; /* in the queue of the client; of those that wait it has no meaning yet */
    uint64_t send;   /* the server's count of sends */
    enum mesa_keep keep;
};

struct mesa_unread {
    struct item *items;             /* sent and not confirmed, then those that wait */
    size_t first, sent, count, cap; /* items[first..sent) and items[sent..count) */
    size_t bytes;
    uint64_t received; /* frames of the client's queue it confirmed */
    uint64_t asked;    /* how many there were when it was asked */
    uint64_t began;    /* the server's count of sends when the client became its user */
    uint64_t since;    /* the same, from which on it keeps what it is sent */
    uint64_t told;     /* when the other servers were told of the client, in their common order */
    uint64_t relieved; /* who answers for what is sent to the user instead; 0: nobody */
    bool asking, holding;
};

static struct mesa_unread *get(struct mesa_client *c)
{
    if (c->unread == NULL && c->server->confirm != NULL)
        c->unread = calloc(1, sizeof *c->unread);
    return c->unread;
}

static void drop_first(struct mesa_unread *u)
{
    struct item *item = &u->items[u->first++];
    u->bytes -= item->frame->len;
    mesa_frame_unref(item->frame);
    if (u->first == u->count)
        u->first = u->sent = u->count = 0;
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

static enum mesa_status add(struct mesa_client *c, struct mesa_frame *f, uint64_t number,
                            enum mesa_keep keep)
{
    struct mesa_unread *u = c->unread;
    enum mesa_status rc = make_room(u);
    if (rc != MESA_OK)
        return rc;
    u->items[u->count++] = (struct item){mesa_frame_ref(f), number, c->server->sends, keep};
    u->bytes += f->len;
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

static enum mesa_status send_now(struct mesa_client *c, struct mesa_frame *f, enum mesa_keep keep)
{
    uint64_t number = c->pushed;
    enum mesa_status rc = mesa_client_send(c, f);
    struct mesa_unread *u = c->unread;
    if (keep == MESA_KEEP_NOT || u == NULL || (rc != MESA_OK && rc != MESA_EAGAIN) ||
        u->sent < u->count)
        return rc;
    if (add(c, f, number, keep) == MESA_OK) { /* without memory it counts as received */
        u->sent = u->count;
        bound(c);
        mesa_unread_ask(c);
    }
    return rc;
}

enum mesa_status mesa_unread_send(struct mesa_client *c, struct mesa_frame *f, enum mesa_keep keep)
{
    if (keep == MESA_KEEP_NOT && c->unread == NULL)
        return mesa_client_send(c, f);
    if (c->closed)
        return MESA_ECLOSED;
    struct mesa_unread *u = c->state.authenticated ? get(c) : NULL;
    if (u == NULL)
        return mesa_client_send(c, f);
    /* Of a message of its own this server cannot know yet whether it comes before or behind the news. */
    if (u->relieved != 0 && keep == MESA_KEEP_DELIVERED)
        keep = MESA_KEEP_NOT;
    if (u->holding && u->bytes + f->len <= c->server->cfg.limits.max_backpressure)
        return add(c, f, 0, keep);
    if (u->holding)
        mesa_unread_release(c); /* the order is worth less than the client */
    return c->closed ? MESA_ECLOSED : send_now(c, f, keep);
}

void mesa_unread_hold(struct mesa_client *c)
{
    struct mesa_unread *u = get(c);
    if (u == NULL)
        return;
    if (u->began == 0)
        u->began = u->since = ++c->server->sends;
    u->holding = true;
}

/* Whether another connection here was its user's when the message was sent. */
static bool has_witness(const struct mesa_client *c, const struct item *item)
{
    struct mesa_client *other = NULL;
    while ((other = mesa_server_next_of(c->server, mesa_client_id(c), other)) != NULL) {
        const struct mesa_unread *u = other != c ? other->unread : NULL;
        if (u != NULL && u->since > 0 && u->since <= item->send &&
            (u->relieved == 0 || u->relieved == c->unread->relieved))
            return true;
    }
    return false;
}

void mesa_unread_release(struct mesa_client *c)
{
    struct mesa_unread *u = c->unread;
    if (u == NULL || !u->holding)
        return;
    u->holding = false;
    size_t kept = u->sent;
    for (size_t i = u->sent; i < u->count; i++) {
        struct item item = u->items[i];
        item.number = c->pushed;
        enum mesa_status rc = mesa_client_send(c, item.frame);
        if (item.keep != MESA_KEEP_NOT || (rc != MESA_OK && rc != MESA_EAGAIN)) {
            u->items[kept++] = item;
        } else {
            u->bytes -= item.frame->len;
            mesa_frame_unref(item.frame);
        }
        if (c->closed) { /* the rest goes back */
            for (i++; i < u->count; i++)
                u->items[kept++] = u->items[i];
        }
    }
    u->sent = u->count = kept;
    if (!c->closed && u->sent > u->first)
        mesa_unread_ask(c);
}

void mesa_unread_ask(struct mesa_client *c)
{
    struct mesa_unread *u = c->closed ? NULL : get(c);
    if (u == NULL || u->asking)
        return;
    u->asking = true;
    u->asked = c->pushed;
    mesa_client_push(c, c->server->confirm);
}

void mesa_unread_confirmed(struct mesa_client *c)
{
    struct mesa_unread *u = c->unread;
    if (u == NULL || !u->asking)
        return;
    u->asking = false;
    u->received = u->asked;
    while (u->first < u->sent && u->items[u->first].number < u->received)
        drop_first(u);
    mesa_redelivery_trim(c);
    if (u->first < u->sent || mesa_redelivery_unconfirmed(c))
        mesa_unread_ask(c);
}

void mesa_unread_reset(struct mesa_client *c)
{
    struct mesa_unread *u = c->unread;
    while (u != NULL && u->first < u->sent)
        drop_first(u);
    if (u != NULL)
        u->began = u->since = u->told = u->relieved = 0;
}

/* -- handing over -- */

void mesa_unread_asked(struct mesa_client *c, uint64_t asked)
{
    if (c->unread != NULL && asked > 0)
        c->unread->told = asked;
}

bool mesa_unread_told_before(const struct mesa_client *c, uint64_t asked)
{
    const struct mesa_unread *u = c->unread;
    return u != NULL && u->told < asked && (u->told > 0 || c->fetching == 0);
}

bool mesa_unread_relieved(const struct mesa_client *c)
{
    return c->unread != NULL && c->unread->relieved != 0;
}

bool mesa_unread_is_undecided(const struct mesa_client *c)
{
    return c->unread != NULL && c->unread->told == 0 && c->fetching > 0;
}

void mesa_unread_relieve(struct mesa_client *c, uint64_t by)
{
    struct mesa_unread *u = get(c);
    if (u != NULL)
        u->relieved = by;
}

void mesa_unread_unrelieve(struct mesa_client *c, uint64_t by)
{
    struct mesa_unread *u = c->unread;
    if (u == NULL || u->relieved == 0 || (by != 0 && u->relieved != by))
        return;
    u->relieved = 0;
    u->since = ++c->server->sends;
}

bool mesa_unread_any(const struct mesa_client *c, const struct mesa_client *newer)
{
    const struct mesa_unread *u = c->unread;
    uint64_t until = newer != NULL && newer->unread != NULL ? newer->unread->began : UINT64_MAX;
    if (u == NULL || u->began > until)
        return false;
    if (c->redelivery != NULL || c->fetching > 0)
        return true;
    for (size_t i = u->first; i < u->count; i++) {
        if (u->items[i].keep != MESA_KEEP_NOT && u->items[i].send < until)
            return true;
    }
    return false;
}

void mesa_unread_forget(struct mesa_client *c)
{
    struct mesa_unread *u = c->unread;
    while (u != NULL && u->first < u->sent)
        drop_first(u);
    for (size_t i = u != NULL ? u->first : 0; u != NULL && i < u->count; i++)
        u->items[i].keep = MESA_KEEP_NOT; /* these are still to be sent */
    if (u != NULL)
        u->since = 0;
}

uint64_t mesa_unread_received(const struct mesa_client *c)
{
    return c->unread != NULL ? c->unread->received : 0;
}

static size_t begin(const struct mesa_unread *u, bool vanished)
{
    return vanished ? u->first : u->sent;
}

size_t mesa_unread_count(const struct mesa_client *c, bool vanished)
{
    const struct mesa_unread *u = c->unread;
    return u != NULL ? u->count - begin(u, vanished) : 0;
}

struct mesa_unread_message mesa_unread_message(const struct mesa_client *c, bool vanished, size_t i)
{
    size_t at = begin(c->unread, vanished) + i;
    const struct item *item = &c->unread->items[at];
    bool back = item->keep != MESA_KEEP_NOT && !has_witness(c, item);
    return (struct mesa_unread_message){back ? mesa_frame_payload(item->frame)
                                             : (struct mesa_span){NULL, 0},
                                        at < c->unread->sent ? item->number : UINT64_MAX};
}

void mesa_unread_free(struct mesa_client *c)
{
    struct mesa_unread *u = c->unread;
    if (u == NULL)
        return;
    while (u->first < u->count)
        drop_first(u);
    free(u->items);
    free(u);
    c->unread = NULL;
}
