/* transport_secure.c - TLS of a connection: its handshake, and what its session has read ahead.
 *
 * Both are done as jobs of the loop: a handshake costs as much as hundreds of messages, and whoever is
 * connected already comes first.
 */
#include <stdlib.h>

#include "io/transport_internal.h"

bool mesa_secure_begins(const struct mesa_conn *c)
{
    return c->tls != NULL && !c->tls->session.ready;
}

/* Whether bytes can be taken from the session now. */
static bool may_read(const struct mesa_conn *c)
{
    return c->reading && !c->kill && (c->input == NULL || c->starved);
}

static void shake_hands(struct mesa_conn *c)
{
    char why[256];
    struct mesa_tls *session = &c->tls->session;
    enum mesa_status rc = mesa_tls_handshake(session, why, sizeof why);
    if (rc == MESA_OK || rc == MESA_EAGAIN) {
        c->wants_writable = session->wants_write;
        mesa_link_watch(c);
        if (rc == MESA_OK)
            mesa_input_read(c); /* a request may have come with the end of it */
        return;
    }
    c->linger = rc == MESA_EPROTO; /* for the alert */
    mesa_conn_kill_later(c);
    if (rc == MESA_EPROTO)
        mesa_listener_refused(c->listener, &c->address, "HANDSHAKE", why);
}

static void on_job(struct mesa_job *job)
{
    struct mesa_secure *s = MESA_CONTAINER_OF(job, struct mesa_secure, job);
    struct mesa_conn *c = s->conn;
    if (c->kill)
        return;
    if (!s->session.ready)
        shake_hands(c);
    else if (may_read(c))
        mesa_input_read(c);
}

bool mesa_secure_start(struct mesa_conn *c, int fd)
{
    struct mesa_secure *s = malloc(sizeof *s);
    if (s == NULL || mesa_tls_init(&s->session, c->listener->tls, fd) != MESA_OK) {
        free(s);
        return false;
    }
    s->conn = c;
    mesa_job_init(&s->job, on_job);
    c->tls = s;
    return true;
}

void mesa_secure_go_on(struct mesa_conn *c)
{
    struct mesa_secure *s = c->tls;
    if (s == NULL || mesa_job_queued(&s->job))
        return;
    if (!s->session.ready || (s->session.more && may_read(c)))
        mesa_loop_queue(c->transport->loop, &s->job);
}

void mesa_secure_end(struct mesa_conn *c, bool farewell)
{
    struct mesa_secure *s = c->tls;
    if (s == NULL)
        return;
    if (farewell)
        mesa_tls_shutdown(&s->session);
    c->tls = NULL;
    mesa_job_cancel(&s->job);
    mesa_tls_deinit(&s->session);
    free(s);
}
