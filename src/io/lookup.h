/* lookup.h - where a host is, found without blocking.
 *
 * Loop thread only. May include: base/, io/loop.h.
 */
#ifndef MESA_IO_LOOKUP_H
#define MESA_IO_LOOKUP_H

#include <stddef.h>

#include "base/status.h"
#include "io/loop.h"

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

#endif
