/* wsclient_frames.c - what the server sends, and what is sent to it (RFC 6455 section 5). */
#include <openssl/rand.h>
#include <stdio.h>
#include <string.h>

#include "base/utf8.h"
#include "io/wsclient_internal.h"

/* -- sending ------------------------------------------------------------------------------------ */

enum mesa_status mesa_wsclient_write(struct mesa_wsclient *c, enum mesa_ws_opcode opcode,
                                     const char *payload, size_t len)
{
    unsigned char key[4];
    struct mesa_frame *f;
    struct mesa_buf masked;
    enum mesa_status rc = mesa_frame_new(&f, opcode, payload, len);
    if (rc != MESA_OK)
        return rc;
    mesa_buf_init(&masked);
    rc = RAND_bytes(key, sizeof key) == 1 ? mesa_buf_reserve(&masked, f->len + sizeof key)
                                          : MESA_EIO;
    if (rc == MESA_OK) {
        char *to = masked.data + f->header_len;
        memcpy(masked.data, f->bytes, f->header_len);
        masked.data[1] = (char)(masked.data[1] | 0x80);
        memcpy(to, key, sizeof key);
        to += sizeof key;
        for (size_t i = 0; i < len; i++)
            to[i] = (char)(payload[i] ^ key[i & 3]);
        rc = mesa_outconn_write(&c->link->out, masked.data, f->len + sizeof key);
    }
    mesa_buf_deinit(&masked);
    mesa_frame_unref(f);
    return rc;
}

/* -- receiving ---------------------------------------------------------------------------------- */

/* The server broke the protocol. What it sends from now on is not looked at. The hook comes last. */
static void violated(struct mesa_wsclient *c, int code, const char *text)
{
    c->broken = true;
    if (c->phase != WSC_OPEN) { /* nobody cares any more */
        mesa_wsclient_finish(c, NULL);
        return;
    }
    mesa_wsclient_set_close(c, code, text, strlen(text));
    mesa_wsclient_begin_close(c);
    mesa_outconn_end(&c->link->out);
    c->hooks.on_violation(c->ctx, code, text);
}

static void deliver(struct mesa_wsclient *c, const char *data, size_t len, bool binary)
{
    if (!binary && !mesa_utf8_valid(data, len))
        violated(c, MESA_CLOSE_INVALID_DATA, "invalid UTF-8");
    else
        c->hooks.on_message(c->ctx, data, len, binary);
}

static void take_data(struct mesa_wsclient *c, const struct mesa_ws_item *item)
{
    size_t max = c->max_payload_bytes;
    if (c->phase != WSC_OPEN)
        return;
    if (item->rest > max || item->len > max - item->rest ||
        c->message.len > max - item->rest - item->len) {
        violated(c, MESA_CLOSE_TOO_BIG, "message too big");
        return;
    }
    bool binary = item->opcode == MESA_WS_BINARY;
    if (item->final && c->message.len == 0) {
        deliver(c, item->data, item->len, binary);
        return;
    }
    if (mesa_buf_append(&c->message, item->data, item->len) != MESA_OK) {
        violated(c, 1011, "out of memory");
        return;
    }
    if (!item->final)
        return;
    struct mesa_buf done = c->message; /* the hook may free the client */
    mesa_buf_init(&c->message);
    deliver(c, done.data, done.len, binary);
    mesa_buf_deinit(&done);
}

static void take_close(struct mesa_wsclient *c, const struct mesa_ws_item *item)
{
    const unsigned char *body = (const unsigned char *)item->data;
    char text[64];
    int code = item->len >= 2 ? body[0] << 8 | body[1] : MESA_CLOSE_NO_STATUS;
    const char *reason = item->len > 2 ? item->data + 2 : "";
    size_t len = item->len > 2 ? item->len - 2 : 0;
    if (c->close_sent) { /* the answer to ours */
        mesa_wsclient_finish(c, NULL);
    } else if (item->len == 1) {
        violated(c, MESA_CLOSE_PROTOCOL, "close frame of one byte");
    } else if (item->len >= 2 && !mesa_ws_code_allowed(code)) {
        snprintf(text, sizeof text, "close code %d, which nobody may send", code);
        violated(c, MESA_CLOSE_PROTOCOL, text);
    } else if (!mesa_utf8_valid(reason, len)) {
        violated(c, MESA_CLOSE_INVALID_DATA, "invalid UTF-8 in a close reason");
    } else {
        mesa_wsclient_set_close(c, code, reason, len);
        c->broken = true;             /* whatever follows a close frame means nothing */
        mesa_wsclient_begin_close(c); /* the server hangs up (section 7.1.1) */
    }
}

/* A server that pings and does not read gets no answers, rather than a queue without end. */
static void answer_ping(struct mesa_wsclient *c, const struct mesa_ws_item *item)
{
    if (c->phase == WSC_OPEN && mesa_outconn_queued(&c->link->out) <= c->max_queue_bytes)
        (void)mesa_wsclient_write(c, MESA_WS_PONG, item->data, item->len);
}

static void take_item(struct mesa_wsclient *c, const struct mesa_ws_item *item)
{
    switch (item->kind) {
    case MESA_WS_ITEM_NONE:
        break;
    case MESA_WS_ITEM_DATA:
        take_data(c, item);
        break;
    case MESA_WS_ITEM_CONTROL:
        if (item->opcode == MESA_WS_CLOSE)
            take_close(c, item);
        else if (item->opcode == MESA_WS_PING)
            answer_ping(c, item);
        break;
    case MESA_WS_ITEM_PROBLEM:
        violated(c, MESA_CLOSE_PROTOCOL, item->problem);
        break;
    case MESA_WS_ITEM_NO_MEMORY:
        violated(c, 1011, "out of memory");
        break;
    }
}

static bool wants_input(const struct mesa_wsclient *c)
{
    return !c->broken && (c->phase == WSC_CLOSING || (c->phase == WSC_OPEN && !c->paused));
}

bool mesa_wsclient_take_input(struct mesa_wsclient *c)
{
    struct mesa_ws_item item = {.kind = MESA_WS_ITEM_DATA};
    struct mesa_buf in = c->input; /* a hook may free the client */
    char *p = in.data, *end = p + in.len;
    bool freed = false;
    mesa_buf_init(&c->input);
    c->freed = &freed;
    while (!freed && item.kind != MESA_WS_ITEM_NONE && in.len > 0 && wants_input(c)) {
        mesa_ws_reader_next_of_server(&c->reader, &p, end, &item);
        take_item(c, &item);
    }
    if (!freed) {
        c->freed = NULL;
        in.len = c->broken ? 0 : (size_t)(end - p);
        if (in.len > 0) {
            memmove(in.data, p, in.len);
            c->input = in;
            return true;
        }
    }
    mesa_buf_deinit(&in);
    return !freed;
}
