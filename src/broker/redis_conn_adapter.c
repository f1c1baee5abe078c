/* redis_conn_adapter.c - a hiredis context on the libuv loop. */
#include "broker/redis_conn_adapter.h"

#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <unistd.h>

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
}
