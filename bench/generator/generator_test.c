/* A generator that checks servers must itself be checked: frames, messages, dialects, histogram. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "bytes.h"
#include "hist.h"
#include "jsonwalk.h"
#include "message.h"
#include "test.h"
#include "wsframe.h"

/* A server's frame, in a block of exactly its size so that the sanitizer sees a read past its end. */
static uint8_t *server_frame(uint8_t first, size_t len, size_t *size)
{
    size_t wide = len < 126 ? 0 : len <= UINT16_MAX ? 2 : 8;
    *size = 2 + wide + len;
    uint8_t *p = xmalloc(*size);
    p[0] = first;
    p[1] = (uint8_t)(wide == 0 ? len : wide == 2 ? 126 : 127);
    for (size_t i = 0; i < wide; i++)
        p[2 + i] = (uint8_t)((uint64_t)len >> (8 * (wide - 1 - i)));
    for (size_t i = 0; i < len; i++)
        p[2 + wide + i] = (uint8_t)('a' + i % 26);
    return p;
}

TEST(a_frame_cut_anywhere_is_incomplete)
{
    static const size_t lengths[] = {0, 1, 125, 126, 127, 300, 65535, 65536, 70000};
    for (size_t i = 0; i < sizeof lengths / sizeof lengths[0]; i++) {
        size_t size;
        uint8_t *whole = server_frame(0x80 | WS_TEXT, lengths[i], &size);
        size_t step = size > 1000 ? 997 : 1;
        for (size_t cut = 0; cut < size; cut += cut < 20 ? 1 : step) {
            struct ws_frame f;
            uint8_t *part = xmalloc(cut);
            memcpy(part, whole, cut);
            CHECK(ws_frame_parse(part, cut, 1 << 20, &f) == WS_PARSE_MORE);
            free(part);
        }
        struct ws_frame f;
        CHECK(ws_frame_parse(whole, size, 1 << 20, &f) == WS_PARSE_FRAME);
        CHECK(f.size == size && f.len == lengths[i] && f.fin && f.opcode == WS_TEXT &&
              f.payload + f.len == whole + size);
        if (lengths[i] > 0)
            CHECK(ws_frame_parse(whole, size, lengths[i] - 1, &f) == WS_PARSE_BAD);
        free(whole);
    }
}

TEST(frames_follow_each_other)
{
    size_t first_size, second_size;
    uint8_t *first = server_frame(WS_TEXT, 200, &first_size); /* not final */
    uint8_t *second = server_frame(0x80 | WS_CONTINUATION, 3, &second_size);
    uint8_t *both = xmalloc(first_size + second_size);
    memcpy(both, first, first_size);
    memcpy(both + first_size, second, second_size);

    struct ws_frame f;
    CHECK(ws_frame_parse(both, first_size + second_size, 1000, &f) == WS_PARSE_FRAME);
    CHECK(f.size == first_size && !f.fin);
    CHECK(ws_frame_parse(both + f.size, second_size, 1000, &f) == WS_PARSE_FRAME);
    CHECK(f.size == second_size && f.fin && f.opcode == WS_CONTINUATION &&
          memcmp(f.payload, "abc", 3) == 0);
    free(first);
    free(second);
    free(both);
}

TEST(no_invalid_frame_passes)
{
    static const struct {
        uint8_t bytes[10];
        size_t n;
    } bad[] = {
        {{0xc1, 0x00}, 2},                                /* a reserved bit */
        {{0x83, 0x00}, 2},                                /* a reserved opcode */
        {{0x8b, 0x00}, 2},                                /* a reserved control opcode */
        {{0x09, 0x00}, 2},                                /* a fragmented ping */
        {{0x89, 0x7e, 0x00, 0x7e}, 4},                    /* a ping of 126 bytes */
        {{0x81, 0x80}, 2},                                /* masked */
        {{0x81, 0x7e, 0x00, 0x7d}, 4},                    /* 125 in two bytes */
        {{0x81, 0x7f, 0, 0, 0, 0, 0, 0, 0xff, 0xff}, 10}, /* 65535 in eight */
        {{0x81, 0x7f, 0x80, 0, 0, 0, 0, 0, 0, 0}, 10},    /* 2^63 */
    };
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        struct ws_frame f;
        CHECK(ws_frame_parse(bad[i].bytes, bad[i].n, SIZE_MAX, &f) == WS_PARSE_BAD ||
              (i == 8 && sizeof(size_t) == 8));
        CHECK(ws_frame_parse(bad[i].bytes, bad[i].n, 1 << 20, &f) == WS_PARSE_BAD);
    }
}

/* What a server finds in a frame of ours. */
static char *unmasked(const uint8_t *frame, size_t size, size_t payload_at)
{
    char *text = xmalloc(size - payload_at + 1);
    CHECK((frame[1] & 0x80) != 0 && memcmp(frame + payload_at - 4, ws_mask, 4) == 0);
    for (size_t i = payload_at; i < size; i++)
        text[i - payload_at] = (char)(frame[i] ^ frame[payload_at - 4 + ((i - payload_at) & 3)]);
    text[size - payload_at] = '\0';
    return text;
}

