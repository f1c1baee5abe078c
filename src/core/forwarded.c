/* forwarded.c - see forwarded.h. */
#include "core/forwarded.h"

#include <string.h>
#include <strings.h>

enum entry { ENTRY_ADDRESS, ENTRY_UNNAMED, ENTRY_MALFORMED };

/* One hop of a list. */
struct hop {
    struct mesa_address address;
    struct mesa_span scheme; /* absent: it does not say */
};

static bool is_space(char c)
{
    return c == ' ' || c == '\t';
}

static struct mesa_span trim(struct mesa_span s)
{
    while (s.len > 0 && is_space(s.p[s.len - 1]))
        s.len--;
    while (s.len > 0 && is_space(*s.p)) {
        s.p++;
        s.len--;
    }
    return s;
}

static bool is_word(struct mesa_span s, const char *word)
{
    return s.len == strlen(word) && strncasecmp(s.p, word, s.len) == 0;
}

static bool is_alphanumeric(char c)
{
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9');
}

/* -- nodes (RFC 7239 section 6) -- */

/* "_" and letters, digits, '.', '_', '-'. */
static bool is_obfuscated(struct mesa_span s)
{
    if (s.len < 2 || s.p[0] != '_')
        return false;
    for (size_t i = 1; i < s.len; i++)
        if (!is_alphanumeric(s.p[i]) && strchr("._-", s.p[i]) == NULL)
            return false;
    return true;
}

static bool is_port(struct mesa_span s)
{
    if (is_obfuscated(s))
        return true;
    for (size_t i = 0; i < s.len; i++)
        if (s.p[i] < '0' || s.p[i] > '9')
            return false;
    return s.len >= 1 && s.len <= 5;
}

/* The part in front of ":port"; absent when what is behind it is no port. */
static struct mesa_span without_port(struct mesa_span s)
{
    const char *from = s.p, *end = s.p + s.len;
    if (s.len > 0 && s.p[0] == '[') {
        from = memchr(s.p, ']', s.len);
        if (from == NULL)
            return (struct mesa_span){NULL, 0};
        from++;
    }
    const char *colon = memchr(from, ':', (size_t)(end - from));
    if (colon == NULL)
        return from == s.p || from == end ? s : (struct mesa_span){NULL, 0};
    if ((from != s.p && colon != from) ||
        !is_port((struct mesa_span){colon + 1, (size_t)(end - colon) - 1}))
        return (struct mesa_span){NULL, 0};
    s.len = (size_t)(colon - s.p);
    return s;
}

/* "192.0.2.1", "[2001:db8::1]", each perhaps with a port, "unknown", "_hidden"; with `bare`, as
 * X-Forwarded-For has it, also "2001:db8::1". */
static enum entry read_node(struct mesa_span s, bool bare, struct mesa_address *out)
{
    if (bare && mesa_address_read(out, s))
        return ENTRY_ADDRESS;
    struct mesa_span name = without_port(s);
    if (name.p == NULL)
        return ENTRY_MALFORMED;
    if (is_word(name, "unknown") || is_obfuscated(name))
        return ENTRY_UNNAMED;
    bool bracketed = name.len > 2 && name.p[0] == '[';
    if (bracketed)
        name = (struct mesa_span){name.p + 1, name.len - 2};
    bool ipv6 = name.len > 0 && memchr(name.p, ':', name.len) != NULL;
    return bracketed == ipv6 && mesa_address_read(out, name) ? ENTRY_ADDRESS : ENTRY_MALFORMED;
}

/* -- lists, from the right -- */

/* Whether there is an odd number of backslashes in front of `p`. */
static bool is_escaped(const char *first, const char *p)
{
    size_t slashes = 0;
    while (p > first && p[-1] == '\\') {
        p--;
        slashes++;
    }
    return slashes % 2 == 1;
}

/* Takes the last member that is not empty off a comma-separated list; commas in quotation marks part
 * nothing. From the right, because whoever wrote the left end can have left a quotation mark open there.
 * Absent: there are no more. */
static struct mesa_span take_last(struct mesa_span *list)
{
    while (list->len > 0) {
        const char *end = list->p + list->len, *p = end;
        bool quoted = false;
        for (; p > list->p && (quoted || p[-1] != ','); p--)
            if (p[-1] == '"' && !(quoted && is_escaped(list->p, p - 1)))
                quoted = !quoted;
        struct mesa_span member = trim((struct mesa_span){p, (size_t)(end - p)});
        list->len = p > list->p ? (size_t)(p - list->p) - 1 : 0;
        if (member.len > 0)
            return member;
    }
    return (struct mesa_span){NULL, 0};
}

