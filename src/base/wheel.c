/* wheel.c - see wheel.h.
 *
 * Eleven levels of 64 slots cover all 64 bits of time, six bits a level, so there is no far-away
 * list. A timer lives on the level of the highest six-bit digit in which its due time differs from
 * the wheel's time. That level depends on the two times only, hence
 *   - equal due times share a slot, in order of arming;
 *   - on every level only slots after the current digit are in use, and the first used slot of
 *     the lowest used level is the next event.
 * Moving the time visits used slots only: a jump over days costs no more than the timers it meets.
 */
#include "base/wheel.h"

#include <stdlib.h>

enum { DIGIT_BITS = 6, SLOTS = 1 << DIGIT_BITS, LEVELS = 11 };

struct mesa_wheel {
    uint64_t now;
    uint64_t used[LEVELS]; /* bit i: slot i is not empty */
    struct mesa_list slots[LEVELS][SLOTS];
    struct mesa_list late; /* due at or before `now`, in order of arming */
    uint64_t late_min;     /* a lower bound of the due times in `late` */
};

static struct mesa_timer *timer_of(struct mesa_list *l)
{
    return MESA_CONTAINER_OF(l, struct mesa_timer, link);
}

enum mesa_status mesa_wheel_new(struct mesa_wheel **out, uint64_t now_ms)
{
    struct mesa_wheel *w = calloc(1, sizeof *w);
    if (w == NULL)
        return MESA_ENOMEM;
    w->now = now_ms;
    w->late_min = UINT64_MAX;
    mesa_list_init(&w->late);
    for (unsigned level = 0; level < LEVELS; level++)
        for (unsigned i = 0; i < SLOTS; i++)
            mesa_list_init(&w->slots[level][i]);
    *out = w;
    return MESA_OK;
}

void mesa_wheel_free(struct mesa_wheel *w)
{
    free(w);
}

void mesa_timer_init(struct mesa_timer *t, mesa_timer_fn fn)
{
    mesa_list_init(&t->link);
    t->due_ms = 0;
    t->fn = fn;
}

bool mesa_timer_armed(const struct mesa_timer *t)
{
    return !mesa_list_empty(&t->link);
}

/* Puts an unlinked timer with due_ms >= now where it belongs. */
static void place(struct mesa_wheel *w, struct mesa_timer *t)
{
    uint64_t diff = t->due_ms ^ w->now;
    unsigned level = diff == 0 ? 0 : (63 - (unsigned)__builtin_clzll(diff)) / DIGIT_BITS;
    unsigned i = (unsigned)(t->due_ms >> (level * DIGIT_BITS)) & (SLOTS - 1);
    mesa_list_append(&w->slots[level][i], &t->link);
    w->used[level] |= UINT64_C(1) << i;
}

void mesa_wheel_arm(struct mesa_wheel *w, struct mesa_timer *t, uint64_t due_ms)
{
    mesa_wheel_cancel(w, t);
    t->due_ms = due_ms;
    if (due_ms > w->now) {
        place(w, t);
        return;
    }
    mesa_list_append(&w->late, &t->link);
    if (due_ms < w->late_min)
        w->late_min = due_ms;
}

void mesa_wheel_cancel(struct mesa_wheel *w, struct mesa_timer *t)
{
    struct mesa_list *head = t->link.next;
    bool last = head == t->link.prev && mesa_timer_armed(t);
    mesa_list_remove(&t->link);
    if (!last)
        return;

    /* The only member's neighbour is the head itself: a slot, `late`, or the list being fired. */
    uintptr_t offset = (uintptr_t)head - (uintptr_t)w->slots;
    if (offset < sizeof w->slots) {
        size_t i = offset / sizeof(struct mesa_list);
        w->used[i / SLOTS] &= ~(UINT64_C(1) << (i % SLOTS));
    }
}

/* The start of the first used slot: exact on level 0, a lower bound above. */
static bool first_slot(const struct mesa_wheel *w, unsigned *level, unsigned *slot, uint64_t *start)
{
    for (unsigned l = 0; l < LEVELS; l++) {
        if (w->used[l] == 0)
            continue;
        unsigned shift = l * DIGIT_BITS;
        unsigned above = shift + DIGIT_BITS;
        uint64_t high = above < 64 ? w->now >> above << above : 0;
        *level = l;
        *slot = (unsigned)__builtin_ctzll(w->used[l]);
        *start = high | (uint64_t)*slot << shift;
        return true;
    }
    return false;
}

/* Stable merge sort: takes `n` members off `from`, appends them to `to` by due time. */
static void sort_into(struct mesa_list *to, struct mesa_list *from, size_t n)
{
    if (n == 1) {
        struct mesa_list *l = from->next;
        mesa_list_remove(l);
        mesa_list_append(to, l);
        return;
    }
    struct mesa_list a, b;
    mesa_list_init(&a);
    mesa_list_init(&b);
    sort_into(&a, from, n / 2);
    sort_into(&b, from, n - n / 2);
    while (!mesa_list_empty(&a) && !mesa_list_empty(&b)) {
        struct mesa_list *l = timer_of(b.next)->due_ms < timer_of(a.next)->due_ms ? b.next : a.next;
        mesa_list_remove(l);
        mesa_list_append(to, l);
    }
    mesa_list_splice(to, &a);
    mesa_list_splice(to, &b);
}

static void take_late(struct mesa_wheel *w, struct mesa_list *firing)
{
    size_t n = 0;
    MESA_LIST_FOREACH(l, &w->late)
        n++;
    if (n > 0)
        sort_into(firing, &w->late, n);
    w->late_min = UINT64_MAX;
}

/* Moves the time to `now_ms`, collecting what is due in order. */
static void take_due(struct mesa_wheel *w, uint64_t now_ms, struct mesa_list *firing)
{
    unsigned level, slot;
    uint64_t start;
    while (first_slot(w, &level, &slot, &start) && start <= now_ms) {
        struct mesa_list *head = &w->slots[level][slot];
        w->now = start;
        w->used[level] &= ~(UINT64_C(1) << slot);
        if (level == 0) {
            mesa_list_splice(firing, head);
            continue;
        }
        while (!mesa_list_empty(head)) {
            struct mesa_list *l = head->next;
            mesa_list_remove(l);
            place(w, timer_of(l)); /* on a lower level: it shares this digit now */
        }
    }
    w->now = now_ms;
}

void mesa_wheel_advance(struct mesa_wheel *w, uint64_t now_ms)
{
    struct mesa_list firing;
    mesa_list_init(&firing);
    take_late(w, &firing);
    if (now_ms > w->now)
        take_due(w, now_ms, &firing);

    /* The time has moved on: what a callback arms for the past goes to `late` and waits. */
    while (!mesa_list_empty(&firing)) {
        struct mesa_timer *t = timer_of(firing.next);
        mesa_list_remove(&t->link);
        t->fn(t);
    }
}

bool mesa_wheel_next(const struct mesa_wheel *w, uint64_t *due_ms)
{
    if (!mesa_list_empty(&w->late)) {
        *due_ms = w->late_min;
        return true;
    }
    unsigned level, slot;
    return first_slot(w, &level, &slot, due_ms);
}
