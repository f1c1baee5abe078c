/* tls.c - see tls.h. */
#include "io/tls.h"

#include <errno.h>
#include <openssl/err.h>
#include <openssl/pem.h>
#include <openssl/ssl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* -- contexts -- */

/* Whether an error says that what was looked for is not in the file. */
static bool is_no_pem(unsigned long code)
{
#ifdef ERR_LIB_OSSL_DECODER
    if (ERR_GET_LIB(code) == ERR_LIB_OSSL_DECODER)
        return true;
#endif
    return ERR_GET_LIB(code) == ERR_LIB_PEM && ERR_GET_REASON(code) == PEM_R_NO_START_LINE;
}

/* The last error of OpenSSL on this thread. */
static const char *reason(void)
{
    unsigned long code = ERR_peek_last_error();
    if (is_no_pem(ERR_peek_error()) || is_no_pem(code))
        return "it is no PEM file of this kind (no -----BEGIN ...----- line was found)";
    const char *text = code != 0 ? ERR_reason_error_string(code) : NULL;
    return text != NULL ? text : "unknown error";
}

static enum mesa_status refuse(char *err, size_t err_len, const char *key, const char *path,
                               const char *why)
{
    snprintf(err, err_len, "%s: cannot use %s: %s", key, path, why);
    ERR_clear_error();
    return MESA_EINVAL;
}

static enum mesa_status load_ca(SSL_CTX *ctx, const char *ca, char *err, size_t err_len)
{
    if (SSL_CTX_load_verify_locations(ctx, ca, NULL) != 1)
        return refuse(err, err_len, "tls.ca", ca, reason());
    STACK_OF(X509_NAME) *names = SSL_load_client_CA_file(ca);
    if (names == NULL)
        return refuse(err, err_len, "tls.ca", ca, reason());
    SSL_CTX_set_client_CA_list(ctx, names);
    return MESA_OK;
}

static enum mesa_status load_files(SSL_CTX *ctx, const struct mesa_tls_config *cfg, char *err,
                                   size_t err_len)
{
    const char *paths[] = {cfg->cert, cfg->key, cfg->ca};
    static const char *const keys[] = {"tls.cert", "tls.key", "tls.ca"};
    for (int i = 0; i < 3; i++)
        if (paths[i] != NULL && access(paths[i], R_OK) != 0)
            return refuse(err, err_len, keys[i], paths[i], strerror(errno));

    if (SSL_CTX_use_certificate_chain_file(ctx, cfg->cert) != 1)
        return refuse(err, err_len, "tls.cert", cfg->cert, reason());
    if (SSL_CTX_use_PrivateKey_file(ctx, cfg->key, SSL_FILETYPE_PEM) != 1)
        return refuse(err, err_len, "tls.key", cfg->key, reason());
    if (SSL_CTX_check_private_key(ctx) != 1)
        return refuse(err, err_len, "tls.key", cfg->key, "it does not belong to tls.cert");
    return cfg->ca != NULL ? load_ca(ctx, cfg->ca, err, err_len) : MESA_OK;
}

/* RFC 7301 section 3.2: who offers protocols, but not ours, is told so. Over h2 a WebSocket would be a
 * stream inside another connection. */
static int choose_protocol(SSL *ssl, const unsigned char **out, unsigned char *out_len,
                           const unsigned char *in, unsigned int in_len, void *ctx)
{
    static const unsigned char ours[] = "\x08http/1.1";
    unsigned char *chosen;
    (void)ssl;
    (void)ctx;
    if (SSL_select_next_proto(&chosen, out_len, ours, sizeof ours - 1, in, in_len) !=
        OPENSSL_NPN_NEGOTIATED)
        return SSL_TLSEXT_ERR_ALERT_FATAL;
    *out = chosen;
    return SSL_TLSEXT_ERR_OK;
}

/* Without it OpenSSL asks the terminal, and the server would stand still. */
static int no_passphrase(char *buf, int size, int writing, void *ctx)
{
    (void)buf;
    (void)size;
    (void)writing;
    (void)ctx;
    return 0;
}

static void configure(SSL_CTX *ctx, bool request_cert)
{
    static const unsigned char session_id[] =
        "mesa"; /* or a client with a certificate could not resume */
    SSL_CTX_set_min_proto_version(ctx, TLS1_2_VERSION);
    SSL_CTX_set_options(ctx, SSL_OP_NO_RENEGOTIATION | SSL_OP_CIPHER_SERVER_PREFERENCE |
                                 SSL_OP_PRIORITIZE_CHACHA | SSL_OP_NO_COMPRESSION);
    /* what is recorded today must not become readable when the key leaks: no RSA key exchange */
    SSL_CTX_set_cipher_list(ctx, "DEFAULT:!kRSA");
    /* buffers of an idle connection go back; a write that is retried may come from another address */
    SSL_CTX_set_mode(ctx, SSL_MODE_RELEASE_BUFFERS | SSL_MODE_ENABLE_PARTIAL_WRITE |
                              SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER);
    SSL_CTX_set_read_ahead(ctx, 1); /* else each record is two system calls */
    /* sessions are resumed by tickets, which clients keep */
    SSL_CTX_set_session_cache_mode(ctx, SSL_SESS_CACHE_OFF);
    SSL_CTX_set_session_id_context(ctx, session_id, sizeof session_id - 1);
    SSL_CTX_set_default_passwd_cb(ctx, no_passphrase);
    SSL_CTX_set_alpn_select_cb(ctx, choose_protocol, NULL);
    if (request_cert)
        SSL_CTX_set_verify(ctx, SSL_VERIFY_PEER | SSL_VERIFY_FAIL_IF_NO_PEER_CERT, NULL);
}

