/* tls_files.c - reads certificates, keys, authorities and secrets, and says what is wrong with
 * them.
 *
 * Each file is read once and parsed from memory, so that what is digested is what is used.
 */
#include <errno.h>
#include <fcntl.h>
#include <openssl/err.h>
#include <openssl/pem.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "io/tls_internal.h"

enum {
    FILE_FIRST_BYTES = 16 * 1024,
    FILE_MAX_BYTES = 16 * 1024 * 1024,
    SECRET_MIN_BYTES = 32,
};

/* -- errors -- */

enum mesa_status mesa_tls_refuse(struct mesa_tls_reading *r, const struct mesa_tls_file *f,
                                 const char *why)
{
    if (f->name != NULL)
        snprintf(r->err, r->err_len, "tls.names[\"%s\"].%s: cannot use %s: %s", f->name, f->key,
                 f->path, why);
    else
        snprintf(r->err, r->err_len, "tls.%s: cannot use %s: %s", f->key, f->path, why);
    ERR_clear_error();
    return MESA_EINVAL;
}

static enum mesa_status no_memory(struct mesa_tls_reading *r)
{
    snprintf(r->err, r->err_len, "out of memory");
    ERR_clear_error();
    return MESA_ENOMEM;
}

/* Whether an error says that what was looked for is not in the file. */
static bool is_no_pem(unsigned long code)
{
    return ERR_GET_LIB(code) == ERR_LIB_OSSL_DECODER ||
           (ERR_GET_LIB(code) == ERR_LIB_PEM && ERR_GET_REASON(code) == PEM_R_NO_START_LINE);
}

/* Why OpenSSL could not read it. */
static enum mesa_status refuse_content(struct mesa_tls_reading *r, const struct mesa_tls_file *f)
{
    unsigned long code = ERR_peek_last_error();
    const char *text = code != 0 ? ERR_reason_error_string(code) : NULL;
    if (is_no_pem(ERR_peek_error()) || is_no_pem(code))
        text = "it is no PEM file of this kind (no -----BEGIN ...----- line was found)";
    return mesa_tls_refuse(r, f, text != NULL ? text : "unknown error");
}

/* -- bytes -- */

static enum mesa_status read_all(struct mesa_tls_reading *r, const struct mesa_tls_file *f, int fd,
                                 struct mesa_buf *out)
{
    ssize_t n;
    do {
        if (out->len > FILE_MAX_BYTES)
            return mesa_tls_refuse(r, f, "it is larger than 16 MiB");
        /* at first so much that a secret is not left behind when the buffer grows */
        if (mesa_buf_reserve(out, out->len == 0 ? FILE_FIRST_BYTES : 1) != MESA_OK)
            return no_memory(r);
        n = read(fd, out->data + out->len, out->cap - out->len);
        if (n > 0)
            out->len += (size_t)n;
    } while (n > 0 || (n < 0 && errno == EINTR));
    return n == 0 ? MESA_OK : mesa_tls_refuse(r, f, strerror(errno));
}

/* Opened without waiting, as a FIFO would have it. `out` is initialized, and to be
 * deinitialized. */
