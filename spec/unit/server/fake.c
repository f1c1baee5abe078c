/* fake.c - see fake.h. */
#include "fake_internal.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "test.h"

struct mesa_loop {
    struct mesa_wheel *wheel;
    struct mesa_list turns;
    uint64_t now_ms;
};

struct mesa_http {
    char path[256];
    bool answered;
};

static struct mesa_loop *loop;
static struct mesa_transport *transport;
int fake_last_status;
static char last_body[8192];
static char last_headers[1024];
static const char *file_path;
static bool fail_listen;

/* -- loop -- */

struct mesa_loop *fake_loop(void)
{
    if (loop == NULL) {
        loop = calloc(1, sizeof *loop);
        loop->now_ms = 1000;
        mesa_wheel_new(&loop->wheel, loop->now_ms);
        mesa_list_init(&loop->turns);
    }
    return loop;
}

/* Asked for by connections to Redis only, which no test here makes. */
uv_loop_t *mesa_loop_uv(struct mesa_loop *l)
{
    (void)l;
    return NULL;
}

uint64_t mesa_loop_now(const struct mesa_loop *l)
{
    return l->now_ms;
}

void mesa_loop_arm(struct mesa_loop *l, struct mesa_timer *t, uint64_t delay_ms)
{
    mesa_wheel_arm(l->wheel, t, l->now_ms + delay_ms);
}

void mesa_loop_cancel(struct mesa_loop *l, struct mesa_timer *t)
{
    mesa_wheel_cancel(l->wheel, t);
}

void mesa_loop_add_turn(struct mesa_loop *l, struct mesa_turn *t)
{
    mesa_list_append(&l->turns, &t->link);
}

void mesa_loop_remove_turn(struct mesa_turn *t)
{
    mesa_list_remove(&t->link);
}

static void run_turns(void)
{
    struct mesa_list due;
    mesa_list_init(&due);
    mesa_list_splice(&due, &loop->turns);
    while (!mesa_list_empty(&due)) {
        struct mesa_turn *t = MESA_CONTAINER_OF(due.next, struct mesa_turn, link);
        mesa_list_remove(&t->link);
        mesa_list_append(&loop->turns, &t->link);
        t->fn(t);
    }
}

static struct mesa_conn *conn_of(struct mesa_list *link)
{
    return MESA_CONTAINER_OF(link, struct mesa_conn, link);
}

static void tell_close(struct mesa_conn *c, int code, const char *reason, bool by_peer)
{
    c->gone = true;
    c->listener->hooks.on_close(c->user, code, reason, strlen(reason), by_peer);
}

void fake_turn(void)
{
    run_turns();
    MESA_LIST_FOREACH_SAFE(it, tmp, &fake_transport()->conns) {
        struct mesa_conn *c = conn_of(it);
        if (!c->gone && c->close_code != 0)
            tell_close(c, c->close_code, c->close_reason, false);
    }
    run_turns();
}

void fake_advance(uint64_t ms)
{
    fake_turn();
    while (ms-- > 0) {
        loop->now_ms++;
        mesa_wheel_advance(loop->wheel, loop->now_ms);
        fake_turn();
    }
}

void fake_end(void)
{
    uint64_t due_ms;
    CHECK(!mesa_wheel_next(loop->wheel, &due_ms));
    CHECK(mesa_list_empty(&loop->turns));
    CHECK(transport == NULL || mesa_list_empty(&transport->listeners));
    MESA_LIST_FOREACH_SAFE(it, tmp, &fake_transport()->conns) {
        struct mesa_conn *c = conn_of(it);
        CHECK(c->gone);
        mesa_buf_deinit(&c->received);
        mesa_deflate_free(c->deflate);
        free(c->text);
        free(c);
    }
    mesa_deflate_streams_free(transport->deflate);
    mesa_wheel_free(loop->wheel);
    free(loop);
    free(transport);
    loop = NULL;
    transport = NULL;
    file_path = NULL;
    fail_listen = false;
}

/* -- transport: listening -- */

struct mesa_transport *fake_transport(void)
{
    if (transport == NULL) {
        transport = calloc(1, sizeof *transport);
        mesa_list_init(&transport->conns);
        mesa_list_init(&transport->listeners);
    }
    return transport;
}

