/* certificate.h - what is known of a client's certificate, which was verified.
 *
 * Immutable, reference-counted: a connection, its requests and its client share one. Loop thread
 * only. May include: base/.
 */
#ifndef MESA_IO_CERTIFICATE_H
#define MESA_IO_CERTIFICATE_H

#include <stddef.h>
#include <stdint.h>

#include "base/buf.h"

struct mesa_certificate {
    unsigned refs;
    struct mesa_span subject, issuer; /* as RFC 4514 writes them: "CN=ann,O=Example" */
    struct mesa_span serial;          /* as OpenSSL writes it: "0A1B" */
    struct mesa_span fingerprint;     /* SHA-256, as OpenSSL writes it: "0A:1B:…" */
    int64_t not_after;                /* Unix time */
    size_t name_count;
    struct mesa_span names[]; /* "DNS:ann.example", "email:ann@example.org", "URI:…", "IP:…" */
};

/* NULL is accepted. */
struct mesa_certificate *mesa_certificate_ref(struct mesa_certificate *c);
void mesa_certificate_unref(struct mesa_certificate *c);

#endif
