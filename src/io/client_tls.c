/* client_tls.c - see client_tls.h. */
#include "io/client_tls.h"

#include <errno.h>
#include <openssl/err.h>
#include <openssl/x509v3.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

/* An SSL_CTX that trusts the authorities in one file. */
struct authority {
    struct mesa_list link;
    SSL_CTX *ctx;
    struct stat file; /* when it was read */
    char path[];      /* "": the system's */
};

static void authority_free(struct authority *a)
{
    mesa_list_remove(&a->link);
    SSL_CTX_free(a->ctx);
    free(a);
}

void mesa_client_tls_clear(struct mesa_list *authorities)
{
    while (!mesa_list_empty(authorities))
        authority_free(MESA_CONTAINER_OF(authorities->next, struct authority, link));
}

static const char *openssl_reason(void)
{
    unsigned long code = ERR_peek_last_error();
    const char *text = code != 0 ? ERR_reason_error_string(code) : NULL;
    return text != NULL ? text : "unknown error";
}

static SSL_CTX *context_new(const char *path, char *err, size_t err_len)
{
    ERR_clear_error();
    SSL_CTX *ctx = SSL_CTX_new(TLS_client_method());
    int ok = ctx != NULL && SSL_CTX_set_min_proto_version(ctx, TLS1_2_VERSION) == 1;
    if (ok)
        ok = path[0] != '\0' ? SSL_CTX_load_verify_locations(ctx, path, NULL)
                             : SSL_CTX_set_default_verify_paths(ctx);
    if (ok) {
        SSL_CTX_set_mode(ctx, SSL_MODE_RELEASE_BUFFERS);
        return ctx;
    }
    snprintf(err, err_len, "cannot use the authorities in %s: %s",
             path[0] != '\0' ? path : "the system's store", openssl_reason());
    ERR_clear_error();
    SSL_CTX_free(ctx);
    return NULL;
}

static bool unchanged(const struct stat *a, const struct stat *b)
{
    return a->st_ino == b->st_ino && a->st_dev == b->st_dev && a->st_size == b->st_size &&
           a->st_mtim.tv_sec == b->st_mtim.tv_sec && a->st_mtim.tv_nsec == b->st_mtim.tv_nsec;
}

/* The context for the file; read again when the file has changed. */
static SSL_CTX *context_of(struct mesa_list *authorities, const char *ca, char *err, size_t err_len)
{
    const char *path = ca != NULL ? ca : "";
    struct stat now = {.st_ino = 0};
    if (path[0] != '\0' && stat(path, &now) != 0) {
        snprintf(err, err_len, "cannot use the authorities in %s: %s", path, strerror(errno));
        return NULL;
    }
    MESA_LIST_FOREACH_SAFE(it, next, authorities) {
        struct authority *a = MESA_CONTAINER_OF(it, struct authority, link);
        if (strcmp(a->path, path) != 0)
            continue;
        if (unchanged(&a->file, &now))
            return a->ctx;
        authority_free(a); /* sessions keep a reference of their own */
    }
    size_t len = strlen(path);
    struct authority *a = calloc(1, sizeof *a + len + 1);
    if (a == NULL) {
        snprintf(err, err_len, "not enough memory");
        return NULL;
    }
    mesa_list_init(&a->link);
    a->file = now;
    memcpy(a->path, path, len + 1);
    a->ctx = context_new(path, err, err_len);
    if (a->ctx == NULL) {
        authority_free(a);
        return NULL;
    }
    mesa_list_append(authorities, &a->link);
    return a->ctx;
}

/* Whom the certificate must be for. */
static bool expect_host(SSL *ssl, const char *host, bool insecure)
{
    X509_VERIFY_PARAM *param = SSL_get0_param(ssl);
    bool is_address = X509_VERIFY_PARAM_set1_ip_asc(param, host) == 1;
    /* a server name is never an address (RFC 6066 section 3) */
    if (!is_address && SSL_set_tlsext_host_name(ssl, host) != 1)
        return false;
    if (insecure)
        return true;
    X509_VERIFY_PARAM_set_hostflags(param, X509_CHECK_FLAG_NO_PARTIAL_WILDCARDS);
    return is_address || X509_VERIFY_PARAM_set1_host(param, host, 0) == 1;
}

bool mesa_client_tls_check(struct mesa_list *authorities, const char *ca, char *err, size_t err_len)
{
    return context_of(authorities, ca, err, err_len) != NULL;
}

