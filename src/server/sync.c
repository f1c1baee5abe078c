/* sync.c - redelivery: what was kept for a user while offline goes out in order after op 22
 * (PROTOCOL 8, Sync).
 *
 * A message counts as delivered once the transport took it. What was not goes back to the broker,
 * the oldest first in line again. Each queued message remembers its number in the client's queue,
 * so that both questions are one comparison.
 */
#include <stdlib.h>
#include <string.h>

#include "server/internal.h"

struct item {
    size_t offset, len; /* of the envelope in `bytes` */
    uint64_t stored_ms; /* the broker's, for going back */
    uint64_t number;    /* in the queue of the client; valid below `next` */
};

struct mesa_redelivery {
    struct mesa_redelivery
        *older; /* stopped, but not wholly written yet (the client authenticated anew) */
    struct mesa_span id;
    const char *bytes;
    uint64_t due_ms;
    uint64_t hold;      /* the broker's, until all is confirmed */
    size_t count, next; /* messages; the first that is not queued */
    size_t confirmed;   /* as the broker knows */
    bool dated;         /* stored_ms is known */
    struct item items[];
};

/* A backlog on its way from the broker. */
struct taking {
    struct mesa_client *client;
    struct mesa_broker *broker;
    bool wanted;
    bool ready;      /* the user's older connections here have nothing to put back any more */
    uint64_t due_ms; /* when they are not waited for any more */
    size_t id_len;
    char id[];
};

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

/* Those from `first` on go back; with `hold` the broker forgets what it kept of the others, too. */
static void put_back_from(struct mesa_server *s, const struct mesa_redelivery *r, size_t first,
                          uint64_t hold)
{
    size_t count = r->count - first;
    struct mesa_span *json = calloc(count + 1, sizeof *json);
    uint64_t *stored_ms = calloc(count + 1, sizeof *stored_ms);
    if (json != NULL && stored_ms != NULL) {
        for (size_t i = 0; i < count; i++) {
            json[i] = envelope(r, first + i);
            stored_ms[i] = r->items[first + i].stored_ms;
        }
        const struct mesa_backlog backlog = {json, r->dated ? stored_ms : NULL, count, hold, 0};
        if (count > 0)
            s->broker->ops->put_back(s->broker, r->id, &backlog, 1, false);
        else
            s->broker->ops->confirm(s->broker, r->id, hold, r->count, r->count);
    } else {
        mesa_server_report(s, NULL, "MEMORY", "kept messages were lost on their way back");
    }
    free(json);
    free(stored_ms);
}

/* What is not queued is somebody else's now. */
static void cut_off(struct mesa_client *c, struct mesa_redelivery *r)
{
    r->count = r->next;
    r->confirmed = first_unconfirmed(c, r);
    c->server->broker->ops->confirm(c->server->broker, r->id, r->hold, r->confirmed, r->count);
}

void mesa_redelivery_stop(struct mesa_client *c)
{
    struct mesa_redelivery *r = c->redelivery;
    if (r == NULL || r->next == r->count)
        return;
    put_back_from(c->server, r, r->next, 0);
    cut_off(c, r);
}

/* Only the newest of them may not be. */
static bool all_queued(const struct mesa_client *c)
{
    return c->redelivery == NULL || c->redelivery->next == c->redelivery->count;
}

bool mesa_redelivery_unconfirmed(const struct mesa_client *c)
{
    const struct mesa_redelivery *r = c->redelivery;
    while (r != NULL && r->confirmed == r->next)
        r = r->older;
    return r != NULL;
}

void mesa_redelivery_end(struct mesa_client *c)
{
    while (c->redelivery != NULL) { /* the newest first, so that the older ones end up in front */
        struct mesa_redelivery *r = c->redelivery;
        c->redelivery = r->older;
        put_back_from(c->server, r, first_unconfirmed(c, r), r->hold);
        free(r);
    }
}

void mesa_redelivery_trim(struct mesa_client *c)
{
    struct mesa_redelivery **at = &c->redelivery;
    while (*at != NULL) {
        struct mesa_redelivery *r = *at;
        size_t confirmed = first_unconfirmed(c, r);
        if (confirmed > r->confirmed || confirmed == r->count)
            c->server->broker->ops->confirm(c->server->broker, r->id, r->hold, confirmed, r->count);
        r->confirmed = confirmed;
        if (confirmed == r->count) {
            *at = r->older;
            free(r);
        } else {
            at = &r->older;
        }
    }
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
            mesa_redelivery_stop(c);
            mesa_server_report(c->server, c, "SYNC", "redelivery was stopped for lack of memory");
            return;
        }
    }
    if (c->closed)
        return;
    if (all_queued(c) && c->fetching == 0 && !c->backlog_missed)
        mesa_unread_release(c);
    if (mesa_redelivery_unconfirmed(c))
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

