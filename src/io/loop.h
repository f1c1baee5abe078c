/* loop.h - the one event loop: libuv, a timer wheel, and the end of a turn.
 *
 * One per process, loop thread only. Layers register turn hooks; the loop runs them before it
 * sleeps (uv_prepare) and after it has polled (uv_check), so that whatever produced output (a
 * socket, a timer, a luv callback) sees it flushed before the loop blocks. May include: base/.
 */
#ifndef MESA_IO_LOOP_H
#define MESA_IO_LOOP_H

#include <stdbool.h>
#include <stdint.h>
#include <uv.h>

#include "base/list.h"
#include "base/status.h"
#include "base/wheel.h"

struct mesa_loop; /* opaque */

/* Called at the end of a turn. Must not block. Embedded; remove before its memory goes away. Hooks
 * may add and remove hooks. The one added last runs first: who came later stands above, and what it
 * hands down goes out in the same turn. */
struct mesa_turn {
    struct mesa_list link;
    void (*fn)(struct mesa_turn *t);
};

/* Work that can wait for a moment: what comes in bursts, a thousand answers of a service at once, is
 * done in slices with everything else in between. Embedded; cancel it before its memory goes away. */
struct mesa_job {
    struct mesa_list link; /* the loop's jobs while queued */
    void (*fn)(struct mesa_job *j);
};

enum {
    MESA_LOOP_SLICE_NS = 50000
}; /* of jobs in one turn; the one that goes beyond it is the last */

typedef void (*mesa_signal_fn)(void *ctx, int signum);

enum mesa_status mesa_loop_new(struct mesa_loop **out);
/* Closes every handle still open on the loop, those of scripts (luv) included, and frees it.
 * Whoever owns the memory of a handle gives it up first: close the Lua state and free the transport
 * before. NULL is accepted. */
void mesa_loop_free(struct mesa_loop *l);

uv_loop_t *mesa_loop_uv(struct mesa_loop *l);
/* Runs until mesa_loop_stop or until nothing that keeps the process alive is left. The loop's own
 * handles (timer, prepare, check, signals) are unreferenced; a listener, a connection, an armed
 * wheel timer and a referenced uv handle keep it alive. */
void mesa_loop_run(struct mesa_loop *l);
void mesa_loop_stop(struct mesa_loop *l);
/* Keep mesa_loop_run going for something libuv does not see as active; each hold is released once.
 */
void mesa_loop_hold(struct mesa_loop *l);
void mesa_loop_release(struct mesa_loop *l);

/* Monotonic milliseconds, cached per turn. */
uint64_t mesa_loop_now(const struct mesa_loop *l);
/* Arms a wheel timer `delay_ms` from now. With 0 it fires in the next turn, never in this one: a
 * timer that arms itself so lets everything else have its turn. */
void mesa_loop_arm(struct mesa_loop *l, struct mesa_timer *t, uint64_t delay_ms);
void mesa_loop_cancel(struct mesa_loop *l, struct mesa_timer *t);

void mesa_loop_add_turn(struct mesa_loop *l, struct mesa_turn *t);
void mesa_loop_remove_turn(struct mesa_turn *t);

/* `fn` is called once, behind those queued before, usually in this turn; never before this returns.
 * The job must not be queued already. While it is, it keeps the loop running. */
void mesa_job_init(struct mesa_job *j, void (*fn)(struct mesa_job *j));
void mesa_loop_queue(struct mesa_loop *l, struct mesa_job *j);
/* Whether jobs are waiting. */
bool mesa_loop_busy(const struct mesa_loop *l);
/* Also when it is not queued. */
void mesa_job_cancel(struct mesa_job *j);
static inline bool mesa_job_queued(const struct mesa_job *j)
{
    return !mesa_list_empty(&j->link);
}

/* SIGTERM, SIGINT and SIGHUP are delivered as loop events. SIGPIPE is ignored by mesa_loop_new. */
enum mesa_status mesa_loop_on_signal(struct mesa_loop *l, int signum, mesa_signal_fn fn, void *ctx);
/* No signal is the loop's any more, nor a script's: each has the kernel's default again. */
void mesa_loop_leave_signals(struct mesa_loop *l);

#endif
