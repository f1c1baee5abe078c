/* client_tls.h - TLS sessions of outgoing connections, and the authorities they trust.
 *
 * A session knows no socket: its owner feeds it what arrived, and is given what is to be sent. Loop
 * thread only. May include: base/, OpenSSL.
 */
#ifndef MESA_IO_CLIENT_TLS_H
#define MESA_IO_CLIENT_TLS_H

#include <openssl/ssl.h>
#include <stdbool.h>
#include <stddef.h>

#include "base/list.h"
#include "base/status.h"

/* What has been read: SSL_CTXs by their file. The list is the owner's, empty at first. */
void mesa_client_tls_clear(struct mesa_list *authorities);

/* Whether the authorities in the PEM file `ca` (NULL: the system's) can be used; `err` says why they
 * cannot. */
bool mesa_client_tls_check(struct mesa_list *authorities, const char *ca, char *err,
                           size_t err_len);
/* A session with `host`, a name or an address, over memory BIOs. `insecure`: whoever answers is
 * trusted. On failure `err` says why. */
enum mesa_status mesa_client_tls_new(SSL **out, struct mesa_list *authorities, const char *ca,
                                     const char *host, bool insecure, char *err, size_t err_len);

/* Takes what the session sends: bytes for the peer, valid until it returns. */
typedef enum mesa_status (*mesa_client_tls_put)(void *owner, const void *bytes, size_t len);

enum mesa_client_tls_step {
    MESA_CLIENT_TLS_DONE,   /* the handshake is over, or bytes have been read */
    MESA_CLIENT_TLS_WAITS,  /* for more from the peer */
    MESA_CLIENT_TLS_ENDED,  /* by the peer, in order */
    MESA_CLIENT_TLS_FAILED, /* the session is of no use any more */
};

/* Hands the session what has arrived. False: not enough memory. */
bool mesa_client_tls_feed(SSL *ssl, const void *bytes, size_t len);
/* Goes on with the handshake: done, waits or failed. `err` says why it failed; `put` gets the alert
 * that tells the server, too. */
enum mesa_client_tls_step mesa_client_tls_handshake(SSL *ssl, mesa_client_tls_put put, void *owner,
                                                    char *err, size_t err_len);
/* Decrypts up to `room` of the bytes that were fed; anything but done means that there are no more,
 * and `put` may have got answers of TLS itself. */
enum mesa_client_tls_step mesa_client_tls_read(SSL *ssl, mesa_client_tls_put put, void *owner,
                                               char *to, size_t room, size_t *len);
/* Encrypts the bytes. MESA_ECLOSED, or what `put` returned. */
enum mesa_status mesa_client_tls_write(SSL *ssl, mesa_client_tls_put put, void *owner,
                                       const void *bytes, size_t len);
/* Tells the peer that nothing more comes (close_notify); only after the handshake. */
void mesa_client_tls_end(SSL *ssl, mesa_client_tls_put put, void *owner);

#endif
