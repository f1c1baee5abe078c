/* ws_reader_test.c - frames taken apart: every rule of RFC 6455 section 5, with the stream cut anywhere. */
#include "core/ws_reader.h"

#include <stdio.h>
#include <stdlib.h>

#include "test.h"

/* What a stream means, however it was cut: one line a message, a control frame or a problem. */
struct reading {
    struct mesa_buf lines, message;
    struct mesa_ws_reader reader;
    uint64_t announced; /* the largest rest of a frame */
};

/* Of the readers that begin from now on. */
static bool deflates;

static void note(struct reading *r, const char *kind, const struct mesa_ws_item *item,
                 struct mesa_span payload)
{
    mesa_buf_printf(&r->lines, "%s%d:%.*s\n", kind, item->opcode, (int)payload.len, payload.p);
}

static bool take(struct reading *r, const struct mesa_ws_item *item)
{
    switch (item->kind) {
    case MESA_WS_ITEM_NONE:
        return false;
    case MESA_WS_ITEM_DATA:
        mesa_buf_append(&r->message, item->data, item->len);
        if (item->rest > r->announced)
            r->announced = item->rest;
        CHECK(!item->final || item->rest == 0);
        if (item->final) {
            note(r, item->compressed ? "z" : "m", item,
                 (struct mesa_span){r->message.data, r->message.len});
            mesa_buf_reset(&r->message, 1 << 20);
        }
        return true;
    case MESA_WS_ITEM_CONTROL:
        CHECK(item->final && item->rest == 0);
        note(r, "c", item, (struct mesa_span){item->data, item->len});
        return true;
    case MESA_WS_ITEM_PROBLEM:
        mesa_buf_printf(&r->lines, "!%s\n", item->problem);
        return false;
    case MESA_WS_ITEM_NO_MEMORY:
        CHECK(false);
        return false;
    }
    return false;
}

/* Reads one segment, from memory of exactly its size. */
static bool of_server; /* whose stream is read */

static void feed(struct reading *r, const char *bytes, size_t len)
{
    struct mesa_ws_item item;
    char *copy = malloc(len > 0 ? len : 1), *p = copy;
    memcpy(copy, bytes, len);
    do
        (of_server ? mesa_ws_reader_next_of_server : mesa_ws_reader_next)(&r->reader, &p,
                                                                          copy + len, &item);
    while (take(r, &item));
    CHECK(p <= copy + len);
    CHECK(item.kind != MESA_WS_ITEM_NONE || p == copy + len);
    free(copy);
}

static void begin(struct reading *r)
{
    *r = (struct reading){.reader = {.deflates = deflates}};
}

static void end(struct reading *r)
{
    mesa_ws_reader_deinit(&r->reader);
    mesa_buf_deinit(&r->lines);
    mesa_buf_deinit(&r->message);
}

static void check_lines(struct reading *r, const char *want)
{
    CHECK_EQ_MEM(r->lines.len > 0 ? r->lines.data : "", r->lines.len, want, strlen(want));
}

/* The stream says the same in one piece, cut in two at every byte, and byte by byte. */
static void check(const void *stream, size_t len, const char *want)
{
    struct reading r;
    const char *bytes = stream;
    for (size_t cut = 0; cut <= len; cut++) {
        begin(&r);
        feed(&r, bytes, cut);
        if (r.lines.len == 0 || memchr(r.lines.data, '!', r.lines.len) == NULL)
            feed(&r, bytes + cut, len - cut);
        check_lines(&r, want);
        end(&r);
    }
    begin(&r);
    for (size_t i = 0; i < len && (r.lines.len == 0 || !memchr(r.lines.data, '!', r.lines.len));
         i++)
        feed(&r, bytes + i, 1);
    check_lines(&r, want);
    end(&r);
}

#define CHECK_STREAM(literal, want) check(literal, sizeof(literal) - 1, want)

/* Appends a masked frame whose length field has `width` bytes (0, 2 or 8). */
static void frame(struct mesa_buf *out, int first, int width, const char *payload, uint64_t len)
{
    static const unsigned char key[4] = {0xa1, 0x02, 0x7f, 0xe0};
    mesa_buf_push(out, (char)first);
    mesa_buf_push(out, (char)(0x80 | (width == 0 ? (int)len : width == 2 ? 126 : 127)));
    for (int i = width - 1; i >= 0; i--)
        mesa_buf_push(out, (char)(len >> (8 * i)));
    mesa_buf_append(out, key, sizeof key);
    for (uint64_t i = 0; payload != NULL && i < len; i++)
        mesa_buf_push(out, (char)(payload[i] ^ key[i & 3]));
}

