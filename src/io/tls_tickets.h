/* tls_tickets.h - the keys that seal session tickets.
 *
 * A ticket holds what its client needs to resume: in TLS 1.2 this is what the old session's records
 * are encrypted with. So whoever gets hold of the keys can read recorded sessions, and they must
 * not follow from anything that is kept for long, such as the private key of the certificate. Each
 * period (tls.ticketLifetime) has keys of its own, made by HKDF-SHA256 from a secret, the number of
 * the period and an identity (certificate and authorities): a ticket is good for the certificate it
 * was made under only.
 *
 * Without a file the secret is random, in memory only, and another one in each period. With a file
 * (tls.ticketKeys) every process that reads it comes to the same keys without any exchange; the
 * secret that a changed file replaces is good for one more lifetime.
 *
 * Loop thread only. May include: base/.
 */
#ifndef MESA_IO_TLS_TICKETS_H
#define MESA_IO_TLS_TICKETS_H

#include <openssl/ssl.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <time.h>

#include "base/status.h"

enum {
    MESA_TLS_DIGEST_BYTES = 32, /* SHA-256 */
    MESA_TICKET_NAME_BYTES = 16,
    MESA_TICKET_KEYS_MAX = 6, /* two secrets, three periods */
};

struct mesa_tls_tickets; /* opaque, reference-counted */

struct mesa_ticket_key {
    unsigned char name[MESA_TICKET_NAME_BYTES]; /* in the ticket, to find the key by */
    unsigned char cipher[32], mac[32];
};

/* The keys of one identity, made anew when a period begins or the secret changes. */
struct mesa_ticket_cache {
    unsigned char identity[MESA_TLS_DIGEST_BYTES];
    uint64_t made;                                     /* 0: not yet */
    struct mesa_ticket_key keys[MESA_TICKET_KEYS_MAX]; /* the first is for new tickets */
    size_t count;
};

enum mesa_status mesa_tls_tickets_new(struct mesa_tls_tickets **out, uint32_t lifetime_ms);
struct mesa_tls_tickets *mesa_tls_tickets_ref(struct mesa_tls_tickets *t);
/* NULL is accepted. */
void mesa_tls_tickets_unref(struct mesa_tls_tickets *t);

/* Uses this secret from `now` on; the same again has no effect. */
void mesa_tls_tickets_use(struct mesa_tls_tickets *t,
                          const unsigned char secret[MESA_TLS_DIGEST_BYTES], time_t now);
/* Brings `cache` up to date. False: no keys can be had. */
bool mesa_tls_tickets_keys(struct mesa_tls_tickets *t, struct mesa_ticket_cache *cache, time_t now);
void mesa_ticket_cache_deinit(struct mesa_ticket_cache *cache);

/* Has a context seal its tickets. `t` may be NULL: there are none. */
void mesa_tls_tickets_install(struct mesa_tls_tickets *t, SSL_CTX *ctx);

#endif
