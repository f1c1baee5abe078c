#include "wsframe.h"

const uint8_t ws_mask[4] = {0x37, 0xfa, 0x21, 0x3d};

static uint64_t big_endian(const uint8_t *p, size_t n)
{
    uint64_t v = 0;
    for (size_t i = 0; i < n; i++)
        v = v << 8 | p[i];
    return v;
}

static bool first_byte_valid(uint8_t b)
{
    uint8_t opcode = b & 0x0f;
    bool fin = (b & 0x80) != 0;
    if ((b & 0x70) != 0) /* no extension was negotiated */
        return false;
    return opcode <= WS_BINARY || (opcode >= WS_CLOSE && opcode <= WS_PONG && fin);
}

enum ws_parse ws_frame_parse(const uint8_t *p, size_t n, size_t max, struct ws_frame *out)
{
    if (n >= 1 && !first_byte_valid(p[0]))
        return WS_PARSE_BAD;
    if (n < 2)
        return WS_PARSE_MORE;
    if ((p[1] & 0x80) != 0) /* a server never masks */
        return WS_PARSE_BAD;

    uint64_t len = p[1];
    if ((p[0] & 0x08) != 0 && len > WS_MAX_CONTROL)
        return WS_PARSE_BAD;
    size_t wide = len == 126 ? 2 : len == 127 ? 8 : 0;
    size_t header = 2 + wide;
    if (n < header)
        return WS_PARSE_MORE;
    if (wide != 0) {
        len = big_endian(p + 2, wide);
        if (len <= (wide == 2 ? 125 : UINT16_MAX)) /* not the shortest form */
            return WS_PARSE_BAD;
    }
    if (len > max)
        return WS_PARSE_BAD;
    if (n - header < len)
        return WS_PARSE_MORE;

    *out = (struct ws_frame){
        .opcode = (enum ws_opcode)(p[0] & 0x0f),
        .fin = (p[0] & 0x80) != 0,
        .payload = p + header,
        .len = (size_t)len,
        .size = header + (size_t)len,
    };
    return WS_PARSE_FRAME;
}

size_t ws_frame_write(uint8_t *out, enum ws_opcode opcode, const void *payload, size_t len)
{
    const uint8_t *in = payload;
    size_t wide = len < 126 ? 0 : len <= UINT16_MAX ? 2 : 8;
    size_t at = 0;

    out[at++] = (uint8_t)(0x80 | opcode);
    out[at++] = (uint8_t)(0x80 | (wide == 0 ? len : wide == 2 ? 126 : 127));
    for (size_t i = wide; i-- > 0;)
        out[at++] = (uint8_t)((uint64_t)len >> (8 * i));
    for (size_t i = 0; i < 4; i++)
        out[at++] = ws_mask[i];
    for (size_t i = 0; i < len; i++)
        out[at + i] = in[i] ^ ws_mask[i & 3];
    return at + len;
}
