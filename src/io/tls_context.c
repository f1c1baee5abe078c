/* tls_context.c - see tls_context.h: makes contexts, and finds the certificate for a name. */
#include "io/tls_context.h"

#include <openssl/err.h>
#include <openssl/x509v3.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "io/tls_internal.h"

enum { NAME_MAX_BYTES = 255 };

/* -- names -- */

static int compare_names(const void *name, const void *pair)
{
    return strcmp(name, ((const struct mesa_tls_pair *)pair)->name);
}

static const struct mesa_tls_pair *find_exact(const struct mesa_tls_context *c, const char *name)
{
    return bsearch(name, c->pairs + 1, c->pair_count - 1, sizeof *c->pairs, compare_names);
}

/* The certificate for a name in lower case: of just this name, else of "*." and what follows its
 * first label, else the default. */
static const struct mesa_tls_pair *find_pair(const struct mesa_tls_context *c, char *name)
{
    const struct mesa_tls_pair *pair = find_exact(c, name);
    char *dot = strchr(name, '.');
    if (pair == NULL && dot != NULL && dot > name) {
        dot[-1] = '*'; /* in place of the first label's last letter */
        pair = find_exact(c, dot - 1);
    }
    return pair != NULL ? pair : &c->pairs[0];
}

/* RFC 6066 section 3: the host name in the extension `in`. False: there is none. */
static bool read_name(const unsigned char *in, size_t len, char out[NAME_MAX_BYTES + 1])
{
    /* length of the list, type 0, length of the name */
    if (len < 5 || ((size_t)in[0] << 8 | in[1]) != len - 2 || in[2] != TLSEXT_NAMETYPE_host_name)
        return false;
    size_t n = (size_t)in[3] << 8 | in[4];
    if (n == 0 || n > NAME_MAX_BYTES || n > len - 5 || memchr(in + 5, '\0', n) != NULL)
        return false;
    for (size_t i = 0; i < n; i++)
        out[i] = (char)(in[5 + i] >= 'A' && in[5 + i] <= 'Z' ? in[5 + i] | 0x20 : in[5 + i]);
    out[n] = '\0';
    return true;
}

/* Before OpenSSL looks at anything: its callback for names comes after tickets have been opened,
 * which are good for one certificate only. What is malformed it refuses itself. */
static int on_client_hello(SSL *ssl, int *alert, void *ctx)
{
    struct mesa_tls_context *c = ctx;
    const unsigned char *in;
    char name[NAME_MAX_BYTES + 1];
    size_t len;
    (void)alert;
    if (SSL_client_hello_get0_ext(ssl, TLSEXT_TYPE_server_name, &in, &len) == 1 &&
        read_name(in, len, name))
        SSL_set_SSL_CTX(ssl, find_pair(c, name)->ctx);
    return SSL_CLIENT_HELLO_SUCCESS;
}

/* Only says whether the name was of use (RFC 6066 section 3). */
static int on_server_name(SSL *ssl, int *alert, void *ctx)
{
    const struct mesa_tls_context *c = ctx;
    (void)alert;
    return SSL_get_SSL_CTX(ssl) != c->pairs[0].ctx ? SSL_TLSEXT_ERR_OK : SSL_TLSEXT_ERR_NOACK;
}

/* -- settings -- */

/* RFC 7301 section 3.2: who offers protocols, but not ours, is told so. Over h2 a WebSocket
 * would be a stream inside another connection. */
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

static enum mesa_status refuse_cipher(struct mesa_tls_reading *r, const char *cipher)
{
    snprintf(r->err, r->err_len,
             "tls.ciphers: OpenSSL knows no cipher \"%.64s\" (openssl ciphers -v lists them)",
             cipher);
    ERR_clear_error();
    return MESA_EINVAL;
}

/* Adds a cipher to those of TLS 1.3, which begin with "TLS_", or of TLS 1.2. OpenSSL passes over
 * what it does not know, as long as it knows anything: so each is tried alone first. */
static enum mesa_status add_cipher(struct mesa_tls_reading *r, SSL_CTX *ctx, const char *cipher,
                                   char *suites, char *list)
{
    bool suite = strncmp(cipher, "TLS_", 4) == 0;
    bool adds = strchr("!-+@", cipher[0]) == NULL; /* "!RC4" and the like only take away */
    char *to = suite ? suites : list;
    if (adds &&
        (suite ? SSL_CTX_set_ciphersuites(ctx, cipher) : SSL_CTX_set_cipher_list(ctx, cipher)) != 1)
        return refuse_cipher(r, cipher);
    if (to[0] != '\0')
        strcat(to, ":");
    strcat(to, cipher);
    return MESA_OK;
}

