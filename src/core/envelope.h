/* envelope.h - the Mesa envelope {"op", "d", "t", "s", "o"} (PROTOCOL 1).
 *
 * Parsing validates the whole text strictly and yields spans into it; the spans live as long as the
 * text. Loop thread only. May include: base/, core/json.h, core/json_index.h, core/frame.h.
 */
#ifndef MESA_CORE_ENVELOPE_H
#define MESA_CORE_ENVELOPE_H

#include <stdbool.h>
#include <stdint.h>

#include "base/buf.h"
#include "core/frame.h"
#include "core/json.h"
#include "core/json_index.h"

/* PROTOCOL 2. */
enum mesa_op {
    MESA_OP_DISPATCH = 0,
    MESA_OP_HEARTBEAT = 1,
    MESA_OP_AUTHENTICATE = 2,
    MESA_OP_INTERNAL = 5,
    MESA_OP_HELLO = 10,
    MESA_OP_HEARTBEAT_ACK = 11,
    MESA_OP_AUTHENTICATED = 22,
};

struct mesa_envelope {
    int64_t op;                     /* any integer within +-2^53; 1.0 and 1e0 are the integer 1 */
    struct mesa_span d;             /* raw JSON, trimmed; absent: p == NULL */
    struct mesa_json_place d_place; /* where the positions in `d` begin, until the next parsing */
    struct mesa_span t; /* the JSON string token with its quotes; absent or null: p == NULL */
    bool t_escaped;     /* `t` contains a backslash escape */
    struct mesa_span s; /* number token (an integer); absent or null: p == NULL */
    struct mesa_span o; /* object token; absent or null: p == NULL */
    bool no_sync;       /* o is {"sync": false, …} */
};

/* As mesa_envelope_parse, for what others have written: surrogate escapes without a partner are
 * mended first (see mesa_json_mend). *text is then the mended text, in the buffer `mended`, which
 * is the caller's to initialise and deinit. */
enum mesa_status mesa_envelope_receive(struct mesa_span *text, unsigned max_depth,
                                       struct mesa_envelope *out, struct mesa_buf *mended,
                                       struct mesa_json_error *err);
/* Its second part, for who has parsed already: `rc` is what that gave, and is returned when nothing
 * can be mended. */
enum mesa_status mesa_envelope_mend(enum mesa_status rc, struct mesa_span *text, unsigned max_depth,
                                    struct mesa_envelope *out, struct mesa_buf *mended,
                                    struct mesa_json_error *err);
/* MESA_OK; MESA_EPROTO/MESA_EUTF8 with *err (err->text also covers the envelope: "op is missing",
 * "t is not a string" …). Duplicate keys: the last one wins, and only the last one's type counts.
 * Keys are compared after unescaping. Other keys are validated and ignored. */
enum mesa_status mesa_envelope_parse(const char *text, size_t len, unsigned max_depth,
                                     struct mesa_envelope *out, struct mesa_json_error *err);

/* Whether `t` (unescaped) equals the literal. */
bool mesa_envelope_type_is(const struct mesa_envelope *e, const char *type);

/* What goes into an outgoing text frame. `d` is VALID JSON or absent (then the key is left out);
 * `type` is unescaped UTF-8 or absent; s 0: left out. */
struct mesa_outgoing {
    int64_t op;
    struct mesa_span d;
    struct mesa_span type;
    uint32_t s;
};

/* Appends {"op":…,"d":…,"t":…,"s":…} to `out`. MESA_EUTF8: type is not UTF-8. MESA_ENOMEM. */
enum mesa_status mesa_envelope_write(struct mesa_buf *out, const struct mesa_outgoing *m);
/* The same as a text frame with one reference. */
enum mesa_status mesa_envelope_frame(struct mesa_frame **out, const struct mesa_outgoing *m);
/* `json` is an envelope mesa-lua wrote (MESA_EINVAL: does not end in "}"): a frame of it with
 * ,"s":<s> put before the last brace. */
enum mesa_status mesa_envelope_frame_with_sequence(struct mesa_frame **out, struct mesa_span json,
                                                   uint32_t s);

#endif
