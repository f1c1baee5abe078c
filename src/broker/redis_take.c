/* redis_take.c - what was stored for a user, taken out of Redis.
 *
 * Taking has two steps. The first moves the messages to mesa:taken, where they are this node's, the
 * second is the confirmation that they were received. Between the two they go back in front of the
 * store when they are put back, when the node loses its lease, or when the reply of the first step
 * was lost. Before that, the other nodes that have connections of the user are asked to hand over
 * what those have not confirmed; one that is dead, or does not answer for as long as a lease lasts, is
 * not waited for.
 */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

#include "broker/redis_internal.h"

enum { RETRY_MS = 10 };

struct taking {
    struct mesa_list link; /* broker.waiting */
    mesa_backlog_wanted_fn wanted;
    mesa_backlog_fn fn;
    void *ctx;
    uint64_t token, due_ms;
    uint64_t asked; /* when the other nodes were told; 0: not yet */
    size_t id_len;
    char id[];
};

static void end(struct taking *t, enum mesa_status rc, const struct mesa_backlog *backlog)
{
    t->fn(t->ctx, rc, backlog);
    free(t);
}

/* -- what was taken -- */

/* A stored envelope as mesa-lua writes it; others may have stored more in it than a client may see.
 * MESA_EPROTO: it is none. */
static enum mesa_status normalise(struct mesa_buf *out, struct mesa_span json, unsigned max_depth)
{
    struct mesa_envelope e;
    struct mesa_json_error err;
    enum mesa_status rc = mesa_envelope_parse(json.p, json.len, max_depth, &e, &err);
    return rc == MESA_OK ? mesa_redis_write_envelope(out, &e) : MESA_EPROTO;
}

/* The digits of the text from `at` on. */
static uint64_t read_number(struct mesa_span text, size_t at, size_t digits)
{
    uint64_t number = 0;
    for (size_t i = 0; i < digits && at + i < text.len; i++) {
        if (text.p[at + i] >= '0' && text.p[at + i] <= '9')
            number = number * 10 + (uint64_t)(text.p[at + i] - '0');
    }
    return number;
}

static uint64_t read_ms(struct mesa_span times, size_t i)
{
    return read_number(times, i * MESA_REDIS_MS_DIGITS, MESA_REDIS_MS_DIGITS);
}

/* What was taken, in the making. */
struct parcel {
    struct mesa_span *json; /* of the array, then rewritten */
    uint64_t *ms;
    size_t count;
    struct mesa_buf bytes;
    bool sorted_out; /* there was more in the array */
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
    p->sorted_out = p->count < all;
    const char *at = p->bytes.data;
    for (size_t i = 0; i < p->count; at += p->json[i++].len)
        p->json[i].p = at;
    return MESA_OK;
}

/* What is no message, or too old, goes out of what is kept as well: numbers mean the same then. */
static void rewrite(struct mesa_redis_broker *r, struct mesa_span id, uint64_t token,
                    const char *order, const struct parcel *p)
{
    struct mesa_buf key, text;
    mesa_buf_init(&key);
    mesa_buf_init(&text);
    enum mesa_status rc =
        mesa_buf_printf(&key, "mesa:taken%.*s:%.*s", (int)r->suffix.len,
                        r->suffix.len > 0 ? r->suffix.data : "", (int)id.len, id.p);
    char field[64];
    snprintf(field, sizeof field, "%s %s", order, r->node);
    if (rc == MESA_OK)
        rc = mesa_buf_printf(&text, "%" PRIu64 " ", token);
    for (size_t i = 0; rc == MESA_OK && i < p->count; i++)
        rc = mesa_buf_printf(&text, "%0*" PRIu64, MESA_REDIS_MS_DIGITS, p->ms[i]);
    for (size_t i = 0; rc == MESA_OK && i < p->count; i++) {
        rc = mesa_buf_push(&text, i == 0 ? '[' : ',');
        if (rc == MESA_OK)
            rc = mesa_buf_append(&text, p->json[i].p, p->json[i].len);
    }
    if (rc == MESA_OK)
        rc = mesa_buf_push(&text, ']');
    const struct mesa_span args[] = {MESA_SPAN("HSET"), mesa_redis_span(&key),
                                     mesa_redis_text(field), mesa_redis_span(&text)};
    if (rc == MESA_OK)
        rc = mesa_redis_do(r, MESA_SCRIPT_COUNT_, args, 4, NULL, NULL);
    if (rc != MESA_OK)
        mesa_redis_error(r, "MEMORY", "no memory to take kept messages");
    mesa_buf_deinit(&key);
    mesa_buf_deinit(&text);
}

