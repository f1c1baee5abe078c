/* client_context.c - libwebsockets on our loop, for outgoing connections alone.
 *
 * It is made when the first one is: a server without them does without the library's tables. Loop
 * thread only.
 */
#include <libwebsockets.h>
#include <string.h>
#include <sys/resource.h>

#include "base/log.h"
#include "io/outconn.h"
#include "io/transport_internal.h"

enum {
    TEARDOWN_TURNS =
        1000, /* how far its teardown may be behind: it closes handles in three rounds */
};

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
                   LWS_SERVER_OPTION_SKIP_SERVER_CANONICAL_NAME,
        .foreign_loops = loops,
        .pcontext = &t->context,
        .user = t,
        .pt_serv_buf_size = 65536,
        .timeout_secs = 3600, /* the owners' own timeouts act before */
    };
    return lws_create_context(&info);
}

bool mesa_client_context(struct mesa_transport *t)
{
    if (t->context != NULL)
        return true;
    struct known_handles known = {.transport = NULL};
    lws_set_log_level(LLL_ERR | LLL_WARN, log_line);
    bound_descriptors();
    uv_walk(mesa_loop_uv(t->loop), note_handle, &known);
    t->context = create_context(t);
    if (t->context == NULL)
        mesa_log(MESA_LOG_ERROR, "io",
                 "libwebsockets cannot start on libuv: is its libuv plugin installed?");
    /* only connections are to keep the loop alive */
    known.transport = t;
    uv_walk(mesa_loop_uv(t->loop), note_handle, &known);
    mesa_buf_deinit(&known.before);
    return t->context != NULL;
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
void mesa_client_context_free(struct mesa_transport *t)
{
    if (t->context != NULL)
        lws_context_destroy(t->context);
    uv_loop_t *uv = mesa_loop_uv(t->loop);
    for (int i = 0; i < TEARDOWN_TURNS && t->context != NULL; i++) {
        uv_run(uv, UV_RUN_NOWAIT);
        struct search s = {.handles = &t->handles, .found = false};
        uv_walk(uv, look_for_handle, &s);
        if (!s.found && t->context != NULL)
            lws_context_destroy(t->context);
    }
    mesa_buf_deinit(&t->handles);
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
