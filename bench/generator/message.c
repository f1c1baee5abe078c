#include "message.h"

#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "bytes.h"
#include "jsonwalk.h"
#include "wsframe.h"

static const char head_format[] = "{\"op\":0,\"d\":{\"seq\":%u,\"text\":\"";
static const char tail_format[] = "\"},\"t\":\"%s\"}";
static const char filler[] = "the quick brown fox jumps over the lazy dog ";

static char *copy(const char *s, size_t n)
{
    char *p = xmalloc(n + 1);
    memcpy(p, s, n);
    p[n] = '\0';
    return p;
}

static void remember(struct message *m, const char *text, size_t len, size_t seq_at)
{
    unsigned i =
        m->layout_count < MESSAGE_LAYOUTS ? m->layout_count++ : m->layout_next++ % MESSAGE_LAYOUTS;
    free(m->layouts[i].text);
    m->layouts[i] = (struct layout){copy(text, len), len, seq_at};
}

void message_init(struct message *m, const char *type, size_t size)
{
    char head[64];
    char tail[128];
    size_t head_len = (size_t)snprintf(head, sizeof head, head_format, MESSAGE_SEQ_MIN);
    size_t tail_len = (size_t)snprintf(tail, sizeof tail, tail_format, type);
    size_t text_len = size > head_len + tail_len ? size - head_len - tail_len : 0;
    size_t len = head_len + text_len + tail_len;

    *m = (struct message){.type = copy(type, strlen(type)), .text_len = text_len};
    m->text = xmalloc(text_len + 1);
    for (size_t i = 0; i < text_len; i++)
        m->text[i] = filler[i % (sizeof filler - 1)];

    char *payload = xmalloc(len);
    memcpy(payload, head, head_len);
    memcpy(payload + head_len, m->text, text_len);
    memcpy(payload + head_len + text_len, tail, tail_len);
    m->seq_at = (size_t)(strstr(head, "\"seq\":") - head) + strlen("\"seq\":");
    m->frame = xmalloc(len + WS_MAX_HEADER);
    m->frame_len = ws_frame_write(m->frame, WS_TEXT, payload, len);
    m->payload_at = m->frame_len - len;
    remember(m, payload, len, m->seq_at);
    free(payload);
}

void message_deinit(struct message *m)
{
    for (unsigned i = 0; i < m->layout_count; i++)
        free(m->layouts[i].text);
    free(m->type);
    free(m->text);
    free(m->frame);
}

void message_write(const struct message *m, uint8_t *out, uint32_t seq)
{
    memcpy(out, m->frame, m->frame_len);
    uint8_t *digits = out + m->payload_at + m->seq_at;
    for (size_t i = MESSAGE_SEQ_DIGITS; i-- > 0; seq /= 10)
        digits[i] = (uint8_t)('0' + seq % 10) ^ ws_mask[(m->seq_at + i) & 3];
}

static bool layout_matches(const struct layout *l, const char *text, size_t len, uint32_t *seq)
{
    size_t after = l->seq_at + MESSAGE_SEQ_DIGITS;
    if (len != l->len || memcmp(text, l->text, l->seq_at) != 0 ||
        memcmp(text + after, l->text + after, len - after) != 0)
        return false;

    uint32_t v = 0;
    for (size_t i = l->seq_at; i < after; i++) {
        unsigned digit = (unsigned)(text[i] - '0');
        if (digit > 9)
            return false;
        v = v * 10 + digit;
    }
    *seq = v;
    return v >= MESSAGE_SEQ_MIN;
}

static bool is_string(struct json_span s, const char *text, size_t len)
{
    return s.n == len + 2 && s.p[0] == '"' && memcmp(s.p + 1, text, len) == 0;
}

/* Finds exactly the members `keys` in any order; values[i] is that of keys[i]. */
static bool exact_members(struct json_span object, const char *const *keys, int count,
                          struct json_span *values)
{
    struct json_member member[4];
    if (json_members(object, member, count) != count)
        return false;
    for (int i = 0; i < count; i++) {
        int found = 0;
        for (int j = 0; j < count; j++) {
            if (json_span_is(member[j].key, keys[i])) {
                values[i] = member[j].value;
                found++;
            }
        }
        if (found != 1)
            return false;
    }
    return true;
}

static bool is_ours(const struct message *m, struct json_span envelope, uint32_t *seq,
                    size_t *seq_at)
{
    static const char *const outer_keys[] = {"op", "d", "t"};
    static const char *const inner_keys[] = {"seq", "text"};
    struct json_span outer[3];
    struct json_span inner[2];
    uint64_t number;

    if (!exact_members(envelope, outer_keys, 3, outer) || !json_span_is(outer[0], "0") ||
        !is_string(outer[2], m->type, strlen(m->type)))
        return false;
    if (!exact_members(outer[1], inner_keys, 2, inner) ||
        !is_string(inner[1], m->text, m->text_len))
        return false;
    if (inner[0].n != MESSAGE_SEQ_DIGITS || !json_span_uint(inner[0], &number))
        return false;
    *seq = (uint32_t)number;
    *seq_at = (size_t)(inner[0].p - envelope.p);
    return true;
}

enum message_check message_check(struct message *m, const char *text, size_t len, uint32_t *seq,
                                 uint64_t *op)
{
    for (unsigned i = 0; i < m->layout_count; i++) {
        if (layout_matches(&m->layouts[i], text, len, seq))
            return MESSAGE_OURS;
    }

    struct json_span envelope = {text, len};
    size_t seq_at;
    if (is_ours(m, envelope, seq, &seq_at)) {
        remember(m, text, len, seq_at);
        return MESSAGE_OURS;
    }

    struct json_member member[8];
    int count = json_members(envelope, member, 8);
    for (int i = 0; i < count; i++) {
        if (json_span_is(member[i].key, "op") && json_span_uint(member[i].value, op) && *op != 0)
            return MESSAGE_CONTROL;
    }
    return MESSAGE_WRONG;
}