TEST(messages_are_unmasked)
{
    /* RFC 6455 section 5.7 */
    CHECK_STREAM("\x81\x85\x37\xfa\x21\x3d\x7f\x9f\x4d\x51\x58", "m1:Hello\n");
    CHECK_STREAM("\x82\x81\0\0\0\0x", "m2:x\n");
    CHECK_STREAM("\x81\x80\1\2\3\4", "m1:\n");
    CHECK_STREAM("\x81\x80\1\2\3\4\x82\x80\4\3\2\1\x81\x81\0\0\0\0z", "m1:\nm2:\nm1:z\n");
}

TEST(fragments_are_one_message_and_control_frames_pass_between_them)
{
    CHECK_STREAM("\x01\x83\0\0\0\0Hel\x80\x82\0\0\0\0lo", "m1:Hello\n");
    CHECK_STREAM("\x02\x80\0\0\0\0\x00\x80\0\0\0\0\x80\x80\0\0\0\0", "m2:\n");
    CHECK_STREAM("\x01\x81\0\0\0\0a\x89\x82\0\0\0\0hi\x00\x81\0\0\0\0b\x8a\x80\0\0\0\0"
                 "\x88\x82\0\0\0\0ok\x80\x81\0\0\0\0c\x81\x81\0\0\0\0d",
                 "c9:hi\nc10:\nc8:ok\nm1:abc\nm1:d\n");
}

TEST(control_frames_come_whole_up_to_125_bytes)
{
    static const size_t lengths[] = {0, 1, 3, 4, 124, 125};
    char payload[126] = "", want[512];
    memset(payload, 'p', 125);
    for (size_t i = 0; i < sizeof lengths / sizeof *lengths; i++) {
        struct mesa_buf all;
        mesa_buf_init(&all);
        frame(&all, 0x89, 0, payload, lengths[i]);
        frame(&all, 0x8a, 0, "next", 4);
        snprintf(want, sizeof want, "c9:%.*s\nc10:next\n", (int)lengths[i], payload);
        check(all.data, all.len, want);
        mesa_buf_deinit(&all);
    }
    CHECK_STREAM("\x89\xfe\0\x7e\0\0\0\0", "!control frame over 125 bytes\n");
    CHECK_STREAM("\x88\xff\0\0\0\0\0\1\0\0\0\0\0\0", "!control frame over 125 bytes\n");
    CHECK_STREAM("\x8a\xfe\0\5\0\0\0\0hello", "!control frame over 125 bytes\n");
}

TEST(control_frames_are_not_fragmented)
{
    CHECK_STREAM("\x08\x80\0\0\0\0", "!fragmented control frame\n");
    CHECK_STREAM("\x09\x80\0\0\0\0", "!fragmented control frame\n");
    CHECK_STREAM("\x0a\x81\0\0\0\0x", "!fragmented control frame\n");
    CHECK_STREAM("\x01\x81\0\0\0\0x\x09\x81\0\0\0\0y", "!fragmented control frame\n");
}

TEST(servers_do_not_mask)
{
    char big[4 + 300] = "\x82\x7e\x01\x2c", want[1024] = "m2:";
    memset(big + 4, 'x', 300);
    memset(want + 3, 'x', 300);
    strcat(want, "\n");
    of_server = true;
    CHECK_STREAM("\x81\x02hi\x89\x01p\x80\x00", "m1:hi\nc9:p\n!continuation of nothing\n");
    CHECK_STREAM("\x81\x80\0\0\0\0", "!masked frame\n");
    CHECK_STREAM("\x81\x81\0\0\0\0x", "!masked frame\n");
    CHECK_STREAM("\x88\x82\0\0\0\0\x03\xe8", "!masked frame\n");
    check(big, sizeof big, want);
    of_server = false;
}

