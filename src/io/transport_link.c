/* transport_link.c - the socket below a connection: libwebsockets' (TLS), or our own. */
#include <sys/socket.h>

#include "io/transport_internal.h"

bool mesa_link_exists(const struct mesa_conn *c)
{
    return c->wsi != NULL || c->fd >= 0;
}

int mesa_link_fd(const struct mesa_conn *c)
{
    return c->wsi != NULL ? lws_get_socket_fd(c->wsi) : c->fd;
}

bool mesa_link_buffered(const struct mesa_conn *c)
{
    return c->wsi != NULL ? lws_partial_buffered(c->wsi) : mesa_plain_buffered(c);
}

bool mesa_link_write(struct mesa_conn *c, const void *bytes, size_t len)
{
    if (c->wsi == NULL)
        return mesa_plain_write(c, bytes, len);
    /* RAW only reads the buffer */
    return lws_write(c->wsi, (unsigned char *)(uintptr_t)bytes, len, LWS_WRITE_RAW) >= 0;
}

void mesa_link_want_writable(struct mesa_conn *c)
{
    if (c->wsi != NULL)
        lws_callback_on_writable(c->wsi);
    else
        mesa_plain_want_writable(c);
}

void mesa_link_set_reading(struct mesa_conn *c, bool reading)
{
    if (c->wsi == NULL) {
        mesa_plain_set_reading(c, reading);
        return;
    }
    c->reading = reading;
    lws_rx_flow_control(c->wsi, reading ? 1 : 0);
}

bool mesa_link_failed(const struct mesa_conn *c)
{
    return c->wsi != NULL && lws_get_close_length(c->wsi) > 0;
}

static void kill_wsi(struct mesa_conn *c)
{
    if (!lws_partial_buffered(c->wsi)) {
        lws_set_timeout(c->wsi, PENDING_TIMEOUT_USER_REASON_BASE, LWS_TO_KILL_SYNC);
        return;
    }
    /* libwebsockets would wait for the reader; a dead socket it gives up the next time it looks,
     * which it does at once. */
    struct linger hard = {.l_onoff = 1, .l_linger = 0};
    int fd = lws_get_socket_fd(c->wsi);
    (void)setsockopt(fd, SOL_SOCKET, SO_LINGER, &hard, sizeof hard);
    shutdown(fd, SHUT_RDWR);
    c->held = c->paused = false;
    mesa_ws_update_reading(c);
    lws_callback_on_writable(c->wsi);
}

void mesa_link_kill(struct mesa_conn *c)
{
    if (c->linger && !mesa_link_buffered(c))
        mesa_linger_begin(c->transport, mesa_link_fd(c));
    if (c->wsi != NULL)
        kill_wsi(c);
    else
        mesa_plain_end(c);
}
