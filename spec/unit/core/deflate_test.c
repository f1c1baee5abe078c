/* deflate_test.c - messages compressed and inflated: RFC 7692 section 7.2.3 byte for byte, windows, bounds
 * and memory.
 */
#include "core/deflate.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <zlib.h>

#include "test.h"

static struct mesa_deflate_streams *streams;
static struct mesa_buf out;

static const struct mesa_deflate_options shared = {.level = 6, .max_memory = 1 << 26};
static const struct mesa_deflate_options kept = {
    .takeover = true, .level = 6, .max_memory = 1 << 26};

static void begin(void)
{
    CHECK_EQ_INT(mesa_deflate_streams_new(&streams), MESA_OK);
    mesa_buf_init(&out);
}

static void end(void)
{
    CHECK_EQ_INT(mesa_deflate_reserved(streams), 0);
    CHECK_EQ_INT(mesa_deflate_allocated(streams), 0);
    mesa_deflate_streams_free(streams);
    mesa_buf_deinit(&out);
}

static struct mesa_deflate *connect_with(const char *offer,
                                         const struct mesa_deflate_options *options)
{
    struct mesa_deflate *d = NULL;
    struct mesa_span header = {offer, strlen(offer)};
    CHECK_EQ_INT(mesa_deflate_new(&d, streams, header, options), MESA_OK);
    return d;
}

/* -- in -- */

static void inflates_to(struct mesa_deflate *d, const void *message, size_t len, const char *want)
{
    /* from memory of exactly its size */
    char *copy = malloc(len > 0 ? len : 1);
    memcpy(copy, message, len);
    out.len = 0;
    CHECK_EQ_INT(mesa_deflate_read(d, (struct mesa_span){copy, len}, 1000, &out), MESA_OK);
    CHECK_EQ_MEM(out.len > 0 ? out.data : "", out.len, want, strlen(want));
    free(copy);
}

#define INFLATES_TO(d, literal, want) inflates_to(d, literal, sizeof(literal) - 1, want)

static enum mesa_status inflate_status(struct mesa_deflate *d, const char *p, size_t len)
{
    out.len = 0;
    return mesa_deflate_read(d, (struct mesa_span){p, len}, 1000, &out);
}

#define IS_DAMAGED(d, literal) \
    CHECK_EQ_INT(inflate_status(d, literal, sizeof(literal) - 1), MESA_EPROTO)

TEST(the_examples_of_the_rfc_are_read)
{
    begin();
    struct mesa_deflate *d = connect_with("permessage-deflate", &kept);
    INFLATES_TO(d, "\xf2\x48\xcd\xc9\xc9\x07\x00", "Hello"); /* 7.2.3.1 */
    INFLATES_TO(d, "\xf2\x48\xcd\xc9\xc9\x07\x00", "Hello"); /* 7.2.3.2 */
    INFLATES_TO(d, "\xf2\x00\x11\x00\x00", "Hello");         /* with the same window */
    INFLATES_TO(d, "\x00\x05\x00\xfa\xff\x48\x65\x6c\x6c\x6f\x00", "Hello"); /* 7.2.3.3 */
    INFLATES_TO(d, "\xf3\x48\xcd\xc9\xc9\x07\x00\x00", "Hello");             /* 7.2.3.4: BFINAL */
    INFLATES_TO(d, "\xf2\x48\x05\x00\x00\x00\xff\xff\xca\xc9\xc9\x07\x00", "Hello"); /* 7.2.3.5 */
    INFLATES_TO(d, "\x00", "");                                                      /* 7.2.3.6 */
    INFLATES_TO(d, "\x02\x00", "");
    mesa_deflate_free(d);
    end();
}

