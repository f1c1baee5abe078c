/* sync.c - redelivery: what was kept for a user while offline goes out in order after op 22
 * (PROTOCOL 8, Sync).
 *
 * Without a cluster a message counts as delivered once the transport took it, and what was not goes
 * back to the broker, the oldest first in line again. In a cluster it counts when the client confirmed it,
 * and until then it is kept where it is. Each queued message remembers its number in the client's
 * queue, so that all these questions are one comparison.
 */
#include <stdlib.h>
#include <string.h>

#include "server/internal.h"

enum { NO_MEMORY_MS = 1000 /* until it is tried again */ };

struct item {
    size_t offset, len; /* of the envelope in `bytes` */
    uint64_t stamp;     /* the broker's */
    uint64_t number;    /* in the queue of the client; valid below `next` */
};

struct mesa_redelivery {
    struct mesa_redelivery
        *older; /* stopped, but not wholly written yet (the client authenticated anew) */
    struct mesa_span id;
    const char *bytes;
    uint64_t due_ms;
    size_t count, next; /* messages; the first that is not queued */
    size_t confirmed;   /* of them, as far as was looked */
    struct item items[];
};

/* A backlog on its way from the broker. */
struct mesa_taking {
    struct mesa_client *client;
    struct mesa_take what;
    uint64_t gaps; /* the server's, when it was begun */
    size_t id_len;
    char id[];
};

/* Whether the broker keeps what it gave until it is confirmed. */
static bool is_kept(const struct mesa_client *c)
{
    return c->server->confirm != NULL;
}

static struct mesa_span envelope(const struct mesa_redelivery *r, size_t i)
{
    return (struct mesa_span){r->bytes + r->items[i].offset, r->items[i].len};
}

/* How many frames are known to have left, or to have arrived where the client confirms them. */
static uint64_t written(const struct mesa_client *c)
{
    if (c->unread != NULL)
        return mesa_unread_received(c);
    return c->pushed - mesa_outq_count(&c->outq);
}

/* The first message of `r` that was not received, as far as is known. */
static size_t first_unconfirmed(const struct mesa_client *c, const struct mesa_redelivery *r)
{
    uint64_t taken = written(c);
    size_t first = r->confirmed;
    while (first < r->next && r->items[first].number < taken)
        first++;
    return first;
}

/* -- putting back -- */

/* Those from `first` on go back, and are not part of `r` any more: a hook that is told of what did not
 * fit into the store may free it. */
static void put_back_from(struct mesa_server *s, struct mesa_redelivery *r, size_t first)
{
    size_t count = r->count - first;
    r->count = first;
    struct mesa_span *json = calloc(count + 1, sizeof *json);
    uint64_t *stamps = calloc(count + 1, sizeof *stamps);
    if (json != NULL && stamps != NULL) {
        for (size_t i = 0; i < count; i++) {
            json[i] = envelope(r, first + i);
            stamps[i] = r->items[first + i].stamp;
        }
        const struct mesa_backlog backlog = {.json = json, .stamps = stamps, .count = count};
        s->broker->ops->put_back(s->broker, r->id, &backlog);
    } else {
        mesa_server_report(s, NULL, "MEMORY", "kept messages were lost on their way back");
    }
    free(json);
    free(stamps);
}

void mesa_redelivery_stop(struct mesa_client *c)
{
    struct mesa_redelivery *r = c->redelivery;
    if (is_kept(c)) {
        mesa_redelivery_end(c);
    } else if (r != NULL && r->next < r->count) {
        put_back_from(c->server, r, r->next);
    }
}

/* Only the newest of them may not be. */
static bool all_queued(const struct mesa_client *c)
{
    return c->redelivery == NULL || c->redelivery->next == c->redelivery->count;
}

static bool is_unconfirmed(const struct mesa_client *c)
{
    const struct mesa_redelivery *r = c->redelivery;
    while (r != NULL && first_unconfirmed(c, r) == r->next)
        r = r->older;
    return r != NULL;
}

