/* transport_listen.c - listeners: opening, accepting, stopping. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/log.h"
#include "io/transport_internal.h"

enum {
    ACCEPTS_PER_TURN = 64,
    ACCEPT_RETRY_MS = 100, /* after running out of descriptors or memory */
};

static void accept_failed(struct mesa_listener *l, int error)
{
    if (error == EAGAIN || error == EWOULDBLOCK || error == EINTR || error == ECONNABORTED)
        return;
    /* The socket stays readable: without a pause the loop would spin. */
    if (!l->accept_failing)
        mesa_log(MESA_LOG_ERROR, "io", "cannot accept connections on port %u: %s", l->port,
                 strerror(error));
    l->accept_failing = true;
    uv_poll_stop(&l->acceptor->poll);
    mesa_loop_arm(l->transport->loop, &l->retry, ACCEPT_RETRY_MS);
}

static void on_readable(uv_poll_t *poll, int status, int events)
{
    struct mesa_acceptor *a = poll->data;
    struct mesa_listener *l = a->listener;
    (void)events;
    if (status < 0 || l == NULL)
        return;
    for (int i = 0; i < ACCEPTS_PER_TURN && a->listener != NULL; i++) {
        struct sockaddr_storage from = {.ss_family = AF_UNSPEC};
        socklen_t len = sizeof from;
        int fd = accept4(a->fd, (struct sockaddr *)&from, &len, SOCK_CLOEXEC | SOCK_NONBLOCK);
        if (fd < 0) {
            accept_failed(l, errno);
            return;
        }
        l->accept_failing = false;
        mesa_listener_admit(l, fd, &from);
    }
}

static void on_retry(struct mesa_timer *timer)
{
    struct mesa_listener *l = MESA_CONTAINER_OF(timer, struct mesa_listener, retry);
    uv_poll_start(&l->acceptor->poll, UV_READABLE, on_readable);
}

enum mesa_status mesa_acceptor_open(struct mesa_listener *l, int fd)
{
    struct mesa_acceptor *a = calloc(1, sizeof *a);
    if (a == NULL)
        return MESA_ENOMEM;
    a->fd = fd;
    a->listener = l;
    if (uv_poll_init(mesa_loop_uv(l->transport->loop), &a->poll, fd) != 0) {
        free(a);
        return MESA_EIO;
    }
    a->poll.data = a;
    uv_poll_start(&a->poll, UV_READABLE, on_readable);
    l->acceptor = a;
    mesa_loop_hold(l->transport->loop); /* also while accepting pauses */
    return MESA_OK;
}

static void on_acceptor_closed(uv_handle_t *h)
{
    struct mesa_acceptor *a = h->data;
    free(a);
}

void mesa_acceptor_close(struct mesa_acceptor *a)
{
    a->listener = NULL;
    uv_poll_stop(&a->poll);
    close(a->fd);
    uv_close((uv_handle_t *)&a->poll, on_acceptor_closed);
}

static enum mesa_status fill_listener(struct mesa_listener *l,
                                      const struct mesa_listener_config *cfg)
{
    if (cfg->max_connections_per_ip != 0 && mesa_map_new(&l->per_ip) != MESA_OK)
        return MESA_ENOMEM;
    if (cfg->host != NULL && strncmp(cfg->host, "unix:", 5) == 0) {
        l->unix_path = strdup(cfg->host + 5);
        if (l->unix_path == NULL)
            return MESA_ENOMEM;
    }
    l->max_payload_bytes = cfg->max_payload_bytes;
    l->max_body_bytes = cfg->max_body_bytes;
    l->max_connections = cfg->max_connections;
    l->max_connections_per_ip = cfg->max_connections_per_ip;
    l->handshake_timeout_ms = cfg->handshake_timeout_ms;
    l->tls_config = cfg->tls;
    l->proxies = cfg->proxies;
    l->proxy_count = cfg->proxy_count;
    l->proxy_protocol = cfg->proxy_protocol;
    return MESA_OK;
}

enum mesa_status mesa_listener_open(struct mesa_listener **out, struct mesa_transport *t,
                                    const struct mesa_listener_config *cfg,
                                    const struct mesa_listener_hooks *hooks, void *ctx, char *err,
                                    size_t err_len)
{
    int fd = -1;
    enum mesa_status rc = MESA_ENOMEM;
    struct mesa_listener *l = calloc(1, sizeof *l);
    snprintf(err, err_len, "out of memory");
    if (l == NULL)
        return rc;
    l->transport = t;
    l->hooks = *hooks;
    l->ctx = ctx;
    mesa_list_init(&l->conns);
    mesa_timer_init(&l->retry, on_retry);
    mesa_timer_init(&l->expiry, mesa_listener_on_expiry);
    mesa_list_append(&t->listeners, &l->link);

    rc = fill_listener(l, cfg);
    if (rc != MESA_OK)
        goto fail;
    rc = mesa_socket_listen(cfg, &fd, &l->port, err, err_len);
    if (rc != MESA_OK) {
        free(l->unix_path); /* not ours to unlink */
        l->unix_path = NULL;
        goto fail;
    }
    if (l->tls_config != NULL)
        rc = mesa_listener_open_tls(l, err, err_len);
    if (rc == MESA_OK)
        rc = mesa_acceptor_open(l, fd);
    if (rc != MESA_OK) {
        close(fd);
        goto fail;
    }
    if (l->tls_config != NULL)
        mesa_listener_watch_expiry(l);
    err[0] = '\0';
    *out = l;
    return MESA_OK;

fail:
    mesa_listener_free(l);
    return rc;
}

uint16_t mesa_listener_port(const struct mesa_listener *l)
{
    return l->port;
}

void mesa_listener_stop(struct mesa_listener *l)
{
    if (l->acceptor != NULL) {
        mesa_loop_cancel(l->transport->loop, &l->retry);
        mesa_loop_cancel(l->transport->loop, &l->expiry);
        mesa_acceptor_close(l->acceptor);
        mesa_loop_release(l->transport->loop);
        l->acceptor = NULL;
    }
    if (l->unix_path != NULL) {
        unlink(l->unix_path);
        free(l->unix_path);
        l->unix_path = NULL;
    }
}

void mesa_listener_free(struct mesa_listener *l)
{
    if (l == NULL)
        return;
    mesa_listener_stop(l);
    while (!mesa_list_empty(&l->conns))
        mesa_conn_detach(MESA_CONTAINER_OF(l->conns.next, struct mesa_conn, link));
    mesa_counts_free(l->per_ip);
    mesa_listener_close_tls(l);
    mesa_list_remove(&l->link);
    free(l);
}
