/* transport.h - listening sockets, TLS, HTTP and WebSocket connections.
 *
 * One transport per process, any number of listeners. Loop thread only. It reassembles fragments,
 * bounds sizes, checks UTF-8 of text, answers pings, and does the closing handshake. It never frames:
 * callers write bytes that are already WebSocket frames. TLS is a byte channel below all of that, and
 * changes nothing else. May include: base/, core/, io/loop.h.
 */
#ifndef MESA_IO_TRANSPORT_H
#define MESA_IO_TRANSPORT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/buf.h"
#include "base/status.h"
#include "core/address.h"
#include "core/config.h"
#include "core/deflate.h"
#include "core/http_request.h"
#include "io/certificate.h"
#include "io/loop.h"

struct mesa_transport; /* opaque */
struct mesa_listener;  /* opaque */
struct mesa_conn; /* opaque: one WebSocket connection, valid from on_open until on_close returns */
/* opaque: one upgrade request that nobody has decided about yet */
struct mesa_handshake;
struct mesa_http; /* opaque: one HTTP request that has not been answered */

/* The HTTP request a connection began with. Spans live until the callback that received the request
 * returns. "..", "." and "//" in the path are resolved, values of a repeated header come joined by a
 * comma. */
struct mesa_request {
    struct mesa_span method; /* "GET" */
    /* percent-decoded, without the query; always begins with '/'; never contains NUL */
    struct mesa_span path;
    struct mesa_span query; /* the text behind '?', encoded; may be empty */
    /* the address it comes from, as text: the peer's, or the client's behind believed proxies; "unix"
     * for Unix sockets */
    struct mesa_span ip;
    struct mesa_span protocol;            /* the subprotocol agreed on, or empty */
    bool secure;                          /* it came over TLS there */
    struct mesa_certificate *certificate; /* the client's; NULL: it has shown none */
    const struct mesa_header *headers;
    size_t header_count;
};

/* What the answer to an upgrade request says. */
struct mesa_upgrade {
    /* of the subprotocols offered, at first the first one; empty: none. Lives as long as the request */
    struct mesa_span protocol;
    /* Agrees to permessage-deflate with these options, when it is offered; NULL: not at all. They
     * are looked at until on_upgrade's caller returns. */
    const struct mesa_deflate_options *compression;
    /* The decision has still to be made: on_handshake, which must be there, is called next. */
    bool waits;
};

struct mesa_listener_config {
    const char *host; /* NULL: all addresses, IPv6 and IPv4 (dual stack, IPv4 only where there is no
                         IPv6). "unix:/path": a Unix socket. A name or address otherwise */
    const char *mode; /* of a Unix socket: octal digits; NULL: what the umask gives */
    uint16_t port;    /* 0: any free one, see mesa_listener_port */
    bool reuse_port;  /* SO_REUSEPORT */
    const struct mesa_config_tls *tls; /* NULL: none. Outlives the listener */
    const struct mesa_network
        *proxies; /* whose X-Forwarded-For, X-Forwarded-Proto and Forwarded are
                                           believed. Outlives the listener */
    size_t proxy_count;
    /* Each connection begins with a PROXY header, in front of TLS too; else it is closed. It is believed
     * from `proxies`, or from everybody where there are none. */
    bool proxy_protocol;
    size_t max_payload_bytes; /* of one message; over it: close 1009 before buffering */
    uint32_t max_connections; /* 0: no bound. Over it: accepted and closed at once, before
                                 anything is spent */
    uint32_t
        max_connections_per_ip;    /* of an IPv4 address or an IPv6 /64. 0: no bound; not applied to
                                        Unix sockets */
    uint32_t handshake_timeout_ms; /* TCP accept to complete request head, TLS handshake included;
                                        0: none */
    size_t max_body_bytes;         /* of an HTTP request body; 0: a request with a body gets 413 */
};

/* Hooks may close any connection and free the listener. on_open, on_message and on_close must be
 * there; without on_upgrade every upgrade is accepted, without on_http a request gets 404. */
