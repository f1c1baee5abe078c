/* transport_internal.h - what the files of the transport share; nobody else includes it.
 *
 * A struct mesa_conn is one accepted socket from accept() until it is closed. Everything that arrives
 * may call back the layers above, and every such call may close connections and free the listener: so
 * closing marks a connection and queues it on `work`, and the end of the turn acts. Only there does a
 * socket end. Loop thread only. May include: base/, core/, io/.
 */
#ifndef MESA_IO_TRANSPORT_INTERNAL_H
#define MESA_IO_TRANSPORT_INTERNAL_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/epoll.h>

#include "base/buf.h"
#include "base/list.h"
#include "base/map.h"
#include "base/status.h"
#include "core/address.h"
#include "core/http_request.h"
#include "core/ws_reader.h"
#include "io/loop.h"
#include "io/tls.h"
#include "io/tls_context.h"
#include "io/tls_tickets.h"
#include "io/transport.h"

enum {
    MESA_CLOSE_TIMEOUT_MS = 5000, /* for the peer to answer a close frame */
    /* for a request body to arrive, and for a response to be read any further */
    MESA_HTTP_STALL_TIMEOUT_MS = 30000,
    MESA_MAX_HEADER_BYTES = 8192, /* of a request head; more gets 431 */
    MESA_INPUT_BYTES = 64 * 1024, /* what one read takes */
    MESA_EVENTS_PER_POLL = 32,
    MESA_MAX_REASON_BYTES = 123, /* RFC 6455 section 5.5 */
};

/* RFC 6455 section 7.4.1. */
enum {
    MESA_CLOSE_PROTOCOL = 1002,
    MESA_CLOSE_NO_STATUS = 1005,
    MESA_CLOSE_ABNORMAL = 1006,
    MESA_CLOSE_INVALID_DATA = 1007,
    MESA_CLOSE_TOO_BIG = 1009,
};

/* A request head. It points into the buffer it was received in; a copy into its own `text`. */
struct mesa_capture {
    struct mesa_request request;
    struct mesa_buf text; /* joined values of repeated headers; of a copy, everything */
    struct mesa_header *headers;
    size_t header_cap;
    int minor;                            /* of HTTP/1 */
    struct mesa_certificate *certificate; /* of a copy: a reference */
    struct mesa_address address;          /* who it comes from, behind believed proxies */
    char ip[MESA_ADDRESS_TEXT_LEN];
};

/* What one connection may have done before all others have their turn. */
struct mesa_slice {
    uint64_t end_ns;
    unsigned items; /* taken so far: frames, and requests */
    bool over;
};

/* The sockets of all connections. */
struct mesa_poller {
    uv_poll_t poll;
    int fd;
    struct epoll_event events[MESA_EVENTS_PER_POLL];
    int event_next, event_count;  /* of `events`: those that wait for the next turn */
    struct mesa_slice slice;      /* of the connection that is being worked on */
    char input[MESA_INPUT_BYTES]; /* what was read last, for whichever connection */
};

/* Bytes that wait: to be written, or to be worked on. */
struct mesa_pending {
    struct mesa_buf bytes;
    size_t done;
    bool corked; /* output that waits for company until the end of the turn, not for the socket */
};

struct mesa_transport {
    struct mesa_loop *loop;
    struct mesa_poller *poller;
    struct mesa_turn turn;
    struct mesa_list listeners;
    struct mesa_list orphans;   /* connections whose listener was freed */
    struct mesa_list work;      /* connections to look after at the end of the turn */
    struct mesa_list lingering; /* connections that wait for their peer to hang up, oldest first */
    unsigned lingering_count;
    /* armed while there are any: another turn hook may mark one when ours has run */
    struct mesa_timer wake;
    struct mesa_capture upgrade; /* the request being upgraded; there is never more than one */
    struct evp_md_ctx_st *hash;  /* SHA-1, for the answer */
    struct mesa_buf spare;       /* the last reassembly buffer, for the next message */
    struct mesa_buf inflated;    /* the same for messages that came compressed */
    struct mesa_deflate_streams *deflate; /* NULL before the first connection with compression */
    /* outgoing connections and what they share, see outconn.h and client_context.c */
    struct lws_context *context; /* NULL before the first, and once libwebsockets has freed it */
    struct mesa_buf handles; /* uv_handle_t *: what libwebsockets opened on the loop for itself */
    struct lws_vhost *client_vhost;
    struct mesa_list outgoing, released, unsent;
    struct mesa_list authorities; /* see client_tls.h */
};

