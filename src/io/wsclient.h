/* wsclient.h - one outgoing WebSocket connection, from the name lookup to its end.
 *
 * Loop thread only. Knows nothing of Mesa's envelope and never calls Lua. It reassembles fragments,
 * bounds what it buffers in both directions and does the closing handshake. May include: base/, io/.
 */
#ifndef MESA_IO_WSCLIENT_H
#define MESA_IO_WSCLIENT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/buf.h"
#include "base/status.h"
#include "io/transport.h"

struct mesa_wsclient; /* opaque */

struct mesa_wsclient_config {
    const char *url;          /* ws:// or wss:// */
    const char *ca;           /* PEM file of trusted authorities; NULL: the system's */
    uint32_t timeout_ms;      /* for lookup, connection, TLS and upgrade together */
    size_t max_payload_bytes; /* of one received message; over it: closed with 1009 */
    size_t max_queue_bytes;   /* that wait to be written */
};

struct mesa_wsclient_hooks {
    void (*on_open)(void *ctx);
    /* One whole message; `data` lives until the callback returns. */
    void (*on_message)(void *ctx, const char *data, size_t len, bool binary);
    /* Everything is written again, after a send that returned MESA_EAGAIN. */
    void (*on_drained)(void *ctx);
    /* The server broke the protocol, or sent too much; the connection is being closed with `code`. */
    void (*on_violation)(void *ctx, int code, const char *text);
    /* The last callback. `error` says why there was never a connection, else it is NULL. `code` is
     * the peer's, 1005 when it sent none, 1006 without a closing handshake; this side's own when it
     * closed first. The client remains to be freed. */
    void (*on_close)(void *ctx, int code, const char *reason, size_t len, const char *error);
};

/* Begins to connect; the hooks come in later turns. MESA_EINVAL: the URL or the authorities are
 * unusable, `err` says how; MESA_ENOMEM; MESA_EIO. */
enum mesa_status mesa_wsclient_connect(struct mesa_wsclient **out, struct mesa_transport *t,
                                       const struct mesa_wsclient_config *cfg,
                                       const struct mesa_wsclient_hooks *hooks, void *ctx,
                                       char *err, size_t err_len);
/* Queues one text message. MESA_EAGAIN: over the bound, refused; MESA_ECLOSED; MESA_ENOMEM. */
enum mesa_status mesa_wsclient_send(struct mesa_wsclient *c, const char *text, size_t len);
/* Writes what is queued, then closes; on_close follows, at the latest after 5 s. One that is not
 * open yet is given up. */
void mesa_wsclient_close(struct mesa_wsclient *c, int code, const char *reason, size_t len);
/* Stops and restarts reading. A buffer that was already read may still be delivered. */
void mesa_wsclient_pause(struct mesa_wsclient *c, bool pause);
/* Ends the connection without a word if there still is one; no hook is called any more. Hooks may
 * call it. NULL is accepted. */
void mesa_wsclient_free(struct mesa_wsclient *c);

#endif
