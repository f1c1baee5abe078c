/* transport_ws.c - an open WebSocket: messages in, bytes out, backpressure and the closing
 * handshake.
 *
 * All writes are whole frames, the close frame included. While the link has a partial write buffered
 * nothing more is written, and the peer is not read from either: a client that does not read could
 * otherwise make the layers above queue without end.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/inline.h"
#include "base/utf8.h"
#include "io/transport_internal.h"

enum { SPARE_BYTES = 1 << 20 };

void *mesa_conn_user(const struct mesa_conn *c)
{
    return c->user;
}

/* Tells the link whether to read, when that has changed. A connection being closed is always
 * read: its answer is awaited. */
void mesa_ws_update_reading(struct mesa_conn *c)
{
    bool reading = c->closing != NULL || !(c->held || c->paused);
    if (reading != c->reading)
        mesa_link_set_reading(c, reading);
}

void mesa_conn_pause(struct mesa_conn *c)
{
    c->paused = true;
    mesa_ws_update_reading(c);
}

void mesa_conn_resume(struct mesa_conn *c)
{
    c->paused = false;
    mesa_ws_update_reading(c);
}

void mesa_ws_hold_if_buffered(struct mesa_conn *c)
{
    if (!mesa_link_buffered(c))
        return;
    c->held = true;
    mesa_ws_update_reading(c);
}

static bool write_frames(struct mesa_conn *c, const void *bytes, size_t len)
{
    if (!mesa_link_write(c, bytes, len)) {
        mesa_conn_kill_later(c);
        return false;
    }
    mesa_ws_hold_if_buffered(c);
    return true;
}

/* Until its end is answered, whoever ended the conversation is owed the answers to what came before. */
static bool may_write(const struct mesa_conn *c)
{
    const struct mesa_closing *k = c->closing;
    if (c->kill || c->phase != MESA_CONN_OPEN)
        return false;
    return k == NULL || (!k->sent && (k->by_peer || k->failed));
}

MESA_INLINE enum mesa_status ready(struct mesa_conn *c)
{
    if (!may_write(c))
        return MESA_ECLOSED;
    if (!mesa_link_buffered(c))
        return MESA_OK;
    c->want_drained = true;
    mesa_link_want_writable(c);
    return MESA_EAGAIN;
}

enum mesa_status mesa_conn_ready(struct mesa_conn *c)
{
    return ready(c);
}

enum mesa_status mesa_conn_write(struct mesa_conn *c, const void *bytes, size_t len)
{
    enum mesa_status rc = ready(c);
    if (rc != MESA_OK)
        return rc;
    return write_frames(c, bytes, len) ? MESA_OK : MESA_ECLOSED;
}

/* Begins to close; false when it was closing already. Without memory the connection just ends. */
static bool begin_close(struct mesa_conn *c, int code, const char *reason, size_t len, bool by_peer,
                        bool drop)
{
    if (c->closing != NULL || c->kill || c->phase != MESA_CONN_OPEN)
        return false;
    if (len > MESA_MAX_REASON_BYTES) {
        len = MESA_MAX_REASON_BYTES;
        while (len > 0 && ((unsigned char)reason[len] & 0xc0) == 0x80)
            len--;
    }
    struct mesa_closing *closing = malloc(sizeof *closing + len);
    if (closing == NULL) {
        mesa_conn_kill_later(c);
        return false;
    }
    *closing = (struct mesa_closing){
        .code = code, .by_peer = by_peer, .drop = drop, .reason_len = (uint8_t)len};
    if (len > 0)
        memcpy(closing->reason, reason, len);
    c->closing = closing;
    mesa_buf_deinit(&c->message);
    c->unsent = SIZE_MAX;
    if (mesa_link_buffered(c))
        (void)mesa_conn_is_read(c);
    mesa_conn_arm(c, MESA_CLOSE_TIMEOUT_MS);
    mesa_ws_update_reading(c);
    mesa_conn_mark(c);
    return true;
}

void mesa_conn_close(struct mesa_conn *c, int code, const char *reason, size_t len, bool drop)
{
    (void)begin_close(c, code, reason, len, false, drop);
}

bool mesa_conn_is_read(struct mesa_conn *c)
{
    size_t left = mesa_link_unsent(c);
    bool some = c->taken || left < c->unsent;
    c->taken = false;
    c->unsent = left;
    return some;
}

void mesa_ws_timeout(struct mesa_conn *c)
{
    if (mesa_conn_is_read(c) && c->unsent > 0) {
        mesa_conn_arm(c, MESA_CLOSE_TIMEOUT_MS);
        return;
    }
    c->linger = c->closing->sent;
    mesa_conn_kill_later(c);
}

