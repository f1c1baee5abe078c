/* transport_internal.h - what the files of the transport share; nobody else includes it.
 *
 * A struct mesa_conn is one accepted socket from accept() until it is closed and libwebsockets, when
 * it has it, has let go of it.
 * Whatever calls back the layers above does so from a libwebsockets callback or at the end of a
 * turn, and every such call may close connections and free the listener: closing marks and queues a
 * connection on `work`, and the end of the turn acts. Only there, and in timers, is a socket
 * killed. Loop thread only. May include: base/, core/, io/, libwebsockets.h.
 */
#ifndef MESA_IO_TRANSPORT_INTERNAL_H
#define MESA_IO_TRANSPORT_INTERNAL_H

#include <libwebsockets.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/buf.h"
#include "base/list.h"
#include "base/map.h"
#include "base/status.h"
#include "core/http_request.h"
#include "core/ws_reader.h"
#include "io/loop.h"
#include "io/transport.h"

enum {
    MESA_CLOSE_TIMEOUT_MS = 5000, /* for the peer to answer a close frame */
    /* for a request body to arrive, and for a response to be read any further */
    MESA_HTTP_STALL_TIMEOUT_MS = 30000,
    MESA_MAX_HEADER_BYTES = 8192, /* of a request head; more gets 431 */
    /* what libwebsockets parses: beyond it the connection ends without an answer */
    MESA_PARSED_HEADER_BYTES = 20000,
    MESA_MAX_REASON_BYTES = 123, /* RFC 6455 section 5.5 */
    MESA_UPGRADE_ANSWER_MAX = 256,
};

/* RFC 6455 section 7.4.1. */
enum {
    MESA_CLOSE_PROTOCOL = 1002,
    MESA_CLOSE_NO_STATUS = 1005,
    MESA_CLOSE_ABNORMAL = 1006,
    MESA_CLOSE_INVALID_DATA = 1007,
    MESA_CLOSE_TOO_BIG = 1009,
};

/* A request head: copied out of libwebsockets, which keeps it only while it parses; or where it was
 * received, in transport->poller's buffer. */
struct mesa_capture {
    struct mesa_request request; /* points into the members below */
    struct mesa_buf text;
    struct mesa_buf refs; /* struct header_ref, offsets into `text` while it grows */
    struct mesa_header *headers;
    size_t header_cap;
    int minor; /* of HTTP/1, when the head was read in our own way */
    char protocol[64];
    char ip[48]; /* MESA_ADDRESS_TEXT_LEN */
};

struct mesa_transport {
    struct mesa_loop *loop;
    struct lws_context *context; /* NULL once libwebsockets has freed it */
    struct mesa_poller *poller;  /* of the connections without TLS */
    struct mesa_turn turn;
    struct mesa_list listeners;
    struct mesa_list orphans; /* connections whose listener was freed */
    struct mesa_list work;    /* connections to look after at the end of the turn */
    struct mesa_list lingering;
    unsigned lingering_count;
    /* armed while there are any: another turn hook may mark one when ours has run */
    struct mesa_timer wake;
    struct mesa_capture upgrade; /* the request being upgraded; there is never more than one */
    /* carries the subprotocol's name while libwebsockets writes the 101 */
    struct lws_protocols *renamed;
    struct mesa_buf spare;   /* the last reassembly buffer, for the next message */
    struct mesa_buf handles; /* uv_handle_t *: what libwebsockets opened on the loop for itself */
    void *client_ctx;        /* an SSL_CTX no connection uses, see transport_vhost.c */
    /* outgoing connections and what they share, see client_common.c */
    struct mesa_list client_vhosts, outgoing, released;
    unsigned vhost_count;
    bool created; /* libwebsockets has created a connection since this was cleared */
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
    struct lws_vhost *vhost;        /* NULL without TLS */
    struct mesa_acceptor *acceptor; /* NULL once stopped */
    struct mesa_list conns;
    struct mesa_map *per_ip; /* NULL without a limit */
    struct mesa_timer retry; /* accepts again after running out of descriptors */
    char *unix_path;         /* NULL for TCP */
    uint16_t port;
    bool secure;
    bool accept_failing; /* logged once until an accept succeeds */
    size_t conn_count;
    size_t max_payload_bytes, max_body_bytes;
    uint32_t max_connections, max_connections_per_ip, handshake_timeout_ms;
};

