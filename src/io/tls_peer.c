/* tls_peer.c - clients' certificates: how they are verified, and what of them is told. */
#include <arpa/inet.h>
#include <openssl/err.h>
#include <openssl/x509v3.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "io/certificate.h"
#include "io/tls.h"
#include "io/tls_internal.h"

enum { NAME_BYTES = 1024, SHOWN_BYTES = 128 };

/* -- verifying -- */

/* Keeps what is wrong, for the log. */
static void remember(X509_STORE_CTX *store, int error)
{
    const SSL *ssl = X509_STORE_CTX_get_ex_data(store, SSL_get_ex_data_X509_STORE_CTX_idx());
    struct mesa_tls *t = SSL_get_app_data(ssl);
    const X509 *cert = X509_STORE_CTX_get0_cert(store); /* the client's own */
    char subject[SHOWN_BYTES], issuer[SHOWN_BYTES], text[3 * SHOWN_BYTES];
    if (t == NULL || cert == NULL || t->distrusted != NULL)
        return;
    mesa_tls_name_text(X509_get_subject_name(cert), subject, sizeof subject);
    mesa_tls_name_text(X509_get_issuer_name(cert), issuer, sizeof issuer);
    snprintf(text, sizeof text, "the client's certificate %s of %s: %s", subject, issuer,
             X509_verify_cert_error_string(error));
    t->distrusted = strdup(text);
}

static int on_verify(int ok, X509_STORE_CTX *store)
{
    int error = X509_STORE_CTX_get_error(store);
    if (!ok && error == X509_V_ERR_UNABLE_TO_GET_CRL) { /* not every authority has a list */
        X509_STORE_CTX_set_error(store, X509_V_OK);
        return 1;
    }
    if (!ok)
        remember(store, error);
    return ok;
}

void mesa_tls_verify_peers(SSL_CTX *ctx, const struct mesa_tls_reading *r)
{
    SSL_CTX_set_verify(ctx, SSL_VERIFY_PEER | SSL_VERIFY_FAIL_IF_NO_PEER_CERT, on_verify);
    SSL_CTX_set1_verify_cert_store(ctx, r->authorities);
    SSL_CTX_set_client_CA_list(
        ctx, sk_X509_NAME_deep_copy(r->authority_names, X509_NAME_dup, X509_NAME_free));
    if (r->revocations)
        X509_STORE_set_flags(r->authorities, X509_V_FLAG_CRL_CHECK | X509_V_FLAG_CRL_CHECK_ALL);
}

/* -- telling -- */

/* What is not printable ASCII is no name of these kinds, and could pass for another one. */
static bool is_plain(const char *p, size_t len)
{
    for (size_t i = 0; i < len; i++)
        if (p[i] <= ' ' || p[i] >= 0x7f)
            return false;
    return len > 0;
}

static size_t put_text(char *out, const char *kind, const ASN1_STRING *s)
{
    const char *p = (const char *)ASN1_STRING_get0_data(s);
    int len = ASN1_STRING_length(s);
    if (!is_plain(p, (size_t)len) || (size_t)len + 8 > NAME_BYTES)
        return 0;
    return (size_t)snprintf(out, NAME_BYTES, "%s:%.*s", kind, len, p);
}

static size_t put_address(char *out, const ASN1_OCTET_STRING *s)
{
    char text[INET6_ADDRSTRLEN];
    int len = ASN1_STRING_length(s);
    if ((len != 4 && len != 16) || inet_ntop(len == 4 ? AF_INET : AF_INET6,
                                             ASN1_STRING_get0_data(s), text, sizeof text) == NULL)
        return 0;
    return (size_t)snprintf(out, NAME_BYTES, "IP:%s", text);
}

/* Writes a name; 0: it is of a kind that is left out. */
static size_t put_name(char out[NAME_BYTES], const GENERAL_NAME *name)
{
    switch (name->type) {
    case GEN_DNS:
        return put_text(out, "DNS", name->d.dNSName);
    case GEN_EMAIL:
        return put_text(out, "email", name->d.rfc822Name);
    case GEN_URI:
        return put_text(out, "URI", name->d.uniformResourceIdentifier);
    case GEN_IPADD:
        return put_address(out, name->d.iPAddress);
    default:
        return 0;
    }
}

/* What a certificate says, one text behind the other. */
struct telling {
    struct mesa_buf text;
    size_t *ends; /* of subject, issuer, serial, fingerprint, and each name */
    size_t count;
    bool failed;
};

static void tell(struct telling *t, const char *text, size_t len)
{
    t->failed = t->failed || mesa_buf_append(&t->text, text, len) != MESA_OK;
    t->ends[t->count++] = t->text.len;
}