TEST(a_message_has_its_size_and_number)
{
    static const size_t sizes[] = {1, 64, 125, 126, 128, 4096, 65535, 65536, 100000};
    for (size_t i = 0; i < sizeof sizes / sizeof sizes[0]; i++) {
        struct message m;
        uint32_t seq;
        message_init(&m, &dialect_mesa, "ECHO", sizes[i]);
        uint8_t *out = xmalloc(m.frame_len);
        message_write(&m, out, 987654321);
        size_t size = m.frame_len - m.payload_at;
        CHECK(size == sizes[i] || (sizes[i] == 1 && size == 51));
        char *text = unmasked(out, m.frame_len, m.payload_at);
        CHECK(strncmp(text, "{\"op\":0,\"d\":{\"seq\":987654321,\"text\":\"", 37) == 0);
        CHECK(message_check(&m, text, size, &seq) && seq == 987654321);
        free(text);
        free(out);
        message_deinit(&m);
    }
}

static void check_answer(const struct dialect *d, const char *text, bool ours)
{
    struct message m;
    uint32_t seq = 0;
    message_init(&m, d, "ECHO", d == &dialect_mesa ? 56 : 43); /* d.text is "the q" */
    CHECK(m.text_len == 5);
    for (int again = 0; again < 2; again++) {
        char *exact = xmalloc(strlen(text));
        memcpy(exact, text, strlen(text));
        bool got = message_check(&m, exact, strlen(text), &seq);
        if (got != ours)
            fprintf(stderr, "answer %s\n", text);
        CHECK(got == ours);
        CHECK(!got || seq == 123456789);
        free(exact);
    }
    message_deinit(&m);
}

static void check_word(const struct dialect *d, const char *text, enum said want)
{
    char *exact = xmalloc(strlen(text));
    memcpy(exact, text, strlen(text));
    enum said got = d->said((struct json_span){exact, strlen(text)});
    if (got != want)
        fprintf(stderr, "%s says %s\n", d->name, text);
    CHECK(got == want);
    free(exact);
}

TEST(only_what_was_sent_is_an_answer)
{
    check_answer(&dialect_mesa,
                 "{\"op\":0,\"d\":{\"seq\":123456789,\"text\":\"the q\"},\"t\":\"ECHO\"}", true);
    check_answer(&dialect_mesa,
                 "{\"t\":\"ECHO\",\"d\":{\"text\":\"the q\",\"seq\":123456789},\"op\":0}", true);
    check_answer(
        &dialect_mesa,
        " { \"op\" : 0 , \"d\" : { \"text\" : \"the q\" , \"seq\" : 123456789 } , \"t\" : \"ECHO\" } ",
        true);

    check_answer(&dialect_mesa,
                 "{\"op\":0,\"d\":{\"seq\":123456789,\"text\":\"the Q\"},\"t\":\"ECHO\"}", false);
    check_answer(&dialect_mesa,
                 "{\"op\":0,\"d\":{\"seq\":123456789,\"text\":\"the q\"},\"t\":\"ECHX\"}", false);
    check_answer(&dialect_mesa,
                 "{\"op\":0,\"d\":{\"seq\":12345678x,\"text\":\"the q\"},\"t\":\"ECHO\"}", false);
    check_answer(&dialect_mesa,
                 "{\"op\":0,\"d\":{\"seq\":1.2345678e8,\"text\":\"the q\"},\"t\":\"ECHO\"}", false);
    check_answer(&dialect_mesa,
                 "{\"op\":0,\"d\":{\"seq\":\"123456789\",\"text\":\"the q\"},\"t\":\"ECHO\"}",
                 false);
    check_answer(&dialect_mesa, "{\"op\":0,\"d\":{\"seq\":123456789},\"t\":\"ECHO\"}", false);
    check_answer(&dialect_mesa,
                 "{\"op\":0,\"d\":{\"seq\":123456789,\"text\":\"the q\"},\"t\":\"ECHO\",\"o\":{}}",
                 false);
    check_answer(
        &dialect_mesa,
        "{\"op\":0,\"d\":{\"seq\":123456789,\"text\":\"the q\",\"more\":1},\"t\":\"ECHO\"}", false);
    check_answer(&dialect_mesa, "{\"op\":0,\"op\":0,\"d\":{\"seq\":123456789,\"text\":\"the q\"}}",
                 false);
    check_answer(&dialect_mesa,
                 "{\"op\":0,\"d\":{\"seq\":123456789,\"text\":\"the q\"},\"t\":\"ECHO\"", false);
    check_answer(&dialect_mesa,
                 "{\"op\":0,\"d\":{\"seq\":123456789,\"text\":\"the q\"},\"t\":\"ECHO\"}}", false);
    check_answer(&dialect_mesa, "{\"op\":0}", false);
    check_answer(&dialect_mesa, "[]", false);
    check_answer(&dialect_mesa, "", false);
    check_answer(&dialect_mesa, "{\"op\":\"", false);
}

