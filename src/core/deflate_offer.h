/* deflate_offer.h - agrees with a client on permessage-deflate (RFC 7692 section 7.1).
 *
 * Reads the offers of Sec-WebSocket-Extensions and writes the answer. Pure. May include: base/.
 */
#ifndef MESA_CORE_DEFLATE_OFFER_H
#define MESA_CORE_DEFLATE_OFFER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/buf.h"
#include "base/status.h"

enum {
    MESA_DEFLATE_BITS_MIN = 8, /* of a window: 256 bytes */
    MESA_DEFLATE_BITS_MAX = 15,
    MESA_DEFLATE_ANSWER_MAX = 160,
};

/* What is agreed on, for one direction. */
struct mesa_deflate_way {
    uint8_t bits;  /* the window is 2^bits bytes */
    bool announce; /* the answer says how large it is */
    bool takeover; /* the window is kept from one message to the next */
};

struct mesa_deflate_terms {
    struct mesa_deflate_way out, in; /* "server_…" and "client_…" in the answer */
};

/* What this side would like. */
struct mesa_deflate_wish {
    bool takeover;
    uint8_t takeover_bits; /* the largest window that it keeps */
};

/* Accepts the first offer in `header` that can be: *out says on what terms. An offer with a parameter that
 * is unknown, repeated or has no valid value is declined, and the next one considered. MESA_ENOTFOUND:
 * there is none. MESA_EPROTO: it does not follow the grammar of RFC 6455 section 9.1, and the handshake
 * has failed. */
enum mesa_status mesa_deflate_negotiate(struct mesa_span header,
                                        const struct mesa_deflate_wish *wish,
                                        struct mesa_deflate_terms *out);

/* Writes what Sec-WebSocket-Extensions says in the answer; returns its length. */
size_t mesa_deflate_answer(const struct mesa_deflate_terms *terms,
                           char out[MESA_DEFLATE_ANSWER_MAX]);

#endif
