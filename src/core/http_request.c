/* http_request.c - see http_request.h. */
#include "core/http_request.h"

#include <stdbool.h>
#include <stdint.h>
#include <string.h>

/* RFC 9110 section 5.6.2: what a token may have, capitals turned into small letters; 0: nothing. */
static const unsigned char token_chars[256] = {
    ['!'] = '!', ['#'] = '#', ['$'] = '$', ['%'] = '%', ['&'] = '&', ['\''] = '\'', ['*'] = '*',
    ['+'] = '+', ['-'] = '-', ['.'] = '.', ['^'] = '^', ['_'] = '_', ['`'] = '`',   ['|'] = '|',
    ['~'] = '~', ['0'] = '0', ['1'] = '1', ['2'] = '2', ['3'] = '3', ['4'] = '4',   ['5'] = '5',
    ['6'] = '6', ['7'] = '7', ['8'] = '8', ['9'] = '9', ['A'] = 'a', ['B'] = 'b',   ['C'] = 'c',
    ['D'] = 'd', ['E'] = 'e', ['F'] = 'f', ['G'] = 'g', ['H'] = 'h', ['I'] = 'i',   ['J'] = 'j',
    ['K'] = 'k', ['L'] = 'l', ['M'] = 'm', ['N'] = 'n', ['O'] = 'o', ['P'] = 'p',   ['Q'] = 'q',
    ['R'] = 'r', ['S'] = 's', ['T'] = 't', ['U'] = 'u', ['V'] = 'v', ['W'] = 'w',   ['X'] = 'x',
    ['Y'] = 'y', ['Z'] = 'z', ['a'] = 'a', ['b'] = 'b', ['c'] = 'c', ['d'] = 'd',   ['e'] = 'e',
    ['f'] = 'f', ['g'] = 'g', ['h'] = 'h', ['i'] = 'i', ['j'] = 'j', ['k'] = 'k',   ['l'] = 'l',
    ['m'] = 'm', ['n'] = 'n', ['o'] = 'o', ['p'] = 'p', ['q'] = 'q', ['r'] = 'r',   ['s'] = 's',
    ['t'] = 't', ['u'] = 'u', ['v'] = 'v', ['w'] = 'w', ['x'] = 'x', ['y'] = 'y',   ['z'] = 'z',
};

size_t mesa_http_request_end(const char *p, size_t len)
{
    const char *line = p, *end = p + len, *found;
    while ((found = memchr(line, '\n', (size_t)(end - line))) != NULL) {
        if (found == p || found[-1] != '\r')
            return MESA_HTTP_BARE_LF;
        if (found - line == 1 && line > p)
            return (size_t)(found + 1 - p);
        line = found + 1;
    }
    return 0;
}

int mesa_http_request_may_begin(char c)
{
    return token_chars[(unsigned char)c] != 0;
}

static bool is_space(char c)
{
    return c == ' ' || c == '\t';
}

