/* buf_test.c - growable bytes. */
#include "base/buf.h"

#include <stdint.h>

#include "test.h"

TEST(a_new_buffer_is_empty_and_owns_nothing)
{
    struct mesa_buf b;
    mesa_buf_init(&b);
    CHECK(b.data == NULL);
    CHECK_EQ_INT(b.len, 0);
    CHECK_EQ_INT(mesa_buf_append(&b, NULL, 0), MESA_OK);
    CHECK(b.data == NULL);
    mesa_buf_deinit(&b);
}

TEST(bytes_come_back_in_order_across_growth)
{
    struct mesa_buf b;
    mesa_buf_init(&b);
    for (int i = 0; i < 10000; i++) {
        CHECK_EQ_INT(mesa_buf_push(&b, (char)i), MESA_OK);
        CHECK_EQ_INT(mesa_buf_append(&b, "ab", 2), MESA_OK);
    }
    CHECK_EQ_INT(b.len, 30000);
    bool same = true;
    for (int i = 0; i < 10000; i++)
        same = same && b.data[3 * i] == (char)i && b.data[3 * i + 1] == 'a' &&
               b.data[3 * i + 2] == 'b';
    CHECK(same);
    mesa_buf_deinit(&b);
    CHECK(b.data == NULL);
}

TEST(reserve_makes_room_and_keeps_the_length)
{
    struct mesa_buf b;
    mesa_buf_init(&b);
    CHECK_EQ_INT(mesa_buf_reserve(&b, 1000), MESA_OK);
    CHECK(b.cap >= 1000);
    CHECK_EQ_INT(b.len, 0);
    char *data = b.data;
    CHECK_EQ_INT(mesa_buf_reserve(&b, 1000), MESA_OK);
    CHECK(b.data == data);
    mesa_buf_deinit(&b);
}

TEST(an_impossible_reserve_leaves_the_buffer_as_it_was)
{
    struct mesa_buf b;
    mesa_buf_init(&b);
    mesa_buf_append(&b, "keep", 4);
    CHECK_EQ_INT(mesa_buf_reserve(&b, SIZE_MAX), MESA_ENOMEM);
    CHECK_EQ_INT(mesa_buf_reserve(&b, SIZE_MAX - 3), MESA_ENOMEM);
    CHECK_EQ_MEM(b.data, b.len, "keep", 4);
    mesa_buf_deinit(&b);
}

TEST(printf_appends_without_its_nul)
{
    struct mesa_buf b;
    mesa_buf_init(&b);
    CHECK_EQ_INT(mesa_buf_printf(&b, "%s-%d", "a", 7), MESA_OK);
    CHECK_EQ_INT(mesa_buf_printf(&b, "%0200d", 1), MESA_OK);
    CHECK_EQ_INT(b.len, 203);
    CHECK_EQ_MEM(b.data, 5, "a-700", 5);
    CHECK(b.data[202] == '1' && b.data[201] == '0');
    mesa_buf_deinit(&b);
}

TEST(reset_gives_back_only_what_grew_too_far)
{
    struct mesa_buf b;
    mesa_buf_init(&b);
    mesa_buf_append(&b, "small", 5);
    char *data = b.data;
    mesa_buf_reset(&b, 4096);
    CHECK(b.data == data);
    CHECK_EQ_INT(b.len, 0);
    mesa_buf_reserve(&b, 10000);
    mesa_buf_reset(&b, 4096);
    CHECK(b.data == NULL);
    CHECK_EQ_INT(b.cap, 0);
    mesa_buf_deinit(&b);
}

TEST(spans_compare_by_content)
{
    CHECK(mesa_span_eq(MESA_SPAN("abc"), MESA_SPAN("abc")));
    CHECK(!mesa_span_eq(MESA_SPAN("abc"), MESA_SPAN("abd")));
    CHECK(!mesa_span_eq(MESA_SPAN("abc"), MESA_SPAN("ab")));
    CHECK(mesa_span_eq((struct mesa_span){NULL, 0}, MESA_SPAN("")));
}

TEST(every_status_has_a_text)
{
    for (int s = MESA_OK; s <= MESA_EIO; s++) {
        CHECK(mesa_status_text((enum mesa_status)s) != NULL);
        CHECK(strcmp(mesa_status_text((enum mesa_status)s), "unknown status") != 0);
    }
    CHECK_EQ_STR(mesa_status_text((enum mesa_status)(MESA_EIO + 1)), "unknown status");
}
