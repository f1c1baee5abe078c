/* fuzz_ws_reader.c - the reader of WebSocket frames: what a stream means must not depend on where it is
 * cut. */
#include <string.h>

#include "core/ws_reader.h"
#include "fuzz.h"

struct reading {
    struct mesa_ws_reader reader;
    struct mesa_buf items;   /* what is complete: kind, opcode, length, payload */
    struct mesa_buf message; /* the payload so far of what is not */
    bool broken;
};

static void note(struct reading *r, const struct mesa_ws_item *item, const char *p, size_t len)
{
    unsigned char head[2] = {(unsigned char)item->kind, (unsigned char)item->opcode};
    REQUIRE(mesa_buf_append(&r->items, head, sizeof head) == MESA_OK);
    REQUIRE(mesa_buf_append(&r->items, &len, sizeof len) == MESA_OK);
    REQUIRE(mesa_buf_append(&r->items, p, len) == MESA_OK);
}

static void take_data(struct reading *r, const struct mesa_ws_item *item)
{
    REQUIRE(item->opcode == MESA_WS_TEXT || item->opcode == MESA_WS_BINARY);
    REQUIRE(!item->final || item->rest == 0);
    REQUIRE(item->rest <= INT64_MAX);
    REQUIRE(mesa_buf_append(&r->message, item->data, item->len) == MESA_OK);
    if (!item->final)
        return;
    note(r, item, r->message.data, r->message.len);
    mesa_buf_reset(&r->message, SIZE_MAX);
}

/* False: there is no more to take. */
static bool take(struct reading *r, const struct mesa_ws_item *item)
{
    switch (item->kind) {
    case MESA_WS_ITEM_DATA:
        take_data(r, item);
        return true;
    case MESA_WS_ITEM_CONTROL:
        REQUIRE(item->opcode >= MESA_WS_CLOSE && item->opcode <= MESA_WS_PONG);
        REQUIRE(item->len <= MESA_WS_CONTROL_MAX && item->final);
        note(r, item, item->data, item->len);
        return true;
    case MESA_WS_ITEM_PROBLEM:
        note(r, item, item->problem, strlen(item->problem));
        r->broken = true;
        return false;
    default:
        REQUIRE(item->kind == MESA_WS_ITEM_NONE);
        return false;
    }
}

/* Reads one segment, from memory of exactly its size: payload is unmasked in place. */
static void feed(struct reading *r, const uint8_t *bytes, size_t len)
{
    struct mesa_ws_item item;
    char *copy = malloc(len > 0 ? len : 1), *p = copy, *before;
    REQUIRE(copy != NULL);
    memcpy(copy, bytes, len);
    do {
        before = p;
        mesa_ws_reader_next(&r->reader, &p, copy + len, &item);
        REQUIRE(p >= before && p <= copy + len);
    } while (take(r, &item));
    REQUIRE(r->broken || p == copy + len);
    free(copy);
}

static bool same(const struct mesa_buf *a, const struct mesa_buf *b)
{
    return a->len == b->len && (a->len == 0 || memcmp(a->data, b->data, a->len) == 0);
}

static void end(struct reading *r)
{
    mesa_ws_reader_deinit(&r->reader);
    mesa_buf_deinit(&r->items);
    mesa_buf_deinit(&r->message);
}

/* The first byte says how many follow that are the lengths of pieces, used in turn; then comes the
 * stream. */
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    size_t lengths = size > 0 ? data[0] % 8 : 0;
    if (size < 1 + lengths)
        return 0;
    const uint8_t *stream = data + 1 + lengths;
    size_t len = size - 1 - lengths;
    struct reading whole = {.broken = false}, cut = {.broken = false};
    feed(&whole, stream, len);
    for (size_t at = 0, i = 0; at < len && !cut.broken; i++) {
        size_t n = lengths > 0 ? (size_t)data[1 + i % lengths] % 64 + 1 : 1;
        n = n < len - at ? n : len - at;
        feed(&cut, stream + at, n);
        at += n;
    }
    REQUIRE(whole.broken == cut.broken);
    REQUIRE(same(&whole.items, &cut.items) && same(&whole.message, &cut.message));
    REQUIRE(whole.reader.left == cut.reader.left && whole.reader.message == cut.reader.message);
    end(&whole);
    end(&cut);
    return 0;
}