void mesa_redelivery_end(struct mesa_client *c)
{
    while (c->redelivery != NULL) { /* the newest first, so that the older ones end up in front */
        struct mesa_redelivery *r = c->redelivery;
        size_t first = first_unconfirmed(c, r);
        c->redelivery = r->older;
        if (!is_kept(c) && first < r->count)
            put_back_from(c->server, r, first);
        free(r);
    }
}

bool mesa_redelivery_trim(struct mesa_client *c)
{
    struct mesa_redelivery **at = &c->redelivery;
    while (*at != NULL) {
        struct mesa_redelivery *r = *at;
        for (size_t first = first_unconfirmed(c, r); r->confirmed < first; r->confirmed++)
            mesa_unread_received_stamp(c, r->items[r->confirmed].stamp);
        if (r->confirmed == r->count) {
            *at = r->older;
            free(r);
        } else {
            at = &r->older;
        }
    }
    return is_unconfirmed(c);
}

/* -- what the broker keeps -- */

uint64_t mesa_redelivery_give_up(struct mesa_client *c, uint64_t taken)
{
    struct mesa_redelivery *r = c->redelivery;
    if (r == NULL || r->next == r->count)
        return taken;
    r->count = r->next;
    return r->items[r->next].stamp - 1;
}

/* -- sending -- */

bool mesa_redelivery_due(const struct mesa_client *c, uint64_t *due_ms)
{
    const struct mesa_redelivery *r = c->redelivery;
    if (r == NULL || r->next == r->count || c->backed_up)
        return false;
    *due_ms = r->due_ms;
    return true;
}

/* Half of the bound is left to live messages. */
static bool has_room(const struct mesa_client *c, size_t len)
{
    return mesa_outq_count(&c->outq) == 0 ||
           mesa_outq_bytes(&c->outq) + len <= c->server->cfg.limits.max_backpressure / 2;
}

static enum mesa_status send_next(struct mesa_client *c, struct mesa_redelivery *r)
{
    struct mesa_frame *f;
    enum mesa_status rc =
        mesa_envelope_frame_with_sequence(&f, envelope(r, r->next), (uint32_t)r->next + 1);
    if (rc != MESA_OK)
        return rc;
    r->items[r->next++].number = c->pushed;
    c->server->metrics.sync_redelivered++;
    rc = mesa_client_send(c, f);
    mesa_frame_unref(f);
    return rc == MESA_EAGAIN ? MESA_OK : rc;
}

void mesa_redelivery_continue(struct mesa_client *c)
{
    struct mesa_redelivery *r;
    uint64_t now_ms = mesa_loop_now(c->server->loop);
    uint32_t interval_ms = c->server->cfg.sync.redelivery_interval_ms;

    /* Read anew each time: a flush frees it when all is written, a close puts it back. */
    while ((r = c->redelivery) != NULL && r->next < r->count && r->due_ms <= now_ms) {
        size_t len = r->items[r->next].len + sizeof ",\"s\":4294967295" + 10;
        if (!has_room(c, len))
            mesa_client_flush(c);
        if (!has_room(c, len))
            return; /* on_drained continues */
        r->due_ms = now_ms + interval_ms;
        enum mesa_status rc = send_next(c, r);
        if (c->closed)
            return;
        if (rc != MESA_OK) {
            r->due_ms = now_ms + NO_MEMORY_MS;
            mesa_server_report(c->server, c, "MEMORY", "no memory to redeliver kept messages");
            break;
        }
    }
    if (c->closed)
        return;
    if (all_queued(c) && c->fetching == 0)
        mesa_unread_release(c);
    if (is_unconfirmed(c))
        mesa_unread_ask(c);
    if (!c->closed)
        mesa_client_timing_update(c);
}

/* -- leaving -- */

/* What of `r` goes back begins here; what was for an earlier id of the client is put back apart. */
static size_t first_unread(const struct mesa_client *c, const struct mesa_redelivery *r,
                           bool vanished)
{
    if (!mesa_span_eq(r->id, mesa_client_id(c)))
        return r->count;
    return vanished ? first_unconfirmed(c, r) : r->next;
}

static size_t count_redelivered(const struct mesa_client *c, bool vanished)
{
    size_t count = 0;
    for (const struct mesa_redelivery *r = c->redelivery; r != NULL; r = r->older)
        count += r->count - first_unread(c, r, vanished);
    return count;
}

