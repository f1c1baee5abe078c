/* timing.c - the one timer of a client: heartbeats, deadlines, idleness and paced redelivery.
 *
 * Each of them is a due time; the timer is armed for the earliest. One timer instead of four keeps
 * an idle connection small.
 */
#include "server/internal.h"

enum { NEVER_MS = 0 };

static void earliest(uint64_t *due_ms, uint64_t candidate_ms)
{
    if (candidate_ms != NEVER_MS && (*due_ms == NEVER_MS || candidate_ms < *due_ms))
        *due_ms = candidate_ms;
}

static uint64_t idle_due_ms(const struct mesa_client *c)
{
    uint32_t idle_ms = c->server->cfg.limits.idle_timeout_ms;
    return idle_ms > 0 && !c->script_paused ? c->received_ms + idle_ms : NEVER_MS;
}

void mesa_client_timing_update(struct mesa_client *c)
{
    struct mesa_server *s = c->server;
    uint64_t due_ms = NEVER_MS, redelivery_ms;
    earliest(&due_ms, c->deadline_ms);
    if (!c->closed) {
        earliest(&due_ms, c->heartbeat_due_ms);
        earliest(&due_ms, idle_due_ms(c));
        if (mesa_redelivery_due(c, &redelivery_ms))
            earliest(&due_ms, redelivery_ms);
    }

    if (due_ms == NEVER_MS) {
        mesa_loop_cancel(s->loop, &c->timer);
    } else if (!mesa_timer_armed(&c->timer) || c->timer.due_ms != due_ms) {
        uint64_t now_ms = mesa_loop_now(s->loop);
        mesa_loop_arm(s->loop, &c->timer, due_ms > now_ms ? due_ms - now_ms : 0);
    }
}

static void send_heartbeat(struct mesa_client *c)
{
    struct mesa_server *s = c->server;
    struct mesa_heartbeat *hb = &c->state.heartbeat;
    uint32_t max = s->cfg.heartbeat.max_attempts;
    if (c->script_paused) /* its answers wait unread on our side */
        mesa_heartbeat_acknowledge(hb);
    enum mesa_heartbeat_action action = mesa_heartbeat_tick(hb, max);

    if (action == MESA_HEARTBEAT_CLOSE) {
        mesa_client_close(c, 4009, MESA_SPAN("heartbeats unanswered"), false);
        return;
    }
    if (action == MESA_HEARTBEAT_SEND || s->cfg.raw) {
        mesa_client_push(c, s->heartbeat);
        return;
    }

    struct mesa_buf d;
    struct mesa_frame *f = NULL;
    mesa_buf_init(&d);
    enum mesa_status rc = mesa_buf_printf(&d, "{\"tries\":%u,\"max\":%u}", hb->tries, max);
    if (rc == MESA_OK)
        rc = mesa_envelope_frame(
            &f, &(struct mesa_outgoing){.op = MESA_OP_HEARTBEAT, .d = {d.data, d.len}});
    if (rc == MESA_OK) {
        mesa_client_push(c, f);
        mesa_frame_unref(f);
    }
    mesa_buf_deinit(&d);
}

static void tick_heartbeat(struct mesa_client *c, uint64_t now_ms)
{
    uint32_t interval_ms = c->server->cfg.heartbeat.interval_ms;
    /* The phase is that of the connection's own begin; a loop that was busy for several intervals
     * ticks once. */
    c->heartbeat_due_ms += (1 + (now_ms - c->heartbeat_due_ms) / interval_ms) * interval_ms;
    send_heartbeat(c);
}

static void miss_deadline(struct mesa_client *c)
{
    if (c->closed && c->conn != NULL &&
        mesa_conn_is_read(c->conn)) { /* what was queued before the close still drains */
        c->deadline_ms = mesa_loop_now(c->server->loop) + MESA_CLOSE_LINGER_MS;
        return;
    }
    c->deadline_ms = NEVER_MS;
    if (c->closed) {
        mesa_client_finish_close(c);
        return;
    }
    c->server->metrics.auth_timeout++;
    mesa_server_report(c->server, c, "AUTH_TIMEOUT", "the client did not authenticate in time");
    mesa_client_close(c, 1008, MESA_SPAN("authentication timeout"), false);
}

static void on_timer(struct mesa_timer *t)
{
    struct mesa_client *c = MESA_CONTAINER_OF(t, struct mesa_client, timer);
    struct mesa_server *s = c->server;
    uint64_t now_ms = mesa_loop_now(s->loop);
    mesa_server_enter(s);
    mesa_client_ref(c);

    if (c->deadline_ms != NEVER_MS && c->deadline_ms <= now_ms)
        miss_deadline(c);
    if (!c->closed && idle_due_ms(c) != NEVER_MS && idle_due_ms(c) <= now_ms)
        mesa_client_close(c, 1008, MESA_SPAN("idle timeout"), false);
    if (!c->closed && c->heartbeat_due_ms != NEVER_MS && c->heartbeat_due_ms <= now_ms)
        tick_heartbeat(c, now_ms);
    if (!c->closed)
        mesa_redelivery_continue(c);
    if (c->server != NULL)
        mesa_client_timing_update(c);

    mesa_client_unref(c);
    mesa_server_leave(s);
}

void mesa_client_timing_init(struct mesa_client *c)
{
    struct mesa_server *s = c->server;
    mesa_timer_init(&c->timer, on_timer);
    c->received_ms = mesa_loop_now(s->loop);
    if (s->cfg.heartbeat.enabled)
        c->heartbeat_due_ms = c->received_ms + s->cfg.heartbeat.interval_ms;
    mesa_client_timing_update(c);
}