/* -1: not a hexadecimal digit. */
static int hex_digit(char c)
{
    if (c >= '0' && c <= '9')
        return c - '0';
    c = (char)(c | 0x20);
    return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

/* Decodes in place; false: "%" without two digits, or a NUL. */
static bool percent_decode(struct mesa_span *s)
{
    char *to = (char *)(uintptr_t)s->p;
    const char *from = s->p, *end = from + s->len;
    while (from < end) {
        char c = *from++;
        if (c == '%') {
            int high = end - from >= 2 ? hex_digit(from[0]) : -1;
            int low = high >= 0 ? hex_digit(from[1]) : -1;
            if (low < 0)
                return false;
            c = (char)(high << 4 | low);
            from += 2;
        }
        if (c == '\0')
            return false;
        *to++ = c;
    }
    s->len = (size_t)(to - s->p);
    return true;
}

/* Takes ".", ".." and empty parts out of a path that begins with '/', in place; nothing leads above
 * the root (RFC 3986 section 5.2.4). */
static void resolve_dots(struct mesa_span *path)
{
    char *start = (char *)(uintptr_t)path->p, *to = start + 1;
    const char *from = start + 1, *end = start + path->len;
    while (from < end) {
        const char *slash = memchr(from, '/', (size_t)(end - from));
        size_t n = slash != NULL ? (size_t)(slash - from) : (size_t)(end - from);
        if (n == 2 && from[0] == '.' && from[1] == '.') {
            if (to > start + 1)
                to--; /* the slash behind the part before */
            while (to[-1] != '/')
                to--;
        } else if (n > 0 && !(n == 1 && from[0] == '.')) {
            memmove(to, from, n);
            to += n;
            if (slash != NULL)
                *to++ = '/';
        }
        from += n + (slash != NULL ? 1 : 0);
    }
    path->len = (size_t)(to - start);
}

static bool may_be_in_scheme(char c)
{
    return token_chars[(unsigned char)c] != 0 && strchr("!#$%&'*^_`|~", c) == NULL;
}

/* Takes "scheme://host" off a target (RFC 9112 section 3.2.2); false: it does not begin so. */
static bool skip_origin(struct mesa_span *target)
{
    char *p = (char *)(uintptr_t)target->p, *end = p + target->len;
    if (p == end || (*p | 0x20) < 'a' || (*p | 0x20) > 'z')
        return false;
    while (p < end && may_be_in_scheme(*p))
        p++;
    if (end - p < 4 || memcmp(p, "://", 3) != 0 || p[3] == '/' || p[3] == '?')
        return false;
    for (p += 3; p < end && *p != '/' && *p != '?';)
        p++;
    if (p == end || *p == '?')
        *--p = '/'; /* an empty path: the host is not needed any more */
    *target = (struct mesa_span){p, (size_t)(end - p)};
    return true;
}

/* RFC 9112 section 3.2: "/path?query", also behind "http://host". */
static enum mesa_status read_target(struct mesa_span target, struct mesa_http_request *out)
{
    for (size_t i = 0; i < target.len; i++) {
        unsigned char c = (unsigned char)target.p[i];
        if (c <= ' ' || c >= 0x7f || c == '#')
            return MESA_EPROTO;
    }
    if (target.len > 0 && target.p[0] != '/' && !skip_origin(&target))
        return MESA_EPROTO;
    if (target.len == 0)
        return MESA_EPROTO;
    const char *mark = memchr(target.p, '?', target.len);
    out->path = target;
    out->query = (struct mesa_span){"", 0};
    if (mark != NULL) {
        out->path.len = (size_t)(mark - target.p);
        out->query = (struct mesa_span){mark + 1, target.len - out->path.len - 1};
    }
    if (!percent_decode(&out->path))
        return MESA_EPROTO;
    resolve_dots(&out->path);
    return MESA_OK;
}

static enum mesa_status read_request_line(char *p, size_t len, struct mesa_http_request *out)
{
    static const char version[] = " HTTP/1.x";
    size_t n = 0;
    while (n < len && token_chars[(unsigned char)p[n]] != 0)
        n++;
    if (n == 0 || n == len || p[n] != ' ' || len - n < sizeof version ||
        memcmp(p + len - (sizeof version - 1), version, sizeof version - 2) != 0 ||
        p[len - 1] < '0' || p[len - 1] > '9')
        return MESA_EPROTO;
    out->minor = p[len - 1] - '0'; /* a later one is to be understood, too (RFC 9110 section 2.5) */
    out->method = (struct mesa_span){p, n};
    struct mesa_span target = {p + n + 1, len - n - sizeof version};
    if (mesa_span_eq(out->method, MESA_SPAN("CONNECT"))) /* this is no proxy */
        return MESA_EPROTO;
    if (mesa_span_eq(out->method, MESA_SPAN("OPTIONS")) && mesa_span_eq(target, MESA_SPAN("*"))) {
        out->path = target;
        out->query = (struct mesa_span){"", 0};
        return MESA_OK;
    }
    return read_target(target, out);
}

/* RFC 3986 section 3.2.2. */
static bool may_be_in_name(char c)
{
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') ||
           (c != '\0' && strchr("-._~!$&'()*+,;=%", c) != NULL);
}

int mesa_http_host_valid(struct mesa_span host)
{
    const char *p = host.p, *end = p + host.len;
    if (p < end && *p == '[') {
        for (p++; p < end && (hex_digit(*p) >= 0 || *p == ':' || *p == '.'); p++) {
        }
        if (p == end || *p++ != ']')
            return 0;
    } else {
        while (p < end && may_be_in_name(*p))
            p++;
    }
    if (p < end && *p++ != ':')
        return 0;
    while (p < end && *p >= '0' && *p <= '9')
        p++;
    return p == end;
}

static enum mesa_status read_header(char *p, size_t len, struct mesa_header *out)
{
    size_t n = 0;
    for (; n < len && token_chars[(unsigned char)p[n]] != 0; n++)
        p[n] = (char)token_chars[(unsigned char)p[n]];
    if (n == 0 || n == len || p[n] != ':')
        return MESA_EPROTO;
    out->name = (struct mesa_span){p, n};
    const char *from = p + n + 1, *end = p + len;
    while (from < end && is_space(*from))
        from++;
    while (end > from && is_space(end[-1]))
        end--;
    for (const char *c = from; c < end; c++)
        if (((unsigned char)*c < ' ' && *c != '\t') || *c == 0x7f)
            return MESA_EPROTO;
    out->value = (struct mesa_span){from, (size_t)(end - from)};
    return MESA_OK;
}

enum mesa_status mesa_http_request_parse(char *p, size_t len, struct mesa_http_request *out,
                                         struct mesa_header *headers, size_t header_max)
{
    char *end = p + len - 2; /* the empty line */
    bool first = true;
    out->header_count = 0;
    while (p < end) {
        char *line_end = memchr(p, '\r', (size_t)(end - p));
        if (line_end == NULL || line_end[1] != '\n')
            return MESA_EPROTO;
        size_t n = (size_t)(line_end - p);
        enum mesa_status rc;
        if (first) {
            rc = read_request_line(p, n, out);
        } else if (out->header_count == header_max) {
            rc = MESA_ETOOBIG;
        } else {
            rc = read_header(p, n, &headers[out->header_count++]);
        }
        if (rc != MESA_OK)
            return rc;
        first = false;
        p = line_end + 2;
    }
    return first ? MESA_EPROTO : MESA_OK;
}

struct mesa_span mesa_http_list_next(struct mesa_span *list)
{
    struct mesa_span member = {NULL, 0};
    while (list->len > 0 && (is_space(*list->p) || *list->p == ',')) {
        list->p++;
        list->len--;
    }
    if (list->len == 0)
        return member;
    const char *comma = memchr(list->p, ',', list->len);
    member.p = list->p;
    member.len = comma != NULL ? (size_t)(comma - list->p) : list->len;
    list->p += member.len;
    list->len -= member.len;
    while (member.len > 0 && is_space(member.p[member.len - 1]))
        member.len--;
    return member;
}