/* Fills in what was redelivered, from the back: the list begins with the newest. */
static void fill_redelivered(struct mesa_client *c, bool vanished, struct mesa_unread_list *u,
                             size_t count)
{
    for (struct mesa_redelivery *r = c->redelivery; r != NULL; r = r->older) {
        size_t first = first_unread(c, r, vanished);
        for (size_t i = r->count; i-- > first;) {
            u->json[--count] = envelope(r, i);
            u->stamps[count] = r->items[i].stamp;
        }
    }
}

enum mesa_status mesa_unread_list_init(struct mesa_unread_list *u, struct mesa_client *c,
                                       bool vanished)
{
    size_t count = is_kept(c) ? mesa_unread_count(c) : count_redelivered(c, vanished);
    *u = (struct mesa_unread_list){.json = calloc(count + 1, sizeof *u->json),
                                   .stamps = calloc(count + 1, sizeof *u->stamps)};
    if (u->json == NULL || u->stamps == NULL) {
        mesa_unread_list_deinit(u);
        return MESA_ENOMEM;
    }
    if (is_kept(c))
        count = mesa_unread_leave(c, vanished, u->json, u->stamps);
    else
        fill_redelivered(c, vanished, u, count);
    u->backlog = (struct mesa_backlog){.json = u->json, .stamps = u->stamps, .count = count};
    return MESA_OK;
}

void mesa_unread_list_deinit(struct mesa_unread_list *u)
{
    free(u->json);
    free(u->stamps);
    *u = (struct mesa_unread_list){0};
}

void mesa_redelivery_forget(struct mesa_client *c, bool vanished)
{
    struct mesa_redelivery **at = &c->redelivery;
    while (*at != NULL) {
        struct mesa_redelivery *r = *at;
        if (is_kept(c) || (vanished && mesa_span_eq(r->id, mesa_client_id(c)))) {
            *at = r->older;
            free(r);
            continue;
        }
        if (!vanished)
            r->count = r->next;
        at = &r->older;
    }
}

/* -- beginning -- */

static struct mesa_redelivery *redelivery_new(struct mesa_span id,
                                              const struct mesa_backlog *backlog)
{
    size_t bytes = id.len;
    for (size_t i = 0; i < backlog->count; i++)
        bytes += backlog->json[i].len;
    size_t fixed = sizeof(struct mesa_redelivery) + backlog->count * sizeof(struct item);
    struct mesa_redelivery *r = malloc(fixed + bytes);
    if (r == NULL)
        return NULL;

    char *p = (char *)r + fixed;
    *r = (struct mesa_redelivery){.bytes = p, .count = backlog->count};
    size_t at = 0;
    for (size_t i = 0; i < backlog->count; i++) {
        struct mesa_span json = backlog->json[i];
        memcpy(p + at, json.p, json.len);
        r->items[i] = (struct item){.offset = at, .len = json.len, .stamp = backlog->stamps[i]};
        at += json.len;
    }
    memcpy(p + at, id.p, id.len);
    r->id = (struct mesa_span){p + at, id.len};
    return r;
}

static void redeliver(struct mesa_client *c, struct mesa_redelivery *r,
                      const struct mesa_backlog *backlog)
{
    struct mesa_server *s = c->server;
    r->older = c->redelivery;
    c->redelivery = r;
    if (s->hooks.on_redeliver != NULL)
        s->hooks.on_redeliver(s->ctx, c, backlog);
    if (!c->closed)
        mesa_redelivery_continue(c);
}

static bool is_wanted(const struct mesa_taking *t)
{
    const struct mesa_client *c = t->client;
    return !c->closed && mesa_span_eq(mesa_client_id(c), (struct mesa_span){t->id, t->id_len});
}

static enum mesa_wanted ask_wanted(void *ctx, bool first)
{
    struct mesa_taking *t = ctx;
    struct mesa_client *other = NULL;
    if (!is_wanted(t))
        return MESA_UNWANTED;
    if (first) {
        t->gaps = t->client->server->gaps;
        mesa_unread_asked(t->client);
    }
    do
        other = mesa_server_next_of(t->client->server, mesa_client_id(t->client), other);
    while (other == t->client);
    return other != NULL ? MESA_WANTED_BESIDE : MESA_WANTED;
}

