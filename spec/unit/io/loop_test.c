/* loop_test.c - timers, turn hooks, signals, and what keeps the loop running. */
#include <signal.h>
#include <stdlib.h>
#include <unistd.h>

#include "io/loop.h"
#include "test.h"

static struct mesa_loop *loop;
static struct mesa_timer timers[3];
static int fired[3], order;

static void on_fire(struct mesa_timer *t)
{
    fired[t - timers] = ++order;
}

static void begin(void)
{
    CHECK_EQ_INT(mesa_loop_new(&loop), MESA_OK);
    order = 0;
    for (int i = 0; i < 3; i++) {
        fired[i] = 0;
        mesa_timer_init(&timers[i], on_fire);
    }
}

TEST(an_empty_loop_ends_at_once)
{
    begin();
    mesa_loop_run(loop);
    mesa_loop_free(loop);
    mesa_loop_free(NULL);
}

TEST(timers_fire_in_order_and_keep_the_loop_alive)
{
    begin();
    uint64_t start = mesa_loop_now(loop);
    mesa_loop_arm(loop, &timers[0], 30);
    mesa_loop_arm(loop, &timers[1], 10);
    mesa_loop_arm(loop, &timers[2], 20);
    mesa_loop_run(loop);
    CHECK(fired[1] == 1 && fired[2] == 2 && fired[0] == 3);
    CHECK(mesa_loop_now(loop) - start >= 30 && mesa_loop_now(loop) - start < 1000);
    mesa_loop_free(loop);
}

TEST(a_cancelled_timer_does_not_hold_the_loop)
{
    begin();
    uint64_t start = mesa_loop_now(loop);
    mesa_loop_arm(loop, &timers[0], 60000);
    mesa_loop_arm(loop, &timers[1], 5);
    mesa_loop_cancel(loop, &timers[0]);
    mesa_loop_run(loop);
    CHECK(fired[0] == 0 && fired[1] == 1);
    CHECK(mesa_loop_now(loop) - start < 5000);
    mesa_loop_arm(loop, &timers[0], 60000);
    mesa_loop_cancel(loop, &timers[0]);
    mesa_loop_run(loop);
    mesa_loop_free(loop);
}

static void rearm(struct mesa_timer *t)
{
    if (++order < 5)
        mesa_loop_arm(loop, t, 1);
    else
        mesa_loop_stop(loop);
}

static struct mesa_job jobs[4];
static int ran[4];

static void on_job(struct mesa_job *j)
{
    ran[j - jobs] = ++order;
}

static void begin_jobs(void)
{
    begin();
    for (int i = 0; i < 4; i++) {
        ran[i] = 0;
        mesa_job_init(&jobs[i], on_job);
    }
}

TEST(jobs_run_in_order_once_and_keep_the_loop_alive)
{
    begin_jobs();
    for (int i = 0; i < 3; i++)
        mesa_loop_queue(loop, &jobs[i]);
    mesa_job_cancel(&jobs[1]);
    mesa_job_cancel(&jobs[3]); /* not queued */
    CHECK(mesa_job_queued(&jobs[0]) && !mesa_job_queued(&jobs[1]));
    CHECK(mesa_loop_busy(loop));
    CHECK_EQ_INT(order, 0);
    mesa_loop_run(loop);
    CHECK(ran[0] == 1 && ran[1] == 0 && ran[2] == 2);
    CHECK(!mesa_loop_busy(loop));
    mesa_loop_free(loop);
}

static int turn_count, first_turn;

static void count_turn(struct mesa_turn *t)
{
    (void)t;
    turn_count++;
}

/* Spends a whole slice, and wants to go on. */
static void work_on(struct mesa_job *j)
{
    uint64_t end = uv_hrtime() + MESA_LOOP_SLICE_NS;
    while (uv_hrtime() < end)
        ;
    if (order++ == 0)
        first_turn = turn_count;
    if (order < 10)
        mesa_loop_queue(loop, j);
}

TEST(jobs_that_take_long_have_a_turn_each)
{
    static struct mesa_turn turn = {.fn = count_turn};
    begin_jobs();
    turn_count = 0;
    mesa_job_init(&jobs[0], work_on);
    mesa_list_init(&turn.link);
    mesa_loop_add_turn(loop, &turn);
    mesa_loop_queue(loop, &jobs[0]);
    mesa_loop_run(loop);
    CHECK_EQ_INT(order, 10);
    CHECK(turn_count - first_turn >= 10); /* each had a turn of its own */
    mesa_loop_remove_turn(&turn);
    mesa_loop_free(loop);
}

