/* refusal.c - what is said about peers who were turned away before they were clients.
 *
 * They cost next to nothing to make, so that whoever wants to could fill a log with them: of each
 * kind one a second is reported, and the next one says how many were not.
 */
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "server/internal.h"

enum { QUIET_MS = 1000, TEXT_BYTES = 512 };

static const char *const codes[MESA_REFUSALS] = {
    [MESA_REFUSED_PATH] = "PATH",       [MESA_REFUSED_ORIGIN] = "ORIGIN",
    [MESA_REFUSED_HEADERS] = "HEADERS", [MESA_REFUSED_HANDSHAKE] = "HANDSHAKE",
    [MESA_REFUSED_LIMIT] = "LIMIT",
};

void mesa_server_refused(struct mesa_server *s, enum mesa_refusal kind, struct mesa_span ip,
                         const char *text)
{
    struct mesa_refusals *r = &s->refusals[kind];
    uint64_t now_ms = mesa_loop_now(s->loop);
    char line[TEXT_BYTES];

    mesa_metrics_count_error(&s->metrics, codes[kind]);
    if (now_ms < r->quiet_until_ms) {
        r->unreported++;
        return;
    }
    int n = snprintf(line, sizeof line, "%s, from %.*s", text, (int)ip.len, ip.p);
    if (r->unreported > 0 && n > 0 && (size_t)n < sizeof line)
        snprintf(line + n, sizeof line - (size_t)n, "; %" PRIu64 " before it were not reported",
                 r->unreported);
    r->quiet_until_ms = now_ms + QUIET_MS;
    r->unreported = 0;
    if (s->hooks.on_error != NULL)
        s->hooks.on_error(s->ctx, NULL, codes[kind], line);
}

void mesa_server_transport_refused(void *ctx, const char *code, struct mesa_span ip,
                                   const char *text)
{
    struct mesa_server *s = ctx;
    if (s->dead)
        return;
    mesa_server_enter_callback(s);
    for (enum mesa_refusal kind = 0; kind < MESA_REFUSALS; kind++)
        if (strcmp(codes[kind], code) == 0)
            mesa_server_refused(s, kind, ip, text);
    mesa_server_leave_callback(s);
}
