/* frame.h - one WebSocket message to send, framed once and shared by all its recipients.
 *
 * Reference-counted, immutable after creation, but that compressed versions of it (RFC 7692) are kept with
 * it, each made when the first recipient needs it. Loop thread only. Never calls Lua. May include:
 * base/.
 */
#ifndef MESA_CORE_FRAME_H
#define MESA_CORE_FRAME_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/buf.h"
#include "base/status.h"

/* RFC 6455 section 5.2. */
enum mesa_ws_opcode {
    MESA_WS_TEXT = 1,
    MESA_WS_BINARY = 2,
    MESA_WS_CLOSE = 8,
    MESA_WS_PING = 9,
    MESA_WS_PONG = 10
};

struct mesa_frame {
    uint32_t refs;
    uint8_t header_len;            /* 2, 4 or 10 */
    uint8_t opcode;                /* enum mesa_ws_opcode */
    uint8_t window_bits;           /* of a compressed version: of the window it is for; else 0 */
    bool incompressible;           /* compressing does not make it smaller */
    struct mesa_frame *compressed; /* versions; of such a version the next one */
    size_t len;                    /* header and payload */
    char bytes[];                  /* an unmasked FIN frame, ready for the wire */
};

/* A frame with one reference that holds a copy of the payload. MESA_EINVAL: a control frame's
 * payload exceeds 125 bytes. MESA_ENOMEM. */
enum mesa_status mesa_frame_new(struct mesa_frame **out, enum mesa_ws_opcode opcode,
                                const void *payload, size_t len);
/* As above, the payload being the three spans one after the other (to put "s" into a stored message
 * without copying it twice). */
enum mesa_status mesa_frame_new3(struct mesa_frame **out, enum mesa_ws_opcode opcode,
                                 struct mesa_span a, struct mesa_span b, struct mesa_span c);

/* Gives `f` a compressed version, the payload being compressed already. It lives as long as `f`. */
enum mesa_status mesa_frame_add_compressed(struct mesa_frame *f, struct mesa_span payload,
                                           uint8_t window_bits, struct mesa_frame **out);
/* Appends such a version for a window that nobody else has. */
enum mesa_status mesa_frame_append_compressed(const struct mesa_frame *f, struct mesa_span payload,
                                              struct mesa_buf *out);

static inline struct mesa_frame *mesa_frame_ref(struct mesa_frame *f)
{
    f->refs++;
    return f;
}

/* What mesa_frame_unref leaves to frame.c. */
void mesa_frame_free(struct mesa_frame *f);

/* NULL is accepted. */
static inline void mesa_frame_unref(struct mesa_frame *f)
{
    if (f != NULL && --f->refs == 0)
        mesa_frame_free(f);
}

static inline struct mesa_span mesa_frame_payload(const struct mesa_frame *f)
{
    return (struct mesa_span){f->bytes + f->header_len, f->len - f->header_len};
}

#endif
