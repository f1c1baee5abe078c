/* transport_conditions.c - conditional requests for a file, and requests for a part of one (RFC 9110
 * sections 13 and 14). */
#include <string.h>
#include <time.h>

#include "io/transport_http.h"

/* Whether a list of entity tags has ours; "*" is any. A strong comparison lets no weak one match. */
static bool lists_tag(struct mesa_span list, const char *tag, bool strong)
{
    size_t n = strlen(tag);
    const char *p = list.p, *end = p + list.len;
    if (mesa_span_eq(list, MESA_SPAN("*")))
        return true;
    while (p < end) {
        bool weak = end - p > 2 && memcmp(p, "W/\"", 3) == 0;
        if (weak)
            p += 2;
        if (*p != '"') {
            p++;
            continue;
        }
        const char *close = memchr(p + 1, '"', (size_t)(end - p - 1));
        if (close == NULL)
            return false;
        if (!(weak && strong) && (size_t)(close + 1 - p) == n && memcmp(p, tag, n) == 0)
            return true;
        p = close + 1;
    }
    return false;
}

/* Section 5.6.7, the two obsolete forms included; false: it is no date, and means nothing. */
static bool read_date(struct mesa_span value, time_t *out)
{
    static const char *const forms[] = {"%a, %d %b %Y %H:%M:%S GMT", "%A, %d-%b-%y %H:%M:%S GMT",
                                        "%a %b %e %H:%M:%S %Y"};
    char text[64];
    if (value.p == NULL || value.len >= sizeof text)
        return false;
    memcpy(text, value.p, value.len);
    text[value.len] = '\0';
    for (size_t i = 0; i < sizeof forms / sizeof *forms; i++) {
        struct tm tm = {.tm_sec = 0};
        const char *rest = strptime(text, forms[i], &tm);
        if (rest != NULL && *rest == '\0') {
            *out = timegm(&tm);
            return true;
        }
    }
    return false;
}

int mesa_http_conditions(const struct mesa_request *req, const char *tag, time_t modified)
{
    struct mesa_span match = mesa_request_header(req, "if-match");
    struct mesa_span none_match = mesa_request_header(req, "if-none-match");
    time_t date;
    if (match.p != NULL) {
        if (!lists_tag(match, tag, true))
            return 412;
    } else if (read_date(mesa_request_header(req, "if-unmodified-since"), &date) &&
               modified > date) {
        return 412;
    }
    if (none_match.p != NULL)
        return lists_tag(none_match, tag, false) ? 304 : 200;
    return read_date(mesa_request_header(req, "if-modified-since"), &date) && modified <= date
               ? 304
               : 200;
}

/* Digits from `*p` on; false: none, or too many. */
static bool read_number(const char **p, const char *end, uint64_t *out)
{
    const char *from = *p;
    for (*out = 0; *p < end && **p >= '0' && **p <= '9' && *p - from < 18; ++*p)
        *out = *out * 10 + (uint64_t)(**p - '0');
    return *p > from && (*p == end || **p < '0' || **p > '9');
}

/* Whether the part that is wanted is of the file as it is now (section 13.1.5). */
static bool is_current(const struct mesa_request *req, const char *tag, time_t modified)
{
    struct mesa_span since = mesa_request_header(req, "if-range");
    time_t date;
    if (since.p == NULL)
        return true;
    return read_date(since, &date) ? date == modified : lists_tag(since, tag, true);
}

int mesa_http_range(const struct mesa_request *req, const char *tag, time_t modified, uint64_t size,
                    struct mesa_http_part *out)
{
    static const char unit[] = "bytes=";
    struct mesa_span range = mesa_request_header(req, "range");
    const char *p = range.p + sizeof unit - 1, *end = range.p + range.len;
    uint64_t first = 0, last = 0;
    if (range.len < sizeof unit || memcmp(range.p, unit, sizeof unit - 1) != 0 ||
        memchr(range.p, ',', range.len) != NULL || !mesa_span_eq(req->method, MESA_SPAN("GET")) ||
        !is_current(req, tag, modified))
        return 200; /* several parts are not served: the whole is an answer, too */
    if (*p == '-') {
        p++;
        if (!read_number(&p, end, &last) || p != end)
            return 200;
        if (last == 0 || size == 0)
            return 416;
        *out = (struct mesa_http_part){last < size ? size - last : 0, last < size ? last : size};
        return 206;
    }
    if (!read_number(&p, end, &first) || p == end || *p++ != '-')
        return 200;
    if (p == end)
        last = UINT64_MAX;
    else if (!read_number(&p, end, &last) || p != end || last < first)
        return 200;
    if (first >= size)
        return 416;
    *out = (struct mesa_http_part){first, (last < size ? last + 1 : size) - first};
    return 206;
}
