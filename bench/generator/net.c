#include "net.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/tcp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include "proc.h"

#ifndef IP_BIND_ADDRESS_NO_PORT
#define IP_BIND_ADDRESS_NO_PORT 24
#endif

#define RX_BYTES (1u << 20)
#define MAX_RESPONSE 8192
#define EVENTS 512
#define NS_PER_S UINT64_C(1000000000)

/* The key and its answer are the example of RFC 6455, section 1.3. */
#define HANDSHAKE_KEY "dGhlIHNhbXBsZSBub25jZQ=="
#define HANDSHAKE_ACCEPT "s3pPLMBiTxaQ9kYGzzhZRbK+xOo="

void net_fail(struct net *n, const char *format, ...)
{
    if (n->failed)
        return;
    va_list args;
    va_start(args, format);
    vsnprintf(n->error, sizeof n->error, format, args);
    va_end(args);
    n->failed = true;
}

bool net_init(struct net *n, const struct net_options *o, const struct net_handlers *handlers,
              void *user)
{
    *n = (struct net){.epoll_fd = -1,
                      .sources = o->sources,
                      .max_message = o->max_message,
                      .handlers = handlers,
                      .user = user};
    n->server.sin_family = AF_INET;
    n->server.sin_port = htons(o->port);
    if (inet_pton(AF_INET, o->host, &n->server.sin_addr) != 1) {
        net_fail(n, "not an IPv4 address: %s", o->host);
        return false;
    }
    if (o->trusted != NULL) {
        n->tls = tls_context_new(o->trusted);
        if (n->tls == NULL) {
            net_fail(n, "not a certificate: %s", o->trusted);
            return false;
        }
    }
    n->epoll_fd = epoll_create1(EPOLL_CLOEXEC);
    if (n->epoll_fd < 0) {
        net_fail(n, "epoll_create1: %s", strerror(errno));
        return false;
    }

    static const char request[] =
        "GET %s HTTP/1.1\r\nHost: %s:%u\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        "Sec-WebSocket-Key: " HANDSHAKE_KEY "\r\nSec-WebSocket-Version: 13\r\n\r\n";
    size_t cap = sizeof request + strlen(o->path) + strlen(o->host) + 8;
    n->upgrade = xmalloc(cap);
    snprintf(n->upgrade, cap, request, o->path, o->host, (unsigned)o->port);

    /* A connection's incomplete frame goes in front of what is read next. */
    n->rx_cap = RX_BYTES + n->max_message + WS_MAX_HEADER + MAX_RESPONSE;
    n->rx = xmalloc(n->rx_cap);
    return true;
}

void net_deinit(struct net *n)
{
    if (n->epoll_fd >= 0)
        close(n->epoll_fd);
    tls_context_free(n->tls);
    free(n->rx);
    free(n->upgrade);
}

static bool bind_source(const struct net *n, int fd, uint32_t index)
{
    bool loopback = ntohl(n->server.sin_addr.s_addr) >> 24 == IN_LOOPBACKNET;
    if (n->sources <= 1 || !loopback)
        return true;
    int one = 1;
    struct sockaddr_in source = {.sin_family = AF_INET,
                                 .sin_addr.s_addr = htonl(INADDR_LOOPBACK + index % n->sources)};
    /* The port is chosen by connect, which knows that only the pair of addresses must be unique. */
    return setsockopt(fd, IPPROTO_IP, IP_BIND_ADDRESS_NO_PORT, &one, sizeof one) == 0 &&
           bind(fd, (const struct sockaddr *)&source, sizeof source) == 0;
}

void net_open(struct net *n, struct conn *c)
{
    int one = 1;
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (fd < 0) {
        net_fail(n, "socket: %s", strerror(errno));
        return;
    }
    struct epoll_event ev = {.events = EPOLLIN, .data.ptr = c};
    if (setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one) != 0 ||
        !bind_source(n, fd, c->index) ||
        (connect(fd, (const struct sockaddr *)&n->server, sizeof n->server) != 0 &&
         errno != EINPROGRESS) ||
        epoll_ctl(n->epoll_fd, EPOLL_CTL_ADD, fd, &ev) != 0) {
        net_fail(n, "connect: %s", strerror(errno));
        close(fd);
        return;
    }
    if (n->tls != NULL && (c->tls = tls_new(n->tls, fd)) == NULL) {
        net_fail(n, "no memory for TLS");
        close(fd);
        return;
    }
    c->fd = fd;
    c->state = CONN_UPGRADING;
    c->opened_ns = now_ns();
    bytes_append(&c->out, n->upgrade, strlen(n->upgrade));
    net_flush(n, c); /* on loopback the connection usually stands by now */
}