static enum mesa_status set_ciphers(struct mesa_tls_reading *r, SSL_CTX *ctx, const char *ciphers)
{
    size_t bytes = strlen(ciphers) + 1;
    char *text = calloc(3, bytes), *suites = text + bytes, *list = suites + bytes, *rest;
    enum mesa_status rc = MESA_OK;
    if (text == NULL)
        return MESA_ENOMEM;
    memcpy(text, ciphers, bytes);
    for (char *one = strtok_r(text, ": ,", &rest); rc == MESA_OK && one != NULL;
         one = strtok_r(NULL, ": ,", &rest))
        rc = add_cipher(r, ctx, one, suites, list);
    if (rc == MESA_OK && suites[0] != '\0' && SSL_CTX_set_ciphersuites(ctx, suites) != 1)
        rc = refuse_cipher(r, suites);
    if (rc == MESA_OK && list[0] != '\0' && SSL_CTX_set_cipher_list(ctx, list) != 1)
        rc = refuse_cipher(r, list);
    free(text);
    return rc;
}

static enum mesa_status configure(struct mesa_tls_reading *r, SSL_CTX *ctx,
                                  const struct mesa_config_tls *cfg)
{
    bool modern = cfg->min_version != NULL && strcmp(cfg->min_version, "1.3") == 0;
    SSL_CTX_set_min_proto_version(ctx, modern ? TLS1_3_VERSION : TLS1_2_VERSION);
    SSL_CTX_set_options(ctx, SSL_OP_NO_RENEGOTIATION | SSL_OP_CIPHER_SERVER_PREFERENCE |
                                 SSL_OP_PRIORITIZE_CHACHA | SSL_OP_NO_COMPRESSION);
    /* what is recorded today must not become readable when the key leaks: no RSA key exchange */
    SSL_CTX_set_cipher_list(ctx, "DEFAULT:!kRSA");
    /* buffers of an idle connection go back; a write that is retried may come from another
     * address */
    SSL_CTX_set_mode(ctx, SSL_MODE_RELEASE_BUFFERS | SSL_MODE_ENABLE_PARTIAL_WRITE |
                              SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER);
    SSL_CTX_set_read_ahead(ctx, 1); /* else each record is two system calls */
    /* sessions are resumed by tickets, which clients keep */
    SSL_CTX_set_session_cache_mode(ctx, SSL_SESS_CACHE_OFF);
    SSL_CTX_set_alpn_select_cb(ctx, choose_protocol, NULL);
    if (cfg->request_cert)
        mesa_tls_verify_peers(ctx, r);
    return cfg->ciphers != NULL ? set_ciphers(r, ctx, cfg->ciphers) : MESA_OK;
}

/* -- making -- */

/* Whether a certificate is for the name of its pair; of "*.example.org" for a name below it. */
static bool is_for_name(const X509 *cert, const char *name)
{
    char below[NAME_MAX_BYTES + 8];
    bool wildcard = strncmp(name, "*.", 2) == 0;
    snprintf(below, sizeof below, "%s%s", wildcard ? "name" : "", wildcard ? name + 1 : name);
    return X509_check_host((X509 *)(uintptr_t)cert, below, 0, 0, NULL) == 1;
}

static enum mesa_status make_pair(struct mesa_tls_reading *r, struct mesa_tls_pair *pair,
                                  const struct mesa_config_tls *cfg,
                                  const struct mesa_config_name *files)
{
    pair->context = r->context;
    pair->ctx = SSL_CTX_new(TLS_server_method());
    if (pair->ctx == NULL || (files->name != NULL && (pair->name = strdup(files->name)) == NULL)) {
        snprintf(r->err, r->err_len, "out of memory");
        return MESA_ENOMEM;
    }
    SSL_CTX_set_app_data(pair->ctx, pair);
    enum mesa_status rc = configure(r, pair->ctx, cfg);
    if (rc == MESA_OK)
        rc = mesa_tls_read_pair(r, pair, files);
    if (rc != MESA_OK)
        return rc;
    pair->misnamed =
        pair->name != NULL && !is_for_name(SSL_CTX_get0_certificate(pair->ctx), pair->name);
    /* whoever has a session of another certificate is shown this one instead of resuming it */
    SSL_CTX_set_session_id_context(pair->ctx, pair->tickets.identity, MESA_TLS_DIGEST_BYTES);
    mesa_tls_tickets_install(r->context->tickets, pair->ctx);
    return MESA_OK;
}

