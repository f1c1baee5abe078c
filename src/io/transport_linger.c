/* transport_linger.c - the last half second of a socket whose peer was told something and then
 * hung up on.
 *
 * Closing a socket with unread input makes the kernel send a reset, which can destroy what was
 * written just before: a close frame, or the status of a refused request. So a duplicate of the
 * descriptor outlives libwebsockets' own for a short while, in which it is read to the peer's end
 * and everything is thrown away. What linger at the same time is bounded; more are closed the hard
 * way. Loop thread only. May include: base/, io/.
 */
#include <fcntl.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

#include "io/transport_internal.h"

enum {
    LINGER_MS = 500,
    MAX_LINGERING = 256,
    DISCARD_BYTES = 64 * 1024, /* in one turn */
};

struct lingerer {
    struct mesa_list link; /* transport->lingering */
    struct mesa_transport *transport;
    struct mesa_timer timer;
    uv_poll_t poll;
    int fd;
    bool polled;
};

static void on_poll_closed(uv_handle_t *h)
{
    free(h->data);
}

static void end(struct lingerer *l)
{
    struct mesa_transport *t = l->transport;
    mesa_list_remove(&l->link);
    mesa_loop_cancel(t->loop, &l->timer);
    t->lingering_count--;
    if (l->polled)
        uv_poll_stop(&l->poll);
    close(l->fd);
    if (l->polled)
        uv_close((uv_handle_t *)&l->poll, on_poll_closed);
    else
        free(l);
}

static void on_readable(uv_poll_t *poll, int status, int events)
{
    static char rubbish[DISCARD_BYTES];
    struct lingerer *l = poll->data;
    (void)events;
    if (status < 0 || recv(l->fd, rubbish, sizeof rubbish, MSG_DONTWAIT) == 0)
        end(l);
}

/* At first libwebsockets is done with its descriptor, the second time so are we. */
static void on_timer(struct mesa_timer *timer)
{
    struct lingerer *l = MESA_CONTAINER_OF(timer, struct lingerer, timer);
    if (l->polled || uv_poll_init(mesa_loop_uv(l->transport->loop), &l->poll, l->fd) != 0) {
        end(l);
        return;
    }
    l->polled = true;
    l->poll.data = l;
    shutdown(l->fd, SHUT_WR);
    uv_poll_start(&l->poll, UV_READABLE, on_readable);
    mesa_loop_arm(l->transport->loop, &l->timer, LINGER_MS);
}

void mesa_linger_begin(struct mesa_transport *t, int fd)
{
    struct lingerer *l = t->lingering_count < MAX_LINGERING ? calloc(1, sizeof *l) : NULL;
    if (l == NULL)
        return;
    l->fd = fcntl(fd, F_DUPFD_CLOEXEC, 0);
    if (l->fd < 0) {
        free(l);
        return;
    }
    l->transport = t;
    mesa_timer_init(&l->timer, on_timer);
    mesa_list_append(&t->lingering, &l->link);
    t->lingering_count++;
    mesa_loop_arm(t->loop, &l->timer, 0);
}

void mesa_linger_end_all(struct mesa_transport *t)
{
    while (!mesa_list_empty(&t->lingering))
        end(MESA_CONTAINER_OF(t->lingering.next, struct lingerer, link));
}
