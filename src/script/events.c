/* events.c - what happens at a server becomes a task that runs the server's Lua function for it. */
#include <stdlib.h>

#include "base/inline.h"
#include "base/log.h"
#include "script/script.h"
#include "script/value.h"

/* Data up to so many bytes may be decoded before anybody reads them; every so often it is left to the handlers, to see whether they do. */
enum { EAGER_BYTES = 4096, EAGER_PROBE = 32 };
/* Handlers of one client at a time with options.concurrentMessages. */
enum { CONCURRENT_MAX = 64 };

/* How far each event's handlers may go beyond limits.scriptMemory. */
static const enum mesa_memory_share shares[MESA_EVENT_COUNT] = {
    [MESA_ON_AUTHENTICATED] = MESA_SHARE_CALLBACK, [MESA_ON_DISCONNECT] = MESA_SHARE_CLOSING,
    [MESA_ON_ERROR] = MESA_SHARE_CLOSING,          [MESA_ON_DRAIN] = MESA_SHARE_CALLBACK,
    [MESA_ON_UNDELIVERABLE] = MESA_SHARE_CALLBACK, [MESA_ON_REDELIVER] = MESA_SHARE_CALLBACK,
    [MESA_ON_DROPPED] = MESA_SHARE_CALLBACK,       [MESA_ON_DELIVERED] = MESA_SHARE_CALLBACK,
    [MESA_ON_PORTAL] = MESA_SHARE_CALLBACK,        [MESA_ON_CLOSED] = MESA_SHARE_CLOSING,
    [MESA_ON_LISTENING] = MESA_SHARE_CALLBACK,
};

/* A task with the server's function for `e` pushed; NULL: no memory, the event is lost and logged. */
MESA_INLINE struct mesa_task *begin(struct script_server *s, enum mesa_event e)
{
    struct mesa_task *t = mesa_task_begin(s->vm);
    if (t == NULL) {
        mesa_script_event_lost(s->vm, MESA_SPAN("no memory for a handler, an event is lost"));
        return NULL;
    }
    mesa_task_share(t, shares[e]);
    mesa_script_push_event(s, mesa_task_state(t), e);
    return t;
}

static void on_error(void *ctx, struct mesa_client *c, const char *code, const char *text);

/* The same where the bound is exceeded. */
static MESA_NOINLINE bool admit_beyond(struct script_server *s, struct mesa_client *c)
{
    bool tell = false;
    if (mesa_memory_admit(s->vm, &tell))
        return true;
    if (tell)
        on_error(s, c, "MEMORY", "not enough memory for an event");
    return false;
}

/* Whether a new event of the client may be handled; else it has been told of. */
static inline bool admit(struct script_server *s, struct mesa_client *c)
{
    return !mesa_memory_exceeded(&s->vm->memory) || admit_beyond(s, c);
}

/* -- connection and messages: one handler of a client at a time, in order ------------------------- */

static void on_handled(struct mesa_task *t, void *ctx);

/* Whether another message of the client may be handled now. */
static bool may_handle(const struct client_box *box)
{
    if (box->authenticating)
        return false;
    if (box->server->concurrent && !box->connecting)
        return box->handling < CONCURRENT_MAX;
    return box->handling == 0;
}

/* The bit of script_server.read_types for messages like this one. */
static uint64_t type_bit(const struct mesa_envelope *e)
{
    unsigned hash = (unsigned)e->op;
    if (e->t.p != NULL)
        hash += (unsigned)e->t.len * 31 + (unsigned char)e->t.p[1] * 7 +
                (unsigned char)e->t.p[e->t.len - 2] * 3;
    return UINT64_C(1) << (hash & 63);
}

/* Whether the handlers will read the data, going by the last message of its kind: then it is decoded before they run, so that they need not leave compiled code for it. */
static bool will_be_read(struct script_server *s, const struct mesa_envelope *e)
{
    return (s->read_types & type_bit(e)) != 0 && e->d.len <= EAGER_BYTES &&
           ++s->handled % EAGER_PROBE != 0;
}

static void learn_whether_read(struct script_server *s, const struct mesa_envelope *e)
{
    if (s->vm->unread_number == 0)
        s->read_types |= type_bit(e);
    else
        s->read_types &= ~type_bit(e);
}

/* Where nobody answers op 2 it is a message like any; mostly the handler was forgotten. */
static void tell_of_op_2(struct script_server *s)
{
    if (s->told_of_op_2)
        return;
    s->told_of_op_2 = true;
    mesa_log(MESA_LOG_WARN, "client",
             "a client wants to authenticate (op 2), and there is no handler for it: call "
             "client:authenticate(fn) in the connection handler, or name auth in scripts");
}

