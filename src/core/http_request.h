/* http_request.h - reads the head of an HTTP/1 request, strictly (RFC 9112).
 *
 * Lines end in CR LF, names are tokens, values have no control characters, nothing is folded; what two
 * readers could understand differently is refused. Pure. May include: base/.
 */
#ifndef MESA_CORE_HTTP_REQUEST_H
#define MESA_CORE_HTTP_REQUEST_H

#include <stddef.h>
#include <stdint.h>

#include "base/buf.h"
#include "base/status.h"

struct mesa_header {
    struct mesa_span name; /* lower case */
    struct mesa_span value;
};

struct mesa_http_request {
    struct mesa_span method;
    /* decoded; begins with '/', without "." and ".." and empty parts; or "*" (OPTIONS alone) */
    struct mesa_span path;
    struct mesa_span query; /* the text behind '?', as it came; may be empty */
    int minor;              /* of HTTP/1.x */
    size_t header_count;
};

#define MESA_HTTP_BARE_LF SIZE_MAX

/* Where the head in `p` ends, its empty line included; 0: not yet. MESA_HTTP_BARE_LF: a line does not end
 * in CR LF, and the head never will. */
size_t mesa_http_request_end(const char *p, size_t len);

/* Whether it is the value of a Host header: a name or an address, and maybe a port; may be empty. */
int mesa_http_host_valid(struct mesa_span host);

/* Whether a head may begin like this: the first byte of a method. */
int mesa_http_request_may_begin(char c);

/* Reads a whole head, `len` bytes that end in an empty line, changing it in place; everything points
 * into it. The headers go to `headers`, in the order they came, at most `header_max`. MESA_EPROTO:
 * malformed. MESA_ETOOBIG: more headers. */
enum mesa_status mesa_http_request_parse(char *p, size_t len, struct mesa_http_request *out,
                                         struct mesa_header *headers, size_t header_max);

/* Takes the next member off a comma-separated list (RFC 9110 section 5.6.1), without the space around
 * it; empty members are passed over. Absent at the end. */
struct mesa_span mesa_http_list_next(struct mesa_span *list);

#endif
