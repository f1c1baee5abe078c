/* memory.c - the broker of one process without Redis: the sync store, kept in memory within its bounds.
 *
 * What is dropped is first taken out of every structure and reported afterwards, because the hook may call the broker again.
 */
#include <stdlib.h>
#include <string.h>

#include "base/list.h"
#include "base/map.h"
#include "broker/broker.h"

/* Ages are checked whenever a backlog is touched; the sweep is for those nobody touches. */
enum { SWEEP_MS = 60 * 1000 };

struct backlog {
    struct mesa_list link;     /* memory_broker.backlogs */
    struct mesa_list messages; /* struct stored, oldest first */
    size_t count;
    uint64_t bytes;
    size_t refs; /* one while in the map, one for each message */
    size_t id_len;
    char id[];
};

struct stored {
    struct mesa_list link;
    struct backlog *owner;
    uint64_t stored_ms;
    size_t len;
    char json[];
};

struct memory_broker {
    struct mesa_broker base;
    struct mesa_loop *loop;
    const struct mesa_config *cfg;
    struct mesa_map *by_id;
    struct mesa_list backlogs;
    struct mesa_timer sweep; /* armed while anything is stored */
};

static struct memory_broker *self(struct mesa_broker *b)
{
    return MESA_CONTAINER_OF(b, struct memory_broker, base);
}

static struct stored *message(struct mesa_list *link)
{
    return MESA_CONTAINER_OF(link, struct stored, link);
}

static void backlog_unref(struct backlog *q)
{
    if (--q->refs == 0)
        free(q);
}

static void stored_free(struct stored *m)
{
    backlog_unref(m->owner);
    free(m);
}

static struct stored *stored_new(struct backlog *q, struct mesa_span json, uint64_t stored_ms)
{
    struct stored *m = malloc(sizeof *m + json.len);
    if (m == NULL)
        return NULL;
    mesa_list_init(&m->link);
    m->owner = q;
    q->refs++;
    m->stored_ms = stored_ms;
    m->len = json.len;
    memcpy(m->json, json.p, json.len);
    return m;
}

static enum mesa_status find_or_add(struct memory_broker *m, struct mesa_span id,
                                    struct backlog **out)
{
    struct backlog *q = mesa_map_get(m->by_id, id.p, id.len);
    if (q == NULL) {
        q = calloc(1, sizeof *q + id.len);
        if (q == NULL)
            return MESA_ENOMEM;
        mesa_list_init(&q->messages);
        q->refs = 1;
        q->id_len = id.len;
        memcpy(q->id, id.p, id.len);
        if (mesa_map_set(m->by_id, id.p, id.len, q) != MESA_OK) {
            free(q);
            return MESA_ENOMEM;
        }
        mesa_list_append(&m->backlogs, &q->link);
        if (!mesa_timer_armed(&m->sweep))
            mesa_loop_arm(m->loop, &m->sweep, SWEEP_MS);
    }
    *out = q;
    return MESA_OK;
}

static void remove_if_empty(struct memory_broker *m, struct backlog *q)
{
    if (q->count > 0)
        return;
    mesa_map_remove(m->by_id, q->id, q->id_len);
    mesa_list_remove(&q->link);
    backlog_unref(q);
    if (mesa_list_empty(&m->backlogs))
        mesa_loop_cancel(m->loop, &m->sweep);
}

static void take_oldest(struct backlog *q, struct mesa_list *to)
{
    struct stored *oldest = message(q->messages.next);
    mesa_list_remove(&oldest->link);
    q->count--;
    q->bytes -= oldest->len;
    mesa_list_append(to, &oldest->link);
}

/* Moves what the bounds do not allow into `dropped`. */
static void enforce(const struct memory_broker *m, struct backlog *q, struct mesa_list *dropped)
{
    uint64_t now_ms = mesa_loop_now(m->loop);
    while (q->count > 0) {
        uint64_t stored_ms = message(q->messages.next)->stored_ms;
        bool old = now_ms > stored_ms && now_ms - stored_ms > m->cfg->sync.max_age_ms;
        if (!old && q->count <= m->cfg->sync.max_messages && q->bytes <= m->cfg->sync.max_bytes)
            return;
        take_oldest(q, dropped);
    }
}

