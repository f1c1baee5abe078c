/* recipients.c - whom a message of the server is for: everybody, ids, all but some. */
#include <stdlib.h>

#include "server/internal.h"

enum { INLINE_IDS = 8 };

/* Ids in order, each once. */
struct id_set {
    struct mesa_span *ids;
    size_t count;
    struct mesa_span inline_ids[INLINE_IDS];
};

static int compare_ids(const void *a, const void *b)
{
    const struct mesa_span *x = a, *y = b;
    size_t shorter = x->len < y->len ? x->len : y->len;
    int order = shorter > 0 ? memcmp(x->p, y->p, shorter) : 0;
    if (order != 0)
        return order;
    return (x->len > y->len) - (x->len < y->len);
}

static enum mesa_status id_set_init(struct id_set *set, const struct mesa_span *ids, size_t count)
{
    set->ids = set->inline_ids;
    set->count = 0;
    if (count > INLINE_IDS) {
        struct mesa_span *many = calloc(count, sizeof *many);
        if (many == NULL)
            return MESA_ENOMEM;
        set->ids = many;
    }
    for (size_t i = 0; i < count; i++)
        set->ids[i] = ids[i];
    if (count > 1)
        qsort(set->ids, count, sizeof *set->ids, compare_ids);
    for (size_t i = 0; i < count; i++) {
        if (set->count == 0 || compare_ids(&set->ids[set->count - 1], &set->ids[i]) != 0)
            set->ids[set->count++] = set->ids[i];
    }
    return MESA_OK;
}

static void id_set_deinit(struct id_set *set)
{
    if (set->ids != set->inline_ids)
        free(set->ids);
}

static bool id_set_has(const struct id_set *set, struct mesa_span id)
{
    return set->count > 0 &&
           bsearch(&id, set->ids, set->count, sizeof *set->ids, compare_ids) != NULL;
}

struct recipients {
    bool everybody;
    struct id_set ids; /* without those excluded */
    struct id_set excluding;
};

static enum mesa_status recipients_init(struct recipients *r, const struct mesa_recipients *to)
{
    r->everybody = to->ids == NULL;
    enum mesa_status rc = id_set_init(&r->ids, to->ids, r->everybody ? 0 : to->id_count);
    if (rc != MESA_OK)
        return rc;
    rc = id_set_init(&r->excluding, to->excluding, to->excluding != NULL ? to->excluding_count : 0);
    if (rc != MESA_OK) {
        id_set_deinit(&r->ids);
        return rc;
    }
    size_t kept = 0;
    for (size_t i = 0; i < r->ids.count; i++) {
        if (!id_set_has(&r->excluding, r->ids.ids[i]))
            r->ids.ids[kept++] = r->ids.ids[i];
    }
    r->ids.count = kept;
    return MESA_OK;
}

static void recipients_deinit(struct recipients *r)
{
    id_set_deinit(&r->ids);
    id_set_deinit(&r->excluding);
}

/* Everybody: the open client after `c` that the message is for. */
static struct mesa_client *next_of_everybody(struct mesa_server *s, const struct recipients *r,
                                             struct mesa_client *c)
{
    while ((c = mesa_server_next(s, c)) != NULL) {
        struct mesa_span id = mesa_client_id(c);
        if (id.p == NULL || !id_set_has(&r->excluding, id))
            return c;
    }
    return NULL;
}

struct sending {
    struct mesa_server *s;
    struct mesa_frame *f;
    mesa_sent_fn sent;
    void *ctx;
    enum mesa_keep keep; /* for those who turn out not to have received it */
    uint64_t number, send;
};

/* Whether the client took it. */
static bool send_to(const struct sending *m, struct mesa_client *c)
{
    const struct mesa_kept_frame kept = {m->f, m->keep, m->number, m->send};
    enum mesa_status rc = mesa_unread_send(c, &kept);
    if (rc != MESA_OK && rc != MESA_EAGAIN)
        return false;
    if (m->sent != NULL)
        m->sent(m->ctx, c);
    return true;
}

static void send_to_everybody(const struct sending *m, const struct recipients *r)
{
    struct mesa_client *c = NULL;
    if (m->sent == NULL && r->excluding.count == 0 && mesa_server_broadcast(m->s, m->f))
        return;
    while ((c = next_of_everybody(m->s, r, c)) != NULL) {
        if (!mesa_client_is_shut_out(c))
            send_to(m, c);
    }
}

/* Whether a connection of the id took it. */
static bool send_to_id(const struct sending *m, struct mesa_span id)
{
    struct mesa_client *c = NULL;
    bool taken = false;
    while ((c = mesa_server_next_of(m->s, id, c)) != NULL)
        taken |= send_to(m, c);
    return taken;
}

enum content { CONTENT_MESSAGE, CONTENT_MESSAGE_KEPT, CONTENT_INTERNAL };

/* Brings the message to where else its recipients may be. */
static enum mesa_status publish(struct mesa_server *s, struct mesa_frame *f,
                                const struct recipients *r, const bool *taken, enum content content,
                                uint64_t send)
{
    if (s->dead || (!r->everybody && r->ids.count == 0))
        return MESA_OK;
    const struct mesa_publication p = {
        .frame = f,
        .raw = s->cfg.raw && content != CONTENT_INTERNAL,
        .ids = r->everybody ? NULL : r->ids.ids,
        .taken = taken,
        .id_count = r->ids.count,
        .excluding = r->excluding.ids,
        .excluding_count = r->excluding.count,
        .sync = content == CONTENT_MESSAGE_KEPT && s->cfg.sync.enabled,
        .send = send,
    };
    enum mesa_status rc = s->broker->ops->send(s->broker, &p);
    if (rc == MESA_EUNAVAILABLE)
        s->metrics.redis_unavailable++;
    else if (rc == MESA_OK && s->cfg.redis.enabled)
        s->metrics.cluster_out++;
    if (rc == MESA_ENOMEM)
        mesa_server_report(s, NULL, "MEMORY", "no memory to send or keep a message");
    return rc;
}