static enum mesa_status make_pairs(struct mesa_tls_reading *r, const struct mesa_config_tls *cfg)
{
    const struct mesa_config_name first = {NULL, cfg->cert, cfg->key, cfg->passphrase};
    struct mesa_tls_context *c = r->context;
    enum mesa_status rc = MESA_OK;
    while (rc == MESA_OK && c->pair_count <= cfg->name_count) {
        size_t i = c->pair_count++; /* counted before: what was made is freed whatever happens */
        rc = make_pair(r, &c->pairs[i], cfg, i == 0 ? &first : &cfg->names[i - 1]);
    }
    if (rc != MESA_OK || cfg->name_count == 0)
        return rc;
    SSL_CTX_set_client_hello_cb(c->pairs[0].ctx, on_client_hello, c);
    SSL_CTX_set_tlsext_servername_callback(c->pairs[0].ctx, on_server_name);
    SSL_CTX_set_tlsext_servername_arg(c->pairs[0].ctx, c);
    return MESA_OK;
}

static enum mesa_status read_files(struct mesa_tls_reading *r, const struct mesa_config_tls *cfg)
{
    unsigned char secret[MESA_TLS_DIGEST_BYTES];
    enum mesa_status rc = MESA_OK;
    if (cfg->ca != NULL)
        rc = mesa_tls_read_authorities(r, cfg->ca);
    if (rc == MESA_OK)
        rc = make_pairs(r, cfg);
    if (rc == MESA_OK && cfg->ticket_keys != NULL)
        rc = mesa_tls_read_secret(r, cfg->ticket_keys, secret);
    if (rc == MESA_OK && EVP_DigestFinal_ex(r->digest, r->context->digest, NULL) != 1)
        rc = MESA_ENOMEM;
    if (rc == MESA_OK && cfg->ticket_keys != NULL && r->context->tickets != NULL)
        mesa_tls_tickets_use(r->context->tickets, secret, time(NULL));
    OPENSSL_cleanse(secret, sizeof secret);
    return rc;
}

enum mesa_status mesa_tls_context_new(struct mesa_tls_context **out,
                                      const struct mesa_config_tls *cfg,
                                      struct mesa_tls_tickets *tickets, char *err, size_t err_len)
{
    struct mesa_tls_context *c =
        calloc(1, sizeof *c + (cfg->name_count + 1) * sizeof(struct mesa_tls_pair));
    struct mesa_tls_reading r = {
        .context = c, .digest = EVP_MD_CTX_new(), .err = err, .err_len = err_len};
    enum mesa_status rc = MESA_ENOMEM;
    snprintf(err, err_len, "out of memory");
    ERR_clear_error();
    if (c == NULL || r.digest == NULL || EVP_DigestInit_ex(r.digest, EVP_sha256(), NULL) != 1)
        goto out;
    c->refs = 1;
    c->tickets = mesa_tls_tickets_ref(tickets);
    rc = read_files(&r, cfg);
    if (rc == MESA_OK) {
        *out = c;
        c = NULL;
        err[0] = '\0';
    }
out:
    EVP_MD_CTX_free(r.digest);
    X509_STORE_free(r.authorities);
    sk_X509_NAME_pop_free(r.authority_names, X509_NAME_free);
    mesa_tls_context_unref(c);
    ERR_clear_error(); /* of what was tried and did not matter */
    return rc;
}

struct mesa_tls_context *mesa_tls_context_ref(struct mesa_tls_context *c)
{
    c->refs++;
    return c;
}

void mesa_tls_context_unref(struct mesa_tls_context *c)
{
    if (c == NULL || --c->refs > 0)
        return;
    for (size_t i = 0; i < c->pair_count; i++) {
        SSL_CTX_free(c->pairs[i].ctx);
        free(c->pairs[i].name);
        mesa_ticket_cache_deinit(&c->pairs[i].tickets);
    }
    for (size_t i = 0; i < c->term_count; i++)
        free(c->terms[i].what);
    free(c->terms);
    mesa_tls_tickets_unref(c->tickets);
    free(c);
}

bool mesa_tls_context_same(const struct mesa_tls_context *a, const struct mesa_tls_context *b)
{
    return memcmp(a->digest, b->digest, MESA_TLS_DIGEST_BYTES) == 0;
}
