/* proxy_header.c - see proxy_header.h; the sections are those of HAProxy's proxy-protocol.txt. */
#include "core/proxy_header.h"

#include <stdint.h>
#include <string.h>

/* -- version 1 (section 2.1) -- */

enum { LINE_MAX = 107 };
static const char line_begin[] = "PROXY ";

/* Takes the word in front of the next space, or the rest. */
static struct mesa_span take_word(struct mesa_span *line)
{
    const char *space = memchr(line->p, ' ', line->len);
    struct mesa_span word = {line->p, space != NULL ? (size_t)(space - line->p) : line->len};
    size_t gone = word.len + (space != NULL ? 1 : 0);
    line->p += gone;
    line->len -= gone;
    return word;
}

static bool is_port(struct mesa_span s)
{
    unsigned n = 0;
    if (s.len == 0 || s.len > 5 || (s.len > 1 && s.p[0] == '0'))
        return false;
    for (size_t i = 0; i < s.len; i++) {
        if (s.p[i] < '0' || s.p[i] > '9')
            return false;
        n = n * 10 + (unsigned)(s.p[i] - '0');
    }
    return n <= 65535;
}

/* An address as text of the family that the header names. */
static bool read_address(struct mesa_span text, bool ipv6, struct mesa_address *out)
{
    bool has_colon = text.len > 0 && memchr(text.p, ':', text.len) != NULL;
    return has_colon == ipv6 && mesa_address_read(out, text);
}

/* `line` is what stands between "PROXY " and the end of the line. */
static enum mesa_status read_line(struct mesa_span line, struct mesa_proxy_header *out)
{
    struct mesa_span family = take_word(&line);
    struct mesa_proxy_header h = {.known = true};
    struct mesa_address destination;
    bool ipv6 = mesa_span_eq(family, MESA_SPAN("TCP6"));
    if (mesa_span_eq(family, MESA_SPAN("UNKNOWN"))) {
        out->known = false; /* and whatever follows is ignored */
        return MESA_OK;
    }
    if (!ipv6 && !mesa_span_eq(family, MESA_SPAN("TCP4")))
        return MESA_EPROTO;
    if (!read_address(take_word(&line), ipv6, &h.source) ||
        !read_address(take_word(&line), ipv6, &destination) || !is_port(take_word(&line)) ||
        !is_port(line))
        return MESA_EPROTO;
    *out = h;
    return MESA_OK;
}

static enum mesa_status read_v1(const char *p, size_t len, struct mesa_proxy_header *out,
                                size_t *used)
{
    size_t begin = sizeof line_begin - 1, within = len < LINE_MAX ? len : LINE_MAX;
    if (memcmp(p, line_begin, within < begin ? within : begin) != 0)
        return MESA_EPROTO;
    const char *end = memchr(p, '\n', within);
    if (end == NULL)
        return len < LINE_MAX ? MESA_EAGAIN : MESA_EPROTO;
    if (end - p <= (ptrdiff_t)begin || end[-1] != '\r')
        return MESA_EPROTO;
    *used = (size_t)(end - p) + 1;
    return read_line((struct mesa_span){p + begin, *used - begin - 2}, out);
}

/* -- version 2 (section 2.2) -- */

enum { FIXED_BYTES = 16, COMMAND_LOCAL = 0, COMMAND_PROXY = 1 };
static const char signature[12] = "\r\n\r\n\0\r\nQUIT\n";

/* How many bytes the addresses of a family take; SIZE_MAX: there is no such family. */
static size_t address_bytes(unsigned family)
{
    static const size_t bytes[] = {0, 12, 36, 216}; /* unspecified, IPv4, IPv6, Unix sockets */
    return family < sizeof bytes / sizeof *bytes ? bytes[family] : SIZE_MAX;
}

static enum mesa_status read_v2(const char *p, size_t len, struct mesa_proxy_header *out,
                                size_t *used)
{
    const unsigned char *b = (const unsigned char *)p;
    if (len < FIXED_BYTES)
        return MESA_EAGAIN;
    unsigned version = b[12] >> 4, command = b[12] & 0xf;
    unsigned family = b[13] >> 4, transport = b[13] & 0xf;
    size_t rest = (size_t)b[14] << 8 | b[15], wanted = address_bytes(family);
    if (version != 2 || command > COMMAND_PROXY || transport > 2 || wanted == SIZE_MAX ||
        (command == COMMAND_PROXY && rest < wanted))
        return MESA_EPROTO;
    if (FIXED_BYTES + rest > MESA_PROXY_HEADER_MAX)
        return MESA_ETOOBIG;
    if (len < FIXED_BYTES + rest)
        return MESA_EAGAIN;
    *used = FIXED_BYTES + rest;
    struct mesa_proxy_header h = {.known =
                                      command == COMMAND_PROXY && (family == 1 || family == 2)};
    if (h.known && family == 1)
        h.source = mesa_address_ipv4(b + FIXED_BYTES);
    else if (h.known)
        memcpy(h.source.bytes, b + FIXED_BYTES, sizeof h.source.bytes);
    *out = h;
    return MESA_OK;
}

enum mesa_status mesa_proxy_header_read(const char *p, size_t len, struct mesa_proxy_header *out,
                                        size_t *used)
{
    size_t compared = len < sizeof signature ? len : sizeof signature;
    *used = len;
    if (len == 0)
        return MESA_EAGAIN;
    return memcmp(p, signature, compared) == 0 ? read_v2(p, len, out, used)
                                               : read_v1(p, len, out, used);
}