static enum mesa_status unpack(struct mesa_redis_broker *r, struct mesa_span id,
                               const struct mesa_redis_reply *reply, struct parcel *p)
{
    struct mesa_span array = mesa_redis_reply_string(mesa_redis_reply_element(reply, 2));
    struct mesa_span times = mesa_redis_reply_string(mesa_redis_reply_element(reply, 3));
    uint64_t now_ms = read_ms(mesa_redis_reply_string(mesa_redis_reply_element(reply, 4)), 0);
    struct mesa_json_error err;
    if (array.len == 0)
        return MESA_OK;
    enum mesa_status rc = mesa_cluster_elements(array.p, array.len, r->cfg->limits.max_depth,
                                                &p->json, &p->count, &err);
    if (rc == MESA_OK)
        return sort_out(r, id, times, now_ms, p);
    if (rc != MESA_ENOMEM) {
        mesa_redis_error(r, "SYNC", "what undelivered_messages held for a user is not JSON");
        p->sorted_out = true; /* all of it */
        return MESA_OK;
    }
    return rc;
}

static void deliver_parcel(struct mesa_redis_broker *r, struct taking *t,
                           const struct mesa_redis_reply *reply)
{
    struct mesa_span id = {t->id, t->id_len};
    struct mesa_span order = mesa_redis_reply_string(mesa_redis_reply_element(reply, 6));
    struct parcel p = {0};
    mesa_buf_init(&p.bytes);
    if (mesa_redis_reply_string(mesa_redis_reply_element(reply, 5)).len > 0)
        mesa_redis_error(r, "SYNC", "what undelivered_messages holds for a user is not an array");
    enum mesa_status rc = unpack(r, id, reply, &p);
    uint64_t hold = read_number(order, 0, order.len);
    if (rc == MESA_OK && hold > 0 && p.count == 0)
        mesa_redis_confirm(&r->base, id, hold, 0, 0);
    else if (rc == MESA_OK && hold > 0 && p.sorted_out)
        rewrite(r, id, t->token, order.p, &p);
    const struct mesa_backlog backlog = {p.json, p.ms, p.count, hold, t->asked};
    end(t, rc, rc == MESA_OK ? &backlog : NULL);
    parcel_deinit(&p);
}

/* -- taking -- */

static void postpone(struct mesa_redis_broker *r, struct taking *t)
{
    mesa_list_append(&r->waiting, &t->link);
    if (!mesa_timer_armed(&r->retry))
        mesa_loop_arm(r->loop, &r->retry, RETRY_MS);
}

static void on_undone(struct mesa_redis_call *c, const struct mesa_redis_reply *reply)
{
    if (reply != NULL)
        mesa_redis_report_changes(c->broker, reply);
}

/* Whether the take was executed is unknown: if it was, Redis is to undo it before another one. */
static void undo(struct mesa_redis_broker *r, const struct taking *t)
{
    char token[24];
    struct mesa_redis_bounds bounds;
    snprintf(token, sizeof token, "%" PRIu64, t->token);
    mesa_redis_write_bounds(r, &bounds);
    struct mesa_span args[6] = {
        {t->id, t->id_len}, mesa_redis_text(r->node), mesa_redis_text(token)};
    mesa_redis_put_bounds(&bounds, &args[3]);
    struct mesa_redis_call *c =
        mesa_redis_call_new(r, MESA_SCRIPT_RETURN, args, 6, on_undone, NULL);
    if (c == NULL || !mesa_redis_keep(c))
        mesa_redis_error(r, "SYNC", "kept messages wait for the end of this server");
}

static void on_taken(struct mesa_redis_call *c, const struct mesa_redis_reply *reply)
{
    struct taking *t = c->ctx;
    struct mesa_redis_broker *r = c->broker;
    size_t count = reply != NULL ? mesa_redis_reply_count(reply) : 0;
    int64_t state = count > 0 ? mesa_redis_reply_integer(mesa_redis_reply_element(reply, 0)) : -1;
    if (count > 1 && t->asked == 0)
        t->asked =
            read_number(mesa_redis_reply_string(mesa_redis_reply_element(reply, 1)), 0, SIZE_MAX);
    if (r->freeing) {
        end(t, MESA_ECLOSED, NULL);
    } else if (reply == NULL) {
        undo(r, t);
        end(t, MESA_EUNAVAILABLE, NULL);
    } else if (state == 1 && count == 2) {
        postpone(r, t);
    } else if (state == 0 && count == 7) {
        deliver_parcel(r, t, reply);
    } else {
        end(t, MESA_EIO, NULL);
    }
}

