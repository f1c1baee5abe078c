/* outq_test.c - the bounded queue of frames: order, bounds, references, memory. */
#include <stdint.h>
#include <stdio.h>

#include "core/outq.h"
#include "test.h"

static struct mesa_frame *frame(const char *text)
{
    struct mesa_frame *f = NULL;
    mesa_frame_new(&f, MESA_WS_TEXT, text, strlen(text));
    return f;
}

TEST(an_empty_queue_holds_nothing)
{
    struct mesa_outq q;
    mesa_outq_init(&q);
    CHECK_EQ_INT(mesa_outq_count(&q), 0);
    CHECK_EQ_INT(mesa_outq_bytes(&q), 0);
    mesa_outq_deinit(&q);
}

TEST(frames_leave_in_the_order_they_came)
{
    struct mesa_outq q;
    mesa_outq_init(&q);
    char text[16];
    int next_in = 0, next_out = 0;
    for (int round = 0; round < 50; round++) { /* wraps the ring in every phase */
        for (int i = 0; i < 7; i++) {
            snprintf(text, sizeof text, "%d", next_in++);
            struct mesa_frame *f = frame(text);
            CHECK_EQ_INT(mesa_outq_push(&q, f, SIZE_MAX), MESA_OK);
            mesa_frame_unref(f);
        }
        for (int i = 0; i < 5; i++) {
            snprintf(text, sizeof text, "%d", next_out++);
            struct mesa_span got = mesa_frame_payload(mesa_outq_at(&q, 0));
            CHECK_EQ_MEM(got.p, got.len, text, strlen(text));
            mesa_outq_drop(&q, 1);
        }
    }
    CHECK_EQ_INT(mesa_outq_count(&q), 100);
    mesa_outq_deinit(&q);
    CHECK_EQ_INT(mesa_outq_count(&q), 0);
}

TEST(a_queue_takes_one_reference_and_gives_it_back)
{
    struct mesa_outq q;
    mesa_outq_init(&q);
    struct mesa_frame *f = frame("x");
    mesa_outq_push(&q, f, SIZE_MAX);
    CHECK_EQ_INT(f->refs, 2);
    mesa_outq_drop(&q, 1);
    CHECK_EQ_INT(f->refs, 1);
    mesa_frame_unref(f);
    mesa_outq_deinit(&q);
}

TEST(a_frame_over_the_limit_is_refused_without_a_reference)
{
    struct mesa_outq q;
    mesa_outq_init(&q);
    struct mesa_frame *f = frame("12345678"); /* 10 bytes with its header */
    CHECK_EQ_INT(mesa_outq_push(&q, f, 20), MESA_OK);
    CHECK_EQ_INT(mesa_outq_push(&q, f, 20), MESA_OK);
    CHECK_EQ_INT(mesa_outq_push(&q, f, 20), MESA_EAGAIN);
    CHECK_EQ_INT(f->refs, 3);
    CHECK_EQ_INT(mesa_outq_bytes(&q), 20);
    CHECK_EQ_INT(mesa_outq_push(&q, f, 5), MESA_EAGAIN); /* a limit below what waits */
    mesa_outq_deinit(&q);
    mesa_frame_unref(f);
}

TEST(an_empty_queue_takes_any_one_frame)
{
    struct mesa_outq q;
    mesa_outq_init(&q);
    struct mesa_frame *f = frame("much longer than the limit");
    CHECK_EQ_INT(mesa_outq_push(&q, f, 4), MESA_OK);
    CHECK_EQ_INT(mesa_outq_push(&q, f, 4), MESA_EAGAIN);
    mesa_outq_deinit(&q);
    mesa_frame_unref(f);
}

TEST(a_drained_queue_holds_no_memory)
{
    struct mesa_outq q;
    mesa_outq_init(&q);
    struct mesa_frame *f = frame("x");
    for (int i = 0; i < 100; i++)
        mesa_outq_push(&q, f, SIZE_MAX);
    CHECK(q.ring != NULL);
    mesa_outq_drop(&q, 100);
    CHECK(q.ring == NULL);
    CHECK_EQ_INT(mesa_outq_bytes(&q), 0);
    mesa_frame_unref(f);
}

TEST(a_queue_knows_the_frames_it_is_made_of_wherever_its_ring_begins)
{
    struct mesa_frame *frames[6], *others[6];
    for (int i = 0; i < 6; i++)
        frames[i] = others[i] = frame(i % 2 == 0 ? "even" : "odd");
    for (int shift = 0; shift < 40; shift++) {
        struct mesa_outq q;
        mesa_outq_init(&q);
        for (int i = 0; i < 5; i++) /* a ring of its own */
            mesa_outq_push(&q, frames[0], SIZE_MAX);
        for (int i = 0; i < shift; i++) {
            mesa_outq_push(&q, frames[0], SIZE_MAX);
            mesa_outq_drop(&q, 1);
        }
        for (int i = 0; i < 6; i++)
            mesa_outq_push(&q, frames[i], SIZE_MAX);
        mesa_outq_drop(&q, 5);
        CHECK(mesa_outq_equals(&q, frames));
        for (int i = 0; i < 6; i++) {
            others[i] = frames[(i + 1) % 6];
            CHECK(!mesa_outq_equals(&q, others));
            others[i] = frames[i];
        }
        mesa_outq_deinit(&q);
    }
    for (int i = 0; i < 6; i++)
        mesa_frame_unref(frames[i]);
}
