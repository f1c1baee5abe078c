/* redis_conn_adapter.c - a hiredis context on the libuv loop. */
#include "broker/redis_conn_adapter.h"

#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

enum {
    RECEIVE_BYTES = 64 * 1024,   /* in one call */
    RECEIVES_PER_EVENT = 128,    /* then others have their turn */
    INPUT_LIMIT = 256 << 20,     /* beyond it, Redis has to wait */
    INPUT_KEPT_BYTES = 64 << 10, /* of an empty buffer */
    FEED_BYTES = 16 * 1024       /* the parser moves what it keeps with each reply */
};

static void on_poll(uv_poll_t *poll, int status, int events)
{
    struct mesa_redis_adapter *a = poll->data;
    a->on_event(a, status, events);
}

/* A socket that is connecting, or libuv's error. */
static int open_socket(const struct sockaddr *sa, socklen_t len, uint32_t keepalive_ms)
{
    int on = 1, idle_s = (int)(keepalive_ms / 1000) + 1;
    int fd = socket(sa->sa_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (fd < 0)
        return uv_translate_sys_error(errno);
    if (sa->sa_family != AF_UNIX) {
        setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
        setsockopt(fd, SOL_SOCKET, SO_KEEPALIVE, &on, sizeof on);
        setsockopt(fd, IPPROTO_TCP, TCP_KEEPIDLE, &idle_s, sizeof idle_s);
        setsockopt(fd, IPPROTO_TCP, TCP_KEEPINTVL, &idle_s, sizeof idle_s);
    }
    if (connect(fd, sa, len) != 0 && errno != EINPROGRESS) {
        int problem = uv_translate_sys_error(errno);
        close(fd);
        return problem;
    }
    return fd;
}

static int attach(struct mesa_redis_adapter *a, uv_loop_t *loop, int fd)
{
    a->context = redisConnectFd(fd);
    if (a->context == NULL)
        return UV_ENOMEM;
    a->context->flags &= ~REDIS_BLOCK;

    int rc = a->context->err != 0 ? UV_ENOMEM : uv_poll_init(loop, &a->poll, fd);
    if (rc != 0) {
        redisFreeKeepFd(a->context);
        a->context = NULL;
        return rc;
    }
    a->poll.data = a;
    a->events = 0;
    return 0;
}

int mesa_redis_adapter_watch(struct mesa_redis_adapter *a, int events)
{
    if (events == a->events)
        return 0;
    a->events = events;
    return uv_poll_start(&a->poll, events, on_poll);
}

int mesa_redis_adapter_connect(struct mesa_redis_adapter *a, uv_loop_t *loop,
                               const struct sockaddr *sa, socklen_t len, uint32_t keepalive_ms)
{
    int fd = open_socket(sa, len, keepalive_ms);
    if (fd < 0)
        return fd;
    int rc = attach(a, loop, fd);
    if (rc != 0)
        close(fd);
    return rc;
}

/* What came, 0: nothing yet, -1: the end. */
static ssize_t receive(struct mesa_redis_adapter *a, char *p, size_t len)
{
    redisContext *c = a->context;
#ifdef MESA_HAVE_HIREDIS_SSL
    ssize_t n = c->funcs->read(c, p, len);
    if (n < 0)
        snprintf(a->reason, sizeof a->reason, "%s",
                 c->err == REDIS_ERR_EOF ? "Redis closed the connection" : c->errstr);
    return n;
#else
    ssize_t n = recv(c->fd, p, len, 0);
    if (n > 0)
        return n;
    if (n < 0 && (errno == EAGAIN || errno == EINTR))
        return 0;
    snprintf(a->reason, sizeof a->reason, "%s",
             n == 0 ? "Redis closed the connection" : strerror(errno));
    return -1;
#endif
}

bool mesa_redis_adapter_receive(struct mesa_redis_adapter *a)
{
    bool any = false;
    for (int i = 0; i < RECEIVES_PER_EVENT && !a->ended; i++) {
        if (a->input.len - a->input_taken >= INPUT_LIMIT ||
            mesa_buf_reserve(&a->input, RECEIVE_BYTES) != MESA_OK)
            break;
        ssize_t n = receive(a, a->input.data + a->input.len, RECEIVE_BYTES);
        if (n == 0)
            break;
        if (n < 0) {
            a->ended = true;
            break;
        }
        a->input.len += (size_t)n;
        any = true;
    }
    return any;
}

bool mesa_redis_adapter_feed(struct mesa_redis_adapter *a, size_t *bytes)
{
    size_t left = a->input.len - a->input_taken;
    size_t n = left < FEED_BYTES ? left : FEED_BYTES;
    if (n > 0 && redisReaderFeed(a->context->reader, a->input.data + a->input_taken, n) != REDIS_OK)
        return false;
    a->input_taken += n;
    mesa_redis_drop_taken(&a->input, &a->input_taken, INPUT_KEPT_BYTES);
    *bytes = n;
    return true;
}

void mesa_redis_drop_taken(struct mesa_buf *b, size_t *taken, size_t keep_bytes)
{
    size_t left = b->len - *taken;
    if (left == 0) {
        mesa_buf_reset(b, keep_bytes);
        *taken = 0;
    } else if (*taken >= left) {
        memmove(b->data, b->data + *taken, left);
        b->len = left;
        *taken = 0;
    }
}

static void on_closed(uv_handle_t *handle)
{
    struct mesa_redis_adapter *a = handle->data;
    a->on_released(a);
}

void mesa_redis_adapter_close(struct mesa_redis_adapter *a)
{
    /* The handle first: libuv must not poll a descriptor that is closed, or used again. */
    uv_close((uv_handle_t *)&a->poll, on_closed);
    redisFree(a->context);
    a->context = NULL;
    mesa_buf_deinit(&a->input);
}