static void report_dropped(struct memory_broker *m, struct mesa_list *dropped)
{
    while (!mesa_list_empty(dropped)) {
        struct stored *s = message(dropped->next);
        mesa_list_remove(&s->link);
        if (m->base.hooks.on_dropped != NULL)
            m->base.hooks.on_dropped(m->base.hooks_ctx,
                                     (struct mesa_span){s->owner->id, s->owner->id_len},
                                     (struct mesa_span){s->json, s->len});
        stored_free(s);
    }
}

static void on_sweep(struct mesa_timer *t)
{
    struct memory_broker *m = MESA_CONTAINER_OF(t, struct memory_broker, sweep);
    struct mesa_list dropped;
    mesa_list_init(&dropped);
    mesa_loop_arm(m->loop, &m->sweep, SWEEP_MS);
    MESA_LIST_FOREACH_SAFE(it, tmp, &m->backlogs) {
        struct backlog *q = MESA_CONTAINER_OF(it, struct backlog, link);
        enforce(m, q, &dropped);
        remove_if_empty(m, q);
    }
    report_dropped(m, &dropped);
}

static void memory_free(struct mesa_broker *b)
{
    struct memory_broker *m = self(b);
    mesa_loop_cancel(m->loop, &m->sweep);
    while (!mesa_list_empty(&m->backlogs)) {
        struct backlog *q = MESA_CONTAINER_OF(m->backlogs.next, struct backlog, link);
        mesa_list_remove(&q->link);
        MESA_LIST_FOREACH_SAFE(it, tmp, &q->messages) {
            stored_free(message(it));
        }
        backlog_unref(q);
    }
    mesa_map_free(m->by_id);
    free(m);
}

/* Who is online is known from the server's own connections: there is nothing to tell anybody. */
static void memory_changed(struct mesa_broker *b)
{
    (void)b;
}

static void memory_user_online(struct mesa_broker *b, struct mesa_span id)
{
    (void)b;
    (void)id;
}

static void memory_tell_portal(struct mesa_broker *b, const struct mesa_portal_event *e)
{
    (void)b;
    (void)e;
}

static const char *memory_trouble(struct mesa_broker *b)
{
    (void)b;
    return NULL;
}

static void memory_close(struct mesa_broker *b, mesa_broker_closed_fn fn, void *ctx)
{
    (void)b;
    fn(ctx);
}

static enum mesa_status store(struct memory_broker *m, struct mesa_span id, struct mesa_span json)
{
    if (json.len >
        m->cfg->sync.max_bytes) { /* would only push out everything else and then itself */
        if (m->base.hooks.on_dropped != NULL)
            m->base.hooks.on_dropped(m->base.hooks_ctx, id, json);
        return MESA_ETOOBIG;
    }

    struct backlog *q;
    enum mesa_status rc = find_or_add(m, id, &q);
    if (rc != MESA_OK)
        return rc;
    struct stored *s = stored_new(q, json, mesa_loop_now(m->loop));
    if (s == NULL) {
        remove_if_empty(m, q);
        return MESA_ENOMEM;
    }
    mesa_list_append(&q->messages, &s->link);
    q->count++;
    q->bytes += s->len;

    struct mesa_list dropped;
    mesa_list_init(&dropped);
    enforce(m, q, &dropped);
    report_dropped(m, &dropped);
    return MESA_OK;
}

/* What nobody here took is kept; nobody else is there. */
static enum mesa_status memory_send(struct mesa_broker *b, const struct mesa_publication *p)
{
    struct memory_broker *m = self(b);
    if (!p->sync || p->ids == NULL || p->id_count == 0)
        return MESA_OK;
    struct mesa_span *kept = calloc(p->id_count, sizeof *kept);
    if (kept == NULL)
        return MESA_ENOMEM;

    enum mesa_status rc = MESA_OK;
    size_t count = 0;
    struct mesa_span json = mesa_frame_payload(p->frame);
    for (size_t i = 0; i < p->id_count; i++) {
        if (p->taken[i])
            continue;
        enum mesa_status stored = store(m, p->ids[i], json);
        if (stored == MESA_OK)
            kept[count++] = p->ids[i];
        else if (stored != MESA_ETOOBIG)
            rc = stored;
    }
    if (count > 0 && m->base.hooks.on_stored != NULL)
        m->base.hooks.on_stored(m->base.hooks_ctx, json, kept, count);
    free(kept);
    return rc;
}

