/* wsclient_frames.c - what the server sends, and what is sent to it (RFC 6455 section 5). */
#include <openssl/rand.h>
#include <string.h>

#include "base/utf8.h"
#include "io/wsclient_internal.h"

/* -- sending ------------------------------------------------------------------------------------ */

/* Appends a header without the key; returns where the key belongs. */
static size_t put_header(unsigned char *to, enum mesa_ws_opcode opcode, size_t len)
{
    unsigned bytes = len < 126 ? 0 : len <= UINT16_MAX ? 2 : 8;
    to[0] = (unsigned char)(0x80 | opcode);
    to[1] = (unsigned char)(0x80 | (bytes == 0 ? len : bytes == 2 ? 126 : 127));
    for (unsigned i = 0; i < bytes; i++)
        to[2 + i] = (unsigned char)((uint64_t)len >> (8 * (bytes - 1 - i)));
    return 2 + bytes;
}

enum mesa_status mesa_wsclient_write(struct mesa_wsclient *c, enum mesa_ws_opcode opcode,
                                     const char *payload, size_t len)
{
    unsigned char header[MESA_WS_HEADER_MAX];
    size_t at = put_header(header, opcode, len);
    unsigned char *key = header + at;
    struct mesa_buf frame;
    mesa_buf_init(&frame);
    enum mesa_status rc = RAND_bytes(key, 4) == 1 ? MESA_OK : MESA_EIO;
    if (rc == MESA_OK)
        rc = mesa_buf_reserve(&frame, at + 4 + len);
    if (rc == MESA_OK) {
        memcpy(frame.data, header, at + 4);
        char *to = frame.data + at + 4;
        for (size_t i = 0; i < len; i++)
            to[i] = (char)(payload[i] ^ key[i & 3]);
        frame.len = at + 4 + len;
        rc = mesa_outgoing_write(&c->link->out, frame.data, frame.len);
    }
    mesa_buf_deinit(&frame);
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
    mesa_outgoing_end(&c->link->out);
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
    if (c->close_sent) { /* the answer to ours */
        mesa_wsclient_finish(c, NULL);
        return;
    }
    if (item->len == 0) {
        mesa_wsclient_set_close(c, MESA_CLOSE_NO_STATUS, "", 0);
    } else if (item->len == 1 || !mesa_ws_code_allowed(body[0] << 8 | body[1])) {
        violated(c, MESA_CLOSE_PROTOCOL, "close frame without a proper code");
        return;
    } else if (!mesa_utf8_valid(item->data + 2, item->len - 2)) {
        violated(c, MESA_CLOSE_INVALID_DATA, "close reason not UTF-8");
        return;
    } else {
        mesa_wsclient_set_close(c, body[0] << 8 | body[1], item->data + 2, item->len - 2);
    }
    c->broken = true;
    mesa_wsclient_begin_close(c); /* the server hangs up (section 7.1.1) */
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
        else if (item->opcode == MESA_WS_PING && c->phase == WSC_OPEN)
            (void)mesa_wsclient_write(c, MESA_WS_PONG, item->data, item->len);
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
        mesa_ws_reader_next(&c->reader, &p, end, &item);
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
