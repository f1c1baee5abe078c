/* client_common.h - what outgoing connections share: name lookups that do not block, and
 * libwebsockets' virtual host for each set of trusted authorities.
 *
 * Loop thread only. Never calls Lua. For the files of io/ that connect to somebody; nobody else
 * includes it. May include: base/, io/, libwebsockets.h.
 */
#ifndef MESA_IO_CLIENT_COMMON_H
#define MESA_IO_CLIENT_COMMON_H

#include <libwebsockets.h>
#include <stdbool.h>
#include <stddef.h>

#include "base/list.h"
#include "base/status.h"
#include "io/loop.h"
#include "io/transport.h"

struct mesa_lookup; /* opaque: a name being looked up */

enum { MESA_ADDRESSES_MAX = 8 };

struct mesa_addresses {
    size_t count;                      /* at least one */
    char text[MESA_ADDRESSES_MAX][64]; /* numeric, in the order they are to be tried */
};

/* `found` is NULL when there are none, with the reason in `err`; both live until the callback
 * returns. The lookup is over and freed. */
typedef void (*mesa_lookup_fn)(void *ctx, const struct mesa_addresses *found, const char *err);

/* Looks up `host`, a name or a numeric address; `fn` is called in a later turn. */
enum mesa_status mesa_lookup_start(struct mesa_lookup **out, struct mesa_loop *loop,
                                   const char *host, mesa_lookup_fn fn, void *ctx);
/* `fn` will not be called. NULL is accepted. */
void mesa_lookup_cancel(struct mesa_lookup *l);

/* An outgoing connection as libwebsockets knows it: its opaque_user_data. The first member of a
 * block from malloc that its owner gives up with mesa_outconn_release. */
struct mesa_outconn {
    struct mesa_list link; /* transport->outgoing or ->released, while libwebsockets may know it */
    struct lws *wsi;       /* NULL before, and once libwebsockets has let go of it */
    /* NULL once released. Also called for WSI_DESTROY, with `wsi` above already NULL. */
    int (*callback)(struct mesa_outconn *o, enum lws_callback_reasons reason, void *in, size_t len);
};

/* Connects as `info` says; context, protocol handler and opaque_user_data are filled in here. False:
 * it failed at once, with no callback for it. */
bool mesa_outconn_connect(struct mesa_transport *t, struct lws_client_connect_info *info,
                          struct mesa_outconn *o);
/* No callback comes any more; the socket is ended at the end of the turn, and the block freed when
 * libwebsockets has let go of it. May be called from the callback. */
void mesa_outconn_release(struct mesa_transport *t, struct mesa_outconn *o);
/* The transport's end of a turn. */
void mesa_outconn_turn(struct mesa_transport *t);

/* Makes libwebsockets ready unless it is; false: it cannot be. */
bool mesa_client_context(struct mesa_transport *t);
/* Runs the loop for a few turns; not from inside one. */
void mesa_client_context_free(struct mesa_transport *t);

/* The virtual host of connections without TLS, or with TLS that trust the authorities in the PEM file
 * `ca`, the system's when NULL. It lives as long as the transport. `err` says what is wrong with `ca`. Its only protocol is
 * "mesa-client"; ALPN offers http/1.1. */
enum mesa_status mesa_client_vhost(struct mesa_transport *t, bool secure, const char *ca,
                                   struct lws_vhost **out, char *err, size_t err_len);
/* Frees what those virtual hosts used; they are gone. */
void mesa_client_free_shared(struct mesa_transport *t);
struct mesa_loop *mesa_client_loop(struct mesa_transport *t);

#endif
