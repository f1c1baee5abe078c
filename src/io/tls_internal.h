/* tls_internal.h - what the files of tls_*.c share: contexts and how they are read. Private to
 * them. */
#ifndef MESA_IO_TLS_INTERNAL_H
#define MESA_IO_TLS_INTERNAL_H

#include <openssl/ssl.h>
#include <stdint.h>

#include "base/buf.h"
#include "io/tls_context.h"
#include "io/tls_tickets.h"

/* When a certificate, or a list of revoked ones, is valid. */
struct mesa_tls_term {
    char *what; /* "tls.cert: the certificate CN=example.org in /etc/cert.pem" */
    time_t from, until;
    bool revocations;
    bool authority; /* of tls.ca */
};

/* A certificate with its key, for clients that ask for one name, or for all others. */
struct mesa_tls_pair {
    struct mesa_tls_context *context;
    char *name; /* NULL: the default */
    SSL_CTX *ctx;
    bool misnamed; /* the certificate is not for `name` */
    struct mesa_ticket_cache tickets;
};

struct mesa_tls_context {
    unsigned refs;
    struct mesa_tls_tickets *tickets;            /* a reference; NULL: only to be looked at */
    unsigned char digest[MESA_TLS_DIGEST_BYTES]; /* of every file */
    struct mesa_tls_term *terms;
    size_t term_count;
    size_t pair_count;
    struct mesa_tls_pair pairs[]; /* the default, then the others in the order of their names */
};

/* -- tls_files.c -- */

/* One context being read. */
struct mesa_tls_reading {
    struct mesa_tls_context *context;
    EVP_MD_CTX *digest; /* of all files so far */
    X509_STORE *authorities;
    STACK_OF(X509_NAME) * authority_names;
    unsigned char authorities_digest[MESA_TLS_DIGEST_BYTES];
    bool revocations; /* there are lists of revoked certificates */
    char *err;
    size_t err_len;
};

/* A file of the configuration: "tls.cert", or "tls.names["a.example"].cert". */
struct mesa_tls_file {
    const char *name; /* of tls.names; NULL: none */
    const char *key;
    const char *path;
};

/* Writes the error. MESA_EINVAL. */
enum mesa_status mesa_tls_refuse(struct mesa_tls_reading *r, const struct mesa_tls_file *f,
                                 const char *why);
/* Reads a certificate chain and its key into `pair`, whose `ctx` is there. */
enum mesa_status mesa_tls_read_pair(struct mesa_tls_reading *r, struct mesa_tls_pair *pair,
                                    const struct mesa_config_name *files);
enum mesa_status mesa_tls_read_authorities(struct mesa_tls_reading *r, const char *path);
/* Leaves the secret's digest in `out`. */
enum mesa_status mesa_tls_read_secret(struct mesa_tls_reading *r, const char *path,
                                      unsigned char out[MESA_TLS_DIGEST_BYTES]);

/* -- tls_terms.c -- */

enum mesa_status mesa_tls_add_term(struct mesa_tls_context *c, const struct mesa_tls_file *f,
                                   const X509 *cert, const X509_CRL *list);
/* A name as RFC 4514 writes it: "CN=ann,O=Example". NULL: no memory. */
BIO *mesa_tls_print_name(const X509_NAME *name);
/* The same for people, cut at `len`. */
void mesa_tls_name_text(const X509_NAME *name, char *out, size_t len);

/* -- tls_peer.c -- */

/* Has a context verify its clients' certificates. */
void mesa_tls_verify_peers(SSL_CTX *ctx, const struct mesa_tls_reading *r);

#endif
