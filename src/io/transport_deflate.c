/* transport_deflate.c - permessage-deflate (RFC 7692): what is agreed on, and messages that come.
 *
 * Of a message that is not complete, only what has come is kept: it is inflated when all of it is there. So
 * no peer has more memory here than it has sent bytes, and the process's window serves everybody.
 */
#include "base/utf8.h"
#include "io/transport_internal.h"

struct mesa_deflate *mesa_conn_deflate(const struct mesa_conn *c)
{
    return c->deflate;
}

int mesa_conn_agree_on_deflate(struct mesa_conn *c, const struct mesa_deflate_options *options)
{
    static const struct mesa_deflate_wish none = {.takeover = false};
    struct mesa_transport *t = c->transport;
    struct mesa_span header = mesa_request_header(&t->upgrade.request, "sec-websocket-extensions");
    struct mesa_deflate_terms terms;
    enum mesa_status rc = MESA_OK;
    if (header.p == NULL)
        return 0;
    if (options == NULL) /* but a header that is wrong is refused whatever is configured */
        return mesa_deflate_negotiate(header, &none, &terms) == MESA_EPROTO ? 400 : 0;
    if (t->deflate == NULL)
        rc = mesa_deflate_streams_new(&t->deflate);
    if (rc == MESA_OK)
        rc = mesa_deflate_new(&c->deflate, t->deflate, header, options);
    c->reader.deflates = rc == MESA_OK;
    return rc == MESA_EPROTO ? 400 : 0; /* without memory it goes without compression */
}

/* Inflates a whole message and hands it on. */
static void deliver(struct mesa_conn *c, struct mesa_span message, enum mesa_ws_opcode opcode)
{
    struct mesa_transport *t = c->transport;
    const struct mesa_listener_hooks *hooks = &c->listener->hooks;
    struct mesa_buf out = t->inflated; /* a hook may have the loop read other connections */
    mesa_buf_init(&t->inflated);
    enum mesa_status rc =
        mesa_deflate_read(c->deflate, message, c->listener->max_payload_bytes, &out);
    if (rc == MESA_ETOOBIG) {
        mesa_ws_fail(c, MESA_CLOSE_TOO_BIG, "PAYLOAD", "message too big");
    } else if (rc == MESA_EPROTO) {
        mesa_ws_fail(c, MESA_CLOSE_INVALID_DATA, "COMPRESSION", "invalid compressed data");
    } else if (rc != MESA_OK) {
        mesa_ws_fail(c, 1011, "MEMORY", "out of memory");
    } else if (opcode == MESA_WS_TEXT && !mesa_utf8_valid(out.data, out.len)) {
        mesa_ws_fail(c, MESA_CLOSE_INVALID_DATA, "UTF8", "invalid UTF-8");
    } else {
        if (hooks->on_inflated != NULL)
            hooks->on_inflated(c->user, message.len, out.len);
        hooks->on_message(c->user, out.data, out.len, opcode == MESA_WS_BINARY);
    }
    mesa_ws_give_back(&t->inflated, &out);
}

void mesa_ws_received_compressed(struct mesa_conn *c, const struct mesa_ws_item *piece)
{
    /* deflate makes nothing longer by a quarter, flushed now and then */
    size_t max = c->listener->max_payload_bytes, bound = max + max / 4 + 64, len = piece->len;
    struct mesa_transport *t = c->transport;
    if (piece->rest > bound || len > bound - piece->rest ||
        c->message.len > bound - piece->rest - len) {
        mesa_ws_fail(c, MESA_CLOSE_TOO_BIG, "PAYLOAD", "message too big");
        return;
    }
    if (piece->final && !c->in_message) {
        deliver(c, (struct mesa_span){piece->data, len}, piece->opcode);
        return;
    }
    if (mesa_ws_add_fragment(c, piece) != MESA_OK) {
        mesa_ws_fail(c, 1011, "MEMORY", "out of memory");
        return;
    }
    c->in_message = !piece->final;
    if (!piece->final)
        return;
    struct mesa_buf whole = c->message;
    mesa_buf_init(&c->message);
    deliver(c, (struct mesa_span){whole.data, whole.len}, piece->opcode);
    mesa_ws_give_back(&t->spare, &whole);
}
