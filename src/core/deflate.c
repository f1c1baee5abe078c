/* deflate.c - see deflate.h. */
#include "core/deflate.h"

#include <stdlib.h>
#include <string.h>
#include <zlib.h>

enum {
    SCRATCH_KEEP_BYTES = 64 * 1024,
    FIRST_ROOM_BYTES = 1024,
    /* what zlib's structures take apart from windows and tables, with room for later versions */
    OUT_STATE_BYTES = 8 * 1024,
    IN_STATE_BYTES = 10 * 1024,
};

/* What a message ends with when it is flushed, and is sent without (RFC 7692 section 7.2.1). */
static const unsigned char flushed[4] = {0, 0, 0xff, 0xff};

/* A compressor that is not there until it is needed. */
struct out_stream {
    z_stream z;
    bool begun;
    int level;
};

struct mesa_deflate_streams {
    struct out_stream out[MESA_DEFLATE_BITS_MAX + 1]; /* by the size of the window */
    z_stream in;
    bool in_begun;
    struct mesa_buf scratch;
    size_t reserved, allocated; /* by connections */
};

struct mesa_deflate {
    struct mesa_deflate_streams *streams;
    struct mesa_deflate_terms terms;
    int level;
    struct out_stream *out; /* NULL: the window is not kept, or nothing was sent yet */
    z_stream *in;           /* NULL: the same */
};

/* -- memory -- */

/* The windows that are kept are counted: each block has its size in front. */
static void *counted_alloc(void *ctx, unsigned items, unsigned size)
{
    struct mesa_deflate_streams *s = ctx;
    const size_t head = _Alignof(max_align_t);
    size_t bytes = head + (size_t)items * size;
    char *block = malloc(bytes);
    if (block == NULL)
        return NULL;
    memcpy(block, &bytes, sizeof bytes);
    s->allocated += bytes;
    return block + head;
}

static void counted_free(void *ctx, void *p)
{
    struct mesa_deflate_streams *s = ctx;
    char *block = (char *)p - _Alignof(max_align_t);
    size_t bytes;
    memcpy(&bytes, block, sizeof bytes);
    s->allocated -= bytes;
    free(block);
}

/* zlib's tables for a window: 8, its default, for the largest. */
static int mem_level_of(unsigned bits)
{
    return (int)bits - 7;
}

/* As zconf.h says. */
static size_t out_bytes(unsigned bits)
{
    unsigned window = bits > MESA_DEFLATE_BITS_MIN ? bits : MESA_DEFLATE_BITS_MIN + 1;
    return ((size_t)1 << (window + 2)) + ((size_t)1 << (mem_level_of(bits) + 9)) + OUT_STATE_BYTES;
}

static size_t in_bytes(unsigned bits)
{
    return ((size_t)1 << bits) + IN_STATE_BYTES;
}

/* What the connection may come to have, besides itself. */
static size_t kept_bytes(const struct mesa_deflate_terms *t)
{
    return (t->out.takeover ? out_bytes(t->out.bits) : 0) +
           (t->in.takeover ? in_bytes(t->in.bits) : 0);
}

/* -- streams -- */

static bool begin_out(struct out_stream *o, unsigned bits, int level)
{
    /* zlib has no raw windows of 256 bytes, but with one of 512 it looks back 250 bytes at most: a match
     * must be as far from the window's end as the longest and what is to be compared with it. */
    int window = bits > MESA_DEFLATE_BITS_MIN ? (int)bits : MESA_DEFLATE_BITS_MIN + 1;
    o->level = level;
    o->begun = deflateInit2(&o->z, level, Z_DEFLATED, -window, mem_level_of(bits),
                            Z_DEFAULT_STRATEGY) == Z_OK;
    return o->begun;
}

static void end_out(struct out_stream *o)
{
    if (o->begun)
        (void)deflateEnd(&o->z);
    o->begun = false;
}

/* The process's compressor for a window, as if it had never been used. NULL: no memory. */
static z_stream *shared_out(const struct mesa_deflate *d)
{
    struct out_stream *o = &d->streams->out[d->terms.out.bits];
    if (o->begun && o->level != d->level)
        end_out(o);
    if (o->begun)
        return deflateReset(&o->z) == Z_OK ? &o->z : NULL;
    return begin_out(o, d->terms.out.bits, d->level) ? &o->z : NULL;
}

