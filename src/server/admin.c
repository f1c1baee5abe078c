/* admin.c - the operator's own listener: GET /metrics, GET /healthz, GET /readyz, POST /reload.
 *
 * Meant for the loopback address. A request that a browser sent from a page (it has an Origin
 * header) must not reload anything.
 */
#include <arpa/inet.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>

#include "server/internal.h"

static void reply_metrics(struct mesa_server *s, struct mesa_http *h)
{
    const struct mesa_header type = {MESA_SPAN("content-type"),
                                     MESA_SPAN("text/plain; version=0.0.4; charset=utf-8")};
    struct mesa_buf text;
    mesa_buf_init(&text);
    s->metrics.redis_ready = s->cfg.redis.enabled && s->broker->ops->trouble(s->broker) == NULL;
    if (mesa_metrics_write(&s->metrics, &text) == MESA_OK)
        mesa_http_reply(h, 200, &type, 1, text.data, text.len);
    else
        mesa_server_reply_text(h, 500, "out of memory\n", NULL);
    mesa_buf_deinit(&text);
}

static void reply_health(struct mesa_server *s, struct mesa_http *h)
{
    if (s->closing)
        mesa_server_reply_text(h, 503, "closing\n", NULL);
    else
        mesa_server_reply_text(h, 200, "ok\n", NULL);
}

/* Whether clients are to be sent here: it serves, and reaches everybody whom it should. That it does not
 * is no reason to end it, which is what /healthz is asked for. */
static void reply_ready(struct mesa_server *s, struct mesa_http *h)
{
    char line[300];
    const char *why = s->broker->ops->trouble(s->broker);
    if (s->closing)
        why = "closing";
    if (why == NULL) {
        mesa_server_reply_text(h, 200, "ready\n", NULL);
        return;
    }
    snprintf(line, sizeof line, "not ready: %s\n", why);
    mesa_server_reply_text(h, 503, line, NULL);
}

static bool from_a_page(const struct mesa_request *req)
{
    for (size_t i = 0; i < req->header_count; i++) {
        if (mesa_span_eq(req->headers[i].name, MESA_SPAN("origin")))
            return true;
    }
    return false;
}

static void reload(struct mesa_server *s, struct mesa_http *h, const struct mesa_request *req)
{
    if (s->hooks.on_reload == NULL) {
        mesa_server_reply_text(h, 404, "nothing to reload\n", NULL);
        return;
    }
    if (from_a_page(req)) {
        mesa_server_reply_text(h, 403, "not from a web page\n", NULL);
        return;
    }
    const struct mesa_header type = {MESA_SPAN("content-type"),
                                     MESA_SPAN("text/plain; charset=utf-8")};
    struct mesa_buf report;
    mesa_buf_init(&report);
    bool ok = s->hooks.on_reload(s->ctx, &report);
    mesa_http_reply(h, ok ? 200 : 500, &type, 1, report.data, report.len);
    mesa_buf_deinit(&report);
}

static bool is(const struct mesa_request *req, struct mesa_span path)
{
    return mesa_span_eq(req->path, path);
}

/* The Host header without its port; absent when there is none. */
static struct mesa_span host_name(const struct mesa_request *req)
{
    for (size_t i = 0; i < req->header_count; i++) {
        struct mesa_span name = req->headers[i].value;
        if (!mesa_span_eq(req->headers[i].name, MESA_SPAN("host")))
            continue;
        const char *colon = memrchr(name.p, ':', name.len);
        if (colon != NULL && memchr(colon, ']', name.len - (size_t)(colon - name.p)) == NULL)
            name.len = (size_t)(colon - name.p);
        return name;
    }
    return (struct mesa_span){NULL, 0};
}

static bool is_address(struct mesa_span name)
{
    char text[INET_ADDRSTRLEN];
    struct in_addr four;
    if (name.len > 0 && name.p[0] == '[')
        return true;
    if (name.len >= sizeof text)
        return false;
    memcpy(text, name.p, name.len);
    text[name.len] = '\0';
    return inet_pton(AF_INET, text, &four) == 1;
}

/* Whether the request means this server. The name of any other site may be made to lead here (DNS
 * rebinding), and then a page of that site could read and reload; an address cannot. */
static bool is_for_us(const struct mesa_server *s, const struct mesa_request *req)
{
    struct mesa_span name = host_name(req);
    const char *own[] = {"localhost", s->cfg.admin.host};
    for (size_t i = 0; i < 2; i++)
        if (own[i] != NULL && name.len == strlen(own[i]) &&
            strncasecmp(name.p, own[i], name.len) == 0)
            return true;
    return name.p == NULL || is_address(name);
}

static void on_http(void *ctx, struct mesa_http *h, const struct mesa_request *req,
                    struct mesa_span body)
{
    (void)body;
    struct mesa_server *s = ctx;
    bool get =
        mesa_span_eq(req->method, MESA_SPAN("GET")) || mesa_span_eq(req->method, MESA_SPAN("HEAD"));
    bool post = mesa_span_eq(req->method, MESA_SPAN("POST"));
    bool readable = is(req, MESA_SPAN("/metrics")) || is(req, MESA_SPAN("/healthz")) ||
                    is(req, MESA_SPAN("/readyz"));
    bool writable = is(req, MESA_SPAN("/reload"));
    const struct mesa_header allow = {MESA_SPAN("allow"),
                                      writable ? MESA_SPAN("POST") : MESA_SPAN("GET, HEAD")};

    mesa_server_enter_callback(s);
    if (!is_for_us(s, req))
        mesa_server_reply_text(h, 421, "this is not the host you asked for\n", NULL);
    else if (!readable && !writable)
        mesa_server_reply_text(h, 404, "not found\n", NULL);
    else if ((readable && !get) || (writable && !post))
        mesa_server_reply_text(h, 405, "method not allowed\n", &allow);
    else if (writable)
        reload(s, h, req);
    else if (is(req, MESA_SPAN("/metrics")))
        reply_metrics(s, h);
    else if (is(req, MESA_SPAN("/readyz")))
        reply_ready(s, h);
    else
        reply_health(s, h);
    mesa_server_leave_callback(s);
}

static int on_upgrade(void *ctx, const struct mesa_request *req, struct mesa_upgrade *out)
{
    (void)ctx;
    (void)req;
    (void)out;
    return 404; /* no WebSocket here, so the other callbacks never come */
}

static const struct mesa_listener_hooks admin_hooks = {
    .on_upgrade = on_upgrade,
    .on_http = on_http,
};

enum mesa_status mesa_admin_listen(struct mesa_server *s, char *err, size_t err_len)
{
    const struct mesa_listener_config listener = {
        .host = s->cfg.admin.host != NULL ? s->cfg.admin.host : "127.0.0.1",
        .mode = s->cfg.admin.mode,
        .port = s->cfg.admin.port,
        .handshake_timeout_ms = s->cfg.limits.handshake_timeout_ms,
    };
    return mesa_listener_open(&s->admin, s->transport, &listener, &admin_hooks, s, err, err_len);
}
