/* redis_portal.c - who the portals are, and telling one of them what happens (PROTOCOL 9).
 *
 * A portal that crashed stays in the pool. Nothing in the protocol says which portal a subscription
 * belongs to, so this is how the dead are found at every tick:
 * - A portal of mesa-lua has a lease (mesa:portal:<id>) and tells its subscription from others, so
 *   that one that died does not count as one of theirs.
 * - No subscriber of `portal` at all: every other one is dead.
 * - Fewer other subscribers than other portals: those are dead whose subscribed connection was seen when they
 *   joined (the newest one with a single channel) and is gone by now; and when as many subscribers
 *   as there are portals known to live are left, all the others are.
 * - Otherwise nobody is known to be dead: a portal whose connection was replaced subscribes again,
 *   which makes the numbers equal.
 * A portal of Node enters the pool before it has subscribed: who seems dead has to seem so for a while.
 * Redis takes the dead out of the pool and tells all servers, once however many find them.
 */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/random.h>

#include "broker/redis_internal.h"

enum { PORTALS_MAX = 10000, ID_MAX = 512, MISSES_MAX = 2, DOUBT_MS = 2000 };

static struct mesa_redis_portal *portal_of(struct mesa_list *link)
{
    return MESA_CONTAINER_OF(link, struct mesa_redis_portal, link);
}

static struct mesa_span id_of(const struct mesa_redis_portal *p)
{
    return (struct mesa_span){p->id, p->id_len};
}

static struct mesa_redis_portal *find(struct mesa_redis_broker *r, struct mesa_span id)
{
    MESA_LIST_FOREACH(it, &r->portals) {
        if (mesa_span_eq(id_of(portal_of(it)), id))
            return portal_of(it);
    }
    return NULL;
}

static void join(struct mesa_redis_broker *r, struct mesa_span id)
{
    if (id.len == 0 || id.len > ID_MAX || r->portal_count >= PORTALS_MAX || find(r, id) != NULL)
        return;
    struct mesa_redis_portal *p = calloc(1, sizeof *p + id.len);
    if (p == NULL)
        return; /* the next refresh finds it again */
    p->id_len = id.len;
    memcpy(p->id, id.p, id.len);
    mesa_list_append(&r->portals, &p->link);
    r->portal_count++;
    if (r->base.hooks.on_portal != NULL)
        r->base.hooks.on_portal(r->base.hooks_ctx, id, true);
}

static void leave(struct mesa_redis_broker *r, struct mesa_redis_portal *p)
{
    if (r->next_portal == &p->link)
        r->next_portal = p->link.prev;
    mesa_list_remove(&p->link);
    r->portal_count--;
    if (r->base.hooks.on_portal != NULL)
        r->base.hooks.on_portal(r->base.hooks_ctx, id_of(p), false);
    free(p);
}

void mesa_redis_portals_free(struct mesa_redis_broker *r)
{
    while (!mesa_list_empty(&r->portals)) {
        struct mesa_redis_portal *p = portal_of(r->portals.next);
        mesa_list_remove(&p->link);
        free(p);
    }
    r->next_portal = &r->portals;
    r->portal_count = 0;
}

void mesa_redis_portal_update(struct mesa_redis_broker *r, const char *text, size_t len)
{
    struct mesa_portal_update u;
    struct mesa_json_error err;
    enum mesa_status rc = mesa_portal_update_parse(text, len, r->cfg->limits.max_depth, &u, &err);
    if (rc != MESA_OK) {
        mesa_redis_error(r, "CLUSTER",
                         rc == MESA_ENOMEM ? "no memory for the news of a portal"
                                           : "the news of a portal is not understood");
        return;
    }
    struct mesa_span id = mesa_redis_span(&u.id);
    struct mesa_redis_portal *p = find(r, id);
    if (u.ready)
        join(r, id);
    else if (p != NULL)
        leave(r, p);
    mesa_portal_update_deinit(&u);
}

/* -- who is alive -- */

static bool is_among(const struct mesa_redis_reply *list, struct mesa_span id)
{
    for (size_t i = 0; i < mesa_redis_reply_count(list); i++) {
        if (mesa_span_eq(mesa_redis_reply_string(mesa_redis_reply_element(list, i)), id))
            return true;
    }
    return false;
}

