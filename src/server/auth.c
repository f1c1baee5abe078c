/* auth.c - who a client is: checks, updates, presence (PROTOCOL 5). */
#include "base/utf8.h"
#include "server/internal.h"

enum { ID_MAX = 512 };

/* "*" would be a user whose messages reach everybody. */
static bool valid_id(struct mesa_span id)
{
    return id.len >= 1 && id.len <= ID_MAX && !mesa_span_eq(id, MESA_SPAN("*")) &&
           mesa_utf8_valid(id.p, id.len);
}

/* Gives the client an id. The new one is announced before the old one goes: nobody sees the user
 * absent. */
static enum mesa_status become(struct mesa_client *c, struct mesa_span id)
{
    struct mesa_server *s = c->server;
    struct mesa_registry_change change;
    enum mesa_status rc = mesa_registry_join(s->registry, &c->entry, id, &change);
    if (rc != MESA_OK)
        return rc;
    if (change.came_online)
        s->broker->ops->user_online(s->broker, id);
    if (change.before.p != NULL) {
        mesa_redelivery_stop(c);
        mesa_unread_reset(c);
    }
    const struct mesa_backlog nothing = {0};
    if (change.went_offline)
        s->broker->ops->user_offline(s->broker, change.before, &nothing);
    else if (change.before.p != NULL)
        s->broker->ops->put_back(s->broker, change.before, &nothing);
    return MESA_OK;
}

void mesa_client_leave_user(struct mesa_client *c, bool vanished)
{
    struct mesa_server *s = c->server;
    struct mesa_registry_change change;
    struct mesa_unread_list unread;
    if (mesa_unread_list_init(&unread, c, vanished) != MESA_OK)
        mesa_server_report(s, NULL, "MEMORY", "unread messages were lost on their way back");
    bool unfinished = c->redelivery != NULL || c->fetching > 0;
    mesa_registry_leave(s->registry, &c->entry, &change);
    if (change.went_offline)
        s->broker->ops->user_offline(s->broker, mesa_client_id(c), &unread.backlog);
    else if (change.before.p != NULL && (unread.backlog.count > 0 || unfinished))
        s->broker->ops->put_back(s->broker, mesa_client_id(c), &unread.backlog);
    mesa_redelivery_forget(c, vanished);
    mesa_unread_list_deinit(&unread);
    mesa_unread_free(c);
}

static void set_deadline(struct mesa_client *c, uint64_t deadline_ms)
{
    c->deadline_ms = deadline_ms;
    mesa_client_timing_update(c);
}

void mesa_client_set_authenticator(struct mesa_client *c, bool present)
{
    if (c->closed)
        return;
    uint32_t timeout_ms = c->server->cfg.authentication.timeout_ms;
    c->state.authenticator = present;
    if (!present)
        set_deadline(c, 0);
    else if (!c->state.authenticated && timeout_ms > 0 && c->deadline_ms == 0)
        set_deadline(c, mesa_loop_now(c->server->loop) + timeout_ms);
}

static void announce(struct mesa_client *c)
{
    struct mesa_server *s = c->server;
    s->metrics.auth_accepted++;
    set_deadline(c, 0);
    mesa_server_tell_portal(c, MESA_PORTAL_AUTHENTICATION, NULL);
    if (s->hooks.on_authenticated != NULL)
        s->hooks.on_authenticated(s->ctx, c);
}

static enum mesa_status accept_check(struct mesa_client *c, uint32_t check, struct mesa_span id,
                                     struct mesa_span user_json)
{
    struct mesa_server *s = c->server;
    struct mesa_frame *f;
    const struct mesa_outgoing answer = {
        .op = MESA_OP_AUTHENTICATED,
        .d = s->cfg.authentication.send_user_object ? user_json : MESA_SPAN("{}"),
    };
    enum mesa_status rc = mesa_envelope_frame(&f, &answer);
    if (rc != MESA_OK)
        return rc;
    rc = become(c, id);
    if (rc == MESA_OK) {
        mesa_client_state_answer(&c->state, check, true);
        enum mesa_take_mode mode = c->state.should_sync ? MESA_TAKE : MESA_TAKE_DROP;
        bool early =
            s->confirm != NULL; /* it is answered later; what announce sends comes behind it */
        mesa_client_push(c, f);
        if (!c->closed && early)
            mesa_redelivery_begin(c, mode);
        if (!c->closed)
            announce(c);
        if (!c->closed && !early)
            mesa_redelivery_begin(c, mode);
    }
    mesa_frame_unref(f);
    return rc;
}

enum mesa_status mesa_client_accept(struct mesa_client *c, uint32_t check, struct mesa_span id,
                                    struct mesa_span user_json)
{
    if (c->closed)
        return MESA_ECLOSED;
    if (c->server->cfg.raw)
        return mesa_client_update(c, id);
    if (!mesa_client_state_is_checking(&c->state, check))
        return MESA_ECLOSED;
    if (!valid_id(id))
        return MESA_EINVAL;

    struct mesa_server *s = c->server;
    mesa_server_enter(s);
    mesa_client_ref(c);
    mesa_client_settle(c); /* as what it was */
    enum mesa_status rc = c->closed ? MESA_ECLOSED : accept_check(c, check, id, user_json);
    mesa_client_unref(c);
    mesa_server_leave(s);
    return rc;
}

enum mesa_status mesa_client_refuse(struct mesa_client *c, uint32_t check)
{
    if (c->closed || !mesa_client_state_answer(&c->state, check, false))
        return MESA_ECLOSED;
    struct mesa_server *s = c->server;
    s->metrics.auth_refused++;
    if (s->cfg.authentication.disconnect_on_fail)
        mesa_client_close(c, 1008, MESA_SPAN("authentication refused"), false);
    return MESA_OK;
}

enum mesa_status mesa_client_update(struct mesa_client *c, struct mesa_span id)
{
    if (c->closed)
        return MESA_ECLOSED;
    struct mesa_server *s = c->server;
    bool first = !c->state.authenticated;
    if ((first && !s->cfg.raw) || !valid_id(id))
        return MESA_EINVAL;

    mesa_server_enter(s);
    mesa_client_ref(c);
    mesa_client_settle(c);
    enum mesa_status rc = c->closed ? MESA_ECLOSED : become(c, id);
    if (rc == MESA_OK && s->confirm != NULL)
        mesa_redelivery_begin(c, MESA_TAKE_NOTHING);
    if (rc == MESA_OK && first) {
        c->state.authenticated = true;
        announce(c);
    }
    mesa_client_unref(c);
    mesa_server_leave(s);
    return rc;
}
