/* wsframe.h - WebSocket frames (RFC 6455, section 5) as a client reads and writes them.
 *
 * Pure: no socket, no memory. Reading is strict, because a server that sends a malformed frame must fail the run.
 * May include: libc.
 */
#ifndef MESA_BENCH_WSFRAME_H
#define MESA_BENCH_WSFRAME_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum ws_opcode {
    WS_CONTINUATION = 0,
    WS_TEXT = 1,
    WS_BINARY = 2,
    WS_CLOSE = 8,
    WS_PING = 9,
    WS_PONG = 10,
};

enum ws_parse {
    WS_PARSE_FRAME, /* `out` is set */
    WS_PARSE_MORE,  /* a prefix of a frame; `out` is untouched */
    WS_PARSE_BAD,   /* no server may send this */
};

#define WS_MAX_HEADER 14 /* of a masked frame */
#define WS_MAX_CONTROL 125

struct ws_frame {
    enum ws_opcode opcode;
    bool fin;
    const uint8_t *payload; /* points into the bytes parsed */
    size_t len;
    size_t size; /* header and payload */
};

/* Reads one frame of a server at `p`. A payload over `max` bytes is WS_PARSE_BAD. */
enum ws_parse ws_frame_parse(const uint8_t *p, size_t n, size_t max, struct ws_frame *out);

/* Writes a final, masked frame to `out`, which has room for len + WS_MAX_HEADER. Returns its size; the payload ends it. */
size_t ws_frame_write(uint8_t *out, enum ws_opcode opcode, const void *payload, size_t len);

/* The mask of every frame. One mask is enough here: it is not zero, so a server cannot skip the unmasking. */
extern const uint8_t ws_mask[4];

#endif
