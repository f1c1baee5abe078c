/* client_common.c - see client_common.h. */
#include "io/client_common.h"

#include <errno.h>
#include <netdb.h>
#include <openssl/err.h>
#include <openssl/ssl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "io/transport_internal.h"

/* What one read takes. At least a TLS record: with part of one left in OpenSSL, libwebsockets loops for
 * ever on a connection that stops being read in the middle of a buffer. */
enum { RX_BUFFER_BYTES = 16384 };

/* -- lookups ------------------------------------------------------------------------------------ */

struct mesa_lookup {
    uv_getaddrinfo_t req;
    mesa_lookup_fn fn; /* NULL once cancelled */
    void *ctx;
};

static void note_address(struct mesa_addresses *found, const struct addrinfo *a)
{
    char *text = found->text[found->count];
    if (found->count < MESA_ADDRESSES_MAX &&
        getnameinfo(a->ai_addr, a->ai_addrlen, text, sizeof found->text[0], NULL, 0,
                    NI_NUMERICHOST) == 0)
        found->count++;
}

static void on_looked_up(uv_getaddrinfo_t *req, int status, struct addrinfo *list)
{
    struct mesa_lookup *l = req->data;
    struct mesa_addresses found = {.count = 0};
    for (const struct addrinfo *a = status == 0 ? list : NULL; a != NULL; a = a->ai_next)
        note_address(&found, a);
    mesa_lookup_fn fn = l->fn;
    void *ctx = l->ctx;
    uv_freeaddrinfo(list);
    free(l);
    if (fn == NULL)
        return;
    if (found.count > 0)
        fn(ctx, &found, NULL);
    else
        fn(ctx, NULL, uv_strerror(status != 0 ? status : UV_EAI_NODATA));
}

enum mesa_status mesa_lookup_start(struct mesa_lookup **out, struct mesa_loop *loop,
                                   const char *host, mesa_lookup_fn fn, void *ctx)
{
    const struct addrinfo hints = {.ai_family = AF_UNSPEC, .ai_socktype = SOCK_STREAM};
    struct mesa_lookup *l = calloc(1, sizeof *l);
    if (l == NULL)
        return MESA_ENOMEM;
    l->fn = fn;
    l->ctx = ctx;
    l->req.data = l;
    if (uv_getaddrinfo(mesa_loop_uv(loop), &l->req, on_looked_up, host, NULL, &hints) != 0) {
        free(l);
        return MESA_EIO;
    }
    *out = l;
    return MESA_OK;
}

void mesa_lookup_cancel(struct mesa_lookup *l)
{
    if (l == NULL)
        return;
    l->fn = NULL;
    uv_cancel((uv_req_t *)&l->req); /* one that is under way ends by itself */
}

/* -- virtual hosts ------------------------------------------------------------------------------ */

struct client_vhost {
    struct mesa_list link; /* transport->client_vhosts */
    struct lws_vhost *vhost;
    SSL_CTX *ctx;
    bool secure;
    char *ca; /* NULL: the system's authorities */
};

static int on_event(struct lws *wsi, enum lws_callback_reasons reason, void *session, void *in,
                    size_t len)
{
    (void)session;
    switch (reason) {
    case LWS_CALLBACK_PROTOCOL_INIT:
    case LWS_CALLBACK_PROTOCOL_DESTROY:
    case LWS_CALLBACK_OPENSSL_LOAD_EXTRA_CLIENT_VERIFY_CERTS:
    case LWS_CALLBACK_OPENSSL_PERFORM_SERVER_CERT_VERIFICATION: /* OpenSSL's verdict stands */
        return 0;
    default:
        break;
    }
    struct mesa_outconn *o = wsi != NULL ? lws_get_opaque_user_data(wsi) : NULL;
    if (o == NULL)
        return 0;
    bool gone = reason == LWS_CALLBACK_WSI_DESTROY;
    o->wsi = gone ? NULL : wsi;
    if (gone)
        mesa_list_remove(&o->link);
    if (o->callback != NULL)
        return o->callback(o, reason, in, len);
    if (gone)
        free(o);
    return 0;
}

bool mesa_outconn_connect(struct mesa_transport *t, struct lws_client_connect_info *info,
                          struct mesa_outconn *o)
{
    info->context = t->context;
    info->local_protocol_name = "mesa-client";
    info->opaque_user_data = o;
    info->pwsi = &o->wsi;
    mesa_list_append(&t->outgoing, &o->link);
    if (lws_client_connect_via_info(info) != NULL)
        return true;
    o->wsi = NULL; /* freed, or destroyed later */
    return false;
}

void mesa_outconn_release(struct mesa_transport *t, struct mesa_outconn *o)
{
    o->callback = NULL;
    if (o->wsi != NULL) {
        mesa_list_remove(&o->link);
        mesa_list_append(&t->released, &o->link);
        if (!mesa_timer_armed(&t->wake))
            mesa_loop_arm(t->loop, &t->wake, 0);
    } else if (mesa_list_empty(&o->link)) {
        free(o);
    }
    /* else libwebsockets may still tell of its end; if not, the transport frees it */
}

void mesa_outconn_turn(struct mesa_transport *t)
{
    while (!mesa_list_empty(&t->released)) {
        struct mesa_outconn *o = MESA_CONTAINER_OF(t->released.next, struct mesa_outconn, link);
        mesa_list_remove(&o->link);
        mesa_list_append(&t->outgoing, &o->link);
        if (lws_partial_buffered(o->wsi)) /* or libwebsockets would wait for the reader */
            shutdown(lws_get_socket_fd(o->wsi), SHUT_RDWR);
        lws_set_timeout(o->wsi, PENDING_TIMEOUT_USER_REASON_BASE, LWS_TO_KILL_SYNC);
    }
}

