/* ws_reader.c - see ws_reader.h. */
#include "core/ws_reader.h"

#include <stdlib.h>
#include <string.h>

#include "base/inline.h"

enum { RSV1 = 0x40 };

/* What runs for each frame is compiled once for clients' streams and once for servers', which are told
 * apart by a constant. */

void mesa_ws_reader_deinit(struct mesa_ws_reader *r)
{
    free(r->control);
    r->control = NULL;
}

static bool is_control(unsigned opcode)
{
    return opcode >= 8;
}

/* Whether the reserved bits of a frame mean something: the first one that a message is compressed (RFC
 * 7692 section 6), at its beginning alone. */
static bool may_be_reserved(const struct mesa_ws_reader *r, uint8_t first)
{
    unsigned opcode = first & 0x0f;
    return r->deflates && (first & 0x70) == RSV1 && opcode != 0 && !is_control(opcode);
}

/* What is wrong with a frame that begins with these two bytes; NULL: nothing yet. */
MESA_INLINE const char *start_problem(const struct mesa_ws_reader *r, const uint8_t *h,
                                      bool of_server)
{
    unsigned opcode = h[0] & 0x0f, len = h[1] & 0x7f;
    bool fin = (h[0] & 0x80) != 0;
    if ((h[0] & 0x70) != 0 && !may_be_reserved(r, h[0]))
        return "reserved bits";
    if ((opcode > MESA_WS_BINARY && opcode < MESA_WS_CLOSE) || opcode > MESA_WS_PONG)
        return "unknown opcode";
    if (((h[1] & 0x80) == 0) != of_server)
        return of_server ? "masked frame" : "unmasked";
    if (is_control(opcode)) {
        if (!fin)
            return "fragmented control frame";
        return len > MESA_WS_CONTROL_MAX ? "control frame over 125 bytes" : NULL;
    }
    if (opcode == 0)
        return r->message == 0 ? "continuation of nothing" : NULL;
    return r->message != 0 ? "message inside another" : NULL;
}

MESA_INLINE unsigned header_size(const uint8_t *h, bool of_server)
{
    unsigned len = h[1] & 0x7f, key = of_server ? 0 : 4;
    return key + (len < 126 ? 2 : len == 126 ? 4 : 10);
}

/* The header of the next frame, in one piece; NULL: it is not complete, or `*problem` says why there is
 * none. */
MESA_INLINE const uint8_t *take_header(struct mesa_ws_reader *r, char **p, const char *end,
                                       const char **problem, bool of_server)
{
    const uint8_t *h = (const uint8_t *)*p;
    if (r->have == 0 && end - *p >= 2) { /* the usual case, and nothing is copied */
        *problem = start_problem(r, h, of_server);
        if (*problem != NULL)
            return NULL;
        if (end - *p >= (ptrdiff_t)header_size(h, of_server)) {
            *p += header_size(h, of_server);
            return h;
        }
    }
    while (*p < end) {
        r->header[r->have++] = (uint8_t) * (*p)++;
        if (r->have == 2 && (*problem = start_problem(r, r->header, of_server)) != NULL)
            return NULL;
        if (r->have >= 2 && r->have == header_size(r->header, of_server)) {
            r->have = 0;
            return r->header;
        }
    }
    return NULL;
}

static uint64_t big_endian(const uint8_t *p, unsigned n)
{
    uint64_t v = 0;
    for (unsigned i = 0; i < n; i++)
        v = v << 8 | p[i];
    return v;
}

/* False: `*problem` says why. */
MESA_INLINE bool begin_frame(struct mesa_ws_reader *r, const uint8_t *h, const char **problem,
                             bool of_server)
{
    unsigned len = h[1] & 0x7f, size = header_size(h, of_server);
    r->left = len < 126 ? len : big_endian(h + 2, len == 126 ? 2 : 8);
    if ((len == 126 && r->left < 126) || (len == 127 && r->left <= UINT16_MAX)) {
        *problem = "length not minimal";
        return false;
    }
    if (r->left > INT64_MAX) {
        *problem = "length over 63 bits";
        return false;
    }
    if (!of_server)
        memcpy(&r->mask, h + size - 4, sizeof r->mask); /* else it is 0, which changes nothing */
    r->opcode = h[0] & 0x0f;
    r->fin = (h[0] & 0x80) != 0;
    r->in_frame = true;
    if (r->opcode != 0 && !is_control(r->opcode)) {
        r->message = r->opcode;
        r->compressed = (h[0] & RSV1) != 0;
    }
    return true;
}

