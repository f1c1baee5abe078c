/* json_scan.c - validation: strings, numbers, literals, and the loop over nested values. See json.h
 * and json_scan.h. */
#include "core/json_scan.h"

#include <math.h>

enum mesa_status mesa_json_report(const struct mesa_json_fault *f, const char *start,
                                  struct mesa_json_error *err)
{
    if (err != NULL)
        *err = (struct mesa_json_error){(size_t)(f->at - start), f->text};
    return f->status;
}

/* Four hexadecimal digits from `p`; -1 and *p at the offender when there are none. */
static int32_t scan_hex4(const char **p, const char *end)
{
    int32_t value = 0;
    for (int i = 0; i < 4; i++, (*p)++) {
        if (*p == end)
            return -1;
        char c = **p, lower = (char)(c | 0x20);
        if (c >= '0' && c <= '9')
            value = value * 16 + (c - '0');
        else if (lower >= 'a' && lower <= 'f')
            value = value * 16 + (lower - 'a' + 10);
        else
            return -1;
    }
    return value;
}

const char *mesa_json_scan_escape(const char *p, const char *end, struct mesa_json_fault *f)
{
    const char *start = p++;
    if (p == end)
        return mesa_json_fail(f, p, "unterminated string");
    switch (*p) {
    case '"':
    case '\\':
    case '/':
    case 'b':
    case 'f':
    case 'n':
    case 'r':
    case 't':
        return p + 1;
    case 'u':
        break;
    default:
        return mesa_json_fail(f, p, "invalid escape");
    }

    p++;
    int32_t unit = scan_hex4(&p, end);
    if (unit < 0)
        return mesa_json_fail(f, p, p == end ? "unterminated string" : "invalid escape");
    if (unit < 0xd800 || unit > 0xdfff)
        return p;
    if (unit > 0xdbff || end - p < 2 || p[0] != '\\' || p[1] != 'u')
        return mesa_json_fail(f, start, "lone surrogate escape");
    p += 2;
    int32_t low = scan_hex4(&p, end);
    if (low < 0)
        return mesa_json_fail(f, p, p == end ? "unterminated string" : "invalid escape");
    if (low < 0xdc00 || low > 0xdfff)
        return mesa_json_fail(f, start, "lone surrogate escape");
    return p;
}

const char *mesa_json_scan_string_rest(const char *p, const char *end, bool *escaped,
                                       struct mesa_json_fault *f)
{
    for (;; p = mesa_json_skip_plain(p, end)) {
        if (p == end)
            return mesa_json_fail(f, p, "unterminated string");
        if (*p == '"')
            return p + 1;
        if (*p == '\\') {
            *escaped = true;
            p = mesa_json_scan_escape(p, end, f);
            if (p == NULL)
                return NULL;
            continue;
        }
        if ((unsigned char)*p < 0x20)
            return mesa_json_fail(f, p, "control character in string");
        do {
            unsigned n = mesa_utf8_sequence(p, end);
            if (n == 0) {
                *f = (struct mesa_json_fault){p, "invalid UTF-8", MESA_EUTF8};
                return NULL;
            }
            p += n;
        } while (p < end && (*p & 0x80));
    }
}

static inline bool is_digit(char c)
{
    return c >= '0' && c <= '9';
}

static inline const char *skip_digits(const char *p, const char *end)
{
    while (p < end && is_digit(*p))
        p++;
    return p;
}

static const char *scan_number(const char *p, const char *end, struct mesa_json_fault *f)
{
    const char *start = p;
    bool exponent = false;
    if (*p == '-')
        p++;
    if (p == end || !is_digit(*p))
        return mesa_json_fail(f, p, "expected a digit");
    if (*p == '0') {
        p++;
        if (p < end && is_digit(*p))
            return mesa_json_fail(f, p, "leading zero");
    } else {
        p = skip_digits(p, end);
    }

    if (p < end && *p == '.') {
        p++;
        if (p == end || !is_digit(*p))
            return mesa_json_fail(f, p, "expected a digit");
        p = skip_digits(p, end);
    }
    if (p < end && (*p == 'e' || *p == 'E')) {
        p++;
        if (p < end && (*p == '+' || *p == '-'))
            p++;
        if (p == end || !is_digit(*p))
            return mesa_json_fail(f, p, "expected a digit");
        p = skip_digits(p, end);
        exponent = true;
    }
    /* It would be infinite, which no JSON can say again. */
    if ((exponent || p - start >= MESA_JSON_RANGE_DIGITS) &&
        isinf(mesa_json_number((struct mesa_span){start, (size_t)(p - start)})))
        return mesa_json_fail(f, start, "number out of range");
    return p;
}