static enum mesa_status send_to_ids(const struct sending *m, const struct recipients *r, bool sync)
{
    bool inline_taken[INLINE_IDS], *taken = inline_taken;
    if (r->ids.count > INLINE_IDS) {
        taken = calloc(r->ids.count, sizeof *taken);
        if (taken == NULL)
            return MESA_ENOMEM;
    }
    for (size_t i = 0; i < r->ids.count; i++)
        taken[i] = !m->s->dead && send_to_id(m, r->ids.ids[i]);
    enum mesa_status rc =
        publish(m->s, m->f, r, taken, sync ? CONTENT_MESSAGE_KEPT : CONTENT_MESSAGE, m->send);
    if (rc != MESA_OK && !m->s->dead)
        mesa_server_unkept(m->s, r->ids.ids, r->ids.count, m->send);
    if (taken != inline_taken)
        free(taken);
    return rc;
}

enum mesa_status mesa_server_send(struct mesa_server *s, struct mesa_frame *f,
                                  const struct mesa_recipients *to, bool sync, mesa_sent_fn sent,
                                  void *ctx)
{
    if (s->closing)
        return MESA_ECLOSED;
    struct recipients r;
    enum mesa_status rc = recipients_init(&r, to);
    if (rc != MESA_OK)
        return rc;

    const struct sending m = {.s = s,
                              .f = mesa_frame_ref(f),
                              .sent = sent,
                              .ctx = ctx,
                              .keep = sync && !r.everybody ? MESA_KEEP_OWN : MESA_KEEP_NOT,
                              .send = ++s->sends};
    mesa_server_enter(s);
    if (r.everybody) {
        send_to_everybody(&m, &r);
        rc = publish(s, f, &r, NULL, CONTENT_MESSAGE, 0);
    } else {
        rc = send_to_ids(&m, &r, sync);
    }
    mesa_server_leave(s);
    mesa_frame_unref(f);
    recipients_deinit(&r);
    return rc;
}

enum mesa_status mesa_server_deliver(struct mesa_server *s, struct mesa_frame *f,
                                     const struct mesa_recipients *to, bool sync, uint64_t number,
                                     mesa_sent_fn sent, void *ctx)
{
    struct recipients r;
    enum mesa_status rc = recipients_init(&r, to);
    if (rc != MESA_OK)
        return rc;
    enum mesa_keep keep = number > 0 ? MESA_KEEP_NUMBERED : MESA_KEEP_HERE;
    const struct sending m = {.s = s,
                              .f = f,
                              .sent = sent,
                              .ctx = ctx,
                              .keep = sync && !r.everybody ? keep : MESA_KEEP_NOT,
                              .number = number};
    if (r.everybody)
        send_to_everybody(&m, &r);
    for (size_t i = 0; i < r.ids.count && !s->dead; i++)
        send_to_id(&m, r.ids.ids[i]);
    recipients_deinit(&r);
    return MESA_OK;
}

bool mesa_client_is_whole_user(const struct mesa_client *c)
{
    if (c->closed || c->server->closing)
        return false;
    return mesa_client_id(c).p == NULL ||
           (!c->server->cfg.redis.enabled && mesa_registry_is_only_one(&c->entry));
}

static void disconnect_here(struct mesa_server *s, const struct recipients *r)
{
    const struct mesa_span no_reason = {NULL, 0};
    struct mesa_client *c = NULL;
    if (r->everybody) {
        while ((c = next_of_everybody(s, r, c)) != NULL)
            mesa_client_close(c, 1000, no_reason, false);
    }
    for (size_t i = 0; i < r->ids.count; i++) {
        for (c = NULL; (c = mesa_server_next_of(s, r->ids.ids[i], c)) != NULL;)
            mesa_client_close(c, 1000, no_reason, false);
    }
}

/* The same elsewhere. */
static enum mesa_status publish_disconnect(struct mesa_server *s, const struct recipients *r)
{
    struct mesa_frame *f;
    const struct mesa_outgoing m = {
        .op = MESA_OP_INTERNAL, .d = MESA_SPAN("{}"), .type = MESA_SPAN("DISCONNECT_CLIENT")};
    bool *taken = calloc(r->ids.count + 1, sizeof *taken);
    enum mesa_status rc = taken != NULL ? mesa_envelope_frame(&f, &m) : MESA_ENOMEM;
    if (rc == MESA_OK) {
        rc = publish(s, f, r, taken, CONTENT_INTERNAL, 0);
        mesa_frame_unref(f);
    }
    free(taken);
    return rc;
}

enum mesa_status mesa_server_disconnect(struct mesa_server *s, const struct mesa_recipients *to,
                                        bool everywhere)
{
    struct recipients r;
    enum mesa_status rc = recipients_init(&r, to);
    if (rc != MESA_OK)
        return rc;
    mesa_server_enter(s);
    disconnect_here(s, &r);
    if (everywhere)
        rc = publish_disconnect(s, &r);
    mesa_server_leave(s);
    recipients_deinit(&r);
    return rc;
}
