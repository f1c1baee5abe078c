/* tls_terms.c - until when certificates are valid, and warnings of it. */
#include <openssl/err.h>
#include <openssl/x509v3.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/log.h"
#include "io/tls_internal.h"

enum { DAY_S = 24 * 60 * 60, SOON_S = 14 * DAY_S, NAME_BYTES = 256, LINE_BYTES = 4608 };

BIO *mesa_tls_print_name(const X509_NAME *name)
{
    /* UTF-8 as it is; control characters are escaped */
    unsigned long how = XN_FLAG_RFC2253 & ~(unsigned long)ASN1_STRFLGS_ESC_MSB;
    BIO *text = BIO_new(BIO_s_mem());
    if (text != NULL && X509_NAME_print_ex(text, name, 0, how) >= 0)
        return text;
    BIO_free(text);
    return NULL;
}

void mesa_tls_name_text(const X509_NAME *name, char *out, size_t len)
{
    BIO *text = mesa_tls_print_name(name);
    int n = text != NULL ? BIO_read(text, out, (int)len - 1) : 0;
    out[n > 0 ? n : 0] = '\0';
    BIO_free(text);
    ERR_clear_error();
}

static time_t to_time(const ASN1_TIME *t, time_t unknown)
{
    struct tm tm;
    return t != NULL && ASN1_TIME_to_tm(t, &tm) == 1 ? timegm(&tm) : unknown;
}

enum mesa_status mesa_tls_add_term(struct mesa_tls_context *c, const struct mesa_tls_file *f,
                                   const X509 *cert, const X509_CRL *list)
{
    char name[NAME_BYTES], what[LINE_BYTES];
    struct mesa_tls_term *grown = realloc(c->terms, (c->term_count + 1) * sizeof *grown);
    if (grown == NULL)
        return MESA_ENOMEM;
    c->terms = grown;
    mesa_tls_name_text(cert != NULL ? X509_get_subject_name(cert) : X509_CRL_get_issuer(list), name,
                       sizeof name);
    const char *kind = cert != NULL ? "certificate" : "revocation list of";
    if (f->name != NULL)
        snprintf(what, sizeof what, "tls.names[\"%s\"].%s: the %s %s in %s", f->name, f->key, kind,
                 name, f->path);
    else
        snprintf(what, sizeof what, "tls.%s: the %s %s in %s", f->key, kind, name, f->path);
    struct mesa_tls_term *t = &c->terms[c->term_count];
    *t = (struct mesa_tls_term){
        .what = strdup(what), .revocations = cert == NULL, .authority = strcmp(f->key, "ca") == 0};
    if (t->what == NULL)
        return MESA_ENOMEM;
    t->from = to_time(cert != NULL ? X509_get0_notBefore(cert) : X509_CRL_get0_lastUpdate(list), 0);
    t->until = to_time(cert != NULL ? X509_get0_notAfter(cert) : X509_CRL_get0_nextUpdate(list),
                       INT64_MAX);
    c->term_count++;
    return MESA_OK;
}

static void day_text(time_t t, char out[16])
{
    struct tm tm;
    if (gmtime_r(&t, &tm) == NULL || strftime(out, 16, "%Y-%m-%d", &tm) == 0)
        strcpy(out, "an unknown day");
}

/* What is to be said of a term at `now`; false: nothing. */
static bool judge(const struct mesa_tls_term *t, time_t now, char *out, size_t len)
{
    char day[16];
    int days = (int)((t->until - now + DAY_S - 1) / DAY_S);
    day_text(now < t->from ? t->from : t->until, day);
    if (now < t->from)
        snprintf(out, len, "%s is not valid before %s", t->what, day);
    else if (now > t->until && t->revocations)
        snprintf(out, len,
                 "%s has expired on %s: certificates of this authority are refused until there is "
                 "a new one",
                 t->what, day);
    else if (now > t->until)
        snprintf(out, len, "%s has expired on %s: renew it", t->what, day);
    else if (t->until - now < SOON_S && !t->revocations) /* lists live for some days only */
        snprintf(out, len, "%s expires on %s, within %d day%s: renew it", t->what, day, days,
                 days == 1 ? "" : "s");
    else
        return false;
    return true;
}

void mesa_tls_context_warn(const struct mesa_tls_context *c, time_t now)
{
    char line[LINE_BYTES];
    for (size_t i = 0; i < c->term_count; i++) {
        if (!judge(&c->terms[i], now, line, sizeof line))
            continue;
        if (c->terms[i].authority) /* there may be hundreds */
            mesa_log_limited(MESA_LOG_WARN, "tls", "tls.ca",
                             (struct mesa_span){line, strlen(line)});
        else
            mesa_log(MESA_LOG_WARN, "tls", "%s", line);
    }
    for (size_t i = 0; i < c->pair_count; i++) {
        const struct mesa_tls_pair *pair = &c->pairs[i];
        if (!pair->misnamed)
            continue;
        mesa_log(MESA_LOG_WARN, "tls",
                 "tls.names[\"%s\"].cert: the certificate is not for this name: clients will "
                 "refuse it",
                 pair->name);
    }
}

void mesa_tls_context_describe(const struct mesa_tls_context *c, char *out, size_t len)
{
    char name[NAME_BYTES], day[16];
    const X509 *cert = SSL_CTX_get0_certificate(c->pairs[0].ctx);
    mesa_tls_name_text(X509_get_subject_name(cert), name, sizeof name);
    day_text(to_time(X509_get0_notAfter(cert), 0), day);
    snprintf(out, len, "%s, valid until %s", name, day);
}
