/* redis_part.c - users who leave while messages to them are on their way.
 *
 * A message that was published because its user was online may arrive when the connection is gone,
 * after others were stored because the user is offline. So that none is lost or out of order, a user
 * parts in two steps: the first script takes the user out and publishes a token to this node alone;
 * what arrives before the token was sent before; the second puts all that was not read in front of
 * what was stored since the first. In between nobody can take the user's messages (MESA_SCRIPT_TAKE).
 * Whoever comes and leaves again meanwhile parts once more, behind the first time.
 */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

#include "broker/redis_internal.h"

enum { ENTRY_LEN = MESA_INCARNATION_LEN + 24 };

struct parting {
    struct parting *next; /* of the same user, later */
    uint64_t token;
    bool seen, answered; /* the token came back on the channel, and as a reply */
    struct mesa_redis_parts parts;
    char entry[ENTRY_LEN]; /* "<incarnation>.<token>" */
    size_t id_len;
    char id[];
};

static void parting_free(struct parting *p)
{
    mesa_redis_parts_deinit(&p->parts);
    free(p);
}

static struct parting *first_of(struct mesa_redis_broker *r, struct mesa_span id)
{
    return mesa_map_get(r->partings, id.p, id.len);
}

static enum mesa_status add(struct mesa_redis_broker *r, struct mesa_span id, struct parting **out)
{
    struct parting *p = calloc(1, sizeof *p + id.len), *last = first_of(r, id);
    if (p == NULL)
        return MESA_ENOMEM;
    memcpy(p->id, id.p, id.len);
    p->id_len = id.len;
    p->token = ++r->token;
    snprintf(p->entry, sizeof p->entry, "%s.%" PRIu64, r->incarnation, p->token);
    while (last != NULL && last->next != NULL)
        last = last->next;
    if (last != NULL) {
        last->next = p;
    } else if (mesa_map_set(r->partings, id.p, id.len, p) != MESA_OK) {
        free(p);
        return MESA_ENOMEM;
    }
    *out = p;
    return MESA_OK;
}

/* Takes it out of its user's. */
static void take_out(struct mesa_redis_broker *r, struct parting *p)
{
    struct parting *first = mesa_map_get(r->partings, p->id, p->id_len);
    if (first != p) {
        while (first->next != p)
            first = first->next;
        first->next = p->next;
    } else if (p->next == NULL) {
        mesa_map_remove(r->partings, p->id, p->id_len);
    } else { /* in its place: this needs no memory */
        mesa_map_set(r->partings, p->id, p->id_len, p->next);
    }
}

static void finish(struct mesa_redis_broker *r, struct parting *p)
{
    take_out(r, p);
    mesa_redis_put_back_parts(r, (struct mesa_span){p->id, p->id_len}, p->entry, false, &p->parts);
    parting_free(p);
    mesa_redis_leave(r);
}

/* "<token> <user>"; NULL: no such parting. */
static struct parting *find_token(struct mesa_redis_broker *r, struct mesa_span text)
{
    const char *space = text.len > 0 ? memchr(text.p, ' ', text.len) : NULL;
    if (space == NULL)
        return NULL;
    uint64_t token = strtoull(text.p, NULL, 10);
    struct parting *p =
        first_of(r, (struct mesa_span){space + 1, text.len - (size_t)(space + 1 - text.p)});
    while (p != NULL && p->token != token)
        p = p->next;
    return p;
}

/* Both connections have to be past the script: one may still bring messages to the user, the other
 * what was taken for the user before. */
static void finish_if_past(struct mesa_redis_broker *r, struct parting *p)
{
    if (p->seen && p->answered)
        finish(r, p);
}

static void on_parted(struct mesa_redis_call *c, const struct mesa_redis_reply *reply)
{
    if (reply == NULL || c->broker->freeing)
        return; /* on_lost ends it */
    struct parting *p = find_token(c->broker, c->args[4]);
    if (p == NULL)
        return;
    p->answered = true;
    if (mesa_redis_reply_error(reply) != NULL)
        p->seen = true; /* nothing was published */
    finish_if_past(c->broker, p);
}

void mesa_redis_part(struct mesa_redis_broker *r, struct mesa_span id,
                     const struct mesa_backlog *unread, size_t count)
{
    struct mesa_buf text;
    struct parting *p = NULL;
    enum mesa_status rc = add(r, id, &p);
    mesa_buf_init(&text);
    if (rc == MESA_OK)
        rc = mesa_redis_parts_add(&p->parts, unread, count);
    if (rc == MESA_OK)
        rc = mesa_buf_printf(&text, "%" PRIu64 " ", p->token);
    if (rc == MESA_OK)
        rc = mesa_buf_append(&text, id.p, id.len);
    if (rc == MESA_OK) {
        const struct mesa_span args[] = {mesa_redis_text(r->incarnation), id,
                                         mesa_redis_text(p->entry),       mesa_redis_span(&r->own),
                                         mesa_redis_span(&text),          mesa_redis_text(r->node)};
        rc = mesa_redis_do(r, MESA_SCRIPT_PART, args, 6, on_parted, NULL);
    }
    if (rc != MESA_OK)
        mesa_redis_error(r, "MEMORY", "no memory to tell Redis that a user left");
    mesa_buf_deinit(&text);
}

bool mesa_redis_part_prepend(struct mesa_redis_broker *r, struct mesa_span id,
                             struct mesa_redis_parts *parts)
{
    struct parting *p = first_of(r, id);
    if (p == NULL)
        return false;
    if (mesa_redis_parts_prepend(&p->parts, parts) != MESA_OK)
        mesa_redis_error(r, "MEMORY", "no memory to put kept messages back");
    return true;
}

void mesa_redis_part_token(struct mesa_redis_broker *r, struct mesa_span text)
{
    struct parting *p = find_token(r, text);
    if (p == NULL)
        return;
    p->seen = true;
    finish_if_past(r, p);
}

/* Whether it was caught: it was sent before the user left, for the first time not seen yet. */
static bool catch_one(struct mesa_redis_broker *r, struct mesa_span id,
                      const struct mesa_envelope *e)
{
    struct parting *p = first_of(r, id);
    while (p != NULL && p->seen)
        p = p->next;
    if (p == NULL)
        return false;
    if (mesa_redis_parts_append(&p->parts, e) != MESA_OK)
        mesa_redis_error(r, "MEMORY", "a message to a user who has just left was lost");
    return true;
}

void mesa_redis_part_catch(struct mesa_redis_broker *r, struct mesa_cluster_message *m)
{
    if (!m->sync || m->everybody || mesa_map_count(r->partings) == 0)
        return;
    size_t kept = 0;
    for (size_t i = 0; i < m->recipients.count; i++) {
        if (!catch_one(r, m->recipients.at[i], &m->envelope))
            m->recipients.at[kept++] = m->recipients.at[i];
    }
    m->recipients.count = kept;
}

static struct parting *any(struct mesa_redis_broker *r)
{
    size_t cursor = 0, len;
    const char *id;
    void *value;
    return mesa_map_next(r->partings, &cursor, &id, &len, &value) ? value : NULL;
}

void mesa_redis_part_all(struct mesa_redis_broker *r)
{
    struct parting *p;
    while ((p = any(r)) != NULL)
        finish(r, p);
}

void mesa_redis_part_free(struct mesa_redis_broker *r)
{
    struct parting *p;
    while (r->partings != NULL && (p = any(r)) != NULL) {
        take_out(r, p);
        parting_free(p);
    }
    mesa_map_free(r->partings);
}
