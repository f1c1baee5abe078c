/* redis_heal.c - what Redis refuses is repeated, what it has lost is found.
 *
 * A Redis that is full, read-only or busy refuses single steps: who came and went, how many connections
 * there are. They are repeated, more slowly each time, until it takes them. Whole keys go by eviction or
 * by hand: each refresh of the lease compares numbers and a sample (MESA_SCRIPT_TEND), and announces
 * everything anew when they differ; a slow audit looks at every single user.
 */
#include <stdio.h>

#include "broker/redis_internal.h"

enum { FIRST_MS = 100 };

/* What went back and was refused goes again. Who has returned since then is not taken out. */
static void on_heal(struct mesa_timer *t)
{
    struct mesa_redis_broker *r = MESA_CONTAINER_OF(t, struct mesa_redis_broker, heal);
    if (!r->up || r->closing)
        return; /* all is announced when Redis is back */
    mesa_redis_send_kept(r);
    mesa_redis_presence_repeat(r);
    r->count_refused = false;
    if (r->announced)
        mesa_redis_presence_tend(r);
    else
        mesa_redis_presence_restore(r, true);
}

void mesa_redis_heal_init(struct mesa_redis_broker *r)
{
    mesa_timer_init(&r->heal, on_heal);
    r->heal_ms = FIRST_MS;
    for (size_t i = 0; i < 2; i++)
        snprintf(r->cursors[i], sizeof r->cursors[i], "0");
}

void mesa_redis_heal_later(struct mesa_redis_broker *r)
{
    uint32_t most_ms = r->cfg->redis.lease_ms / 5;
    if (r->closing || r->freeing || mesa_timer_armed(&r->heal))
        return;
    mesa_loop_arm(r->loop, &r->heal, r->heal_ms);
    r->heal_ms = r->heal_ms * 2 < most_ms ? r->heal_ms * 2 : most_ms;
}

bool mesa_redis_refused(struct mesa_redis_broker *r, const struct mesa_redis_reply *reply)
{
    if (mesa_redis_reply_error(reply) == NULL)
        return false;
    struct mesa_span why = mesa_redis_reply_string(reply);
    size_t most = sizeof r->refusal - 1;
    snprintf(r->refusal, sizeof r->refusal, "%.*s", (int)(why.len < most ? why.len : most), why.p);
    mesa_redis_heal_later(r);
    return true;
}

void mesa_redis_healed(struct mesa_redis_broker *r)
{
    r->refusal[0] = '\0';
    r->heal_ms = FIRST_MS;
    r->take_refused = false;
}

/* What may only write need not be allowed to take: the pauses go on growing until that is known. */
void mesa_redis_tended(struct mesa_redis_broker *r)
{
    uint32_t heal_ms = r->heal_ms;
    bool take_refused = r->take_refused;
    mesa_redis_healed(r);
    if (!take_refused)
        return;
    r->heal_ms = heal_ms;
    r->base.hooks.on_healed(r->base.hooks_ctx);
}

/* -- connections too many -- */

void mesa_redis_note_surplus(struct mesa_redis_broker *r, int64_t surplus)
{
    if (surplus == r->surplus)
        return;
    r->surplus = surplus;
    r->surplus_since_ms = mesa_loop_now(r->loop);
}

/* Those of a server that has died are its own until its lease is over. */
int64_t mesa_redis_surplus(const struct mesa_redis_broker *r)
{
    bool lasts = mesa_loop_now(r->loop) - r->surplus_since_ms > r->cfg->redis.lease_ms;
    return lasts ? r->surplus : 0;
}

/* -- the audit -- */

static void on_audited(struct mesa_redis_call *c, const struct mesa_redis_reply *reply)
{
    struct mesa_redis_broker *r = c->broker;
    if (reply == NULL || r->freeing || mesa_redis_reply_count(reply) < 3)
        return;
    const struct mesa_redis_reply *cursors = mesa_redis_reply_element(reply, 0);
    for (size_t i = 0; i < 2 && i < mesa_redis_reply_count(cursors); i++) {
        struct mesa_span at = mesa_redis_reply_string(mesa_redis_reply_element(cursors, i));
        snprintf(r->cursors[i], sizeof r->cursors[i], "%.*s", (int)at.len, at.p);
    }
    mesa_redis_report_changes(r, reply);
}

void mesa_redis_audit(struct mesa_redis_broker *r)
{
    struct mesa_redis_bounds bounds;
    struct mesa_span args[6] = {mesa_redis_text(r->incarnation), mesa_redis_text(r->cursors[0]),
                                mesa_redis_text(r->cursors[1])};
    if (!r->announced || !r->cfg->authentication.store_connected_users)
        return;
    mesa_redis_write_bounds(r, &bounds);
    mesa_redis_put_bounds(&bounds, &args[3]);
    mesa_redis_do(r, MESA_SCRIPT_AUDIT, args, 6, on_audited, NULL); /* the next tick tries again */
}