enum mesa_conn_phase {
    MESA_CONN_REQUEST, /* TLS handshake, or the request head is being read */
    MESA_CONN_HTTP,    /* answering a plain request */
    MESA_CONN_OPEN,    /* a WebSocket that on_open has seen */
    MESA_CONN_GONE,    /* on_close has been called, or nobody is left to call */
};

/* Exists from the moment somebody closes the connection. */
struct mesa_closing {
    int code;
    bool by_peer;
    bool drop;
    bool sent;
    bool failed; /* the peer broke the protocol: its answer is not waited for */
    uint8_t reason_len;
    char reason[];
};

struct mesa_address {
    unsigned char bytes[16]; /* IPv4 is mapped into IPv6 */
    bool is_unix;
};

struct mesa_conn {
    struct mesa_list link; /* listener->conns, or transport->orphans */
    struct mesa_list work; /* transport->work */
    struct mesa_transport *transport;
    struct mesa_listener *listener; /* NULL once it was freed */
    struct lws *wsi;                /* NULL: the socket is our own */
    int fd;                         /* -1: libwebsockets has the socket, or it is closed */
    uint32_t events;                /* that `fd` is watched for */
    void *user;
    struct mesa_closing *closing;
    struct mesa_http *http;       /* while MESA_CONN_HTTP */
    struct mesa_timer timer;      /* handshake, then closing; or the response */
    struct mesa_buf message;      /* fragments so far */
    size_t checked;               /* bytes of `message` known to be UTF-8 */
    struct mesa_pending *output;  /* of `fd`, what it has not taken; NULL: nothing */
    struct mesa_pending *input;   /* of `fd`, what was read before reading stopped; NULL: nothing */
    struct mesa_ws_reader reader; /* of `fd` */
    struct mesa_address address;
    enum mesa_conn_phase phase : 8;
    bool kill : 1;         /* end it without further ado */
    bool refused : 1;      /* the request was answered with an error */
    bool linger : 1;       /* but let the peer read what was written last */
    bool opening : 1;      /* inside on_open */
    bool in_message : 1;   /* between the first and the last fragment */
    bool want_drained : 1; /* a write was refused */
    bool held : 1;         /* reading stopped while output is buffered */
    bool paused : 1;       /* reading stopped by the owner */
    bool reading : 1;      /* whether the socket is read */
    bool waits_for_head : 1;
    bool wants_writable : 1; /* of `fd`: told when it is, though nothing is buffered */
    bool deaf : 1; /* the peer has closed or broken the protocol: nothing it sends means anything */
};

/* Some payload of a message. */
struct mesa_ws_piece {
    const char *data;
    size_t len;
    uint64_t rest; /* of the frame's payload, still to come */
    bool final;    /* nothing of the message comes after this */
    bool binary;
    bool ascii; /* known to be, and so valid UTF-8 */
};

/* transport_memory.c: the allocator libwebsockets gets; see there. */
void mesa_rx_memory_install(void);
/* The block that holds the request head `p` points into, zeroes behind it, and its size; NULL when
 * it cannot be told. */
const char *mesa_rx_memory_head(const char *p, size_t *len);
/* What one read takes. At least a TLS record: with part of one left in OpenSSL, libwebsockets loops
 * for ever on a connection that stops being read in the middle of a buffer. */
enum { MESA_RX_BUFFER_BYTES = 16384 };

