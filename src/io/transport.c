/* transport.c - the libwebsockets context on our loop, and what happens at the end of a turn. */
#include "io/transport.h"

#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>

#include "base/log.h"
#include "io/client_common.h"
#include "io/transport_internal.h"

/* How far libwebsockets' teardown may be behind: it closes handles in three rounds of the loop. */
enum { TEARDOWN_TURNS = 1000 };

static void log_line(int level, const char *line)
{
    (void)level;
    /* most of what it reports as an error is a client's mistake; what matters is logged where it is
     * known */
    size_t len = strlen(line);
    while (len > 0 && line[len - 1] == '\n')
        len--;
    mesa_log(MESA_LOG_DEBUG, "lws", "%.*s", (int)len, line);
}

static void work_off(struct mesa_transport *t)
{
    while (!mesa_list_empty(&t->work)) {
        struct mesa_conn *c = MESA_CONTAINER_OF(t->work.next, struct mesa_conn, work);
        mesa_list_remove(&c->work);
        mesa_conn_turn(c);
    }
    mesa_outconn_turn(t);
    if (mesa_timer_armed(&t->wake))
        mesa_loop_cancel(t->loop, &t->wake);
}

static void on_turn(struct mesa_turn *turn)
{
    work_off(MESA_CONTAINER_OF(turn, struct mesa_transport, turn));
}

static void on_wake(struct mesa_timer *timer)
{
    work_off(MESA_CONTAINER_OF(timer, struct mesa_transport, wake));
}

struct known_handles {
    struct mesa_buf before;
    struct mesa_transport *transport; /* NULL while counting what was there before */
};

static bool contains(const struct mesa_buf *b, const uv_handle_t *h)
{
    for (size_t i = 0; i < b->len; i += sizeof h)
        if (memcmp(b->data + i, &h, sizeof h) == 0)
            return true;
    return false;
}

static void note_handle(uv_handle_t *h, void *ctx)
{
    struct known_handles *known = ctx;
    if (known->transport == NULL) {
        (void)mesa_buf_append(&known->before, &h, sizeof h);
    } else if (!contains(&known->before, h)) {
        uv_unref(h);
        (void)mesa_buf_append(&known->transport->handles, &h, sizeof h);
    }
}

/* Descriptors above this are of no use, and libwebsockets allocates tables for all that the limit
 * allows. */
static void bound_descriptors(void)
{
    const rlim_t enough = 1 << 20;
    struct rlimit limit;
    if (getrlimit(RLIMIT_NOFILE, &limit) == 0 &&
        (limit.rlim_cur == RLIM_INFINITY || limit.rlim_cur > enough)) {
        limit.rlim_cur = enough;
        setrlimit(RLIMIT_NOFILE, &limit);
    }
}

static struct lws_context *create_context(struct mesa_transport *t)
{
    void *loops[1] = {mesa_loop_uv(t->loop)};
    struct lws_context_creation_info info = {
        .port = CONTEXT_PORT_NO_LISTEN_SERVER,
        .options = LWS_SERVER_OPTION_LIBUV | LWS_SERVER_OPTION_EXPLICIT_VHOSTS |
                   LWS_SERVER_OPTION_DO_SSL_GLOBAL_INIT |
                   LWS_SERVER_OPTION_SKIP_SERVER_CANONICAL_NAME |
                   LWS_SERVER_OPTION_DISABLE_OS_CA_CERTS,
        .foreign_loops = loops,
        .pcontext = &t->context,
        .user = t,
        .pt_serv_buf_size = 65536,
        .max_http_header_data = MESA_PARSED_HEADER_BYTES,
        .timeout_secs = 3600, /* the listener's own timeouts act before */
    };
    return lws_create_context(&info);
}

