/* redis_call.c - commands on their way, with their arguments: sent again where Redis has forgotten a
 * script, kept where Redis is away. */
#include <stdio.h>
#include <stdlib.h>

#include "broker/redis_internal.h"

struct mesa_redis_call *mesa_redis_call_new(struct mesa_redis_broker *r,
                                            enum mesa_redis_script script,
                                            const struct mesa_span *args, size_t count,
                                            mesa_redis_call_fn fn, void *ctx)
{
    size_t bytes = 0;
    for (size_t i = 0; i < count; i++)
        bytes += args[i].len;
    struct mesa_redis_call *c = malloc(sizeof *c + count * sizeof c->args[0] + bytes);
    if (c == NULL)
        return NULL;
    *c = (struct mesa_redis_call){
        .broker = r, .fn = fn, .ctx = ctx, .script = script, .count = count, .bytes = bytes};
    mesa_list_init(&c->link);
    char *p = (char *)&c->args[count];
    for (size_t i = 0; i < count; i++) {
        if (args[i].len > 0)
            memcpy(p, args[i].p, args[i].len);
        c->args[i] = (struct mesa_span){p, args[i].len};
        p += args[i].len;
    }
    return c;
}

static void finish(struct mesa_redis_call *c, const struct mesa_redis_reply *reply)
{
    if (c->fn != NULL)
        c->fn(c, reply);
    free(c);
}

const char *mesa_redis_reply_error(const struct mesa_redis_reply *reply)
{
    return mesa_redis_reply_type(reply) == MESA_REDIS_ERROR ? mesa_redis_reply_string(reply).p
                                                            : NULL;
}

static bool begins_with(struct mesa_span text, const char *prefix)
{
    size_t len = strlen(prefix);
    return text.len >= len && memcmp(text.p, prefix, len) == 0;
}

/* What Redis refuses, in words of its own. */
static void report_refusal(struct mesa_redis_broker *r, struct mesa_span text)
{
    char line[300];
    snprintf(line, sizeof line, "Redis refused a command: %.*s",
             (int)(text.len < 250 ? text.len : 250), text.p);
    mesa_redis_error(r, "REDIS", line);
}

static void on_reply(void *ctx, enum mesa_status rc, const struct mesa_redis_reply *reply)
{
    (void)rc; /* without a reply the connection was lost */
    struct mesa_redis_call *c = ctx;
    struct mesa_redis_broker *r = c->broker;
    r->sent_bytes -= c->bytes;
    if (reply != NULL && mesa_redis_reply_error(reply) != NULL) {
        struct mesa_span text = mesa_redis_reply_string(reply);
        if (begins_with(text, "NOSCRIPT") && !c->whole && !r->freeing) {
            c->whole = true;
            mesa_redis_call_send(c);
            return;
        }
        report_refusal(r, text);
    }
    finish(c, reply);
}

/* The words of the command in front of the call's own arguments. */
static enum mesa_status write_head(const struct mesa_redis_call *c, struct mesa_buf *text,
                                   struct mesa_span head[3], size_t *count)
{
    struct mesa_redis_broker *r = c->broker;
    *count = 0;
    if (c->script == MESA_SCRIPT_COUNT_)
        return MESA_OK;
    *count = 3;
    head[0] = c->whole ? MESA_SPAN("EVAL") : MESA_SPAN("EVALSHA");
    head[1] = mesa_redis_text(r->sha[c->script]);
    head[2] = MESA_SPAN("0");
    if (!c->whole)
        return MESA_OK;
    enum mesa_status rc = mesa_redis_script_text(text, c->script, mesa_redis_span(&r->suffix));
    head[1] = mesa_redis_span(text);
    return rc;
}

static enum mesa_status write_command(struct mesa_redis_call *c)
{
    enum { INLINE_ARGS = 32 };
    struct mesa_span inline_args[INLINE_ARGS], *args = inline_args, head[3];
    struct mesa_buf text;
    size_t count;
    mesa_buf_init(&text);
    enum mesa_status rc = write_head(c, &text, head, &count);
    if (rc == MESA_OK && count + c->count > INLINE_ARGS) {
        args = calloc(count + c->count, sizeof *args);
        rc = args != NULL ? MESA_OK : MESA_ENOMEM;
    }
    if (rc == MESA_OK) {
        for (size_t i = 0; i < count; i++)
            args[i] = head[i];
        for (size_t i = 0; i < c->count; i++)
            args[count + i] = c->args[i];
        rc = mesa_redis_command(c->broker->commands, count + c->count, args, on_reply, c);
    }
    if (args != inline_args)
        free(args);
    mesa_buf_deinit(&text);
    return rc;
}

void mesa_redis_call_send(struct mesa_redis_call *c)
{
    c->broker->sent_bytes += c->bytes;
    if (write_command(c) != MESA_OK) {
        c->broker->sent_bytes -= c->bytes;
        finish(c, NULL);
    }
}

enum mesa_status mesa_redis_do(struct mesa_redis_broker *r, enum mesa_redis_script script,
                               const struct mesa_span *args, size_t count, mesa_redis_call_fn fn,
                               void *ctx)
{
    struct mesa_redis_call *c = mesa_redis_call_new(r, script, args, count, fn, ctx);
    if (c == NULL)
        return MESA_ENOMEM;
    mesa_redis_call_send(c);
    return MESA_OK;
}

bool mesa_redis_keep(struct mesa_redis_call *c)
{
    struct mesa_redis_broker *r = c->broker;
    if (r->kept_bytes + c->bytes > MESA_KEPT_BYTES) {
        free(c);
        return false;
    }
    r->kept_bytes += c->bytes;
    r->kept_messages += c->message;
    mesa_list_append(&r->kept, &c->link);
    return true;
}

void mesa_redis_send_kept(struct mesa_redis_broker *r)
{
    struct mesa_list kept;
    mesa_list_init(&kept);
    mesa_list_splice(&kept, &r->kept);
    r->kept_bytes = 0;
    r->kept_messages = 0;
    while (!mesa_list_empty(&kept)) {
        struct mesa_redis_call *c = MESA_CONTAINER_OF(kept.next, struct mesa_redis_call, link);
        mesa_list_remove(&c->link);
        if (c->script == MESA_SCRIPT_PART)
            mesa_redis_part_again(c);
        mesa_redis_call_send(c);
    }
}