/* One message of those that go back. */
struct entry {
    struct mesa_span json;
    uint64_t ms, hold;
    uint64_t number; /* in the client's queue */
};

/* Where a redelivered message stands among the live ones: by its number in the queue, or by the one
 * it would have; but paced ones are overtaken and still the older ones. */
static uint64_t place(const struct mesa_client *c, const struct mesa_redelivery *r, size_t i)
{
    if (c->server->cfg.sync.redelivery_interval_ms > 0)
        return 0;
    return i < r->next ? r->items[i].number : c->pushed;
}

/* Fills in what was redelivered, from the back: the list begins with the newest. */
static void fill_redelivered(struct mesa_client *c, bool vanished, struct entry *entries,
                             size_t count)
{
    for (struct mesa_redelivery *r = c->redelivery; r != NULL; r = r->older) {
        size_t first = first_unread(c, r, vanished);
        for (size_t i = r->count; i-- > first;)
            entries[--count] = (struct entry){envelope(r, i), r->items[i].stored_ms,
                                              vanished ? r->hold : 0, place(c, r, i)};
    }
}

/* Merges the live messages in, which are in order, too. */
static size_t fill(struct mesa_client *c, bool vanished, struct entry *entries, size_t redelivered)
{
    size_t live = mesa_unread_count(c, vanished), from = live, count = 0;
    fill_redelivered(c, vanished, entries + live, redelivered);
    for (size_t i = 0; i < live; i++) {
        struct mesa_unread_message m = mesa_unread_message(c, vanished, i);
        while (from < live + redelivered && entries[from].number <= m.number)
            entries[count++] = entries[from++];
        if (m.json.p != NULL)
            entries[count++] = (struct entry){m.json, 0, 0, m.number}; /* time 0: now */
    }
    while (from < live + redelivered)
        entries[count++] = entries[from++];
    return count;
}

enum mesa_status mesa_unread_list_init(struct mesa_unread_list *u, struct mesa_client *c,
                                       bool vanished)
{
    size_t redelivered = count_redelivered(c, vanished);
    size_t all = redelivered + mesa_unread_count(c, vanished);
    struct entry *entries = calloc(all + 1, sizeof *entries);
    *u = (struct mesa_unread_list){.json = calloc(all + 1, sizeof *u->json),
                                   .ms = calloc(all + 1, sizeof *u->ms),
                                   .parts = calloc(all + 1, sizeof *u->parts)};
    if (entries == NULL || u->json == NULL || u->ms == NULL || u->parts == NULL) {
        free(entries);
        mesa_unread_list_deinit(u);
        return MESA_ENOMEM;
    }
    size_t count = fill(c, vanished, entries, redelivered);
    for (size_t i = 0; i < count; i++) {
        u->json[i] = entries[i].json;
        u->ms[i] = entries[i].ms;
        if (i == 0 || entries[i].hold != entries[i - 1].hold)
            u->parts[u->count++] =
                (struct mesa_backlog){u->json + i, u->ms + i, 0, entries[i].hold, 0};
        u->parts[u->count - 1].count++;
    }
    free(entries);
    return MESA_OK;
}

void mesa_unread_list_deinit(struct mesa_unread_list *u)
{
    free(u->json);
    free(u->ms);
    free(u->parts);
    *u = (struct mesa_unread_list){0};
}

