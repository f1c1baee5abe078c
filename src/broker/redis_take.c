/* redis_take.c - what was stored for a user, or sent and not confirmed, taken out of Redis; and what
 * was confirmed.
 *
 * Whatever is taken stays in Redis until a connection of the user has confirmed it, so a lost reply, or
 * a server that dies, takes nothing along. While the user has other connections, what they have not
 * confirmed yet is left to them for a moment: those that live are about to.
 */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

#include "broker/redis_internal.h"

enum {
    RETRY_MS = 10,
    WAIT_MS = 200,     /* in which connections that live confirm what they were sent */
    CHANNEL_MS = 5000, /* in which the channel of messages comes back */
    NUMBER_DIGITS = 16,
    CONFIRMS_MAX = 500, /* users in one run of the script */
};

struct taking {
    struct mesa_list link; /* broker.waiting */
    struct mesa_take what;
    mesa_backlog_wanted_fn wanted;
    mesa_backlog_fn fn;
    void *ctx;
    uint64_t begun_ms;
    char upto[NUMBER_DIGITS + 1]; /* "": Redis was not asked yet */
    size_t id_len;
    char id[];
};

static void end(struct taking *t, enum mesa_status rc, const struct mesa_backlog *backlog)
{
    t->fn(t->ctx, rc, backlog);
    free(t);
}

/* -- what was taken -- */

/* Appends an envelope with nothing in it but what a client may see: others may have stored more.
 * MESA_EPROTO: it is none. */
static enum mesa_status normalise(struct mesa_buf *out, struct mesa_span json, unsigned max_depth)
{
    struct mesa_envelope e;
    struct mesa_json_error err;
    struct mesa_buf type, mended;
    mesa_buf_init(&type);
    mesa_buf_init(&mended);
    enum mesa_status rc = mesa_envelope_receive(&json, max_depth, &e, &mended, &err);
    if (rc == MESA_OK && e.op == MESA_OP_INTERNAL)
        rc = MESA_EPROTO;
    if (rc == MESA_EUTF8)
        rc = MESA_EPROTO;
    struct mesa_outgoing m = {.op = e.op, .d = e.d};
    if (rc == MESA_OK && e.t.p != NULL) {
        rc = mesa_json_unescape(e.t, &type);
        m.type = mesa_redis_span(&type);
    }
    if (rc == MESA_OK)
        rc = mesa_envelope_write(out, &m);
    mesa_buf_deinit(&mended);
    mesa_buf_deinit(&type);
    return rc;
}

/* The number an element begins with. */
static uint64_t read_number(struct mesa_span text)
{
    uint64_t number = 0;
    for (size_t i = 0; i < NUMBER_DIGITS && i < text.len; i++) {
        if (text.p[i] >= '0' && text.p[i] <= '9')
            number = number * 10 + (uint64_t)(text.p[i] - '0');
    }
    return number;
}

/* What was taken, in the making. */
struct parcel {
    struct mesa_span *json;
    uint64_t *numbers;
    size_t count;
    struct mesa_buf bytes;
};

/* Keeps the envelopes; reports the rest, which nobody else will ever confirm. */
static enum mesa_status sort_out(struct mesa_redis_broker *r, struct mesa_span id,
                                 const struct mesa_redis_reply *list, struct parcel *p)
{
    for (size_t i = 0; i < mesa_redis_reply_count(list); i++) {
        struct mesa_span e = mesa_redis_reply_string(mesa_redis_reply_element(list, i));
        size_t before = p->bytes.len, at = e.len < NUMBER_DIGITS ? e.len : NUMBER_DIGITS;
        uint64_t number = read_number(e);
        enum mesa_status rc = normalise(&p->bytes, (struct mesa_span){e.p + at, e.len - at},
                                        r->cfg->limits.max_depth);
        if (rc == MESA_ENOMEM)
            return rc;
        if (rc != MESA_OK) {
            p->bytes.len = before;
            mesa_redis_confirm(&r->base, id,
                               &(struct mesa_confirmation){.stamps = &number, .count = 1});
            mesa_redis_error(r, "SYNC", "undelivered_messages holds something that is no message");
            continue;
        }
        p->numbers[p->count] = number;
        p->json[p->count++].len = p->bytes.len - before;
    }
    const char *at = p->bytes.data;
    for (size_t i = 0; i < p->count; at += p->json[i++].len)
        p->json[i].p = at;
    return MESA_OK;
}