/* Makes the portals those of the pool. One that announced itself is often not in the pool yet. */
static void refresh(struct mesa_redis_broker *r, const struct mesa_redis_reply *leased,
                    const struct mesa_redis_reply *others)
{
    MESA_LIST_FOREACH_SAFE(it, tmp, &r->portals) {
        struct mesa_redis_portal *p = portal_of(it);
        bool there = is_among(leased, id_of(p)) || is_among(others, id_of(p));
        p->missed = there ? 0 : p->missed + 1;
        p->leased = is_among(leased, id_of(p));
        if (p->missed >= MISSES_MAX)
            leave(r, p);
    }
    for (size_t i = 0; i < mesa_redis_reply_count(leased); i++)
        join(r, mesa_redis_reply_string(mesa_redis_reply_element(leased, i)));
    for (size_t i = 0; i < mesa_redis_reply_count(others); i++)
        join(r, mesa_redis_reply_string(mesa_redis_reply_element(others, i)));
}

/* What is compared at a tick: the pool, then the connections. */
struct census {
    int64_t subscribers; /* of the channel `portal`, without those of portals with a lease */
    struct mesa_buf ids; /* of the portals without one, each followed by NUL */
    size_t count;
};

static void census_free(struct census *c)
{
    mesa_buf_deinit(&c->ids);
    free(c);
}

static void bury(struct mesa_redis_broker *r, const struct mesa_span *ids, size_t count)
{
    if (count > 0 && mesa_redis_do(r, MESA_SCRIPT_NO_PORTAL, ids, count, NULL, NULL) != MESA_OK)
        mesa_redis_error(r, "MEMORY", "no memory to remove dead portals");
}

/* The value of " <key>=<number>" in a line of CLIENT LIST; 0: absent. */
static uint64_t number_in(struct mesa_span line, const char *key)
{
    size_t len = strlen(key);
    for (size_t i = 0; i + len < line.len; i++) {
        if ((i == 0 || line.p[i - 1] == ' ') && memcmp(line.p + i, key, len) == 0)
            return strtoull(line.p + i + len, NULL, 10);
    }
    return 0;
}

static bool is_taken(struct mesa_redis_broker *r, uint64_t connection)
{
    MESA_LIST_FOREACH(it, &r->portals) {
        if (portal_of(it)->connection == connection)
            return true;
    }
    return false;
}

/* The connections of CLIENT LIST with one channel: those a portal may have. Calls `fn` for each. */
static void each_connection(struct mesa_span list, void (*fn)(void *ctx, uint64_t id), void *ctx)
{
    while (list.len > 0) {
        const char *end = memchr(list.p, '\n', list.len);
        size_t len = end != NULL ? (size_t)(end - list.p) : list.len;
        struct mesa_span line = {list.p, len};
        if (number_in(line, "sub=") == 1 && number_in(line, "psub=") == 0)
            fn(ctx, number_in(line, "id="));
        size_t step = len < list.len ? len + 1 : len;
        list.p += step;
        list.len -= step;
    }
}

struct look {
    struct mesa_redis_broker *r;
    uint64_t wanted, newest;
    bool found;
};

static void look_at(void *ctx, uint64_t id)
{
    struct look *l = ctx;
    if (id == l->wanted)
        l->found = true;
    if (id > l->newest && !is_taken(l->r, id))
        l->newest = id;
}

/* Of `ids`, which seem dead or do not, those that have seemed so for long enough are buried. */
static void doubt(struct mesa_redis_broker *r, struct mesa_span *ids, size_t count, bool seem_dead)
{
    uint64_t now = mesa_loop_now(r->loop);
    size_t dead = 0;
    for (size_t i = 0; i < count; i++) {
        struct mesa_redis_portal *p = find(r, ids[i]);
        if (p != NULL && (!seem_dead || p->doubted_ms == 0))
            p->doubted_ms = seem_dead ? now : 0;
        if (seem_dead && (p == NULL || now - p->doubted_ms >= DOUBT_MS))
            ids[dead++] = ids[i];
    }
    bury(r, ids, dead);
}