struct mesa_listener_hooks {
    /* An upgrade request. 0 accepts, with what `out` says then; otherwise the HTTP status (4xx, 5xx) to
     * refuse with. */
    int (*on_upgrade)(void *ctx, const struct mesa_request *req, struct mesa_upgrade *out);
    /* An upgrade that on_upgrade lets wait. Answer with mesa_handshake_answer now or later, exactly once. */
    void (*on_handshake)(void *ctx, struct mesa_handshake *h, const struct mesa_request *req);
    /* The connection is open. The result becomes mesa_conn_user. `req` lives until on_open returns.
     * May write, may close. */
    void *(*on_open)(void *ctx, struct mesa_conn *c, const struct mesa_request *req);
    /* The message that follows came compressed: `received` bytes, of which `len` were made. May be
     * NULL. */
    void (*on_inflated)(void *user, size_t received, size_t len);
    /* One whole message, inflated; `data` lives until the callback returns; text is valid UTF-8. Not
     * called after mesa_conn_close. */
    void (*on_message)(void *user, const char *data, size_t len, bool binary);
    void (*on_pong)(void *user);
    /* Room again after a mesa_conn_write that returned MESA_EAGAIN. */
    void (*on_drained)(void *user);
    /* The connection is gone; the last callback for it. `code` is the peer's close code, 1005 when
     * it sent none, 1006 without a closing handshake; when this side closed first, the code given
     * to mesa_conn_close (also if the peer never answered) and when the transport itself closed it,
     * that code (1002, 1007, 1009). `by_peer` tells who began. */
    void (*on_close)(void *user, int code, const char *reason, size_t len, bool by_peer);
    /* The peer broke the protocol and is being closed with `code`; for the error event, whose code is
     * `error`: "PROTOCOL", "UTF8", "PAYLOAD", "COMPRESSION" (what came is not what deflate makes),
     * "MEMORY". Precedes on_close. */
    void (*on_protocol_error)(void *user, int code, const char *error, const char *text);
    /* A plain HTTP request, its body complete. Answer with mesa_http_reply or mesa_http_file now or
     * later, exactly once. */
    void (*on_http)(void *ctx, struct mesa_http *h, const struct mesa_request *req,
                    struct mesa_span body);
    /* The transport has turned a peer away that was no connection yet; may be NULL. `code`:
     * "HEADERS": the request head is malformed or over 8 KB; "HANDSHAKE": it was not complete in time,
     * does not begin with the PROXY header asked for,
     * asks for an upgrade in a wrong way, or the TLS handshake failed; "LIMIT":
     * max_connections or max_connections_per_ip. What on_upgrade refuses is not reported, nor who
     * comes and leaves, or stays, without a byte. */
    void (*on_refused)(void *ctx, const char *code, struct mesa_span ip, const char *text);
};

enum mesa_status mesa_transport_new(struct mesa_transport **out, struct mesa_loop *loop);
/* Listeners and connections that are left are dropped now. Runs the loop for a few turns; not from
 * inside one. An unanswered mesa_http stays valid until it is answered. NULL is accepted. */
void mesa_transport_free(struct mesa_transport *t);
/* Of libwebsockets, which outgoing WebSockets are made with: "4.1.6". */
const char *mesa_transport_library_version(void);

/* Opens the listening socket (SO_REUSEADDR) and starts accepting. On failure
 * `err` (size err_len) says what and where: "port 4000 is in use", "tls.cert: cannot read …".
 * MESA_EINUSE, MESA_EINVAL, MESA_EIO, MESA_ENOMEM. */
enum mesa_status mesa_listener_open(struct mesa_listener **out, struct mesa_transport *t,
                                    const struct mesa_listener_config *cfg,
                                    const struct mesa_listener_hooks *hooks, void *ctx, char *err,
                                    size_t err_len);
/* Reads the files of `tls` without listening, and logs which certificates have expired or soon
 * will. MESA_EINVAL: `err` (room for a path) names the key of the configuration, the file and the
 * reason. MESA_ENOMEM. */
