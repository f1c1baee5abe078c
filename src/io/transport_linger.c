/* transport_linger.c - the last moments of a socket whose peer was told something and then hung up on.
 *
 * Closing a socket with unread input makes the kernel send a reset, which can destroy what was written
 * before: a close frame, the status of a refused request, the end of a file (RFC 9112 section 9.6). So
 * this side's end is announced, and what the peer still sends is thrown away until it hangs up too, or
 * has had everything and half a second more. What linger at the same time is bounded: the oldest goes.
 */
#include <errno.h>
#include <sys/socket.h>

#include "io/transport_internal.h"

enum {
    LINGER_MS = 500,
    STALL_MS = 10000, /* for a peer that has taken nothing of what is left to send */
    MAX_LINGERING = 1024,
};

void mesa_linger_end(struct mesa_conn *c)
{
    c->transport->lingering_count--;
    mesa_conn_free(c);
}

void mesa_linger_begin(struct mesa_conn *c)
{
    struct mesa_transport *t = c->transport;
    if (t->lingering_count == MAX_LINGERING)
        mesa_linger_end(MESA_CONTAINER_OF(t->lingering.next, struct mesa_conn, link));
    mesa_list_remove(&c->link);
    mesa_list_append(&t->lingering, &c->link);
    t->lingering_count++;
    c->lingering = c->reading = true;
    c->kill = c->starved = c->wants_writable = false;
    c->unsent = SIZE_MAX;
    shutdown(c->fd, SHUT_WR);
    mesa_link_watch(c);
    mesa_conn_arm(c, LINGER_MS);
}

void mesa_linger_read(struct mesa_conn *c)
{
    ssize_t n = recv(c->fd, c->transport->poller->input, MESA_INPUT_BYTES, MSG_DONTWAIT);
    if (n == 0 || (n < 0 && errno != EAGAIN && errno != EINTR))
        mesa_conn_kill_later(c);
}

void mesa_linger_timeout(struct mesa_conn *c)
{
    if (mesa_conn_is_read(c) && c->unsent > 0)
        mesa_conn_arm(c, STALL_MS);
    else
        mesa_conn_kill_later(c);
}