TEST(what_is_unmasked_is_refused)
{
    CHECK_STREAM("\x81\x01x", "!unmasked\n");
    CHECK_STREAM("\x81\x00", "!unmasked\n");
    CHECK_STREAM("\x82\x7e\1\0", "!unmasked\n");
    CHECK_STREAM("\x82\x7f\0\0\0\0\0\1\0\0", "!unmasked\n");
    CHECK_STREAM("\x88\x02\x03\xe8", "!unmasked\n");
    CHECK_STREAM("\x89\x00", "!unmasked\n");
    CHECK_STREAM("\x01\x81\0\0\0\0x\x80\x01y", "!unmasked\n");
}

TEST(reserved_bits_are_refused)
{
    for (int bits = 1; bits < 8; bits++)
        for (int opcode = 0; opcode < 16; opcode++) {
            char stream[] = {(char)(0x80 | bits << 4 | opcode), (char)0x80, 0, 0, 0, 0};
            check(stream, sizeof stream, "!reserved bits\n");
        }
}

TEST(the_first_reserved_bit_says_that_a_message_is_compressed_where_that_is_agreed_on)
{
    deflates = true;
    CHECK_STREAM("\xc1\x81\0\0\0\0a\x81\x81\0\0\0\0b\xc2\x81\0\0\0\0c", "z1:a\nm1:b\nz2:c\n");
    CHECK_STREAM("\x41\x81\0\0\0\0a\x89\x81\0\0\0\0p\0\x81\0\0\0\0b\x80\x81\0\0\0\0c"
                 "\x82\x81\0\0\0\0d",
                 "c9:p\nz1:abc\nm2:d\n");
    for (int bits = 1; bits < 8; bits++)
        for (int opcode = 0; opcode < 16; opcode++) {
            char stream[] = {(char)(0x80 | bits << 4 | opcode), (char)0x80, 0, 0, 0, 0};
            if (bits != 4 || opcode == 0 || opcode >= 8)
                check(stream, sizeof stream, "!reserved bits\n");
        }
    CHECK_STREAM("\x41\x81\0\0\0\0a\x40\x81\0\0\0\0b", "!reserved bits\n");
    CHECK_STREAM("\x01\x81\0\0\0\0a\xc0\x81\0\0\0\0b", "!reserved bits\n");
    CHECK_STREAM("\xc3\x80\0\0\0\0", "!unknown opcode\n");
    deflates = false;
}

TEST(unknown_opcodes_are_refused)
{
    static const int unknown[] = {3, 4, 5, 6, 7, 11, 12, 13, 14, 15};
    for (size_t i = 0; i < sizeof unknown / sizeof *unknown; i++)
        for (int fin = 0; fin < 2; fin++) {
            char stream[] = {(char)(fin << 7 | unknown[i]), (char)0x81, 0, 0, 0, 0, 'x'};
            check(stream, sizeof stream, "!unknown opcode\n");
        }
}

TEST(fragments_come_in_order)
{
    CHECK_STREAM("\x80\x81\0\0\0\0x", "!continuation of nothing\n");
    CHECK_STREAM("\x00\x81\0\0\0\0x", "!continuation of nothing\n");
    CHECK_STREAM("\x81\x81\0\0\0\0a\x80\x81\0\0\0\0x", "m1:a\n!continuation of nothing\n");
    CHECK_STREAM("\x01\x81\0\0\0\0a\x80\x81\0\0\0\0x\x00\x80\0\0\0\0",
                 "m1:ax\n!continuation of nothing\n");
    CHECK_STREAM("\x01\x81\0\0\0\0a\x81\x81\0\0\0\0x", "!message inside another\n");
    CHECK_STREAM("\x02\x80\0\0\0\0\x01\x80\0\0\0\0", "!message inside another\n");
}

