/* inbox.c - see inbox.h. */
#include "script/inbox.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/log.h"
#include "script/script.h"

/* Messages of one client, and how long those of a client that has left are kept. */
enum { COUNT_MAX = 64, LEFT_MS = 5000 };

struct mesa_inbox {
    struct client_box *box;
    struct mesa_waiting *first, **last;
    size_t count, bytes;
    bool full;   /* at its own bound: the client is not read from until everything is handled */
    bool paused; /* the client is not read from, for any reason */
    struct mesa_list link; /* server->held: not read from for the process's bound; vm->left: gone */
    struct mesa_timer timer; /* of a client that has left */
};

static size_t cost(const struct mesa_waiting *m)
{
    return sizeof *m + m->len;
}

/* -- reading and not reading ------------------------------------------------------------------- */

static void apply_pause(struct mesa_inbox *in)
{
    struct client_box *box = in->box;
    bool pause = in->full || !mesa_list_empty(&in->link);
    if (!box->connected || pause == in->paused)
        return;
    in->paused = pause;
    if (pause)
        mesa_client_pause(box->client);
    else
        mesa_client_resume(box->client);
}

static void free_inbox(struct mesa_inbox *in)
{
    in->box->inbox = NULL;
    mesa_loop_cancel(in->box->server->vm->loop, &in->timer);
    mesa_list_remove(&in->link);
    free(in);
}

/* An inbox without messages is kept only as long as the client must not be read from. */
static void free_if_idle(struct mesa_inbox *in)
{
    if (in->count == 0 && !in->paused)
        free_inbox(in);
}

static void on_left_too_long(struct mesa_timer *timer);

static struct mesa_inbox *inbox_of(struct client_box *box)
{
    if (box->inbox != NULL)
        return box->inbox;
    struct mesa_inbox *in = calloc(1, sizeof *in);
    if (in == NULL)
        return NULL;
    in->box = box;
    in->last = &in->first;
    mesa_list_init(&in->link);
    mesa_timer_init(&in->timer, on_left_too_long);
    box->inbox = in;
    return in;
}

static void hold(struct client_box *box)
{
    struct mesa_inbox *in = box->connected ? inbox_of(box) : NULL;
    if (in == NULL || !mesa_list_empty(&in->link))
        return; /* without memory it can add one message to what waits */
    mesa_list_append(&box->server->held, &in->link);
    apply_pause(in);
}

/* Whoever's handler waits could add a message: none of them is read from. */
static void hold_all(struct script_server *s)
{
    s->crowded = true;
    for (struct mesa_client *c = mesa_server_next(s->server, NULL); c != NULL;
         c = mesa_server_next(s->server, c)) {
        struct client_box *box = mesa_client_data(c);
        if (box != NULL && box->handling > 0)
            hold(box);
    }
}

static void release_all(struct script_server *s)
{
    s->crowded = false;
    while (!mesa_list_empty(&s->held)) {
        struct mesa_inbox *in = MESA_CONTAINER_OF(s->held.next, struct mesa_inbox, link);
        mesa_list_remove(&in->link);
        apply_pause(in);
        free_if_idle(in);
    }
}

/* Between the bound and its half nothing changes, so that going over all clients is rare. */
static void count_bytes(struct script_server *s, size_t added, size_t removed)
{
    struct mesa_vm *vm = s->vm;
    vm->queued_bytes += added - removed;
    if (s->server != NULL)
        mesa_server_metrics(s->server)->queued_bytes += added - removed;
    MESA_LIST_FOREACH(it, &vm->servers) {
        struct script_server *other = MESA_CONTAINER_OF(it, struct script_server, link);
        if (other->crowded && vm->queued_bytes <= other->max_queue_total / 2)
            release_all(other);
        else if (!other->crowded && vm->queued_bytes >= other->max_queue_total &&
                 other->server != NULL)
            hold_all(other);
    }
}

void mesa_inbox_hold(struct client_box *box)
{
    if (box->server->crowded && box->handling > 0)
        hold(box);
}

/* -- messages ------------------------------------------------------------------------------------ */

struct mesa_waiting *mesa_inbox_take(struct client_box *box)
{
    struct mesa_inbox *in = box->inbox;
    struct mesa_waiting *m = in != NULL ? in->first : NULL;
    if (m == NULL)
        return NULL;
    in->first = m->next;
    if (in->first == NULL)
        in->last = &in->first;
    in->count--;
    in->bytes -= cost(m);
    count_bytes(box->server, 0, cost(m));
    return m;
}

void mesa_inbox_free(struct client_box *box)
{
    for (struct mesa_waiting *m; (m = mesa_inbox_take(box)) != NULL;)
        free(m);
    if (box->inbox != NULL)
        free_inbox(box->inbox);
}

static void drop(struct mesa_inbox *in)
{
    struct client_box *box = in->box;
    struct script_server *s = box->server;
    char text[128];
    snprintf(text, sizeof text,
             "%zu messages (%zu bytes) of a client that has left were dropped: its handler waits",
             in->count, in->bytes);
    mesa_inbox_free(box);
    if (s->server == NULL || s->vm->closing)
        return;
    mesa_metrics_count_error(mesa_server_metrics(s->server), "QUEUE");
    mesa_script_hooks.on_error(s, box->client, "QUEUE", text);
}

static void on_left_too_long(struct mesa_timer *timer)
{
    drop(MESA_CONTAINER_OF(timer, struct mesa_inbox, timer));
}

void mesa_inbox_push(struct client_box *box, struct mesa_span text, enum mesa_waiting_kind kind)
{
    struct script_server *s = box->server;
    struct mesa_vm *vm = s->vm;
    struct mesa_inbox *in = inbox_of(box);
    struct mesa_waiting *m = in != NULL ? malloc(sizeof *m + text.len) : NULL;
    if (m == NULL) {
        mesa_log_limited(MESA_LOG_ERROR, "script", "MEMORY",
                         MESA_SPAN("no memory for a message that must wait, it is lost"));
        return;
    }
    *m = (struct mesa_waiting){.len = text.len, .kind = kind};
    memcpy(m->bytes, text.p, text.len);
    *in->last = m;
    in->last = &m->next;
    in->count++;
    in->bytes += cost(m);
    in->full = in->full || in->count >= COUNT_MAX || in->bytes >= s->max_queue;
    apply_pause(in);
    count_bytes(s, cost(m), 0);
    mesa_inbox_hold(box);
    while (s->crowded && !mesa_list_empty(&vm->left))
        drop(MESA_CONTAINER_OF(vm->left.next, struct mesa_inbox, link));
}

void mesa_inbox_settle(struct client_box *box)
{
    struct mesa_inbox *in = box->inbox;
    if (box->server->vm->closing)
        mesa_inbox_free(box);
    if (box->inbox == NULL || in->count > 0)
        return;
    in->full = false;
    if (box->server->crowded && box->handling > 0)
        hold(box);
    else
        mesa_list_remove(&in->link);
    apply_pause(in);
    free_if_idle(in);
}

void mesa_inbox_leave(struct client_box *box)
{
    struct mesa_inbox *in = box->inbox;
    if (in == NULL)
        return;
    mesa_list_remove(&in->link);
    in->paused = false;
    if (in->count == 0) {
        free_inbox(in);
    } else if (box->server->crowded) {
        drop(in);
    } else {
        mesa_list_append(&box->server->vm->left, &in->link);
        mesa_loop_arm(box->server->vm->loop, &in->timer, LEFT_MS);
    }
}