/* Connections of one address, under listener->per_ip. */
struct mesa_ip_count {
    uint32_t count;
};

/* The listening socket outlives its listener until libuv has closed it. */
struct mesa_acceptor {
    uv_poll_t poll;
    struct mesa_listener *listener;
    int fd;
};

struct mesa_listener {
    struct mesa_list link;
    struct mesa_transport *transport;
    struct mesa_listener_hooks hooks;
    void *ctx;
    const struct mesa_config_tls *tls_config; /* NULL without TLS */
    const struct mesa_network *proxies;       /* that are believed */
    size_t proxy_count;
    bool proxy_protocol;
    struct mesa_tls_context *tls;
    struct mesa_tls_tickets *tickets;
    struct mesa_timer expiry;       /* looks once a day which certificates expire */
    struct mesa_acceptor *acceptor; /* NULL once stopped */
    struct mesa_list conns;
    struct mesa_map *per_ip; /* NULL without a limit */
    struct mesa_timer retry; /* accepts again after running out of descriptors */
    char *unix_path;         /* NULL for TCP */
    uint16_t port;
    bool accept_failing; /* logged once until an accept succeeds */
    size_t conn_count;
    size_t max_payload_bytes, max_body_bytes;
    uint32_t max_connections, max_connections_per_ip, handshake_timeout_ms;
};

enum mesa_conn_phase {
    MESA_CONN_PREAMBLE, /* the PROXY header is being read */
    MESA_CONN_REQUEST,  /* TLS handshake, or the request head is being read */
    MESA_CONN_DECIDING, /* an upgrade request waits for mesa_handshake_answer */
    MESA_CONN_HTTP,     /* answering a plain request */
    MESA_CONN_OPEN,     /* a WebSocket that on_open has seen */
    MESA_CONN_GONE,     /* on_close has been called, or nobody is left to call */
};

/* Exists from the moment somebody closes the connection. */
struct mesa_closing {
    int code;
    bool by_peer;
    bool drop;
    bool sent;
    bool answered; /* the peer has sent a close frame, too */
    bool failed;   /* the peer broke the protocol: its answer is not waited for */
    uint8_t reason_len;
    char reason[];
};

struct mesa_conn {
    struct mesa_list link; /* listener->conns, or transport->orphans, or ->lingering */
    struct mesa_list work; /* transport->work */
    struct mesa_transport *transport;
    struct mesa_listener *listener; /* NULL once it was freed */
    struct mesa_secure *tls;        /* NULL without TLS */
    int fd;
    uint32_t events; /* that `fd` is watched for */
    void *user;
    struct mesa_closing *closing;
    struct mesa_handshake *handshake; /* while MESA_CONN_DECIDING */
    struct mesa_http *http;           /* while MESA_CONN_HTTP */
    struct mesa_timer timer;          /* handshake, then closing; or the response */
    struct mesa_buf message;          /* fragments so far */
    size_t checked;                   /* bytes of `message` known to be UTF-8 */
    struct mesa_pending *output;      /* what `fd` has not taken; NULL: nothing */
    struct mesa_pending *input;       /* what was read and not worked on; NULL: nothing */
    struct mesa_job job;              /* the next step of a TLS handshake, or of working on input */
    size_t
        unsent; /* while it ends: bytes the peer had still to take when that was last looked at */
    struct mesa_ws_reader reader;
    struct mesa_deflate *deflate; /* NULL: no compression was agreed on */
    /* the peer's; once it is open, the client's behind believed proxies */
    struct mesa_address address;
    enum mesa_conn_phase phase : 8;
    bool kill : 1;           /* end it without further ado */
    bool refused : 1;        /* the request was answered with an error */
    bool linger : 1;         /* but let the peer read what was written last */
    bool opening : 1;        /* inside on_open */
    bool taken : 1;          /* the socket took some of `output` since that was last looked at */
    bool in_message : 1;     /* between the first and the last fragment */
    bool want_drained : 1;   /* a write was refused */
    bool held : 1;           /* reading stopped while output is buffered */
    bool paused : 1;         /* reading stopped by the owner */
    bool reading : 1;        /* whether the socket is read */
    bool starved : 1;        /* `input` is the beginning of a request head: more must come */
    bool wants_writable : 1; /* told when `fd` is, though nothing is buffered */
    bool deaf : 1; /* the peer has closed or broken the protocol: nothing it sends means anything */
    bool counted : 1;   /* `address` has one connection more in listener->per_ip */
    bool lingering : 1; /* nobody knows it any more; it waits for its peer to hang up */
};