/* Two words at a time, which compilers have instructions for. */
typedef uint64_t pair __attribute__((vector_size(16)));

/* Returns whether all bytes are ASCII. */
static bool unmask(struct mesa_ws_reader *r, char *p, size_t len)
{
    unsigned char key[8], seen_tail = 0;
    uint64_t wide;
    size_t i = 0;
    memcpy(key, &r->mask, 4);
    memcpy(key + 4, &r->mask, 4);
    memcpy(&wide, key, sizeof wide);
    const pair wider = {wide, wide};
    pair bytes, seen = {0, 0};
    for (; len - i >= sizeof bytes; i += sizeof bytes) {
        memcpy(&bytes, p + i, sizeof bytes);
        bytes ^= wider;
        seen |= bytes;
        memcpy(p + i, &bytes, sizeof bytes);
    }
    for (; i < len; i++) {
        p[i] = (char)(p[i] ^ key[i & 3]);
        seen_tail |= (unsigned char)p[i];
    }
    unsigned char turned[4] = {key[len & 3], key[(len + 1) & 3], key[(len + 2) & 3],
                               key[(len + 3) & 3]};
    memcpy(&r->mask, turned, sizeof turned);
    return ((seen[0] | seen[1]) & UINT64_C(0x8080808080808080)) == 0 && seen_tail < 0x80;
}

static size_t take_payload(struct mesa_ws_reader *r, char *p, const char *end, bool *ascii)
{
    size_t n = (size_t)(end - p) < r->left ? (size_t)(end - p) : (size_t)r->left;
    *ascii = unmask(r, p, n);
    r->left -= n;
    return n;
}

MESA_INLINE void next_data(struct mesa_ws_reader *r, char **p, const char *end,
                           struct mesa_ws_item *out)
{
    bool ascii;
    size_t n = take_payload(r, *p, end, &ascii);
    *out = (struct mesa_ws_item){.kind = MESA_WS_ITEM_DATA,
                                 .opcode = r->message,
                                 .final = r->fin && r->left == 0,
                                 .compressed = r->compressed,
                                 .ascii = ascii,
                                 .data = *p,
                                 .len = n,
                                 .rest = r->left};
    *p += n;
    r->in_frame = r->left > 0;
    if (out->final)
        r->message = 0;
}

static void next_control(struct mesa_ws_reader *r, char **p, const char *end,
                         struct mesa_ws_item *out)
{
    bool ascii;
    size_t n = take_payload(r, *p, end, &ascii);
    const char *data = *p;
    *p += n;
    if (r->left > 0 || r->control_have > 0) {
        if (r->control == NULL && (r->control = malloc(MESA_WS_CONTROL_MAX)) == NULL) {
            out->kind = MESA_WS_ITEM_NO_MEMORY;
            return;
        }
        memcpy(r->control + r->control_have, data, n);
        r->control_have = (uint8_t)(r->control_have + n);
        if (r->left > 0)
            return;
        data = (const char *)r->control;
        n = r->control_have;
        r->control_have = 0;
    }
    r->in_frame = false;
    *out = (struct mesa_ws_item){
        .kind = MESA_WS_ITEM_CONTROL, .opcode = r->opcode, .final = true, .data = data, .len = n};
}

MESA_INLINE void next(struct mesa_ws_reader *r, char **p, char *end, struct mesa_ws_item *out,
                      bool of_server)
{
    out->kind = MESA_WS_ITEM_NONE;
    if (r->in_frame) {
        if (*p == end)
            return;
    } else {
        const char *problem = NULL;
        if (r->control_have == 0)
            mesa_ws_reader_deinit(r); /* the owner is done with the one before */
        const uint8_t *h = take_header(r, p, end, &problem, of_server);
        if (h == NULL || !begin_frame(r, h, &problem, of_server)) {
            if (problem != NULL) {
                out->kind = MESA_WS_ITEM_PROBLEM;
                out->problem = problem;
            }
            return;
        }
    }
    if (is_control(r->opcode))
        next_control(r, p, end, out);
    else
        next_data(r, p, end, out);
}

void mesa_ws_reader_next(struct mesa_ws_reader *r, char **p, char *end, struct mesa_ws_item *out)
{
    next(r, p, end, out, false);
}

void mesa_ws_reader_next_of_server(struct mesa_ws_reader *r, char **p, char *end,
                                   struct mesa_ws_item *out)
{
    next(r, p, end, out, true);
}
