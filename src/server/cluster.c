/* cluster.c - what the broker tells the server: messages from elsewhere, what was kept or dropped,
 * portals, errors; and what the server tells portals. */
#include <stdlib.h>

#include "server/internal.h"

/* -- messages from elsewhere -- */

/* The clients that took a message, held until the hook was called. */
struct takers {
    struct mesa_client **at;
    size_t count, cap;
};

static void on_taken(void *ctx, struct mesa_client *c)
{
    struct takers *t = ctx;
    if (t->count == t->cap) {
        size_t cap = t->cap > 0 ? t->cap * 2 : 16;
        struct mesa_client **more = realloc(t->at, cap * sizeof *more);
        if (more == NULL)
            return; /* delivered all the same */
        t->at = more;
        t->cap = cap;
    }
    t->at[t->count++] = mesa_client_ref(c);
}

static void deliver(struct mesa_server *s, struct mesa_frame *f, const struct mesa_recipients *to,
                    const struct mesa_cluster_message *m)
{
    struct takers t = {NULL, 0, 0};
    bool told = s->hooks.on_delivered != NULL;
    if (mesa_server_deliver(s, f, to, m->sync, m->number, told ? on_taken : NULL, &t) != MESA_OK)
        mesa_server_report(s, NULL, "MEMORY", "no memory to deliver a message of the cluster");
    if (t.count > 0 && s->hooks.on_delivered != NULL)
        s->hooks.on_delivered(s->ctx, f, t.at, t.count);
    for (size_t i = 0; i < t.count; i++)
        mesa_client_unref(t.at[i]);
    free(t.at);
}

/* What clients may see of a message of the cluster: op, d and t, or what raw ones get. */
static enum mesa_status make_frame(struct mesa_frame **out, const struct mesa_cluster_message *c)
{
    const struct mesa_envelope *e = &c->envelope;
    if (c->kind != MESA_CLUSTER_ENVELOPE)
        return mesa_frame_new(out, c->kind == MESA_CLUSTER_TEXT ? MESA_WS_TEXT : MESA_WS_BINARY,
                              c->raw.data, c->raw.len);
    struct mesa_buf type;
    struct mesa_outgoing m = {.op = e->op, .d = e->d};
    enum mesa_status rc = MESA_OK;
    mesa_buf_init(&type);
    if (e->t.p != NULL) {
        rc = mesa_json_unescape(e->t, &type);
        m.type = (struct mesa_span){type.data != NULL ? type.data : "", type.len};
    }
    if (rc == MESA_OK)
        rc = mesa_envelope_frame(out, &m);
    mesa_buf_deinit(&type);
    return rc;
}

static void on_delivery(void *ctx, const struct mesa_cluster_message *m)
{
    struct mesa_server *s = ctx;
    const struct mesa_recipients to = {
        .ids = m->everybody ? NULL : m->recipients.at,
        .id_count = m->recipients.count,
        .excluding = m->excluding.at,
        .excluding_count = m->excluding.count,
    };
    struct mesa_frame *f;
    if (!m->everybody && m->recipients.count == 0)
        return;
    mesa_server_enter_callback(s);
    s->metrics.cluster_in++;
    bool raw = m->kind != MESA_CLUSTER_ENVELOPE;
    if (!raw &&
        m->envelope.op == MESA_OP_INTERNAL) { /* never for clients to see, whatever its type */
        if (mesa_envelope_type_is(&m->envelope, "DISCONNECT_CLIENT"))
            mesa_server_disconnect(s, &to, false);
    } else if (raw != s->cfg.raw) {
        s->metrics.cluster_skipped++;
    } else if (make_frame(&f, m) == MESA_OK) {
        deliver(s, f, &to, m);
        mesa_frame_unref(f);
    } else {
        mesa_server_report(s, NULL, "MEMORY", "no memory to deliver a message of the cluster");
    }
    if (m->number > 0)
        s->seen = m->number;
    mesa_server_leave_callback(s);
}

/* -- the sync store -- */

