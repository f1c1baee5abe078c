/* transport_certificates.c - the certificates of a listener: read, read again, and watched over
 * as they grow old. */
#include <stdio.h>
#include <time.h>

#include "base/log.h"
#include "io/transport_internal.h"

enum { DAY_MS = 24 * 60 * 60 * 1000 };

enum mesa_status mesa_transport_check_tls(const struct mesa_config_tls *tls, char *err,
                                          size_t err_len)
{
    struct mesa_tls_context *c;
    enum mesa_status rc = mesa_tls_context_new(&c, tls, NULL, err, err_len);
    if (rc != MESA_OK)
        return rc;
    mesa_tls_context_warn(c, time(NULL));
    mesa_tls_context_unref(c);
    return MESA_OK;
}

void mesa_listener_watch_expiry(struct mesa_listener *l)
{
    mesa_loop_arm(l->transport->loop, &l->expiry, DAY_MS);
}

void mesa_listener_on_expiry(struct mesa_timer *timer)
{
    struct mesa_listener *l = MESA_CONTAINER_OF(timer, struct mesa_listener, expiry);
    mesa_tls_context_warn(l->tls, time(NULL));
    mesa_listener_watch_expiry(l);
}

enum mesa_status mesa_listener_open_tls(struct mesa_listener *l, char *err, size_t err_len)
{
    enum mesa_status rc = mesa_tls_tickets_new(&l->tickets, l->tls_config->ticket_lifetime_ms);
    if (rc == MESA_OK)
        rc = mesa_tls_context_new(&l->tls, l->tls_config, l->tickets, err, err_len);
    return rc;
}

enum mesa_status mesa_listener_reload_tls(struct mesa_listener *l, bool *changed, char *err,
                                          size_t err_len)
{
    struct mesa_tls_context *c;
    char what[512];
    *changed = false;
    if (l->tls_config == NULL || l->acceptor == NULL)
        return MESA_OK;
    enum mesa_status rc = mesa_tls_context_new(&c, l->tls_config, l->tickets, err, err_len);
    if (rc != MESA_OK)
        return rc;
    *changed = !mesa_tls_context_same(c, l->tls);
    mesa_tls_context_unref(l->tls); /* sessions that have begun keep it */
    l->tls = c;
    if (*changed) {
        mesa_tls_context_describe(c, what, sizeof what);
        mesa_log(MESA_LOG_INFO, "tls",
                 "the files of tls have changed, new handshakes on port %u use them: %s", l->port,
                 what);
    }
    mesa_tls_context_warn(c, time(NULL));
    return MESA_OK;
}

void mesa_listener_close_tls(struct mesa_listener *l)
{
    mesa_tls_context_unref(l->tls);
    mesa_tls_tickets_unref(l->tickets);
}
