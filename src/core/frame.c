/* frame.c - see frame.h. */
#include "core/frame.h"

#include <stdlib.h>

#include "base/inline.h"
#include "base/pool.h"

enum {
    FIN = 0x80,
    COMPRESSED = 0x40,
    CONTROL = 0x08,
    SHORT_MAX = 125,
    LENGTH_16 = 126,
    LENGTH_64 = 127
};

/* Of all frames, for the life of the process. Sanitizers are to see each frame by itself. */
#ifndef MESA_SANITIZED
static struct mesa_pool pool;
#endif

static struct mesa_frame *frame_alloc(size_t bytes)
{
#ifdef MESA_SANITIZED
    return malloc(bytes);
#else
    return mesa_pool_alloc(&pool, bytes);
#endif
}

static void free_one(struct mesa_frame *f)
{
#ifdef MESA_SANITIZED
    free(f);
#else
    mesa_pool_free(&pool, f, sizeof *f + f->len);
#endif
}

void mesa_frame_free(struct mesa_frame *f)
{
    while (f != NULL) {
        struct mesa_frame *next = f->compressed;
        free_one(f);
        f = next;
    }
}

/* RFC 6455 section 5.2: the length in 7, 16 or 64 bits, whichever is the shortest. */
static uint8_t header_bytes(size_t payload_len)
{
    if (payload_len <= SHORT_MAX)
        return 2;
    return payload_len <= 0xffff ? 4 : 10;
}

static void write_header(char *to, uint8_t first, uint8_t header_len, size_t payload_len)
{
    to[0] = (char)first;
    if (header_len == 2) {
        to[1] = (char)payload_len;
        return;
    }
    to[1] = header_len == 4 ? LENGTH_16 : LENGTH_64;
    uint64_t rest = payload_len;
    for (unsigned i = header_len - 1u; i >= 2; i--, rest >>= 8)
        to[i] = (char)(rest & 0xff);
}

/* A frame whose payload is still to be written. */
MESA_INLINE enum mesa_status frame_begin(struct mesa_frame **out, enum mesa_ws_opcode opcode,
                                         size_t payload_len)
{
    const size_t overhead = sizeof(struct mesa_frame) + 10;
    if (payload_len > SIZE_MAX - overhead)
        return MESA_ENOMEM;
    if ((opcode & CONTROL) && payload_len > SHORT_MAX)
        return MESA_EINVAL;

    uint8_t header_len = header_bytes(payload_len);
    struct mesa_frame *f = frame_alloc(sizeof *f + header_len + payload_len);
    if (f == NULL)
        return MESA_ENOMEM;
    f->refs = 1;
    f->header_len = header_len;
    f->opcode = (uint8_t)opcode;
    f->window_bits = 0;
    f->incompressible = false;
    f->compressed = NULL;
    f->len = header_len + payload_len;
    write_header(f->bytes, (uint8_t)(FIN | opcode), header_len, payload_len);
    *out = f;
    return MESA_OK;
}

static char *payload(struct mesa_frame *f)
{
    return f->bytes + f->header_len;
}

static char *put_span(char *p, struct mesa_span s)
{
    if (s.len > 0)
        memcpy(p, s.p, s.len);
    return p + s.len;
}

enum mesa_status mesa_frame_new3(struct mesa_frame **out, enum mesa_ws_opcode opcode,
                                 struct mesa_span a, struct mesa_span b, struct mesa_span c)
{
    if (a.len > SIZE_MAX - b.len || a.len + b.len > SIZE_MAX - c.len)
        return MESA_ENOMEM;
    enum mesa_status rc = frame_begin(out, opcode, a.len + b.len + c.len);
    if (rc == MESA_OK)
        put_span(put_span(put_span(payload(*out), a), b), c);
    return rc;
}

enum mesa_status mesa_frame_new(struct mesa_frame **out, enum mesa_ws_opcode opcode,
                                const void *bytes, size_t len)
{
    enum mesa_status rc = frame_begin(out, opcode, len);
    if (rc == MESA_OK)
        put_span(payload(*out), (struct mesa_span){bytes, len});
    return rc;
}

enum mesa_status mesa_frame_add_compressed(struct mesa_frame *f, struct mesa_span bytes,
                                           uint8_t window_bits, struct mesa_frame **out)
{
    enum mesa_status rc = frame_begin(out, (enum mesa_ws_opcode)f->opcode, bytes.len);
    if (rc != MESA_OK)
        return rc;
    put_span(payload(*out), bytes);
    (*out)->bytes[0] = (char)((*out)->bytes[0] | COMPRESSED);
    (*out)->window_bits = window_bits;
    (*out)->compressed = f->compressed;
    f->compressed = *out;
    return MESA_OK;
}

enum mesa_status mesa_frame_append_compressed(const struct mesa_frame *f, struct mesa_span bytes,
                                              struct mesa_buf *out)
{
    char header[10];
    uint8_t header_len = header_bytes(bytes.len);
    enum mesa_status rc = mesa_buf_reserve(out, header_len + bytes.len);
    if (rc != MESA_OK)
        return rc;
    write_header(header, FIN | COMPRESSED | f->opcode, header_len, bytes.len);
    (void)mesa_buf_append(out, header, header_len);
    return mesa_buf_append(out, bytes.p, bytes.len);
}