/* TLS of a connection. */
struct mesa_secure {
    struct mesa_tls session;
    struct mesa_certificate *certificate; /* the client's; NULL: none, or nobody has asked yet */
};

/* transport_listen.c */
enum mesa_status mesa_socket_listen(const struct mesa_listener_config *cfg, int *fd, uint16_t *port,
                                    char *err, size_t err_len);
void mesa_acceptor_close(struct mesa_acceptor *a);
enum mesa_status mesa_acceptor_open(struct mesa_listener *l, int fd);

/* transport_admission.c */
struct sockaddr_storage;
/* An accepted socket becomes a connection, or is closed. The listener may be gone. */
void mesa_listener_admit(struct mesa_listener *l, int fd, const struct sockaddr_storage *from);
void mesa_listener_forget(struct mesa_listener *l, struct mesa_conn *c);
/* Whether the address is that of a proxy whose word counts. */
bool mesa_listener_believes(const struct mesa_listener *l, const struct mesa_address *address);
/* The connection is that of `address` from now on. False: that has too many; it was told, and the
 * listener may be gone. */
bool mesa_conn_count(struct mesa_conn *c, const struct mesa_address *address);
/* NULL is accepted. */
void mesa_counts_free(struct mesa_map *per_ip);
/* Calls on_refused, which may free the listener; NULL is accepted. */
void mesa_listener_refused(struct mesa_listener *l, const struct mesa_address *address,
                           const char *code, const char *text);

/* transport_certificates.c */
/* `l->tls_config` is set. The errors of mesa_listener_open. */
enum mesa_status mesa_listener_open_tls(struct mesa_listener *l, char *err, size_t err_len);
void mesa_listener_close_tls(struct mesa_listener *l);
/* Has the certificates looked at in a day, and every day. */
void mesa_listener_watch_expiry(struct mesa_listener *l);
void mesa_listener_on_expiry(struct mesa_timer *timer);

/* transport_linger.c */
/* The connection is forgotten by everybody else; frees it when its peer has hung up, or in time. */
void mesa_linger_begin(struct mesa_conn *c);
void mesa_linger_read(struct mesa_conn *c);
void mesa_linger_timeout(struct mesa_conn *c);
void mesa_linger_end(struct mesa_conn *c);

/* transport_poller.c: the sockets */
enum mesa_status mesa_poller_open(struct mesa_transport *t);
void mesa_poller_close(struct mesa_transport *t);
/* False: `fd` is still the caller's. */
bool mesa_link_begin(struct mesa_conn *c, int fd);
/* Polls for what the connection waits for now. */
void mesa_link_watch(struct mesa_conn *c);
void mesa_link_set_reading(struct mesa_conn *c, bool reading);
/* mesa_ws_writable, or mesa_http_writable, is called once nothing is buffered. */
void mesa_link_want_writable(struct mesa_conn *c);
void mesa_link_close(struct mesa_conn *c);