static int polled_turn;

static void note_turn(struct mesa_job *j)
{
    (void)j;
    first_turn = turn_count;
}

static void on_polled(uv_async_t *async)
{
    polled_turn = turn_count;
    mesa_loop_queue(loop, &jobs[0]);
    uv_close((uv_handle_t *)async, NULL);
}

TEST(what_polling_has_produced_goes_out_before_jobs_run)
{
    static struct mesa_turn turn = {.fn = count_turn};
    static uv_async_t async;
    begin_jobs();
    mesa_job_init(&jobs[0], note_turn);
    mesa_list_init(&turn.link);
    mesa_loop_add_turn(loop, &turn);
    uv_async_init(mesa_loop_uv(loop), &async, on_polled);
    uv_async_send(&async);
    mesa_loop_run(loop);
    CHECK(first_turn > polled_turn);
    mesa_loop_remove_turn(&turn);
    mesa_loop_free(loop);
}

TEST(a_timer_may_arm_itself_and_stop_the_loop)
{
    begin();
    mesa_timer_init(&timers[0], rearm);
    mesa_loop_arm(loop, &timers[0], 0);
    mesa_loop_arm(loop, &timers[1], 60000);
    mesa_loop_run(loop);
    CHECK_EQ_INT(order, 5);
    mesa_loop_cancel(loop, &timers[1]);
    mesa_loop_free(loop);
}

static struct mesa_turn turns[3];
static int turned[3];

static void on_turn(struct mesa_turn *t)
{
    turned[t - turns]++;
    if (t == &turns[0]) { /* hooks may remove themselves and others, and add some */
        mesa_loop_remove_turn(&turns[0]);
        mesa_loop_remove_turn(&turns[1]);
        mesa_loop_add_turn(loop, &turns[2]);
    }
}

static int again;

static void on_again(struct mesa_timer *t)
{
    if (++again < 1000)
        mesa_loop_arm(loop, t, 0);
}

static void on_elsewhere(uv_async_t *async)
{
    fired[1] = again;
    uv_close((uv_handle_t *)async, NULL);
}

TEST(a_timer_that_is_due_again_and_again_leaves_the_others_their_turn)
{
    uv_async_t async;
    begin();
    again = 0;
    timers[0].fn = on_again;
    mesa_loop_arm(loop, &timers[0], 0);
    uv_async_init(mesa_loop_uv(loop), &async, on_elsewhere);
    uv_async_send(&async); /* noticed by polling */
    mesa_loop_run(loop);
    CHECK_EQ_INT(again, 1000);
    CHECK(fired[1] <= 2);
    mesa_loop_free(loop);
}

TEST(turn_hooks_may_change_the_hooks)
{
    begin();
    for (int i = 0; i < 3; i++) {
        turned[i] = 0;
        turns[i].fn = on_turn;
        mesa_list_init(&turns[i].link);
    }
    mesa_loop_add_turn(loop, &turns[1]);
    mesa_loop_add_turn(loop, &turns[0]); /* which runs first */
    mesa_loop_arm(loop, &timers[0], 5);
    mesa_loop_run(loop);
    CHECK_EQ_INT(turned[0], 1);
    CHECK_EQ_INT(turned[1], 0);
    CHECK(turned[2] > 0);
    mesa_loop_remove_turn(&turns[2]);
    mesa_loop_free(loop);
}

static void on_signal(void *ctx, int signum)
{
    *(int *)ctx = signum;
    mesa_loop_release(loop);
}

TEST(signals_are_events_and_a_hold_keeps_the_loop_running)
{
    int got = 0;
    begin();
    CHECK_EQ_INT(mesa_loop_on_signal(loop, SIGHUP, on_signal, &got), MESA_OK);
    CHECK_EQ_INT(mesa_loop_on_signal(loop, SIGUSR1, on_signal, &got), MESA_EINVAL);
    mesa_loop_run(loop); /* a signal watcher alone does not hold it */
    mesa_loop_hold(loop);
    kill(getpid(), SIGHUP);
    mesa_loop_run(loop);
    CHECK_EQ_INT(got, SIGHUP);
    mesa_loop_free(loop);
}

static void ignore_timer(uv_timer_t *t)
{
    (void)t;
}

TEST(handles_left_open_are_closed)
{
    static uv_timer_t left;
    begin();
    uv_timer_init(mesa_loop_uv(loop), &left);
    uv_timer_start(&left, ignore_timer, 60000, 60000);
    mesa_loop_free(loop);
}
