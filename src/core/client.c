/* client.c - see client.h. */
#include "core/client.h"

#include <string.h>

void mesa_client_state_init(struct mesa_client_state *st)
{
    memset(st, 0, sizeof *st);
    mesa_heartbeat_init(&st->heartbeat);
}

static struct mesa_action simple(enum mesa_action_kind kind)
{
    return (struct mesa_action){.kind = kind};
}

static struct mesa_action refuse(enum mesa_action_kind kind, int close_code, const char *reason,
                                 const char *code, const char *text)
{
    return (struct mesa_action){.kind = kind,
                                .close_code = close_code,
                                .reason = reason,
                                .error_code = code,
                                .error_text = text};
}

/* Whether `d` is {"v": <version>}. */
static bool version_matches(struct mesa_span d, const char *version)
{
    struct mesa_span v;
    if (d.p == NULL || !mesa_json_find(d, "v", &v) || v.len < 2 || v.p[0] != '"')
        return false;

    struct mesa_buf text;
    mesa_buf_init(&text);
    bool same = mesa_json_unescape(v, &text) == MESA_OK &&
                mesa_span_eq((struct mesa_span){text.data, text.len},
                             (struct mesa_span){version, strlen(version)});
    mesa_buf_deinit(&text);
    return same;
}

static struct mesa_action receive_dispatch(const struct mesa_config *cfg,
                                           const struct mesa_envelope *e)
{
    if (!cfg->client.enforce_equal_versions || !mesa_envelope_type_is(e, "CLIENT_VERSION"))
        return simple(MESA_ACTION_MESSAGE);
    if (version_matches(e->d, cfg->client.version))
        return simple(MESA_ACTION_NONE);
    return refuse(MESA_ACTION_CLOSE, 1002, "version mismatch", "VERSION",
                  "the client's version is not the server's");
}

static struct mesa_action receive_authenticate(struct mesa_client_state *st,
                                               const struct mesa_envelope *e)
{
    if (st->connecting)
        return simple(MESA_ACTION_LATER);
    if (!st->authenticator)
        return simple(MESA_ACTION_MESSAGE);
    if (st->checking)
        return refuse(MESA_ACTION_ERROR, 0, NULL, "AUTH_BUSY",
                      "op 2 while an earlier one is still being checked");

    struct mesa_span sync;
    st->should_sync = !(e->d.p != NULL && mesa_json_find(e->d, "shouldSync", &sync) &&
                        mesa_span_eq(sync, MESA_SPAN("false")));
    st->checking = true;
    if (++st->check == 0) /* 0 stays "none" after four billion checks, too */
        st->check = 1;
    struct mesa_action a = simple(MESA_ACTION_AUTHENTICATE);
    a.check = st->check;
    return a;
}

struct mesa_action mesa_client_state_receive(struct mesa_client_state *st,
                                             const struct mesa_config *cfg,
                                             const struct mesa_envelope *e)
{
    switch (e->op) {
    case MESA_OP_DISPATCH:
        return receive_dispatch(cfg, e);
    case MESA_OP_HEARTBEAT:
        return simple(MESA_ACTION_ANSWER);
    case MESA_OP_AUTHENTICATE:
        return receive_authenticate(st, e);
    case MESA_OP_HEARTBEAT_ACK:
        mesa_heartbeat_acknowledge(&st->heartbeat);
        return simple(MESA_ACTION_ACKNOWLEDGED);
    case MESA_OP_INTERNAL:
        /* A Mesa protocol error closes with 1007 (PROTOCOL 1); 1002 is for the WebSocket layer. */
        return refuse(MESA_ACTION_CLOSE, 1007, "op 5 is not for clients", "PROTOCOL",
                      "op 5 from a client");
    case MESA_OP_HELLO:
    case MESA_OP_AUTHENTICATED:
        return refuse(MESA_ACTION_ERROR, 0, NULL, "PROTOCOL",
                      "an op that only servers send came from a client");
    default:
        return simple(MESA_ACTION_MESSAGE);
    }
}

struct mesa_action mesa_client_state_malformed(enum mesa_status rc, const char *text, size_t len,
                                               unsigned max_depth,
                                               const struct mesa_json_error *err)
{
    struct mesa_json_error ignored;
    bool json = rc != MESA_EUTF8 && mesa_json_check(text, len, max_depth, &ignored) == MESA_OK;
    return refuse(MESA_ACTION_CLOSE, 1007, json ? "malformed envelope" : "malformed JSON",
                  json ? "PROTOCOL" : "JSON", err->text);
}

bool mesa_client_state_is_checking(const struct mesa_client_state *st, uint32_t check)
{
    return st->checking && st->check == check;
}

bool mesa_client_state_answer(struct mesa_client_state *st, uint32_t check, bool accepted)
{
    if (!mesa_client_state_is_checking(st, check))
        return false;
    st->checking = false;
    if (accepted)
        st->authenticated = true;
    return true;
}
