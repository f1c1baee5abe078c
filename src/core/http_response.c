/* http_response.c - see http_response.h. */
#include "core/http_response.h"

#include <ctype.h>
#include <strings.h>

static enum mesa_status malformed(struct mesa_http_response *r, const char *what)
{
    r->error = what;
    return MESA_EPROTO;
}

static enum mesa_status too_large(struct mesa_http_response *r, const char *what)
{
    r->error = what;
    return MESA_ETOOBIG;
}

void mesa_http_response_init(struct mesa_http_response *r, bool head_only, size_t max_body_bytes)
{
    *r = (struct mesa_http_response){.head_only = head_only, .max_body_bytes = max_body_bytes};
}

void mesa_http_response_deinit(struct mesa_http_response *r)
{
    mesa_buf_deinit(&r->line);
    mesa_buf_deinit(&r->text);
    mesa_buf_deinit(&r->fields);
    mesa_buf_deinit(&r->body);
}

/* -- headers -- */

size_t mesa_http_response_header_count(const struct mesa_http_response *r)
{
    return r->fields.len / sizeof(struct mesa_http_field);
}

void mesa_http_response_header_at(const struct mesa_http_response *r, size_t i,
                                  struct mesa_span *name, struct mesa_span *value)
{
    struct mesa_http_field f;
    memcpy(&f, r->fields.data + i * sizeof f, sizeof f);
    *name = (struct mesa_span){r->text.data + f.name, f.name_len};
    *value = (struct mesa_span){r->text.data + f.value, f.value_len};
}

struct mesa_span mesa_http_response_header(const struct mesa_http_response *r, const char *name)
{
    struct mesa_span wanted = {name, strlen(name)}, found, value;
    for (size_t i = 0; i < mesa_http_response_header_count(r); i++) {
        mesa_http_response_header_at(r, i, &found, &value);
        if (mesa_span_eq(found, wanted))
            return value;
    }
    return (struct mesa_span){NULL, 0};
}

struct mesa_span mesa_http_response_reason(const struct mesa_http_response *r)
{
    return (struct mesa_span){r->text.data, r->reason_len};
}

static bool is_token_byte(unsigned char c)
{
    return c < 0x80 && (isalnum(c) || (c != '\0' && strchr("!#$%&'*+-.^_`|~", c) != NULL));
}

static struct mesa_span trim(struct mesa_span s)
{
    while (s.len > 0 && (s.p[0] == ' ' || s.p[0] == '\t'))
        s = (struct mesa_span){s.p + 1, s.len - 1};
    while (s.len > 0 && (s.p[s.len - 1] == ' ' || s.p[s.len - 1] == '\t'))
        s.len--;
    return s;
}

/* "name: value" */
static enum mesa_status read_field(struct mesa_http_response *r, struct mesa_span line)
{
    const char *colon = memchr(line.p, ':', line.len);
    if (colon == NULL || colon == line.p)
        return malformed(r, "a header line without a name");
    struct mesa_span name = {line.p, (size_t)(colon - line.p)};
    struct mesa_span value = trim((struct mesa_span){colon + 1, line.len - name.len - 1});
    for (size_t i = 0; i < name.len; i++)
        if (!is_token_byte((unsigned char)name.p[i]))
            return malformed(r, "a header name with a character that no name may have");
    for (size_t i = 0; i < value.len; i++)
        if (((unsigned char)value.p[i] < ' ' && value.p[i] != '\t') || value.p[i] == 0x7f)
            return malformed(r, "a header value with a control character");
    if (r->state == MESA_HTTP_TRAILER)
        return MESA_OK; /* nobody asked for it */
    if (mesa_http_response_header_count(r) >= MESA_HTTP_HEADERS_MAX)
        return too_large(r, "more than 256 headers");

    struct mesa_http_field f = {(uint32_t)r->text.len, (uint32_t)name.len,
                                (uint32_t)(r->text.len + name.len), (uint32_t)value.len};
    if (mesa_buf_append(&r->text, name.p, name.len) != MESA_OK ||
        mesa_buf_append(&r->text, value.p, value.len) != MESA_OK ||
        mesa_buf_append(&r->fields, &f, sizeof f) != MESA_OK)
        return MESA_ENOMEM;
    for (size_t i = 0; i < f.name_len; i++)
        r->text.data[f.name + i] = (char)tolower((unsigned char)r->text.data[f.name + i]);
    return MESA_OK;
}

