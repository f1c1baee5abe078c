/* json_text.c - strings of JSON: unescape, compare, escape; and looking up members. See json.h. */
#include "core/json_scan.h"

static uint32_t hex4(const char *p)
{
    uint32_t value = 0;
    for (int i = 0; i < 4; i++) {
        char c = p[i];
        value = value * 16 + (uint32_t)(c <= '9' ? c - '0' : (c | 0x20) - 'a' + 10);
    }
    return value;
}

static unsigned encode_utf8(uint32_t c, char out[4])
{
    if (c < 0x80) {
        out[0] = (char)c;
        return 1;
    }
    if (c < 0x800) {
        out[0] = (char)(0xc0 | c >> 6);
        out[1] = (char)(0x80 | (c & 0x3f));
        return 2;
    }
    if (c < 0x10000) {
        out[0] = (char)(0xe0 | c >> 12);
        out[1] = (char)(0x80 | (c >> 6 & 0x3f));
        out[2] = (char)(0x80 | (c & 0x3f));
        return 3;
    }
    out[0] = (char)(0xf0 | c >> 18);
    out[1] = (char)(0x80 | (c >> 12 & 0x3f));
    out[2] = (char)(0x80 | (c >> 6 & 0x3f));
    out[3] = (char)(0x80 | (c & 0x3f));
    return 4;
}

unsigned mesa_json_decode_escape(const char **p, char out[4])
{
    char c = (*p)[1];
    if (c == 'u') {
        uint32_t code = hex4(*p + 2);
        *p += 6;
        if (code >= 0xd800 && code < 0xdc00) { /* RFC 8259 section 7: a pair of surrogates */
            code = 0x10000 + ((code - 0xd800) << 10) + (hex4(*p + 2) - 0xdc00);
            *p += 6;
        }
        return encode_utf8(code, out);
    }

    *p += 2;
    switch (c) {
    case 'b':
        out[0] = '\b';
        break;
    case 'f':
        out[0] = '\f';
        break;
    case 'n':
        out[0] = '\n';
        break;
    case 'r':
        out[0] = '\r';
        break;
    case 't':
        out[0] = '\t';
        break;
    default:
        out[0] = c;
    }
    return 1;
}

/* The UTF-16 unit of the escape at `p`; 0x10000: there is none, or not a whole one. */
static uint32_t escaped_unit(const char *p, const char *end)
{
    if (end - p < 6 || p[0] != '\\' || p[1] != 'u')
        return 0x10000;
    for (int i = 2; i < 6; i++) {
        char lower = (char)(p[i] | 0x20);
        if (!((p[i] >= '0' && p[i] <= '9') || (lower >= 'a' && lower <= 'f')))
            return 0x10000;
    }
    return hex4(p + 2);
}

size_t mesa_json_mend(char *text, size_t len)
{
    size_t mended = 0;
    if (len == 0) /* perhaps NULL, to which nothing may be added */
        return mended;
    char *p = text, *end = text + len;
    while (p < end && (p = memchr(p, '\\', (size_t)(end - p))) != NULL) {
        uint32_t unit = escaped_unit(p, end);
        if (unit >= 0xd800 && unit < 0xdc00 && (escaped_unit(p + 6, end) & 0x1fc00) == 0xdc00) {
            p += 12; /* a pair */
        } else if (unit >= 0xd800 && unit <= 0xdfff) {
            memcpy(p, "\\ufffd", 6);
            p += 6;
            mended++;
        } else {
            p += end - p < 2 ? 1 : 2;
        }
    }
    return mended;
}

enum mesa_status mesa_json_unescape(struct mesa_span token, struct mesa_buf *out)
{
    const char *p = token.p + 1, *end = token.p + token.len - 1;
    /* No escape decodes to more bytes than it is written with. */
    enum mesa_status rc = mesa_buf_reserve(out, token.len);
    if (rc != MESA_OK)
        return rc;

    while (p < end) {
        const char *run = p;
        p = memchr(run, '\\', (size_t)(end - run));
        if (p == NULL)
            p = end;
        memcpy(out->data + out->len, run, (size_t)(p - run));
        out->len += (size_t)(p - run);
        if (p < end) {
            char bytes[4];
            unsigned n = mesa_json_decode_escape(&p, bytes);
            memcpy(out->data + out->len, bytes, n);
            out->len += n;
        }
    }
    return MESA_OK;
}