static void memory_take(struct mesa_broker *b, struct mesa_span id, const struct mesa_take *what,
                        mesa_backlog_wanted_fn wanted, mesa_backlog_fn fn, void *ctx)
{
    (void)what;   /* nothing is kept of what was taken */
    (void)wanted; /* here it is taken at once */
    struct memory_broker *m = self(b);
    struct mesa_list taken, dropped;
    mesa_list_init(&taken);
    mesa_list_init(&dropped);
    struct backlog *q = mesa_map_get(m->by_id, id.p, id.len);
    enum mesa_status rc = MESA_OK;
    struct mesa_backlog backlog = {0};
    struct mesa_span *json = NULL;
    uint64_t *stored_ms = NULL;

    if (q != NULL) {
        enforce(m, q, &dropped);
        json = calloc(q->count + 1, sizeof *json);
        stored_ms = calloc(q->count + 1, sizeof *stored_ms);
        if (json != NULL && stored_ms != NULL) {
            while (q->count > 0)
                take_oldest(q, &taken);
        } else {
            rc = MESA_ENOMEM; /* the backlog stays where it is */
        }
        remove_if_empty(m, q);
    }
    MESA_LIST_FOREACH(it, &taken) {
        const struct stored *s = message(it);
        json[backlog.count] = (struct mesa_span){s->json, s->len};
        stored_ms[backlog.count++] = s->stored_ms;
    }
    backlog.json = json;
    backlog.stamps = stored_ms;
    fn(ctx, rc, rc == MESA_OK ? &backlog : NULL);

    MESA_LIST_FOREACH_SAFE(it, tmp, &taken) {
        stored_free(message(it));
    }
    free(json);
    free(stored_ms);
    report_dropped(m, &dropped);
}

static void put_in_front(struct memory_broker *m, struct backlog *q,
                         const struct mesa_backlog *unread)
{
    for (size_t i = unread->count; i-- > 0;) {
        uint64_t stored_ms = unread->stamps != NULL ? unread->stamps[i] : mesa_loop_now(m->loop);
        struct stored *s = stored_new(q, unread->json[i], stored_ms);
        if (s == NULL)
            return;
        mesa_list_append(q->messages.next, &s->link); /* in front of the first */
        q->count++;
        q->bytes += s->len;
    }
}

static void memory_put_back(struct mesa_broker *b, struct mesa_span id,
                            const struct mesa_backlog *unread)
{
    struct memory_broker *m = self(b);
    struct backlog *q;
    if (unread->count == 0 || find_or_add(m, id, &q) != MESA_OK)
        return;
    put_in_front(
        m, q, unread); /* without memory the older ones are lost, as they would be to the bounds */

    struct mesa_list dropped;
    mesa_list_init(&dropped);
    enforce(m, q, &dropped);
    remove_if_empty(m, q);
    report_dropped(m, &dropped);
}

/* What was taken is in the memory of the same process: there is nobody to keep it for. */
static enum mesa_status memory_confirm(struct mesa_broker *b, struct mesa_span id,
                                       const struct mesa_confirmation *c)
{
    (void)b;
    (void)id;
    (void)c;
    return MESA_OK;
}

static const struct mesa_broker_ops memory_ops = {
    .free = memory_free,
    .close = memory_close,
    .connected = memory_changed,
    .disconnected = memory_changed,
    .user_online = memory_user_online,
    .user_offline = memory_put_back,
    .send = memory_send,
    .take = memory_take,
    .confirm = memory_confirm,
    .put_back = memory_put_back,
    .tell_portal = memory_tell_portal,
    .trouble = memory_trouble,
};

enum mesa_status mesa_broker_memory_new(struct mesa_broker **out, struct mesa_loop *loop,
                                        const struct mesa_config *cfg)
{
    struct memory_broker *m = calloc(1, sizeof *m);
    if (m == NULL)
        return MESA_ENOMEM;
    enum mesa_status rc = mesa_map_new(&m->by_id);
    if (rc != MESA_OK) {
        free(m);
        return rc;
    }
    m->base.ops = &memory_ops;
    m->loop = loop;
    m->cfg = cfg;
    mesa_list_init(&m->backlogs);
    mesa_timer_init(&m->sweep, on_sweep);
    *out = &m->base;
    return MESA_OK;
}
