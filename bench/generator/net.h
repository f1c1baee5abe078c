/* net.h - non-blocking client connections on one epoll: connect, upgrade, read frames in batches, write in batches.
 *
 * Knows WebSocket and nothing of Mesa. All reads go through one large buffer; a connection keeps bytes of its own only while a
 * frame is incomplete or the socket does not take more, so that 10,000 idle connections cost the generator next to nothing.
 * Single thread. Owns the sockets. May include: bytes, tls, wsframe.
 */
#ifndef MESA_BENCH_NET_H
#define MESA_BENCH_NET_H

#include <netinet/in.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "bytes.h"
#include "tls.h"
#include "wsframe.h"

enum conn_state {
    CONN_CLOSED,
    CONN_UPGRADING,
    CONN_HELLO,   /* upgraded; waits for the first frame */
    CONN_AUTH,    /* waits for op 22 */
    CONN_READY,   /* in the hands of the mode */
    CONN_CLOSING, /* sent a close frame; waits for the server's and for the end of the stream */
};

struct conn {
    int fd;
    struct tls *tls; /* NULL: plain */
    uint32_t index;
    enum conn_state state;
    bool wants_write; /* EPOLLOUT is asked for */
    uint64_t opened_ns;
    struct bytes in;   /* an incomplete frame */
    struct bytes part; /* the fragments of an incomplete message */
    struct bytes out;
};

/* Called with `user`. A handler that finds something wrong calls net_fail; reading stops at once. */
struct net_handlers {
    void (*upgraded)(void *user, struct conn *c);
    void (*message)(void *user, struct conn *c, const char *text, size_t len);
    void (*closed)(void *user, struct conn *c,
                   unsigned code); /* a close frame arrived; 1005: without a code */
    void (*ended)(void *user, struct conn *c, enum conn_state was,
                  int error); /* the stream ended (0) or broke (errno); the socket is closed */
};

struct net {
    int epoll_fd;
    struct sockaddr_in server;
    unsigned
        sources; /* loopback addresses to connect from, 127.0.0.1 and up; each has its own ports */
    size_t max_message;
    uint8_t *rx;
    size_t rx_cap;
    struct tls_context *tls; /* NULL: plain */
    char *upgrade;           /* the request, the same for all */
    uint64_t now_ns;         /* of the latest event */
    bool failed;
    char error[256];
    const struct net_handlers *handlers;
    void *user;
};

struct net_options {
    const char *host; /* an IPv4 address */
    uint16_t port;
    const char *path;
    unsigned sources;
    size_t max_message;
    const char *trusted; /* a certificate: TLS. NULL: plain */
};

bool net_init(struct net *n, const struct net_options *o, const struct net_handlers *handlers,
              void *user);
void net_deinit(struct net *n);

/* Begins to connect; `c` is closed. Trouble is reported by net_fail. */
void net_open(struct net *n, struct conn *c);

/* Appends one small frame to what is to be sent. */
void net_queue(struct conn *c, enum ws_opcode opcode, const void *payload, size_t len);

/* Sends what is queued, as far as the socket takes it now; the rest follows by itself. */
void net_flush(struct net *n, struct conn *c);

/* Closes the socket at once and frees what the connection holds. */
void net_close(struct conn *c);

/* Handles what happens within `timeout_ns`. */
void net_poll(struct net *n, uint64_t timeout_ns);

/* Ends the run; the first reason is kept. */
void net_fail(struct net *n, const char *format, ...) __attribute__((format(printf, 2, 3)));

#endif
