/* wheel_test.c - the timer wheel, compared with a search through an array. */
#include "base/wheel.h"

#include "test.h"

enum { TIMERS = 300 };

struct probe {
    struct mesa_timer timer;
    /* what the model believes */
    bool armed, deferred;
    uint64_t due, order;
};

static struct mesa_wheel *wheel;
static struct probe probes[TIMERS];
static uint64_t model_now, order_count, random_state;
static unsigned wrong, fired;
static bool advancing, meddle;

static uint64_t random_bits(void)
{
    random_state ^= random_state << 13;
    random_state ^= random_state >> 7;
    random_state ^= random_state << 17;
    return random_state * UINT64_C(0x2545f4914f6cdd1d) >> 16;
}

/* From milliseconds to weeks, small ones more often; sometimes in the past. */
static uint64_t random_due(void)
{
    uint64_t span = UINT64_C(1) << (random_bits() % 32);
    uint64_t offset = random_bits() % span;
    if (random_bits() % 8 == 0)
        return model_now > offset ? model_now - offset : 0;
    return model_now + offset;
}

static void arm(struct probe *p, uint64_t due)
{
    mesa_wheel_arm(wheel, &p->timer, due);
    p->armed = true;
    p->deferred = advancing && due <= model_now;
    p->due = due;
    p->order = ++order_count;
}

static void cancel(struct probe *p)
{
    mesa_wheel_cancel(wheel, &p->timer);
    p->armed = false;
}

static void do_something(void)
{
    struct probe *p = &probes[random_bits() % TIMERS];
    if (random_bits() % 3 == 0)
        cancel(p);
    else
        arm(p, random_due());
}

/* The timer that has to fire next in the running advance. */
static struct probe *model_first(void)
{
    struct probe *first = NULL;
    for (int i = 0; i < TIMERS; i++) {
        struct probe *p = &probes[i];
        if (!p->armed || p->deferred || p->due > model_now)
            continue;
        if (first == NULL || p->due < first->due ||
            (p->due == first->due && p->order < first->order))
            first = p;
    }
    return first;
}

static void on_fire(struct mesa_timer *t)
{
    struct probe *p = MESA_CONTAINER_OF(t, struct probe, timer);
    fired++;
    wrong += p != model_first() || mesa_timer_armed(t);
    p->armed = false;
    if (!meddle)
        return;
    for (unsigned n = (unsigned)(random_bits() % 3); n > 0; n--)
        do_something();
    if (random_bits() % 3 == 0)
        arm(p, random_due()); /* itself */
}

static void setup(uint64_t now, uint64_t seed)
{
    random_state = seed;
    model_now = now;
    order_count = wrong = fired = 0;
    advancing = meddle = false;
    wheel = NULL;
    mesa_wheel_new(&wheel, now);
    for (int i = 0; i < TIMERS; i++) {
        probes[i] = (struct probe){0};
        mesa_timer_init(&probes[i].timer, on_fire);
    }
}

static void teardown(void)
{
    for (int i = 0; i < TIMERS; i++)
        mesa_wheel_cancel(wheel, &probes[i].timer);
    mesa_wheel_free(wheel);
}

static void advance(uint64_t now)
{
    model_now = now;
    advancing = true;
    mesa_wheel_advance(wheel, now);
    advancing = false;
    wrong += model_first() != NULL;
    for (int i = 0; i < TIMERS; i++) {
        probes[i].deferred = false;
        wrong += probes[i].armed != mesa_timer_armed(&probes[i].timer);
    }
}

static void check_next(void)
{
    uint64_t earliest = UINT64_MAX, bound = 0;
    bool any = false;
    for (int i = 0; i < TIMERS; i++) {
        any = any || probes[i].armed;
        if (probes[i].armed && probes[i].due < earliest)
            earliest = probes[i].due;
    }
    wrong += mesa_wheel_next(wheel, &bound) != any;
    wrong += any && bound > earliest;
}

TEST(a_timer_fires_at_its_time_and_once)
{
    setup(1000, 1);
    arm(&probes[0], 1010);
    CHECK(mesa_timer_armed(&probes[0].timer));
    advance(1009);
    CHECK_EQ_INT(fired, 0);
    advance(1010);
    CHECK_EQ_INT(fired, 1);
    CHECK(!mesa_timer_armed(&probes[0].timer));
    advance(100000);
    CHECK_EQ_INT(fired, 1);
    CHECK_EQ_INT(wrong, 0);
    teardown();
}

TEST(a_cancelled_timer_does_not_fire)
{
    setup(0, 1);
    arm(&probes[0], 10);
    arm(&probes[1], 10);
    arm(&probes[2], 5000);
    cancel(&probes[1]);
    cancel(&probes[1]);
    cancel(&probes[2]);
    advance(10000);
    CHECK_EQ_INT(fired, 1);
    CHECK_EQ_INT(wrong, 0);
    teardown();
}