static z_stream *kept_out(struct mesa_deflate *d)
{
    if (d->out != NULL)
        return &d->out->z;
    struct out_stream *o = calloc(1, sizeof *o);
    if (o == NULL)
        return NULL;
    o->z = (z_stream){.zalloc = counted_alloc, .zfree = counted_free, .opaque = d->streams};
    if (!begin_out(o, d->terms.out.bits, d->level)) {
        free(o);
        return NULL;
    }
    d->out = o;
    return &o->z;
}

/* The window of the process's serves smaller ones as well. */
static z_stream *shared_in(struct mesa_deflate_streams *s)
{
    if (s->in_begun)
        return inflateReset(&s->in) == Z_OK ? &s->in : NULL;
    s->in_begun = inflateInit2(&s->in, -MESA_DEFLATE_BITS_MAX) == Z_OK;
    return s->in_begun ? &s->in : NULL;
}

static z_stream *kept_in(struct mesa_deflate *d)
{
    if (d->in != NULL)
        return d->in;
    z_stream *z = calloc(1, sizeof *z);
    if (z == NULL)
        return NULL;
    z->zalloc = counted_alloc;
    z->zfree = counted_free;
    z->opaque = d->streams;
    if (inflateInit2(z, -(int)d->terms.in.bits) != Z_OK) {
        free(z);
        return NULL;
    }
    d->in = z;
    return z;
}

/* -- making and freeing -- */

enum mesa_status mesa_deflate_streams_new(struct mesa_deflate_streams **out)
{
    struct mesa_deflate_streams *s = calloc(1, sizeof *s);
    if (s == NULL)
        return MESA_ENOMEM;
    *out = s;
    return MESA_OK;
}

void mesa_deflate_streams_free(struct mesa_deflate_streams *s)
{
    if (s == NULL)
        return;
    for (unsigned bits = 0; bits <= MESA_DEFLATE_BITS_MAX; bits++)
        end_out(&s->out[bits]);
    if (s->in_begun)
        (void)inflateEnd(&s->in);
    mesa_buf_deinit(&s->scratch);
    free(s);
}

size_t mesa_deflate_reserved(const struct mesa_deflate_streams *s)
{
    return s->reserved;
}

size_t mesa_deflate_allocated(const struct mesa_deflate_streams *s)
{
    return s->allocated;
}

enum mesa_status mesa_deflate_new(struct mesa_deflate **out, struct mesa_deflate_streams *s,
                                  struct mesa_span header,
                                  const struct mesa_deflate_options *options)
{
    struct mesa_deflate_wish wish = {options->takeover, MESA_DEFLATE_KEPT_BITS};
    struct mesa_deflate_terms terms;
    enum mesa_status rc = mesa_deflate_negotiate(header, &wish, &terms);
    size_t free_bytes = options->max_memory > s->reserved ? options->max_memory - s->reserved : 0;
    if (rc == MESA_OK && kept_bytes(&terms) > free_bytes) {
        wish.takeover = false;
        rc = mesa_deflate_negotiate(header, &wish, &terms);
    }
    if (rc != MESA_OK)
        return rc;
    struct mesa_deflate *d = calloc(1, sizeof *d);
    if (d == NULL)
        return MESA_ENOMEM;
    d->streams = s;
    d->terms = terms;
    d->level = options->level;
    s->reserved += kept_bytes(&terms);
    *out = d;
    return MESA_OK;
}

void mesa_deflate_free(struct mesa_deflate *d)
{
    if (d == NULL)
        return;
    if (d->out != NULL)
        end_out(d->out);
    if (d->in != NULL)
        (void)inflateEnd(d->in);
    free(d->out);
    free(d->in);
    d->streams->reserved -= kept_bytes(&d->terms);
    free(d);
}

const struct mesa_deflate_terms *mesa_deflate_terms(const struct mesa_deflate *d)
{
    return &d->terms;
}

/* -- in -- */

/* Inflates some of a message, `out` growing to `max` bytes and one more. *ended: the last block said that
 * it is the last, and nothing is behind it. */
