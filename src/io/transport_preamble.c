/* transport_preamble.c - the PROXY header in front of a connection, with which a proxy says whom it is from.
 *
 * What follows it is somebody else's to read, a TLS session's perhaps: so it is looked at first, and only
 * its own bytes are taken from the socket.
 */
#include <errno.h>
#include <sys/socket.h>

#include "core/proxy_header.h"
#include "io/transport_internal.h"

enum { LOOK_BYTES = 512 }; /* at a time: most headers are shorter */

/* Whether this peer may say whom it forwards. */
static bool is_believed(const struct mesa_conn *c)
{
    const struct mesa_listener *l = c->listener;
    return l->proxy_count == 0 || mesa_listener_believes(l, &c->address);
}

/* The header is there. */
static void go_on(struct mesa_conn *c, const struct mesa_proxy_header *header)
{
    mesa_pending_drop(&c->input);
    c->starved = false;
    c->phase = MESA_CONN_REQUEST;
    if (header->known && is_believed(c)) {
        if (mesa_listener_believes(c->listener, &header->source)) {
            c->address = header->source; /* a proxy, too: its requests name their clients */
        } else if (!mesa_conn_count(c, &header->source)) {
            mesa_conn_kill_later(c);
            return;
        }
    }
    mesa_input_go_on(c);
    mesa_link_watch(c);
}

static void refuse(struct mesa_conn *c, enum mesa_status why)
{
    mesa_conn_kill_later(c);
    mesa_listener_refused(c->listener, &c->address, "HANDSHAKE",
                          why == MESA_ETOOBIG
                              ? "a PROXY header of more than 4096 bytes"
                              : "the connection does not begin with a valid PROXY header, which "
                                "proxyProtocol asks for");
}

/* Takes from the socket what was looked at. */
static bool take(struct mesa_conn *c, size_t len)
{
    return len == 0 || recv(c->fd, c->transport->poller->input, len, MSG_DONTWAIT) == (ssize_t)len;
}

void mesa_preamble_read(struct mesa_conn *c)
{
    char *p = c->transport->poller->input;
    struct mesa_proxy_header header = {.known = false};
    ssize_t n = recv(c->fd, p, LOOK_BYTES, MSG_PEEK | MSG_DONTWAIT);
    if (n <= 0) {
        if (n == 0 || (errno != EAGAIN && errno != EINTR))
            mesa_conn_kill_later(c);
        return;
    }
    size_t kept = c->input != NULL ? c->input->bytes.len : 0, used;
    if (!mesa_pending_keep(&c->input, p, (size_t)n)) {
        mesa_conn_kill_later(c);
        return;
    }
    c->starved = true; /* more must come before anything can be worked on */
    enum mesa_status rc =
        mesa_proxy_header_read(c->input->bytes.data, c->input->bytes.len, &header, &used);
    if (rc != MESA_OK && rc != MESA_EAGAIN)
        refuse(c, rc);
    else if (!take(c, used - kept))
        mesa_conn_kill_later(c);
    else if (rc == MESA_OK)
        go_on(c, &header);
}