static bool write_close_frame(struct mesa_conn *c, int code, const char *reason, size_t len)
{
    unsigned char frame[4 + MESA_MAX_REASON_BYTES] = {0x88};
    size_t body = 0;
    if (code != MESA_CLOSE_NO_STATUS) {
        frame[2] = (unsigned char)(code >> 8);
        frame[3] = (unsigned char)code;
        if (len > 0)
            memcpy(frame + 4, reason, len);
        body = 2 + len;
    }
    frame[1] = (unsigned char)body;
    return write_frames(c, frame, 2 + body);
}

void mesa_ws_send_close(struct mesa_conn *c)
{
    struct mesa_closing *k = c->closing;
    bool owed = c->want_drained && may_write(c); /* the layer above has more to write */
    if (!k->sent && !owed && !mesa_link_buffered(c)) {
        k->sent = true;
        if (!write_close_frame(c, k->code, k->reason, k->reason_len))
            return;
    }
    bool written = k->sent && !mesa_link_buffered(c);
    if (k->drop || (written && (k->by_peer || k->answered || k->failed))) {
        c->linger = k->sent && (k->drop || k->failed);
        mesa_conn_kill_later(c);
    } else if (!written) {
        mesa_link_want_writable(c);
    }
}

void mesa_ws_fail(struct mesa_conn *c, int code, const char *error, const char *text)
{
    if (!begin_close(c, code, text, strlen(text), false, false))
        return;
    c->closing->failed = true;
    if (c->listener->hooks.on_protocol_error != NULL)
        c->listener->hooks.on_protocol_error(c->user, code, error, text);
}

void mesa_ws_violated(struct mesa_conn *c, const char *what)
{
    char text[MESA_MAX_REASON_BYTES + 1];
    if (c->closing != NULL) { /* the answer that was waited for will not come */
        c->closing->failed = true;
        mesa_conn_mark(c);
        return;
    }
    snprintf(text, sizeof text, "invalid frame: %s", what);
    mesa_ws_fail(c, MESA_CLOSE_PROTOCOL, "PROTOCOL", text);
}

/* Whether a chunk may end in these bytes, being the beginning of a character. */
static bool may_continue(const char *p, size_t len)
{
    const unsigned char *s = (const unsigned char *)p;
    unsigned char low = 0x80, high = 0xbf;
    size_t need = s[0] >= 0xf0 ? 4 : s[0] >= 0xe0 ? 3 : 2;
    if (s[0] < 0xc2 || s[0] > 0xf4 || len >= need)
        return false;
    if (len == 1)
        return true;
    if (s[0] == 0xe0)
        low = 0xa0;
    else if (s[0] == 0xed)
        high = 0x9f;
    else if (s[0] == 0xf0)
        low = 0x90;
    else if (s[0] == 0xf4)
        high = 0x8f;
    return s[1] >= low && s[1] <= high && (len == 2 || (s[2] & 0xc0) == 0x80);
}

/* Checks what has been added to the message, as far as whole characters go. */
static bool check_text(struct mesa_conn *c, bool final)
{
    const char *from = c->message.data + c->checked;
    size_t left = c->message.len - c->checked;
    size_t good = mesa_utf8_prefix(from, left);
    c->checked += good;
    if (good == left)
        return true;
    return !final && may_continue(from + good, left - good);
}

enum mesa_status mesa_ws_add_fragment(struct mesa_conn *c, const struct mesa_ws_item *piece)
{
    struct mesa_buf *spare = &c->transport->spare;
    if (c->message.cap == 0 && spare->cap > 0) {
        c->message = *spare;
        mesa_buf_init(spare);
    }
    /* the rest of this frame is bounded by max_payload and untouched until it comes */
    enum mesa_status rc = mesa_buf_reserve(&c->message, piece->len + (size_t)piece->rest);
    return rc == MESA_OK ? mesa_buf_append(&c->message, piece->data, piece->len) : rc;
}

void mesa_ws_give_back(struct mesa_buf *spare, struct mesa_buf *done)
{
    done->len = 0;
    if (done->cap <= SPARE_BYTES && done->cap > spare->cap) {
        mesa_buf_deinit(spare);
        *spare = *done;
    } else {
        mesa_buf_deinit(done);
    }
}