static void on_stored(void *ctx, struct mesa_span json, const struct mesa_span *ids, size_t count)
{
    struct mesa_server *s = ctx;
    mesa_server_enter_callback(s);
    s->metrics.sync_stored += count;
    if (s->hooks.on_undeliverable != NULL)
        s->hooks.on_undeliverable(s->ctx, json, ids, count);
    mesa_server_leave_callback(s);
}

static void on_dropped(void *ctx, struct mesa_span id, struct mesa_span json)
{
    struct mesa_server *s = ctx;
    mesa_server_enter_callback(s);
    s->metrics.sync_dropped++;
    if (s->hooks.on_undeliverable_dropped != NULL)
        s->hooks.on_undeliverable_dropped(s->ctx, id, json);
    mesa_server_leave_callback(s);
}

/* The newest connection is the one that is there. */
static void on_kept(void *ctx, struct mesa_span id)
{
    struct mesa_server *s = ctx;
    struct mesa_client *c = NULL, *newest = NULL;
    while ((c = mesa_server_next_of(s, id, c)) != NULL)
        newest = c;
    if (newest == NULL)
        return;
    mesa_server_enter_callback(s);
    mesa_unread_left_over(newest);
    mesa_redelivery_again(newest);
    mesa_server_leave_callback(s);
}

void mesa_server_unkept(void *ctx, const struct mesa_span *ids, size_t count, uint64_t send)
{
    struct mesa_server *s = ctx;
    for (size_t i = 0; i < count; i++) {
        struct mesa_client *c = NULL;
        while ((c = mesa_server_next_of(s, ids[i], c)) != NULL)
            mesa_unread_unkept(c, send);
    }
}

static void on_gap(void *ctx)
{
    struct mesa_server *s = ctx;
    struct mesa_client *c = NULL;
    s->gaps++;
    while ((c = mesa_server_next(s, c)) != NULL)
        mesa_unread_gap(c);
}

/* -- the rest -- */

static void on_portal(void *ctx, struct mesa_span id, bool joined)
{
    struct mesa_server *s = ctx;
    mesa_server_enter_callback(s);
    if (s->hooks.on_portal != NULL)
        s->hooks.on_portal(s->ctx, id, joined);
    mesa_server_leave_callback(s);
}

static void on_available(void *ctx, bool available)
{
    struct mesa_server *s = ctx;
    s->metrics.redis_up = available;
    if (!available) {
        s->metrics.redis_lost++;
        return;
    }
    mesa_server_enter_callback(s);
    struct mesa_client *c = NULL;
    while (!s->dead && (c = mesa_server_next(s, c)) != NULL)
        mesa_redelivery_again(c);
    mesa_server_leave_callback(s);
}

static void on_healed(void *ctx)
{
    struct mesa_server *s = ctx;
    mesa_server_enter_callback(s);
    struct mesa_client *c = NULL;
    while (!s->dead && (c = mesa_server_next(s, c)) != NULL) {
        if (c->backlog_missed && c->fetching == 0)
            mesa_redelivery_again(c);
    }
    mesa_server_leave_callback(s);
}

static void on_error(void *ctx, const char *code, const char *text)
{
    struct mesa_server *s = ctx;
    mesa_server_enter_callback(s);
    mesa_server_report(s, NULL, code, text);
    mesa_server_leave_callback(s);
}

void mesa_server_tell_one_portal(struct mesa_client *c, enum mesa_portal_event_type type,
                                 const struct mesa_envelope *e)
{
    struct mesa_broker *b = c->server->broker;
    const struct mesa_portal_event event = {type, mesa_client_id(c), e};
    b->ops->tell_portal(b, &event);
}

const struct mesa_broker_hooks mesa_server_broker_hooks = {
    .on_stored = on_stored,
    .on_dropped = on_dropped,
    .on_delivery = on_delivery,
    .on_kept = on_kept,
    .on_unkept = mesa_server_unkept,
    .on_gap = on_gap,
    .on_portal = on_portal,
    .on_available = on_available,
    .on_healed = on_healed,
    .on_error = on_error,
};
