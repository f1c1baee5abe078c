/* loop.c - the uv loop, its timer wheel, turn hooks and signals. */
#include "io/loop.h"

#include <signal.h>
#include <stdlib.h>

#include "base/log.h"

enum { SIGNAL_COUNT = 3, TELL_COUNTED_MS = 1000 };

struct loop_signal {
    uv_signal_t handle;
    bool open;
    mesa_signal_fn fn;
    void *ctx;
};

struct mesa_loop {
    uv_loop_t uv;
    uv_timer_t timer;
    uv_idle_t idle;       /* instead of `timer` while a wheel timer is due already */
    uv_prepare_t prepare; /* also the handle that is referenced while somebody holds the loop */
    uv_check_t check;
    struct mesa_wheel *wheel;
    struct mesa_list turns;
    struct mesa_list jobs;
    uv_idle_t busy; /* active while there are jobs, so that the loop polls without blocking */
    uv_timer_t tell_counted; /* active while the log has counted records it has not told of */
    struct loop_signal signals[SIGNAL_COUNT];
    size_t holds;
    uint64_t timer_due_ms; /* what `timer` or `idle` waits for while it is active */
};

static void follow_wheel(struct mesa_loop *l);

static void on_timer(uv_timer_t *timer)
{
    struct mesa_loop *l = timer->data;
    mesa_wheel_advance(l->wheel, uv_now(&l->uv));
    follow_wheel(l);
}

static void on_idle(uv_idle_t *idle)
{
    struct mesa_loop *l = idle->data;
    uv_idle_stop(idle);
    mesa_wheel_advance(l->wheel, uv_now(&l->uv));
    follow_wheel(l);
}

/* Sets the uv timer to the wheel's earliest one; stops it when there is none, so that it does not
 * keep the loop alive. What is due already waits for the idle phase, once a turn: libuv runs a timer
 * that is armed for now by a timer's callback before it polls again, and one that is armed each time
 * for ever. */
static void follow_wheel(struct mesa_loop *l)
{
    uint64_t due = 0, now = uv_now(&l->uv);
    bool any = mesa_wheel_next(l->wheel, &due);
    l->timer_due_ms = due;
    if (any && due <= now) {
        uv_timer_stop(&l->timer);
        uv_idle_start(&l->idle, on_idle);
        return;
    }
    uv_idle_stop(&l->idle);
    if (any)
        uv_timer_start(&l->timer, on_timer, due - now, 0);
    else
        uv_timer_stop(&l->timer);
}

static bool follows_wheel(const struct mesa_loop *l)
{
    return uv_is_active((const uv_handle_t *)&l->timer) ||
           uv_is_active((const uv_handle_t *)&l->idle);
}

static void run_turns(struct mesa_loop *l)
{
    /* Each hook moves back to the registry before it runs: hooks may then remove any hook, and new
     * ones wait for the next turn. */
    struct mesa_list due;
    mesa_list_init(&due);
    mesa_list_splice(&due, &l->turns);
    while (!mesa_list_empty(&due)) {
        struct mesa_turn *t = MESA_CONTAINER_OF(due.next, struct mesa_turn, link);
        mesa_list_remove(&t->link);
        mesa_list_append(&l->turns, &t->link);
        t->fn(t);
    }
}

/* A slice of the jobs, and of those that they queue. */
static void run_jobs(struct mesa_loop *l)
{
    uint64_t end_ns = mesa_list_empty(&l->jobs) ? 0 : uv_hrtime() + MESA_LOOP_SLICE_NS;
    while (!mesa_list_empty(&l->jobs)) {
        struct mesa_job *j = MESA_CONTAINER_OF(l->jobs.next, struct mesa_job, link);
        mesa_list_remove(&j->link);
        j->fn(j);
        if (uv_hrtime() >= end_ns)
            break;
    }
    if (mesa_list_empty(&l->jobs))
        uv_idle_stop(&l->busy);
}

static void on_busy(uv_idle_t *busy)
{
    (void)busy;
}

static void on_tell_counted(uv_timer_t *timer)
{
    (void)timer;
    mesa_log_tell_counted(false);
}

static void on_prepare(uv_prepare_t *prepare)
{
    struct mesa_loop *l = prepare->data;
    run_jobs(l);
    run_turns(l);
    if (mesa_log_has_counted() && !uv_is_active((uv_handle_t *)&l->tell_counted))
        uv_timer_start(&l->tell_counted, on_tell_counted, TELL_COUNTED_MS, 0);
}

/* What polling has produced goes out before the jobs have their slice. */
static void on_check(uv_check_t *check)
{
    run_turns(check->data);
}

static void unref_handle(uv_handle_t *h, struct mesa_loop *l)
{
    h->data = l;
    uv_unref(h);
}

enum mesa_status mesa_loop_new(struct mesa_loop **out)
{
    struct mesa_loop *l = calloc(1, sizeof *l);
    if (l == NULL)
        return MESA_ENOMEM;
    if (uv_loop_init(&l->uv) != 0) {
        free(l);
        return MESA_EIO;
    }
    if (mesa_wheel_new(&l->wheel, uv_now(&l->uv)) != MESA_OK) {
        uv_loop_close(&l->uv);
        free(l);
        return MESA_ENOMEM;
    }
    signal(SIGPIPE, SIG_IGN);
    mesa_list_init(&l->turns);
    mesa_list_init(&l->jobs);

