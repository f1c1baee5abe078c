/* outconn.h - one outgoing connection: a raw socket of libwebsockets, with TLS over it or without.
 *
 * libwebsockets connects, waits for the socket and reads. TLS is a session of OpenSSL between it and
 * the owner: libwebsockets 4.1.6 begins TLS of a raw socket before there is a socket, and fails.
 * Loop thread only. Knows nothing of what is said on it, and never calls Lua. May include: base/,
 * io/, libwebsockets.h, OpenSSL.
 */
#ifndef MESA_IO_OUTCONN_H
#define MESA_IO_OUTCONN_H

#include <libwebsockets.h>
#include <openssl/ssl.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/buf.h"
#include "base/list.h"
#include "base/status.h"
#include "io/transport.h"

enum mesa_outconn_state {
    MESA_OUTCONN_OPEN,
    MESA_OUTCONN_ENDED, /* nothing more comes */
};

struct mesa_outconn;

/* Each may release the connection, but for on_bytes. */
struct mesa_outconn_hooks {
    /* Connected, TLS included. */
    void (*on_ready)(struct mesa_outconn *o);
    /* There was never a connection; `why` is for people. */
    void (*on_failed)(struct mesa_outconn *o, const char *why);
    /* Some bytes; may come several times before on_turn. */
    void (*on_bytes)(struct mesa_outconn *o, const char *data, size_t len);
    /* All bytes that have arrived have been given; `why` unless it is open. */
    void (*on_turn)(struct mesa_outconn *o, enum mesa_outconn_state state, const char *why);
    /* The kernel has taken all, after mesa_outconn_want_drained. */
    void (*on_drained)(struct mesa_outconn *o);
};

/* The first member of a block from calloc, which belongs to this file once it is opened. */
struct mesa_outconn {
    struct mesa_list link; /* transport->outgoing or ->released, while libwebsockets may know it */
    struct mesa_list unsent; /* transport->unsent, while the end of the turn is to write */
    struct mesa_transport *transport;
    const struct mesa_outconn_hooks *hooks; /* NULL once released */
    struct lws *wsi;     /* NULL before, and once libwebsockets has let go of it */
    SSL *ssl;            /* NULL without TLS */
    struct mesa_buf out; /* for the socket; its first `written` bytes are gone */
    size_t written;
    bool connected; /* without TLS */
    bool ready;     /* TLS included */
    bool over;      /* nothing more comes, and the owner has been told */
    bool closed;    /* libwebsockets closes the socket */
    bool ending;    /* nothing follows what is in `out` */
    bool refused;   /* the kernel takes nothing any more */
    bool want_drained;
};

/* Begins to connect to a numeric address. `ssl`, NULL without TLS, is given up to it. Hooks may come
 * before it returns. False: it failed at once, and must be released without a hook. */
bool mesa_outconn_open(struct mesa_outconn *o, struct mesa_transport *t, const char *address,
                       uint16_t port, SSL *ssl, const struct mesa_outconn_hooks *hooks);
/* No hook comes any more. What is queued is offered to the kernel once more at the end of the turn;
 * then the socket is closed, after TLS has said so. */
void mesa_outconn_release(struct mesa_outconn *o);
/* Queues the bytes; they go out together at the end of the turn. MESA_ENOMEM, MESA_ECLOSED. */
enum mesa_status mesa_outconn_write(struct mesa_outconn *o, const void *bytes, size_t len);
/* Bytes that the kernel has not taken. */
size_t mesa_outconn_queued(const struct mesa_outconn *o);
/* Calls on_drained in a later turn, once. */
void mesa_outconn_want_drained(struct mesa_outconn *o);
/* Stops and restarts reading. */
void mesa_outconn_pause(struct mesa_outconn *o, bool pause);
/* Tells the peer that nothing more comes, behind what is queued. */
void mesa_outconn_end(struct mesa_outconn *o);

/* The transport's end of a turn. */
void mesa_outconn_turn(struct mesa_transport *t);
/* Frees what libwebsockets has not told the end of; it is gone. */
void mesa_outconn_free_all(struct mesa_transport *t);

/* Makes libwebsockets ready unless it is; false: it cannot be. */
bool mesa_client_context(struct mesa_transport *t);
/* Runs the loop for a few turns; not from inside one. */
void mesa_client_context_free(struct mesa_transport *t);

#endif
