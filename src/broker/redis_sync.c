/* redis_sync.c - messages to where else their recipients are, and the sync store in Redis. */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/utf8.h"
#include "broker/redis_internal.h"

enum { ID_MAX = 512, MS_DIGITS = 13 };

static bool is_id(struct mesa_span id)
{
    return id.len >= 1 && id.len <= ID_MAX && mesa_utf8_valid(id.p, id.len);
}

/* The bounds of the store as arguments of a script. */
struct bounds {
    char messages[24], bytes[24], age[24];
};

static void write_bounds(const struct mesa_redis_broker *r, struct bounds *b)
{
    snprintf(b->messages, sizeof b->messages, "%" PRIu32, r->cfg->sync.max_messages);
    snprintf(b->bytes, sizeof b->bytes, "%" PRIu64, r->cfg->sync.max_bytes);
    snprintf(b->age, sizeof b->age, "%" PRIu64, r->cfg->sync.max_age_ms);
}

/* -- publishing without a look at who is online -- */

static enum mesa_status write_ids(struct mesa_buf *out, const struct mesa_span *ids, size_t count)
{
    enum mesa_status rc = mesa_buf_push(out, '[');
    bool first = true;
    for (size_t i = 0; rc == MESA_OK && i < count; i++) {
        if (!is_id(ids[i]))
            continue; /* nobody can be called so */
        if (!first)
            rc = mesa_buf_push(out, ',');
        if (rc == MESA_OK)
            rc = mesa_json_put_string(out, ids[i].p, ids[i].len);
        first = false;
    }
    return rc == MESA_OK ? mesa_buf_push(out, ']') : rc;
}

static enum mesa_status write_publication(struct mesa_redis_broker *r,
                                          const struct mesa_publication *p)
{
    struct mesa_buf *out = &r->scratch;
    struct mesa_span json = mesa_frame_payload(p->frame);
    mesa_buf_reset(out, 256 * 1024);
    enum mesa_status rc = mesa_buf_append(out, r->echo.data, r->echo.len);
    if (rc == MESA_OK)
        rc = mesa_buf_append(out, json.p, json.len);
    if (rc == MESA_OK)
        rc = mesa_buf_printf(out, ",\"recipients\":");
    if (rc == MESA_OK)
        rc = p->ids != NULL ? write_ids(out, p->ids, p->id_count) : mesa_buf_printf(out, "[\"*\"]");
    if (rc == MESA_OK && p->ids == NULL && p->excluding_count > 0) {
        rc = mesa_buf_printf(out, ",\"excluding\":");
        if (rc == MESA_OK)
            rc = write_ids(out, p->excluding, p->excluding_count);
    }
    return rc == MESA_OK ? mesa_buf_push(out, '}') : rc;
}

static struct mesa_redis_call *publish_call(struct mesa_redis_broker *r,
                                            const struct mesa_publication *p)
{
    if (write_publication(r, p) != MESA_OK)
        return NULL;
    const struct mesa_span args[] = {MESA_SPAN("PUBLISH"), mesa_redis_span(&r->channel),
                                     mesa_redis_span(&r->scratch)};
    return mesa_redis_call_new(r, MESA_SCRIPT_COUNT_, args, 3, NULL, NULL);
}

/* -- with one -- */

static void report_dropped(struct mesa_redis_broker *r, const struct mesa_redis_reply *list)
{
    for (size_t i = 0; i + 1 < mesa_redis_reply_count(list) && !r->freeing; i += 2)
        r->base.hooks.on_dropped(r->base.hooks_ctx,
                                 mesa_redis_reply_string(mesa_redis_reply_element(list, i)),
                                 mesa_redis_reply_string(mesa_redis_reply_element(list, i + 1)));
}

