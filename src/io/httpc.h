/* httpc.h - HTTP/1.1 client: http and https, redirects, timeouts, bounds, connections kept alive.
 *
 * On libuv's sockets and OpenSSL's memory BIOs rather than libwebsockets' client role, which in
 * 4.1.6 resolves names with a blocking call, follows redirects on its own, parses a Content-Length
 * without checking it, accepts certificates from the future, has no TLS for raw sockets, and needs
 * a virtual host, which cannot be freed, for each authority. Nothing here blocks but reading the
 * files of authorities, once. Loop thread only. May include: base/, core/, io/loop.h.
 */
#ifndef MESA_IO_HTTPC_H
#define MESA_IO_HTTPC_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/buf.h"
#include "base/status.h"
#include "core/http_response.h"
#include "io/loop.h"

struct mesa_httpc;      /* opaque: the client with its connections */
struct mesa_httpc_call; /* opaque: one request under way */

enum {
    /* More requests than this to one scheme, host and port wait for each other. */
    MESA_HTTPC_PER_ORIGIN_MAX = 512,
};

struct mesa_httpc_header {
    struct mesa_span name, value;
};

struct mesa_httpc_request {
    struct mesa_span method; /* "GET" */
    struct mesa_span url;
    const struct mesa_httpc_header *headers;
    size_t header_count;
    struct mesa_span body;       /* p NULL: none */
    uint64_t timeout_ms;         /* of everything, redirects included; 0: none */
    uint64_t connect_timeout_ms; /* of resolving, connecting and the TLS handshake, for each
                                    connection; 0: none */
    unsigned max_redirects;      /* 0: a redirection is a response like any other */
    size_t max_body_bytes;       /* of the response */
    const char *ca; /* a PEM file with the authorities to trust; NULL: those of the system */
    bool insecure;  /* https without looking at the certificate */
};

/* Either `response` with the final URL (without user information), or a failure: a stable
 * upper-case `code` and a text for people. Codes: RESOLVE, CONNECT, TLS, TIMEOUT, CLOSED (the
 * connection ended before the response did), PROTOCOL, TOO_LARGE, REDIRECT, MEMORY. All of it lives
 * until the callback returns, which may send, cancel others, but not free the client. */
struct mesa_httpc_result {
    const struct mesa_http_response *response; /* NULL: failed */
    struct mesa_span url;
    const char *code;
    const char *text;
};
typedef void (*mesa_httpc_fn)(void *ctx, const struct mesa_httpc_result *result);

enum mesa_status mesa_httpc_new(struct mesa_httpc **out, struct mesa_loop *loop);
/* Drops what is under way without a word, and closes every connection; their memory follows in the
 * next turns of the loop. NULL is accepted. */
void mesa_httpc_free(struct mesa_httpc *h);

/* Sends a request, which is copied. `done` is called exactly once, never before this returns,
 * unless it is cancelled. MESA_EINVAL: the URL, the method or a header cannot be sent, `err` says
 * why; MESA_ENOMEM. */
enum mesa_status mesa_httpc_send(struct mesa_httpc_call **out, struct mesa_httpc *h,
                                 const struct mesa_httpc_request *request, mesa_httpc_fn done,
                                 void *ctx, char *err, size_t err_len);
/* Forgets a request that has not called back yet. */
void mesa_httpc_cancel(struct mesa_httpc_call *call);

#endif