static const char *scan_literal(const char *p, const char *end, const char *literal,
                                struct mesa_json_fault *f)
{
    for (; *literal != '\0'; literal++, p++)
        if (p == end || *p != *literal)
            return mesa_json_fail(f, p, p == end ? "unexpected end" : "invalid literal");
    return p;
}

const char *mesa_json_scan_scalar(const char *p, const char *end, struct mesa_json_fault *f)
{
    bool escaped;
    switch (*p) {
    case '"':
        return mesa_json_scan_string(p, end, &escaped, f);
    case 't':
        return scan_literal(p, end, "true", f);
    case 'f':
        return scan_literal(p, end, "false", f);
    case 'n':
        return scan_literal(p, end, "null", f);
    default:
        if (*p == '-' || is_digit(*p))
            return scan_number(p, end, f);
        return mesa_json_fail(f, p, "expected a value");
    }
}

/* What the open containers are, outermost first: bit set for an object. */
struct nesting {
    uint64_t objects[MESA_JSON_DEPTH_MAX / 64];
    unsigned depth;
};

static inline void nesting_push(struct nesting *n, bool object)
{
    uint64_t bit = UINT64_C(1) << (n->depth % 64);
    uint64_t *word = &n->objects[n->depth / 64];
    *word = (n->depth % 64 == 0 ? 0 : *word & ~bit) | (object ? bit : 0);
    n->depth++;
}

static inline bool nesting_in_object(const struct nesting *n)
{
    return n->objects[(n->depth - 1) / 64] >> ((n->depth - 1) % 64) & 1;
}

/* Behind a value: closes containers until another value follows (its first byte) or nothing is open
 * (behind the outermost one). */
static const char *scan_after_value(const char *p, const char *end, struct nesting *n,
                                    struct mesa_json_fault *f)
{
    while (n->depth > 0) {
        bool object = nesting_in_object(n);
        p = mesa_json_space(p, end);
        if (p == end)
            return mesa_json_fail(f, p, "unexpected end");
        if (*p == ',') {
            struct mesa_span key;
            bool escaped;
            p = mesa_json_space(p + 1, end);
            return object ? mesa_json_scan_key(p, end, &key, &escaped, f) : p;
        }
        if (*p != (object ? '}' : ']'))
            return mesa_json_fail(f, p, object ? "expected ',' or '}'" : "expected ',' or ']'");
        p++;
        n->depth--;
    }
    return p;
}

const char *mesa_json_scan_any(const char *p, const char *end, unsigned max_depth,
                               struct mesa_json_fault *f)
{
    struct nesting n;
    n.depth = 0;
    if (max_depth > MESA_JSON_DEPTH_MAX)
        max_depth = MESA_JSON_DEPTH_MAX;

    do {
        if (p == end)
            return mesa_json_fail(f, p, "unexpected end");
        if (*p == '{' || *p == '[') {
            bool object = *p == '{';
            if (n.depth == max_depth)
                return mesa_json_fail(f, p, "nesting too deep");
            nesting_push(&n, object);
            p = mesa_json_space(p + 1, end);
            if (p < end && *p == (object ? '}' : ']')) {
                p++;
                n.depth--;
            } else {
                struct mesa_span key;
                bool escaped;
                if (object)
                    p = mesa_json_scan_key(p, end, &key, &escaped, f);
                if (p == NULL)
                    return NULL;
                continue;
            }
        } else {
            p = mesa_json_scan_scalar(p, end, f);
            if (p == NULL)
                return NULL;
        }
        p = scan_after_value(p, end, &n, f);
    } while (p != NULL && n.depth > 0);
    return p;
}

enum mesa_status mesa_json_value(const char **p, const char *end, unsigned max_depth,
                                 struct mesa_span *value, struct mesa_json_error *err)
{
    struct mesa_json_fault f;
    const char *start = mesa_json_space(*p, end);
    const char *behind = mesa_json_scan_any(start, end, max_depth, &f);
    if (behind == NULL)
        return mesa_json_report(&f, *p, err);
    if (value != NULL)
        *value = (struct mesa_span){start, (size_t)(behind - start)};
    *p = behind;
    return MESA_OK;
}

enum mesa_status mesa_json_check(const char *text, size_t len, unsigned max_depth,
                                 struct mesa_json_error *err)
{
    if (len == 0)
        text = ""; /* NULL is fine for no bytes, but not for pointer arithmetic */
    const char *p = text, *end = text + len;
    enum mesa_status rc = mesa_json_value(&p, end, max_depth, NULL, err);
    if (rc != MESA_OK)
        return rc;
    p = mesa_json_space(p, end);
    if (p == end)
        return MESA_OK;
    struct mesa_json_fault f;
    mesa_json_fail(&f, p, "unexpected bytes after the value");
    return mesa_json_report(&f, text, err);
}