/* Starts the handler with `text`, which is an envelope unless the server is raw. */
static void handle_message(struct script_server *s, struct client_box *box, struct mesa_span text,
                           bool binary, const struct mesa_envelope *e)
{
    struct mesa_task *t = begin(s, MESA_ON_MESSAGE);
    if (t == NULL)
        return;
    if (e != NULL && e->op == MESA_OP_AUTHENTICATE)
        tell_of_op_2(s);
    lua_State *co = mesa_task_state(t);
    lua_rawgeti(co, LUA_REGISTRYINDEX, box->self_ref);
    mesa_script_push_fields(co, 2, box);
    int nargs = 2;
    bool decoded = e != NULL && will_be_read(s, e);
    if (e != NULL) {
        nargs += mesa_script_push_received(s->vm, co, e, decoded);
    } else {
        lua_pushlstring(co, text.p, text.len);
        lua_pushboolean(co, binary);
        nargs += 2;
    }
    box->handling++;
    struct client_box *outer = s->vm->handling;
    s->vm->handling = box;
    mesa_task_run(t, nargs, on_handled, box);
    s->vm->handling = outer;
    if (e != NULL && !decoded)
        learn_whether_read(s, e);
}

/* Takes the oldest waiting message, if there is one, and handles it. */
static bool handle_oldest(struct script_server *s, struct client_box *box)
{
    struct mesa_waiting *m = mesa_inbox_take(box);
    if (m == NULL)
        return false;
    struct mesa_span text = {m->bytes, m->len};
    struct mesa_envelope e;
    struct mesa_json_error err;
    if (m->kind == MESA_WAITING_EARLY)
        mesa_client_receive_again(box->client, text);
    else if (s->raw)
        handle_message(s, box, text, m->kind == MESA_WAITING_BINARY, NULL);
    else if (mesa_envelope_parse(text.p, text.len, MESA_JSON_DEPTH_MAX, &e, &err) == MESA_OK)
        handle_message(s, box, text, false, &e);
    free(m);
    return true;
}

/* A loop, not recursion: handlers that do not wait end before handle_message returns. */
static MESA_NOINLINE void drain(struct client_box *box)
{
    box->draining = true;
    while (may_handle(box) && !box->server->vm->closing && handle_oldest(box->server, box))
        ;
    box->draining = false;
    mesa_inbox_settle(box);
}

/* The messages that have waited come next. */
static void handle_queued(struct client_box *box)
{
    if (box->draining)
        return;
    if (box->inbox != NULL)
        drain(box);
    mesa_script_release_client(box->server->vm->L, box);
}

static void on_handled(struct mesa_task *t, void *ctx)
{
    struct client_box *box = ctx;
    (void)t;
    box->handling--;
    handle_queued(box);
}

static void on_connected(struct mesa_task *t, void *ctx)
{
    struct client_box *box = ctx;
    box->connecting = false;
    mesa_client_set_connecting(box->client, false);
    on_handled(t, box);
}

/* While a connection handler waits, what the client sends is kept for the listeners and the authenticator that it has yet
 * to register. */
static void on_connection(void *ctx, struct mesa_client *c)
{
    struct script_server *s = ctx;
    if (!admit(s, NULL)) {
        mesa_client_disconnect(c, 1013, MESA_SPAN("not enough memory"));
        return;
    }
    struct mesa_task *t = begin(s, MESA_ON_CONNECTION);
    if (t == NULL)
        return;
    lua_State *co = mesa_task_state(t);
    mesa_script_push_client(co, s, c);
    struct client_box *box = lua_touserdata(co, -1);
    box->handling++;
    box->connecting = true;
    mesa_client_set_connecting(c, true);
    mesa_task_run(t, 1, on_connected, box);
}

/* A client whose connection event was lost. */
static MESA_NOINLINE struct client_box *make_box(struct script_server *s, struct mesa_client *c)
{
    mesa_script_push_client(s->vm->L, s, c);
    lua_pop(s->vm->L, 1);
    return mesa_client_data(c);
}

static MESA_NOINLINE void deliver_crowded(struct script_server *s, struct client_box *box,
                                          struct mesa_span text, bool binary,
                                          const struct mesa_envelope *e)
{
    lua_rawgeti(s->vm->L, LUA_REGISTRYINDEX, box->self_ref); /* a handler may let go of it */
    handle_message(s, box, text, binary, e);
    mesa_inbox_hold(box);
    lua_pop(s->vm->L, 1);
}