/* What ROUTE and PUT_BACK say beside what was stored. */
static void report_changes(struct mesa_redis_broker *r, const struct mesa_redis_reply *reply)
{
    if (mesa_redis_reply_count(reply) < 3)
        return;
    const struct mesa_redis_reply *errors = mesa_redis_reply_element(reply, 2);
    report_dropped(r, mesa_redis_reply_element(reply, 1));
    for (size_t i = 0; i < mesa_redis_reply_count(errors); i++) {
        struct mesa_span text = mesa_redis_reply_string(mesa_redis_reply_element(errors, i));
        char line[256];
        snprintf(line, sizeof line, "%.*s", (int)(text.len < 200 ? text.len : 200), text.p);
        mesa_redis_error(r, "SYNC", line);
    }
}

static void on_routed(struct mesa_redis_call *c, const struct mesa_redis_reply *reply)
{
    struct mesa_redis_broker *r = c->broker;
    if (reply == NULL || mesa_redis_reply_count(reply) < 3) {
        r->unsure++; /* told in one event for all of them */
        return;
    }
    const struct mesa_redis_reply *ids = mesa_redis_reply_element(reply, 0);
    size_t count = mesa_redis_reply_count(ids);
    struct mesa_span *stored = count > 0 ? calloc(count, sizeof *stored) : NULL;
    if (stored != NULL) {
        for (size_t i = 0; i < count; i++)
            stored[i] = mesa_redis_reply_string(mesa_redis_reply_element(ids, i));
        r->base.hooks.on_stored(r->base.hooks_ctx, c->args[1], stored, count);
        free(stored);
    }
    report_changes(r, reply);
}

/* Each id with the sign that says whether a connection of this node took it. */
static enum mesa_status write_signed_ids(struct mesa_redis_broker *r,
                                         const struct mesa_publication *p, struct mesa_span *args,
                                         size_t *count)
{
    enum mesa_status rc = MESA_OK;
    size_t bytes = 0;
    for (size_t i = 0; i < p->id_count; i++)
        bytes += p->ids[i].len + 1;
    mesa_buf_reset(&r->scratch, 256 * 1024);
    rc = mesa_buf_reserve(&r->scratch, bytes); /* so that it does not move below */
    for (size_t i = 0; rc == MESA_OK && i < p->id_count; i++) {
        if (!is_id(p->ids[i]))
            continue;
        args[(*count)++] = (struct mesa_span){r->scratch.data + r->scratch.len, p->ids[i].len + 1};
        rc = mesa_buf_push(&r->scratch, p->taken[i] ? '+' : '-');
        if (rc == MESA_OK)
            rc = mesa_buf_append(&r->scratch, p->ids[i].p, p->ids[i].len);
    }
    return rc;
}

static struct mesa_redis_call *route_call(struct mesa_redis_broker *r,
                                          const struct mesa_publication *p)
{
    struct bounds b;
    struct mesa_span *args = calloc(5 + p->id_count, sizeof *args);
    struct mesa_redis_call *c = NULL;
    size_t count = 5;
    if (args == NULL)
        return NULL;
    write_bounds(r, &b);
    args[0] = mesa_redis_text(r->node);
    args[1] = mesa_frame_payload(p->frame);
    args[2] = mesa_redis_text(b.messages);
    args[3] = mesa_redis_text(b.bytes);
    args[4] = mesa_redis_text(b.age);
    if (write_signed_ids(r, p, args, &count) == MESA_OK)
        c = mesa_redis_call_new(r, MESA_SCRIPT_ROUTE, args, count, on_routed, NULL);
    free(args);
    return c;
}

enum mesa_status mesa_redis_send(struct mesa_broker *b, const struct mesa_publication *p)
{
    struct mesa_redis_broker *r = mesa_redis_self(b);
    bool full = r->sent_bytes > MESA_KEPT_BYTES; /* Redis does not keep up */
    if ((!r->up && r->kept_messages >= r->cfg->redis.queue) || full)
        return MESA_EUNAVAILABLE;
    struct mesa_redis_call *c = p->sync && p->ids != NULL ? route_call(r, p) : publish_call(r, p);
    if (c == NULL)
        return MESA_ENOMEM;
    c->message = true;
    if (r->up)
        mesa_redis_call_send(c);
    else if (!mesa_redis_keep(c))
        return MESA_EUNAVAILABLE;
    return MESA_OK;
}

/* -- taking -- */