enum mesa_status mesa_listener_open(struct mesa_listener **out, struct mesa_transport *t,
                                    const struct mesa_listener_config *cfg,
                                    const struct mesa_listener_hooks *hooks, void *ctx, char *err,
                                    size_t err_len)
{
    if (fail_listen) {
        fail_listen = false;
        snprintf(err, err_len, "port %u is in use", cfg->port);
        return MESA_EINUSE;
    }
    struct mesa_listener *l = calloc(1, sizeof *l);
    l->hooks = *hooks;
    l->ctx = ctx;
    mesa_list_append(&t->listeners, &l->link);
    *out = l;
    return MESA_OK;
}

enum mesa_status mesa_listener_reload_tls(struct mesa_listener *l, bool *changed, char *err,
                                          size_t err_len)
{
    (void)l;
    (void)err;
    (void)err_len;
    *changed = false;
    return MESA_OK;
}

enum mesa_status mesa_transport_check_tls(const struct mesa_config_tls *tls, char *err,
                                          size_t err_len)
{
    (void)tls;
    (void)err;
    (void)err_len;
    return MESA_OK;
}

uint16_t mesa_listener_port(const struct mesa_listener *l)
{
    (void)l;
    return 4321;
}

void mesa_listener_stop(struct mesa_listener *l)
{
    l->stopped = true;
}

void mesa_listener_free(struct mesa_listener *l)
{
    if (l == NULL)
        return;
    MESA_LIST_FOREACH_SAFE(it, tmp, &transport->conns) {
        struct mesa_conn *c = conn_of(it);
        if (!c->gone && c->listener == l)
            tell_close(c, 1006, "", false);
    }
    mesa_list_remove(&l->link);
    free(l);
}

/* Listeners open in order: the server's, then its admin's. */
struct mesa_listener *fake_listener(bool admin)
{
    struct mesa_list *first = transport->listeners.next;
    return MESA_CONTAINER_OF(admin ? first->next : first, struct mesa_listener, link);
}

void fake_fail_listen(void)
{
    fail_listen = true;
}

bool fake_listening(void)
{
    return !mesa_list_empty(&fake_transport()->listeners) && !fake_listener(false)->stopped;
}

/* -- transport: connections -- */

struct mesa_deflate *mesa_conn_deflate(const struct mesa_conn *c)
{
    return c->deflate;
}

enum mesa_status mesa_conn_ready(struct mesa_conn *c)
{
    return c->gone || c->close_code != 0 ? MESA_ECLOSED : c->stalled ? MESA_EAGAIN : MESA_OK;
}

enum mesa_status mesa_conn_write(struct mesa_conn *c, const void *bytes, size_t len)
{
    enum mesa_status rc = mesa_conn_ready(c);
    if (rc != MESA_OK)
        return rc;
    c->writes++;
    c->last_bytes = bytes;
    mesa_buf_append(&c->received, bytes, len);
    return MESA_OK;
}

void mesa_conn_close(struct mesa_conn *c, int code, const char *reason, size_t len, bool drop)
{
    CHECK(!c->gone);
    if (c->close_code != 0)
        return;
    c->close_code = code;
    c->close_drop = drop;
    snprintf(c->close_reason, sizeof c->close_reason, "%.*s", (int)len, len > 0 ? reason : "");
}

bool mesa_conn_is_read(struct mesa_conn *c)
{
    bool read = c->slow;
    c->slow = false;
    return read;
}

void fake_read_some(struct mesa_conn *c)
{
    c->slow = true;
}

void mesa_conn_pause(struct mesa_conn *c)
{
    CHECK(!c->gone && !c->paused);
    c->paused = true;
}

void mesa_conn_resume(struct mesa_conn *c)
{
    CHECK(!c->gone && c->paused);
    c->paused = false;
}

void fake_receive(struct mesa_conn *c, const char *text)
{
    if (c->gone || c->close_code != 0)
        return;
    char *copy = strdup(text); /* so that a span kept too long is seen by the sanitizer */
    c->listener->hooks.on_message(c->user, copy, strlen(copy), false);
    free(copy);
}

void fake_pong(struct mesa_conn *c)
{
    c->listener->hooks.on_pong(c->user);
}

void fake_leave(struct mesa_conn *c, int code)
{
    tell_close(c, code, "", true);
}