static void deliver_parcel(struct mesa_redis_broker *r, struct taking *t,
                           const struct mesa_redis_reply *reply)
{
    const struct mesa_redis_reply *list = mesa_redis_reply_element(reply, 2);
    size_t count = mesa_redis_reply_count(list);
    struct parcel p = {.json = calloc(count + 1, sizeof *p.json),
                       .numbers = calloc(count + 1, sizeof *p.numbers)};
    mesa_buf_init(&p.bytes);
    mesa_redis_report_dropped(r, mesa_redis_reply_element(reply, 3));
    mesa_redis_report_errors(r, mesa_redis_reply_element(reply, 4));
    enum mesa_status rc = MESA_ENOMEM;
    if (p.json != NULL && p.numbers != NULL)
        rc = sort_out(r, (struct mesa_span){t->id, t->id_len}, list, &p);
    const struct mesa_backlog backlog = {
        .json = p.json,
        .stamps = p.numbers,
        .count = p.count,
        .upto = read_number(mesa_redis_reply_string(mesa_redis_reply_element(reply, 1))),
    };
    end(t, rc, rc == MESA_OK ? &backlog : NULL);
    free(p.json);
    free(p.numbers);
    mesa_buf_deinit(&p.bytes);
}

/* -- taking -- */

static void postpone(struct mesa_redis_broker *r, struct taking *t)
{
    mesa_list_append(&r->waiting, &t->link);
    if (!mesa_timer_armed(&r->retry))
        mesa_loop_arm(r->loop, &r->retry, RETRY_MS);
}

static void wait_for_others(struct mesa_redis_broker *r, struct taking *t,
                            const struct mesa_redis_reply *reply)
{
    struct mesa_span upto = mesa_redis_reply_string(mesa_redis_reply_element(reply, 1));
    snprintf(t->upto, sizeof t->upto, "%.*s", (int)upto.len, upto.p);
    postpone(r, t);
}

static void refuse(struct mesa_redis_broker *r, struct taking *t,
                   const struct mesa_redis_reply *reply)
{
    if (mesa_redis_refused(r, reply))
        r->take_refused = true;
    end(t, MESA_EIO, NULL);
}

static void on_taken(struct mesa_redis_call *c, const struct mesa_redis_reply *reply)
{
    struct taking *t = c->ctx;
    struct mesa_redis_broker *r = c->broker;
    size_t count = reply != NULL ? mesa_redis_reply_count(reply) : 0;
    if (r->freeing)
        end(t, MESA_ECLOSED, NULL);
    else if (reply == NULL)
        end(t, MESA_EUNAVAILABLE, NULL);
    else if (count == 2)
        wait_for_others(r, t, reply);
    else if (count == 5)
        deliver_parcel(r, t, reply);
    else
        refuse(r, t, reply);
}

static const char *whom_to_wait_for(const struct mesa_redis_broker *r, const struct taking *t,
                                    enum mesa_wanted wanted)
{
    if (mesa_loop_now(r->loop) >= t->begun_ms + WAIT_MS)
        return "no";
    return wanted == MESA_WANTED_BESIDE ? "beside" : "wait";
}

static enum mesa_status ask(struct mesa_redis_broker *r, struct taking *t, enum mesa_wanted wanted)
{
    static const char *const modes[] = {
        [MESA_TAKE] = "take", [MESA_TAKE_DROP] = "drop", [MESA_TAKE_NOTHING] = "nothing"};
    char after[24], seen[24];
    struct mesa_redis_bounds bounds;
    snprintf(after, sizeof after, "%" PRIu64, t->what.after);
    snprintf(seen, sizeof seen, "%" PRIu64, t->what.seen);
    mesa_redis_write_bounds(r, &bounds);
    struct mesa_span args[10] = {
        {t->id, t->id_len},
        mesa_redis_text(r->incarnation),
        mesa_redis_text(modes[t->what.mode]),
        mesa_redis_text(after),
        mesa_redis_text(seen),
        mesa_redis_text(t->upto),
        mesa_redis_text(whom_to_wait_for(r, t, wanted)),
    };
    mesa_redis_put_bounds(&bounds, &args[7]);
    return mesa_redis_do(r, MESA_SCRIPT_TAKE, args, 10, on_taken, t);
}

