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

/* What the map has for a user: whether Redis is known not to have taken it. */
static char taken_mark, refused_mark;

static void mark(struct mesa_redis_broker *r, struct mesa_span id, char *as)
{
    void *is = mesa_map_get(r->users, id.p, id.len);
    if (is == NULL || is == as)
        return; /* it has left meanwhile */
    if (mesa_map_set(r->users, id.p, id.len, as) != MESA_OK)
        return;
    r->refused_users += as == &refused_mark ? 1 : -(size_t)1;
}

enum { ONLINE_IDS = 2 }; /* the first of them among the arguments */

static void on_online(struct mesa_redis_call *c, const struct mesa_redis_reply *reply)
{
    struct mesa_redis_broker *r = c->broker;
    if (reply == NULL || r->freeing || !mesa_span_eq(c->args[0], incarnation(r)))
        return; /* the next incarnation has them all */
    bool refused = mesa_redis_refused(r, reply);
    for (size_t i = ONLINE_IDS; i < c->count; i++)
        mark(r, c->args[i], refused ? &refused_mark : &taken_mark);
}

static enum mesa_status announce(struct mesa_redis_broker *r, struct mesa_span *args, size_t count,
                                 bool exactly)
{
    args[0] = incarnation(r);
    args[1] = exactly ? MESA_SPAN("1") : MESA_SPAN("0");
    return mesa_redis_do(r, MESA_SCRIPT_ONLINE, args, count, on_online, NULL);
}

void mesa_redis_user_online(struct mesa_broker *b, struct mesa_span id)
{
    struct mesa_redis_broker *r = mesa_redis_self(b);
    struct mesa_span args[] = {{NULL, 0}, {NULL, 0}, id};
    enum mesa_status rc = MESA_OK;
    if (mesa_map_get(r->users, id.p, id.len) == NULL)
        rc = mesa_map_set(r->users, id.p, id.len, &taken_mark);
    if (rc == MESA_OK && r->up && r->cfg->authentication.store_connected_users)
        rc = announce(r, args, 3, false);
    if (rc != MESA_OK) /* last: a hook may end the user */
        mesa_redis_error(r, "MEMORY", "no memory to tell Redis about a user");
}

void mesa_redis_user_offline(struct mesa_broker *b, struct mesa_span id,
                             const struct mesa_backlog *unread)
{
    struct mesa_redis_broker *r = mesa_redis_self(b);
    mark(r, id, &taken_mark);
    mesa_map_remove(r->users, id.p, id.len);
    if (r->cfg->sync.enabled || (r->up && r->cfg->authentication.store_connected_users))
        mesa_redis_part(r, id, true, unread);
}

void mesa_redis_connected(struct mesa_broker *b)
{
    mesa_redis_self(b)->connections++;
}

void mesa_redis_disconnected(struct mesa_broker *b)
{
    mesa_redis_self(b)->connections--;
}

static struct mesa_span number(int64_t n, char text[24])
{
    snprintf(text, 24, "%" PRId64, n);
    return mesa_redis_text(text);
}

static void on_counted(struct mesa_redis_call *c, const struct mesa_redis_reply *reply)
{
    if (reply != NULL && mesa_redis_refused(c->broker, reply))
        c->broker->count_refused = true;
}

void mesa_redis_presence_count(struct mesa_redis_broker *r)
{
    char now[24], before[24];
    if (!r->up || r->connections == r->counted || r->count_refused)
        return;
    const struct mesa_span args[] = {incarnation(r), number(r->connections, now),
                                     number(r->counted, before)};
    if (mesa_redis_do(r, MESA_SCRIPT_COUNT, args, 3, on_counted, NULL) == MESA_OK)
        r->counted = r->connections; /* without memory the next turn tries again */
}

/* How many users Redis is to have of this node. */
static int64_t user_count(const struct mesa_redis_broker *r)
{
    return r->cfg->authentication.store_connected_users ? (int64_t)mesa_map_count(r->users) : 0;
}

/* -- incarnations -- */

/* All users, or those that were refused. */
static enum mesa_status announce_users(struct mesa_redis_broker *r, bool refused_only, bool exactly)
{
    struct mesa_span args[CHUNK + ONLINE_IDS];
    size_t cursor = 0, count = ONLINE_IDS;
    const char *id;
    size_t len;
    void *value;
    enum mesa_status rc = MESA_OK;
    if (!r->cfg->authentication.store_connected_users)
        return rc;
    while (rc == MESA_OK && mesa_map_next(r->users, &cursor, &id, &len, &value)) {
        if (refused_only && value != &refused_mark)
            continue;
        args[count++] = (struct mesa_span){id, len};
        if (count == CHUNK + ONLINE_IDS) {
            rc = announce(r, args, count, exactly);
            count = ONLINE_IDS;
        }
    }
    if (rc == MESA_OK && count > ONLINE_IDS)
        rc = announce(r, args, count, exactly);
    return rc;
}

void mesa_redis_presence_repeat(struct mesa_redis_broker *r)
{
    if (r->refused_users > 0 && announce_users(r, true, false) != MESA_OK)
        mesa_redis_error(r, "MEMORY", "no memory to announce this node's users");
}