static enum mesa_status inflate_some(z_stream *z, const void *bytes, size_t len, size_t max,
                                     struct mesa_buf *out, bool *ended)
{
    z->next_in = (unsigned char *)(uintptr_t)bytes;
    z->avail_in = (uInt)len;
    do {
        size_t want = out->len > FIRST_ROOM_BYTES ? out->len : FIRST_ROOM_BYTES;
        size_t left = max - out->len + 1, room;
        if (mesa_buf_reserve(out, want < left ? want : left) != MESA_OK)
            return MESA_ENOMEM;
        room = out->cap - out->len < left ? out->cap - out->len : left;
        z->next_out = (unsigned char *)out->data + out->len;
        z->avail_out = (uInt)room;
        int rc = inflate(z, Z_SYNC_FLUSH);
        out->len += room - z->avail_out;
        if (out->len > max)
            return MESA_ETOOBIG;
        if (rc == Z_MEM_ERROR)
            return MESA_ENOMEM;
        *ended = rc == Z_STREAM_END && z->avail_in == 0;
        /* what follows the end may still refer to what was before it: the window stays */
        if (rc == Z_STREAM_END)
            rc = inflateResetKeep(z);
        if (*ended)
            return MESA_OK;
        if (rc != Z_OK && rc != Z_BUF_ERROR)
            return MESA_EPROTO;
    } while (z->avail_in > 0 || z->avail_out == 0);
    return MESA_OK;
}

enum mesa_status mesa_deflate_read(struct mesa_deflate *d, struct mesa_span message,
                                   size_t max_bytes, struct mesa_buf *out)
{
    z_stream *z = d->terms.in.takeover ? kept_in(d) : shared_in(d->streams);
    bool ended = false;
    if (z == NULL)
        return MESA_ENOMEM;
    if (message.len == 0)
        return MESA_OK;
    enum mesa_status rc = inflate_some(z, message.p, message.len, max_bytes, out, &ended);
    if (rc != MESA_OK || ended)
        return rc;
    rc = inflate_some(z, flushed, sizeof flushed, max_bytes, out, &ended);
    if (rc != MESA_OK)
        return rc;
    bool between_blocks = (z->data_type & 128) != 0;
    return between_blocks ? MESA_OK : MESA_EPROTO;
}

/* -- out -- */

/* Appends the compressed payload. */
static enum mesa_status deflate_payload(z_stream *z, struct mesa_span payload, struct mesa_buf *out)
{
    if (payload.len == 0)
        return mesa_buf_push(out, 0); /* zlib flushes nothing twice; section 7.2.3.6 */
    z->next_in = (unsigned char *)(uintptr_t)payload.p;
    z->avail_in = (uInt)payload.len;
    do {
        size_t want = payload.len / 2 + FIRST_ROOM_BYTES;
        if (mesa_buf_reserve(out, want) != MESA_OK)
            return MESA_ENOMEM;
        size_t room = out->cap - out->len;
        z->next_out = (unsigned char *)out->data + out->len;
        z->avail_out = (uInt)room;
        if (deflate(z, Z_SYNC_FLUSH) == Z_STREAM_ERROR)
            return MESA_ENOMEM;
        out->len += room - z->avail_out;
    } while (z->avail_out == 0);
    out->len -= sizeof flushed;
    return MESA_OK;
}

static struct mesa_frame *make_version(struct mesa_deflate *d, struct mesa_frame *f)
{
    struct mesa_buf *scratch = &d->streams->scratch;
    struct mesa_frame *compressed;
    z_stream *z = shared_out(d);
    mesa_buf_reset(scratch, SCRATCH_KEEP_BYTES);
    if (z == NULL || deflate_payload(z, mesa_frame_payload(f), scratch) != MESA_OK)
        return f; /* there is no memory: it goes as it is */
    struct mesa_span bytes = {scratch->data, scratch->len};
    if (bytes.len >= mesa_frame_payload(f).len) {
        f->incompressible = true;
        return f;
    }
    if (mesa_frame_add_compressed(f, bytes, d->terms.out.bits, &compressed) != MESA_OK)
        return f;
    return compressed;
}

struct mesa_frame *mesa_deflate_frame(struct mesa_deflate *d, struct mesa_frame *f)
{
    if (f->incompressible)
        return f;
    for (struct mesa_frame *v = f->compressed; v != NULL; v = v->compressed)
        if (v->window_bits == d->terms.out.bits)
            return v;
    return make_version(d, f);
}

enum mesa_status mesa_deflate_write(struct mesa_deflate *d, const struct mesa_frame *f,
                                    struct mesa_buf *out)
{
    struct mesa_buf *scratch = &d->streams->scratch;
    z_stream *z = kept_out(d);
    mesa_buf_reset(scratch, SCRATCH_KEEP_BYTES);
    if (z == NULL || deflate_payload(z, mesa_frame_payload(f), scratch) != MESA_OK)
        return MESA_ENOMEM;
    return mesa_frame_append_compressed(f, (struct mesa_span){scratch->data, scratch->len}, out);
}
