/* The keys of session tickets, over time: io/tls_tickets.c. */
#include "io/tls_tickets.h"

#include <stdlib.h>
#include <string.h>

#include "test.h"

enum { HOUR_S = 3600, HOUR_MS = HOUR_S * 1000 };

static const time_t start = 500000 * (time_t)HOUR_S; /* the beginning of a period */

static struct mesa_ticket_cache cache_for(int who)
{
    struct mesa_ticket_cache cache = {.made = 0};
    cache.identity[0] = (unsigned char)who;
    return cache;
}

static struct mesa_tls_tickets *tickets_new(int secret)
{
    struct mesa_tls_tickets *t = NULL;
    unsigned char bytes[MESA_TLS_DIGEST_BYTES] = {(unsigned char)secret};
    CHECK_EQ_INT(mesa_tls_tickets_new(&t, HOUR_MS), MESA_OK);
    if (secret != 0)
        mesa_tls_tickets_use(t, bytes, start);
    return t;
}

static bool is_same(const struct mesa_ticket_key *a, const struct mesa_ticket_key *b)
{
    return memcmp(a, b, sizeof *a) == 0;
}

/* Whether a ticket that `old` was for can be opened with the keys of `cache`. */
static bool opens(const struct mesa_ticket_cache *cache, const struct mesa_ticket_key *old)
{
    for (size_t i = 0; i < cache->count; i++)
        if (is_same(&cache->keys[i], old))
            return true;
    return false;
}

/* A ticket made at one time, and whether it is opened at another by somebody who has not been
 * asleep. */
static void check_turning(int secret)
{
    struct mesa_tls_tickets *t = tickets_new(secret);
    struct mesa_ticket_cache cache = cache_for(1);
    CHECK(mesa_tls_tickets_keys(t, &cache, start + HOUR_S - 1));
    struct mesa_ticket_key first = cache.keys[0];
    CHECK(mesa_tls_tickets_keys(t, &cache, start + HOUR_S - 1));
    CHECK(is_same(&first, &cache.keys[0]));

    CHECK(mesa_tls_tickets_keys(t, &cache, start + HOUR_S));
    CHECK(!is_same(&first, &cache.keys[0]));
    CHECK(opens(&cache, &first));
    CHECK(mesa_tls_tickets_keys(t, &cache, start + 2 * HOUR_S - 1));
    CHECK(opens(&cache, &first));
    CHECK(mesa_tls_tickets_keys(t, &cache, start + 2 * HOUR_S));
    CHECK(!opens(&cache, &first));
    mesa_tls_tickets_unref(t);
}

TEST(keys_turn_with_each_period_and_the_ones_before_are_good_for_one_more)
{
    check_turning(0);
    check_turning(7);
}

TEST(a_random_secret_does_not_come_back)
{
    struct mesa_tls_tickets *t = tickets_new(0);
    struct mesa_ticket_cache cache = cache_for(1);
    CHECK(mesa_tls_tickets_keys(t, &cache, start));
    struct mesa_ticket_key first = cache.keys[0];
    CHECK(mesa_tls_tickets_keys(t, &cache, start + 10 * HOUR_S));
    CHECK(mesa_tls_tickets_keys(t, &cache, start)); /* the clock was set back */
    CHECK(!opens(&cache, &first));
    mesa_tls_tickets_unref(t);
}

TEST(processes_with_one_secret_agree_also_when_a_clock_is_ahead)
{
    struct mesa_tls_tickets *a = tickets_new(7), *b = tickets_new(7), *other = tickets_new(8);
    struct mesa_ticket_cache of_a = cache_for(1), of_b = cache_for(1), of_other = cache_for(1);
    struct mesa_ticket_cache another = cache_for(2);
    CHECK(mesa_tls_tickets_keys(a, &of_a, start + 10));
    CHECK(mesa_tls_tickets_keys(b, &of_b, start + 20));
    CHECK(is_same(&of_a.keys[0], &of_b.keys[0]));
    CHECK(mesa_tls_tickets_keys(b, &of_b, start + HOUR_S));
    CHECK(!is_same(&of_a.keys[0], &of_b.keys[0]));
    CHECK(opens(&of_a, &of_b.keys[0]));

    CHECK(mesa_tls_tickets_keys(other, &of_other, start + 10));
    CHECK(!opens(&of_other, &of_a.keys[0]));
    CHECK(mesa_tls_tickets_keys(a, &another, start + 10)); /* another certificate */
    CHECK(!opens(&another, &of_a.keys[0]));
    mesa_tls_tickets_unref(a);
    mesa_tls_tickets_unref(b);
    mesa_tls_tickets_unref(other);
}

TEST(a_secret_that_was_replaced_is_good_for_one_lifetime)
{
    struct mesa_tls_tickets *t = tickets_new(7);
    struct mesa_ticket_cache cache = cache_for(1);
    unsigned char next[MESA_TLS_DIGEST_BYTES] = {9};
    time_t changed = start + HOUR_S / 2;
    CHECK(mesa_tls_tickets_keys(t, &cache, start));
    struct mesa_ticket_key old = cache.keys[0];

    mesa_tls_tickets_use(t, next, changed);
    CHECK(mesa_tls_tickets_keys(t, &cache, changed));
    CHECK(!is_same(&old, &cache.keys[0]));
    CHECK(opens(&cache, &old));
    mesa_tls_tickets_use(t, next, changed + 10); /* the same again: nothing was replaced */
    CHECK(mesa_tls_tickets_keys(t, &cache, changed + HOUR_S - 1));
    CHECK(opens(&cache, &old));
    CHECK(mesa_tls_tickets_keys(t, &cache, changed + HOUR_S));
    CHECK(!opens(&cache, &old));
    mesa_tls_tickets_unref(t);
}
