/* tls_tickets.c - see tls_tickets.h. */
#include "io/tls_tickets.h"

#include <openssl/core_names.h>
#include <openssl/crypto.h>
#include <openssl/err.h>
#include <openssl/evp.h>
#include <openssl/kdf.h>
#include <openssl/rand.h>
#include <stdlib.h>
#include <string.h>

#include "io/tls_internal.h"

struct secret {
    unsigned char bytes[MESA_TLS_DIGEST_BYTES];
    bool set;
};

struct mesa_tls_tickets {
    unsigned refs;
    uint64_t period_s;
    struct secret current, previous;
    bool shared;       /* the secret is a file's */
    uint64_t period;   /* in which `current` was made, or came */
    time_t replaced;   /* when `previous` was */
    uint64_t versions; /* counts what makes other keys: secrets and periods */
};

enum mesa_status mesa_tls_tickets_new(struct mesa_tls_tickets **out, uint32_t lifetime_ms)
{
    struct mesa_tls_tickets *t = calloc(1, sizeof *t);
    if (t == NULL)
        return MESA_ENOMEM;
    t->refs = 1;
    t->period_s = lifetime_ms / 1000;
    *out = t;
    return MESA_OK;
}

struct mesa_tls_tickets *mesa_tls_tickets_ref(struct mesa_tls_tickets *t)
{
    if (t != NULL)
        t->refs++;
    return t;
}

void mesa_tls_tickets_unref(struct mesa_tls_tickets *t)
{
    if (t == NULL || --t->refs > 0)
        return;
    OPENSSL_cleanse(t, sizeof *t);
    free(t);
}

/* -- secrets -- */

void mesa_tls_tickets_use(struct mesa_tls_tickets *t,
                          const unsigned char secret[MESA_TLS_DIGEST_BYTES], time_t now)
{
    if (t->current.set && memcmp(t->current.bytes, secret, MESA_TLS_DIGEST_BYTES) == 0)
        return;
    t->previous = t->current;
    t->replaced = now;
    memcpy(t->current.bytes, secret, MESA_TLS_DIGEST_BYTES);
    t->current.set = t->shared = true;
    t->versions++;
}

/* Makes the secret of a period when there is no file; forgets what is not accepted any more. */
static bool turn(struct mesa_tls_tickets *t, time_t now)
{
    uint64_t period = (uint64_t)now / t->period_s;
    bool late = t->previous.set && t->shared && (uint64_t)(now - t->replaced) >= t->period_s;
    if (late)
        OPENSSL_cleanse(&t->previous, sizeof t->previous);
    if (t->current.set && period == t->period) {
        t->versions += late;
        return true;
    }
    if (!t->shared) {
        if (t->current.set && period == t->period + 1)
            t->previous = t->current;
        else
            OPENSSL_cleanse(&t->previous, sizeof t->previous);
        t->current.set = RAND_bytes(t->current.bytes, sizeof t->current.bytes) == 1;
    }
    t->period = period;
    t->versions++;
    return t->current.set;
}

static bool derive(const struct secret *secret, const unsigned char identity[MESA_TLS_DIGEST_BYTES],
                   uint64_t period, struct mesa_ticket_key *out)
{
    static char digest[] = "SHA256", label[] = "mesa-lua session tickets 1";
    unsigned char info[MESA_TLS_DIGEST_BYTES + 8];
    unsigned char bytes[sizeof out->name + sizeof out->cipher + sizeof out->mac];
    memcpy(info, identity, MESA_TLS_DIGEST_BYTES);
    for (int i = 0; i < 8; i++)
        info[MESA_TLS_DIGEST_BYTES + i] = (unsigned char)(period >> (8 * i));
    OSSL_PARAM params[] = {
        OSSL_PARAM_construct_utf8_string(OSSL_KDF_PARAM_DIGEST, digest, 0),
        OSSL_PARAM_construct_octet_string(OSSL_KDF_PARAM_KEY, (void *)(uintptr_t)secret->bytes,
                                          sizeof secret->bytes),
        OSSL_PARAM_construct_octet_string(OSSL_KDF_PARAM_SALT, label, sizeof label - 1),
        OSSL_PARAM_construct_octet_string(OSSL_KDF_PARAM_INFO, info, sizeof info),
        OSSL_PARAM_construct_end(),
    };
    EVP_KDF *kdf = EVP_KDF_fetch(NULL, "HKDF", NULL);
    EVP_KDF_CTX *ctx = kdf != NULL ? EVP_KDF_CTX_new(kdf) : NULL;
    bool made = ctx != NULL && EVP_KDF_derive(ctx, bytes, sizeof bytes, params) == 1;
    if (made) {
        memcpy(out->name, bytes, sizeof out->name);
        memcpy(out->cipher, bytes + sizeof out->name, sizeof out->cipher);
        memcpy(out->mac, bytes + sizeof out->name + sizeof out->cipher, sizeof out->mac);
    }
    OPENSSL_cleanse(bytes, sizeof bytes);
    EVP_KDF_CTX_free(ctx);
    EVP_KDF_free(kdf);
    ERR_clear_error();
    return made;
}

