/* auth.c - who a client is: checks, updates, presence (PROTOCOL 5). */
#include "base/utf8.h"
#include "server/internal.h"

/* "*" would be a user whose messages reach everybody. */
static bool valid_id(struct mesa_span id)
{
    return id.len >= 1 && id.len <= MESA_ID_MAX && !mesa_span_eq(id, MESA_SPAN("*")) &&
           mesa_utf8_valid(id.p, id.len);
}

/* The client is not `id` any more. Whether anybody here still is, is looked at now: a hook may have
 * changed it since. */
static void leave_before(struct mesa_server *s, struct mesa_span id)
{
    const struct mesa_backlog nothing = {0};
    if (mesa_server_next_of(s, id, NULL) == NULL)
        s->broker->ops->user_offline(s->broker, id, &nothing);
    else
        s->broker->ops->put_back(s->broker, id, &nothing);
}

/* What is on its way to the client is its own as long as it is the user it was sent to: it goes out,
 * or back, before the client becomes another one. May close the client. */
static void finish_as(struct mesa_client *c)
{
    mesa_redelivery_stop(c);
    if (!c->closed)
        mesa_unread_reset(c);
}

/* Gives the client an id. The new one is announced before the old one goes: nobody sees the user
 * absent. May close the client, also when it returns MESA_OK. */
static enum mesa_status become(struct mesa_client *c, struct mesa_span id)
{
    struct mesa_server *s = c->server;
    struct mesa_registry_change change;
    struct mesa_span before = mesa_client_id(c);
    if (before.p != NULL && !mesa_span_eq(before, id))
        finish_as(c);
    if (c->closed)
        return MESA_ECLOSED;
    enum mesa_status rc = mesa_registry_join(s->registry, &c->entry, id, &change);
    if (rc != MESA_OK)
        return rc;
    if (change.came_online)
        s->broker->ops->user_online(s->broker, id);
    if (change.before.p != NULL)
        leave_before(s, change.before);
    mesa_registry_change_end(&change);
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
        s->broker->ops->user_offline(s->broker, change.before, &unread.backlog);
    else if (change.before.p != NULL && (unread.backlog.count > 0 || unfinished))
        s->broker->ops->put_back(s->broker, change.before, &unread.backlog);
    mesa_registry_change_end(&change);
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
    if (!c->closed && s->hooks.on_authenticated != NULL)
        s->hooks.on_authenticated(s->ctx, c);
}

/* `answer` is op 22. */
static enum mesa_status accept_check(struct mesa_client *c, uint32_t check, struct mesa_span id,
                                     struct mesa_frame *answer)
{
    struct mesa_server *s = c->server;
    mesa_client_settle(c); /* as what it was */
    if (c->closed || !mesa_client_state_is_checking(&c->state, check))
        return MESA_ECLOSED;
    enum mesa_status rc = become(c, id);
    if (rc != MESA_OK)
        return rc;
    if (!mesa_client_state_answer(&c->state, check, true))
        return MESA_ECLOSED; /* a hook has answered it meanwhile */
    mesa_trace_authenticated(c, mesa_client_id(c));
    enum mesa_take_mode mode = c->state.should_sync ? MESA_TAKE : MESA_TAKE_DROP;
    bool early = s->confirm != NULL; /* it is answered later; what announce sends comes behind it */
    mesa_client_push(c, answer);
    if (!c->closed && early)
        mesa_redelivery_begin(c, mode);
    if (!c->closed)
        announce(c);
    if (!c->closed && !early)
        mesa_redelivery_begin(c, mode);
    return MESA_OK;
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
    struct mesa_frame *f;
    const struct mesa_outgoing answer = {
        .op = MESA_OP_AUTHENTICATED,
        .d = s->cfg.authentication.send_user_object ? user_json : MESA_SPAN("{}"),
    };
    /* First: a hook may use the memory that `user_json` is in. */
    enum mesa_status rc = mesa_envelope_frame(&f, &answer);
    if (rc != MESA_OK)
        return rc;
    mesa_server_enter(s);
    mesa_client_ref(c);
    rc = accept_check(c, check, id, f);
    mesa_client_unref(c);
    mesa_server_leave(s);
    mesa_frame_unref(f);
    return rc;
}

enum mesa_status mesa_client_refuse(struct mesa_client *c, uint32_t check)
{
    if (c->closed || !mesa_client_state_answer(&c->state, check, false))
        return MESA_ECLOSED;
    struct mesa_server *s = c->server;
    s->metrics.auth_refused++;
    mesa_trace_refused(c);
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
    if (rc == MESA_OK && !c->closed && s->confirm != NULL)
        mesa_redelivery_begin(c, MESA_TAKE_NOTHING);
    if (rc == MESA_OK && !c->closed && first) {
        c->state.authenticated = true;
        announce(c);
    }
    mesa_client_unref(c);
    mesa_server_leave(s);
    return rc;
}
