/* address.h - addresses of peers, networks of addresses, and which of them are believed.
 *
 * Pure. May include: base/.
 */
#ifndef MESA_CORE_ADDRESS_H
#define MESA_CORE_ADDRESS_H

#include <stdbool.h>
#include <stddef.h>

#include "base/buf.h"
#include "base/status.h"

struct mesa_address {
    unsigned char bytes[16]; /* IPv4 is mapped into IPv6 */
    bool is_unix;            /* a Unix socket; `bytes` mean nothing */
};

/* "10.0.0.0/8", one address, or the peers of Unix sockets. */
struct mesa_network {
    struct mesa_address address;
    unsigned char bits; /* of the 128: how many must be the same */
};

/* An address as text; "unix" for Unix sockets. */
enum { MESA_ADDRESS_TEXT_LEN = 48 };
void mesa_address_text(const struct mesa_address *a, char out[MESA_ADDRESS_TEXT_LEN]);

/* The address with these 4 bytes. */
struct mesa_address mesa_address_ipv4(const void *bytes);

/* Reads "192.0.2.1" or "2001:db8::1", and nothing around it. False: it is neither. */
bool mesa_address_read(struct mesa_address *out, struct mesa_span text);

/* How many bytes of an address count as one peer: all of IPv4, and of IPv6 the /64 that one subscriber is
 * given (RFC 6177). */
size_t mesa_address_key(const struct mesa_address *address);

/* Reads an address, an address and "/bits", or "unix". MESA_EINVAL. */
enum mesa_status mesa_network_read(struct mesa_network *out, struct mesa_span text);

/* Whether one of `networks` has the address. */
bool mesa_networks_have(const struct mesa_network *networks, size_t count,
                        const struct mesa_address *address);

#endif
