/* envelope_write.c - writing and framing; see envelope.h. */
#include "core/envelope.h"

/* Everything before the bytes of `d`. */
static enum mesa_status put_head(struct mesa_buf *b, const struct mesa_outgoing *m)
{
    enum mesa_status rc = mesa_buf_append(b, "{\"op\":", 6);
    if (rc == MESA_OK)
        rc = mesa_json_put_integer(b, m->op);
    if (rc == MESA_OK && m->d.p != NULL)
        rc = mesa_buf_append(b, ",\"d\":", 5);
    return rc;
}

/* Everything behind the bytes of `d`. */
static enum mesa_status put_tail(struct mesa_buf *b, const struct mesa_outgoing *m)
{
    enum mesa_status rc = MESA_OK;
    if (m->type.p != NULL) {
        rc = mesa_buf_append(b, ",\"t\":", 5);
        if (rc == MESA_OK)
            rc = mesa_json_put_string(b, m->type.p, m->type.len);
    }
    if (rc == MESA_OK && m->s != 0) {
        rc = mesa_buf_append(b, ",\"s\":", 5);
        if (rc == MESA_OK)
            rc = mesa_json_put_integer(b, m->s);
    }
    if (rc == MESA_OK)
        rc = mesa_buf_push(b, '}');
    return rc;
}

enum mesa_status mesa_envelope_write(struct mesa_buf *out, const struct mesa_outgoing *m)
{
    size_t rollback = out->len;
    enum mesa_status rc = put_head(out, m);
    if (rc == MESA_OK && m->d.p != NULL)
        rc = mesa_buf_append(out, m->d.p, m->d.len);
    if (rc == MESA_OK)
        rc = put_tail(out, m);
    if (rc != MESA_OK)
        out->len = rollback;
    return rc;
}

enum mesa_status mesa_envelope_frame(struct mesa_frame **out, const struct mesa_outgoing *m)
{
    struct mesa_buf b;
    mesa_buf_init(&b);
    enum mesa_status rc = put_head(&b, m);
    if (rc != MESA_OK)
        goto done;
    size_t head_len = b.len;
    rc = put_tail(&b, m);
    if (rc != MESA_OK)
        goto done;

    /* `d`, which may be large, is copied once: straight into the frame. */
    struct mesa_span head = {b.data, head_len}, tail = {b.data + head_len, b.len - head_len};
    rc = mesa_frame_new3(out, MESA_WS_TEXT, head, m->d, tail);

done:
    mesa_buf_deinit(&b);
    return rc;
}

enum mesa_status mesa_envelope_frame_with_sequence(struct mesa_frame **out, struct mesa_span json,
                                                   uint32_t s)
{
    if (json.len == 0 || json.p[json.len - 1] != '}')
        return MESA_EINVAL;

    struct mesa_buf b;
    mesa_buf_init(&b);
    enum mesa_status rc = mesa_buf_append(&b, ",\"s\":", 5);
    if (rc == MESA_OK)
        rc = mesa_json_put_integer(&b, s);
    if (rc == MESA_OK) {
        struct mesa_span before = {json.p, json.len - 1}, member = {b.data, b.len};
        rc = mesa_frame_new3(out, MESA_WS_TEXT, before, member, MESA_SPAN("}"));
    }
    mesa_buf_deinit(&b);
    return rc;
}
