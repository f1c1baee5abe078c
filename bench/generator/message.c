#include "message.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "bytes.h"
#include "jsonwalk.h"
#include "wsframe.h"

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

void message_init(struct message *m, const struct dialect *dialect, const char *type, size_t size)
{
    char head[128];
    char tail[128];
    size_t head_len = (size_t)snprintf(head, sizeof head, dialect->head, MESSAGE_SEQ_MIN, type);
    size_t tail_len = (size_t)snprintf(tail, sizeof tail, dialect->tail, type);
    size_t text_len = size > head_len + tail_len ? size - head_len - tail_len : 0;
    size_t len = head_len + text_len + tail_len;

    *m = (struct message){
        .dialect = dialect, .type = copy(type, strlen(type)), .text_len = text_len};
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

uint32_t message_number(uint64_t n)
{
    return MESSAGE_SEQ_MIN + (uint32_t)(n % (MESSAGE_SEQ_END - MESSAGE_SEQ_MIN));
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

static bool is_ours(const struct message *m, struct json_span text, uint32_t *seq, size_t *seq_at)
{
    static const char *const keys[] = {"seq", "text"};
    struct json_span data;
    struct json_span value[2];
    uint64_t number;

    if (!m->dialect->unwrap(text, m->type, &data) || !json_exact_members(data, keys, 2, value) ||
        !json_is_string(value[1], m->text, m->text_len))
        return false;
    if (value[0].n != MESSAGE_SEQ_DIGITS || !json_span_uint(value[0], &number))
        return false;
    *seq = (uint32_t)number;
    *seq_at = (size_t)(value[0].p - text.p);
    return true;
}

bool message_check(struct message *m, const char *text, size_t len, uint32_t *seq)
{
    for (unsigned i = 0; i < m->layout_count; i++) {
        if (layout_matches(&m->layouts[i], text, len, seq))
            return true;
    }
    size_t seq_at;
    if (!is_ours(m, (struct json_span){text, len}, seq, &seq_at))
        return false;
    remember(m, text, len, seq_at);
    return true;
}