/* What MESA_SCRIPT_TAKE is to do: "ask" and not take, "ask or take", "take", take "anyway". NULL: nothing. */
static const char *next_step(const struct mesa_redis_broker *r, const struct taking *t)
{
    bool ready = t->wanted(t->ctx, t->asked) == MESA_WANTED;
    if (t->asked == 0)
        return ready ? "ask or take" : "ask";
    if (!ready)
        return NULL;
    return mesa_loop_now(r->loop) >= t->due_ms ? "anyway" : "take";
}

static void fetch(struct mesa_redis_broker *r, struct taking *t)
{
    char token[24];
    const char *step = next_step(r, t);
    struct mesa_redis_bounds bounds;
    snprintf(token, sizeof token, "%" PRIu64, t->token);
    mesa_redis_write_bounds(r, &bounds);
    struct mesa_span args[8] = {{t->id, t->id_len},
                                mesa_redis_text(r->incarnation),
                                mesa_redis_text(r->node),
                                mesa_redis_text(token)};
    enum mesa_status rc = MESA_EUNAVAILABLE;
    if (r->up && step == NULL) {
        postpone(r, t);
        return;
    }
    if (r->up) {
        args[4] = mesa_redis_text(step);
        mesa_redis_put_bounds(&bounds, &args[5]);
        rc = mesa_redis_do(r, MESA_SCRIPT_TAKE, args, 8, on_taken, t);
    }
    if (rc != MESA_OK)
        end(t, rc, NULL);
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
        if (t->wanted(t->ctx, t->asked) == MESA_UNWANTED)
            end(t, MESA_ECLOSED, NULL);
        else
            fetch(r, t);
    }
}

void mesa_redis_waiting_free(struct mesa_redis_broker *r)
{
    while (!mesa_list_empty(&r->waiting)) {
        struct taking *t = MESA_CONTAINER_OF(r->waiting.next, struct taking, link);
        mesa_list_remove(&t->link);
        end(t, MESA_ECLOSED, NULL);
    }
}

void mesa_redis_take(struct mesa_broker *b, struct mesa_span id, mesa_backlog_wanted_fn wanted,
                     mesa_backlog_fn fn, void *ctx)
{
    struct mesa_redis_broker *r = mesa_redis_self(b);
    struct taking *t = calloc(1, sizeof *t + id.len);
    if (t == NULL) {
        fn(ctx, MESA_ENOMEM, NULL);
        return;
    }
    mesa_list_init(&t->link);
    t->wanted = wanted;
    t->fn = fn;
    t->ctx = ctx;
    t->token = ++r->token;
    t->due_ms = mesa_loop_now(r->loop) + r->cfg->redis.lease_ms;
    t->id_len = id.len;
    memcpy(t->id, id.p, id.len);
    fetch(r, t);
}

/* -- confirming -- */

void mesa_redis_confirm(struct mesa_broker *b, struct mesa_span id, uint64_t hold, size_t from,
                        size_t to)
{
    struct mesa_redis_broker *r = mesa_redis_self(b);
    char order[24], bounds[2][24];
    if (hold == 0)
        return;
    snprintf(order, sizeof order, "%" PRIu64, hold);
    snprintf(bounds[0], sizeof bounds[0], "%zu", from);
    snprintf(bounds[1], sizeof bounds[1], "%zu", to);
    const struct mesa_span args[] = {id, mesa_redis_text(r->node), mesa_redis_text(order),
                                     mesa_redis_text(bounds[0]), mesa_redis_text(bounds[1])};
    struct mesa_redis_call *c = mesa_redis_call_new(r, MESA_SCRIPT_CONFIRM, args, 5, NULL, NULL);
    if (c != NULL && r->up)
        mesa_redis_call_send(c);
    else if (c == NULL || !mesa_redis_keep(c))
        mesa_redis_error(r, "MEMORY", "no memory to confirm kept messages");
}
