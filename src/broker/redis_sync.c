/* redis_sync.c - messages to where else their recipients are, and to the sync store in Redis. */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/base64.h"
#include "base/utf8.h"
#include "broker/redis_internal.h"

enum { ID_MAX = 512 };

static bool is_id(struct mesa_span id)
{
    return id.len >= 1 && id.len <= ID_MAX && mesa_utf8_valid(id.p, id.len);
}

void mesa_redis_write_bounds(const struct mesa_redis_broker *r, struct mesa_redis_bounds *b)
{
    snprintf(b->text[0], sizeof b->text[0], "%" PRIu32, r->cfg->sync.max_messages);
    snprintf(b->text[1], sizeof b->text[1], "%" PRIu64, r->cfg->sync.max_bytes);
    snprintf(b->text[2], sizeof b->text[2], "%" PRIu64, r->cfg->sync.max_age_ms);
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

/* What raw clients get, behind the rest. */
static enum mesa_status write_raw(struct mesa_buf *out, const struct mesa_frame *f)
{
    struct mesa_span payload = mesa_frame_payload(f);
    enum mesa_status rc = mesa_buf_printf(out, ",\"raw\":");
    if (rc == MESA_OK && f->opcode == MESA_WS_TEXT)
        rc = mesa_json_put_string(out, payload.p, payload.len);
    if (rc != MESA_OK || f->opcode == MESA_WS_TEXT)
        return rc;
    rc = mesa_buf_push(out, '"');
    if (rc == MESA_OK)
        rc = mesa_base64_encode(out, payload);
    return rc == MESA_OK ? mesa_buf_printf(out, "\",\"binary\":true") : rc;
}

static enum mesa_status write_publication(struct mesa_redis_broker *r,
                                          const struct mesa_publication *p)
{
    struct mesa_buf *out = &r->scratch;
    struct mesa_span json = p->raw ? MESA_SPAN(MESA_CLUSTER_RAW) : mesa_frame_payload(p->frame);
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
    if (rc == MESA_OK && p->raw)
        rc = write_raw(out, p->frame);
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

void mesa_redis_report_changes(struct mesa_redis_broker *r, const struct mesa_redis_reply *reply)
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
    mesa_redis_report_changes(r, reply);
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
    struct mesa_redis_bounds b;
    struct mesa_span *args = calloc(5 + p->id_count, sizeof *args);
    struct mesa_redis_call *c = NULL;
    size_t count = 5;
    if (args == NULL)
        return NULL;
    mesa_redis_write_bounds(r, &b);
    args[0] = mesa_redis_text(r->node);
    args[1] = mesa_frame_payload(p->frame);
    mesa_redis_put_bounds(&b, &args[2]);
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

/* -- putting back -- */

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

static void on_put_back(struct mesa_redis_call *c, const struct mesa_redis_reply *reply)
{
    struct mesa_redis_broker *r = c->broker;
    if (reply != NULL) {
        mesa_redis_report_changes(r, reply);
        return;
    }
    if (r->freeing)
        return;
    /* Perhaps it was done, and then the user gets the latest twice, but not never. */
    struct mesa_redis_call *again =
        mesa_redis_call_new(r, MESA_SCRIPT_PUT_BACK, c->args, c->count, on_put_back, NULL);
    if (again == NULL || !mesa_redis_keep(again))
        mesa_redis_error(r, "SYNC", "kept messages were lost on their way back to Redis");
}

static enum mesa_status write_backlog(struct mesa_redis_part *p, const struct mesa_backlog *backlog)
{
    enum mesa_status rc = MESA_OK;
    for (size_t i = 0; rc == MESA_OK && i < backlog->count; i++) {
        if (i > 0)
            rc = mesa_buf_push(&p->json, ',');
        if (rc == MESA_OK)
            rc = mesa_buf_append(&p->json, backlog->json[i].p, backlog->json[i].len);
        if (rc == MESA_OK)
            rc = mesa_buf_printf(&p->times, "%013" PRIu64,
                                 backlog->stored_ms != NULL ? backlog->stored_ms[i] : 0);
    }
    return rc;
}

static struct mesa_redis_part *add_part(struct mesa_redis_parts *p, uint64_t hold)
{
    struct mesa_redis_part *more = realloc(p->at, (p->count + 1) * sizeof *more);
    if (more == NULL)
        return NULL;
    p->at = more;
    struct mesa_redis_part *added = &p->at[p->count++];
    added->hold = hold;
    mesa_buf_init(&added->json);
    mesa_buf_init(&added->times);
    return added;
}

enum mesa_status mesa_redis_parts_add(struct mesa_redis_parts *p, const struct mesa_backlog *unread,
                                      size_t count)
{
    enum mesa_status rc = MESA_OK;
    for (size_t i = 0; rc == MESA_OK && i < count; i++) {
        struct mesa_redis_part *part = add_part(p, unread[i].hold);
        rc = part != NULL ? write_backlog(part, &unread[i]) : MESA_ENOMEM;
    }
    return rc;
}

enum mesa_status mesa_redis_parts_append(struct mesa_redis_parts *p, const struct mesa_envelope *e)
{
    struct mesa_redis_part *last = p->count > 0 ? &p->at[p->count - 1] : NULL;
    if (last == NULL || last->hold != 0)
        last = add_part(p, 0);
    enum mesa_status rc = last != NULL ? MESA_OK : MESA_ENOMEM;
    if (rc == MESA_OK && last->json.len > 0)
        rc = mesa_buf_push(&last->json, ',');
    if (rc == MESA_OK)
        rc = mesa_redis_write_envelope(&last->json, e);
    if (rc == MESA_OK)
        rc = mesa_buf_printf(&last->times, "%0*d", MESA_REDIS_MS_DIGITS, 0);
    return rc;
}

enum mesa_status mesa_redis_parts_prepend(struct mesa_redis_parts *p,
                                          struct mesa_redis_parts *front)
{
    struct mesa_redis_part *more = realloc(front->at, (front->count + p->count + 1) * sizeof *more);
    if (more == NULL)
        return MESA_ENOMEM;
    if (p->count > 0)
        memcpy(more + front->count, p->at, p->count * sizeof *more);
    free(p->at);
    *p = (struct mesa_redis_parts){more, front->count + p->count};
    *front = (struct mesa_redis_parts){NULL, 0};
    return MESA_OK;
}

void mesa_redis_parts_deinit(struct mesa_redis_parts *p)
{
    for (size_t i = 0; i < p->count; i++) {
        mesa_buf_deinit(&p->at[i].json);
        mesa_buf_deinit(&p->at[i].times);
    }
    free(p->at);
}

void mesa_redis_put_back_parts(struct mesa_redis_broker *r, struct mesa_span id, const char *place,
                               bool more, const struct mesa_redis_parts *p)
{
    enum { FIRST = 7, HOLD_LEN = 24 };
    struct mesa_redis_bounds bounds;
    struct mesa_redis_call *c = NULL;
    struct mesa_span *args = calloc(FIRST + 3 * p->count, sizeof *args);
    char(*holds)[HOLD_LEN] = calloc(p->count + 1, sizeof *holds);
    if (args != NULL && holds != NULL) {
        mesa_redis_write_bounds(r, &bounds);
        args[0] = id;
        args[1] = mesa_redis_text(r->node);
        args[2] = mesa_redis_text(place);
        args[3] = more ? MESA_SPAN("1") : MESA_SPAN("0");
        mesa_redis_put_bounds(&bounds, &args[4]);
        for (size_t i = 0; i < p->count; i++) {
            snprintf(holds[i], sizeof holds[i], "%" PRIu64, p->at[i].hold);
            args[FIRST + 3 * i] = mesa_redis_text(holds[i]);
            args[FIRST + 3 * i + 1] = mesa_redis_span(&p->at[i].json);
            args[FIRST + 3 * i + 2] = mesa_redis_span(&p->at[i].times);
        }
        c = mesa_redis_call_new(r, MESA_SCRIPT_PUT_BACK, args, FIRST + 3 * p->count, on_put_back,
                                NULL);
    }
    if (c != NULL && r->up)
        mesa_redis_call_send(c);
    else if (c == NULL || !mesa_redis_keep(c))
        mesa_redis_error(r, "SYNC", "kept messages were lost on their way back to Redis");
    free(args);
    free(holds);
}

void mesa_redis_put_back(struct mesa_broker *b, struct mesa_span id,
                         const struct mesa_backlog *unread, size_t count, bool behind)
{
    struct mesa_redis_broker *r = mesa_redis_self(b);
    struct mesa_redis_parts parts = {NULL, 0};
    if (count == 0)
        return;
    /* What was taken for somebody who is parting is the first of what goes back then. */
    bool was_taken = unread[0].hold != 0;
    if (mesa_redis_parts_add(&parts, unread, count) != MESA_OK)
        mesa_redis_error(r, "MEMORY", "no memory to put kept messages back");
    else if (!was_taken || !mesa_redis_part_prepend(r, id, &parts))
        mesa_redis_put_back_parts(r, id, behind ? "+" : "", false, &parts);
    mesa_redis_parts_deinit(&parts);
}
