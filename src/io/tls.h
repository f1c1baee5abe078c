/* tls.h - the server's side of TLS over a connected socket, by OpenSSL: a byte channel.
 *
 * A session belongs to one socket, which it neither opens nor closes; what it shares with others
 * is in a context (tls_context.h). Reads and writes never block. Knows no connection and no
 * loop: the owner polls the socket, and asks `more` whether bytes wait that no poll will tell
 * of. Loop thread only. May include: base/.
 */
#ifndef MESA_IO_TLS_H
#define MESA_IO_TLS_H

#include <stdbool.h>
#include <stddef.h>
#include <sys/types.h>

#include "base/status.h"

struct mesa_tls_context;
struct mesa_certificate;

struct mesa_tls {
    struct ssl_st *ssl;
    struct mesa_tls_context *context; /* a reference */
    char *distrusted; /* what was wrong with the client's certificate; NULL: nothing so far */
    bool ready;       /* the handshake is done */
    bool more; /* the last read stopped because its buffer was full: read again without polling */
    bool wants_write; /* the last handshake step or read waits for the socket to take bytes */
    bool ended;       /* the peer has said that nothing more comes, or hung up */
    bool failed;      /* nothing can be read or written any more */
};

/* MESA_ENOMEM. */
enum mesa_status mesa_tls_init(struct mesa_tls *t, struct mesa_tls_context *ctx, int fd);
void mesa_tls_deinit(struct mesa_tls *t);

/* Goes on with the handshake as far as the socket allows. MESA_OK: it is done. MESA_EAGAIN:
 * poll, for writing too when `wants_write`. MESA_ECLOSED: the peer has left. MESA_EPROTO: it
 * failed; the peer was told, and `why` says what happened, for people. */
enum mesa_status mesa_tls_handshake(struct mesa_tls *t, char *why, size_t why_len);
/* Whether a byte of the handshake has come. */
bool mesa_tls_has_begun(const struct mesa_tls *t);
/* The client's certificate, which was verified. MESA_ENOTFOUND: it has shown none. MESA_ENOMEM. */
enum mesa_status mesa_tls_certificate(const struct mesa_tls *t, struct mesa_certificate **out);

/* As recv(): bytes, 0 at the peer's end, -1 with errno EAGAIN, or another one for a dead
 * session. */
ssize_t mesa_tls_read(struct mesa_tls *t, char *out, size_t len);
/* As send(). What is not taken must be given again, the same bytes at the front. */
ssize_t mesa_tls_write(struct mesa_tls *t, const char *bytes, size_t len);
/* Tells the peer that nothing follows (close_notify); only when all that was written was taken. */
void mesa_tls_shutdown(struct mesa_tls *t);

#endif