TEST(blocks_that_say_they_are_the_last_are_followed_by_others)
{
    begin();
    struct mesa_deflate *d = connect_with("permessage-deflate", &kept);
    INFLATES_TO(d, "\xf3\x48\xcd\xc9\xc9\x07\x00", "Hello"); /* nothing behind it */
    INFLATES_TO(d, "\xf2\x00\x11\x00\x00", "Hello");         /* what was before it is remembered */
    INFLATES_TO(d, "\xf3\x48\xcd\xc9\xc9\x07\x00\xf3\x48\xcd\xc9\xc9\x07\x00\x00", "HelloHello");
    INFLATES_TO(d, "\xf3\x48\xcd\xc9\xc9\x07\x00\xf2\x00\x11\x00\x00", "HelloHello");
    mesa_deflate_free(d);
    d = connect_with("permessage-deflate", &shared);
    INFLATES_TO(d, "\xf3\x48\xcd\xc9\xc9\x07\x00\xf2\x00\x11\x00\x00", "HelloHello");
    INFLATES_TO(d, "\xf3\x48\xcd\xc9\xc9\x07\x00\x00", "Hello");
    mesa_deflate_free(d);
    end();
}

TEST(an_empty_message_may_have_no_bytes_at_all)
{
    begin();
    struct mesa_deflate *d = connect_with("permessage-deflate", &kept);
    INFLATES_TO(d, "\xf2\x48\xcd\xc9\xc9\x07\x00", "Hello");
    INFLATES_TO(d, "", "");
    INFLATES_TO(d, "\xf2\x00\x11\x00\x00", "Hello");
    mesa_deflate_free(d);
    end();
}

TEST(what_is_damaged_or_cut_is_refused_and_the_next_connection_is_served)
{
    begin();
    struct mesa_deflate *d = connect_with("permessage-deflate", &shared);
    IS_DAMAGED(d, "\xff\xff\xff\xff");
    IS_DAMAGED(d, "\x06\x00");                                     /* a block of no type */
    IS_DAMAGED(d, "\xf2\x48\xcd\xc9\xc9");                         /* cut in a block */
    IS_DAMAGED(d, "\xf2\x48\xcd\xc9\xc9\x07\x00\x00\x00\xff\xff"); /* its end was not taken off */
    IS_DAMAGED(d, "\x00\x05\x00\xfa\xff\x48\x65");                 /* cut in stored bytes */
    IS_DAMAGED(d, "\x00\x05\x00\xfa\xfe\x48\x65\x6c\x6c\x6f\x00"); /* a wrong length */
    IS_DAMAGED(d, "\xf2\x00\x11\x00\x00"); /* refers to what was never sent */
    INFLATES_TO(d, "\xf2\x48\xcd\xc9\xc9\x07\x00", "Hello");
    IS_DAMAGED(d, "\xf2\x00\x11\x00\x00"); /* nor is there anything of another message */
    mesa_deflate_free(d);
    end();
}

/* What zlib makes of `len` bytes with a window. */
static void deflate_like_a_peer(struct mesa_buf *to, const char *p, size_t len, int bits)
{
    z_stream z = {.zalloc = NULL};
    mesa_buf_reserve(to, len + len / 8 + 64);
    CHECK_EQ_INT(deflateInit2(&z, 9, Z_DEFLATED, -bits, 9, Z_DEFAULT_STRATEGY), Z_OK);
    z.next_in = (unsigned char *)(uintptr_t)p;
    z.avail_in = (uInt)len;
    z.next_out = (unsigned char *)to->data;
    z.avail_out = (uInt)to->cap;
    CHECK_EQ_INT(deflate(&z, Z_SYNC_FLUSH), Z_OK);
    to->len = to->cap - z.avail_out - 4;
    deflateEnd(&z);
}

TEST(a_message_is_inflated_up_to_the_bound_and_not_beyond)
{
    enum { BOMB = 64 << 20, MAX = 100000 };
    struct mesa_buf bomb;
    begin();
    mesa_buf_init(&bomb);
    char *zeroes = calloc(1, BOMB);
    struct mesa_deflate *d = connect_with("permessage-deflate", &shared);
    deflate_like_a_peer(&bomb, zeroes, BOMB, 15);
    CHECK(bomb.len < BOMB / 1000);
    struct mesa_span message = {bomb.data, bomb.len};
    CHECK_EQ_INT(mesa_deflate_read(d, message, MAX, &out), MESA_ETOOBIG);
    CHECK(out.cap <= 3 * MAX); /* it is doubled */

    static const size_t around[] = {0, 1, 1023, 1024, 1025, 99999, 100000};
    for (size_t i = 0; i < sizeof around / sizeof *around; i++) {
        size_t n = around[i];
        bomb.len = out.len = 0;
        deflate_like_a_peer(&bomb, zeroes, n, 15);
        message = (struct mesa_span){bomb.data, bomb.len};
        CHECK_EQ_INT(mesa_deflate_read(d, message, n, &out), MESA_OK);
        CHECK_EQ_INT(out.len, n);
        if (n == 0)
            continue;
        out.len = 0;
        CHECK_EQ_INT(mesa_deflate_read(d, message, n - 1, &out), MESA_ETOOBIG);
        mesa_buf_deinit(&out);
    }
    free(zeroes);
    mesa_buf_deinit(&bomb);
    mesa_deflate_free(d);
    end();
}