TEST(only_what_was_sent_is_an_answer_of_socketio)
{
    const struct dialect *d = &dialect_socketio;
    check_answer(d, "42[\"ECHO\",{\"seq\":123456789,\"text\":\"the q\"}]", true);
    check_answer(d, "42[\"ECHO\",{\"text\":\"the q\",\"seq\":123456789}]", true);
    check_answer(d, "42[\"ECHX\",{\"seq\":123456789,\"text\":\"the q\"}]", false);
    check_answer(d, "42[\"ECHO\",{\"seq\":123456789,\"text\":\"the Q\"}]", false);
    check_answer(d, "42[\"ECHO\",{\"seq\":123456789,\"text\":\"the q\"},1]", false);
    check_answer(d, "42[\"ECHO\",{\"seq\":123456789,\"text\":\"the q\"}", false);
    check_answer(d, "43[\"ECHO\",{\"seq\":123456789,\"text\":\"the q\"}]", false);
    check_answer(d, "42[\"ECHO\"]", false);
    check_answer(d, "42[\"]", false);
    check_answer(d, "", false);
}

TEST(words_are_told_apart)
{
    const struct dialect *d = &dialect_mesa;
    check_word(d, "{\"op\":10,\"d\":{\"rules\":[]}}", SAID_HELLO);
    check_word(d, "{\"op\":10}", SAID_WRONG);
    check_word(d, "{\"op\":1,\"d\":{}}", SAID_HEARTBEAT);
    check_word(d, "{\"op\":11,\"d\":{}}", SAID_NOTHING);
    check_word(d, "{\"op\":22,\"d\":{\"id\":\"a\\\"}{\",\"list\":[1,{\"x\":\"]\"}]}}",
               SAID_AUTHENTICATED);
    check_word(d, "{\"op\":0,\"d\":{},\"t\":\"ECHO\"}", SAID_WRONG);
    check_word(d, "{\"op\":\"", SAID_WRONG);
    check_word(d, "", SAID_WRONG);

    d = &dialect_socketio;
    check_word(d, "0{\"sid\":\"a\",\"upgrades\":[],\"pingInterval\":25000}", SAID_HELLO);
    check_word(d, "0", SAID_WRONG);
    check_word(d, "40{\"sid\":\"a\"}", SAID_AUTHENTICATED);
    check_word(d, "44{\"message\":\"no\"}", SAID_WRONG);
    check_word(d, "2", SAID_HEARTBEAT);
    check_word(d, "", SAID_WRONG);
}

TEST(layouts_are_replaced)
{
    struct message m;
    message_init(&m, &dialect_mesa, "ECHO", 1);
    for (int i = 0; i < 3 * MESSAGE_LAYOUTS;
         i++) { /* as many orders as there are numbers of spaces */
        char text[160];
        uint32_t seq;
        int n = snprintf(text, sizeof text,
                         "{%*s\"t\":\"ECHO\",\"d\":{\"text\":\"\",\"seq\":123456789},\"op\":0}",
                         i + 1, "");
        CHECK(message_check(&m, text, (size_t)n, &seq) && seq == 123456789);
    }
    CHECK(m.layout_count == MESSAGE_LAYOUTS);
    message_deinit(&m);
}

TEST(bytes_keep_their_order)
{
    struct bytes b = {0};
    uint8_t next_in = 0;
    uint8_t next_out = 0;
    for (int round = 0; round < 2000; round++) {
        uint8_t chunk[97];
        for (size_t i = 0; i < sizeof chunk; i++)
            chunk[i] = next_in++;
        bytes_append(&b, chunk, (size_t)round % sizeof chunk);
        next_in = (uint8_t)(next_in - (sizeof chunk - (size_t)round % sizeof chunk));
        for (size_t take = (size_t)round % 53; take > 0 && b.off < b.len; take--)
            CHECK(b.data[b.off++] == next_out++);
    }
    while (b.off < b.len)
        CHECK(b.data[b.off++] == next_out++);
    CHECK(next_in == next_out);
    bytes_free(&b);
}

TEST(quantiles_are_within_their_resolution)
{
    static struct hist h;
    CHECK(hist_quantile_ns(&h, 0.5) == 0);
    for (uint64_t ns = 1; ns <= 100000; ns++)
        hist_add(&h, ns);
    uint64_t p50 = hist_quantile_ns(&h, 0.5);
    uint64_t p99 = hist_quantile_ns(&h, 0.99);
    CHECK(p50 > 49000 && p50 < 51000);
    CHECK(p99 > 97500 && p99 < 100000);
    CHECK(hist_quantile_ns(&h, 1) <= 100000 && h.max_ns == 100000);
    hist_add(&h, UINT64_MAX);
    CHECK(h.max_ns == UINT64_MAX && hist_quantile_ns(&h, 1) > UINT64_MAX / 2);
    hist_reset(&h);
    hist_add(&h, 7);
    CHECK(hist_quantile_ns(&h, 0.999) == 7);
}