static void received_fragment(struct mesa_conn *c, const struct mesa_ws_item *piece)
{
    if (mesa_ws_add_fragment(c, piece) != MESA_OK) {
        mesa_ws_fail(c, 1011, "MEMORY", "out of memory");
        return;
    }
    c->in_message = !piece->final;
    if (piece->opcode == MESA_WS_TEXT && !check_text(c, piece->final)) {
        mesa_ws_fail(c, MESA_CLOSE_INVALID_DATA, "UTF8", "invalid UTF-8");
        return;
    }
    if (!piece->final)
        return;
    struct mesa_buf done = c->message;
    struct mesa_transport *t = c->transport;
    mesa_buf_init(&c->message);
    c->checked = 0;
    c->listener->hooks.on_message(c->user, done.data, done.len, piece->opcode == MESA_WS_BINARY);
    mesa_ws_give_back(&t->spare, &done);
}

void mesa_ws_received(struct mesa_conn *c, const struct mesa_ws_item *piece)
{
    if (c->closing != NULL || c->kill || c->phase != MESA_CONN_OPEN)
        return;
    size_t max = c->listener->max_payload_bytes, len = piece->len;
    if (piece->compressed)
        mesa_ws_received_compressed(c, piece);
    else if (piece->rest > max || len > max - piece->rest ||
             c->message.len > max - piece->rest - len)
        mesa_ws_fail(c, MESA_CLOSE_TOO_BIG, "PAYLOAD", "message too big");
    else if (!piece->final || c->in_message)
        received_fragment(c, piece);
    else if (piece->opcode == MESA_WS_TEXT && !piece->ascii && !mesa_utf8_valid(piece->data, len))
        mesa_ws_fail(c, MESA_CLOSE_INVALID_DATA, "UTF8", "invalid UTF-8");
    else /* a message in one piece, the usual case, is not copied */
        c->listener->hooks.on_message(c->user, piece->data, len, piece->opcode == MESA_WS_BINARY);
}

void mesa_ws_pong(struct mesa_conn *c)
{
    if (c->phase == MESA_CONN_OPEN && c->closing == NULL && c->listener->hooks.on_pong != NULL)
        c->listener->hooks.on_pong(c->user);
}

void mesa_ws_opened(struct mesa_conn *c, const struct mesa_request *req)
{
    mesa_conn_arm(c, 0);
    c->phase = MESA_CONN_OPEN;
    c->opening = true;
    struct mesa_listener_hooks hooks = c->listener->hooks;
    void *user = hooks.on_open(c->listener->ctx, c, req);
    c->opening = false;
    c->user = user;
    if (c->phase != MESA_CONN_OPEN) /* on_open freed the listener */
        hooks.on_close(user, MESA_CLOSE_ABNORMAL, "", 0, true);
}

void mesa_ws_writable(struct mesa_conn *c)
{
    if (c->phase != MESA_CONN_OPEN || mesa_link_buffered(c))
        return;
    c->held = false;
    mesa_ws_update_reading(c);
    bool owed = c->want_drained && may_write(c);
    c->want_drained = false;
    if (c->closing != NULL)
        mesa_conn_mark(c);
    if (owed && c->listener->hooks.on_drained != NULL)
        c->listener->hooks.on_drained(c->user);
}

bool mesa_ws_code_allowed(int code)
{
    if (code >= 3000)
        return code <= 4999;
    return code >= 1000 && code <= 1014 && code != 1004 && code != MESA_CLOSE_NO_STATUS &&
           code != MESA_CLOSE_ABNORMAL;
}

void mesa_ws_peer_closed(struct mesa_conn *c, const unsigned char *body, size_t len)
{
    int code = len >= 2 ? body[0] << 8 | body[1] : MESA_CLOSE_NO_STATUS;
    const char *reason = (const char *)body + 2;
    size_t reason_len = len > 2 ? len - 2 : 0;

    if (c->closing != NULL) {
        c->closing->answered = true;
        mesa_conn_mark(c);
    } else if (len == 1 || (len >= 2 && !mesa_ws_code_allowed(code))) {
        mesa_ws_fail(c, MESA_CLOSE_PROTOCOL, "PROTOCOL", "invalid close frame");
    } else if (reason_len > 0 && !mesa_utf8_valid(reason, reason_len)) {
        mesa_ws_fail(c, MESA_CLOSE_INVALID_DATA, "UTF8", "invalid UTF-8 in a close reason");
    } else {
        (void)begin_close(c, code, reason, reason_len, true, false);
    }
}

void mesa_ws_closed(struct mesa_conn *c)
{
    int code = MESA_CLOSE_ABNORMAL;
    bool by_peer = true;
    struct mesa_span reason = {"", 0};

    c->phase = MESA_CONN_GONE;
    if (c->closing != NULL) {
        code = c->closing->code;
        by_peer = c->closing->by_peer;
        reason = (struct mesa_span){c->closing->reason, c->closing->reason_len};
    }
    if (c->listener != NULL && !c->opening)
        c->listener->hooks.on_close(c->user, code, reason.p, reason.len, by_peer);
    c->user = NULL;
}