void net_close(struct conn *c)
{
    if (c->state == CONN_CLOSED)
        return;
    tls_free(c->tls);
    c->tls = NULL;
    close(c->fd);
    c->fd = -1;
    c->state = CONN_CLOSED;
    c->wants_write = false;
    bytes_free(&c->in);
    bytes_free(&c->part);
    bytes_free(&c->out);
}

void net_queue(struct conn *c, enum ws_opcode opcode, const void *payload, size_t len)
{
    uint8_t *p = bytes_reserve(&c->out, len + WS_MAX_HEADER);
    bytes_commit(&c->out, ws_frame_write(p, opcode, payload, len));
}

static void ended(struct net *n, struct conn *c, int error)
{
    enum conn_state state = c->state;
    net_close(c);
    n->handlers->ended(n->user, c, state, error);
}

static void want_write(struct net *n, struct conn *c, bool wants)
{
    if (c->wants_write == wants)
        return;
    struct epoll_event ev = {.events = wants ? EPOLLIN | EPOLLOUT : EPOLLIN, .data.ptr = c};
    if (epoll_ctl(n->epoll_fd, EPOLL_CTL_MOD, c->fd, &ev) != 0)
        net_fail(n, "epoll_ctl: %s", strerror(errno));
    c->wants_write = wants;
}

static ssize_t stream_send(struct conn *c)
{
    const uint8_t *data = c->out.data + c->out.off;
    size_t len = c->out.len - c->out.off;
    return c->tls != NULL ? tls_write(c->tls, data, len) : send(c->fd, data, len, MSG_NOSIGNAL);
}

static ssize_t stream_recv(struct conn *c, uint8_t *out, size_t cap)
{
    return c->tls != NULL ? tls_read(c->tls, out, cap) : recv(c->fd, out, cap, 0);
}

void net_flush(struct net *n, struct conn *c)
{
    while (c->out.off < c->out.len) {
        ssize_t sent = stream_send(c);
        if (sent < 0) {
            if (errno == EINTR)
                continue;
            if (errno == EAGAIN) {
                want_write(n, c, c->tls == NULL || !tls_waits_for_server(c->tls));
                return;
            }
            net_fail(n, "connection %u: send: %s", c->index, strerror(errno));
            return;
        }
        c->out.off += (size_t)sent;
    }
    bytes_clear(&c->out);
    want_write(n, c, false);
}

/* Returns the bytes taken; 0: incomplete. */
static size_t read_response(struct net *n, struct conn *c, const uint8_t *p, size_t len)
{
    const uint8_t *end = memmem(p, len, "\r\n\r\n", 4);
    if (end == NULL) {
        if (len > MAX_RESPONSE)
            net_fail(n, "connection %u: the answer to the upgrade does not end", c->index);
        return 0;
    }
    size_t size = (size_t)(end - p) + 4;
    char head[MAX_RESPONSE + 1];
    if (size > MAX_RESPONSE) {
        net_fail(n, "connection %u: the answer to the upgrade is too large", c->index);
        return 0;
    }
    memcpy(head, p, size);
    head[size] = '\0';
    if (strncmp(head, "HTTP/1.1 101 ", 13) != 0 ||
        strcasestr(head, "\r\nupgrade: websocket\r\n") == NULL ||
        strcasestr(head, "\r\nconnection: upgrade\r\n") == NULL ||
        strstr(head, ": " HANDSHAKE_ACCEPT "\r\n") == NULL) {
        net_fail(n, "connection %u: upgrade refused: %.*s", c->index, (int)strcspn(head, "\r\n"),
                 head);
        return 0;
    }
    c->state = CONN_HELLO;
    n->handlers->upgraded(n->user, c);
    return size;
}

