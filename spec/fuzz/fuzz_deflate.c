/* fuzz_deflate.c - compressed messages, as the reader of frames finds them: what they say is what zlib
 * makes of them in one go, within the bound, and survives being sent back.
 */
#include <string.h>
#include <zlib.h>

#include "core/deflate.h"
#include "core/ws_reader.h"
#include "fuzz.h"

enum { MAX = 20000 };

struct connection {
    struct mesa_deflate_streams *streams;
    struct mesa_deflate *deflate;
    struct mesa_ws_reader reader;
    struct mesa_buf message, out, back;
    bool broken;
};

/* Whether zlib, beginning anew, says the same of a message that has no last block in the middle. */
static void compare(struct mesa_span message, const struct mesa_buf *got)
{
    static const unsigned char tail[4] = {0, 0, 0xff, 0xff};
    static unsigned char whole[MAX + 1];
    z_stream z = {.zalloc = NULL};
    REQUIRE(inflateInit2(&z, -15) == Z_OK);
    z.next_in = (unsigned char *)(uintptr_t)message.p;
    z.avail_in = (uInt)message.len;
    z.next_out = whole;
    z.avail_out = sizeof whole;
    int rc = inflate(&z, Z_SYNC_FLUSH);
    if (rc != Z_STREAM_END) {
        REQUIRE((rc == Z_OK || rc == Z_BUF_ERROR) && z.avail_in == 0);
        z.next_in = (unsigned char *)(uintptr_t)tail;
        z.avail_in = sizeof tail;
        rc = inflate(&z, Z_SYNC_FLUSH);
        REQUIRE(rc == Z_OK || rc == Z_BUF_ERROR);
        REQUIRE(sizeof whole - z.avail_out == got->len);
    }
    REQUIRE(got->len == 0 || memcmp(whole, got->data, sizeof whole - z.avail_out) == 0);
    inflateEnd(&z);
}

static void send_back(struct connection *c)
{
    struct mesa_frame *f, *sent;
    REQUIRE(mesa_frame_new(&f, MESA_WS_BINARY, c->out.data, c->out.len) == MESA_OK);
    sent = mesa_deflate_frame(c->deflate, f);
    REQUIRE(sent->len <= f->len && mesa_deflate_frame(c->deflate, f) == sent);
    if (sent != f) {
        c->back.len = 0;
        REQUIRE(mesa_deflate_read(c->deflate, mesa_frame_payload(sent), MAX, &c->back) == MESA_OK);
        REQUIRE(c->back.len == c->out.len && memcmp(c->back.data, c->out.data, c->out.len) == 0);
    }
    mesa_frame_unref(f);
}

static void take_message(struct connection *c)
{
    bool takeover = mesa_deflate_terms(c->deflate)->in.takeover;
    struct mesa_span message = {c->message.data, c->message.len};
    mesa_buf_deinit(&c->out);
    enum mesa_status rc = mesa_deflate_read(c->deflate, message, MAX, &c->out);
    REQUIRE(rc == MESA_OK || rc == MESA_ETOOBIG || rc == MESA_EPROTO);
    REQUIRE(c->out.len <= MAX + 1 && (rc == MESA_ETOOBIG || c->out.len <= MAX));
    REQUIRE(c->out.cap <= 4 * MAX);
    if (rc == MESA_OK && !takeover && message.len > 0)
        compare(message, &c->out);
    if (rc == MESA_OK && !takeover && c->out.len > 0)
        send_back(c);
    c->message.len = 0;
    c->broken = takeover && rc != MESA_OK;
}

/* The first byte says whether windows are kept; then come frames. */
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct connection c = {.reader = {.deflates = true}};
    struct mesa_ws_item item = {.kind = MESA_WS_ITEM_DATA};
    if (size == 0)
        return 0;
    const struct mesa_deflate_options options = {
        .takeover = (data[0] & 1) != 0, .level = 1 + data[0] % 9, .max_memory = 1 << 20};
    REQUIRE(mesa_deflate_streams_new(&c.streams) == MESA_OK);
    REQUIRE(mesa_deflate_new(&c.deflate, c.streams, MESA_SPAN("permessage-deflate"), &options) ==
            MESA_OK);
    char *copy = malloc(size), *p = copy;
    REQUIRE(copy != NULL);
    memcpy(copy, data + 1, size - 1);
    while (item.kind != MESA_WS_ITEM_NONE && item.kind != MESA_WS_ITEM_PROBLEM && !c.broken) {
        mesa_ws_reader_next(&c.reader, &p, copy + size - 1, &item);
        if (item.kind != MESA_WS_ITEM_DATA || !item.compressed)
            continue;
        REQUIRE(mesa_buf_append(&c.message, item.data, item.len) == MESA_OK);
        if (item.final)
            take_message(&c);
    }
    free(copy);
    mesa_ws_reader_deinit(&c.reader);
    mesa_deflate_free(c.deflate);
    REQUIRE(mesa_deflate_allocated(c.streams) == 0 && mesa_deflate_reserved(c.streams) == 0);
    mesa_deflate_streams_free(c.streams);
    mesa_buf_deinit(&c.message);
    mesa_buf_deinit(&c.out);
    mesa_buf_deinit(&c.back);
    return 0;
}
