/* client_common.h - what outgoing connections share: name lookups that do not block, and
 * libwebsockets' virtual host for each set of trusted authorities.
 *
 * Loop thread only. Never calls Lua. For the files of io/ that connect to somebody; nobody else
 * includes it. May include: base/, io/, libwebsockets.h.
 */
#ifndef MESA_IO_CLIENT_COMMON_H
#define MESA_IO_CLIENT_COMMON_H

#include <libwebsockets.h>

#include "base/status.h"
#include "io/loop.h"
#include "io/transport.h"

struct mesa_lookup; /* opaque: a name being looked up */

/* `address` is numeric, or NULL with the reason in `err`; both live until the callback returns. The
 * lookup is over and freed. */
typedef void (*mesa_lookup_fn)(void *ctx, const char *address, const char *err);

/* Looks up `host`, a name or a numeric address; `fn` is called in a later turn. */
enum mesa_status mesa_lookup_start(struct mesa_lookup **out, struct mesa_loop *loop,
                                   const char *host, mesa_lookup_fn fn, void *ctx);
/* `fn` will not be called. NULL is accepted. */
void mesa_lookup_cancel(struct mesa_lookup *l);

/* What libwebsockets' opaque_user_data of an outgoing connection points to: its callback, embedded
 * as the first thing the connection's owner wants to find again. After lws_set_opaque_user_data(wsi,
 * NULL) the owner hears nothing more. */
struct mesa_outgoing {
    int (*callback)(struct mesa_outgoing *o, struct lws *wsi, enum lws_callback_reasons reason,
                    void *in, size_t len);
};

/* The virtual host of connections that trust the authorities in the PEM file `ca`, the system's when
 * NULL. It lives as long as the transport. `err` says what is wrong with `ca`. Its only protocol is
 * "mesa-client"; ALPN offers http/1.1. */
enum mesa_status mesa_client_vhost(struct mesa_transport *t, const char *ca,
                                   struct lws_vhost **out, char *err, size_t err_len);
/* Frees what those virtual hosts used; they are gone. */
void mesa_client_free_shared(struct mesa_transport *t);
struct lws_context *mesa_client_context(struct mesa_transport *t);
struct mesa_loop *mesa_client_loop(struct mesa_transport *t);

#endif
