/* trace.c - what happens to clients, for --log-level debug. Never what messages contain, nor queries: tokens are in them. */
#include "base/inline.h"
#include "base/log.h"
#include "server/internal.h"

#define AREA "server"
#define SPAN(s) (int)(s).len, (s).p != NULL ? (s).p : ""
#define NAME(c) MESA_SERVER_ID_LEN, (c)->server_id

void mesa_trace_connected(const struct mesa_client *c, const struct mesa_request *req)
{
    if (mesa_log_enabled(MESA_LOG_DEBUG))
        mesa_log(MESA_LOG_DEBUG, AREA, "client %.*s connected from %.*s, path %.*s", NAME(c),
                 SPAN(req->ip), SPAN(req->path));
}

void mesa_trace_gone(const struct mesa_client *c, int code, struct mesa_span reason)
{
    if (mesa_log_enabled(MESA_LOG_DEBUG))
        mesa_log(MESA_LOG_DEBUG, AREA, "client %.*s is gone: %d %.*s", NAME(c), code, SPAN(reason));
}

static MESA_NOINLINE void trace_message(const struct mesa_client *c, const struct mesa_envelope *e,
                                        size_t bytes)
{
    if (e == NULL)
        mesa_log(MESA_LOG_DEBUG, AREA, "client %.*s sent %zu bytes", NAME(c), bytes);
    else
        mesa_log(MESA_LOG_DEBUG, AREA, "client %.*s sent op %lld, type %.*s, %zu bytes", NAME(c),
                 (long long)e->op, SPAN(e->t.p != NULL ? e->t : MESA_SPAN("none")), bytes);
}

void mesa_trace_message(const struct mesa_client *c, const struct mesa_envelope *e, size_t bytes)
{
    if (mesa_log_enabled(MESA_LOG_DEBUG))
        trace_message(c, e, bytes);
}

void mesa_trace_authenticating(const struct mesa_client *c)
{
    if (mesa_log_enabled(MESA_LOG_DEBUG))
        mesa_log(MESA_LOG_DEBUG, AREA, "client %.*s asks to be authenticated", NAME(c));
}

void mesa_trace_authenticated(const struct mesa_client *c, struct mesa_span id)
{
    if (mesa_log_enabled(MESA_LOG_DEBUG))
        mesa_log(MESA_LOG_DEBUG, AREA, "client %.*s is user %.*s", NAME(c), SPAN(id));
}

void mesa_trace_refused(const struct mesa_client *c)
{
    if (mesa_log_enabled(MESA_LOG_DEBUG))
        mesa_log(MESA_LOG_DEBUG, AREA, "client %.*s was refused", NAME(c));
}

void mesa_trace_http(const struct mesa_request *req, size_t body_bytes)
{
    if (mesa_log_enabled(MESA_LOG_DEBUG))
        mesa_log(MESA_LOG_DEBUG, AREA, "%.*s %.*s from %.*s, %zu bytes of body", SPAN(req->method),
                 SPAN(req->path), SPAN(req->ip), body_bytes);
}
