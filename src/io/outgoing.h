/* outgoing.h - one outgoing connection: TCP, and TLS over it where it is wanted.
 *
 * Loop thread only. Knows nothing of what is said on it. Whatever may close it is called last in a
 * turn of libuv. May include: base/, io/, OpenSSL.
 */
#ifndef MESA_IO_OUTGOING_H
#define MESA_IO_OUTGOING_H

#include <openssl/ssl.h>
#include <stdbool.h>
#include <stddef.h>
#include <uv.h>

#include "base/status.h"

enum mesa_outgoing_state {
    MESA_OUTGOING_OPEN,
    MESA_OUTGOING_ENDED,  /* by the peer, in order */
    MESA_OUTGOING_BROKEN, /* bytes may be missing */
};

struct mesa_outgoing;

struct mesa_outgoing_hooks {
    /* Connected, TLS included. */
    void (*on_ready)(struct mesa_outgoing *o);
    /* There was never a connection; `code` is CONNECT or TLS. */
    void (*on_failed)(struct mesa_outgoing *o, const char *code, const char *why);
    /* Some bytes, several times in a turn. Must not close it. False: no more of this turn's. */
    bool (*on_bytes)(struct mesa_outgoing *o, const char *data, size_t len);
    /* The bytes of this turn have been given; `why` unless it is open. */
    void (*on_turn)(struct mesa_outgoing *o, enum mesa_outgoing_state state, const char *why);
    /* Everything written is with the kernel. NULL: nobody wants to know. */
    void (*on_drained)(struct mesa_outgoing *o);
    /* libuv has let go of it: the memory it is in can be freed. */
    void (*on_closed)(struct mesa_outgoing *o);
};

struct mesa_outgoing {
    uv_tcp_t tcp;
    uv_connect_t connect;
    const struct mesa_outgoing_hooks *hooks;
    SSL *ssl;    /* NULL without TLS */
    uv_buf_t in; /* where to read to; shared by all connections of an owner */
    bool ready, closing;
};

/* Begins to connect. `ssl`, NULL without TLS, and `in` are set before and given up to it. A status
 * of libuv; on failure it must be closed all the same. */
int mesa_outgoing_open(struct mesa_outgoing *o, uv_loop_t *loop, const struct sockaddr *address);
/* No hook but on_closed comes any more. */
void mesa_outgoing_close(struct mesa_outgoing *o);
/* Queues the bytes. MESA_ENOMEM, MESA_ECLOSED. */
enum mesa_status mesa_outgoing_write(struct mesa_outgoing *o, const void *bytes, size_t len);
/* What the kernel has not taken. */
size_t mesa_outgoing_queued(const struct mesa_outgoing *o);
/* Stops and restarts reading. */
void mesa_outgoing_pause(struct mesa_outgoing *o, bool pause);
/* Tells the peer that nothing more comes, behind what is queued. */
void mesa_outgoing_end(struct mesa_outgoing *o);

#endif