/* Without both connections nobody could say what comes behind the backlog. */
static void fetch(struct mesa_redis_broker *r, struct taking *t)
{
    bool hears = mesa_redis_ready(r->subscriber);
    enum mesa_wanted wanted = t->wanted(t->ctx, r->up && hears && t->upto[0] == '\0');
    enum mesa_status rc = MESA_EUNAVAILABLE;
    if (wanted == MESA_UNWANTED) {
        rc = MESA_ECLOSED;
    } else if (r->up && hears) {
        rc = ask(r, t, wanted);
    } else if (r->up && mesa_loop_now(r->loop) < t->begun_ms + CHANNEL_MS) {
        postpone(r, t);
        return;
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

void mesa_redis_take(struct mesa_broker *b, struct mesa_span id, const struct mesa_take *what,
                     mesa_backlog_wanted_fn wanted, mesa_backlog_fn fn, void *ctx)
{
    struct mesa_redis_broker *r = mesa_redis_self(b);
    struct taking *t = calloc(1, sizeof *t + id.len);
    if (t == NULL) {
        fn(ctx, MESA_ENOMEM, NULL);
        return;
    }
    mesa_list_init(&t->link);
    t->what = *what;
    t->wanted = wanted;
    t->fn = fn;
    t->ctx = ctx;
    t->begun_ms = mesa_loop_now(r->loop);
    t->id_len = id.len;
    memcpy(t->id, id.p, id.len);
    mesa_redis_send_confirms(r);
    fetch(r, t);
}

/* -- confirming -- */

static enum mesa_status write_confirm(struct mesa_buf *out, struct mesa_span id,
                                      const struct mesa_confirmation *c)
{
    const uint64_t head[] = {c->from, c->live, c->send, c->count};
    enum mesa_status rc = MESA_OK;
    for (size_t i = 0; rc == MESA_OK && i < sizeof head / sizeof head[0]; i++)
        rc = mesa_buf_printf(out, "%0*" PRIu64, NUMBER_DIGITS, head[i]);
    for (size_t i = 0; rc == MESA_OK && i < c->count; i++)
        rc = mesa_buf_printf(out, "%0*" PRIu64, NUMBER_DIGITS, c->stamps[i]);
    return rc == MESA_OK ? mesa_buf_append(out, id.p, id.len) : rc;
}

enum mesa_status mesa_redis_confirm(struct mesa_broker *b, struct mesa_span id,
                                    const struct mesa_confirmation *c)
{
    struct mesa_redis_broker *r = mesa_redis_self(b);
    if (!r->up)
        return MESA_EUNAVAILABLE;
    if (r->confirm_lens == NULL)
        r->confirm_lens = calloc(CONFIRMS_MAX, sizeof *r->confirm_lens);
    if (r->confirm_lens == NULL)
        return MESA_ENOMEM;
    size_t before = r->confirms.len;
    enum mesa_status rc = write_confirm(&r->confirms, id, c);
    if (rc != MESA_OK) {
        r->confirms.len = before;
        return rc;
    }
    r->confirm_lens[r->confirm_count++] = r->confirms.len - before;
    if (r->confirm_count == CONFIRMS_MAX)
        mesa_redis_send_confirms(r); /* behind the last use of `id` and `c`: it may call hooks */
    return MESA_OK;
}

void mesa_redis_send_confirms(struct mesa_redis_broker *r)
{
    struct mesa_span args[CONFIRMS_MAX + 1] = {mesa_redis_text(r->node)};
    const char *at = r->confirms.data;
    if (r->confirm_count == 0)
        return;
    for (size_t i = 0; i < r->confirm_count; at += r->confirm_lens[i++])
        args[i + 1] = (struct mesa_span){at, r->confirm_lens[i]};
    enum mesa_status rc = MESA_OK;
    if (r->up)
        rc = mesa_redis_do(r, MESA_SCRIPT_CONFIRM, args, r->confirm_count + 1, NULL, NULL);
    r->confirm_count = 0;
    mesa_buf_reset(&r->confirms, 64 * 1024);
    if (rc != MESA_OK) /* last: a hook may confirm more */
        mesa_redis_error(r, "MEMORY", "no memory to confirm kept messages");
}