enum mesa_status mesa_transport_new(struct mesa_transport **out, struct mesa_loop *loop)
{
    enum mesa_status rc = MESA_EIO;
    struct mesa_transport *t = calloc(1, sizeof *t);
    if (t == NULL)
        return MESA_ENOMEM;
    t->loop = loop;
    mesa_list_init(&t->listeners);
    mesa_list_init(&t->orphans);
    mesa_list_init(&t->work);
    mesa_list_init(&t->lingering);
    mesa_list_init(&t->client_vhosts);
    mesa_list_init(&t->outgoing);
    mesa_list_init(&t->released);
    mesa_list_init(&t->turn.link);
    t->turn.fn = on_turn;
    mesa_timer_init(&t->wake, on_wake);

    lws_set_log_level(LLL_ERR | LLL_WARN, log_line);
    mesa_rx_memory_install();
    bound_descriptors();
    struct known_handles known = {.transport = NULL};
    uv_walk(mesa_loop_uv(loop), note_handle, &known);
    t->context = create_context(t);
    if (t->context == NULL) {
        mesa_log(MESA_LOG_ERROR, "io",
                 "libwebsockets cannot start on libuv: is its libuv plugin installed?");
        goto fail;
    }
    rc = mesa_poller_open(t);
    if (rc != MESA_OK) {
        mesa_log(MESA_LOG_ERROR, "io", "no epoll set can be had");
        goto fail;
    }
    /* only listeners and connections are to keep the loop alive */
    known.transport = t;
    uv_walk(mesa_loop_uv(loop), note_handle, &known);
    mesa_buf_deinit(&known.before);

    mesa_loop_add_turn(loop, &t->turn);
    *out = t;
    return MESA_OK;

fail:
    mesa_buf_deinit(&known.before);
    mesa_transport_free(t);
    return rc;
}

struct search {
    const struct mesa_buf *handles;
    bool found;
};

static void look_for_handle(uv_handle_t *h, void *ctx)
{
    struct search *s = ctx;
    if (contains(s->handles, h))
        s->found = true;
}

/* libwebsockets closes its uv handles asynchronously and frees the context only when told once more
 * after that. */
static void destroy_context(struct mesa_transport *t)
{
    if (t->context == NULL)
        return;
    lws_context_destroy(t->context);
    uv_loop_t *uv = mesa_loop_uv(t->loop);
    for (int i = 0; i < TEARDOWN_TURNS && t->context != NULL; i++) {
        uv_run(uv, UV_RUN_NOWAIT);
        struct search s = {.handles = &t->handles, .found = false};
        uv_walk(uv, look_for_handle, &s);
        if (!s.found && t->context != NULL)
            lws_context_destroy(t->context);
    }
}

void mesa_transport_free(struct mesa_transport *t)
{
    if (t == NULL)
        return;
    while (!mesa_list_empty(&t->listeners))
        mesa_listener_free(MESA_CONTAINER_OF(t->listeners.next, struct mesa_listener, link));
    MESA_LIST_FOREACH_SAFE(it, next, &t->orphans) {
        struct mesa_conn *c = MESA_CONTAINER_OF(it, struct mesa_conn, link);
        if (c->fd >= 0) /* libwebsockets ends its own */
            mesa_plain_end(c);
    }
    mesa_poller_close(t);
    mesa_linger_end_all(t);
    mesa_loop_remove_turn(&t->turn);
    destroy_context(t);
    mesa_linger_end_all(t);
    mesa_loop_cancel(t->loop, &t->wake);
    mesa_vhost_free_shared(t);
    mesa_client_free_shared(t);
    mesa_capture_deinit(&t->upgrade);
    mesa_buf_deinit(&t->spare);
    mesa_buf_deinit(&t->handles);
    free(t);
}

const char *mesa_transport_library_version(void)
{
    static char version[32];
    /* the library says "4.1.6-" and a build name */
    const char *full = lws_get_library_version();
    size_t n = strcspn(full, "- ");
    if (n >= sizeof version)
        n = sizeof version - 1;
    memcpy(version, full, n);
    version[n] = '\0';
    return version;
}
