/* redis_conn_tls.c - TLS to Redis, where the hiredis at hand has it. */
#include "broker/redis_conn_tls.h"

#include <stdio.h>

#ifdef MESA_HAVE_HIREDIS_SSL

#include <arpa/inet.h>
#include <hiredis/hiredis_ssl.h>
#include <openssl/err.h>
#include <openssl/ssl.h>
#include <openssl/x509v3.h>
#include <stdlib.h>

struct mesa_redis_tls {
    SSL_CTX *ctx;
};

static bool load_files(SSL_CTX *ctx, const struct mesa_redis_options *o, const char **file)
{
    *file = o->tls_ca != NULL ? o->tls_ca : "the system's certificates";
    int ok = o->tls_ca != NULL ? SSL_CTX_load_verify_locations(ctx, o->tls_ca, NULL)
                               : SSL_CTX_set_default_verify_paths(ctx);
    if (ok == 1 && o->tls_cert != NULL) {
        *file = o->tls_cert;
        ok = SSL_CTX_use_certificate_chain_file(ctx, o->tls_cert);
    }
    if (ok == 1 && o->tls_key != NULL) {
        *file = o->tls_key;
        ok = SSL_CTX_use_PrivateKey_file(ctx, o->tls_key, SSL_FILETYPE_PEM);
    }
    return ok == 1;
}

enum mesa_status mesa_redis_tls_new(struct mesa_redis_tls **out,
                                    const struct mesa_redis_options *options, char *err,
                                    size_t err_len)
{
    const char *file;
    struct mesa_redis_tls *t = calloc(1, sizeof *t);
    if (t != NULL)
        t->ctx = SSL_CTX_new(TLS_client_method());
    if (t == NULL || t->ctx == NULL) {
        free(t);
        return MESA_ENOMEM;
    }
    SSL_CTX_set_min_proto_version(t->ctx, TLS1_2_VERSION);
    SSL_CTX_set_verify(t->ctx, SSL_VERIFY_PEER, NULL);
    ERR_clear_error();
    if (!load_files(t->ctx, options, &file)) {
        const char *reason = ERR_reason_error_string(ERR_peek_last_error());
        snprintf(err, err_len, "redis tls: cannot use %s: %s", file,
                 reason != NULL ? reason : "unknown reason");
        mesa_redis_tls_free(t);
        return MESA_EINVAL;
    }
    *out = t;
    return MESA_OK;
}

void mesa_redis_tls_free(struct mesa_redis_tls *t)
{
    if (t == NULL)
        return;
    SSL_CTX_free(t->ctx);
    free(t);
}

static bool expect_host(SSL *ssl, const char *host)
{
    unsigned char ip[sizeof(struct in6_addr)];
    if (inet_pton(AF_INET, host, ip) == 1 || inet_pton(AF_INET6, host, ip) == 1)
        return X509_VERIFY_PARAM_set1_ip_asc(SSL_get0_param(ssl), host) == 1;
    return SSL_set1_host(ssl, host) == 1 && SSL_set_tlsext_host_name(ssl, host) == 1;
}

struct ssl_st *mesa_redis_tls_start(struct mesa_redis_tls *t, redisContext *context,
                                    const char *host, char *err, size_t err_len)
{
    SSL *ssl = SSL_new(t->ctx);
    if (ssl != NULL && expect_host(ssl, host) && redisInitiateSSL(context, ssl) == REDIS_OK)
        return ssl;
    const char *problem = ssl != NULL ? mesa_redis_tls_problem(ssl) : NULL;
    if (problem == NULL)
        problem = context->err != 0 ? context->errstr : "cannot be started";
    snprintf(err, err_len, "TLS: %s", problem);
    SSL_free(ssl);
    return NULL;
}

bool mesa_redis_tls_wants_input(const struct ssl_st *ssl)
{
    return SSL_want_read(ssl);
}

const char *mesa_redis_tls_problem(const struct ssl_st *ssl)
{
    long result = SSL_get_verify_result(ssl);
    return result != X509_V_OK ? X509_verify_cert_error_string(result) : NULL;
}

#else

enum mesa_status mesa_redis_tls_new(struct mesa_redis_tls **out,
                                    const struct mesa_redis_options *options, char *err,
                                    size_t err_len)
{
    (void)out;
    (void)options;
    snprintf(err, err_len,
             "rediss:// and tls need a hiredis with TLS (1.0 or later, hiredis_ssl); "
             "this build has hiredis %d.%d.%d without it",
             HIREDIS_MAJOR, HIREDIS_MINOR, HIREDIS_PATCH);
    return MESA_EINVAL;
}

void mesa_redis_tls_free(struct mesa_redis_tls *t)
{
    (void)t; /* there never is one */
}

struct ssl_st *mesa_redis_tls_start(struct mesa_redis_tls *t, redisContext *context,
                                    const char *host, char *err, size_t err_len)
{
    (void)t;
    (void)context;
    (void)host;
    snprintf(err, err_len, "TLS: not there");
    return NULL;
}

bool mesa_redis_tls_wants_input(const struct ssl_st *ssl)
{
    (void)ssl;
    return false;
}

const char *mesa_redis_tls_problem(const struct ssl_st *ssl)
{
    (void)ssl;
    return NULL;
}

#endif
