/* client_tls.h - TLS sessions of outgoing connections, and the authorities they trust.
 *
 * Loop thread only. May include: base/, OpenSSL.
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

/* Whether the authorities in the PEM file `ca` (NULL: the system's) can be used; `err` says why not. */
bool mesa_client_tls_check(struct mesa_list *authorities, const char *ca, char *err,
                           size_t err_len);
/* A session with `host`, a name or an address, over memory BIOs. `insecure`: whoever answers is
 * trusted. On failure `err` says why. */
enum mesa_status mesa_client_tls_new(SSL **out, struct mesa_list *authorities, const char *ca,
                                     const char *host, bool insecure, char *err, size_t err_len);
/* Why the handshake failed. */
void mesa_client_tls_reason(const SSL *ssl, char *out, size_t len);

#endif
