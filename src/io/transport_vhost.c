/* transport_vhost.c - libwebsockets' virtual hosts: one for each TLS listener.
 *
 * A vhost lives until the context goes: libwebsockets moves connections between the vhosts of a
 * port when it reads their Host header and loses count of them, so that freeing one early is not
 * safe.
 */
#include <errno.h>
#include <openssl/err.h>
#include <openssl/ssl.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "io/transport_internal.h"

/* The configuration of the vhost being created, for the callback inside, and what went wrong there.
 */
static struct {
    const struct mesa_listener_config *cfg;
    char *err;
    size_t err_len;
    bool failed;
} loading;

static const char *tls_reason(void)
{
    unsigned long code = ERR_peek_last_error();
    const char *text = code != 0 ? ERR_reason_error_string(code) : NULL;
    return text != NULL ? text : "unknown error";
}

static int tls_failed(const char *key, const char *path, const char *why)
{
    loading.failed = true;
    snprintf(loading.err, loading.err_len, "%s: cannot use %s: %s", key, path, why);
    ERR_clear_error();
    return -1;
}

static int load_ca(SSL_CTX *ctx)
{
    const char *ca = loading.cfg->tls_ca;
    if (ca == NULL)
        return 0;
    if (SSL_CTX_load_verify_locations(ctx, ca, NULL) != 1)
        return tls_failed("tls.ca", ca, tls_reason());
    STACK_OF(X509_NAME) *names = SSL_load_client_CA_file(ca);
    if (names == NULL)
        return tls_failed("tls.ca", ca, tls_reason());
    SSL_CTX_set_client_CA_list(ctx, names);
    return 0;
}

int mesa_vhost_load_tls(void *ssl_ctx)
{
    static const unsigned char session_id[] =
        "mesa"; /* or a client with a certificate could not resume */
    SSL_CTX *ctx = ssl_ctx;
    const struct mesa_listener_config *cfg = loading.cfg;

    ERR_clear_error();
    /* each listener has one certificate: no switching to another vhost's by server name */
    SSL_CTX_set_tlsext_servername_callback(ctx, NULL);
    SSL_CTX_set_min_proto_version(ctx, TLS1_2_VERSION);
    SSL_CTX_set_options(ctx, SSL_OP_NO_RENEGOTIATION);
    /* buffers of an idle connection go back; a write that is retried may come from another address
     */
    SSL_CTX_set_mode(ctx, SSL_MODE_RELEASE_BUFFERS | SSL_MODE_ENABLE_PARTIAL_WRITE |
                              SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER);

    SSL_CTX_set_session_id_context(ctx, session_id, sizeof session_id - 1);

    const char *paths[] = {cfg->tls_cert, cfg->tls_key, cfg->tls_ca};
    const char *keys[] = {"tls.cert", "tls.key", "tls.ca"};
    for (int i = 0; i < 3; i++)
        if (paths[i] != NULL && access(paths[i], R_OK) != 0)
            return tls_failed(keys[i], paths[i], strerror(errno));

    if (SSL_CTX_use_certificate_chain_file(ctx, cfg->tls_cert) != 1)
        return tls_failed("tls.cert", cfg->tls_cert, tls_reason());
    if (SSL_CTX_use_PrivateKey_file(ctx, cfg->tls_key, SSL_FILETYPE_PEM) != 1)
        return tls_failed("tls.key", cfg->tls_key, tls_reason());
    if (SSL_CTX_check_private_key(ctx) != 1)
        return tls_failed("tls.key", cfg->tls_key, "it does not belong to tls.cert");
    if (load_ca(ctx) != 0)
        return -1;
    if (cfg->tls_request_cert)
        SSL_CTX_set_verify(ctx, SSL_VERIFY_PEER | SSL_VERIFY_FAIL_IF_NO_PEER_CERT, NULL);
    return 0;
}

void mesa_vhost_free_shared(struct mesa_transport *t)
{
    SSL_CTX_free(t->client_ctx);
    t->client_ctx = NULL;
}

enum mesa_status mesa_vhost_new(struct mesa_transport *t, const struct mesa_listener_config *cfg,
                                struct lws_vhost **out, char *err, size_t err_len)
{
    static const struct lws_protocols protocols[] = {
        {.name = "mesa",
         .callback = mesa_transport_callback,
         .rx_buffer_size = MESA_RX_BUFFER_BYTES,
         .tx_packet_size = 1 << 20},
        {.name = NULL},
    };
    /* all zero: libwebsockets neither pings nor hangs up on its own */
    static const lws_retry_bo_t no_keepalive;
    char name[32];

    if (t->client_ctx == NULL)
        t->client_ctx = SSL_CTX_new(TLS_client_method());
    snprintf(name, sizeof name, "\001mesa %u", t->vhost_count++); /* no Host header names it */
    struct lws_context_creation_info info = {
        .port = CONTEXT_PORT_NO_LISTEN_SERVER,
        .vhost_name = name,
        .protocols = protocols,
        .retry_and_idle_policy = &no_keepalive,
        .alpn = "http/1.1", /* over h2 a WebSocket is a stream inside another connection */
        .options = LWS_SERVER_OPTION_DO_SSL_GLOBAL_INIT | LWS_SERVER_OPTION_CREATE_VHOST_SSL_CTX,
        /* or libwebsockets makes one of its own, and may leak it */
        .provided_client_ssl_ctx = t->client_ctx,
    };
    loading.cfg = cfg;
    loading.err = err;
    loading.err_len = err_len;
    loading.failed = false;
    struct lws_vhost *vhost = lws_create_vhost(t->context, &info);
    loading.cfg = NULL;
    if (loading.failed)
        return MESA_EINVAL;
    if (vhost == NULL) {
        snprintf(err, err_len, "libwebsockets cannot create a virtual host");
        return MESA_EIO;
    }
    *out = vhost;
    return MESA_OK;
}