enum mesa_status mesa_transport_check_tls(const struct mesa_config_tls *tls, char *err,
                                          size_t err_len);
/* Reads the files of a listener's TLS again. MESA_OK: handshakes that begin from now on use them;
 * *changed says whether they differ. Otherwise, as mesa_transport_check_tls, the old ones go on
 * being used. */
enum mesa_status mesa_listener_reload_tls(struct mesa_listener *l, bool *changed, char *err,
                                          size_t err_len);
/* The bound port (0 for Unix sockets). */
uint16_t mesa_listener_port(const struct mesa_listener *l);
/* Stops accepting (and unlinks a Unix socket); connections live on. */
void mesa_listener_stop(struct mesa_listener *l);
/* Stops and frees; connections that are left are dropped, with on_close 1006. */
void mesa_listener_free(struct mesa_listener *l);

void *mesa_conn_user(const struct mesa_conn *c);

/* Writes bytes that are whole WebSocket frames. MESA_OK: taken (sent, or the rest of it buffered
 * inside). MESA_EAGAIN: nothing was taken, on_drained will come. MESA_ECLOSED: closing or gone.
 * Never calls back. */
enum mesa_status mesa_conn_write(struct mesa_conn *c, const void *bytes, size_t len);

/* What mesa_conn_write would return now. */
enum mesa_status mesa_conn_ready(struct mesa_conn *c);

/* The compression that the connection has agreed on, as long as it is open; NULL: none. The caller, who
 * frames, compresses; what comes is inflated before on_message. */
struct mesa_deflate *mesa_conn_deflate(const struct mesa_conn *c);

/* Begins the closing handshake behind what was written. Marks only: on_close comes in a later turn,
 * at the latest when the peer has neither answered nor taken anything for 5 s. Repeating has no effect. `reason` at most
 * 123 bytes of UTF-8 (longer is cut at a code point). With `drop` true, the connection is ended
 * after the close frame without waiting for the peer's answer nor for a stalled reader. A peer
 * that broke the protocol is not waited for either. */
void mesa_conn_close(struct mesa_conn *c, int code, const char *reason, size_t len, bool drop);

/* Whether the peer has taken some of what was written since this was asked last: a reader that is slow,
 * and not one that has stalled. */
bool mesa_conn_is_read(struct mesa_conn *c);

/* Stops and restarts reading from the socket. Calls do not nest: one resume undoes any number of pauses. What was read already waits, too. */
void mesa_conn_pause(struct mesa_conn *c);
void mesa_conn_resume(struct mesa_conn *c);

/* Opens the WebSocket (status 0; on_open is called), or refuses with the status and a text, absent for the
 * usual one, and releases `h`. When the peer has left, nothing happens. */
void mesa_handshake_answer(struct mesa_handshake *h, int status, struct mesa_span text);
/* Whether the peer is still there, and has time left. */
bool mesa_handshake_waits(const struct mesa_handshake *h);

/* Answers and releases `h`. When the peer says so, the connection ends after it. Header names and values must not contain
 * CR, LF or NUL, and the status is 200 to 599 (else 500). Connection, Content-Length, Date and
 * Transfer-Encoding are the transport's own: such headers are left out. HEAD, 204 and 304 get no
 * body. When the peer has left, the answer is dropped. */
void mesa_http_reply(struct mesa_http *h, int status, const struct mesa_header *headers,
                     size_t header_count, const void *body, size_t len);
/* Answers with the file below directory `root` that `path` (from mesa_request) names: index.html
 * for a directory (a redirection to its name with a slash), content type by extension, conditions, a
 * range, and the file with ".gz" behind its name for who accepts gzip; never outside `root` (no "..",
 * no symbolic link that leads out, no hidden file), 405 for methods other than GET and HEAD.
 * MESA_OK: `h` is released. MESA_ENOTFOUND: no such file, `h` is NOT answered (the caller
 * decides). */
enum mesa_status mesa_http_file(struct mesa_http *h, const char *root);

#endif