/* -- Forwarded (RFC 7239 section 4) -- */

static bool is_token_char(char c)
{
    return is_alphanumeric(c) || (c != '\0' && strchr("!#$%&'*+-.^_`|~", c) != NULL);
}

static size_t token_length(struct mesa_span s)
{
    size_t n = 0;
    while (n < s.len && is_token_char(s.p[n]))
        n++;
    return n;
}

/* The length of the quoted text at the front, with its quotation marks; 0: there is none. */
static size_t quoted_length(struct mesa_span s)
{
    for (size_t i = 1; i < s.len && s.p[0] == '"'; i++) {
        if (s.p[i] == '"')
            return i + 1;
        if (s.p[i] == '\\')
            i++;
    }
    return 0;
}

static void skip(struct mesa_span *s, size_t n)
{
    s->p += n;
    s->len -= n;
}

/* Takes "name=value" off the front. False: it is not that. What is escaped in a value stays so: no address
 * and no scheme has anything to escape. */
static bool take_pair(struct mesa_span *s, struct mesa_span *name, struct mesa_span *value)
{
    *s = trim(*s);
    *name = (struct mesa_span){s->p, token_length(*s)};
    skip(s, name->len);
    if (name->len == 0 || s->len == 0 || s->p[0] != '=')
        return false;
    skip(s, 1);
    size_t quoted = quoted_length(*s), n = quoted > 0 ? quoted : token_length(*s);
    *value = quoted > 0 ? (struct mesa_span){s->p + 1, quoted - 2} : (struct mesa_span){s->p, n};
    skip(s, n);
    *s = trim(*s);
    return n > 0;
}

static enum entry read_element(struct mesa_span s, struct hop *out)
{
    enum entry found = ENTRY_UNNAMED;
    bool seen = false;
    while (s.len > 0) {
        struct mesa_span name, value;
        if (!take_pair(&s, &name, &value))
            return ENTRY_MALFORMED;
        if (is_word(name, "for")) {
            found = seen ? ENTRY_MALFORMED : read_node(value, false, &out->address);
            seen = true;
        } else if (is_word(name, "proto")) {
            if (out->scheme.p != NULL)
                return ENTRY_MALFORMED;
            out->scheme = value;
        }
        if (found == ENTRY_MALFORMED || (s.len > 0 && s.p[0] != ';'))
            return ENTRY_MALFORMED;
        if (s.len > 0)
            skip(&s, 1);
    }
    return found;
}

/* -- the walk -- */

/* What scheme is said there; else `secure` stays. */
static void apply_scheme(struct mesa_span scheme, bool *secure)
{
    if (is_word(scheme, "https") || is_word(scheme, "wss"))
        *secure = true;
    else if (is_word(scheme, "http") || is_word(scheme, "ws"))
        *secure = false;
}

/* The schemes, one for each hop; a proxy that keeps what it was told leaves fewer than there are
 * addresses, and the first one is the client's. */
static struct mesa_span take_scheme(struct mesa_span *schemes, struct mesa_span before)
{
    struct mesa_span next = take_last(schemes);
    return next.p != NULL ? next : before;
}

void mesa_forwarded_find(struct mesa_source *peer, const struct mesa_forwarding *headers,
                         const struct mesa_network *believed, size_t count)
{
    struct mesa_source at = *peer;
    struct mesa_span list = headers->list, schemes = headers->scheme;
    bool elements = list.p == NULL;
    if (elements)
        list = headers->forwarded;
    if (!mesa_networks_have(believed, count, &at.address))
        return;

    struct mesa_span scheme = {NULL, 0}, member;
    bool any = false;
    while (mesa_networks_have(believed, count, &at.address) &&
           (member = take_last(&list)).p != NULL) {
        struct hop hop = {.scheme = {NULL, 0}};
        enum entry found =
            elements ? read_element(member, &hop) : read_node(member, true, &hop.address);
        if (found == ENTRY_MALFORMED)
            return;
        any = true;
        scheme = elements ? hop.scheme : take_scheme(&schemes, scheme);
        apply_scheme(scheme, &at.secure);
        if (found == ENTRY_UNNAMED)
            break;
        at.address = hop.address;
    }
    if (!any) /* the scheme alone */
        apply_scheme(take_last(&schemes), &at.secure);
    *peer = at;
}