bool mesa_tls_tickets_keys(struct mesa_tls_tickets *t, struct mesa_ticket_cache *cache, time_t now)
{
    if (!turn(t, now))
        return false;
    if (cache->made == t->versions)
        return true;
    /* the next period, too: the clock of who made the ticket may be ahead of this one's */
    const uint64_t periods[] = {t->period, t->period - 1, t->period + 1};
    const struct secret *secrets[] = {&t->current, &t->previous};
    cache->count = 0;
    for (size_t s = 0; s < 2; s++)
        for (size_t p = 0; p < 3 && secrets[s]->set; p++)
            if (derive(secrets[s], cache->identity, periods[p], &cache->keys[cache->count]))
                cache->count++;
            else if (s == 0 && p == 0)
                return false; /* a later one is no key for new tickets */
    cache->made = t->versions;
    return true;
}

void mesa_ticket_cache_deinit(struct mesa_ticket_cache *cache)
{
    OPENSSL_cleanse(cache, sizeof *cache);
}

/* -- OpenSSL's side -- */

static const struct mesa_ticket_key *find_key(const struct mesa_ticket_cache *cache,
                                              const unsigned char *name)
{
    for (size_t i = 0; i < cache->count; i++)
        if (memcmp(cache->keys[i].name, name, MESA_TICKET_NAME_BYTES) == 0)
            return &cache->keys[i];
    return NULL;
}

static bool set_mac(EVP_MAC_CTX *mac, const struct mesa_ticket_key *key)
{
    static char digest[] = "SHA256";
    OSSL_PARAM params[] = {
        OSSL_PARAM_construct_octet_string(OSSL_MAC_PARAM_KEY, (void *)(uintptr_t)key->mac,
                                          sizeof key->mac),
        OSSL_PARAM_construct_utf8_string(OSSL_MAC_PARAM_DIGEST, digest, 0),
        OSSL_PARAM_construct_end(),
    };
    return EVP_MAC_CTX_set_params(mac, params) == 1;
}

/* As SSL_CTX_set_tlsext_ticket_key_evp_cb says. 0: no ticket; 2: resumed, and another ticket is
 * due. */
static int on_ticket(SSL *ssl, unsigned char *name, unsigned char *iv, EVP_CIPHER_CTX *cipher,
                     EVP_MAC_CTX *mac, int seal)
{
    struct mesa_tls_pair *pair = SSL_CTX_get_app_data(SSL_get_SSL_CTX(ssl));
    struct mesa_ticket_cache *cache = &pair->tickets;
    if (!mesa_tls_tickets_keys(pair->context->tickets, cache, time(NULL)))
        return 0;
    if (seal) {
        const struct mesa_ticket_key *key = &cache->keys[0];
        int iv_len = EVP_CIPHER_get_iv_length(EVP_aes_256_cbc());
        if (RAND_bytes(iv, iv_len) != 1 || !set_mac(mac, key) ||
            EVP_EncryptInit_ex(cipher, EVP_aes_256_cbc(), NULL, key->cipher, iv) != 1)
            return -1;
        memcpy(name, key->name, MESA_TICKET_NAME_BYTES);
        return 1;
    }
    const struct mesa_ticket_key *key = find_key(cache, name);
    if (key == NULL)
        return 0;
    if (!set_mac(mac, key) ||
        EVP_DecryptInit_ex(cipher, EVP_aes_256_cbc(), NULL, key->cipher, iv) != 1)
        return -1;
    /* of TLS 1.3 each ticket is for one use (RFC 8446 appendix C.4) */
    return key != &cache->keys[0] || SSL_version(ssl) >= TLS1_3_VERSION ? 2 : 1;
}

/* Nothing verifies the client's certificate again when a session is resumed: one that has
 * expired since then is to be shown, and refused, in a full handshake. */
static SSL_TICKET_RETURN on_opened(SSL *ssl, SSL_SESSION *session, const unsigned char *name,
                                   size_t name_len, SSL_TICKET_STATUS status, void *ctx)
{
    (void)ssl;
    (void)name;
    (void)name_len;
    (void)ctx;
    if (status != SSL_TICKET_SUCCESS && status != SSL_TICKET_SUCCESS_RENEW)
        return SSL_TICKET_RETURN_IGNORE_RENEW;
    const X509 *peer = SSL_SESSION_get0_peer(session);
    if (peer != NULL && X509_cmp_current_time(X509_get0_notAfter(peer)) < 0)
        return SSL_TICKET_RETURN_IGNORE_RENEW;
    return status == SSL_TICKET_SUCCESS ? SSL_TICKET_RETURN_USE : SSL_TICKET_RETURN_USE_RENEW;
}

void mesa_tls_tickets_install(struct mesa_tls_tickets *t, SSL_CTX *ctx)
{
    if (t == NULL || t->period_s == 0) {
        SSL_CTX_set_options(ctx, SSL_OP_NO_TICKET);
        SSL_CTX_set_num_tickets(ctx, 0); /* of TLS 1.3, which would stand for a cache */
        return;
    }
    SSL_CTX_set_timeout(ctx, (long)t->period_s);
    SSL_CTX_set_tlsext_ticket_key_evp_cb(ctx, on_ticket);
    SSL_CTX_set_session_ticket_cb(ctx, NULL, on_opened, NULL);
}