static SSL_CTX *new_ssl_ctx(bool secure, const char *ca, char *err, size_t err_len)
{
    ERR_clear_error();
    SSL_CTX *ctx = SSL_CTX_new(TLS_client_method());
    if (ctx == NULL) {
        snprintf(err, err_len, "out of memory");
        return NULL;
    }
    SSL_CTX_set_min_proto_version(ctx, TLS1_2_VERSION);
    SSL_CTX_set_mode(ctx, SSL_MODE_RELEASE_BUFFERS | SSL_MODE_ENABLE_PARTIAL_WRITE |
                              SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER);
    SSL_CTX_set_verify(ctx, SSL_VERIFY_PEER, NULL);
    if (!secure)
        return ctx; /* libwebsockets wants one all the same; reading the authorities takes its time */
    if (ca == NULL) {
        SSL_CTX_set_default_verify_paths(ctx);
        return ctx;
    }
    if (access(ca, R_OK) != 0) {
        snprintf(err, err_len, "ca: cannot use %s: %s", ca, strerror(errno));
    } else if (SSL_CTX_load_verify_locations(ctx, ca, NULL) != 1) {
        unsigned long code = ERR_peek_last_error();
        const char *text = code != 0 ? ERR_reason_error_string(code) : NULL;
        snprintf(err, err_len, "ca: cannot use %s: %s", ca, text != NULL ? text : "unknown error");
    } else {
        return ctx;
    }
    ERR_clear_error();
    SSL_CTX_free(ctx);
    return NULL;
}

static struct lws_vhost *create_vhost(struct mesa_transport *t, SSL_CTX *ctx)
{
    static const struct lws_protocols protocols[] = {
        {.name = "mesa-client",
         .callback = on_event,
         .rx_buffer_size = RX_BUFFER_BYTES,
         .tx_packet_size = 1 << 20},
        {.name = NULL},
    };
    /* all zero: libwebsockets neither pings nor hangs up on its own */
    static const lws_retry_bo_t no_keepalive;
    char name[32];
    snprintf(name, sizeof name, "\001mesa %u", t->vhost_count++); /* no Host header names it */
    struct lws_context_creation_info info = {
        .port = CONTEXT_PORT_NO_LISTEN,
        .vhost_name = name,
        .protocols = protocols,
        .retry_and_idle_policy = &no_keepalive,
        .alpn = "http/1.1",
        .options = LWS_SERVER_OPTION_DO_SSL_GLOBAL_INIT,
        .provided_client_ssl_ctx = ctx,
        .http_proxy_address = "",     /* or the environment decides */
        .connect_timeout_secs = 3600, /* the owners' own timeouts act before */
    };
    return lws_create_vhost(t->context, &info);
}

static bool same(const char *a, const char *b)
{
    return a == b || (a != NULL && b != NULL && strcmp(a, b) == 0);
}

enum mesa_status mesa_client_vhost(struct mesa_transport *t, bool secure, const char *ca,
                                   struct lws_vhost **out, char *err, size_t err_len)
{
    MESA_LIST_FOREACH(it, &t->client_vhosts) {
        struct client_vhost *v = MESA_CONTAINER_OF(it, struct client_vhost, link);
        if (v->secure == secure && same(v->ca, ca)) {
            *out = v->vhost;
            return MESA_OK;
        }
    }
    if (!mesa_client_context(t)) {
        snprintf(err, err_len, "libwebsockets cannot start");
        return MESA_EIO;
    }
    enum mesa_status rc = MESA_ENOMEM;
    snprintf(err, err_len, "out of memory");
    struct client_vhost *v = calloc(1, sizeof *v);
    if (v == NULL)
        return rc;
    if (ca != NULL && (v->ca = strdup(ca)) == NULL)
        goto fail;
    v->secure = secure;
    v->ctx = new_ssl_ctx(secure, ca, err, err_len);
    rc = MESA_EINVAL;
    if (v->ctx == NULL)
        goto fail;
    v->vhost = create_vhost(t, v->ctx);
    rc = MESA_EIO;
    if (v->vhost == NULL) {
        snprintf(err, err_len, "libwebsockets cannot create a virtual host");
        goto fail;
    }
    mesa_list_append(&t->client_vhosts, &v->link);
    *out = v->vhost;
    return MESA_OK;

fail:
    SSL_CTX_free(v->ctx);
    free(v->ca);
    free(v);
    return rc;
}

void mesa_client_free_shared(struct mesa_transport *t)
{
    mesa_list_splice(&t->outgoing, &t->released);
    while (!mesa_list_empty(&t->outgoing)) {
        struct mesa_outconn *o = MESA_CONTAINER_OF(t->outgoing.next, struct mesa_outconn, link);
        mesa_list_remove(&o->link);
        free(o);
    }
    while (!mesa_list_empty(&t->client_vhosts)) {
        struct client_vhost *v =
            MESA_CONTAINER_OF(t->client_vhosts.next, struct client_vhost, link);
        mesa_list_remove(&v->link);
        SSL_CTX_free(v->ctx);
        free(v->ca);
        free(v);
    }
}

struct mesa_loop *mesa_client_loop(struct mesa_transport *t)
{
    return t->loop;
}
