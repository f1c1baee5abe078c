/* rate_test.c - the token bucket. */
#include "core/rate.h"
#include "test.h"

static int take_all(struct mesa_rate *r, uint64_t now_ms, uint32_t per_second, uint32_t burst)
{
    int n = 0;
    while (n < 100000 && mesa_rate_take(r, now_ms, per_second, burst))
        n++;
    return n;
}

TEST(a_full_bucket_holds_its_burst)
{
    struct mesa_rate r;
    mesa_rate_init(&r, 1000, 20);
    CHECK_EQ_INT(take_all(&r, 1000, 10, 20), 20);
    CHECK(!mesa_rate_take(&r, 1000, 10, 20));
}

TEST(it_refills_with_the_rate_and_never_over_the_burst)
{
    struct mesa_rate r;
    mesa_rate_init(&r, 0, 20);
    take_all(&r, 0, 10, 20);
    CHECK(!mesa_rate_take(&r, 99, 10, 20));
    CHECK(mesa_rate_take(&r, 100, 10, 20));
    CHECK_EQ_INT(take_all(&r, 1100, 10, 20), 10);
    CHECK_EQ_INT(take_all(&r, 1000000, 10, 20), 20);
}

TEST(fractions_of_a_message_are_not_lost)
{
    struct mesa_rate r;
    mesa_rate_init(&r, 0, 1);
    int taken = 0;
    for (uint64_t now_ms = 0; now_ms < 10000; now_ms++)
        taken += mesa_rate_take(&r, now_ms, 3, 1);
    CHECK(taken >= 30 && taken <= 31);
}

TEST(a_clock_that_stands_still_or_goes_back_gives_nothing)
{
    struct mesa_rate r;
    mesa_rate_init(&r, 5000, 1);
    CHECK(mesa_rate_take(&r, 5000, 1, 1));
    CHECK(!mesa_rate_take(&r, 4000, 1, 1));
}

TEST(extreme_rates_do_not_overflow)
{
    struct mesa_rate r;
    mesa_rate_init(&r, 0, UINT32_MAX);
    CHECK(mesa_rate_take(&r, UINT64_MAX - 1, UINT32_MAX, UINT32_MAX));
    mesa_rate_init(&r, 0, 1);
    CHECK(mesa_rate_take(&r, UINT64_MAX - 1, UINT32_MAX, 1));
}