void fake_protocol_error(struct mesa_conn *c, int code)
{
    c->listener->hooks.on_protocol_error(c->user, code, "PAYLOAD", "broken frame");
    c->close_code = code;
}

void fake_stall(struct mesa_conn *c)
{
    c->stalled = true;
}

void fake_drain(struct mesa_conn *c)
{
    c->stalled = false;
    c->listener->hooks.on_drained(c->user);
}

const char *fake_next(struct mesa_conn *c)
{
    const unsigned char *p = (const unsigned char *)c->received.data + c->read;
    if (c->read == c->received.len)
        return "";
    unsigned opcode = p[0] & 15;
    size_t header = 2, len = p[1];
    if (len == 126) {
        len = (size_t)p[2] << 8 | p[3];
        header = 4;
    } else if (len == 127) {
        len = 0;
        for (int i = 2; i < 10; i++)
            len = len << 8 | p[i];
        header = 10;
    }
    c->read += header + len;
    if (!CHECK(c->read <= c->received.len))
        return "";
    free(c->text);
    c->text = strndup((const char *)p + header, len);
    return opcode == MESA_WS_PING ? "ping" : c->text;
}

void fake_skip(struct mesa_conn *c)
{
    c->read = c->received.len;
}

size_t fake_received_bytes(const struct mesa_conn *c)
{
    return c->received.len;
}

unsigned fake_writes(const struct mesa_conn *c)
{
    return c->writes;
}

bool fake_paused(const struct mesa_conn *c)
{
    return c->paused;
}

int fake_close_code(const struct mesa_conn *c)
{
    return c->close_code;
}

const char *fake_close_reason(const struct mesa_conn *c)
{
    return c->close_reason;
}

bool fake_close_drop(const struct mesa_conn *c)
{
    return c->close_drop;
}

bool fake_gone(const struct mesa_conn *c)
{
    return c->gone;
}

bool fake_same_memory(const struct mesa_conn *a, const struct mesa_conn *b)
{
    return a->last_bytes == b->last_bytes;
}

/* -- transport: HTTP -- */

void mesa_http_reply(struct mesa_http *h, int status, const struct mesa_header *headers,
                     size_t header_count, const void *body, size_t len)
{
    CHECK(!h->answered);
    h->answered = true;
    fake_last_status = status;
    last_headers[0] = '\0';
    for (size_t i = 0; i < header_count; i++) {
        size_t at = strlen(last_headers);
        snprintf(last_headers + at, sizeof last_headers - at, "%.*s: %.*s\n",
                 (int)headers[i].name.len, headers[i].name.p, (int)headers[i].value.len,
                 headers[i].value.p);
    }
    snprintf(last_body, sizeof last_body, "%.*s", (int)len, len > 0 ? (const char *)body : "");
}

enum mesa_status mesa_http_file(struct mesa_http *h, const char *root)
{
    (void)root;
    if (file_path == NULL || strcmp(file_path, h->path) != 0)
        return MESA_ENOTFOUND;
    mesa_http_reply(h, 200, NULL, 0, "file", 4);
    return MESA_OK;
}

void fake_set_file(const char *path)
{
    file_path = path;
}

void fake_request(const char *method, const char *path, bool admin, const char *origin)
{
    struct mesa_listener *l = fake_listener(admin);
    struct mesa_header header = {fake_span("origin"), fake_span(origin)};
    struct mesa_request req = {
        .method = fake_span(method),
        .path = fake_span(path),
        .query = fake_span(""),
        .ip = fake_span("192.0.2.1"),
        .headers = &header,
        .header_count = origin != NULL,
    };
    struct mesa_http h = {.answered = false};
    snprintf(h.path, sizeof h.path, "%s", path);
    fake_last_status = 0;
    l->hooks.on_http(l->ctx, &h, &req, (struct mesa_span){NULL, 0});
    CHECK(h.answered);
}

int fake_status(void)
{
    return fake_last_status;
}

const char *fake_body(void)
{
    return last_body;
}

const char *fake_header(const char *name)
{
    static char value[128];
    const char *at = strstr(last_headers, name);
    if (at == NULL)
        return NULL;
    sscanf(at + strlen(name) + 2, "%127[^\n]", value);
    return value;
}
