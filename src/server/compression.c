/* compression.c - the way out of connections with permessage-deflate.
 *
 * Nothing is compressed before it can be written: what waits behind a slow reader stays as it is, and
 * exists once for all. A frame that many are to get is compressed once for all who have windows of the
 * same size, unless theirs are kept from one message to the next (compression.contextTakeover).
 */
#include "base/inline.h"
#include "server/internal.h"

void mesa_server_init_compression(struct mesa_server *s)
{
    mesa_buf_init(&s->wire);
    s->deflate = (struct mesa_deflate_options){
        .takeover = s->cfg.compression.context_takeover,
        .level = s->cfg.compression.level,
        .max_memory = s->cfg.compression.max_memory,
    };
}

/* What is to be written: the first `count` frames of the queue. */
struct batch {
    struct mesa_span bytes;
    size_t count;
    size_t plain; /* bytes without compression */
};

/* Small messages hardly get smaller, and control frames must not be compressed. */
static bool is_worth_it(const struct mesa_server *s, const struct mesa_frame *f)
{
    size_t len = mesa_frame_payload(f).len;
    return len > 0 && len >= s->cfg.compression.threshold && f->opcode <= MESA_WS_BINARY;
}

static bool has_room(const struct batch *b, const struct mesa_outq *q)
{
    return b->count < mesa_outq_count(q) &&
           (b->count == 0 || b->plain + mesa_outq_at(q, b->count)->len <= MESA_GATHER_BYTES);
}

static void add(struct batch *b, const struct mesa_frame *f)
{
    b->count++;
    b->plain += f->len;
}

static struct mesa_frame *on_the_wire(const struct mesa_server *s, struct mesa_deflate *d,
                                      struct mesa_frame *f)
{
    return is_worth_it(s, f) ? mesa_deflate_frame(d, f) : f;
}

/* Without memory for more it is the first frame alone, which is not copied. */
static void make_shared(const struct mesa_outq *q, struct mesa_server *s, struct mesa_deflate *d,
                        struct batch *b)
{
    const struct mesa_frame *first = on_the_wire(s, d, mesa_outq_at(q, 0));
    b->bytes = (struct mesa_span){first->bytes, first->len};
    add(b, mesa_outq_at(q, 0));
    if (!has_room(b, q) || mesa_buf_append(&s->wire, first->bytes, first->len) != MESA_OK)
        return;
    while (has_room(b, q)) {
        const struct mesa_frame *f = on_the_wire(s, d, mesa_outq_at(q, b->count));
        if (mesa_buf_append(&s->wire, f->bytes, f->len) != MESA_OK)
            break;
        add(b, mesa_outq_at(q, b->count));
    }
    b->bytes = (struct mesa_span){s->wire.data, s->wire.len};
}

/* What has been compressed must be written. MESA_ENOMEM: it cannot be. */
static enum mesa_status make_own(const struct mesa_outq *q, struct mesa_server *s,
                                 struct mesa_deflate *d, struct batch *b)
{
    while (has_room(b, q)) {
        const struct mesa_frame *f = mesa_outq_at(q, b->count);
        enum mesa_status rc = is_worth_it(s, f) ? mesa_deflate_write(d, f, &s->wire)
                                                : mesa_buf_append(&s->wire, f->bytes, f->len);
        if (rc != MESA_OK)
            return rc;
        add(b, f);
    }
    b->bytes = (struct mesa_span){s->wire.data, s->wire.len};
    return MESA_OK;
}

MESA_NOINLINE enum mesa_status mesa_client_write_compressed(struct mesa_client *c)
{
    struct mesa_server *s = c->server;
    enum mesa_status rc = mesa_conn_ready(c->conn);
    if (rc != MESA_OK)
        return rc;
    struct mesa_deflate *d = mesa_conn_deflate(c->conn);
    struct batch b = {.count = 0};
    mesa_buf_reset(&s->wire, MESA_GATHER_BYTES);
    if (!mesa_deflate_terms(d)->out.takeover)
        make_shared(&c->outq, s, d, &b);
    else
        rc = make_own(&c->outq, s, d, &b);
    if (rc != MESA_OK) {
        mesa_conn_close(c->conn, 1011, "out of memory", 13, true);
        return rc;
    }
    rc = mesa_conn_write(c->conn, b.bytes.p, b.bytes.len);
    if (rc != MESA_OK)
        return rc;
    s->metrics.messages_out += b.count;
    s->metrics.bytes_out += b.bytes.len;
    s->metrics.deflate_plain_out += b.plain;
    s->metrics.deflate_wire_out += b.bytes.len;
    mesa_outq_drop(&c->outq, b.count);
    return MESA_OK;
}
