/* http_response.h - reads one HTTP/1.1 response, however its bytes arrive (RFC 9112).
 *
 * Strict: what two readers could understand differently (a length given twice, a transfer coding
 * other than chunked, folded lines) is refused. Responses 100 to 199 before the final one are
 * passed over. Pure: no loop, no socket. Not thread-safe. May include: base/.
 */
#ifndef MESA_CORE_HTTP_RESPONSE_H
#define MESA_CORE_HTTP_RESPONSE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/buf.h"
#include "base/status.h"

enum {
    MESA_HTTP_HEAD_MAX_BYTES = 65536, /* status line, headers, and whatever came before them */
    MESA_HTTP_HEADERS_MAX = 256,
};

enum mesa_http_response_state {
    MESA_HTTP_STATUS_LINE,
    MESA_HTTP_HEADER,
    MESA_HTTP_BODY,        /* of a known length */
    MESA_HTTP_BODY_TO_END, /* of the connection */
    MESA_HTTP_CHUNK_SIZE,
    MESA_HTTP_CHUNK,
    MESA_HTTP_CHUNK_END,
    MESA_HTTP_TRAILER,
    MESA_HTTP_COMPLETE,
};

struct mesa_http_field {
    uint32_t name, name_len, value, value_len; /* in `text` */
};

struct mesa_http_response {
    enum mesa_http_response_state state;
    bool begun;      /* anything has arrived */
    bool head_only;  /* the answer to HEAD */
    bool upgrade;    /* the answer to a request that asked for an upgrade: 101 completes it */
    bool keep_alive; /* the connection can take another request once this is complete */
    bool chunked;
    int status;
    const char *error;    /* what is wrong, after MESA_EPROTO or MESA_ETOOBIG */
    struct mesa_buf line; /* the part of a line that has arrived */
    struct mesa_buf text; /* the reason, names in lower case, and values */
    size_t reason_len;
    struct mesa_buf fields;
    struct mesa_buf body;
    size_t head_bytes; /* of lines, trailers included */
    size_t max_body_bytes;
    bool has_length;
    uint64_t left; /* of the body or the chunk */
};

void mesa_http_response_init(struct mesa_http_response *r, bool head_only, size_t max_body_bytes);
void mesa_http_response_deinit(struct mesa_http_response *r);

/* Takes bytes; *used tells how many belong to this response (fewer than `len` once it is
 * complete). MESA_EPROTO, MESA_ETOOBIG: `error` says what; MESA_ENOMEM. Not to be called after a
 * failure. */
enum mesa_status mesa_http_response_feed(struct mesa_http_response *r, const char *data, size_t len,
                                         size_t *used);
/* The connection has ended: MESA_OK when that completes the response, else MESA_ECLOSED. */
enum mesa_status mesa_http_response_end(struct mesa_http_response *r);

size_t mesa_http_response_header_count(const struct mesa_http_response *r);
void mesa_http_response_header_at(const struct mesa_http_response *r, size_t i,
                                  struct mesa_span *name, struct mesa_span *value);
/* What the status line says behind the status: "OK"; may be empty. */
struct mesa_span mesa_http_response_reason(const struct mesa_http_response *r);
/* The first value of a header; absent when there is none. `name` in lower case. */
struct mesa_span mesa_http_response_header(const struct mesa_http_response *r, const char *name);

#endif
