/* http.c - plain HTTP on the server's port, and which upgrades are welcome. */
#include <stdio.h>
#include <string.h>

#include "base/utf8.h"
#include "core/origin.h"
#include "server/internal.h"

enum { SHOWN_BYTES = 120 }; /* of a path or an origin, in what is reported */

static bool is_websocket_path(const struct mesa_server *s, struct mesa_span path)
{
    const char *want = s->cfg.path;
    return want == NULL || mesa_span_eq(path, (struct mesa_span){want, strlen(want)});
}

static const struct mesa_header *find_header(const struct mesa_request *req, struct mesa_span name)
{
    for (size_t i = 0; i < req->header_count; i++) {
        if (mesa_span_eq(req->headers[i].name, name))
            return &req->headers[i];
    }
    return NULL;
}

/* Browsers always send Origin, and only they can be made to connect behind their user's back. */
static bool is_allowed_origin(const struct mesa_server *s, const struct mesa_request *req)
{
    const struct mesa_header *origin = find_header(req, MESA_SPAN("origin"));
    if (s->cfg.origins == NULL || origin == NULL)
        return true;
    for (size_t i = 0; i < s->cfg.origin_count; i++)
        if (mesa_origin_matches(s->cfg.origins[i], origin->value))
            return true;
    return false;
}

/* The subprotocol called `name` among those offered; absent when it is not. */
static struct mesa_span find_offer(struct mesa_span offered, const char *name)
{
    struct mesa_span wanted = {name, strlen(name)};
    struct mesa_span offer = mesa_http_list_next(&offered);
    while (offer.p != NULL && !mesa_span_eq(offer, wanted))
        offer = mesa_http_list_next(&offered);
    return offer;
}

static void refuse(struct mesa_server *s, enum mesa_refusal kind, const struct mesa_request *req,
                   const char *text, struct mesa_span what)
{
    char line[SHOWN_BYTES + 64];
    size_t shown = what.len <= SHOWN_BYTES ? what.len : SHOWN_BYTES;
    shown = mesa_utf8_prefix(what.p, shown); /* a script may send it on as JSON */
    snprintf(line, sizeof line, "%s%.*s%s", text, (int)shown, what.p,
             shown < what.len ? "..." : "");
    mesa_server_refused(s, kind, req->ip, line);
}

/* RFC 6455 section 4.2.2: one of those offered, or none. The status to refuse with; 0: agreed. */
static int choose_protocol(struct mesa_server *s, const struct mesa_request *req,
                           struct mesa_span *chosen)
{
    const struct mesa_header *header = find_header(req, MESA_SPAN("sec-websocket-protocol"));
    struct mesa_span offered = header != NULL ? header->value : MESA_SPAN("");
    if (s->cfg.protocols.asked && s->hooks.on_protocol != NULL) {
        *chosen = MESA_SPAN("");
        return s->hooks.on_protocol(s->ctx, req, offered, chosen);
    }
    if (s->cfg.protocols.count == 0)
        return 0; /* the first one offered, as the Node library does */
    struct mesa_span found = {NULL, 0};
    for (size_t i = 0; found.p == NULL && i < s->cfg.protocols.count; i++)
        found = find_offer(offered, s->cfg.protocols.names[i]);
    *chosen = found.p != NULL ? found : MESA_SPAN("");
    if (found.p != NULL || !s->cfg.protocols.required)
        return 0;
    refuse(s, MESA_REFUSED_HANDSHAKE, req, "none of the subprotocols is offered, but: ", offered);
    return 400;
}

int mesa_server_check_upgrade(void *ctx, const struct mesa_request *req, struct mesa_upgrade *out)
{
    struct mesa_server *s = mesa_server_for(ctx, req->path);
    int status = 0;
    if (s->closing)
        return 503;
    mesa_server_enter_callback(s);
    if (!is_websocket_path(s, req->path)) {
        status = 404;
        refuse(s, MESA_REFUSED_PATH, req, "no WebSockets on the path ", req->path);
    } else if (!is_allowed_origin(s, req)) {
        status = 403;
        refuse(s, MESA_REFUSED_ORIGIN, req,
               "not one of the origins: ", find_header(req, MESA_SPAN("origin"))->value);
    } else {
        status = choose_protocol(s, req, &out->protocol);
        out->waits = s->hooks.decides_upgrades != NULL && s->hooks.decides_upgrades(s->ctx);
        if (s->cfg.compression.enabled)
            out->compression = &s->deflate;
    }
    mesa_server_leave_callback(s);
    return status;
}

void mesa_server_reply_text(struct mesa_http *h, int status, const char *text,
                            const struct mesa_header *extra)
{
    struct mesa_header headers[2] = {
        {MESA_SPAN("content-type"), MESA_SPAN("text/plain; charset=utf-8")},
    };
    size_t count = 1;
    if (extra != NULL)
        headers[count++] = *extra;
    mesa_http_reply(h, status, headers, count, text, strlen(text));
}

static bool is_reading(struct mesa_span method)
{
    return mesa_span_eq(method, MESA_SPAN("GET")) || mesa_span_eq(method, MESA_SPAN("HEAD"));
}

void mesa_server_refuse_http(const struct mesa_server *s, struct mesa_http *h,
                             struct mesa_span method, struct mesa_span path)
{
    const struct mesa_header upgrade = {MESA_SPAN("upgrade"), MESA_SPAN("websocket")};
    if (is_reading(method) && is_websocket_path(s, path))
        mesa_server_reply_text(h, 426, "this is a WebSocket endpoint\n", &upgrade);
    else
        mesa_server_reply_text(h, 404, "not found\n", NULL);
}

void mesa_server_answer_http(void *ctx, struct mesa_http *h, const struct mesa_request *req,
                             struct mesa_span body)
{
    struct mesa_server *s = mesa_server_for(ctx, req->path);
    mesa_trace_http(req, body.len);
    bool readable = is_reading(req->method);
    const struct mesa_header allow = {MESA_SPAN("allow"), MESA_SPAN("GET, HEAD")};
    mesa_server_enter_callback(s);
    if (readable && s->cfg.static_root != NULL && mesa_http_file(h, s->cfg.static_root) == MESA_OK)
        goto out;
    if (s->hooks.on_http != NULL && s->hooks.on_http(s->ctx, h, req, body))
        goto out;
    if (readable)
        mesa_server_refuse_http(s, h, req->method, req->path);
    else
        mesa_server_reply_text(h, 405, "method not allowed\n", &allow);
out:
    mesa_server_leave_callback(s);
}