static void control_frame(struct net *n, struct conn *c, const struct ws_frame *f)
{
    if (f->opcode == WS_PING) {
        net_queue(c, WS_PONG, f->payload, f->len);
    } else if (f->opcode == WS_CLOSE) {
        if (f->len == 1)
            net_fail(n, "connection %u: close frame with one byte", c->index);
        else
            n->handlers->closed(
                n->user, c, f->len == 0 ? 1005 : (unsigned)(f->payload[0] << 8 | f->payload[1]));
    }
}

static void frame(struct net *n, struct conn *c, const struct ws_frame *f)
{
    if (f->opcode >= WS_CLOSE) {
        control_frame(n, c, f);
        return;
    }
    bool continues = f->opcode == WS_CONTINUATION;
    if (continues != (c->part.cap != 0)) {
        net_fail(n, "connection %u: %s", c->index,
                 continues ? "continuation of nothing" : "message inside a message");
        return;
    }
    if (f->fin && !continues) { /* nearly always */
        n->handlers->message(n->user, c, (const char *)f->payload, f->len);
        return;
    }
    bytes_reserve(
        &c->part,
        f->len + 1); /* allocated even when the fragment is empty: it marks the message as begun */
    bytes_append(&c->part, f->payload, f->len);
    if (c->part.len > n->max_message) {
        net_fail(n, "connection %u: message too large", c->index);
    } else if (f->fin) {
        struct bytes whole = c->part;
        c->part = (struct bytes){0};
        n->handlers->message(n->user, c, (const char *)whole.data, whole.len);
        bytes_free(&whole);
    }
}

/* Returns the bytes taken. */
static size_t consume(struct net *n, struct conn *c, const uint8_t *p, size_t len)
{
    size_t at = 0;
    if (c->state == CONN_UPGRADING) {
        at = read_response(n, c, p, len);
        if (at == 0)
            return 0;
    }
    while (at < len && !n->failed && c->fd >= 0) {
        struct ws_frame f;
        enum ws_parse result = ws_frame_parse(p + at, len - at, n->max_message, &f);
        if (result == WS_PARSE_MORE)
            break;
        if (result == WS_PARSE_BAD) {
            net_fail(n, "connection %u: invalid frame, or one over %zu bytes", c->index,
                     n->max_message);
            break;
        }
        at += f.size;
        frame(n, c, &f);
    }
    return at;
}

static void readable(struct net *n, struct conn *c)
{
    size_t kept = c->in.len;
    if (kept != 0)
        memcpy(n->rx, c->in.data, kept);
    ssize_t got = stream_recv(c, n->rx + kept, n->rx_cap - kept);
    if (got < 0 && (errno == EAGAIN || errno == EINTR)) {
        if (c->tls != NULL)
            net_flush(n, c); /* it may have been the handshake's turn */
        return;
    }
    if (got <= 0) {
        ended(n, c, got == 0 ? 0 : errno);
        return;
    }

    size_t len = kept + (size_t)got;
    int fd = c->fd;
    size_t taken = consume(n, c, n->rx, len);
    if (n->failed || c->fd != fd)
        return;
    bytes_clear(&c->in);
    bytes_append(&c->in, n->rx + taken, len - taken);
    if (c->out.len != 0 && !c->wants_write)
        net_flush(n, c);
}

void net_poll(struct net *n, uint64_t timeout_ns)
{
    struct epoll_event events[EVENTS];
    struct timespec timeout = {(time_t)(timeout_ns / NS_PER_S), (long)(timeout_ns % NS_PER_S)};
    int count = epoll_pwait2(n->epoll_fd, events, EVENTS, &timeout, NULL);
    n->now_ns = now_ns();
    if (count < 0 && errno != EINTR)
        net_fail(n, "epoll_pwait2: %s", strerror(errno));

    for (int i = 0; i < count && !n->failed; i++) {
        struct conn *c = events[i].data.ptr;
        if (c->fd < 0)
            continue;
        bool broken = (events[i].events & (EPOLLERR | EPOLLHUP)) != 0; /* recv will say why */
        if ((events[i].events & EPOLLOUT) != 0 && !broken)
            net_flush(n, c);
        if (!n->failed && (broken || (events[i].events & EPOLLIN) != 0)) {
            n->now_ns = now_ns();
            readable(n, c);
        }
    }
}
