/* transport_output.c - what goes out: straight to the socket, or kept until it takes more.
 *
 * Bytes over TLS go through the session, which must be given again what it has not taken: they are
 * kept in order in front of everything that is written later.
 */
#include <errno.h>
#include <linux/sockios.h>
#include <stdlib.h>
#include <sys/ioctl.h>
#include <sys/socket.h>

#include "io/transport_internal.h"

bool mesa_link_buffered(const struct mesa_conn *c)
{
    return c->output != NULL && !c->output->corked;
}

void mesa_pending_drop(struct mesa_pending **p)
{
    if (*p == NULL)
        return;
    mesa_buf_deinit(&(*p)->bytes);
    free(*p);
    *p = NULL;
}

bool mesa_pending_keep(struct mesa_pending **p, const char *bytes, size_t len)
{
    if (*p == NULL)
        *p = calloc(1, sizeof **p);
    return *p != NULL && mesa_buf_append(&(*p)->bytes, bytes, len) == MESA_OK;
}

/* What the socket takes of `len` bytes; -1: it is dead. */
static ssize_t send_some(struct mesa_conn *c, const char *bytes, size_t len)
{
    ssize_t n = c->tls == NULL ? send(c->fd, bytes, len, MSG_NOSIGNAL | MSG_DONTWAIT)
                               : mesa_tls_write(&c->tls->session, bytes, len);
    if (n >= 0)
        return n;
    return errno == EAGAIN || errno == EINTR || errno == ENOBUFS ? 0 : -1;
}

bool mesa_link_flush(struct mesa_conn *c)
{
    struct mesa_pending *o = c->output;
    if (o == NULL)
        return true;
    o->corked = false;
    ssize_t n = send_some(c, o->bytes.data + o->done, o->bytes.len - o->done);
    if (n < 0)
        return false;
    o->done += (size_t)n;
    c->taken = c->taken || n > 0;
    if (o->done == o->bytes.len)
        mesa_pending_drop(&c->output);
    mesa_link_watch(c);
    return true;
}

void mesa_link_cork(struct mesa_conn *c, const void *bytes, size_t len)
{
    bool first = c->output == NULL;
    if (!mesa_pending_keep(&c->output, bytes, len)) {
        mesa_conn_kill_later(c);
    } else if (first) {
        c->output->corked = true;
        mesa_conn_mark(c);
    }
}

bool mesa_link_write(struct mesa_conn *c, const void *bytes, size_t len)
{
    if (c->output != NULL) {
        bool corked = c->output->corked;
        return mesa_pending_keep(&c->output, bytes, len) && (!corked || mesa_link_flush(c));
    }
    ssize_t n = send_some(c, bytes, len);
    if (n < 0)
        return false;
    if ((size_t)n == len)
        return true;
    if (!mesa_pending_keep(&c->output, (const char *)bytes + n, len - (size_t)n))
        return false;
    mesa_link_watch(c);
    return true;
}

size_t mesa_link_unsent(const struct mesa_conn *c)
{
    int queued = 0;
    size_t kept = c->output != NULL ? c->output->bytes.len - c->output->done : 0;
    return ioctl(c->fd, SIOCOUTQ, &queued) == 0 && queued > 0 ? kept + (size_t)queued : kept;
}