enum { RETRY_MS = 10, PATIENCE = 50 /* tries */ };

struct taking {
    struct mesa_list link; /* broker.waiting */
    mesa_backlog_wanted_fn wanted;
    mesa_backlog_fn fn;
    void *ctx;
    unsigned tries; /* while other connections of the user may put something back */
    bool patiently;
    size_t id_len;
    char id[];
};

enum mesa_status mesa_redis_write_envelope(struct mesa_buf *out, const struct mesa_envelope *e)
{
    if (e->op == MESA_OP_INTERNAL)
        return MESA_EPROTO;
    enum mesa_status rc = MESA_OK;
    struct mesa_outgoing m = {.op = e->op, .d = e->d};
    struct mesa_buf type;
    mesa_buf_init(&type);
    if (e->t.p != NULL) {
        rc = mesa_json_unescape(e->t, &type);
        m.type = mesa_redis_span(&type);
    }
    if (rc == MESA_OK)
        rc = mesa_envelope_write(out, &m);
    mesa_buf_deinit(&type);
    return rc;
}

/* A stored envelope as mesa-lua writes it; others may have stored more in it than a client may see.
 * MESA_EPROTO: it is none. */
static enum mesa_status normalise(struct mesa_buf *out, struct mesa_span json, unsigned max_depth)
{
    struct mesa_envelope e;
    struct mesa_json_error err;
    enum mesa_status rc = mesa_envelope_parse(json.p, json.len, max_depth, &e, &err);
    return rc == MESA_OK ? mesa_redis_write_envelope(out, &e) : MESA_EPROTO;
}

static uint64_t read_ms(struct mesa_span times, size_t i)
{
    uint64_t ms = 0;
    for (size_t k = i * MS_DIGITS; k < (i + 1) * MS_DIGITS && k < times.len; k++) {
        if (times.p[k] >= '0' && times.p[k] <= '9')
            ms = ms * 10 + (uint64_t)(times.p[k] - '0');
    }
    return ms;
}

/* What was taken, in the making. */
struct parcel {
    struct mesa_span *json; /* of the array, then rewritten */
    uint64_t *ms;
    size_t count;
    struct mesa_buf bytes;
};

static void parcel_deinit(struct parcel *p)
{
    free(p->json);
    free(p->ms);
    mesa_buf_deinit(&p->bytes);
}

/* Keeps the envelopes that are not too old; reports the others. */
static enum mesa_status sort_out(struct mesa_redis_broker *r, struct mesa_span id,
                                 struct mesa_span times, uint64_t now_ms, struct parcel *p)
{
    size_t all = p->count;
    p->ms = calloc(all + 1, sizeof *p->ms);
    if (p->ms == NULL)
        return MESA_ENOMEM;
    p->count = 0;
    for (size_t i = 0; i < all; i++) {
        struct mesa_span json = p->json[i];
        uint64_t ms = read_ms(times, i);
        size_t before = p->bytes.len;
        if (now_ms > ms && now_ms - ms > r->cfg->sync.max_age_ms) {
            r->base.hooks.on_dropped(r->base.hooks_ctx, id, json);
            continue;
        }
        enum mesa_status rc = normalise(&p->bytes, json, r->cfg->limits.max_depth);
        if (rc == MESA_ENOMEM)
            return rc;
        if (rc != MESA_OK) {
            p->bytes.len = before;
            mesa_redis_error(r, "SYNC", "undelivered_messages holds something that is no message");
            continue;
        }
        p->ms[p->count] = ms;
        p->json[p->count++] = (struct mesa_span){NULL, p->bytes.len - before};
    }
    const char *at = p->bytes.data;
    for (size_t i = 0; i < p->count; at += p->json[i++].len)
        p->json[i].p = at;
    return MESA_OK;
}