TEST(equal_times_fire_in_order_of_arming_even_across_levels)
{
    setup(0, 1);
    arm(&probes[0], 70000); /* far away now */
    advance(69000);
    arm(&probes[1], 70000); /* near by now */
    advance(69999);
    arm(&probes[2], 70000);
    advance(200000);
    CHECK_EQ_INT(fired, 3);
    CHECK_EQ_INT(wrong, 0);
    teardown();
}

TEST(the_past_fires_at_the_next_advance_in_order)
{
    setup(500, 1);
    arm(&probes[0], 400);
    arm(&probes[1], 0);
    arm(&probes[2], 500);
    arm(&probes[3], 400);
    uint64_t next;
    CHECK(mesa_wheel_next(wheel, &next));
    CHECK_EQ_INT(next, 0);
    advance(500);
    CHECK_EQ_INT(fired, 4);
    CHECK_EQ_INT(wrong, 0);
    CHECK(!mesa_wheel_next(wheel, &next));
    teardown();
}

static unsigned again_count;

static void on_again(struct mesa_timer *t)
{
    again_count++;
    mesa_wheel_arm(wheel, t, 50);
}

TEST(rearming_for_the_past_in_a_callback_waits_for_the_next_advance)
{
    setup(0, 1);
    again_count = 0;
    mesa_timer_init(&probes[0].timer, on_again);
    mesa_wheel_arm(wheel, &probes[0].timer, 50);
    mesa_wheel_advance(wheel, 100);
    CHECK_EQ_INT(again_count, 1);
    mesa_wheel_advance(wheel, 100);
    CHECK_EQ_INT(again_count, 2);
    CHECK(mesa_timer_armed(&probes[0].timer));
    teardown();
}

static void on_cancel_neighbour(struct mesa_timer *t)
{
    again_count++;
    mesa_wheel_cancel(wheel, &probes[t == &probes[0].timer ? 1 : 0].timer);
}

TEST(a_callback_may_cancel_a_timer_that_is_due_too)
{
    setup(0, 1);
    again_count = 0;
    for (int i = 0; i < 2; i++) {
        mesa_timer_init(&probes[i].timer, on_cancel_neighbour);
        mesa_wheel_arm(wheel, &probes[i].timer, 10);
    }
    mesa_wheel_advance(wheel, 20);
    CHECK_EQ_INT(again_count, 1);
    teardown();
}

TEST(a_clock_that_goes_backwards_fires_nothing_early)
{
    setup(1000, 1);
    arm(&probes[0], 1100);
    mesa_wheel_advance(wheel, 500);
    CHECK_EQ_INT(fired, 0);
    advance(1099);
    CHECK_EQ_INT(fired, 0);
    advance(1100);
    CHECK_EQ_INT(fired, 1);
    teardown();
}

TEST(the_whole_range_of_time_works)
{
    setup(0, 1);
    arm(&probes[0], UINT64_MAX);
    arm(&probes[1], UINT64_MAX - 1);
    arm(&probes[2], UINT64_C(1) << 63);
    advance(UINT64_MAX - 1);
    CHECK_EQ_INT(fired, 2);
    advance(UINT64_MAX);
    CHECK_EQ_INT(fired, 3);
    CHECK_EQ_INT(wrong, 0);
    teardown();
}

TEST(sleeping_until_next_reaches_every_timer_in_a_few_steps)
{
    setup(123456789, 7);
    for (int i = 0; i < TIMERS; i++)
        arm(&probes[i], model_now + 1 + random_bits() % 100000000);
    uint64_t next;
    unsigned steps = 0;
    while (mesa_wheel_next(wheel, &next)) {
        CHECK_OR_RETURN(next >= model_now);
        advance(next);
        steps++;
    }
    CHECK_EQ_INT(fired, TIMERS);
    CHECK_EQ_INT(wrong, 0);
    CHECK(steps < TIMERS * 6); /* once a level at most */
    teardown();
}

static void run_against_model(uint64_t seed, bool with_meddling, unsigned steps)
{
    setup(seed % 3 == 0 ? 0 : UINT64_C(1790000000000) + seed, seed);
    meddle = with_meddling;
    for (unsigned step = 0; step < steps; step++) {
        for (unsigned n = (unsigned)(random_bits() % 8); n > 0; n--)
            do_something();
        check_next();
        uint64_t jump = random_bits() % 50 == 0
                            ? random_bits() % (UINT64_C(1) << 33)
                            : random_bits() % (UINT64_C(1) << random_bits() % 16);
        advance(model_now + jump);
        check_next();
    }
    CHECK(fired > steps / 4);
    CHECK_EQ_INT(wrong, 0);
    teardown();
}

TEST(random_use_agrees_with_the_model)
{
    for (uint64_t seed = 1; seed <= 10; seed++)
        run_against_model(seed * 7919, false, 2000);
}

TEST(random_use_from_inside_callbacks_agrees_with_the_model)
{
    for (uint64_t seed = 1; seed <= 10; seed++)
        run_against_model(seed * 104729, true, 2000);
}