static enum mesa_status read_file(struct mesa_tls_reading *r, const struct mesa_tls_file *f,
                                  struct mesa_buf *out)
{
    int fd = open(f->path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    if (fd < 0)
        return mesa_tls_refuse(r, f, strerror(errno));
    enum mesa_status rc = read_all(r, f, fd, out);
    close(fd);
    if (rc == MESA_OK && EVP_DigestUpdate(r->digest, &out->len, sizeof out->len) == 1 &&
        EVP_DigestUpdate(r->digest, out->data, out->len) == 1)
        return MESA_OK;
    return rc == MESA_OK ? no_memory(r) : rc;
}

/* For what may be a secret. */
static void wipe(struct mesa_buf *b)
{
    if (b->data != NULL)
        OPENSSL_cleanse(b->data, b->cap);
    mesa_buf_deinit(b);
}

/* -- certificates -- */

struct password {
    const char *text; /* NULL: none */
    bool wanted;
};

/* Instead of OpenSSL's own, which asks the terminal, where the server would stand still. */
static int on_password(char *buf, int size, int writing, void *ctx)
{
    struct password *p = ctx;
    (void)writing;
    p->wanted = true;
    size_t len = p->text != NULL ? strlen(p->text) : 0;
    if (len == 0 || len > (size_t)size)
        return -1;
    memcpy(buf, p->text, len);
    return (int)len;
}

/* The next certificate of a chain; NULL: there is none, or an error. */
static X509 *next_certificate(BIO *in, bool first)
{
    struct password none = {.text = NULL}; /* even a certificate can be encrypted */
    return first ? PEM_read_bio_X509_AUX(in, NULL, on_password, &none)
                 : PEM_read_bio_X509(in, NULL, on_password, &none);
}

static bool add_certificate(SSL_CTX *ctx, X509 *cert, bool first)
{
    return first ? SSL_CTX_use_certificate(ctx, cert) == 1
                 : SSL_CTX_add1_chain_cert(ctx, cert) == 1;
}

static enum mesa_status parse_chain(struct mesa_tls_reading *r, const struct mesa_tls_file *f,
                                    SSL_CTX *ctx, BIO *in)
{
    size_t count = 0;
    X509 *cert;
    enum mesa_status rc = MESA_OK;
    while (rc == MESA_OK && (cert = next_certificate(in, count == 0)) != NULL) {
        if (!add_certificate(ctx, cert, count++ == 0))
            rc = refuse_content(r, f);
        else
            rc = mesa_tls_add_term(r->context, f, cert, NULL);
        X509_free(cert);
    }
    if (rc != MESA_OK)
        return rc == MESA_ENOMEM ? no_memory(r) : rc;
    if (count == 0 || !is_no_pem(ERR_peek_last_error())) /* else it is the end of the file */
        return refuse_content(r, f);
    ERR_clear_error();
    return MESA_OK;
}

static enum mesa_status parse_key(struct mesa_tls_reading *r, const struct mesa_tls_file *f,
                                  SSL_CTX *ctx, BIO *in, const char *passphrase)
{
    struct password password = {.text = passphrase};
    EVP_PKEY *key = PEM_read_bio_PrivateKey(in, NULL, on_password, &password);
    if (key == NULL && password.wanted) {
        char why[256];
        const char *setting = f->name != NULL ? "the passphrase beside it" : "tls.passphrase";
        snprintf(why, sizeof why,
                 passphrase != NULL ? "%s does not open it"
                                    : "it is encrypted: set %s, or take the encryption off "
                                      "(openssl pkey -in OLD.pem -out NEW.pem)",
                 setting);
        return mesa_tls_refuse(r, f, why);
    }
    if (key == NULL)
        return refuse_content(r, f);
    enum mesa_status rc = MESA_OK;
    if (X509_check_private_key(SSL_CTX_get0_certificate(ctx), key) != 1)
        rc = mesa_tls_refuse(r, f,
                             f->name != NULL ? "it does not belong to the cert beside it"
                                             : "it does not belong to tls.cert");
    else if (SSL_CTX_use_PrivateKey(ctx, key) != 1)
        rc = refuse_content(r, f);
    EVP_PKEY_free(key);
    return rc;
}

/* What tickets of this certificate are good for: it alone, for clients of the same authorities. */
static bool identify(const struct mesa_tls_reading *r, struct mesa_tls_pair *pair)
{
    unsigned char bytes[2 * MESA_TLS_DIGEST_BYTES];
    const X509 *leaf = SSL_CTX_get0_certificate(pair->ctx);
    memcpy(bytes, r->authorities_digest, MESA_TLS_DIGEST_BYTES);
    return X509_digest(leaf, EVP_sha256(), bytes + MESA_TLS_DIGEST_BYTES, NULL) == 1 &&
           EVP_Digest(bytes, sizeof bytes, pair->tickets.identity, NULL, EVP_sha256(), NULL) == 1;
}

enum mesa_status mesa_tls_read_pair(struct mesa_tls_reading *r, struct mesa_tls_pair *pair,
                                    const struct mesa_config_name *files)
{
    const struct mesa_tls_file cert = {files->name, "cert", files->cert};
    const struct mesa_tls_file key = {files->name, "key", files->key};
    struct mesa_buf text;
    mesa_buf_init(&text);
    enum mesa_status rc = read_file(r, &cert, &text);
    BIO *in = rc == MESA_OK ? BIO_new_mem_buf(text.data, (int)text.len) : NULL;
    if (in != NULL)
        rc = parse_chain(r, &cert, pair->ctx, in);
    else if (rc == MESA_OK)
        rc = no_memory(r);
    BIO_free(in);

    text.len = 0;
    if (rc == MESA_OK)
        rc = read_file(r, &key, &text);
    in = rc == MESA_OK ? BIO_new_mem_buf(text.data, (int)text.len) : NULL;
    if (in != NULL)
        rc = parse_key(r, &key, pair->ctx, in, files->passphrase);
    else if (rc == MESA_OK)
        rc = no_memory(r);
    BIO_free(in);
    wipe(&text);
    return rc == MESA_OK && !identify(r, pair) ? no_memory(r) : rc;
}

/* -- authorities -- */

static enum mesa_status add_authority(struct mesa_tls_reading *r, const struct mesa_tls_file *f,
                                      X509 *cert)
{
    X509_NAME *name = X509_NAME_dup(X509_get_subject_name(cert));
    if (name == NULL || sk_X509_NAME_push(r->authority_names, name) <= 0) {
        X509_NAME_free(name);
        return no_memory(r);
    }
    if (X509_STORE_add_cert(r->authorities, cert) != 1)
        return refuse_content(r, f);
    return mesa_tls_add_term(r->context, f, cert, NULL) == MESA_OK ? MESA_OK : no_memory(r);
}

static enum mesa_status add_revocations(struct mesa_tls_reading *r, const struct mesa_tls_file *f,
                                        X509_CRL *list)
{
    if (X509_STORE_add_crl(r->authorities, list) != 1)
        return refuse_content(r, f);
    r->revocations = true;
    return mesa_tls_add_term(r->context, f, NULL, list) == MESA_OK ? MESA_OK : no_memory(r);
}

static enum mesa_status parse_authorities(struct mesa_tls_reading *r, const struct mesa_tls_file *f,
                                          BIO *in)
{
    struct password none = {.text = NULL}; /* of keys in the file, which nobody needs */
    STACK_OF(X509_INFO) *all = PEM_X509_INFO_read_bio(in, NULL, on_password, &none);
    enum mesa_status rc = all != NULL ? MESA_OK : refuse_content(r, f);
    for (int i = 0; rc == MESA_OK && i < sk_X509_INFO_num(all); i++) {
        const X509_INFO *info = sk_X509_INFO_value(all, i); /* may have both */
        if (info->x509 != NULL)
            rc = add_authority(r, f, info->x509);
        if (rc == MESA_OK && info->crl != NULL)
            rc = add_revocations(r, f, info->crl);
    }
    if (rc == MESA_OK && sk_X509_NAME_num(r->authority_names) == 0)
        rc = mesa_tls_refuse(r, f,
                             r->revocations ? "it has revocation lists only, and no certificate"
                                            : "it is no PEM file of this kind (no -----BEGIN "
                                              "CERTIFICATE----- line was found)");
    sk_X509_INFO_pop_free(all, X509_INFO_free);
    return rc;
}

enum mesa_status mesa_tls_read_authorities(struct mesa_tls_reading *r, const char *path)
{
    const struct mesa_tls_file f = {NULL, "ca", path};
    struct mesa_buf text;
    mesa_buf_init(&text);
    r->authorities = X509_STORE_new();
    r->authority_names = sk_X509_NAME_new_null();
    enum mesa_status rc = r->authorities != NULL && r->authority_names != NULL
                              ? read_file(r, &f, &text)
                              : no_memory(r);
    BIO *in = rc == MESA_OK ? BIO_new_mem_buf(text.data, (int)text.len) : NULL;
    if (in != NULL)
        rc = parse_authorities(r, &f, in);
    if (rc == MESA_OK && (in == NULL || EVP_Digest(text.data, text.len, r->authorities_digest, NULL,
                                                   EVP_sha256(), NULL) != 1))
        rc = no_memory(r);
    BIO_free(in);
    mesa_buf_deinit(&text);
    return rc;
}

/* -- secrets -- */

enum mesa_status mesa_tls_read_secret(struct mesa_tls_reading *r, const char *path,
                                      unsigned char out[MESA_TLS_DIGEST_BYTES])
{
    const struct mesa_tls_file f = {NULL, "ticketKeys", path};
    struct mesa_buf bytes;
    mesa_buf_init(&bytes);
    enum mesa_status rc = read_file(r, &f, &bytes);
    if (rc == MESA_OK && bytes.len < SECRET_MIN_BYTES)
        rc = mesa_tls_refuse(r, &f,
                             "it needs at least 32 bytes that nobody can guess "
                             "(head -c 32 /dev/urandom)");
    if (rc == MESA_OK && EVP_Digest(bytes.data, bytes.len, out, NULL, EVP_sha256(), NULL) != 1)
        rc = no_memory(r);
    wipe(&bytes);
    return rc;
}
