/* url.h - http and https URLs of requests (RFC 3986, as far as a client needs it).
 *
 * Pure: no loop, no socket. Not thread-safe. May include: base/.
 */
#ifndef MESA_CORE_URL_H
#define MESA_CORE_URL_H

#include <stdbool.h>
#include <stdint.h>

#include "base/buf.h"
#include "base/status.h"

enum { MESA_URL_MAX_BYTES = 16384, MESA_URL_HOST_MAX_BYTES = 253 };

struct mesa_url {
    bool secure; /* https */
    bool ipv6;   /* the host was written in brackets */
    uint16_t port;
    char host[MESA_URL_HOST_MAX_BYTES + 1]; /* lower case, without brackets */
    struct mesa_buf target;   /* path and query as they go on the wire; '/' at least */
    struct mesa_buf userinfo; /* "user:password", decoded; empty: none */
};

/* Parses an absolute URL. Bytes that may not stand in a URL (spaces, control characters, beyond
 * ASCII) are percent-encoded; a fragment is left out. MESA_EINVAL: `why` says what is wrong;
 * MESA_ENOMEM. `out` is overwritten on success only, and must be deinitialised once. */
enum mesa_status mesa_url_parse(struct mesa_url *out, struct mesa_span text, const char **why);
/* The URL that `reference` (a Location header) means at `base`. As mesa_url_parse; `out` must not
 * be `base`. A reference carries its own user information or none. */
enum mesa_status mesa_url_resolve(struct mesa_url *out, const struct mesa_url *base,
                                  struct mesa_span reference, const char **why);
void mesa_url_deinit(struct mesa_url *u);

/* The same scheme, host and port. */
bool mesa_url_same_origin(const struct mesa_url *a, const struct mesa_url *b);
/* Appends "host" or "host:port" as the Host header has it. */
enum mesa_status mesa_url_append_host(const struct mesa_url *u, struct mesa_buf *out);
/* Appends "Authorization: Basic ...\r\n" for the user information, if there is any. */
enum mesa_status mesa_url_append_basic(const struct mesa_url *u, struct mesa_buf *out);
/* Appends the whole URL without user information. */
enum mesa_status mesa_url_append(const struct mesa_url *u, struct mesa_buf *out);

#endif
