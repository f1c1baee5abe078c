/* redis_presence.c - who is online where: incarnations, leases, users, the number of connections. */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

#include "broker/redis_internal.h"

enum { CHUNK = 500 /* users announced in one script */ };

static struct mesa_span incarnation(const struct mesa_redis_broker *r)
{
    return mesa_redis_text(r->incarnation);
}

/* The lease lives four ticks: a dead node is found at the fifth at the latest, when cfg.redis.lease
 * is over. */
static struct mesa_span lease(const struct mesa_redis_broker *r, char text[24])
{
    snprintf(text, 24, "%" PRIu32, r->cfg->redis.lease_ms / 5 * 4);
    return mesa_redis_text(text);
}

/* -- users and connections -- */

void mesa_redis_user_online(struct mesa_broker *b, struct mesa_span id)
{
    struct mesa_redis_broker *r = mesa_redis_self(b);
    const struct mesa_span args[] = {incarnation(r), id};
    enum mesa_status rc = mesa_map_set(r->users, id.p, id.len, r);
    if (rc == MESA_OK && r->up && r->cfg->authentication.store_connected_users)
        rc = mesa_redis_do(r, MESA_SCRIPT_ONLINE, args, 2, NULL, NULL);
    if (rc != MESA_OK) /* last: a hook may end the user */
        mesa_redis_error(r, "MEMORY", "no memory to tell Redis about a user");
}

void mesa_redis_user_offline(struct mesa_broker *b, struct mesa_span id,
                             const struct mesa_backlog *unread)
{
    struct mesa_redis_broker *r = mesa_redis_self(b);
    mesa_map_remove(r->users, id.p, id.len);
    if (r->cfg->sync.enabled || (r->up && r->cfg->authentication.store_connected_users))
        mesa_redis_part(r, id, true, unread);
}

void mesa_redis_connected(struct mesa_broker *b)
{
    struct mesa_redis_broker *r = mesa_redis_self(b);
    r->connections++;
    r->uncounted++;
}

void mesa_redis_disconnected(struct mesa_broker *b)
{
    struct mesa_redis_broker *r = mesa_redis_self(b);
    r->connections--;
    r->uncounted--;
}

void mesa_redis_presence_count(struct mesa_redis_broker *r)
{
    char delta[24];
    if (!r->up || r->uncounted == 0)
        return;
    snprintf(delta, sizeof delta, "%" PRId64, r->uncounted);
    const struct mesa_span args[] = {incarnation(r), mesa_redis_text(delta)};
    if (mesa_redis_do(r, MESA_SCRIPT_COUNT, args, 2, NULL, NULL) == MESA_OK)
        r->uncounted = 0; /* without memory the next turn tries again */
}

/* -- incarnations -- */

static enum mesa_status announce_users(struct mesa_redis_broker *r)
{
    struct mesa_span args[CHUNK + 1] = {incarnation(r)};
    size_t cursor = 0, count = 1;
    const char *id;
    size_t len;
    void *value;
    enum mesa_status rc = MESA_OK;
    if (!r->cfg->authentication.store_connected_users)
        return rc;
    while (rc == MESA_OK && mesa_map_next(r->users, &cursor, &id, &len, &value)) {
        args[count++] = (struct mesa_span){id, len};
        if (count == CHUNK + 1) {
            rc = mesa_redis_do(r, MESA_SCRIPT_ONLINE, args, count, NULL, NULL);
            count = 1;
        }
    }
    if (rc == MESA_OK && count > 1)
        rc = mesa_redis_do(r, MESA_SCRIPT_ONLINE, args, count, NULL, NULL);
    return rc;
}

static void on_finished(struct mesa_redis_call *c, const struct mesa_redis_reply *reply)
{
    struct mesa_redis_broker *r = c->broker;
    if (reply == NULL || mesa_redis_reply_error(reply) != NULL)
        return;
    r->earlier_count = 0;
    mesa_redis_report_changes(r, reply);
}

static void forget_oldest(struct mesa_redis_broker *r)
{
    if (r->earlier_count < MESA_INCARNATIONS_KEPT)
        return;
    memmove(r->earlier[0], r->earlier[1], sizeof r->earlier - sizeof r->earlier[0]);
    r->earlier_count--;
}

static enum mesa_status restore(struct mesa_redis_broker *r)
{
    char ttl[24], connections[24];
    const struct mesa_span begin[] = {incarnation(r), lease(r, ttl)};
    enum mesa_status rc = mesa_redis_do(r, MESA_SCRIPT_BEGIN, begin, 2, NULL, NULL);
    if (rc == MESA_OK)
        rc = announce_users(r);
    if (rc != MESA_OK)
        return rc;

    struct mesa_redis_bounds bounds;
    struct mesa_span finish[5 + MESA_INCARNATIONS_KEPT] = {incarnation(r)};
    size_t count = 5;
    mesa_redis_write_bounds(r, &bounds);
    mesa_redis_put_bounds(&bounds, &finish[2]);
    snprintf(connections, sizeof connections, "%" PRId64, r->connections);
    finish[1] = mesa_redis_text(connections);
    for (size_t i = 0; i < r->earlier_count; i++)
        finish[count++] = mesa_redis_text(r->earlier[i]);
    r->uncounted = 0;
    return mesa_redis_do(r, MESA_SCRIPT_FINISH, finish, count, on_finished, NULL);
}

void mesa_redis_presence_restore(struct mesa_redis_broker *r)
{
    if (r->incarnation[0] != '\0') {
        forget_oldest(r);
        memcpy(r->earlier[r->earlier_count++], r->incarnation, sizeof r->incarnation);
    }
    snprintf(r->incarnation, sizeof r->incarnation, "%s%c%u", r->node,
             r->cfg->sync.enabled ? '+' : '-', ++r->number);
    if (restore(r) != MESA_OK)
        mesa_redis_error(r, "MEMORY", "no memory to announce this node's users");
    mesa_redis_presence_tend(r);
}

/* -- leases -- */

static void on_tended(struct mesa_redis_call *c, const struct mesa_redis_reply *reply)
{
    struct mesa_redis_broker *r = c->broker;
    if (reply == NULL || mesa_redis_reply_count(reply) < 3 || r->closing)
        return;
    mesa_redis_report_changes(r, reply);
    int64_t state = mesa_redis_reply_integer(mesa_redis_reply_element(reply, 0));
    if (!mesa_span_eq(c->args[0], incarnation(r)))
        return;      /* asked for an earlier one */
    if (state < 0) { /* others took this node for dead, or the data were lost */
        mesa_redis_presence_restore(r);
        r->base.hooks.on_available(r->base.hooks_ctx, true);
    } else if (state > 0) {
        mesa_redis_presence_tend(r);
    }
}

void mesa_redis_presence_tend(struct mesa_redis_broker *r)
{
    char ttl[24];
    struct mesa_redis_bounds bounds;
    struct mesa_span args[5] = {incarnation(r), lease(r, ttl)};
    mesa_redis_write_bounds(r, &bounds);
    mesa_redis_put_bounds(&bounds, &args[2]);
    if (mesa_redis_do(r, MESA_SCRIPT_TEND, args, 5, on_tended, NULL) != MESA_OK)
        mesa_redis_error(r, "MEMORY", "no memory to refresh the lease in Redis");
}
