/* transport_conn.c - one accepted socket: adoption, timeouts, and its end. */
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "io/transport_internal.h"

/* Whether something has come of the request that is awaited. */
static bool has_begun(const struct mesa_conn *c)
{
    return c->input != NULL || (mesa_secure_begins(c) && mesa_tls_has_begun(&c->tls->session));
}

static void on_timeout(struct mesa_timer *timer)
{
    struct mesa_conn *c = MESA_CONTAINER_OF(timer, struct mesa_conn, timer);
    if (c->lingering) {
        mesa_linger_timeout(c);
        return;
    }
    if (c->phase == MESA_CONN_OPEN) {
        mesa_ws_timeout(c);
        return;
    }
    if (c->phase == MESA_CONN_DECIDING) {
        mesa_handshake_timeout(c);
        return;
    }
    mesa_conn_kill_later(c);
    /* browsers open connections ahead of need, and say nothing on them */
    if (c->phase <= MESA_CONN_REQUEST && has_begun(c))
        mesa_listener_refused(c->listener, &c->address, "HANDSHAKE",
                              "the request was not complete within limits.handshakeTimeout");
}

void mesa_conn_arm(struct mesa_conn *c, uint64_t ms)
{
    if (ms == 0)
        mesa_loop_cancel(c->transport->loop, &c->timer);
    else
        mesa_loop_arm(c->transport->loop, &c->timer, ms);
}

void mesa_conn_mark(struct mesa_conn *c)
{
    struct mesa_transport *t = c->transport;
    if (!mesa_list_empty(&c->work))
        return;
    mesa_list_append(&t->work, &c->work);
    if (!mesa_timer_armed(&t->wake))
        mesa_loop_arm(t->loop, &t->wake, 0);
}

void mesa_conn_kill_later(struct mesa_conn *c)
{
    c->kill = true;
    mesa_conn_mark(c);
}

/* Gives back what only a connection that is served needs. */
static void release(struct mesa_conn *c)
{
    mesa_job_cancel(&c->job);
    mesa_pending_drop(&c->output);
    mesa_pending_drop(&c->input);
    mesa_ws_reader_deinit(&c->reader);
    mesa_deflate_free(c->deflate);
    c->deflate = NULL;
    mesa_buf_deinit(&c->message);
    free(c->closing);
    c->closing = NULL;
}

void mesa_conn_free(struct mesa_conn *c)
{
    mesa_secure_end(c, false);
    if (c->fd >= 0)
        mesa_link_close(c);
    release(c);
    mesa_list_remove(&c->link);
    mesa_list_remove(&c->work);
    mesa_loop_cancel(c->transport->loop, &c->timer);
    mesa_loop_release(c->transport->loop);
    free(c);
}

struct mesa_conn *mesa_conn_adopt(struct mesa_listener *l, int fd,
                                  const struct mesa_address *address)
{
    struct mesa_conn *c = calloc(1, sizeof *c);
    if (c == NULL) {
        close(fd);
        return NULL;
    }
    c->transport = l->transport;
    c->address = *address;
    c->reading = true;
    c->phase = l->proxy_protocol ? MESA_CONN_PREAMBLE : MESA_CONN_REQUEST;
    c->fd = -1;
    mesa_list_init(&c->link);
    mesa_list_init(&c->work);
    mesa_timer_init(&c->timer, on_timeout);
    mesa_job_init(&c->job, mesa_input_on_job);
    mesa_loop_hold(l->transport->loop);

    c->listener = l;
    mesa_list_append(&l->conns, &c->link);
    if (l->handshake_timeout_ms != 0)
        mesa_conn_arm(c, l->handshake_timeout_ms);

    if ((l->tls_config == NULL || mesa_secure_start(c, fd)) && mesa_link_begin(c, fd))
        return c;
    close(fd);
    mesa_conn_free(c);
    return NULL;
}

void mesa_conn_detach(struct mesa_conn *c)
{
    /* The listener's owner is about to forget everything: tell it now, end the socket at the end of
     * the turn. */
    if (c->phase == MESA_CONN_OPEN) {
        free(c->closing);
        c->closing = NULL;
        mesa_ws_closed(c);
    }
    mesa_handshake_detach(c);
    mesa_list_remove(&c->link);
    mesa_list_append(&c->transport->orphans, &c->link);
    c->listener = NULL;
    c->phase = MESA_CONN_GONE;
    mesa_conn_kill_later(c);
}

void mesa_conn_end(struct mesa_conn *c)
{
    bool whole = !mesa_link_buffered(c);
    mesa_secure_end(c, whole);
    if (c->phase == MESA_CONN_OPEN)
        mesa_ws_closed(c);
    mesa_http_detach(c);
    mesa_handshake_detach(c);
    if (c->listener != NULL)
        mesa_listener_forget(c->listener, c);
    c->listener = NULL;
    c->phase = MESA_CONN_GONE;
    release(c);
    if (c->linger && whole)
        mesa_linger_begin(c);
    else
        mesa_conn_free(c);
}

void mesa_conn_turn(struct mesa_conn *c)
{
    if (c->lingering) {
        if (c->kill)
            mesa_linger_end(c);
        return;
    }
    if (c->output != NULL && c->output->corked) {
        if (!mesa_link_flush(c))
            c->kill = true;
        mesa_ws_hold_if_buffered(c);
    }
    if (!c->kill && c->phase == MESA_CONN_OPEN && c->closing != NULL)
        mesa_ws_send_close(c);
    if (c->kill)
        mesa_conn_end(c);
}