/* transport_listen.c */
enum mesa_status mesa_socket_listen(const struct mesa_listener_config *cfg, int *fd, uint16_t *port,
                                    char *err, size_t err_len);
void mesa_acceptor_close(struct mesa_acceptor *a);
enum mesa_status mesa_acceptor_open(struct mesa_listener *l, int fd);
void mesa_listener_forget(struct mesa_listener *l, struct mesa_conn *c);
/* Calls on_refused, which may free the listener; NULL is accepted. */
void mesa_listener_refused(struct mesa_listener *l, const struct mesa_address *address,
                           const char *code, const char *text);

/* transport_linger.c */
/* Keeps the connection of `fd` open for a moment after libwebsockets has closed it, which it does
 * in this turn. */
void mesa_linger_begin(struct mesa_transport *t, int fd);
void mesa_linger_end_all(struct mesa_transport *t);

/* transport_vhost.c */
enum mesa_status mesa_vhost_new(struct mesa_transport *t, const struct mesa_listener_config *cfg,
                                struct lws_vhost **out, char *err, size_t err_len);
/* Frees what the vhosts shared; they are gone. */
void mesa_vhost_free_shared(struct mesa_transport *t);
/* Gives the vhost's SSL_CTX its certificate and options; called while the vhost is being created.
 */
int mesa_vhost_load_tls(void *ssl_ctx);

/* transport_link.c: what is below a connection. */
/* False once it is gone. */
bool mesa_link_exists(const struct mesa_conn *c);
int mesa_link_fd(const struct mesa_conn *c);
/* Whether something is written that the socket has not taken. */
bool mesa_link_buffered(const struct mesa_conn *c);
/* What the socket does not take is buffered. False: it is dead. */
bool mesa_link_write(struct mesa_conn *c, const void *bytes, size_t len);
/* mesa_ws_writable, or mesa_http_writable, is called once nothing is buffered. */
void mesa_link_want_writable(struct mesa_conn *c);
void mesa_link_set_reading(struct mesa_conn *c, bool reading);
/* libwebsockets has found a violation by itself and is closing. */
bool mesa_link_failed(const struct mesa_conn *c);
/* Ends it; the connection is freed now or soon. */
void mesa_link_kill(struct mesa_conn *c);

/* transport_plain.c */
enum mesa_status mesa_poller_open(struct mesa_transport *t);
void mesa_poller_close(struct mesa_transport *t);
/* False: `fd` is still the caller's. */
bool mesa_plain_begin(struct mesa_conn *c, int fd);
void mesa_plain_set_reading(struct mesa_conn *c, bool reading);
bool mesa_plain_buffered(const struct mesa_conn *c);
bool mesa_plain_write(struct mesa_conn *c, const void *bytes, size_t len);
void mesa_plain_want_writable(struct mesa_conn *c);
/* Writes what has waited for the end of the turn, and goes on with what was read. */
void mesa_plain_turn(struct mesa_conn *c);
/* Closes the socket and frees the connection. */
void mesa_plain_end(struct mesa_conn *c);

/* transport_conn.c */
int mesa_transport_callback(struct lws *wsi, enum lws_callback_reasons reason, void *session,
                            void *in, size_t len);
struct mesa_conn *mesa_conn_adopt(struct mesa_listener *l, int fd,
                                  const struct mesa_address *address);
/* The socket is gone. */
void mesa_conn_destroyed(struct mesa_conn *c);
void mesa_conn_turn(struct mesa_conn *c);
void mesa_conn_mark(struct mesa_conn *c);
void mesa_conn_kill_later(struct mesa_conn *c);
void mesa_conn_detach(struct mesa_conn *c);
/* Whether the peer has neither closed nor reset the connection, which libwebsockets has. */
bool mesa_conn_peer_is_there(const struct mesa_conn *c);
void mesa_conn_arm(struct mesa_conn *c, uint64_t ms);