/* Whole, however long: one that was cut could pass for another one. */
static void tell_person(struct telling *t, const X509_NAME *name)
{
    BIO *bio = mesa_tls_print_name(name);
    char *text = NULL;
    long len = bio != NULL ? BIO_get_mem_data(bio, &text) : 0;
    tell(t, text, (size_t)len);
    t->failed = t->failed || bio == NULL;
    BIO_free(bio);
}

static void tell_serial(struct telling *t, const X509 *cert)
{
    BIGNUM *number = ASN1_INTEGER_to_BN(X509_get0_serialNumber(cert), NULL);
    char *text = number != NULL ? BN_bn2hex(number) : NULL;
    tell(t, text != NULL ? text : "", text != NULL ? strlen(text) : 0);
    t->failed = t->failed || text == NULL;
    OPENSSL_free(text);
    BN_free(number);
}

static void tell_fingerprint(struct telling *t, const X509 *cert)
{
    unsigned char digest[MESA_TLS_DIGEST_BYTES];
    char text[3 * MESA_TLS_DIGEST_BYTES + 1];
    t->failed = t->failed || X509_digest(cert, EVP_sha256(), digest, NULL) != 1;
    for (size_t i = 0; i < sizeof digest && !t->failed; i++)
        snprintf(text + 3 * i, 4, "%02X:", digest[i]);
    tell(t, text, sizeof text - 2); /* without the last colon */
}

static void tell_names(struct telling *t, const GENERAL_NAMES *names)
{
    char name[NAME_BYTES];
    for (int i = 0; i < sk_GENERAL_NAME_num(names); i++) {
        size_t len = put_name(name, sk_GENERAL_NAME_value(names, i));
        if (len > 0)
            tell(t, name, len);
    }
}

enum { FIXED_TEXTS = 4 };

/* One block: the struct, its names, their text. */
static struct mesa_certificate *assemble(const struct telling *t, const X509 *cert)
{
    size_t names = t->count - FIXED_TEXTS;
    struct tm until;
    struct mesa_certificate *c =
        t->failed ? NULL : malloc(sizeof *c + names * sizeof *c->names + t->text.len);
    if (c == NULL)
        return NULL;
    char *text = memcpy(c->names + names, t->text.data, t->text.len);
    c->refs = 1;
    c->name_count = names;
    c->not_after =
        ASN1_TIME_to_tm(X509_get0_notAfter(cert), &until) == 1 ? (int64_t)timegm(&until) : 0;
    struct mesa_span *const fixed[FIXED_TEXTS] = {&c->subject, &c->issuer, &c->serial,
                                                  &c->fingerprint};
    size_t from = 0;
    for (size_t i = 0; i < t->count; i++) {
        struct mesa_span *to = i < FIXED_TEXTS ? fixed[i] : &c->names[i - FIXED_TEXTS];
        *to = (struct mesa_span){text + from, t->ends[i] - from};
        from = t->ends[i];
    }
    return c;
}

static struct mesa_certificate *read_certificate(const X509 *cert)
{
    GENERAL_NAMES *names = X509_get_ext_d2i(cert, NID_subject_alt_name, NULL, NULL);
    int count = names != NULL ? sk_GENERAL_NAME_num(names) : 0;
    struct telling t = {.ends = malloc(((size_t)count + FIXED_TEXTS) * sizeof *t.ends)};
    struct mesa_certificate *c = NULL;
    if (t.ends != NULL) {
        tell_person(&t, X509_get_subject_name(cert));
        tell_person(&t, X509_get_issuer_name(cert));
        tell_serial(&t, cert);
        tell_fingerprint(&t, cert);
        if (names != NULL)
            tell_names(&t, names);
        c = assemble(&t, cert);
    }
    free(t.ends);
    mesa_buf_deinit(&t.text);
    GENERAL_NAMES_free(names);
    ERR_clear_error();
    return c;
}

enum mesa_status mesa_tls_certificate(const struct mesa_tls *t, struct mesa_certificate **out)
{
    const X509 *cert = SSL_get0_peer_certificate(t->ssl);
    if (cert == NULL)
        return MESA_ENOTFOUND;
    *out = read_certificate(cert);
    return *out != NULL ? MESA_OK : MESA_ENOMEM;
}

struct mesa_certificate *mesa_certificate_ref(struct mesa_certificate *c)
{
    if (c != NULL)
        c->refs++;
    return c;
}

void mesa_certificate_unref(struct mesa_certificate *c)
{
    if (c != NULL && --c->refs == 0)
        free(c);
}
