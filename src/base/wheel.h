/* wheel.h - a hierarchical timer wheel without a clock of its own.
 *
 * Arming and cancelling are O(1). The wheel stores intrusive timers it does not own: a timer must
 * be cancelled before its memory goes away. Not thread-safe. May include: base/.
 */
#ifndef MESA_BASE_WHEEL_H
#define MESA_BASE_WHEEL_H

#include <stdbool.h>
#include <stdint.h>

#include "base/list.h"
#include "base/status.h"

struct mesa_wheel; /* opaque */
struct mesa_timer;

typedef void (*mesa_timer_fn)(struct mesa_timer *t);

struct mesa_timer {
    struct mesa_list link; /* private */
    uint64_t due_ms;       /* absolute, in the wheel's time */
    mesa_timer_fn fn;
};

/* A wheel whose time starts at `now_ms`. */
enum mesa_status mesa_wheel_new(struct mesa_wheel **out, uint64_t now_ms);
/* All timers must have been cancelled. NULL is accepted. */
void mesa_wheel_free(struct mesa_wheel *w);

/* Prepares a timer that is not armed. */
void mesa_timer_init(struct mesa_timer *t, mesa_timer_fn fn);
bool mesa_timer_armed(const struct mesa_timer *t);

/* Arms `t` (re-arms it when armed) for `due_ms`; a time already past fires at the next advance. */
void mesa_wheel_arm(struct mesa_wheel *w, struct mesa_timer *t, uint64_t due_ms);
void mesa_wheel_cancel(struct mesa_wheel *w, struct mesa_timer *t);

/* Moves the time to `now_ms` and fires what is due, in order of due time (to the millisecond),
 * equal times in order of arming. A firing timer is disarmed first; its callback may arm, re-arm
 * and cancel any timer, its own included. A timer armed for a time <= now_ms from inside a callback
 * fires at the next advance, not in this one (no endless loop). */
void mesa_wheel_advance(struct mesa_wheel *w, uint64_t now_ms);

/* A time at or before the earliest due timer (a lower bound, close enough to sleep until), false
 * when none is armed. */
bool mesa_wheel_next(const struct mesa_wheel *w, uint64_t *due_ms);

#endif