static void on_begun(struct mesa_redis_call *c, const struct mesa_redis_reply *reply)
{
    if (reply != NULL)
        mesa_redis_refused(c->broker, reply);
}

static void on_finished(struct mesa_redis_call *c, const struct mesa_redis_reply *reply)
{
    struct mesa_redis_broker *r = c->broker;
    if (reply == NULL || r->freeing || !mesa_span_eq(c->args[0], incarnation(r)) ||
        mesa_redis_refused(r, reply))
        return;
    r->earlier_count = 0;
    r->announced = true;
    mesa_redis_report_changes(r, reply);
}

static void forget_oldest(struct mesa_redis_broker *r)
{
    if (r->earlier_count < MESA_INCARNATIONS_KEPT)
        return;
    memmove(r->earlier[0], r->earlier[1], sizeof r->earlier - sizeof r->earlier[0]);
    r->earlier_count--;
}

static enum mesa_status restore(struct mesa_redis_broker *r, bool exactly)
{
    char ttl[24], connections[24], users[24];
    const struct mesa_span begin[] = {incarnation(r), lease(r, ttl)};
    enum mesa_status rc = mesa_redis_do(r, MESA_SCRIPT_BEGIN, begin, 2, on_begun, NULL);
    if (rc == MESA_OK)
        rc = announce_users(r, false, exactly);
    if (rc != MESA_OK)
        return rc;

    struct mesa_redis_bounds bounds;
    struct mesa_span finish[6 + MESA_INCARNATIONS_KEPT] = {incarnation(r)};
    size_t count = 6;
    mesa_redis_write_bounds(r, &bounds);
    mesa_redis_put_bounds(&bounds, &finish[2]);
    finish[1] = number(r->connections, connections);
    finish[5] = number(user_count(r), users);
    for (size_t i = 0; i < r->earlier_count; i++)
        finish[count++] = mesa_redis_text(r->earlier[i]);
    r->counted = r->connections;
    return mesa_redis_do(r, MESA_SCRIPT_FINISH, finish, count, on_finished, NULL);
}

/* One that was refused in part is announced again as the same. */
void mesa_redis_presence_restore(struct mesa_redis_broker *r, bool exactly)
{
    if (r->announced || r->incarnation[0] == '\0' || !r->up) {
        if (r->incarnation[0] != '\0') {
            forget_oldest(r);
            memcpy(r->earlier[r->earlier_count++], r->incarnation, sizeof r->incarnation);
        }
        snprintf(r->incarnation, sizeof r->incarnation, "%s%c%u", r->node,
                 r->cfg->sync.enabled ? '+' : '-', ++r->number);
    }
    r->announced = false;
    r->count_refused = false;
    if (restore(r, exactly) != MESA_OK)
        mesa_redis_error(r, "MEMORY", "no memory to announce this node's users");
    mesa_redis_presence_tend(r);
}

/* -- leases -- */

static void on_tended(struct mesa_redis_call *c, const struct mesa_redis_reply *reply)
{
    struct mesa_redis_broker *r = c->broker;
    if (reply == NULL || r->freeing || r->closing || mesa_redis_refused(r, reply) ||
        mesa_redis_reply_count(reply) < 3)
        return;
    if (mesa_redis_reply_count(reply) > 3)
        mesa_redis_note_surplus(r, mesa_redis_reply_integer(mesa_redis_reply_element(reply, 3)));
    mesa_redis_report_changes(r, reply);
    int64_t state = mesa_redis_reply_integer(mesa_redis_reply_element(reply, 0));
    if (!mesa_span_eq(c->args[0], incarnation(r)))
        return; /* asked for an earlier one */
    if (!r->announced) {
        mesa_redis_heal_later(r); /* a part of it was refused */
    } else if (state < 0 || (state == 2 && r->refused_users == 0)) {
        /* others took this node for dead, or data were lost */
        mesa_redis_presence_restore(r, true);
        r->base.hooks.on_available(r->base.hooks_ctx, true);
    } else if (state == 1) {
        mesa_redis_presence_tend(r);
    } else if (state == 0) {
        mesa_redis_tended(r);
    }
}

void mesa_redis_presence_tend(struct mesa_redis_broker *r)
{
    char ttl[24], connections[24], counted[24], users[24], surplus[24];
    struct mesa_redis_bounds bounds;
    struct mesa_span args[10] = {incarnation(r), lease(r, ttl)};
    mesa_redis_write_bounds(r, &bounds);
    mesa_redis_put_bounds(&bounds, &args[2]);
    args[5] = number(r->connections, connections);
    args[6] = number(r->counted, counted);
    args[7] = number(user_count(r), users);
    args[8] = mesa_redis_ready(r->subscriber) ? MESA_SPAN("1") : MESA_SPAN("0");
    args[9] = number(mesa_redis_surplus(r), surplus);
    r->counted = r->connections;
    if (mesa_redis_do(r, MESA_SCRIPT_TEND, args, 10, on_tended, NULL) != MESA_OK)
        mesa_redis_error(r, "MEMORY", "no memory to refresh the lease in Redis");
}
