/* redis_handover.c - which server has the newest connection of a user, and so answers for what was
 * not received.
 *
 * Everybody hears of it in the same place between the messages, so that each message to a user is
 * one server's affair, even while the user has connections at several.
 */
#include <stdio.h>
#include <stdlib.h>

#include "broker/redis_internal.h"

/* Takes the first word off the text; empty when there is none. */
static struct mesa_span next_word(struct mesa_span *text)
{
    const char *space = text->len > 0 ? memchr(text->p, ' ', text->len) : NULL;
    struct mesa_span word = {text->p, space != NULL ? (size_t)(space - text->p) : text->len};
    size_t used = space != NULL ? word.len + 1 : word.len;
    text->p += used;
    text->len -= used;
    return word;
}

/* Node ids are random: a part tells them apart. */
static uint64_t number_of(struct mesa_span node)
{
    uint64_t number = 0;
    for (size_t i = 0; i < node.len && i < 10; i++)
        number = number * 61 + (unsigned char)node.p[i];
    return number | 1;
}

/* A node takes what is kept for a user: it has the newest connection. */
static void on_take(struct mesa_redis_broker *r, struct mesa_span node, struct mesa_span asked,
                    struct mesa_span request, struct mesa_span id)
{
    const struct mesa_broker_hooks *hooks = &r->base.hooks;
    if (mesa_span_eq(node, mesa_redis_text(r->node)))
        hooks->on_returned(r->base.hooks_ctx, id, 0);
    else
        hooks->on_hand_over(r->base.hooks_ctx, id, number_of(node), strtoull(asked.p, NULL, 10),
                            request);
}

void mesa_redis_handover_news(struct mesa_redis_broker *r, struct mesa_span text)
{
    const struct mesa_span nobody = {NULL, 0};
    struct mesa_span what = next_word(&text), node = next_word(&text);
    bool own = mesa_span_eq(node, mesa_redis_text(r->node));
    if (mesa_span_eq(what, MESA_SPAN("take"))) {
        struct mesa_span asked = next_word(&text), request = next_word(&text);
        if (text.len > 0)
            on_take(r, node, asked, request, text);
    } else if (mesa_span_eq(what, MESA_SPAN("parted")) && !own) {
        r->base.hooks.on_returned(r->base.hooks_ctx, text, number_of(node));
    } else if (mesa_span_eq(what, MESA_SPAN("gone")) && !own) {
        r->base.hooks.on_returned(r->base.hooks_ctx, nobody, number_of(node));
    }
}

void mesa_redis_hand_over(struct mesa_broker *b, struct mesa_span id, struct mesa_span request,
                          const struct mesa_backlog *unread, size_t count, bool more)
{
    struct mesa_redis_broker *r = mesa_redis_self(b);
    struct mesa_redis_parts parts = {NULL, 0};
    char entry[MESA_INCARNATION_LEN + 64];
    snprintf(entry, sizeof entry, "%s.%.*s", r->incarnation, (int)request.len, request.p);
    if (mesa_redis_parts_add(&parts, unread, count) != MESA_OK)
        mesa_redis_error(r, "MEMORY", "no memory to hand over unread messages");
    mesa_redis_put_back_parts(r, id, entry, more, &parts);
    mesa_redis_parts_deinit(&parts);
}