void mesa_redelivery_forget(struct mesa_client *c, bool vanished)
{
    struct mesa_redelivery **at = &c->redelivery;
    while (*at != NULL) {
        struct mesa_redelivery *r = *at;
        if (vanished && mesa_span_eq(r->id, mesa_client_id(c))) {
            *at = r->older;
            free(r);
            continue;
        }
        if (!vanished)
            cut_off(c, r);
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
    r->dated = backlog->stored_ms != NULL;
    r->hold = backlog->hold;
    size_t at = 0;
    for (size_t i = 0; i < backlog->count; i++) {
        struct mesa_span json = backlog->json[i];
        memcpy(p + at, json.p, json.len);
        r->items[i] = (struct item){.offset = at, .len = json.len};
        if (r->dated)
            r->items[i].stored_ms = backlog->stored_ms[i];
        at += json.len;
    }
    memcpy(p + at, id.p, id.len);
    r->id = (struct mesa_span){p + at, id.len};
    return r;
}

static void redeliver(struct mesa_client *c, struct mesa_span id,
                      const struct mesa_backlog *backlog)
{
    struct mesa_server *s = c->server;
    struct mesa_redelivery *r = redelivery_new(id, backlog);
    if (r == NULL) {
        s->broker->ops->put_back(s->broker, id, backlog, 1, false);
        mesa_server_report(s, c, "MEMORY", "no memory to redeliver kept messages");
        return;
    }
    r->older = c->redelivery;
    c->redelivery = r;
    if (s->hooks.on_redeliver != NULL)
        s->hooks.on_redeliver(s->ctx, c, backlog);
    if (!c->closed)
        mesa_redelivery_continue(c);
}

static bool is_wanted(const struct taking *t)
{
    const struct mesa_client *c = t->client;
    return !c->closed && mesa_span_eq(mesa_client_id(c), (struct mesa_span){t->id, t->id_len});
}

static enum mesa_wanted ask_wanted(void *ctx, uint64_t asked)
{
    struct taking *t = ctx;
    if (!is_wanted(t))
        return MESA_UNWANTED;
    mesa_unread_asked(t->client, asked);
    bool late = mesa_loop_now(t->client->server->loop) >= t->due_ms;
    if (mesa_unread_relieved(t->client)) /* it asked later, or another server has the newest now */
        return late ? MESA_UNWANTED : MESA_NOT_YET;
    t->ready = t->ready || mesa_hand_over_here(t->client, late);
    return t->ready ? MESA_WANTED : MESA_NOT_YET;
}

static void on_taken(void *ctx, enum mesa_status rc, const struct mesa_backlog *backlog)
{
    struct taking *t = ctx;
    struct mesa_client *c = t->client;
    struct mesa_server *s = c->server; /* NULL when the client left meanwhile */
    struct mesa_span id = {t->id, t->id_len};
    if (s != NULL)
        mesa_server_enter(s);
    c->fetching--;

    if (rc == MESA_OK && s != NULL)
        mesa_unread_asked(c, backlog->asked);
    if (rc != MESA_OK) {
        if (rc == MESA_EUNAVAILABLE)
            c->backlog_missed = true; /* that Redis is away has been told */
        else if (s != NULL && rc != MESA_ECLOSED)
            mesa_server_report(s, c, "SYNC", "kept messages could not be fetched");
    } else if (backlog->count > 0) {
        if (!t->wanted) {
            t->broker->ops->confirm(t->broker, id, backlog->hold, backlog->count, backlog->count);
            if (s != NULL)
                s->metrics.sync_dropped += backlog->count;
        } else if (!is_wanted(t)) {
            t->broker->ops->put_back(t->broker, id, backlog, 1, false);
        } else {
            redeliver(c, id, backlog);
        }
    }
    if (s != NULL && rc == MESA_OK)
        mesa_redelivery_retry(c); /* more was put back meanwhile */
    if (s != NULL && !c->closed && c->fetching == 0 &&
        (all_queued(c) || s->cfg.sync.redelivery_interval_ms > 0))
        mesa_unread_release(c);

    if (s != NULL)
        mesa_server_leave(s);
    mesa_client_unref(c);
    free(t);
}

void mesa_redelivery_begin(struct mesa_client *c)
{
    struct mesa_server *s = c->server;
    if (!s->cfg.sync.enabled)
        return;
    struct mesa_span id = mesa_client_id(c);
    struct taking *t = malloc(sizeof *t + id.len);
    if (t == NULL) {
        mesa_server_report(s, c, "MEMORY", "no memory to redeliver kept messages");
        return;
    }
    mesa_redelivery_stop(c); /* of an earlier authentication: it comes first again */
    *t = (struct taking){.client = mesa_client_ref(c),
                         .broker = s->broker,
                         .wanted = c->state.should_sync,
                         .due_ms = mesa_loop_now(s->loop) + MESA_HAND_OVER_MS,
                         .id_len = id.len};
    memcpy(t->id, id.p, id.len);
    c->backlog_missed = false;
    c->fetching++;
    mesa_unread_hold(c);
    mesa_unread_unrelieve(c, 0); /* it is the newest now */
    s->broker->ops->take(s->broker, (struct mesa_span){t->id, id.len}, ask_wanted, on_taken, t);
}

void mesa_redelivery_retry(struct mesa_client *c)
{
    if (c->backlog_missed && !c->closed)
        mesa_redelivery_begin(c);
}

void mesa_redelivery_again(struct mesa_client *c)
{
    if (c->state.authenticated && c->state.should_sync && !c->closed && c->fetching == 0)
        mesa_redelivery_begin(c);
}
