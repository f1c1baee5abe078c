/* base64.c - see base64.h. */
#include "base/base64.h"

#include <stdbool.h>
#include <stdint.h>

enum { NO_DIGIT = 64 };

static const char digits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

enum mesa_status mesa_base64_encode(struct mesa_buf *out, struct mesa_span bytes)
{
    const unsigned char *p = (const unsigned char *)bytes.p;
    enum mesa_status rc = mesa_buf_reserve(out, (bytes.len + 2) / 3 * 4);
    if (rc != MESA_OK || bytes.len == 0)
        return rc;
    char *to = out->data + out->len;
    for (size_t i = 0; i < bytes.len; i += 3) {
        size_t left = bytes.len - i;
        uint32_t group = (uint32_t)p[i] << 16;
        if (left > 1)
            group |= (uint32_t)p[i + 1] << 8;
        if (left > 2)
            group |= p[i + 2];
        *to++ = digits[group >> 18];
        *to++ = digits[group >> 12 & 63];
        *to++ = left > 1 ? digits[group >> 6 & 63] : '=';
        *to++ = left > 2 ? digits[group & 63] : '=';
    }
    out->len = (size_t)(to - out->data);
    return MESA_OK;
}

static uint32_t value_of(char c)
{
    if (c >= 'A' && c <= 'Z')
        return (uint32_t)(c - 'A');
    if (c >= 'a' && c <= 'z')
        return (uint32_t)(c - 'a') + 26;
    if (c >= '0' && c <= '9')
        return (uint32_t)(c - '0') + 52;
    return c == '+' ? 62 : c == '/' ? 63 : NO_DIGIT;
}

/* Writes up to three bytes; how many characters of the four are padding in *padding. */
static bool decode_group(const char *p, bool last, char *to, unsigned *padding)
{
    uint32_t group = 0;
    *padding = !last || p[3] != '=' ? 0 : p[2] != '=' ? 1 : 2;
    for (unsigned i = 0; i < 4; i++) {
        uint32_t value = i < 4 - *padding ? value_of(p[i]) : 0;
        if (value == NO_DIGIT)
            return false;
        group = group << 6 | value;
    }
    for (unsigned i = 0; i < 3 - *padding; i++)
        to[i] = (char)(unsigned char)(group >> (16 - 8 * i));
    return (group & ((1U << 8 * *padding) - 1)) == 0;
}

enum mesa_status mesa_base64_decode(struct mesa_buf *out, struct mesa_span text)
{
    if (text.len % 4 != 0)
        return MESA_EPROTO;
    enum mesa_status rc = mesa_buf_reserve(out, text.len / 4 * 3);
    if (rc != MESA_OK || text.len == 0)
        return rc;
    char *to = out->data + out->len;
    for (size_t i = 0; i < text.len; i += 4) {
        unsigned padding;
        if (!decode_group(text.p + i, i + 4 == text.len, to, &padding))
            return MESA_EPROTO;
        to += 3 - padding;
    }
    out->len = (size_t)(to - out->data);
    return MESA_OK;
}
