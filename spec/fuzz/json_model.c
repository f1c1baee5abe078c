/* json_model.c - see json_model.h: recursive descent, a byte at a time, nothing shared with the
 * scanner. */
#include "json_model.h"

#include <math.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

struct input {
    const unsigned char *p, *end;
    bool lenient;
};

static bool value(struct input *in, unsigned depth);

static int peek(const struct input *in)
{
    return in->p < in->end ? *in->p : -1;
}

static bool accept(struct input *in, int c)
{
    if (peek(in) != c)
        return false;
    in->p++;
    return true;
}

static void space(struct input *in)
{
    while (accept(in, ' ') || accept(in, '\t') || accept(in, '\n') || accept(in, '\r'))
        ;
}

static bool literal(struct input *in, const char *text)
{
    for (; *text != '\0'; text++)
        if (!accept(in, *text))
            return false;
    return true;
}

static bool digits(struct input *in)
{
    const unsigned char *start = in->p;
    while (peek(in) >= '0' && peek(in) <= '9')
        in->p++;
    return in->p > start;
}

static bool is_finite(const unsigned char *p, const unsigned char *end)
{
    size_t len = (size_t)(end - p);
    char *text = malloc(len + 1);
    if (text == NULL)
        abort();
    memcpy(text, p, len);
    text[len] = '\0';
    bool ok = isfinite(strtod(text, NULL)); /* in the C locale */
    free(text);
    return ok;
}

static bool grammar_number(struct input *in)
{
    accept(in, '-');
    if (!accept(in, '0') && !digits(in))
        return false;
    if (accept(in, '.') && !digits(in))
        return false;
    if (accept(in, 'e') || accept(in, 'E')) {
        if (!accept(in, '+'))
            accept(in, '-');
        return digits(in);
    }
    return true;
}

static bool number(struct input *in)
{
    const unsigned char *start = in->p;
    return grammar_number(in) && is_finite(start, in->p);
}

static bool hex4(struct input *in, unsigned *unit)
{
    static const char alphabet[] = "0123456789abcdef0123456789ABCDEF";
    *unit = 0;
    for (int i = 0; i < 4; i++) {
        const char *at = peek(in) > 0 ? strchr(alphabet, peek(in)) : NULL;
        if (at == NULL)
            return false;
        *unit = *unit * 16 + (unsigned)(at - alphabet) % 16;
        in->p++;
    }
    return true;
}

static bool escape(struct input *in)
{
    unsigned high, low;
    int c = peek(in);
    if (c <= 0 || strchr("\"\\/bfnrtu", c) == NULL)
        return false;
    in->p++;
    if (c != 'u')
        return true;
    if (!hex4(in, &high))
        return false;
    if (high < 0xd800 || high > 0xdfff || in->lenient)
        return true;
    return high < 0xdc00 && accept(in, '\\') && accept(in, 'u') && hex4(in, &low) &&
           low >= 0xdc00 && low <= 0xdfff;
}

/* Decodes one character of several bytes and judges the code point. */
static bool character(struct input *in)
{
    static const uint32_t least[] = {0, 0, 0x80, 0x800, 0x10000};
    unsigned c = *in->p++;
    unsigned n = (c & 0xe0) == 0xc0 ? 2 : (c & 0xf0) == 0xe0 ? 3 : (c & 0xf8) == 0xf0 ? 4 : 0;
    if (n == 0)
        return false;
    uint32_t code = c & (0x7fu >> n);
    for (unsigned i = 1; i < n; i++) {
        if (peek(in) < 0x80 || peek(in) > 0xbf)
            return false;
        code = code << 6 | (*in->p++ & 0x3fu);
    }
    return code >= least[n] && code <= 0x10ffff && (code < 0xd800 || code > 0xdfff);
}

static bool string(struct input *in)
{
    if (!accept(in, '"'))
        return false;
    while (!accept(in, '"')) {
        int c = peek(in);
        if (c < 0x20)
            return false;
        if (c >= 0x80 ? !character(in) : accept(in, '\\') ? !escape(in) : !accept(in, c))
            return false;
    }
    return true;
}

static bool member(struct input *in, unsigned depth)
{
    space(in);
    if (!string(in))
        return false;
    space(in);
    return accept(in, ':') && value(in, depth);
}

static bool container(struct input *in, unsigned depth, bool object)
{
    if (depth == 0)
        return false;
    int close = object ? '}' : ']';
    in->p++;
    space(in);
    if (accept(in, close))
        return true;
    do {
        if (object ? !member(in, depth - 1) : !value(in, depth - 1))
            return false;
    } while (accept(in, ','));
    return accept(in, close);
}

static bool value(struct input *in, unsigned depth)
{
    bool ok;
    space(in);
    switch (peek(in)) {
    case '{':
    case '[':
        ok = container(in, depth, peek(in) == '{');
        break;
    case '"':
        ok = string(in);
        break;
    case 't':
        ok = literal(in, "true");
        break;
    case 'f':
        ok = literal(in, "false");
        break;
    case 'n':
        ok = literal(in, "null");
        break;
    default:
        ok = number(in);
    }
    space(in);
    return ok;
}

bool json_model_valid(const char *text, size_t len, unsigned max_depth)
{
    struct input in = {(const unsigned char *)text, (const unsigned char *)text + len, false};
    return value(&in, max_depth) && in.p == in.end;
}

bool json_model_lenient(const char *text, size_t len, unsigned max_depth)
{
    struct input in = {(const unsigned char *)text, (const unsigned char *)text + len, true};
    return value(&in, max_depth) && in.p == in.end;
}
