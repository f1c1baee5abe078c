#include "jsonwalk.h"

#include <string.h>

struct cursor {
    const char *p;
    const char *end;
};

static void skip_space(struct cursor *c)
{
    while (c->p < c->end && (*c->p == ' ' || *c->p == '\t' || *c->p == '\n' || *c->p == '\r'))
        c->p++;
}

static bool take(struct cursor *c, char want)
{
    skip_space(c);
    if (c->p == c->end || *c->p != want)
        return false;
    c->p++;
    return true;
}

static bool take_string(struct cursor *c, struct json_span *out)
{
    const char *begin = c->p;
    if (!take(c, '"'))
        return false;
    begin = c->p;
    for (; c->p < c->end; c->p++) {
        if (*c->p == '"') {
            *out = (struct json_span){begin, (size_t)(c->p - begin)};
            c->p++;
            return true;
        }
        if (*c->p == '\\' && ++c->p == c->end)
            return false;
    }
    return false;
}

static bool take_nested(struct cursor *c)
{
    int depth = 0;
    do {
        if (c->p == c->end)
            return false;
        struct json_span ignored;
        switch (*c->p) {
        case '"':
            if (!take_string(c, &ignored))
                return false;
            continue;
        case '{':
        case '[':
            depth++;
            break;
        case '}':
        case ']':
            depth--;
            break;
        default:
            break;
        }
        c->p++;
    } while (depth > 0);
    return true;
}

static bool take_value(struct cursor *c, struct json_span *out)
{
    skip_space(c);
    const char *begin = c->p;
    if (c->p == c->end)
        return false;
    if (*c->p == '"') {
        struct json_span inner;
        if (!take_string(c, &inner))
            return false;
    } else if (*c->p == '{' || *c->p == '[') {
        if (!take_nested(c))
            return false;
    } else {
        while (c->p < c->end && strchr(",]} \t\r\n", *c->p) == NULL)
            c->p++;
    }
    *out = (struct json_span){begin, (size_t)(c->p - begin)};
    return out->n > 0;
}

int json_members(struct json_span text, struct json_member *out, int max)
{
    struct cursor c = {text.p, text.p + text.n};
    int count = 0;

    if (!take(&c, '{'))
        return -1;
    if (!take(&c, '}')) {
        do {
            if (count == max || !take_string(&c, &out[count].key) || !take(&c, ':') ||
                !take_value(&c, &out[count].value))
                return -1;
            count++;
        } while (take(&c, ','));
        if (!take(&c, '}'))
            return -1;
    }
    skip_space(&c);
    return c.p == c.end ? count : -1;
}

bool json_span_is(struct json_span s, const char *text)
{
    return s.n == strlen(text) && memcmp(s.p, text, s.n) == 0;
}

bool json_span_uint(struct json_span s, uint64_t *out)
{
    if (s.n == 0 || s.n > 18 || (s.n > 1 && s.p[0] == '0'))
        return false;
    uint64_t v = 0;
    for (size_t i = 0; i < s.n; i++) {
        if (s.p[i] < '0' || s.p[i] > '9')
            return false;
        v = v * 10 + (uint64_t)(s.p[i] - '0');
    }
    *out = v;
    return true;
}

bool json_is_string(struct json_span value, const char *text, size_t len)
{
    return value.n == len + 2 && value.p[0] == '"' && memcmp(value.p + 1, text, len) == 0;
}

bool json_exact_members(struct json_span text, const char *const *keys, int count,
                        struct json_span *values)
{
    struct json_member member[4];
    if (json_members(text, member, count) != count)
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