/* -- out -- */

static struct mesa_frame *text(const void *p, size_t len)
{
    struct mesa_frame *f = NULL;
    CHECK_EQ_INT(mesa_frame_new(&f, MESA_WS_TEXT, p, len), MESA_OK);
    return f;
}

/* Writes `f` through the connection's own window; the payload. */
static struct mesa_span write_own(struct mesa_deflate *d, struct mesa_frame *f)
{
    out.len = 0;
    CHECK_EQ_INT(mesa_deflate_write(d, f, &out), MESA_OK);
    size_t len = out.data[1] & 0x7f, head = len < 126 ? 2 : len == 126 ? 4 : 10;
    return (struct mesa_span){out.data + head, out.len - head};
}

TEST(the_examples_of_the_rfc_are_written)
{
    begin();
    struct mesa_deflate *d = connect_with("permessage-deflate", &kept);
    struct mesa_frame *hello = text("Hello", 5);
    CHECK_EQ_INT(mesa_deflate_write(d, hello, &out), MESA_OK);
    CHECK_EQ_INT(mesa_deflate_write(d, hello, &out), MESA_OK);
    CHECK_EQ_MEM(out.data, out.len,
                 "\xc1\x07\xf2\x48\xcd\xc9\xc9\x07\x00\xc1\x05\xf2\x00\x11\x00\x00", 16);
    mesa_frame_unref(hello);
    mesa_deflate_free(d);
    end();
}

TEST(a_frame_is_compressed_once_for_each_size_of_window)
{
    begin();
    struct mesa_deflate *a = connect_with("permessage-deflate", &shared);
    struct mesa_deflate *b = connect_with("permessage-deflate; client_max_window_bits", &shared);
    struct mesa_deflate *c = connect_with("permessage-deflate; server_max_window_bits=9", &shared);
    struct mesa_frame *f = text("HelloHelloHelloHello", 20);
    struct mesa_frame *first = mesa_deflate_frame(a, f);
    CHECK(first != f && first == mesa_deflate_frame(b, f) && first == mesa_deflate_frame(a, f));
    struct mesa_frame *second = mesa_deflate_frame(c, f);
    CHECK(second != f && second != first && second == mesa_deflate_frame(c, f));
    CHECK(first == mesa_deflate_frame(a, f));
    CHECK_EQ_INT((unsigned char)first->bytes[0], 0xc1);
    CHECK_EQ_MEM(f->bytes, f->len, "\x81\x14HelloHelloHelloHello", 22);
    struct mesa_span payload = mesa_frame_payload(first);
    inflates_to(a, payload.p, payload.len, "HelloHelloHelloHello");
    mesa_frame_unref(f);
    mesa_deflate_free(a);
    mesa_deflate_free(b);
    mesa_deflate_free(c);
    end();
}

TEST(what_does_not_get_smaller_goes_as_it_is)
{
    begin();
    struct mesa_deflate *d = connect_with("permessage-deflate", &shared);
    struct mesa_frame *f = text("\x01\x92\x7f", 3);
    CHECK(mesa_deflate_frame(d, f) == f);
    CHECK(mesa_deflate_frame(d, f) == f && f->incompressible && f->compressed == NULL);
    mesa_frame_unref(f);
    mesa_deflate_free(d);
    end();
}

/* A text with repetitions at all distances. */
static void fill(char *p, size_t len, unsigned seed)
{
    for (size_t i = 0; i < len; i++) {
        seed = seed * 1103515245 + 12345;
        size_t back = 1 + (seed >> 8) % 40000;
        p[i] = (seed >> 24) % 8 != 0 && back <= i ? p[i - back] : (char)(seed >> 16);
        for (unsigned n = (seed >> 20) % 300; n > 0 && i + 1 < len && back <= i; n--, i++)
            p[i + 1] = p[i + 1 - back];
    }
}

