/* forwarded.h - who a request comes from when proxies have passed it on.
 *
 * Each proxy appends the address of its own peer to X-Forwarded-For, or to Forwarded (RFC 7239). Anybody
 * can send such a header, so only what a believed proxy has appended counts: the list is walked from the
 * right, as long as whoever appended the entry is believed. Pure. May include: base/, core/address.h.
 */
#ifndef MESA_CORE_FORWARDED_H
#define MESA_CORE_FORWARDED_H

#include "core/address.h"

/* What the request says about itself; absent where there is no such header. */
struct mesa_forwarding {
    struct mesa_span list;      /* X-Forwarded-For */
    struct mesa_span scheme;    /* X-Forwarded-Proto */
    struct mesa_span forwarded; /* Forwarded; only looked at without `list` */
};

/* Who a request comes from. */
struct mesa_source {
    struct mesa_address address;
    bool secure; /* it came over TLS there */
};

/* `peer` is who the connection is with; it becomes who the request comes from. It stays as it is when it is
 * not among the `believed`, or when what a believed proxy has written cannot be read. Of an entry that
 * names nobody ("unknown", "_hidden"), the proxy that has written it is left. */
void mesa_forwarded_find(struct mesa_source *peer, const struct mesa_forwarding *headers,
                         const struct mesa_network *believed, size_t count);

#endif