static void trust_all(struct mesa_redis_broker *r)
{
    MESA_LIST_FOREACH(it, &r->portals)
        portal_of(it)->doubted_ms = 0;
}

static void find_dead(struct mesa_redis_broker *r, const struct census *n, struct mesa_span list)
{
    struct mesa_span *dead = calloc(n->count, sizeof *dead);
    struct mesa_span *unknown = calloc(n->count, sizeof *unknown);
    size_t dead_count = 0, unknown_count = 0, alive = 0;
    size_t surplus = (int64_t)n->count > n->subscribers ? n->count - (size_t)n->subscribers : 0;
    const char *id = n->ids.data;
    for (size_t i = 0; dead != NULL && unknown != NULL && i < n->count; i++, id += strlen(id) + 1) {
        struct mesa_redis_portal *p = find(r, mesa_redis_text(id));
        struct look l = {.r = r, .wanted = p != NULL ? p->connection : 0};
        each_connection(list, look_at, &l);
        if (p == NULL || p->connection == 0)
            unknown[unknown_count++] = mesa_redis_text(id);
        else if (!l.found && dead_count < surplus)
            dead[dead_count++] = mesa_redis_text(id);
        else
            p->doubted_ms = 0;
        alive += l.found;
    }
    doubt(r, dead, dead_count, true);
    doubt(r, unknown, unknown_count, surplus > dead_count && (int64_t)alive >= n->subscribers);
    free(dead);
    free(unknown);
}

/* Remembers the connection of the one portal that has none yet, if it can only be one. */
static void associate(struct mesa_redis_broker *r, struct mesa_span list)
{
    struct mesa_redis_portal *fresh = NULL;
    MESA_LIST_FOREACH(it, &r->portals) {
        struct mesa_redis_portal *p = portal_of(it);
        if (p->connection != 0 || p->leased)
            continue;
        if (fresh != NULL)
            return; /* two: nobody can say whose is whose */
        fresh = p;
    }
    struct look l = {.r = r};
    each_connection(list, look_at, &l);
    if (fresh != NULL)
        fresh->connection = l.newest;
}

static void on_connections(struct mesa_redis_call *c, const struct mesa_redis_reply *reply)
{
    struct census *n = c->ctx;
    struct mesa_redis_broker *r = c->broker;
    if (reply != NULL && !r->freeing) {
        /* A Redis that does not let us list connections leaves the numbers. */
        bool refused = mesa_redis_reply_error(reply) != NULL;
        struct mesa_span list = refused ? MESA_SPAN("") : mesa_redis_reply_string(reply);
        if (n->subscribers < (int64_t)n->count) {
            find_dead(r, n, list);
        } else {
            trust_all(r);
            associate(r, list);
        }
    }
    census_free(n);
}

static void on_pool(struct mesa_redis_call *c, const struct mesa_redis_reply *reply)
{
    struct mesa_redis_broker *r = c->broker;
    if (reply == NULL || mesa_redis_reply_count(reply) < 3 || r->freeing)
        return;
    const struct mesa_redis_reply *leased = mesa_redis_reply_element(reply, 1),
                                  *others = mesa_redis_reply_element(reply, 2);
    refresh(r, leased, others);
    struct census *n = calloc(1, sizeof *n);
    if (n == NULL || mesa_redis_reply_count(others) == 0) {
        free(n);
        return;
    }
    mesa_buf_init(&n->ids);
    n->subscribers = mesa_redis_reply_integer(mesa_redis_reply_element(reply, 0));
    enum mesa_status rc = MESA_OK;
    for (size_t i = 0; rc == MESA_OK && i < mesa_redis_reply_count(others); i++, n->count++) {
        struct mesa_span id = mesa_redis_reply_string(mesa_redis_reply_element(others, i));
        rc = mesa_buf_append(&n->ids, id.p, id.len);
        if (rc == MESA_OK)
            rc = mesa_buf_push(&n->ids, '\0');
    }
    const struct mesa_span args[] = {MESA_SPAN("CLIENT"), MESA_SPAN("LIST"), MESA_SPAN("TYPE"),
                                     MESA_SPAN("pubsub")};
    if (rc != MESA_OK ||
        mesa_redis_do(r, MESA_SCRIPT_COUNT_, args, 4, on_connections, n) != MESA_OK)
        census_free(n);
}

