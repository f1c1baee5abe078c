/* peer.c - see fixture.h: a client that speaks bytes, so that it can also speak wrong ones. */
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <openssl/ssl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "fixture.h"
#include "test.h"

static int connect_to(const struct fixture *f)
{
    struct sockaddr_in tcp = {.sin_family = AF_INET, .sin_addr = {htonl(INADDR_LOOPBACK)}};
    struct sockaddr_un local = {.sun_family = AF_UNIX};
    bool is_unix = f->config.host != NULL && strncmp(f->config.host, "unix:", 5) == 0;
    int fd = socket(is_unix ? AF_UNIX : AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    int rc, on = 1;
    if (is_unix) {
        snprintf(local.sun_path, sizeof local.sun_path, "%s", f->config.host + 5);
        rc = connect(fd, (struct sockaddr *)&local, sizeof local);
    } else {
        tcp.sin_port = htons(mesa_listener_port(f->listener));
        setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
        rc = connect(fd, (struct sockaddr *)&tcp, sizeof tcp);
    }
    if (rc != 0) {
        close(fd);
        return -1;
    }
    return fd;
}

static bool start_tls(struct peer *p)
{
    static SSL_CTX *ctx;
    if (ctx == NULL)
        ctx = SSL_CTX_new(TLS_client_method());
    SSL *ssl = SSL_new(ctx);
    SSL_set_fd(ssl, p->fd);
    SSL_set_mode(ssl, SSL_MODE_ENABLE_PARTIAL_WRITE | SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER);
    p->ssl = ssl;
    int rc = -1;
    return WAIT_FOR(p->fixture,
                    (rc = SSL_connect(ssl)) == 1 || SSL_get_error(ssl, rc) == SSL_ERROR_SSL) &&
           rc == 1;
}

bool peer_connect(struct peer *p, struct fixture *f)
{
    memset(p, 0, sizeof *p);
    p->fixture = f;
    p->fd = connect_to(f);
    if (p->fd < 0)
        return false;
    fcntl(p->fd, F_SETFL, O_NONBLOCK);
    return f->config.tls == NULL || start_tls(p);
}

/* As recv() and send(), never waiting. */
static ssize_t transfer(struct peer *p, bool out, void *data, size_t len)
{
    if (p->ssl == NULL)
        return out ? send(p->fd, data, len, MSG_DONTWAIT | MSG_NOSIGNAL)
                   : recv(p->fd, data, len, MSG_DONTWAIT);
    int n = out ? SSL_write(p->ssl, data, (int)len) : SSL_read(p->ssl, data, (int)len);
    if (n > 0)
        return n;
    int error = SSL_get_error(p->ssl, n);
    errno = error == SSL_ERROR_WANT_READ || error == SSL_ERROR_WANT_WRITE ? EAGAIN : ECONNRESET;
    return error == SSL_ERROR_ZERO_RETURN ? 0 : -1;
}

void peer_poll(struct peer *p)
{
    while (!p->eof) {
        char chunk[65536];
        ssize_t n = transfer(p, false, chunk, sizeof chunk);
        if (n > 0)
            mesa_buf_append(&p->in, chunk, (size_t)n);
        else if (n == 0 || (errno != EAGAIN && errno != EWOULDBLOCK))
            p->eof = true;
        else
            return;
    }
}

void peer_blank_dates(struct peer *p)
{
    static const char date[] = BLANK_DATE;
    size_t len = sizeof date - 1;
    for (size_t i = 0; i + len <= p->in.len; i++)
        if (memcmp(p->in.data + i, date, 6) == 0)
            memcpy(p->in.data + i, date, len);
}

void peer_sip(struct peer *p, size_t len)
{
    char *chunk = malloc(len);
    for (ssize_t n; len > 0 && (n = transfer(p, false, chunk, len)) > 0; len -= (size_t)n)
        mesa_buf_append(&p->in, chunk, (size_t)n);
    free(chunk);
}

bool peer_send(struct peer *p, const void *data, size_t len)
{
    const char *from = data;
    uint64_t deadline = fixture_now_ms() + FIXTURE_DEADLINE_MS;
    while (len > 0 && fixture_now_ms() < deadline) {
        ssize_t n = transfer(p, true, (void *)(uintptr_t)from, len);
        if (n > 0) {
            from += n;
            len -= (size_t)n;
        } else if (n < 0 && errno != EAGAIN && errno != EWOULDBLOCK) {
            return false;
        } else {
            fixture_turn(p->fixture);
        }
    }
    return len == 0;
}

bool peer_send_text(struct peer *p, const char *text)
{
    return peer_send(p, text, strlen(text));
}

static const char *head_end(const struct peer *p)
{
    return p->in.len == 0 ? NULL : memmem(p->in.data, p->in.len, "\r\n\r\n", 4);
}

bool peer_open(struct peer *p, struct fixture *f, const char *path, const char *headers)
{
    char request[4096];
    if (!peer_connect(p, f))
        return false;
    snprintf(request, sizeof request,
             "GET %s HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
             "Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n%s\r\n",
             path, headers);
    const char *end = NULL;
    bool ok = peer_send_text(p, request) &&
              WAIT_FOR(f, (peer_poll(p), (end = head_end(p)) != NULL || p->eof));
    if (!ok || end == NULL || memcmp(p->in.data, "HTTP/1.1 101", 12) != 0)
        return false;
    /* RFC 6455 section 1.3 */
    ok = memmem(p->in.data, p->in.len, "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=", 28) != NULL;
    peer_consume(p, (size_t)(end + 4 - p->in.data));
    return ok;
}

void peer_close(struct peer *p)
{
    SSL_free(p->ssl);
    if (p->fd >= 0)
        close(p->fd);
    p->fd = -1;
    p->ssl = NULL;
    mesa_buf_deinit(&p->in);
}

void peer_end(struct peer *p)
{
    if (p->ssl != NULL)
        SSL_shutdown(p->ssl);
    shutdown(p->fd, SHUT_WR);
}

void peer_reset(struct peer *p)
{
    struct linger hard = {.l_onoff = 1, .l_linger = 0};
    setsockopt(p->fd, SOL_SOCKET, SO_LINGER, &hard, sizeof hard);
    peer_close(p);
}

bool peer_send_frame(struct peer *p, int first, const void *data, size_t len)
{
    static const unsigned char mask[4] = {0x12, 0x34, 0x56, 0x78};
    unsigned char head[14] = {(unsigned char)first};
    size_t n = len < 126 ? 2 : len < 65536 ? 4 : 10;
    head[1] = (unsigned char)(0x80 | (n == 2 ? len : n == 4 ? 126 : 127));
    for (size_t i = 2; i < n; i++)
        head[i] = (unsigned char)((uint64_t)len >> (8 * (n - 1 - i)));
    memcpy(head + n, mask, 4);

    struct mesa_buf out;
    mesa_buf_init(&out);
    mesa_buf_append(&out, head, n + 4);
    mesa_buf_append(&out, data, len);
    for (size_t i = 0; i < len; i++)
        out.data[n + 4 + i] ^= (char)mask[i & 3];
    bool ok = peer_send(p, out.data, out.len);
    mesa_buf_deinit(&out);
    return ok;
}

bool peer_send_close(struct peer *p, int code, const char *reason)
{
    char body[125] = {(char)(code >> 8), (char)code};
    size_t n = strlen(reason);
    memcpy(body + 2, reason, n);
    return peer_send_frame(p, 0x88, body, n + 2);
}

void peer_consume(struct peer *p, size_t n)
{
    memmove(p->in.data, p->in.data + n, p->in.len - n);
    p->in.len -= n;
}

/* The length of the frame at the front of what has arrived, 0 while it is not complete. */
static size_t parse(const struct peer *p, struct peer_frame *frame)
{
    const unsigned char *s = (const unsigned char *)p->in.data;
    if (p->in.len < 2)
        return 0;
    size_t n = s[1] == 127 ? 10 : s[1] == 126 ? 4 : 2;
    uint64_t len = s[1];
    if (p->in.len < n)
        return 0;
    if (n > 2)
        len = 0;
    for (size_t i = 2; i < n; i++)
        len = len << 8 | s[i];
    if (p->in.len - n < len)
        return 0;
    *frame = (struct peer_frame){s[0] & 15, (s[0] & 0x80) != 0, p->in.data + n, (size_t)len};
    return n + (size_t)len;
}

bool peer_read(struct peer *p, struct peer_frame *frame)
{
    static struct mesa_buf kept;
    size_t n = 0;
    WAIT_FOR(p->fixture, (peer_poll(p), (n = parse(p, frame)) > 0 || p->eof));
    if (n == 0)
        return false;
    mesa_buf_reset(&kept, 1 << 16);
    mesa_buf_append(&kept, frame->data, frame->len);
    frame->data = kept.data;
    peer_consume(p, n);
    return true;
}

bool peer_expect(struct peer *p, int opcode, const char *text)
{
    struct peer_frame f;
    return CHECK(peer_read(p, &f)) && CHECK_EQ_INT(f.opcode, opcode) && CHECK(f.fin) &&
           CHECK_EQ_MEM(f.data, f.len, text, strlen(text));
}

bool peer_expect_close(struct peer *p, int code)
{
    struct peer_frame f;
    if (!CHECK(peer_read(p, &f)) || !CHECK_EQ_INT(f.opcode, 8) || !CHECK(f.len >= 2))
        return false;
    return CHECK_EQ_INT((unsigned char)f.data[0] << 8 | (unsigned char)f.data[1], code);
}

bool peer_expect_eof(struct peer *p)
{
    bool ended = WAIT_FOR(p->fixture, (peer_poll(p), p->in.len = 0, p->eof));
    return CHECK(ended);
}

const char *peer_read_answer(struct peer *p)
{
    peer_end(p);
    return peer_read_all(p);
}

const char *peer_read_all(struct peer *p)
{
    CHECK(WAIT_FOR(p->fixture, (peer_poll(p), p->eof)));
    peer_blank_dates(p);
    mesa_buf_append(&p->in, "", 1);
    return p->in.data;
}