enum mesa_status mesa_client_tls_new(SSL **out, struct mesa_list *authorities, const char *ca,
                                     const char *host, bool insecure, char *err, size_t err_len)
{
    static const unsigned char alpn[] = "\x08http/1.1";
    SSL_CTX *ctx = context_of(authorities, ca, err, err_len);
    if (ctx == NULL)
        return MESA_EIO;
    SSL *ssl = SSL_new(ctx);
    BIO *in = BIO_new(BIO_s_mem()), *sent = BIO_new(BIO_s_mem());
    if (ssl == NULL || in == NULL || sent == NULL) {
        BIO_free(in);
        BIO_free(sent);
        goto fail;
    }
    SSL_set_bio(ssl, in, sent); /* the session owns both now */
    SSL_set_connect_state(ssl);
    SSL_set_verify(ssl, insecure ? SSL_VERIFY_NONE : SSL_VERIFY_PEER, NULL);
    if (!expect_host(ssl, host, insecure) || SSL_set_alpn_protos(ssl, alpn, sizeof alpn - 1) != 0)
        goto fail;
    *out = ssl;
    return MESA_OK;

fail:
    SSL_free(ssl);
    snprintf(err, err_len, "cannot begin a TLS session");
    return MESA_ENOMEM;
}

/* -- a session ---------------------------------------------------------------------------------- */

static void describe_failure(const SSL *ssl, char *out, size_t len)
{
    long verdict = SSL_get_verify_result(ssl);
    if (verdict != X509_V_OK && SSL_get_verify_mode(ssl) != SSL_VERIFY_NONE)
        snprintf(out, len, "the server's certificate was refused: %s",
                 X509_verify_cert_error_string(verdict));
    else
        snprintf(out, len, "the TLS handshake failed: %s", openssl_reason());
    ERR_clear_error();
}

bool mesa_client_tls_feed(SSL *ssl, const void *bytes, size_t len)
{
    return BIO_write(SSL_get_rbio(ssl), bytes, (int)len) == (int)len;
}

/* Hands over what the session has to say. */
static enum mesa_status flush(SSL *ssl, mesa_client_tls_put put, void *owner)
{
    char *bytes;
    long n = BIO_get_mem_data(SSL_get_wbio(ssl), &bytes);
    if (n <= 0)
        return MESA_OK;
    enum mesa_status rc = put(owner, bytes, (size_t)n);
    (void)BIO_reset(SSL_get_wbio(ssl));
    return rc;
}

enum mesa_client_tls_step mesa_client_tls_handshake(SSL *ssl, mesa_client_tls_put put, void *owner,
                                                    char *err, size_t err_len)
{
    ERR_clear_error();
    int result = SSL_do_handshake(ssl);
    int error = SSL_get_error(ssl, result);
    bool failed = result != 1 && error != SSL_ERROR_WANT_READ;
    if (failed)
        describe_failure(ssl, err, err_len);
    (void)flush(ssl, put, owner);
    if (failed)
        return MESA_CLIENT_TLS_FAILED;
    return result == 1 ? MESA_CLIENT_TLS_DONE : MESA_CLIENT_TLS_WAITS;
}

enum mesa_client_tls_step mesa_client_tls_read(SSL *ssl, mesa_client_tls_put put, void *owner,
                                               char *to, size_t room, size_t *len)
{
    ERR_clear_error();
    if (SSL_read_ex(ssl, to, room, len) == 1)
        return MESA_CLIENT_TLS_DONE;
    int error = SSL_get_error(ssl, 0);
    ERR_clear_error();
    (void)flush(ssl, put, owner);
    if (error == SSL_ERROR_WANT_READ)
        return MESA_CLIENT_TLS_WAITS;
    return error == SSL_ERROR_ZERO_RETURN ? MESA_CLIENT_TLS_ENDED : MESA_CLIENT_TLS_FAILED;
}

enum mesa_status mesa_client_tls_write(SSL *ssl, mesa_client_tls_put put, void *owner,
                                       const void *bytes, size_t len)
{
    size_t written;
    if (len > 0 && SSL_write_ex(ssl, bytes, len, &written) != 1) {
        ERR_clear_error();
        return MESA_ECLOSED;
    }
    return flush(ssl, put, owner);
}

void mesa_client_tls_end(SSL *ssl, mesa_client_tls_put put, void *owner)
{
    (void)SSL_shutdown(ssl);
    ERR_clear_error();
    (void)flush(ssl, put, owner);
}
