/* app.c - see app.h. */
#include "app.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

struct app app;

struct mesa_span app_span(const char *text)
{
    return (struct mesa_span){text, strlen(text)};
}

__attribute__((format(printf, 1, 2))) static void note(const char *fmt, ...)
{
    size_t at = strlen(app.log);
    va_list args;
    va_start(args, fmt);
    vsnprintf(app.log + at, sizeof app.log - at, fmt, args);
    va_end(args);
}

const char *app_log(void)
{
    static char text[sizeof app.log];
    memcpy(text, app.log, sizeof text);
    app.log[0] = '\0';
    return text;
}

static bool decides_upgrades(void *ctx)
{
    (void)ctx;
    return app.decides;
}

static void on_upgrade(void *ctx, struct mesa_server_upgrade *u, const struct mesa_request *req)
{
    (void)ctx;
    note("upgrade %.*s\n", (int)req->path.len, req->path.p);
    app.upgrade = u;
}

static void on_connection(void *ctx, struct mesa_client *c)
{
    (void)ctx;
    mesa_client_unref(app.last);
    app.last = mesa_client_ref(c);
    if (app.authenticates)
        mesa_client_set_authenticator(c, true);
    if (app.on_connection != NULL)
        app.on_connection(c);
}

static void on_message(void *ctx, struct mesa_client *c, const struct mesa_envelope *e,
                       struct mesa_span text)
{
    (void)ctx;
    (void)text;
    note("message %lld %.*s\n", (long long)e->op, (int)e->d.len, e->d.p != NULL ? e->d.p : "");
    if (app.on_message != NULL)
        app.on_message(c, e->d);
}

static void on_raw_message(void *ctx, struct mesa_client *c, struct mesa_span bytes, bool binary)
{
    (void)ctx;
    note("raw %s %.*s\n", binary ? "binary" : "text", (int)bytes.len, bytes.p);
    if (app.on_message != NULL)
        app.on_message(c, bytes);
}

static void on_authenticate(void *ctx, struct mesa_client *c, uint32_t check, struct mesa_span d)
{
    (void)ctx;
    (void)c;
    app.check = check;
    note("check %.*s\n", (int)d.len, d.p != NULL ? d.p : "");
}

static void on_authenticated(void *ctx, struct mesa_client *c)
{
    (void)ctx;
    note("authenticated %.*s\n", (int)mesa_client_id(c).len, mesa_client_id(c).p);
    if (app.on_authenticated != NULL)
        app.on_authenticated(c);
}

static void on_disconnect(void *ctx, struct mesa_client *c, int code, struct mesa_span reason)
{
    (void)ctx;
    CHECK(mesa_client_closed(c));
    note("disconnect %d %.*s\n", code, (int)reason.len, reason.len > 0 ? reason.p : "");
    if (app.on_disconnect != NULL)
        app.on_disconnect(c);
}

static void on_error(void *ctx, struct mesa_client *c, const char *code, const char *text)
{
    (void)ctx;
    CHECK(text != NULL && text[0] != '\0');
    note("error %s\n", code);
    snprintf(app.error_text, sizeof app.error_text, "%s", text);
    if (app.on_error != NULL)
        app.on_error(c);
}

static void on_drain(void *ctx, struct mesa_client *c)
{
    (void)ctx;
    /* a hook may have sent something to everybody in this turn */
    CHECK(mesa_client_buffered(c) <=
          mesa_server_config(mesa_client_server(c))->limits.max_backpressure / 2);
    note("drain\n");
}

static void on_undeliverable(void *ctx, struct mesa_span json, const struct mesa_span *ids,
                             size_t id_count)
{
    (void)ctx;
    (void)json;
    for (size_t i = 0; i < id_count; i++)
        note("kept for %.*s\n", (int)ids[i].len, ids[i].p);
}

static void on_redeliver(void *ctx, struct mesa_client *c, const struct mesa_backlog *backlog)
{
    (void)ctx;
    (void)c;
    note("redeliver %zu\n", backlog->count);
}

static void on_undeliverable_dropped(void *ctx, struct mesa_span id, struct mesa_span json)
{
    (void)ctx;
    note("dropped for %.*s %.*s\n", (int)id.len, id.p, (int)json.len, json.p);
}

