/* frame_test.c - WebSocket frames (RFC 6455 section 5.2). */
#include "core/frame.h"

#include <stdlib.h>

#include "test.h"

static void check_frame(size_t len, const char *header, size_t header_len)
{
    char *payload = malloc(len + 1);
    CHECK_OR_RETURN(payload != NULL);
    for (size_t i = 0; i < len; i++)
        payload[i] = (char)(i * 31);

    struct mesa_frame *f = NULL;
    CHECK_EQ_INT(mesa_frame_new(&f, MESA_WS_TEXT, payload, len), MESA_OK);
    CHECK_EQ_INT(f->refs, 1);
    CHECK_EQ_INT(f->opcode, MESA_WS_TEXT);
    CHECK_EQ_INT(f->len, header_len + len);
    CHECK_EQ_MEM(f->bytes, f->header_len, header, header_len);
    struct mesa_span p = mesa_frame_payload(f);
    CHECK_EQ_MEM(p.p, p.len, payload, len);
    mesa_frame_unref(f);
    free(payload);
}

TEST(the_shortest_length_form_is_used)
{
    check_frame(0, "\x81\x00", 2);
    check_frame(5, "\x81\x05", 2);
    check_frame(125, "\x81\x7d", 2);
    check_frame(126, "\x81\x7e\x00\x7e", 4);
    check_frame(65535, "\x81\x7e\xff\xff", 4);
    check_frame(65536, "\x81\x7f\x00\x00\x00\x00\x00\x01\x00\x00", 10);
    check_frame(0x123456, "\x81\x7f\x00\x00\x00\x00\x00\x12\x34\x56", 10);
}

TEST(three_spans_become_one_payload)
{
    struct mesa_frame *f = NULL;
    struct mesa_span none = {NULL, 0};
    CHECK_EQ_INT(mesa_frame_new3(&f, MESA_WS_BINARY, MESA_SPAN("ab"), none, MESA_SPAN("cde")),
                 MESA_OK);
    CHECK_EQ_MEM(f->bytes, f->len,
                 "\x82\x05"
                 "abcde",
                 7);
    mesa_frame_unref(f);
}

TEST(a_control_frame_holds_125_bytes_at_most)
{
    char payload[126] = {0};
    struct mesa_frame *f = NULL;
    CHECK_EQ_INT(mesa_frame_new(&f, MESA_WS_PING, payload, 126), MESA_EINVAL);
    CHECK(f == NULL);
    CHECK_EQ_INT(mesa_frame_new(&f, MESA_WS_CLOSE, payload, 125), MESA_OK);
    CHECK_EQ_MEM(f->bytes, 2, "\x88\x7d", 2);
    mesa_frame_unref(f);
}

TEST(an_impossible_length_is_refused)
{
    struct mesa_frame *f = NULL;
    struct mesa_span huge = {"", SIZE_MAX / 2};
    CHECK_EQ_INT(mesa_frame_new3(&f, MESA_WS_TEXT, huge, huge, huge), MESA_ENOMEM);
    CHECK(f == NULL);
}

TEST(the_last_reference_frees)
{
    struct mesa_frame *f = NULL;
    CHECK_EQ_INT(mesa_frame_new(&f, MESA_WS_TEXT, "x", 1), MESA_OK);
    CHECK(mesa_frame_ref(f) == f);
    CHECK_EQ_INT(f->refs, 2);
    mesa_frame_unref(f);
    CHECK_EQ_INT(f->refs, 1);
    mesa_frame_unref(f);
    mesa_frame_unref(NULL);
}
