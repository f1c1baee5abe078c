/* httpc_internal.h - what the files of the HTTP client share; nobody else includes it.
 *
 * A call goes from hop to hop (one, unless redirected). A hop holds a slot of its origin, and in
 * it resolves the host, makes a connection or takes an idle one, and reads the response. A
 * connection belongs to a call, or is idle and belongs to its origin, where it holds a slot too.
 * Whatever a call begins it begins in a job of the loop, so that a thousand calls at once hold up
 * nobody. Memory of connections goes when libuv has closed them, and of a resolution when it has answered,
 * whatever happened to the others. Loop thread only. May include: base/, core/, io/, OpenSSL.
 */
#ifndef MESA_IO_HTTPC_INTERNAL_H
#define MESA_IO_HTTPC_INTERNAL_H

#include <openssl/ssl.h>

#include "base/list.h"
#include "core/url.h"
#include "io/httpc.h"

enum {
    MESA_HTTPC_READ_BYTES = 65536,
    /* Below the five seconds after which Node's servers hang up: a connection that is about to be
       closed should not be used. */
    MESA_HTTPC_IDLE_MS = 4000,
    /* One idle for longer is not used for a request that must not be sent twice. */
    MESA_HTTPC_FRESH_MS = 1000,
    MESA_HTTPC_IDLE_PER_ORIGIN = 64,
    /* A burst of requests asks once where its host is. */
    MESA_HTTPC_RESOLVED_MS = 1000,
};

struct mesa_httpc {
    struct mesa_loop *loop;
    struct mesa_list calls;
    struct mesa_list origins;
    struct mesa_list authorities; /* see client_tls.h */
    uv_timer_t idle;              /* closes connections that nobody has used for a while */
    char in[MESA_HTTPC_READ_BYTES];
};

/* What connections are shared by: scheme, host, port and how the server is verified. */
struct mesa_httpc_origin {
    struct mesa_list link;
    struct mesa_list idle;                    /* connections, the freshest last */
    struct mesa_list waiting;                 /* calls without a slot */
    struct mesa_httpc_resolution *resolution; /* the latest; NULL: none, or it failed */
    unsigned slots;                           /* taken */
    unsigned idle_count;
    char key[];
};

struct mesa_httpc_conn {
    struct mesa_list link; /* origin->idle */
    struct mesa_httpc *httpc;
    struct mesa_httpc_origin *origin; /* while idle */
    struct mesa_httpc_call *call;     /* NULL: idle, or closing */
    uv_tcp_t tcp;
    uv_connect_t connect;
    SSL *ssl;   /* NULL: http */
    bool ready; /* connected, TLS included */
    bool reused;
    uint64_t idle_since_ms;
};

/* Where the host of an origin is, for all calls that ask at about the same time. */
struct mesa_httpc_resolution {
    uv_getaddrinfo_t req;
    unsigned refs;                    /* its origin, its calls, and libuv until it is answered */
    struct mesa_httpc_origin *origin; /* NULL: gone, or has another one */
    struct mesa_list calls;           /* those that wait for the answer */
    bool answered;
    int status; /* of the answer */
    struct addrinfo *addresses;
    uint64_t answered_ms;
};

struct mesa_httpc_call {
    struct mesa_list link;    /* httpc->calls */
    struct mesa_list waiting; /* origin->waiting, or resolution->calls */
    struct mesa_job start;    /* queued: it has its turn soon */
    struct mesa_httpc *httpc;
    mesa_httpc_fn done;
    void *ctx;

    char method[24];
    struct mesa_url url;
    struct mesa_buf headers; /* "name: value\r\n" each */
    struct mesa_buf body;
    bool has_body;
    bool insecure;
    char *ca;
    uint64_t timeout_ms, connect_timeout_ms;
    uint64_t connect_by_ms; /* when connecting must be over */
    size_t max_body_bytes;
    unsigned redirects_left, max_redirects;

    struct mesa_httpc_origin *origin; /* of this hop */
    bool has_slot;
    bool retried;
    struct mesa_httpc_resolution *resolution;
    struct addrinfo *next_address; /* of the resolution */
    struct mesa_httpc_conn *conn;
    struct mesa_http_response response;
    struct mesa_timer total, connecting;

    const char *code; /* why the last address cannot be used */
    char text[512];
};

/* httpc.c */
/* The call goes on in a job of the loop: it has a slot now, perhaps a connection, or an answer to
 * where its host is. */
void mesa_httpc_call_start(struct mesa_httpc_call *call);
/* The connection is ready to carry the request. */
void mesa_httpc_call_connected(struct mesa_httpc_call *call);
/* Failed before that; `code` is CONNECT or TLS. */
void mesa_httpc_call_unconnected(struct mesa_httpc_call *call, const char *code, const char *text);
/* Bytes of the response have been fed: looks whether it is complete or `rc` says it cannot be.
 * `surplus`: more has arrived than the response. */
void mesa_httpc_call_fed(struct mesa_httpc_call *call, enum mesa_status rc, bool surplus);
/* The connection has ended; `clean` unless TLS says that bytes may be missing. */
void mesa_httpc_call_ended(struct mesa_httpc_call *call, bool clean, const char *why);

/* httpc_resolve.c */
/* Sets call->resolution, which may be answered already; if not, mesa_httpc_call_start follows.
 * Otherwise a status of libuv. */
int mesa_httpc_resolve(struct mesa_httpc_call *call);
/* The call needs it no more, if it has one. */
void mesa_httpc_resolution_leave(struct mesa_httpc_call *call);
/* The origin needs it no more, if it has one. */
void mesa_httpc_resolution_forget(struct mesa_httpc_origin *o);

/* httpc_request.c */
enum mesa_status mesa_httpc_call_fill(struct mesa_httpc_call *call,
                                      const struct mesa_httpc_request *request, char *err,
                                      size_t err_len);
/* The bytes of the request as it is now. */
enum mesa_status mesa_httpc_call_write_head(const struct mesa_httpc_call *call,
                                            struct mesa_buf *out);
/* Goes on to `to`, which the response with `status` names: method, body and headers change as
 * they must. */
void mesa_httpc_call_redirect(struct mesa_httpc_call *call, struct mesa_url *to, int status);
bool mesa_httpc_call_idempotent(const struct mesa_httpc_call *call);

/* httpc_conn.c */
enum mesa_status mesa_httpc_conn_open(struct mesa_httpc_call *call, const struct sockaddr *address);
enum mesa_status mesa_httpc_conn_write(struct mesa_httpc_conn *c, const void *bytes, size_t len);
/* Whether the socket has taken all that was written. */
bool mesa_httpc_conn_sent(const struct mesa_httpc_conn *c);
void mesa_httpc_conn_close(struct mesa_httpc_conn *c);

/* httpc_pool.c */
struct mesa_httpc_origin *mesa_httpc_origin_of(struct mesa_httpc_call *call);
/* Gives the call an idle connection together with its slot, if there is one. */
bool mesa_httpc_pool_take(struct mesa_httpc_call *call);
/* Gives the call a slot for a connection of its own; false: all are taken, the call waits for
 * mesa_httpc_call_start. */
bool mesa_httpc_pool_slot(struct mesa_httpc_call *call);
/* The call leaves its origin; `c` is its connection, to be kept in the call's slot, or NULL. */
void mesa_httpc_pool_give(struct mesa_httpc_call *call, struct mesa_httpc_conn *c);
/* An idle connection has ended. */
void mesa_httpc_pool_drop(struct mesa_httpc_conn *c);
void mesa_httpc_pool_clear(struct mesa_httpc *h);

#endif