/* Inflates with a window of just 2^bits, byte by byte, so that nothing beyond it can be referred to. */
static bool fits_window(struct mesa_span payload, int bits, const char *want, size_t len)
{
    static const unsigned char tail[4] = {0, 0, 0xff, 0xff};
    z_stream z = {.zalloc = NULL};
    bool same = inflateInit2(&z, -bits) == Z_OK;
    size_t at = 0;
    for (int part = 0; part < 2; part++) {
        z.next_in = part == 0 ? (unsigned char *)(uintptr_t)payload.p : (unsigned char *)tail;
        z.avail_in = part == 0 ? (uInt)payload.len : 4;
        int rc = Z_OK;
        while (same && rc == Z_OK) {
            unsigned char byte;
            z.next_out = &byte;
            z.avail_out = 1;
            rc = inflate(&z, Z_SYNC_FLUSH);
            if (z.avail_out == 0)
                same = at < len && byte == (unsigned char)want[at++];
        }
        same = same && rc == Z_BUF_ERROR;
    }
    inflateEnd(&z);
    return same && at == len;
}

TEST(no_window_is_left_whatever_its_size)
{
    enum { LEN = 100000 };
    char *p = malloc(LEN), offer[64];
    struct mesa_frame *f;
    begin();
    fill(p, LEN, 7);
    f = text(p, LEN);
    for (int bits = 8; bits <= 15; bits++) {
        snprintf(offer, sizeof offer, "permessage-deflate; server_max_window_bits=%d", bits);
        struct mesa_deflate *d = connect_with(offer, &shared), *k = connect_with(offer, &kept);
        struct mesa_frame *small = mesa_deflate_frame(d, f);
        CHECK(small->len < f->len);
        CHECK(fits_window(mesa_frame_payload(small), bits, p, LEN));
        CHECK(fits_window(write_own(k, f), bits, p, LEN));
        CHECK_EQ_INT(mesa_deflate_terms(k)->out.bits, bits < 12 ? bits : 12);
        mesa_deflate_free(d);
        mesa_deflate_free(k);
    }
    mesa_frame_unref(f);
    free(p);
    end();
}

TEST(messages_of_all_sizes_come_back)
{
    char *p = malloc(200000);
    struct mesa_buf plain;
    begin();
    mesa_buf_init(&plain);
    fill(p, 200000, 3);
    for (int takeover = 0; takeover < 2; takeover++) {
        struct mesa_deflate *d = connect_with("permessage-deflate", takeover ? &kept : &shared);
        for (size_t len = 1; len < 200000; len = len * 5 / 4 + 1) {
            struct mesa_frame *f = text(p + len % 7, len - len % 7);
            struct mesa_span payload = mesa_frame_payload(f);
            if (takeover) {
                payload = write_own(d, f);
            } else if (mesa_deflate_frame(d, f) != f) {
                payload = mesa_frame_payload(mesa_deflate_frame(d, f));
            } else {
                payload.len = 0;
            }
            plain.len = 0;
            CHECK_EQ_INT(mesa_deflate_read(d, payload, len, &plain), MESA_OK);
            if (payload.len > 0)
                CHECK_EQ_MEM(plain.data, plain.len, p + len % 7, len - len % 7);
            mesa_frame_unref(f);
        }
        mesa_deflate_free(d);
    }
    mesa_buf_deinit(&plain);
    free(p);
    end();
}

/* -- memory -- */

static void use(struct mesa_deflate *d)
{
    static const char hello[] = "\xf2\x48\xcd\xc9\xc9\x07\x00";
    static char big[300000];
    struct mesa_frame *f = text(big, sizeof big);
    struct mesa_span payload = write_own(d, f);
    struct mesa_buf plain;
    mesa_frame_unref(f);
    mesa_buf_init(&plain);
    CHECK_EQ_INT(mesa_deflate_read(d, payload, sizeof big, &plain), MESA_OK);
    inflates_to(d, hello, 7, "Hello");
    mesa_buf_deinit(&plain);
}

