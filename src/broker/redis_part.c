/* redis_part.c - users who leave while messages to them are on their way.
 *
 * A message that was published because its user was online may arrive when the connection is gone,
 * after others were stored because the user is offline. So that none is lost or out of order, a user
 * parts in two steps: the first script takes the user out and publishes a token to this node alone;
 * what arrives before the token was sent before; the second puts all that was not read in front of
 * what was stored. In between nobody can take the user's messages (MESA_SCRIPT_TAKE).
 */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

#include "broker/redis_internal.h"

struct parting {
    uint64_t token;              /* the latest: a user may come and leave again meanwhile */
    uint64_t seen, answered;     /* the latest that came back on the channel, and as a reply */
    struct mesa_buf json, times; /* what was not read, as put_back_written takes it */
    char incarnation[MESA_INCARNATION_LEN + 1];
    size_t id_len;
    char id[];
};

static void parting_free(struct parting *p)
{
    mesa_buf_deinit(&p->json);
    mesa_buf_deinit(&p->times);
    free(p);
}

static struct parting *find_or_add(struct mesa_redis_broker *r, struct mesa_span id)
{
    struct parting *p = mesa_map_get(r->partings, id.p, id.len);
    if (p != NULL)
        return p;
    p = calloc(1, sizeof *p + id.len);
    if (p == NULL)
        return NULL;
    memcpy(p->id, id.p, id.len);
    p->id_len = id.len;
    memcpy(p->incarnation, r->incarnation, sizeof p->incarnation);
    if (mesa_map_set(r->partings, id.p, id.len, p) == MESA_OK)
        return p;
    free(p);
    return NULL;
}

static void finish(struct mesa_redis_broker *r, struct parting *p)
{
    mesa_map_remove(r->partings, p->id, p->id_len);
    mesa_redis_put_back_written(r, (struct mesa_span){p->id, p->id_len}, mesa_redis_span(&p->json),
                                mesa_redis_span(&p->times), mesa_redis_text(p->incarnation));
    parting_free(p);
    mesa_redis_leave(r);
}

static enum mesa_status separate(struct parting *p)
{
    return p->json.len > 0 ? mesa_buf_push(&p->json, ',') : MESA_OK;
}

/* "<token> <user>"; NULL: nobody of this name parts. */
static struct parting *find_token(struct mesa_redis_broker *r, struct mesa_span text,
                                  uint64_t *token)
{
    const char *space = text.len > 0 ? memchr(text.p, ' ', text.len) : NULL;
    if (space == NULL)
        return NULL; /* not from this node */
    struct mesa_span id = {space + 1, text.len - (size_t)(space + 1 - text.p)};
    *token = strtoull(text.p, NULL, 10);
    return mesa_map_get(r->partings, id.p, id.len);
}

/* Both connections have to be past the script: one may still bring messages to the user, the other
 * what was taken for the user before. */
static void finish_if_past(struct mesa_redis_broker *r, struct parting *p)
{
    if (p->seen == p->token && p->answered == p->token)
        finish(r, p);
}

static void on_parted(struct mesa_redis_call *c, const struct mesa_redis_reply *reply)
{
    uint64_t token;
    struct parting *p = find_token(c->broker, c->args[3], &token);
    if (p == NULL || reply == NULL || c->broker->freeing)
        return; /* without a reply on_lost ends it */
    p->answered = token;
    if (mesa_redis_reply_error(reply) != NULL)
        p->seen = token; /* nothing was published */
    finish_if_past(c->broker, p);
}

void mesa_redis_part(struct mesa_redis_broker *r, struct mesa_span id,
                     const struct mesa_backlog *unread)
{
    char token[24];
    struct mesa_buf text;
    struct parting *p = find_or_add(r, id);
    enum mesa_status rc = p != NULL ? MESA_OK : MESA_ENOMEM;
    mesa_buf_init(&text);
    if (rc == MESA_OK && unread->count > 0)
        rc = separate(p);
    if (rc == MESA_OK)
        rc = mesa_redis_write_backlog(unread, &p->json, &p->times);
    if (rc == MESA_OK) {
        p->token = ++r->parting_token;
        snprintf(token, sizeof token, "%" PRIu64 " ", p->token);
        rc = mesa_buf_printf(&text, "%s", token);
    }
    if (rc == MESA_OK)
        rc = mesa_buf_append(&text, id.p, id.len);
    const struct mesa_span args[] = {mesa_redis_text(r->incarnation), id, mesa_redis_span(&r->own),
                                     mesa_redis_span(&text)};
    if (rc == MESA_OK)
        rc = mesa_redis_do(r, MESA_SCRIPT_PART, args, 4, on_parted, NULL);
    if (rc != MESA_OK)
        mesa_redis_error(r, "MEMORY", "no memory to tell Redis that a user left");
    mesa_buf_deinit(&text);
}

static enum mesa_status prepend(struct mesa_buf *to, struct mesa_span text, const char *separator)
{
    struct mesa_buf both;
    mesa_buf_init(&both);
    enum mesa_status rc = mesa_buf_append(&both, text.p, text.len);
    if (rc == MESA_OK && to->len > 0)
        rc = mesa_buf_printf(&both, "%s", separator);
    if (rc == MESA_OK && to->len > 0)
        rc = mesa_buf_append(&both, to->data, to->len);
    if (rc != MESA_OK) {
        mesa_buf_deinit(&both);
        return rc;
    }
    mesa_buf_deinit(to);
    *to = both;
    return MESA_OK;
}

bool mesa_redis_part_prepend(struct mesa_redis_broker *r, struct mesa_span id,
                             struct mesa_span json, struct mesa_span times)
{
    struct parting *p = mesa_map_get(r->partings, id.p, id.len);
    if (p == NULL)
        return false;
    if (prepend(&p->json, json, ",") != MESA_OK || prepend(&p->times, times, "") != MESA_OK)
        mesa_redis_error(r, "MEMORY", "no memory to put kept messages back");
    return true;
}

void mesa_redis_part_token(struct mesa_redis_broker *r, struct mesa_span text)
{
    uint64_t token;
    struct parting *p = find_token(r, text, &token);
    if (p == NULL)
        return;
    p->seen = token;
    finish_if_past(r, p);
}

/* Whether it was caught. */
static bool catch_one(struct mesa_redis_broker *r, struct mesa_span id,
                      const struct mesa_envelope *e)
{
    struct parting *p = mesa_map_get(r->partings, id.p, id.len);
    if (p == NULL)
        return false;
    enum mesa_status rc = separate(p);
    if (rc == MESA_OK)
        rc = mesa_redis_write_envelope(&p->json, e);
    if (rc == MESA_OK)
        rc = mesa_buf_printf(&p->times, "%013d", 0);
    if (rc != MESA_OK)
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
        mesa_map_remove(r->partings, p->id, p->id_len);
        parting_free(p);
    }
    mesa_map_free(r->partings);
}
