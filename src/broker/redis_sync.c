/* redis_sync.c - messages to where else their recipients are, and to the sync store in Redis. */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/base64.h"
#include "base/utf8.h"
#include "broker/redis_internal.h"

static bool is_id(struct mesa_span id)
{
    return id.len >= 1 && id.len <= MESA_ID_MAX && mesa_utf8_valid(id.p, id.len);
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

void mesa_redis_report_dropped(struct mesa_redis_broker *r, const struct mesa_redis_reply *list)
{
    for (size_t i = 0; i + 1 < mesa_redis_reply_count(list) && !r->freeing; i += 2)
        r->base.hooks.on_dropped(r->base.hooks_ctx,
                                 mesa_redis_reply_string(mesa_redis_reply_element(list, i)),
                                 mesa_redis_reply_string(mesa_redis_reply_element(list, i + 1)));
}

void mesa_redis_report_errors(struct mesa_redis_broker *r, const struct mesa_redis_reply *list)
{
    for (size_t i = 0; i < mesa_redis_reply_count(list); i++) {
        struct mesa_span text = mesa_redis_reply_string(mesa_redis_reply_element(list, i));
        char line[256];
        snprintf(line, sizeof line, "%.*s", (int)(text.len < 200 ? text.len : 200), text.p);
        mesa_redis_error(r, "SYNC", line);
    }
}

void mesa_redis_report_changes(struct mesa_redis_broker *r, const struct mesa_redis_reply *reply)
{
    if (mesa_redis_reply_count(reply) < 3)
        return;
    mesa_redis_report_dropped(r, mesa_redis_reply_element(reply, 1));
    mesa_redis_report_errors(r, mesa_redis_reply_element(reply, 2));
}

/* The arguments of a ROUTE. */
enum { ROUTE_ORIGIN, ROUTE_SEND, ROUTE_JSON, ROUTE_BOUNDS, ROUTE_IDS = ROUTE_BOUNDS + 3 };

/* Those whose connections here have it. */
static void report_unkept(struct mesa_redis_call *c)
{
    struct mesa_redis_broker *r = c->broker;
    size_t count = 0;
    struct mesa_span *ids = calloc(c->count, sizeof *ids);
    for (size_t i = ROUTE_IDS; ids != NULL && i < c->count; i++) {
        if (c->args[i].p[0] == '+')
            ids[count++] = (struct mesa_span){c->args[i].p + 1, c->args[i].len - 1};
    }
    if (count > 0 && !r->freeing)
        r->base.hooks.on_unkept(r->base.hooks_ctx, ids, count,
                                strtoull(c->args[ROUTE_SEND].p, NULL, 10));
    free(ids);
}

static void report_stored(struct mesa_redis_call *c, const struct mesa_redis_reply *ids)
{
    struct mesa_redis_broker *r = c->broker;
    size_t count = mesa_redis_reply_count(ids);
    struct mesa_span *stored = count > 0 ? calloc(count, sizeof *stored) : NULL;
    if (stored == NULL)
        return;
    for (size_t i = 0; i < count; i++)
        stored[i] = mesa_redis_reply_string(mesa_redis_reply_element(ids, i));
    r->base.hooks.on_stored(r->base.hooks_ctx, c->args[ROUTE_JSON], stored, count);
    free(stored);
}

static void on_routed(struct mesa_redis_call *c, const struct mesa_redis_reply *reply)
{
    bool done = reply != NULL && mesa_redis_reply_count(reply) == 4;
    if (!done)
        c->broker->unsure++; /* told in one event for all of them */
    if (!done || mesa_redis_reply_integer(mesa_redis_reply_element(reply, 3)) != 1)
        report_unkept(c);
    if (done) {
        report_stored(c, mesa_redis_reply_element(reply, 0));
        mesa_redis_report_changes(c->broker, reply);
    }
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
    struct mesa_span *args = calloc(ROUTE_IDS + p->id_count, sizeof *args);
    struct mesa_redis_call *c = NULL;
    size_t count = ROUTE_IDS;
    char send[24];
    if (args == NULL)
        return NULL;
    mesa_redis_write_bounds(r, &b);
    snprintf(send, sizeof send, "%" PRIu64, p->send);
    args[ROUTE_ORIGIN] = mesa_redis_text(r->node);
    args[ROUTE_SEND] = mesa_redis_text(send);
    args[ROUTE_JSON] = mesa_frame_payload(p->frame);
    mesa_redis_put_bounds(&b, &args[ROUTE_BOUNDS]);
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

enum { PART_GONE = 2, PART_BOUNDS, PART_MESSAGES = PART_BOUNDS + 3 };

static void on_parted(struct mesa_redis_call *c, const struct mesa_redis_reply *reply)
{
    struct mesa_redis_broker *r = c->broker;
    if (reply != NULL && !mesa_redis_refused(r, reply)) {
        mesa_redis_report_changes(r, reply);
        return;
    }
    if (r->freeing || (reply == NULL && c->count == PART_MESSAGES))
        return; /* the rest is done when the next incarnation replaces this one */
    /* Refused, nothing was done. Without an answer perhaps it was, and then the user gets them twice, but
     * not never. */
    struct mesa_redis_call *again =
        mesa_redis_call_new(r, MESA_SCRIPT_PART, c->args, c->count, on_parted, NULL);
    if (again == NULL || !mesa_redis_keep(again))
        mesa_redis_error(r, "SYNC", "kept messages were lost on their way back to Redis");
}

void mesa_redis_part_again(struct mesa_redis_call *c)
{
    if (mesa_map_get(c->broker->users, c->args[1].p, c->args[1].len) != NULL)
        c->args[PART_GONE] = MESA_SPAN("0");
}

static struct mesa_redis_call *part_call(struct mesa_redis_broker *r, struct mesa_span id,
                                         bool gone, const struct mesa_backlog *unread)
{
    enum { NUMBER_LEN = 24 };
    struct mesa_redis_bounds bounds;
    struct mesa_redis_call *c = NULL;
    struct mesa_span *args = calloc(PART_MESSAGES + 2 * unread->count, sizeof *args);
    char(*numbers)[NUMBER_LEN] = calloc(unread->count + 1, sizeof *numbers);
    if (args != NULL && numbers != NULL) {
        mesa_redis_write_bounds(r, &bounds);
        args[0] = mesa_redis_text(r->incarnation);
        args[1] = id;
        args[PART_GONE] = gone ? MESA_SPAN("1") : MESA_SPAN("0");
        mesa_redis_put_bounds(&bounds, &args[PART_BOUNDS]);
        for (size_t i = 0; i < unread->count; i++) {
            snprintf(numbers[i], sizeof numbers[i], "%" PRIu64,
                     unread->stamps != NULL ? unread->stamps[i] : 0);
            args[PART_MESSAGES + 2 * i] = mesa_redis_text(numbers[i]);
            args[PART_MESSAGES + 2 * i + 1] = unread->json[i];
        }
        c = mesa_redis_call_new(r, MESA_SCRIPT_PART, args, PART_MESSAGES + 2 * unread->count,
                                on_parted, NULL);
    }
    free(args);
    free(numbers);
    return c;
}

void mesa_redis_part(struct mesa_redis_broker *r, struct mesa_span id, bool gone,
                     const struct mesa_backlog *unread)
{
    if (!r->up && unread->count == 0)
        return; /* who was here is known when Redis is back */
    struct mesa_redis_call *c = part_call(r, id, gone, unread);
    mesa_redis_send_confirms(r); /* what was confirmed does not go back */
    if (c != NULL && r->up)
        mesa_redis_call_send(c);
    else if (c == NULL || !mesa_redis_keep(c))
        mesa_redis_error(r, "SYNC", "unread messages were lost on their way back to Redis");
}

void mesa_redis_put_back(struct mesa_broker *b, struct mesa_span id,
                         const struct mesa_backlog *unread)
{
    mesa_redis_part(mesa_redis_self(b), id, false, unread);
}