/* transport_ws.c */
int mesa_ws_opened(struct mesa_conn *c);
void mesa_ws_received(struct mesa_conn *c, const struct mesa_ws_piece *piece);
void mesa_ws_pong(struct mesa_conn *c);
/* The peer has sent what is no frame. */
void mesa_ws_violated(struct mesa_conn *c, const char *what);
/* Stops reading while what was written is not taken. */
void mesa_ws_hold_if_buffered(struct mesa_conn *c);
/* Writes and stops reading while it is not taken. False: the socket is dead. */
bool mesa_ws_write(struct mesa_conn *c, const void *bytes, size_t len);
int mesa_ws_writable(struct mesa_conn *c);
int mesa_ws_peer_closed(struct mesa_conn *c, const unsigned char *body, size_t len);
/* libwebsockets has begun to end the connection. */
void mesa_ws_ending(struct mesa_conn *c);
void mesa_ws_closed(struct mesa_conn *c);
void mesa_ws_send_close(struct mesa_conn *c);
void mesa_ws_update_reading(struct mesa_conn *c);

/* transport_request.c */
/* `head` is any piece of the head that libwebsockets has passed to a callback. 0, or the HTTP status
 * to refuse with, which was reported: the listener may be gone. */
int mesa_capture_read(struct mesa_capture *cap, struct mesa_conn *c, const char *head);
/* Reads a whole head, in place, into transport->upgrade. MESA_EPROTO, MESA_ETOOBIG, MESA_ENOMEM. */
enum mesa_status mesa_head_read(struct mesa_conn *c, char *head, size_t len);
/* Reports a head that could not be read; the listener may be gone. The status to refuse with. */
int mesa_head_refused(struct mesa_conn *c, enum mesa_status why);
/* An address as text; "unix" for Unix sockets. */
enum { MESA_ADDRESS_TEXT_LEN = 48 };
void mesa_address_text(const struct mesa_address *a, char out[MESA_ADDRESS_TEXT_LEN]);
/* `to` is empty; on failure it is still to be deinitialized. */
enum mesa_status mesa_capture_copy(struct mesa_capture *to, const struct mesa_capture *from);
void mesa_capture_deinit(struct mesa_capture *cap);
/* The first value of a header, absent when there is none. `name` in lower case. */
struct mesa_span mesa_request_header(const struct mesa_request *req, const char *name);

/* transport_upgrade.c */
/* Whether a comma-separated list has the word, whatever its case. */
bool mesa_header_lists(struct mesa_span list, const char *word);
int mesa_upgrade_confirm(struct mesa_conn *c, const char *protocol_name);
/* Whether the request in transport->upgrade becomes a WebSocket: 0, or the status and headers to refuse
 * with. The listener may be gone. */
int mesa_upgrade_decide(struct mesa_conn *c, const char **headers);
/* The answer to it; returns its length. */
size_t mesa_upgrade_answer(struct mesa_transport *t, char out[MESA_UPGRADE_ANSWER_MAX]);
void mesa_upgrade_done(struct mesa_transport *t);

/* transport_http.c */
/* libwebsockets has read a head. These four return -1 to have the connection ended. */
int mesa_http_begin(struct mesa_conn *c, const char *head);
int mesa_http_body(struct mesa_conn *c, const char *data, size_t len);
int mesa_http_body_complete(struct mesa_conn *c);
int mesa_http_writable(struct mesa_conn *c);
/* The head in transport->upgrade has been taken off a socket of our own. */
void mesa_http_begin_plain(struct mesa_conn *c);
/* Bytes of the body that have not come yet. */
size_t mesa_http_body_left(const struct mesa_conn *c);
void mesa_http_timeout(struct mesa_conn *c);
void mesa_http_detach(struct mesa_conn *c);
const char *mesa_http_status_text(int status);
/* Writes a small response at once; the caller closes the connection. */
void mesa_http_refuse(struct mesa_conn *c, int status, const char *extra_headers);

#endif
