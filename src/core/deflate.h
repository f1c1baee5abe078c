/* deflate.h - compresses and inflates messages (RFC 7692 section 7.2), with zlib.
 *
 * A direction whose window is not kept from message to message has no state: all connections share the
 * process's streams, and a frame is compressed once for all who have a window of the same size. A window
 * that is kept belongs to its connection. Loop thread only. May include: base/, core/frame.h,
 * core/deflate_offer.h.
 */
#ifndef MESA_CORE_DEFLATE_H
#define MESA_CORE_DEFLATE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/buf.h"
#include "base/status.h"
#include "core/deflate_offer.h"
#include "core/frame.h"

enum {
    /* Of a window that is kept. 4 KB hold the last few dozen messages of a chat; twice as much makes them
     * hardly smaller. */
    MESA_DEFLATE_KEPT_BITS = 12,
    MESA_DEFLATE_LEVEL = 6,
};

struct mesa_deflate_streams; /* of a process */
struct mesa_deflate;         /* of a connection */

struct mesa_deflate_options {
    bool takeover;     /* keep windows, where the client agrees */
    int level;         /* 1 to 9 */
    size_t max_memory; /* of all windows that are kept; beyond it none is, for who comes then */
};

enum mesa_status mesa_deflate_streams_new(struct mesa_deflate_streams **out);
/* Every connection was freed. NULL is accepted. */
void mesa_deflate_streams_free(struct mesa_deflate_streams *s);
/* Bytes that the connections there are have or may come to have. */
size_t mesa_deflate_reserved(const struct mesa_deflate_streams *s);
/* Bytes they have now. */
size_t mesa_deflate_allocated(const struct mesa_deflate_streams *s);

/* Begins a connection on what is agreed with `header`, its Sec-WebSocket-Extensions. MESA_ENOTFOUND: it
 * goes without compression. MESA_EPROTO as mesa_deflate_negotiate. MESA_ENOMEM. */
enum mesa_status mesa_deflate_new(struct mesa_deflate **out, struct mesa_deflate_streams *s,
                                  struct mesa_span header,
                                  const struct mesa_deflate_options *options);
/* NULL is accepted. */
void mesa_deflate_free(struct mesa_deflate *d);
const struct mesa_deflate_terms *mesa_deflate_terms(const struct mesa_deflate *d);

/* Appends what a whole compressed message says to `out`. MESA_ETOOBIG: more than `max_bytes`; `out` has
 * never grown much beyond. MESA_EPROTO: it is damaged. MESA_ENOMEM. After each of these the connection
 * can read no further message. */
enum mesa_status mesa_deflate_read(struct mesa_deflate *d, struct mesa_span message,
                                   size_t max_bytes, struct mesa_buf *out);

/* The frame to send instead of `f`, a message: one that lives as long as `f`, or `f` itself when it does
 * not get smaller. For connections whose out window is not kept. */
struct mesa_frame *mesa_deflate_frame(struct mesa_deflate *d, struct mesa_frame *f);

/* The same for one whose window is kept: appends the frame to send to `out`. From then on it must be
 * sent, before anything else. MESA_ENOMEM: the connection can send no further message. */
enum mesa_status mesa_deflate_write(struct mesa_deflate *d, const struct mesa_frame *f,
                                    struct mesa_buf *out);

#endif