static bool on_http(void *ctx, struct mesa_http *h, const struct mesa_request *req,
                    struct mesa_span body)
{
    (void)ctx;
    (void)body;
    note("http %.*s %.*s\n", (int)req->method.len, req->method.p, (int)req->path.len, req->path.p);
    if (app.http_answers)
        mesa_http_reply(h, 299, NULL, 0, "app", 3);
    return app.http_answers;
}

static bool on_reload(void *ctx, struct mesa_buf *report)
{
    (void)ctx;
    note("reload\n");
    mesa_buf_append(report, "reloaded\n", 9);
    return !app.reload_fails;
}

static void on_closed(void *ctx)
{
    (void)ctx;
    note("closed\n");
    if (app.on_closed != NULL)
        app.on_closed();
}

static const struct mesa_server_hooks hooks = {
    .decides_upgrades = decides_upgrades,
    .on_upgrade = on_upgrade,
    .on_connection = on_connection,
    .on_message = on_message,
    .on_raw_message = on_raw_message,
    .on_authenticate = on_authenticate,
    .on_authenticated = on_authenticated,
    .on_disconnect = on_disconnect,
    .on_error = on_error,
    .on_drain = on_drain,
    .on_undeliverable = on_undeliverable,
    .on_redeliver = on_redeliver,
    .on_undeliverable_dropped = on_undeliverable_dropped,
    .on_http = on_http,
    .on_reload = on_reload,
    .on_closed = on_closed,
};

void app_begin(void)
{
    memset(&app, 0, sizeof app);
    mesa_config_init(&app.cfg);
}

void app_start(void)
{
    char err[128] = "";
    const char *why = NULL;
    CHECK_EQ_INT(mesa_config_check(&app.cfg, &why), MESA_OK);
    CHECK_EQ_INT(mesa_server_new(&app.server, fake_loop(), fake_transport(), &app.cfg, &hooks, NULL,
                                 err, sizeof err),
                 MESA_OK);
    CHECK_EQ_INT(mesa_server_listen(app.server, err, sizeof err), MESA_OK);
}

void app_end(void)
{
    mesa_server_free(app.server);
    mesa_client_unref(app.last);
    mesa_config_deinit(&app.cfg);
    fake_end();
}

struct mesa_conn *app_connect(void)
{
    struct mesa_conn *c = fake_connect();
    fake_turn();
    return c;
}

struct mesa_conn *app_login(const char *id)
{
    struct mesa_conn *c = fake_connect();
    mesa_client_set_authenticator(app.last, true);
    fake_receive(c, "{\"op\":2,\"d\":{}}");
    CHECK_EQ_INT(mesa_client_accept(app.last, app.check, app_span(id), MESA_SPAN("{}")), MESA_OK);
    fake_turn();
    fake_next(c);
    fake_next(c);
    return c;
}

struct mesa_frame *app_frame(const char *d)
{
    struct mesa_frame *f = NULL;
    const struct mesa_outgoing m = {.op = 0, .d = app_span(d)};
    CHECK_EQ_INT(mesa_envelope_frame(&f, &m), MESA_OK);
    return f;
}

enum mesa_status app_send(struct mesa_client *c, const char *d)
{
    struct mesa_frame *f = app_frame(d);
    enum mesa_status rc = mesa_client_send(c, f);
    mesa_frame_unref(f);
    return rc;
}

enum mesa_status app_broadcast(const char *d)
{
    struct mesa_frame *f = app_frame(d);
    enum mesa_status rc =
        mesa_server_send(app.server, f, &(struct mesa_recipients){.ids = NULL}, true, NULL, NULL);
    mesa_frame_unref(f);
    return rc;
}

enum mesa_status app_send_to(const char *id, const char *d)
{
    struct mesa_frame *f = app_frame(d);
    const struct mesa_span ids[] = {app_span(id)};
    enum mesa_status rc = mesa_server_send(
        app.server, f, &(struct mesa_recipients){.ids = ids, .id_count = 1}, true, NULL, NULL);
    mesa_frame_unref(f);
    return rc;
}
