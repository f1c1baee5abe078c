/* tls.h - TLS on a connected, non-blocking socket, with the manners of recv and send.
 *
 * Single thread. The caller owns the socket. May include: OpenSSL.
 */
#ifndef MESA_BENCH_TLS_H
#define MESA_BENCH_TLS_H

#include <stdbool.h>
#include <stddef.h>
#include <sys/types.h>

struct tls_context;
struct tls;

/* Trusts the certificate in the PEM file `trusted` and no other. NULL: it cannot be read. */
struct tls_context *tls_context_new(const char *trusted);
void tls_context_free(struct tls_context *context);

/* NULL: no memory. */
struct tls *tls_new(struct tls_context *context, int fd);
void tls_free(struct tls *tls);

/* Bytes, 0 at the end of the stream, or -1 with errno: EAGAIN when the socket has to become ready, EPROTO when TLS failed.
 * `tls_read` takes all there is, so that the socket becomes readable again when there is more. */
ssize_t tls_read(struct tls *tls, void *out, size_t cap);
ssize_t tls_write(struct tls *tls, const void *data, size_t len);

/* After EAGAIN of tls_write: it is the server that has to say something, not the socket that is full. */
bool tls_waits_for_server(const struct tls *tls);

#endif