/* "HTTP/1.1 200 OK", the text may be missing */
static enum mesa_status read_status_line(struct mesa_http_response *r, struct mesa_span line)
{
    const char *p = line.p;
    if (line.len < 12 || memcmp(p, "HTTP/1.", 7) != 0 || (p[7] != '0' && p[7] != '1') ||
        p[8] != ' ' || (line.len > 12 && p[12] != ' '))
        return malformed(r, "it does not begin with an HTTP/1.1 status line");
    r->status = 0;
    for (int i = 9; i < 12; i++) {
        if (p[i] < '0' || p[i] > '9')
            return malformed(r, "the status is not a number");
        r->status = r->status * 10 + (p[i] - '0');
    }
    if (r->status < 100 || r->status > 599)
        return malformed(r, "the status is not between 100 and 599");
    r->keep_alive = p[7] == '1';
    r->state = MESA_HTTP_HEADER;
    struct mesa_span reason = trim((struct mesa_span){p + 12, line.len - 12});
    r->reason_len = reason.len;
    return mesa_buf_append(&r->text, reason.p, reason.len);
}

/* -- the length of the body -- */

static bool has_word(struct mesa_span list, const char *word)
{
    size_t len = strlen(word);
    while (list.len > 0) {
        const char *comma = memchr(list.p, ',', list.len);
        size_t n = comma != NULL ? (size_t)(comma - list.p) : list.len;
        struct mesa_span item = trim((struct mesa_span){list.p, n});
        if (item.len == len && strncasecmp(item.p, word, len) == 0)
            return true;
        n += comma != NULL;
        list = (struct mesa_span){list.p + n, list.len - n};
    }
    return false;
}

static enum mesa_status read_length(struct mesa_http_response *r, struct mesa_span value)
{
    uint64_t n = 0;
    if (value.len == 0 || value.len > 18)
        return malformed(r, "a Content-Length that is not a number");
    for (size_t i = 0; i < value.len; i++) {
        if (value.p[i] < '0' || value.p[i] > '9')
            return malformed(r, "a Content-Length that is not a number");
        n = n * 10 + (uint64_t)(value.p[i] - '0');
    }
    if (r->has_length && r->left != n)
        return malformed(r, "two different lengths");
    r->has_length = true;
    r->left = n;
    return MESA_OK;
}

static enum mesa_status read_framing(struct mesa_http_response *r)
{
    struct mesa_span name, value;
    for (size_t i = 0; i < mesa_http_response_header_count(r); i++) {
        enum mesa_status rc = MESA_OK;
        mesa_http_response_header_at(r, i, &name, &value);
        if (mesa_span_eq(name, MESA_SPAN("content-length"))) {
            rc = read_length(r, value);
        } else if (mesa_span_eq(name, MESA_SPAN("transfer-encoding"))) {
            if (r->chunked || value.len != 7 || strncasecmp(value.p, "chunked", 7) != 0)
                rc = malformed(r, "a transfer coding other than chunked");
            r->chunked = true;
        } else if (mesa_span_eq(name, MESA_SPAN("connection"))) {
            if (has_word(value, "close"))
                r->keep_alive = false;
            else if (has_word(value, "keep-alive"))
                r->keep_alive = true;
        }
        if (rc != MESA_OK)
            return rc;
    }
    if (r->chunked && r->has_length)
        return malformed(r, "a length beside a transfer coding");
    return MESA_OK;
}

/* The empty line behind the headers. */
static enum mesa_status end_head(struct mesa_http_response *r)
{
    if (r->status == 101 && r->upgrade) {
        r->state = MESA_HTTP_COMPLETE;
        return MESA_OK;
    }
    if (r->status == 101)
        return malformed(r, "it switches protocols, which nobody asked for");
    if (r->status < 200) {
        r->text.len = r->fields.len = 0;
        r->state = MESA_HTTP_STATUS_LINE;
        return MESA_OK;
    }
    enum mesa_status rc = read_framing(r);
    if (rc != MESA_OK)
        return rc;
    if (r->head_only || r->status == 204 || r->status == 304) {
        r->state = MESA_HTTP_COMPLETE;
    } else if (r->chunked) {
        r->state = MESA_HTTP_CHUNK_SIZE;
    } else if (!r->has_length) {
        r->keep_alive = false;
        r->state = MESA_HTTP_BODY_TO_END;
    } else if (r->left > r->max_body_bytes) {
        return too_large(r, "the body is larger than allowed");
    } else {
        r->state = r->left > 0 ? MESA_HTTP_BODY : MESA_HTTP_COMPLETE;
    }
    return MESA_OK;
}

/* -- chunks -- */

