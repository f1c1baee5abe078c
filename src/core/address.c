/* address.c - see address.h. */
#include "core/address.h"

#include <arpa/inet.h>
#include <string.h>

enum { IPV4_OFFSET = 12, IPV4_BITS_BEFORE = 96 };

static const unsigned char mapped[IPV4_OFFSET] = {0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff};

static bool is_ipv4(const struct mesa_address *a)
{
    return memcmp(a->bytes, mapped, sizeof mapped) == 0;
}

void mesa_address_text(const struct mesa_address *a, char out[MESA_ADDRESS_TEXT_LEN])
{
    if (a->is_unix)
        strcpy(out, "unix");
    else if (is_ipv4(a))
        inet_ntop(AF_INET, a->bytes + IPV4_OFFSET, out, MESA_ADDRESS_TEXT_LEN);
    else
        inet_ntop(AF_INET6, a->bytes, out, MESA_ADDRESS_TEXT_LEN);
}

struct mesa_address mesa_address_ipv4(const void *bytes)
{
    struct mesa_address a = {.is_unix = false};
    memcpy(a.bytes, mapped, sizeof mapped);
    memcpy(a.bytes + IPV4_OFFSET, bytes, 4);
    return a;
}

bool mesa_address_read(struct mesa_address *out, struct mesa_span text)
{
    char copy[MESA_ADDRESS_TEXT_LEN];
    unsigned char ipv4[4];
    if (text.len == 0 || text.len >= sizeof copy || memchr(text.p, '\0', text.len) != NULL)
        return false;
    memcpy(copy, text.p, text.len);
    copy[text.len] = '\0';
    if (inet_pton(AF_INET, copy, ipv4) == 1) {
        *out = mesa_address_ipv4(ipv4);
        return true;
    }
    struct mesa_address ipv6 = {.is_unix = false};
    if (inet_pton(AF_INET6, copy, ipv6.bytes) != 1)
        return false;
    *out = ipv6;
    return true;
}

size_t mesa_address_key(const struct mesa_address *address)
{
    return is_ipv4(address) ? 16 : 8;
}

/* Reads the number of bits, at most `max`. */
static bool read_bits(struct mesa_span text, unsigned max, unsigned *out)
{
    unsigned n = 0;
    if (text.len == 0 || text.len > 3)
        return false;
    for (size_t i = 0; i < text.len; i++) {
        if (text.p[i] < '0' || text.p[i] > '9')
            return false;
        n = n * 10 + (unsigned)(text.p[i] - '0');
    }
    *out = n;
    return n <= max;
}

enum mesa_status mesa_network_read(struct mesa_network *out, struct mesa_span text)
{
    struct mesa_network n = {.bits = 128};
    if (mesa_span_eq(text, MESA_SPAN("unix"))) {
        n.address.is_unix = true;
        *out = n;
        return MESA_OK;
    }
    const char *slash = text.len > 0 ? memchr(text.p, '/', text.len) : NULL;
    struct mesa_span host = {text.p, slash != NULL ? (size_t)(slash - text.p) : text.len};
    if (!mesa_address_read(&n.address, host))
        return MESA_EINVAL;
    if (slash != NULL) {
        bool short_form = memchr(host.p, ':', host.len) == NULL; /* IPv4 as such */
        unsigned bits, before = short_form ? IPV4_BITS_BEFORE : 0;
        struct mesa_span number = {slash + 1, text.len - host.len - 1};
        if (!read_bits(number, 128 - before, &bits))
            return MESA_EINVAL;
        n.bits = (unsigned char)(before + bits);
    }
    *out = n;
    return MESA_OK;
}

static bool has(const struct mesa_network *n, const struct mesa_address *a)
{
    if (n->address.is_unix || a->is_unix)
        return n->address.is_unix && a->is_unix;
    size_t whole = n->bits / 8;
    unsigned rest = n->bits % 8;
    if (memcmp(n->address.bytes, a->bytes, whole) != 0)
        return false;
    return rest == 0 || ((n->address.bytes[whole] ^ a->bytes[whole]) >> (8 - rest)) == 0;
}

bool mesa_networks_have(const struct mesa_network *networks, size_t count,
                        const struct mesa_address *address)
{
    for (size_t i = 0; i < count; i++)
        if (has(&networks[i], address))
            return true;
    return false;
}
