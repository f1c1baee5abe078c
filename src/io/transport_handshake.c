/* transport_handshake.c - upgrade requests that somebody has still to decide about.
 *
 * Handed out as mesa_handshake and freed once it was answered. Until then nothing is read from the
 * connection, so that its end is the only news; the time it has is limits.handshakeTimeout.
 */
#include <stdlib.h>

#include "io/transport_internal.h"

struct mesa_handshake {
    struct mesa_conn *conn; /* NULL once the peer has left, or the time was over */
    struct mesa_capture capture;
};

static void handshake_free(struct mesa_handshake *h)
{
    mesa_capture_deinit(&h->capture);
    free(h);
}

bool mesa_handshake_begin(struct mesa_conn *c)
{
    struct mesa_handshake *h = calloc(1, sizeof *h);
    if (h == NULL)
        return false;
    if (mesa_capture_copy(&h->capture, &c->transport->upgrade) != MESA_OK) {
        handshake_free(h);
        return false;
    }
    h->conn = c;
    c->handshake = h;
    c->phase = MESA_CONN_DECIDING;
    mesa_conn_pause(c);
    mesa_link_watch(c);
    struct mesa_listener *l = c->listener;
    l->hooks.on_handshake(l->ctx, h, &h->capture.request);
    return true;
}

void mesa_handshake_detach(struct mesa_conn *c)
{
    if (c->handshake != NULL)
        c->handshake->conn = NULL;
    c->handshake = NULL;
}

void mesa_handshake_timeout(struct mesa_conn *c)
{
    const struct mesa_address from = c->address;
    struct mesa_listener *l = c->listener;
    mesa_handshake_detach(c);
    mesa_conn_refuse(c, 503, "", (struct mesa_span){NULL, 0});
    mesa_listener_refused(l, &from, "HANDSHAKE",
                          "nobody has decided about the upgrade within limits.handshakeTimeout");
}

bool mesa_handshake_waits(const struct mesa_handshake *h)
{
    return h->conn != NULL && !h->conn->kill;
}

/* The connection is a WebSocket from here on. */
static void let_in(struct mesa_conn *c, const struct mesa_request *req)
{
    mesa_upgrade_answer(c, req);
    if (c->kill)
        return;
    c->paused = false; /* on_open may pause it again */
    mesa_ws_opened(c, req);
    if (c->phase == MESA_CONN_OPEN)
        mesa_ws_update_reading(c);
}

void mesa_handshake_answer(struct mesa_handshake *h, int status, struct mesa_span text)
{
    struct mesa_conn *c = mesa_handshake_waits(h) ? h->conn : NULL;
    if (h->conn != NULL)
        mesa_handshake_detach(h->conn);
    if (c != NULL && status == 0)
        let_in(c, &h->capture.request);
    else if (c != NULL)
        mesa_conn_refuse(c, status, "", text);
    handshake_free(h);
}