/* "1a2b;extension" */
static enum mesa_status read_chunk_size(struct mesa_http_response *r, struct mesa_span line)
{
    size_t n = 0;
    r->left = 0;
    while (n < line.len && isxdigit((unsigned char)line.p[n])) {
        char c = (char)tolower((unsigned char)line.p[n++]);
        r->left = r->left * 16 + (uint64_t)(c <= '9' ? c - '0' : c - 'a' + 10);
        if (n > 15)
            return malformed(r, "a chunk without a proper size");
    }
    struct mesa_span rest = trim((struct mesa_span){line.p + n, line.len - n});
    if (n == 0 || (rest.len > 0 && rest.p[0] != ';'))
        return malformed(r, "a chunk without a proper size");
    if (r->left > r->max_body_bytes - r->body.len)
        return too_large(r, "the body is larger than allowed");
    r->state = r->left > 0 ? MESA_HTTP_CHUNK : MESA_HTTP_TRAILER;
    return MESA_OK;
}

/* -- bytes -- */

static enum mesa_status take_line(struct mesa_http_response *r, struct mesa_span line)
{
    switch (r->state) {
    case MESA_HTTP_STATUS_LINE:
        return read_status_line(r, line);
    case MESA_HTTP_HEADER:
        return line.len == 0 ? end_head(r) : read_field(r, line);
    case MESA_HTTP_CHUNK_SIZE:
        return read_chunk_size(r, line);
    case MESA_HTTP_CHUNK_END:
        if (line.len > 0)
            return malformed(r, "a chunk longer than its size");
        r->state = MESA_HTTP_CHUNK_SIZE;
        return MESA_OK;
    default: /* MESA_HTTP_TRAILER */
        if (line.len > 0)
            return read_field(r, line);
        r->state = MESA_HTTP_COMPLETE;
        return MESA_OK;
    }
}

/* Up to the end of the line; the line is worked off once it is whole. */
static enum mesa_status feed_line(struct mesa_http_response *r, const char *data, size_t len,
                                  size_t *used)
{
    const char *end = memchr(data, '\n', len);
    size_t n = end != NULL ? (size_t)(end - data) + 1 : len;
    bool in_head = r->state == MESA_HTTP_STATUS_LINE || r->state == MESA_HTTP_HEADER ||
                   r->state == MESA_HTTP_TRAILER;
    *used = n;
    if (r->line.len + n + (in_head ? r->head_bytes : 0) > MESA_HTTP_HEAD_MAX_BYTES)
        return too_large(r, "the headers are longer than 64 KiB");
    /* what is no HTTP at all is told from its first bytes, not after 64 KiB of it */
    static const char begin[] = "HTTP/1.";
    if (mesa_buf_append(&r->line, data, n) != MESA_OK)
        return MESA_ENOMEM;
    if (r->state == MESA_HTTP_STATUS_LINE &&
        memcmp(r->line.data, begin, r->line.len < 7 ? r->line.len : 7) != 0)
        return malformed(r, "it does not begin with an HTTP/1.1 status line");
    if (end == NULL)
        return MESA_OK;
    if (in_head)
        r->head_bytes += r->line.len;
    struct mesa_span line = {r->line.data, r->line.len - 1};
    if (line.len > 0 && line.p[line.len - 1] == '\r')
        line.len--;
    enum mesa_status rc = take_line(r, line);
    r->line.len = 0;
    return rc;
}

static enum mesa_status feed_body(struct mesa_http_response *r, const char *data, size_t len,
                                  size_t *used)
{
    if (r->state == MESA_HTTP_BODY_TO_END) {
        *used = len;
        if (len > r->max_body_bytes - r->body.len)
            return too_large(r, "the body is larger than allowed");
        return mesa_buf_append(&r->body, data, len);
    }
    size_t n = len < r->left ? len : (size_t)r->left;
    *used = n;
    r->left -= n;
    if (r->left == 0)
        r->state = r->state == MESA_HTTP_CHUNK ? MESA_HTTP_CHUNK_END : MESA_HTTP_COMPLETE;
    return mesa_buf_append(&r->body, data, n);
}

enum mesa_status mesa_http_response_feed(struct mesa_http_response *r, const char *data, size_t len,
                                         size_t *used)
{
    enum mesa_status rc = MESA_OK;
    *used = 0;
    if (len > 0)
        r->begun = true;
    while (rc == MESA_OK && *used < len && r->state != MESA_HTTP_COMPLETE) {
        bool in_body = r->state == MESA_HTTP_BODY || r->state == MESA_HTTP_BODY_TO_END ||
                       r->state == MESA_HTTP_CHUNK;
        size_t n = 0;
        rc = (in_body ? feed_body : feed_line)(r, data + *used, len - *used, &n);
        *used += n;
    }
    return rc;
}

enum mesa_status mesa_http_response_end(struct mesa_http_response *r)
{
    if (r->state == MESA_HTTP_BODY_TO_END)
        r->state = MESA_HTTP_COMPLETE;
    return r->state == MESA_HTTP_COMPLETE ? MESA_OK : MESA_ECLOSED;
}
