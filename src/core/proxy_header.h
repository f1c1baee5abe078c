/* proxy_header.h - reads the header with which a proxy says whom a connection comes from: the PROXY
 * protocol of HAProxy, version 1 (a line of text) and 2 (binary).
 *
 * It stands in front of everything else, TLS included. Pure. May include: base/, core/address.h.
 */
#ifndef MESA_CORE_PROXY_HEADER_H
#define MESA_CORE_PROXY_HEADER_H

#include "core/address.h"

enum { MESA_PROXY_HEADER_MAX = 4096 }; /* bytes, what version 2 appends (TLVs) included */

struct mesa_proxy_header {
    bool
        known; /* false: the proxy speaks for itself (LOCAL), or does not say (UNKNOWN, Unix sockets) */
    struct mesa_address source;
};

/* Reads the header that `p` begins with, and says in *used how many bytes are its own. MESA_OK: it is
 * whole. MESA_EAGAIN: all of `p` is, and more has to come. MESA_EPROTO: this is none. MESA_ETOOBIG. */
enum mesa_status mesa_proxy_header_read(const char *p, size_t len, struct mesa_proxy_header *out,
                                        size_t *used);

#endif