static void deliver_parcel(struct mesa_redis_call *c, const struct mesa_redis_reply *reply)
{
    struct mesa_redis_broker *r = c->broker;
    const struct taking *t = c->ctx;
    struct mesa_span array = mesa_redis_reply_string(mesa_redis_reply_element(reply, 0));
    struct mesa_span times = mesa_redis_reply_string(mesa_redis_reply_element(reply, 1));
    uint64_t now_ms = read_ms(mesa_redis_reply_string(mesa_redis_reply_element(reply, 2)), 0);
    struct mesa_span error = mesa_redis_reply_string(mesa_redis_reply_element(reply, 3));
    struct parcel p = {0};
    struct mesa_json_error err;
    enum mesa_status rc = MESA_OK;
    mesa_buf_init(&p.bytes);
    if (error.len > 0)
        mesa_redis_error(r, "SYNC", "what undelivered_messages holds for a user is not an array");
    if (array.len > 0) {
        rc = mesa_cluster_elements(array.p, array.len, r->cfg->limits.max_depth, &p.json, &p.count,
                                   &err);
        if (rc == MESA_OK)
            rc = sort_out(r, c->args[0], times, now_ms, &p);
        else if (rc != MESA_ENOMEM)
            mesa_redis_error(r, "SYNC", "what undelivered_messages held for a user is not JSON");
    }
    const struct mesa_backlog backlog = {p.json, p.ms, p.count};
    t->fn(t->ctx, rc, rc == MESA_OK ? &backlog : NULL);
    parcel_deinit(&p);
}

/* Somebody is about to put back what the user did not read elsewhere. */
static bool is_busy(const struct mesa_redis_reply *reply)
{
    return mesa_redis_reply_integer(mesa_redis_reply_element(reply, 4)) == 1;
}

static void wait_and_retry(struct mesa_redis_broker *r, struct taking *t)
{
    mesa_list_append(&r->waiting, &t->link);
    if (!mesa_timer_armed(&r->retry))
        mesa_loop_arm(r->loop, &r->retry, RETRY_MS);
}

static void on_taken(struct mesa_redis_call *c, const struct mesa_redis_reply *reply)
{
    struct taking *t = c->ctx;
    struct mesa_redis_broker *r = c->broker;
    if (r->freeing) {
        t->fn(t->ctx, MESA_ECLOSED, NULL);
    } else if (reply == NULL) {
        t->fn(t->ctx, MESA_EUNAVAILABLE, NULL);
    } else if (mesa_redis_reply_count(reply) < 5) {
        t->fn(t->ctx, MESA_EIO, NULL);
    } else if (is_busy(reply)) {
        wait_and_retry(r, t);
        return;
    } else {
        deliver_parcel(c, reply);
    }
    free(t);
}

static void fetch(struct mesa_redis_broker *r, struct taking *t)
{
    const struct mesa_span args[] = {{t->id, t->id_len},
                                     t->tries > 0 ? MESA_SPAN("1") : MESA_SPAN("0")};
    enum mesa_status rc = MESA_EUNAVAILABLE;
    if (t->tries > 0)
        t->tries--;
    if (r->up && t->patiently && t->tries > 0) {
        wait_and_retry(r, t);
        return;
    }
    if (r->up)
        rc = mesa_redis_do(r, MESA_SCRIPT_TAKE, args, 2, on_taken, t);
    if (rc == MESA_OK)
        return;
    t->fn(t->ctx, rc, NULL);
    free(t);
}

void mesa_redis_on_retry(struct mesa_timer *timer)
{
    struct mesa_redis_broker *r = MESA_CONTAINER_OF(timer, struct mesa_redis_broker, retry);
    struct mesa_list waiting;
    mesa_list_init(&waiting);
    mesa_list_splice(&waiting, &r->waiting);
    while (!mesa_list_empty(&waiting)) {
        struct taking *t = MESA_CONTAINER_OF(waiting.next, struct taking, link);
        mesa_list_remove(&t->link);
        if (t->wanted(t->ctx)) {
            fetch(r, t);
        } else {
            t->fn(t->ctx, MESA_ECLOSED, NULL);
            free(t);
        }
    }
}

void mesa_redis_waiting_free(struct mesa_redis_broker *r)
{
    while (!mesa_list_empty(&r->waiting)) {
        struct taking *t = MESA_CONTAINER_OF(r->waiting.next, struct taking, link);
        mesa_list_remove(&t->link);
        t->fn(t->ctx, MESA_ECLOSED, NULL);
        free(t);
    }
}