/* transport_output.c */
void mesa_pending_drop(struct mesa_pending **p);
/* False: no memory. */
bool mesa_pending_keep(struct mesa_pending **p, const char *bytes, size_t len);
/* Whether something is written that the socket has not taken. */
bool mesa_link_buffered(const struct mesa_conn *c);
/* What the socket does not take is buffered. False: it is dead. */
bool mesa_link_write(struct mesa_conn *c, const void *bytes, size_t len);
/* Goes out with what is written next, or with the turn. */
void mesa_link_cork(struct mesa_conn *c, const void *bytes, size_t len);
/* Writes what waits, as far as the socket takes it. False: it is dead. */
bool mesa_link_flush(struct mesa_conn *c);
/* Bytes that the peer has not acknowledged, in the kernel and here. */
size_t mesa_link_unsent(const struct mesa_conn *c);

/* transport_input.c */
/* Reads the socket and works on what has come, for a slice that begins at `now_ns`. */
void mesa_input_read(struct mesa_conn *c, uint64_t now_ns);
/* Soon goes on with the TLS handshake, with what was read before, or with reading when the TLS session
 * has bytes that no poll tells of; each connection in its turn. */
void mesa_input_go_on(struct mesa_conn *c);
/* For conn->job. */
void mesa_input_on_job(struct mesa_job *job);

/* transport_preamble.c */
/* Reads the socket until the PROXY header is there; the connection goes on with what is behind it. */
void mesa_preamble_read(struct mesa_conn *c);

/* transport_secure.c: TLS; without it all of these do nothing */
/* False: no memory. */
bool mesa_secure_start(struct mesa_conn *c, int fd);
/* Whether the handshake is not done yet. */
bool mesa_secure_begins(const struct mesa_conn *c);
/* The next step of the handshake. */
void mesa_secure_shake_hands(struct mesa_conn *c);
/* Whether the session has bytes that no poll tells of. */
bool mesa_secure_has_more(const struct mesa_conn *c);
/* The client's certificate, which the connection keeps; NULL in *out: it has shown none.
 * MESA_ENOMEM. */
enum mesa_status mesa_secure_certificate(struct mesa_conn *c, struct mesa_certificate **out);
/* With `farewell` the peer learns that nothing follows. */
void mesa_secure_end(struct mesa_conn *c, bool farewell);

/* transport_conn.c */
struct mesa_conn *mesa_conn_adopt(struct mesa_listener *l, int fd,
                                  const struct mesa_address *address);
void mesa_conn_turn(struct mesa_conn *c);
void mesa_conn_mark(struct mesa_conn *c);
void mesa_conn_kill_later(struct mesa_conn *c);
/* Everybody forgets the connection; its socket may live on for a moment (c->linger). */
void mesa_conn_end(struct mesa_conn *c);
/* Closes the socket at once, without a word. */
void mesa_conn_free(struct mesa_conn *c);
void mesa_conn_detach(struct mesa_conn *c);
void mesa_conn_arm(struct mesa_conn *c, uint64_t ms);

/* transport_ws.c */
void mesa_ws_opened(struct mesa_conn *c, const struct mesa_request *req);
/* Some payload of a message. */
void mesa_ws_received(struct mesa_conn *c, const struct mesa_ws_item *piece);
/* The peer broke the protocol: closes with `code`, and tells it as the error `error`. */
void mesa_ws_fail(struct mesa_conn *c, int code, const char *error, const char *text);
/* Keeps some of a message until the rest has come. */
enum mesa_status mesa_ws_add_fragment(struct mesa_conn *c, const struct mesa_ws_item *piece);
/* Keeps the memory of a message that was delivered for the next one, in `spare`. */
void mesa_ws_give_back(struct mesa_buf *spare, struct mesa_buf *done);
void mesa_ws_pong(struct mesa_conn *c);
/* The peer has sent what is no frame. */
void mesa_ws_violated(struct mesa_conn *c, const char *what);
/* Stops reading while what was written is not taken. */
void mesa_ws_hold_if_buffered(struct mesa_conn *c);
void mesa_ws_writable(struct mesa_conn *c);
void mesa_ws_peer_closed(struct mesa_conn *c, const unsigned char *body, size_t len);
/* Whether a peer may send this code (RFC 6455 section 7.4). */
bool mesa_ws_code_allowed(int code);
/* Of the closing handshake. */
void mesa_ws_timeout(struct mesa_conn *c);
void mesa_ws_closed(struct mesa_conn *c);
void mesa_ws_send_close(struct mesa_conn *c);
void mesa_ws_update_reading(struct mesa_conn *c);