MESA_INLINE void deliver(struct script_server *s, struct mesa_client *c, struct mesa_span text,
                         bool binary, const struct mesa_envelope *e)
{
    if (!admit(s, c))
        return;
    struct client_box *box = mesa_client_data(c);
    if (box == NULL)
        box = make_box(s, c);
    if (!may_handle(box))
        mesa_inbox_push(box, text, binary ? MESA_WAITING_BINARY : MESA_WAITING_TEXT);
    else if (!s->crowded)
        handle_message(s, box, text, binary, e);
    else
        deliver_crowded(s, box, text, binary, e);
}

static void on_message(void *ctx, struct mesa_client *c, const struct mesa_envelope *e,
                       struct mesa_span text)
{
    deliver(ctx, c, text, false, e);
}

static void on_early(void *ctx, struct mesa_client *c, struct mesa_span text)
{
    (void)ctx;
    mesa_inbox_push(mesa_client_data(c), text, MESA_WAITING_EARLY);
}

static void on_raw_message(void *ctx, struct mesa_client *c, struct mesa_span bytes, bool binary)
{
    deliver(ctx, c, bytes, binary, NULL);
}

/* -- the rest ------------------------------------------------------------------------------------------------- */

static void on_authenticating(void *ctx)
{
    struct client_box *box = ctx;
    box->handling--;
    box->authenticating = false;
    handle_queued(box);
}

/* Of a crowd that comes at once, each has its turn; what a client has sent behind op 2 comes behind it. */
static void on_authenticate(void *ctx, struct mesa_client *c, uint32_t check, struct mesa_span d)
{
    struct script_server *s = ctx;
    if (!admit(s, c)) {
        mesa_client_disconnect(c, 1013, MESA_SPAN("not enough memory"));
        return;
    }
    struct mesa_task *t = begin(s, MESA_ON_AUTHENTICATE);
    if (t == NULL)
        return;
    lua_State *co = mesa_task_state(t);
    mesa_script_push_client(co, s, c);
    struct client_box *box = lua_touserdata(co, -1);
    lua_pushnumber(co, check);
    if (d.p != NULL)
        mesa_value_push(co, d, &s->vm->names);
    else
        lua_newtable(co); /* no credentials at all: handlers index what they get */
    if (!mesa_loop_busy(s->vm->loop)) {
        mesa_task_run(t, 3, NULL, NULL);
        return;
    }
    box->handling++;
    box->authenticating = true;
    mesa_task_queue(t, 3, on_authenticating, box);
}

static void on_authenticated(void *ctx, struct mesa_client *c)
{
    struct script_server *s = ctx;
    struct mesa_task *t = begin(s, MESA_ON_AUTHENTICATED);
    if (t == NULL)
        return;
    mesa_script_push_client(mesa_task_state(t), s, c);
    mesa_task_run(t, 1, NULL, NULL);
}

static void on_disconnect(void *ctx, struct mesa_client *c, int code, struct mesa_span reason)
{
    struct script_server *s = ctx;
    struct mesa_task *t = begin(s, MESA_ON_DISCONNECT);
    lua_State *L = s->vm->L;
    mesa_script_push_client(L, s, c);
    struct client_box *box = lua_touserdata(L, -1);
    box->connected = false;
    mesa_inbox_leave(box);
    if (t != NULL) {
        lua_State *co = mesa_task_state(t);
        lua_xmove(L, co, 1);
        lua_pushinteger(co, code);
        lua_pushlstring(co, reason.p != NULL ? reason.p : "", reason.len);
        mesa_task_run(t, 3, NULL, NULL);
    } else {
        lua_pop(L, 1);
    }
    mesa_script_release_client(L, box);
}

static void on_error(void *ctx, struct mesa_client *c, const char *code, const char *text)
{
    struct script_server *s = ctx;
    struct mesa_task *t = begin(s, MESA_ON_ERROR);
    if (t == NULL)
        return;
    lua_State *co = mesa_task_state(t);
    if (c != NULL)
        mesa_script_push_client(co, s, c);
    else
        lua_pushnil(co);
    lua_pushstring(co, code);
    lua_pushstring(co, text);
    mesa_task_run(t, 3, NULL, NULL);
}

static void on_drain(void *ctx, struct mesa_client *c)
{
    struct script_server *s = ctx;
    struct mesa_task *t = begin(s, MESA_ON_DRAIN);
    if (t == NULL)
        return;
    mesa_script_push_client(mesa_task_state(t), s, c);
    mesa_task_run(t, 1, NULL, NULL);
}

