/* handover.c - a user's newest connection comes, here or on another server, while older ones have
 * not confirmed what they were sent: perhaps they are gone and nobody has noticed yet.
 *
 * Those that live confirm within a moment. After it, what is not confirmed goes back to the store,
 * for the newest to take; so the user receives it in order, wherever it was.
 */
#include <stdlib.h>
#include <string.h>

#include "server/internal.h"

enum { POLL_MS = 10 };

/* To another server. */
struct handover {
    struct mesa_list link; /* server.handovers */
    uint64_t due_ms, by, asked;
    struct mesa_span id, request; /* in `bytes` */
    char bytes[];
};

/* The next connection of the user that is older than `newest` and has something to confirm. */
static struct mesa_client *next_behind(struct mesa_client *newest, struct mesa_client *c)
{
    while ((c = mesa_server_next_of(newest->server, mesa_client_id(newest), c)) != NULL) {
        if (c != newest && mesa_unread_any(c, newest))
            return c;
    }
    return NULL;
}

/* The next that is older than the one the other server has. It answers for the user now. */
static struct mesa_client *next_concerned(struct mesa_server *s, const struct handover *h,
                                          struct mesa_client *c)
{
    while ((c = mesa_server_next_of(s, h->id, c)) != NULL) {
        if (!mesa_unread_told_before(c, h->asked))
            continue;
        mesa_unread_relieve(c, h->by);
        if (mesa_unread_any(c, NULL))
            return c;
    }
    return NULL;
}

/* Whether it has to wait: for confirmations, or to know which of them is older. */
static bool is_open(struct mesa_server *s, const struct handover *h)
{
    struct mesa_client *c = NULL;
    if (next_concerned(s, h, NULL) != NULL)
        return true;
    while ((c = mesa_server_next_of(s, h->id, c)) != NULL) {
        if (mesa_unread_is_undecided(c))
            return true;
    }
    return false;
}

/* It was waited for long enough: what it has not confirmed goes back, to `h` or to the store. */
static void relieve(struct mesa_client *c, const struct handover *h)
{
    struct mesa_server *s = c->server;
    struct mesa_unread_list unread;
    if (mesa_unread_list_init(&unread, c, true) != MESA_OK) {
        mesa_server_report(s, c, "MEMORY", "no memory to hand over unread messages");
        return;
    }
    if (h != NULL)
        s->broker->ops->hand_over(s->broker, h->id, h->request, unread.parts, unread.count, true);
    else
        s->broker->ops->put_back(s->broker, mesa_client_id(c), unread.parts, unread.count,
                                 c->fetching > 0);
    mesa_redelivery_forget(c, true);
    mesa_unread_list_deinit(&unread);
    mesa_unread_forget(c);
    if (h == NULL)
        mesa_unread_relieve(c, MESA_RELIEVED_HERE);
    mesa_client_timing_update(c);
}

bool mesa_hand_over_here(struct mesa_client *c, bool force)
{
    struct mesa_client *older = NULL;
    if (!force)
        return next_behind(c, NULL) == NULL;
    while ((older = next_behind(c, older)) != NULL)
        relieve(older, NULL);
    return true;
}

/* -- to other servers -- */

static void finish(struct mesa_server *s, struct handover *h)
{
    struct mesa_client *c = NULL;
    while ((c = next_concerned(s, h, c)) != NULL)
        relieve(c, h);
    mesa_list_remove(&h->link);
    s->broker->ops->hand_over(s->broker, h->id, h->request, NULL, 0, false);
    free(h);
}

/* Those for the user; absent: all. */
static void finish_all(struct mesa_server *s, struct mesa_span id)
{
    MESA_LIST_FOREACH_SAFE(it, tmp, &s->handovers) {
        struct handover *h = MESA_CONTAINER_OF(it, struct handover, link);
        if (id.p == NULL || mesa_span_eq(h->id, id))
            finish(s, h);
    }
}

static void on_timer(struct mesa_timer *t)
{
    struct mesa_server *s = MESA_CONTAINER_OF(t, struct mesa_server, handover_timer);
    uint64_t now_ms = mesa_loop_now(s->loop);
    mesa_server_enter(s);
    MESA_LIST_FOREACH_SAFE(it, tmp, &s->handovers) {
        struct handover *h = MESA_CONTAINER_OF(it, struct handover, link);
        if (now_ms >= h->due_ms || !is_open(s, h))
            finish(s, h);
    }
    if (!mesa_list_empty(&s->handovers))
        mesa_loop_arm(s->loop, &s->handover_timer, POLL_MS);
    mesa_server_leave(s);
}

static struct handover *begin(struct mesa_server *s, struct mesa_span id, struct mesa_span request)
{
    struct handover *h = calloc(1, sizeof *h + id.len + request.len);
    if (h == NULL)
        return NULL;
    memcpy(h->bytes, id.p, id.len);
    memcpy(h->bytes + id.len, request.p, request.len);
    h->id = (struct mesa_span){h->bytes, id.len};
    h->request = (struct mesa_span){h->bytes + id.len, request.len};
    h->due_ms = mesa_loop_now(s->loop) + MESA_HAND_OVER_MS;
    mesa_list_init(&h->link);
    mesa_list_append(&s->handovers, &h->link);
    if (!mesa_timer_armed(&s->handover_timer))
        mesa_loop_arm(s->loop, &s->handover_timer, POLL_MS);
    return h;
}

void mesa_server_hand_over(void *ctx, struct mesa_span id, uint64_t by, uint64_t asked,
                           struct mesa_span request)
{
    struct mesa_server *s = ctx;
    mesa_server_enter(s);
    finish_all(s, id);
    struct handover *h = begin(s, id, request);
    if (h != NULL) {
        h->by = by;
        h->asked = asked;
        if (!is_open(s, h))
            finish(s, h);
    } else { /* what is not confirmed stays with the connections here */
        s->broker->ops->hand_over(s->broker, id, request, NULL, 0, false);
    }
    mesa_server_leave(s);
}

bool mesa_hand_over_leave(struct mesa_client *c, const struct mesa_unread_list *unread)
{
    struct mesa_server *s = c->server;
    MESA_LIST_FOREACH(it, &s->handovers) {
        const struct handover *h = MESA_CONTAINER_OF(it, struct handover, link);
        if (mesa_span_eq(h->id, mesa_client_id(c)) && mesa_unread_told_before(c, h->asked)) {
            s->broker->ops->hand_over(s->broker, h->id, h->request, unread->parts, unread->count,
                                      true);
            return true;
        }
    }
    return false;
}

void mesa_server_returned(void *ctx, struct mesa_span id, uint64_t by)
{
    struct mesa_server *s = ctx;
    struct mesa_client *c = NULL;
    if (by != MESA_RELIEVED_HERE) /* what comes from now on is not for them */
        finish_all(s, id);
    while (id.p == NULL && (c = mesa_server_next(s, c)) != NULL)
        mesa_unread_unrelieve(c, by);
    while (id.p != NULL && (c = mesa_server_next_of(s, id, c)) != NULL)
        mesa_unread_unrelieve(c, by);
}

void mesa_hand_over_init(struct mesa_server *s)
{
    mesa_list_init(&s->handovers);
    mesa_timer_init(&s->handover_timer, on_timer);
}

void mesa_hand_over_deinit(struct mesa_server *s)
{
    mesa_loop_cancel(s->loop, &s->handover_timer);
    while (!mesa_list_empty(&s->handovers)) {
        struct mesa_list *first = s->handovers.next;
        mesa_list_remove(first);
        free(MESA_CONTAINER_OF(first, struct handover, link));
    }
}