static enum mesa_status use(struct mesa_taking *t, const struct mesa_backlog *backlog)
{
    struct mesa_client *c = t->client;
    struct mesa_server *s = c->server;
    struct mesa_span id = {t->id, t->id_len};
    struct mesa_redelivery *r = NULL;
    bool drops = t->what.mode == MESA_TAKE_DROP;
    if (backlog->count > 0 && !drops) {
        r = redelivery_new(id, backlog);
        if (r == NULL && !is_kept(c))
            s->broker->ops->put_back(s->broker, id, backlog);
        if (r == NULL)
            return MESA_ENOMEM;
    }
    mesa_unread_after_take(c, &t->what, backlog, t->gaps != s->gaps);
    if (!c->backlog_missed)
        c->take_mode = MESA_TAKE;
    if (drops)
        s->metrics.sync_dropped += backlog->count;
    if (r != NULL)
        redeliver(c, r, backlog);
    if (!c->closed)
        mesa_unread_tell(c);
    return MESA_OK;
}

static void on_taken(void *ctx, enum mesa_status rc, const struct mesa_backlog *backlog)
{
    struct mesa_taking *t = ctx;
    struct mesa_client *c = t->client;
    struct mesa_server *s = c->server; /* NULL when the client left meanwhile */
    bool wanted = s != NULL && is_wanted(t);
    if (c->taking == t)
        c->taking = NULL;
    if (s != NULL)
        mesa_server_enter_callback(s);

    if (wanted && rc == MESA_OK)
        rc = use(t, backlog);
    c->fetching--; /* now: what waits goes out below, unless there is more to take first */
    if (wanted && rc != MESA_OK) {
        c->backlog_missed = true;
        if (rc != MESA_EUNAVAILABLE) /* that Redis is away has been told */
            mesa_server_report(s, c, "SYNC", "kept messages could not be fetched");
    } else if (wanted && c->backlog_missed && !c->closed) {
        mesa_redelivery_again(c);
    }
    if (s != NULL && !c->closed && c->fetching == 0 &&
        (all_queued(c) || s->cfg.sync.redelivery_interval_ms > 0))
        mesa_unread_release(c);

    if (s != NULL)
        mesa_server_leave_callback(s);
    mesa_client_unref(c);
    free(t);
}

static struct mesa_taking *taking_new(struct mesa_client *c, enum mesa_take_mode mode)
{
    struct mesa_span id = mesa_client_id(c);
    struct mesa_taking *t = malloc(sizeof *t + id.len);
    if (t == NULL)
        return NULL;
    *t = (struct mesa_taking){.client = mesa_client_ref(c),
                              .what = {.mode = mode},
                              .gaps = c->server->gaps,
                              .id_len = id.len};
    memcpy(t->id, id.p, id.len);
    return t;
}

void mesa_redelivery_begin(struct mesa_client *c, enum mesa_take_mode mode)
{
    struct mesa_server *s = c->server;
    if (!s->cfg.sync.enabled)
        return;
    c->take_mode = mode;
    c->backlog_missed = true;
    if (c->taking != NULL && is_wanted(c->taking))
        return; /* it is begun when that has been answered */
    struct mesa_taking *t = taking_new(c, mode);
    if (t == NULL) {
        mesa_server_report(s, c, "MEMORY", "no memory to redeliver kept messages");
        return;
    }
    if (!is_kept(c))
        mesa_redelivery_stop(c); /* of an earlier authentication: it comes first again */
    if (!is_wanted(t)) {         /* a hook closed the client, or made it another user */
        mesa_client_unref(c);
        free(t);
        return;
    }
    mesa_unread_before_take(c, &t->what);
    c->taking = t;
    c->backlog_missed = false;
    c->fetching++;
    s->broker->ops->take(s->broker, (struct mesa_span){t->id, t->id_len}, &t->what, ask_wanted,
                         on_taken, t);
}

void mesa_redelivery_again(struct mesa_client *c)
{
    if (c->state.authenticated && !c->closed && is_kept(c))
        mesa_redelivery_begin(c, c->take_mode);
}