static void on_undeliverable(void *ctx, struct mesa_span json, const struct mesa_span *ids,
                             size_t id_count)
{
    struct script_server *s = ctx;
    struct mesa_task *t = begin(s, MESA_ON_UNDELIVERABLE);
    if (t == NULL)
        return;
    lua_State *co = mesa_task_state(t);
    mesa_script_push_stored(s->vm, co, json);
    lua_createtable(co, (int)id_count, 0);
    for (size_t i = 0; i < id_count; i++) {
        lua_pushlstring(co, ids[i].p, ids[i].len);
        lua_rawseti(co, -2, (int)i + 1);
    }
    mesa_task_run(t, 2, NULL, NULL);
}

static void on_redeliver(void *ctx, struct mesa_client *c, const struct mesa_backlog *backlog)
{
    struct script_server *s = ctx;
    struct mesa_task *t = begin(s, MESA_ON_REDELIVER);
    if (t == NULL)
        return;
    lua_State *co = mesa_task_state(t);
    mesa_script_push_client(co, s, c);
    lua_createtable(co, (int)backlog->count, 0);
    for (size_t i = 0; i < backlog->count; i++) {
        mesa_script_push_stored(s->vm, co, backlog->json[i]);
        lua_rawseti(co, -2, (int)i + 1);
    }
    mesa_task_run(t, 2, NULL, NULL);
}

static void on_undeliverable_dropped(void *ctx, struct mesa_span id, struct mesa_span json)
{
    struct script_server *s = ctx;
    struct mesa_task *t = begin(s, MESA_ON_DROPPED);
    if (t == NULL)
        return;
    lua_State *co = mesa_task_state(t);
    mesa_script_push_stored(s->vm, co, json);
    lua_pushlstring(co, id.p, id.len);
    mesa_task_run(t, 2, NULL, NULL);
}

/* Without a handler for it nothing is made: this is every message of the cluster. */
static void on_delivered(void *ctx, const struct mesa_frame *f, struct mesa_client *const *clients,
                         size_t client_count)
{
    struct script_server *s = ctx;
    if (!mesa_script_push_observer(s->vm->L, s))
        return;
    lua_pop(s->vm->L, 1);
    struct mesa_task *t = begin(s, MESA_ON_DELIVERED);
    if (t == NULL)
        return;
    lua_State *co = mesa_task_state(t);
    if (s->raw)
        mesa_script_push_raw(co, mesa_frame_payload(f), f->opcode == MESA_WS_BINARY);
    else
        mesa_script_push_stored(s->vm, co, mesa_frame_payload(f));
    lua_createtable(co, (int)client_count, 0);
    for (size_t i = 0; i < client_count; i++) {
        mesa_script_push_client(co, s, clients[i]);
        lua_rawseti(co, -2, (int)i + 1);
    }
    mesa_task_run(t, 2, NULL, NULL);
}

static void on_portal(void *ctx, struct mesa_span id, bool joined)
{
    struct script_server *s = ctx;
    struct mesa_task *t = begin(s, MESA_ON_PORTAL);
    if (t == NULL)
        return;
    lua_State *co = mesa_task_state(t);
    lua_pushlstring(co, id.p, id.len);
    lua_pushboolean(co, joined);
    mesa_task_run(t, 2, NULL, NULL);
}

static bool on_reload(void *ctx, struct mesa_buf *report)
{
    struct script_server *s = ctx;
    return mesa_script_reload(s->vm, "admin", report);
}

static void on_closed(void *ctx)
{
    mesa_script_server_closed(ctx);
}

const struct mesa_server_hooks mesa_script_hooks = {
    .on_connection = on_connection,
    .on_message = on_message,
    .on_raw_message = on_raw_message,
    .on_early = on_early,
    .on_authenticate = on_authenticate,
    .on_authenticated = on_authenticated,
    .on_disconnect = on_disconnect,
    .on_error = on_error,
    .on_drain = on_drain,
    .on_undeliverable = on_undeliverable,
    .on_redeliver = on_redeliver,
    .on_undeliverable_dropped = on_undeliverable_dropped,
    .on_delivered = on_delivered,
    .on_portal = on_portal,
    .on_protocol = mesa_script_on_protocol,
    .decides_upgrades = mesa_script_decides_upgrades,
    .on_upgrade = mesa_script_on_upgrade,
    .on_http = mesa_script_on_http,
    .on_reload = on_reload,
    .on_closed = on_closed,
};