void mesa_redis_portals_check(struct mesa_redis_broker *r)
{
    if (r->cfg->portal.enabled)
        mesa_redis_do(r, MESA_SCRIPT_PORTALS, NULL, 0, on_pool, NULL);
}

/* -- telling -- */

static struct mesa_redis_portal *choose(struct mesa_redis_broker *r)
{
    if (r->cfg->portal.distribute_load) {
        r->next_portal = r->next_portal->next;
        if (r->next_portal == &r->portals)
            r->next_portal = r->next_portal->next;
    } else {
        uint32_t n = 0;
        if (getrandom(&n, sizeof n, 0) != (ssize_t)sizeof n)
            n = 0;
        r->next_portal = r->portals.next;
        for (n %= (uint32_t)r->portal_count; n > 0; n--)
            r->next_portal = r->next_portal->next;
    }
    return portal_of(r->next_portal);
}

static enum mesa_status write_message(struct mesa_buf *out, const struct mesa_envelope *e)
{
    enum mesa_status rc = mesa_buf_printf(out, ",\"message\":{\"op\":%" PRId64, e->op);
    if (rc == MESA_OK && e->d.p != NULL)
        rc = mesa_buf_printf(out, ",\"d\":");
    if (rc == MESA_OK && e->d.p != NULL)
        rc = mesa_buf_append(out, e->d.p, e->d.len);
    if (rc == MESA_OK && e->t.p != NULL)
        rc = mesa_buf_printf(out, ",\"t\":");
    if (rc == MESA_OK && e->t.p != NULL)
        rc = mesa_buf_append(out, e->t.p, e->t.len);
    return rc == MESA_OK ? mesa_buf_push(out, '}') : rc;
}

static enum mesa_status write_event(struct mesa_buf *out, const struct mesa_portal_event *e,
                                    struct mesa_span portal)
{
    static const char *const types[] = {
        [MESA_PORTAL_CONNECTION] = "connection",
        [MESA_PORTAL_AUTHENTICATION] = "authentication",
        [MESA_PORTAL_MESSAGE] = "message",
        [MESA_PORTAL_DISCONNECTION] = "disconnection",
    };
    enum mesa_status rc = mesa_buf_printf(out, "{\"type\":\"%s\"", types[e->type]);
    if (rc == MESA_OK && e->client_id.p != NULL)
        rc = mesa_buf_printf(out, ",\"clientId\":");
    if (rc == MESA_OK && e->client_id.p != NULL)
        rc = mesa_json_put_string(out, e->client_id.p, e->client_id.len);
    if (rc == MESA_OK && e->envelope != NULL)
        rc = write_message(out, e->envelope);
    if (rc == MESA_OK)
        rc = mesa_buf_printf(out, ",\"portalId\":");
    if (rc == MESA_OK)
        rc = mesa_json_put_string(out, portal.p, portal.len);
    return rc == MESA_OK ? mesa_buf_push(out, '}') : rc;
}

void mesa_redis_tell_portal(struct mesa_broker *b, const struct mesa_portal_event *e)
{
    struct mesa_redis_broker *r = mesa_redis_self(b);
    if (!r->up || r->portal_count == 0 || r->sent_bytes > MESA_KEPT_BYTES)
        return;
    mesa_buf_reset(&r->scratch, 256 * 1024);
    enum mesa_status rc = write_event(&r->scratch, e, id_of(choose(r)));
    const struct mesa_span args[] = {MESA_SPAN("PUBLISH"), mesa_redis_span(&r->portal),
                                     mesa_redis_span(&r->scratch)};
    if (rc == MESA_OK)
        rc = mesa_redis_do(r, MESA_SCRIPT_COUNT_, args, 3, NULL, NULL);
    if (rc == MESA_ENOMEM)
        mesa_redis_error(r, "MEMORY", "no memory to tell a portal");
}