    uv_timer_init(&l->uv, &l->timer);
    uv_idle_init(&l->uv, &l->idle);
    /* they stay referenced: one is active only while a wheel timer is armed */
    l->timer.data = l->idle.data = l;
    uv_idle_init(&l->uv, &l->busy);
    uv_prepare_init(&l->uv, &l->prepare);
    uv_prepare_start(&l->prepare, on_prepare);
    unref_handle((uv_handle_t *)&l->prepare, l);
    uv_timer_init(&l->uv, &l->tell_counted);
    unref_handle((uv_handle_t *)&l->tell_counted, l);
    uv_check_init(&l->uv, &l->check);
    uv_check_start(&l->check, on_check);
    unref_handle((uv_handle_t *)&l->check, l);

    *out = l;
    return MESA_OK;
}

static void close_handle(uv_handle_t *h, void *ctx)
{
    (void)ctx;
    if (!uv_is_closing(h))
        uv_close(h, NULL);
}

void mesa_loop_free(struct mesa_loop *l)
{
    if (l == NULL)
        return;
    /* closing callbacks may open handles anew, so walk until the loop can be closed */
    do {
        uv_walk(&l->uv, close_handle, NULL);
        uv_run(&l->uv, UV_RUN_DEFAULT);
    } while (uv_loop_close(&l->uv) == UV_EBUSY);
    mesa_wheel_free(l->wheel);
    free(l);
}

uv_loop_t *mesa_loop_uv(struct mesa_loop *l)
{
    return &l->uv;
}

void mesa_loop_run(struct mesa_loop *l)
{
    uv_run(&l->uv, UV_RUN_DEFAULT);
}

void mesa_loop_stop(struct mesa_loop *l)
{
    uv_stop(&l->uv);
}

void mesa_loop_hold(struct mesa_loop *l)
{
    if (l->holds++ == 0)
        uv_ref((uv_handle_t *)&l->prepare);
}

void mesa_loop_release(struct mesa_loop *l)
{
    if (--l->holds == 0)
        uv_unref((uv_handle_t *)&l->prepare);
}

uint64_t mesa_loop_now(const struct mesa_loop *l)
{
    return uv_now(&l->uv);
}

void mesa_loop_arm(struct mesa_loop *l, struct mesa_timer *t, uint64_t delay_ms)
{
    uint64_t due = uv_now(&l->uv) + delay_ms;
    mesa_wheel_arm(l->wheel, t, due);
    if (!follows_wheel(l) || due < l->timer_due_ms)
        follow_wheel(l);
}

void mesa_loop_cancel(struct mesa_loop *l, struct mesa_timer *t)
{
    uint64_t due;
    mesa_wheel_cancel(l->wheel, t);
    if (!mesa_wheel_next(l->wheel, &due))
        follow_wheel(l);
}

void mesa_loop_add_turn(struct mesa_loop *l, struct mesa_turn *t)
{
    mesa_list_append(l->turns.next, &t->link); /* before the first */
}

void mesa_loop_remove_turn(struct mesa_turn *t)
{
    mesa_list_remove(&t->link);
}

void mesa_loop_queue(struct mesa_loop *l, struct mesa_job *j)
{
    mesa_list_append(&l->jobs, &j->link);
    uv_idle_start(&l->busy, on_busy);
}

bool mesa_loop_busy(const struct mesa_loop *l)
{
    return !mesa_list_empty(&l->jobs);
}

void mesa_job_init(struct mesa_job *j, void (*fn)(struct mesa_job *j))
{
    mesa_list_init(&j->link);
    j->fn = fn;
}

void mesa_job_cancel(struct mesa_job *j)
{
    mesa_list_remove(&j->link);
}

static void on_signal(uv_signal_t *handle, int signum)
{
    struct loop_signal *s = handle->data;
    s->fn(s->ctx, signum);
}

static void leave_signal(uv_handle_t *h, void *ctx)
{
    (void)ctx;
    if (h->type == UV_SIGNAL && !uv_is_closing(h))
        uv_signal_stop((uv_signal_t *)h);
}

void mesa_loop_leave_signals(struct mesa_loop *l)
{
    uv_walk(&l->uv, leave_signal, NULL);
}

enum mesa_status mesa_loop_on_signal(struct mesa_loop *l, int signum, mesa_signal_fn fn, void *ctx)
{
    static const int known[SIGNAL_COUNT] = {SIGTERM, SIGINT, SIGHUP};
    for (int i = 0; i < SIGNAL_COUNT; i++) {
        struct loop_signal *s = &l->signals[i];
        if (known[i] != signum)
            continue;
        s->fn = fn;
        s->ctx = ctx;
        if (s->open)
            return MESA_OK;
        if (uv_signal_init(&l->uv, &s->handle) != 0)
            return MESA_EIO;
        s->open = true;
        s->handle.data = s;
        uv_unref((uv_handle_t *)&s->handle);
        return uv_signal_start(&s->handle, on_signal, signum) == 0 ? MESA_OK : MESA_EIO;
    }
    return MESA_EINVAL;
}
