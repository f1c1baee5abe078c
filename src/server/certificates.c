/* certificates.c - takes new certificates while the server runs. */
#include <stdio.h>

#include "io/tls_context.h"
#include "server/internal.h"

const char *mesa_server_tls_file(const struct mesa_server *s, size_t i)
{
    const struct mesa_config_tls *tls = &s->cfg.tls;
    const char *const own[] = {tls->cert, tls->key, tls->ca, tls->ticket_keys};
    for (size_t n = 0; n < sizeof own / sizeof *own; n++)
        if (own[n] != NULL && i-- == 0)
            return own[n];
    if (i / 2 >= tls->name_count)
        return NULL;
    return i % 2 == 0 ? tls->names[i / 2].cert : tls->names[i / 2].key;
}

bool mesa_server_reload_tls(struct mesa_server *s, struct mesa_buf *report)
{
    char err[MESA_TLS_ERROR_BYTES], line[MESA_TLS_ERROR_BYTES + 64];
    bool changed;
    if (s->listener == NULL || s->closing)
        return true;
    enum mesa_status rc = mesa_listener_reload_tls(s->listener, &changed, err, sizeof err);
    if (rc == MESA_OK) {
        s->metrics.reloads += changed;
        if (changed && report != NULL)
            (void)mesa_buf_printf(
                report, "the files of tls have changed, new handshakes on port %u use them\n",
                mesa_server_port(s));
        return true;
    }
    mesa_server_enter(s);
    s->metrics.reload_failures++;
    snprintf(line, sizeof line, "%s; the old certificates stay in use", err);
    if (report != NULL)
        (void)mesa_buf_printf(report, "%s\n", line);
    mesa_server_report(s, NULL, "RELOAD", line);
    mesa_server_leave(s);
    return false;
}