TEST(lengths_are_minimal)
{
    static const struct {
        uint64_t len;
        int width;
        const char *problem; /* NULL: it is a frame */
    } cases[] = {
        {0, 2, "!length not minimal\n"},
        {125, 2, "!length not minimal\n"},
        {126, 2, NULL},
        {127, 2, NULL},
        {65535, 2, NULL},
        {0, 8, "!length not minimal\n"},
        {126, 8, "!length not minimal\n"},
        {65535, 8, "!length not minimal\n"},
        {65536, 8, NULL},
        {INT64_MAX, 8, NULL},
        {(uint64_t)INT64_MAX + 1, 8, "!length over 63 bits\n"},
        {UINT64_MAX, 8, "!length over 63 bits\n"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct mesa_buf all;
        struct reading r;
        mesa_buf_init(&all);
        begin(&r);
        frame(&all, 0x82, cases[i].width, NULL, cases[i].len);
        feed(&r, all.data, all.len);
        check_lines(&r, cases[i].problem != NULL ? cases[i].problem : "");
        CHECK(r.announced == (cases[i].problem != NULL ? 0 : cases[i].len));
        end(&r);
        mesa_buf_deinit(&all);
    }
}

TEST(a_frame_is_announced_when_its_header_is_complete)
{
    char stream[] = "\x82\xfe\x01\x00\0\0\0\0";
    struct mesa_ws_reader r = {.left = 0};
    struct mesa_ws_item item;
    char *p = stream;
    mesa_ws_reader_next(&r, &p, stream + 7, &item);
    CHECK_EQ_INT(item.kind, MESA_WS_ITEM_NONE);
    CHECK(p == stream + 7);
    mesa_ws_reader_next(&r, &p, stream + 8, &item);
    CHECK_EQ_INT(item.kind, MESA_WS_ITEM_DATA);
    CHECK_EQ_INT(item.opcode, MESA_WS_BINARY);
    CHECK_EQ_INT(item.len, 0);
    CHECK_EQ_INT(item.rest, 256);
    CHECK(!item.final);
    mesa_ws_reader_next(&r, &p, stream + 8, &item);
    CHECK_EQ_INT(item.kind, MESA_WS_ITEM_NONE);
    mesa_ws_reader_deinit(&r);
}

TEST(lengths_of_every_form_arrive_whole_wherever_they_are_cut)
{
    static const size_t lengths[] = {1, 7, 8, 9, 125, 126, 127, 65535, 65536, 65537};
    char *payload = malloc(65537);
    for (size_t i = 0; i < 65537; i++)
        payload[i] = (char)('!' + i * 7 % 90);
    for (size_t i = 0; i < sizeof lengths / sizeof *lengths; i++) {
        size_t len = lengths[i];
        struct mesa_buf all, want;
        mesa_buf_init(&all);
        mesa_buf_init(&want);
        frame(&all, 0x82, len < 126 ? 0 : len < 65536 ? 2 : 8, payload, len);
        mesa_buf_printf(&want, "m2:%.*s\n", (int)len, payload);
        for (size_t step = 1; step < 40; step++) {
            struct reading r;
            begin(&r);
            size_t cut = step * step < all.len ? step * step : all.len;
            for (size_t at = 0; at < all.len; at += cut)
                feed(&r, all.data + at, cut < all.len - at ? cut : all.len - at);
            CHECK_EQ_MEM(r.lines.data, r.lines.len, want.data, want.len);
            end(&r);
        }
        mesa_buf_deinit(&all);
        mesa_buf_deinit(&want);
    }
    free(payload);
}

TEST(the_mask_goes_on_behind_every_cut)
{
    /* three cuts, so that the mask is turned by every amount more than once */
    static const char text[] = "the quick brown fox";
    struct mesa_buf all;
    mesa_buf_init(&all);
    frame(&all, 0x81, 0, text, sizeof text - 1);
    size_t n = all.len;
    for (size_t a = 0; a <= n; a++)
        for (size_t b = a; b <= n; b++)
            for (size_t c = b; c <= n; c++) {
                struct reading r;
                begin(&r);
                feed(&r, all.data, a);
                feed(&r, all.data + a, b - a);
                feed(&r, all.data + b, c - b);
                feed(&r, all.data + c, n - c);
                check_lines(&r, "m1:the quick brown fox\n");
                end(&r);
            }
    mesa_buf_deinit(&all);
}

TEST(a_control_frame_in_pieces_leaves_nothing_behind)
{
    struct reading r;
    struct mesa_buf all;
    mesa_buf_init(&all);
    begin(&r);
    frame(&all, 0x89, 0, "ping", 4);
    frame(&all, 0x81, 0, "text", 4);
    feed(&r, all.data, 8);
    CHECK(r.reader.control != NULL);
    feed(&r, all.data + 8, all.len - 8);
    CHECK(r.reader.control == NULL);
    check_lines(&r, "c9:ping\nm1:text\n");
    feed(&r, all.data, 8); /* one that never ends is given back with the reader */
    end(&r);
    mesa_buf_deinit(&all);
}