bool mesa_json_string_is(struct mesa_span token, const char *s, size_t len)
{
    const char *p = token.p + 1, *end = token.p + token.len - 1;
    const char *s_end = s + len;
    while (p < end) {
        char bytes[4] = {*p};
        unsigned n = 1;
        if (*p == '\\')
            n = mesa_json_decode_escape(&p, bytes);
        else
            p++;
        if ((size_t)(s_end - s) < n || memcmp(s, bytes, n) != 0)
            return false;
        s += n;
    }
    return s == s_end;
}

/* Behind a token of VALID JSON that starts at `p` with a quote. */
static const char *skip_string(const char *p, const char *end)
{
    for (p++; p < end && *p != '"'; p++)
        if (*p == '\\')
            p++;
    return p < end ? p + 1 : end;
}

/* Behind a VALID value: brackets need counting only. */
static const char *skip_value(const char *p, const char *end)
{
    size_t depth = 0;
    while (p < end) {
        if (*p == '"') {
            p = skip_string(p, end);
            if (depth == 0)
                return p;
            continue;
        }
        if (*p == '{' || *p == '[') {
            depth++;
        } else if (*p == '}' || *p == ']') {
            if (depth == 0)
                return p; /* the end of a number or literal */
            if (--depth == 0)
                return p + 1;
        } else if (depth == 0 && (*p == ',' || mesa_json_space(p, end) != p)) {
            return p;
        }
        p++;
    }
    return end;
}

bool mesa_json_find(struct mesa_span object, const char *key, struct mesa_span *value)
{
    if (object.len == 0)
        return false;
    const char *end = object.p + object.len;
    const char *p = mesa_json_space(object.p, end);
    if (p == end || *p != '{')
        return false;

    bool found = false;
    size_t key_len = strlen(key);
    p = mesa_json_space(p + 1, end);
    while (p < end && *p == '"') {
        struct mesa_span token = {p, 0};
        p = skip_string(p, end);
        token.len = (size_t)(p - token.p);
        p = mesa_json_space(p, end);
        p = mesa_json_space(p < end ? p + 1 : end, end); /* the colon */
        const char *start = p;
        p = skip_value(p, end);
        if (mesa_json_string_is(token, key, key_len)) {
            *value = (struct mesa_span){start, (size_t)(p - start)};
            found = true;
        }
        p = mesa_json_space(p, end);
        p = mesa_json_space(p < end ? p + 1 : end, end); /* the comma, or the closing brace */
    }
    return found;
}

static enum mesa_status put_escaped(struct mesa_buf *out, char c)
{
    static const char hex[] = "0123456789abcdef";
    char text[6] = {'\\', 'u', '0', '0', hex[(unsigned char)c >> 4], hex[c & 15]};
    const char *two = NULL;
    switch (c) {
    case '"':
        two = "\\\"";
        break;
    case '\\':
        two = "\\\\";
        break;
    case '\b':
        two = "\\b";
        break;
    case '\f':
        two = "\\f";
        break;
    case '\n':
        two = "\\n";
        break;
    case '\r':
        two = "\\r";
        break;
    case '\t':
        two = "\\t";
        break;
    }
    return two != NULL ? mesa_buf_append(out, two, 2) : mesa_buf_append(out, text, sizeof text);
}

enum mesa_status mesa_json_put_string(struct mesa_buf *out, const char *s, size_t len)
{
    if (len == 0)
        s = ""; /* NULL is fine for no bytes, but not for pointer arithmetic */
    size_t rollback = out->len;
    const char *end = s + len;
    enum mesa_status rc = mesa_buf_reserve(out, len + 2);
    if (rc == MESA_OK) {
        out->data[out->len++] = '"';
        if (mesa_json_copy_plain(out->data + out->len, s, len)) {
            out->len += len;
            s = end;
        }
    }
    while (rc == MESA_OK && s < end) {
        const char *run = s;
        s = mesa_json_skip_plain(s, end);
        while (s < end && (*s & 0x80)) {
            unsigned n = mesa_utf8_sequence(s, end);
            if (n == 0) {
                rc = MESA_EUTF8;
                goto done;
            }
            s += n;
        }
        rc = mesa_buf_append(out, run, (size_t)(s - run));
        if (rc == MESA_OK && s < end && !mesa_json_is_plain(*s))
            rc = put_escaped(out, *s++);
    }
    if (rc == MESA_OK)
        rc = mesa_buf_push(out, '"');

done:
    if (rc != MESA_OK)
        out->len = rollback;
    return rc;
}
