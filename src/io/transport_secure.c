/* transport_secure.c - TLS of a connection: its handshake, and what its session has read ahead.
 *
 * Both are done when the connection's job has its turn (transport_input.c): a handshake costs as much as
 * hundreds of messages, and whoever is connected already comes first.
 */
#include <stdlib.h>

#include "io/transport_internal.h"

bool mesa_secure_begins(const struct mesa_conn *c)
{
    return c->tls != NULL && !c->tls->session.ready && c->phase != MESA_CONN_PREAMBLE;
}

bool mesa_secure_has_more(const struct mesa_conn *c)
{
    return c->tls != NULL && c->tls->session.more;
}

void mesa_secure_shake_hands(struct mesa_conn *c)
{
    char why[448];
    struct mesa_tls *session = &c->tls->session;
    enum mesa_status rc = mesa_tls_handshake(session, why, sizeof why);
    if (rc == MESA_OK || rc == MESA_EAGAIN) {
        c->wants_writable = session->wants_write;
        mesa_link_watch(c);
        if (rc == MESA_OK)
            mesa_input_read(c, uv_hrtime()); /* a request may have come with the end of it */
        return;
    }
    c->linger = rc == MESA_EPROTO; /* for the alert */
    mesa_conn_kill_later(c);
    if (rc == MESA_EPROTO)
        mesa_listener_refused(c->listener, &c->address, "HANDSHAKE", why);
}

bool mesa_secure_start(struct mesa_conn *c, int fd)
{
    struct mesa_secure *s = malloc(sizeof *s);
    if (s == NULL || mesa_tls_init(&s->session, c->listener->tls, fd) != MESA_OK) {
        free(s);
        return false;
    }
    s->certificate = NULL;
    c->tls = s;
    return true;
}

enum mesa_status mesa_secure_certificate(struct mesa_conn *c, struct mesa_certificate **out)
{
    struct mesa_secure *s = c->tls;
    *out = NULL;
    if (s == NULL)
        return MESA_OK;
    if (s->certificate == NULL && mesa_tls_certificate(&s->session, &s->certificate) == MESA_ENOMEM)
        return MESA_ENOMEM;
    *out = s->certificate;
    return MESA_OK;
}

void mesa_secure_end(struct mesa_conn *c, bool farewell)
{
    struct mesa_secure *s = c->tls;
    if (s == NULL)
        return;
    if (farewell)
        mesa_tls_shutdown(&s->session);
    c->tls = NULL;
    mesa_tls_deinit(&s->session);
    mesa_certificate_unref(s->certificate);
    free(s);
}
