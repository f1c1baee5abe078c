/* client.h - what one connection may say and what follows from it (PROTOCOL 2, 4, 5, 6).
 *
 * A state machine without loop, socket or script: it is given parsed envelopes and answers with an
 * action its owner carries out. May include: base/, core/config.h, core/envelope.h,
 * core/heartbeat.h.
 */
#ifndef MESA_CORE_CLIENT_H
#define MESA_CORE_CLIENT_H

#include <stdbool.h>
#include <stdint.h>

#include "core/config.h"
#include "core/envelope.h"
#include "core/heartbeat.h"

struct mesa_client_state {
    struct mesa_heartbeat heartbeat;
    uint32_t check;     /* number of the newest check; 0: there was none */
    bool authenticator; /* op 2 is a check, not a message */
    bool connecting;    /* it is not known yet which: the connection handlers have not returned */
    bool checking;      /* check number `check` has no answer yet */
    bool authenticated;
    bool should_sync; /* what the newest op 2 asked for */
};

enum mesa_action_kind {
    MESA_ACTION_NONE,         /* nothing to do */
    MESA_ACTION_MESSAGE,      /* for the message handlers */
    MESA_ACTION_LATER,        /* give it here again when the client is not connecting any more */
    MESA_ACTION_AUTHENTICATE, /* start check number `check` with d */
    MESA_ACTION_ACKNOWLEDGED, /* a heartbeat was answered */
    MESA_ACTION_ANSWER,       /* send op 11 */
    MESA_ACTION_ERROR,        /* report error_code and error_text, nothing else */
    MESA_ACTION_CLOSE,        /* report them, then close */
};

struct mesa_action {
    enum mesa_action_kind kind;
    uint32_t check;
    int close_code;
    const char *reason;     /* static, for the close frame */
    const char *error_code; /* static, a stable upper-case word */
    const char *error_text; /* static, for people */
};

void mesa_client_state_init(struct mesa_client_state *st);

/* What an envelope from the client means. With client.enforceEqualVersions a CLIENT_VERSION
 * dispatch ends here, whatever it says. */
struct mesa_action mesa_client_state_receive(struct mesa_client_state *st,
                                             const struct mesa_config *cfg,
                                             const struct mesa_envelope *e);
/* What follows from a text that is no envelope: `rc` and `err` as from mesa_envelope_parse. The
 * error is "JSON" when the text is not JSON, "PROTOCOL" when it is JSON but not an envelope. */
struct mesa_action mesa_client_state_malformed(enum mesa_status rc, const char *text, size_t len,
                                               unsigned max_depth,
                                               const struct mesa_json_error *err);

/* Answers check number `check`. False: it is not the one under way (answered before, or never given
 * out), nothing changes. */
bool mesa_client_state_answer(struct mesa_client_state *st, uint32_t check, bool accepted);
/* Whether `check` is under way. */
bool mesa_client_state_is_checking(const struct mesa_client_state *st, uint32_t check);

#endif