/* transport_deflate.c: permessage-deflate (RFC 7692) */
/* Answers the client's offers; 0, or the status to refuse the upgrade with. `options` may be NULL. */
int mesa_conn_agree_on_deflate(struct mesa_conn *c, const struct mesa_deflate_options *options);
/* Some payload of a compressed message. */
void mesa_ws_received_compressed(struct mesa_conn *c, const struct mesa_ws_item *piece);

/* transport_request.c */
/* Reads a whole head, in place, into transport->upgrade. MESA_EPROTO, MESA_ETOOBIG, MESA_ENOMEM. */
enum mesa_status mesa_head_read(struct mesa_conn *c, char *head, size_t len);
/* Reports a head that could not be read; the listener may be gone. The status to refuse with. */
int mesa_head_refused(struct mesa_conn *c, enum mesa_status why);
/* `to` is empty; on failure it is still to be deinitialized. */
enum mesa_status mesa_capture_copy(struct mesa_capture *to, const struct mesa_capture *from);
void mesa_capture_deinit(struct mesa_capture *cap);
/* The first value of a header, absent when there is none. `name` in lower case. */
struct mesa_span mesa_request_header(const struct mesa_request *req, const char *name);

/* transport_upgrade.c */
/* Whether a comma-separated list has the word, whatever its case. */
bool mesa_header_lists(struct mesa_span list, const char *word);
/* Whether it asks for a WebSocket. Any other Upgrade is ignored (RFC 9110 section 7.8). */
bool mesa_upgrade_wanted(const struct mesa_request *req);
/* Whether the request in transport->upgrade becomes a WebSocket: 0, or the status and headers to refuse
 * with. The listener may be gone. `*waits`: on_handshake is to be called. */
int mesa_upgrade_decide(struct mesa_conn *c, const char **headers, bool *waits);
/* The value of Sec-WebSocket-Accept (RFC 6455 section 4.2.2, 5.4). */
enum { MESA_ACCEPT_TEXT_LEN = 32 };
void mesa_upgrade_accept(struct evp_md_ctx_st *hash, struct mesa_span key,
                         char out[MESA_ACCEPT_TEXT_LEN]);
/* Answers that it does. */
void mesa_upgrade_answer(struct mesa_conn *c, const struct mesa_request *req);

/* transport_handshake.c */
/* Calls on_handshake for the request in transport->upgrade. False: no memory. */
bool mesa_handshake_begin(struct mesa_conn *c);
void mesa_handshake_timeout(struct mesa_conn *c);
void mesa_handshake_detach(struct mesa_conn *c);

/* transport_http.c */
/* The head in transport->upgrade is a request to answer. */
void mesa_http_begin(struct mesa_conn *c);
/* Bytes of the body that have not come yet. */
size_t mesa_http_body_left(const struct mesa_conn *c);
/* At most as many. */
void mesa_http_body(struct mesa_conn *c, const char *data, size_t len);
void mesa_http_writable(struct mesa_conn *c);
void mesa_http_detach(struct mesa_conn *c);
const char *mesa_http_status_text(int status);
/* Writes a small response at once, with the text (absent: the usual one); the connection ends behind it. */
void mesa_conn_refuse(struct mesa_conn *c, int status, const char *extra_headers,
                      struct mesa_span text);

#endif