TEST(a_connection_takes_what_the_readme_says)
{
    begin();
    struct mesa_deflate *d = connect_with("permessage-deflate", &shared);
    CHECK_EQ_INT(mesa_deflate_reserved(streams), 0);
    inflates_to(d, "\xf2\x48\xcd\xc9\xc9\x07\x00", 7, "Hello");
    CHECK_EQ_INT(mesa_deflate_allocated(streams), 0);
    mesa_deflate_free(d);

    /* who offers client_max_window_bits, as browsers on Chromium and ws do; who does not */
    static const struct {
        const char *offer;
        size_t bytes;
    } cases[] = {
        {"permessage-deflate; client_max_window_bits", 54 * 1024},
        {"permessage-deflate", 82 * 1024},
        {"permessage-deflate; client_no_context_takeover", 40 * 1024},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        d = connect_with(cases[i].offer, &kept);
        CHECK_EQ_INT(mesa_deflate_reserved(streams), cases[i].bytes);
        CHECK_EQ_INT(mesa_deflate_allocated(streams), 0); /* nothing was said yet */
        use(d);
        CHECK(mesa_deflate_allocated(streams) <= cases[i].bytes);
        CHECK(mesa_deflate_allocated(streams) > cases[i].bytes / 10 * 8);
        mesa_deflate_free(d);
    }
    end();
}

TEST(what_is_reserved_is_enough_for_every_window)
{
    begin();
    for (int out_bits = 8; out_bits <= 15; out_bits++)
        for (int in_bits = 8; in_bits <= 15; in_bits++) {
            char offer[128];
            snprintf(offer, sizeof offer,
                     "permessage-deflate; server_max_window_bits=%d; client_max_window_bits=%d",
                     out_bits, in_bits);
            struct mesa_deflate *d = connect_with(offer, &kept);
            use(d);
            CHECK(mesa_deflate_allocated(streams) <= mesa_deflate_reserved(streams));
            mesa_deflate_free(d);
        }
    end();
}

TEST(beyond_the_bound_no_windows_are_kept)
{
    struct mesa_deflate_options few = kept;
    struct mesa_deflate *d[3];
    begin();
    few.max_memory = 2 * 54 * 1024;
    for (int i = 0; i < 3; i++) {
        d[i] = connect_with("permessage-deflate; client_max_window_bits", &few);
        CHECK_EQ_INT(mesa_deflate_terms(d[i])->out.takeover, i < 2);
        CHECK_EQ_INT(mesa_deflate_terms(d[i])->in.takeover, i < 2);
    }
    CHECK_EQ_INT(mesa_deflate_reserved(streams), few.max_memory);
    mesa_deflate_free(d[0]);
    d[0] = connect_with("permessage-deflate; client_max_window_bits", &few);
    CHECK(mesa_deflate_terms(d[0])->out.takeover);
    for (int i = 0; i < 3; i++)
        mesa_deflate_free(d[i]);
    end();
}

TEST(what_is_not_offered_is_not_begun)
{
    struct mesa_deflate *d = NULL;
    begin();
    CHECK_EQ_INT(mesa_deflate_new(&d, streams, MESA_SPAN("foo"), &kept), MESA_ENOTFOUND);
    CHECK_EQ_INT(mesa_deflate_new(&d, streams, MESA_SPAN("foo;"), &kept), MESA_EPROTO);
    CHECK(d == NULL);
    end();
}

TEST(levels_differ)
{
    struct mesa_deflate_options quick = shared;
    char *p = malloc(50000);
    begin();
    quick.level = 1;
    fill(p, 50000, 11);
    struct mesa_frame *f = text(p, 50000), *g = text(p, 50000);
    struct mesa_deflate *best = connect_with("permessage-deflate", &shared);
    struct mesa_deflate *quickest = connect_with("permessage-deflate", &quick);
    size_t small = mesa_deflate_frame(best, f)->len, large = mesa_deflate_frame(quickest, g)->len;
    CHECK(small < large);
    mesa_frame_unref(f);
    f = text(p, 50000);
    CHECK_EQ_INT(mesa_deflate_frame(best, f)->len, small);
    mesa_frame_unref(f);
    mesa_frame_unref(g);
    mesa_deflate_free(best);
    mesa_deflate_free(quickest);
    free(p);
    end();
}