enum mesa_status mesa_tls_context_new(struct mesa_tls_context **out,
                                      const struct mesa_tls_config *cfg, char *err, size_t err_len)
{
    ERR_clear_error();
    SSL_CTX *ctx = SSL_CTX_new(TLS_server_method());
    if (ctx == NULL) {
        snprintf(err, err_len, "out of memory");
        return MESA_ENOMEM;
    }
    configure(ctx, cfg->request_cert);
    enum mesa_status rc = load_files(ctx, cfg, err, err_len);
    if (rc != MESA_OK) {
        SSL_CTX_free(ctx);
        return rc;
    }
    *out = (struct mesa_tls_context *)ctx;
    return MESA_OK;
}

void mesa_tls_context_free(struct mesa_tls_context *ctx)
{
    SSL_CTX_free((SSL_CTX *)ctx);
}

/* -- sessions -- */

enum mesa_status mesa_tls_init(struct mesa_tls *t, struct mesa_tls_context *ctx, int fd)
{
    *t = (struct mesa_tls){.ssl = SSL_new((SSL_CTX *)ctx)};
    if (t->ssl == NULL || SSL_set_fd(t->ssl, fd) != 1) {
        mesa_tls_deinit(t);
        ERR_clear_error();
        return MESA_ENOMEM;
    }
    SSL_set_accept_state(t->ssl);
    return MESA_OK;
}

void mesa_tls_deinit(struct mesa_tls *t)
{
    SSL_free(t->ssl);
    t->ssl = NULL;
}

/* What the call before, which returned `result`, means: MESA_EAGAIN, MESA_ECLOSED or MESA_EPROTO. */
static enum mesa_status judge(struct mesa_tls *t, int result)
{
    t->wants_write = false;
    switch (SSL_get_error(t->ssl, result)) {
    case SSL_ERROR_WANT_READ:
        return MESA_EAGAIN;
    case SSL_ERROR_WANT_WRITE:
        t->wants_write = true;
        return MESA_EAGAIN;
    case SSL_ERROR_ZERO_RETURN:
        t->ended = true;
        return MESA_ECLOSED;
    case SSL_ERROR_SYSCALL:
        t->ended = t->failed = true;
        return MESA_ECLOSED;
    default:
        t->failed = true;
        /* hung up without a word */
        t->ended = ERR_GET_REASON(ERR_peek_error()) == SSL_R_UNEXPECTED_EOF_WHILE_READING;
        return t->ended ? MESA_ECLOSED : MESA_EPROTO;
    }
}

enum mesa_status mesa_tls_handshake(struct mesa_tls *t, char *why, size_t why_len)
{
    ERR_clear_error();
    int result = SSL_do_handshake(t->ssl);
    if (result == 1) {
        t->ready = true;
        t->wants_write = false;
        return MESA_OK;
    }
    enum mesa_status rc = judge(t, result);
    if (rc == MESA_EPROTO) {
        long verdict = SSL_get_verify_result(t->ssl);
        snprintf(why, why_len, "the TLS handshake failed: %s%s%s", reason(),
                 verdict != X509_V_OK ? ": " : "",
                 verdict != X509_V_OK ? X509_verify_cert_error_string(verdict) : "");
    }
    ERR_clear_error();
    return rc;
}

bool mesa_tls_has_begun(const struct mesa_tls *t)
{
    return BIO_number_read(SSL_get_rbio(t->ssl)) > 0;
}

ssize_t mesa_tls_read(struct mesa_tls *t, char *out, size_t len)
{
    size_t have = 0, n;
    enum mesa_status rc = MESA_OK;
    t->wants_write = false;
    ERR_clear_error();
    while (rc == MESA_OK && have < len && !t->ended && !t->failed) {
        int result = SSL_read_ex(t->ssl, out + have, len - have, &n); /* a record at most */
        if (result == 1)
            have += n;
        else
            rc = judge(t, result);
    }
    t->more = have == len || (rc == MESA_EAGAIN && t->wants_write);
    if (have > 0)
        return (ssize_t)have;
    if (t->ended)
        return 0;
    errno = rc == MESA_EAGAIN ? EAGAIN : EPROTO;
    return -1;
}

ssize_t mesa_tls_write(struct mesa_tls *t, const char *bytes, size_t len)
{
    size_t done = 0, n;
    if (t->failed) {
        errno = EPROTO;
        return -1;
    }
    ERR_clear_error();
    while (done < len) {
        int result = SSL_write_ex(t->ssl, bytes + done, len - done, &n);
        if (result != 1) {
            enum mesa_status rc = judge(t, result);
            t->wants_write = false; /* of writing: whoever has bytes left polls for it anyway */
            if (rc == MESA_EAGAIN)
                break;
            errno = EPIPE;
            return -1;
        }
        done += n;
    }
    return (ssize_t)done;
}

void mesa_tls_shutdown(struct mesa_tls *t)
{
    if (!t->ready || t->failed)
        return; /* OpenSSL has told the peer of a failure already, or cannot */
    ERR_clear_error();
    (void)SSL_shutdown(t->ssl);
    ERR_clear_error();
}