void mesa_redis_take(struct mesa_broker *b, struct mesa_span id, bool patiently,
                     mesa_backlog_wanted_fn wanted, mesa_backlog_fn fn, void *ctx)
{
    struct taking *t = calloc(1, sizeof *t + id.len);
    if (t == NULL) {
        fn(ctx, MESA_ENOMEM, NULL);
        return;
    }
    mesa_list_init(&t->link);
    t->wanted = wanted;
    t->fn = fn;
    t->ctx = ctx;
    t->tries = PATIENCE;
    t->patiently = patiently;
    t->id_len = id.len;
    memcpy(t->id, id.p, id.len);
    fetch(mesa_redis_self(b), t);
}

/* -- putting back -- */

static void on_put_back(struct mesa_redis_call *c, const struct mesa_redis_reply *reply)
{
    struct mesa_redis_broker *r = c->broker;
    if (reply != NULL) {
        report_changes(r, reply);
        return;
    }
    if (r->freeing)
        return;
    /* Perhaps it was done, and then the user gets them twice, but not never. */
    struct mesa_redis_call *again =
        mesa_redis_call_new(r, MESA_SCRIPT_PUT_BACK, c->args, c->count, on_put_back, NULL);
    if (again == NULL || !mesa_redis_keep(again))
        mesa_redis_error(r, "SYNC", "kept messages were lost on their way back to Redis");
}

enum mesa_status mesa_redis_write_backlog(const struct mesa_backlog *backlog, struct mesa_buf *json,
                                          struct mesa_buf *times)
{
    enum mesa_status rc = MESA_OK;
    for (size_t i = 0; rc == MESA_OK && i < backlog->count; i++) {
        if (i > 0)
            rc = mesa_buf_push(json, ',');
        if (rc == MESA_OK)
            rc = mesa_buf_append(json, backlog->json[i].p, backlog->json[i].len);
        if (rc == MESA_OK)
            rc = mesa_buf_printf(times, "%013" PRIu64,
                                 backlog->stored_ms != NULL ? backlog->stored_ms[i] : 0);
    }
    return rc;
}

void mesa_redis_put_back_written(struct mesa_redis_broker *r, struct mesa_span id,
                                 struct mesa_span json, struct mesa_span times,
                                 struct mesa_span incarnation)
{
    struct bounds bounds;
    write_bounds(r, &bounds);
    const struct mesa_span args[] = {id,
                                     json,
                                     times,
                                     mesa_redis_text(bounds.messages),
                                     mesa_redis_text(bounds.bytes),
                                     mesa_redis_text(bounds.age),
                                     incarnation};
    struct mesa_redis_call *c = mesa_redis_call_new(
        r, MESA_SCRIPT_PUT_BACK, args, incarnation.p != NULL ? 7 : 6, on_put_back, NULL);
    if (c != NULL && r->up)
        mesa_redis_call_send(c);
    else if (c == NULL || !mesa_redis_keep(c))
        mesa_redis_error(r, "SYNC", "kept messages were lost on their way back to Redis");
}

void mesa_redis_put_back(struct mesa_broker *b, struct mesa_span id,
                         const struct mesa_backlog *backlog)
{
    struct mesa_redis_broker *r = mesa_redis_self(b);
    struct mesa_buf json, times;
    if (backlog->count == 0)
        return;
    mesa_buf_init(&json);
    mesa_buf_init(&times);
    if (mesa_redis_write_backlog(backlog, &json, &times) != MESA_OK)
        mesa_redis_error(r, "MEMORY", "no memory to put kept messages back");
    else if (!mesa_redis_part_prepend(r, id, mesa_redis_span(&json), mesa_redis_span(&times)))
        mesa_redis_put_back_written(r, id, mesa_redis_span(&json), mesa_redis_span(&times),
                                    (struct mesa_span){NULL, 0});
    mesa_buf_deinit(&json);
    mesa_buf_deinit(&times);
}
