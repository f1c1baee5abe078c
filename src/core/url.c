/* url.c - see url.h. */
#include "core/url.h"

#include <ctype.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "base/base64.h"

static struct mesa_span until(struct mesa_span s, const char *stops)
{
    size_t n = 0;
    while (n < s.len && (s.p[n] == '\0' || strchr(stops, s.p[n]) == NULL))
        n++;
    return (struct mesa_span){s.p, n};
}

static struct mesa_span skip(struct mesa_span s, size_t n)
{
    return (struct mesa_span){s.p + n, s.len - n};
}

static enum mesa_status wrong(const char **why, const char *text)
{
    *why = text;
    return MESA_EINVAL;
}

static int hex_value(char c)
{
    if (c >= '0' && c <= '9')
        return c - '0';
    c = (char)tolower((unsigned char)c);
    return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

static enum mesa_status append_decoded(struct mesa_buf *out, struct mesa_span s)
{
    enum mesa_status rc = MESA_OK;
    for (size_t i = 0; i < s.len && rc == MESA_OK; i++) {
        char c = s.p[i];
        if (c == '%' && i + 2 < s.len && hex_value(s.p[i + 1]) >= 0 && hex_value(s.p[i + 2]) >= 0) {
            c = (char)(hex_value(s.p[i + 1]) * 16 + hex_value(s.p[i + 2]));
            i += 2;
        }
        rc = mesa_buf_push(out, c);
    }
    return rc;
}

static enum mesa_status append_encoded(struct mesa_buf *out, struct mesa_span s)
{
    enum mesa_status rc = MESA_OK;
    for (size_t i = 0; i < s.len && rc == MESA_OK; i++) {
        unsigned char c = (unsigned char)s.p[i];
        if (c <= ' ' || c >= 0x7f || c == '"' || c == '<' || c == '>')
            rc = mesa_buf_printf(out, "%%%02X", c);
        else
            rc = mesa_buf_push(out, (char)c);
    }
    return rc;
}

static enum mesa_status parse_port(struct mesa_url *u, struct mesa_span s, const char **why)
{
    unsigned n = 0;
    if (s.len == 0)
        return MESA_OK; /* "host:" means the scheme's own */
    for (size_t i = 0; i < s.len; i++) {
        if (s.p[i] < '0' || s.p[i] > '9' || n > 65535)
            return wrong(why, "the port is not a number from 1 to 65535");
        n = n * 10 + (unsigned)(s.p[i] - '0');
    }
    if (n < 1 || n > 65535)
        return wrong(why, "the port is not a number from 1 to 65535");
    u->port = (uint16_t)n;
    return MESA_OK;
}

static enum mesa_status parse_host(struct mesa_url *u, struct mesa_span s, const char **why)
{
    if (s.len == 0)
        return wrong(why, "the host is missing");
    if (s.len > MESA_URL_HOST_MAX_BYTES)
        return wrong(why, "the host is longer than 253 bytes");
    for (size_t i = 0; i < s.len; i++) {
        unsigned char c = (unsigned char)s.p[i];
        bool ok = u->ipv6 ? isxdigit(c) || c == ':' || c == '.'
                          : c < 0x80 && (isalnum(c) || c == '-' || c == '.' || c == '_');
        if (!ok)
            return wrong(why, c >= 0x80 ? "the host is not ASCII (write it in Punycode)"
                                        : "the host has a character that no host may have");
        u->host[i] = (char)tolower(c);
    }
    u->host[s.len] = '\0';
    return MESA_OK;
}

/* [user[:password]@]host[:port] */
static enum mesa_status parse_authority(struct mesa_url *u, struct mesa_span s, const char **why)
{
    const char *at = s.len > 0 ? memrchr(s.p, '@', s.len) : NULL;
    if (at != NULL) {
        if (append_decoded(&u->userinfo, (struct mesa_span){s.p, (size_t)(at - s.p)}) != MESA_OK)
            return MESA_ENOMEM;
        s = skip(s, (size_t)(at - s.p) + 1);
    }
    struct mesa_span host, rest;
    if (s.len > 0 && s.p[0] == '[') {
        u->ipv6 = true;
        host = until(skip(s, 1), "]");
        if (host.len + 2 > s.len)
            return wrong(why, "the host's ']' is missing");
        rest = skip(s, host.len + 2);
    } else {
        host = until(s, ":");
        rest = skip(s, host.len);
    }
    enum mesa_status rc = parse_host(u, host, why);
    if (rc != MESA_OK || rest.len == 0)
        return rc;
    if (rest.p[0] != ':')
        return wrong(why, "the host has a character that no host may have");
    return parse_port(u, skip(rest, 1), why);
}

/* "//authority/path?query#fragment" into `u`, whose scheme is set. */
static enum mesa_status parse_rest(struct mesa_url *u, struct mesa_span s, const char **why)
{
    struct mesa_span authority = until(skip(s, 2), "/?#");
    enum mesa_status rc = parse_authority(u, authority, why);
    if (rc != MESA_OK)
        return rc;
    s = skip(s, 2 + authority.len);
    if (s.len == 0 || s.p[0] != '/')
        rc = mesa_buf_push(&u->target, '/');
    return rc == MESA_OK ? append_encoded(&u->target, until(s, "#")) : rc;
}

static bool set_scheme(struct mesa_url *u, struct mesa_span scheme)
{
    u->secure = scheme.len == 5 && strncasecmp(scheme.p, "https", 5) == 0;
    u->port = u->secure ? 443 : 80;
    return u->secure || (scheme.len == 4 && strncasecmp(scheme.p, "http", 4) == 0);
}

static enum mesa_status finish(struct mesa_url *out, struct mesa_url *u, enum mesa_status rc)
{
    if (rc == MESA_OK)
        *out = *u;
    else
        mesa_url_deinit(u);
    return rc;
}

enum mesa_status mesa_url_parse(struct mesa_url *out, struct mesa_span text, const char **why)
{
    struct mesa_url u = {.port = 0};
    *why = "not enough memory";
    if (text.len > MESA_URL_MAX_BYTES)
        return wrong(why, "it is longer than 16384 bytes");
    struct mesa_span scheme = until(text, ":/?#");
    struct mesa_span rest = skip(text, scheme.len);
    if (rest.len < 3 || memcmp(rest.p, "://", 3) != 0 || !set_scheme(&u, scheme))
        return wrong(why, "it does not begin with http:// or https://");
    return finish(out, &u, parse_rest(&u, skip(rest, 1), why));
}

/* Removes "." and ".." from the path in `target` (RFC 3986 section 5.2.4), in place. */
static void remove_dots(struct mesa_buf *target)
{
    struct mesa_span all = {target->data, target->len};
    struct mesa_span path = until(all, "?");
    size_t in = 0, out = 0;
    while (in < path.len) { /* at a '/' */
        size_t end = in + 1;
        while (end < path.len && path.p[end] != '/')
            end++;
        struct mesa_span segment = {path.p + in + 1, end - in - 1};
        bool last = end == path.len;
        if (mesa_span_eq(segment, MESA_SPAN(".")) || mesa_span_eq(segment, MESA_SPAN(".."))) {
            if (segment.len == 2)
                while (out > 0 && target->data[--out] != '/') {
                }
            if (last)
                target->data[out++] = '/';
        } else {
            memmove(target->data + out, target->data + in, end - in);
            out += end - in;
        }
        in = end;
    }
    memmove(target->data + out, target->data + path.len, target->len - path.len);
    target->len = out + target->len - path.len;
}

/* The path and query that a reference without an authority means. */
static enum mesa_status resolve_target(struct mesa_url *u, const struct mesa_url *base,
                                       struct mesa_span ref)
{
    struct mesa_span old = {base->target.data, base->target.len};
    struct mesa_span path = until(old, "?");
    if (ref.len == 0)
        return mesa_buf_append(&u->target, old.p, old.len);
    size_t keep = 0;
    if (ref.p[0] == '?') {
        keep = path.len;
    } else if (ref.p[0] != '/') {
        keep = path.len;
        while (keep > 0 && path.p[keep - 1] != '/')
            keep--;
    }
    enum mesa_status rc = mesa_buf_append(&u->target, path.p, keep);
    if (rc == MESA_OK)
        rc = append_encoded(&u->target, ref);
    if (rc == MESA_OK)
        remove_dots(&u->target);
    return rc;
}

enum mesa_status mesa_url_resolve(struct mesa_url *out, const struct mesa_url *base,
                                  struct mesa_span reference, const char **why)
{
    struct mesa_url u = {.secure = base->secure};
    *why = "not enough memory";
    if (reference.len > MESA_URL_MAX_BYTES)
        return wrong(why, "it is longer than 16384 bytes");
    struct mesa_span scheme = until(reference, ":/?#");
    if (scheme.len < reference.len && reference.p[scheme.len] == ':')
        return mesa_url_parse(out, reference, why);
    u.port = base->secure ? 443 : 80;
    if (reference.len >= 2 && memcmp(reference.p, "//", 2) == 0)
        return finish(out, &u, parse_rest(&u, reference, why));
    u.port = base->port;
    u.ipv6 = base->ipv6;
    memcpy(u.host, base->host, sizeof u.host);
    return finish(out, &u, resolve_target(&u, base, until(reference, "#")));
}

void mesa_url_deinit(struct mesa_url *u)
{
    mesa_buf_deinit(&u->target);
    mesa_buf_deinit(&u->userinfo);
}

bool mesa_url_same_origin(const struct mesa_url *a, const struct mesa_url *b)
{
    return a->secure == b->secure && a->port == b->port && strcmp(a->host, b->host) == 0;
}

enum mesa_status mesa_url_append_host(const struct mesa_url *u, struct mesa_buf *out)
{
    enum mesa_status rc = mesa_buf_printf(out, u->ipv6 ? "[%s]" : "%s", u->host);
    if (rc == MESA_OK && u->port != (u->secure ? 443 : 80))
        rc = mesa_buf_printf(out, ":%u", u->port);
    return rc;
}

enum mesa_status mesa_url_append(const struct mesa_url *u, struct mesa_buf *out)
{
    enum mesa_status rc = mesa_buf_printf(out, u->secure ? "https://" : "http://");
    if (rc == MESA_OK)
        rc = mesa_url_append_host(u, out);
    return rc == MESA_OK ? mesa_buf_append(out, u->target.data, u->target.len) : rc;
}

enum mesa_status mesa_url_append_basic(const struct mesa_url *u, struct mesa_buf *out)
{
    static const char name[] = "Authorization: Basic ";
    const struct mesa_buf *info = &u->userinfo;
    struct mesa_buf both;
    if (info->len == 0)
        return MESA_OK;
    mesa_buf_init(&both);
    enum mesa_status rc = mesa_buf_append(&both, info->data, info->len);
    if (rc == MESA_OK && memchr(info->data, ':', info->len) == NULL)
        rc = mesa_buf_push(&both, ':'); /* an empty password (RFC 7617 section 2) */
    if (rc == MESA_OK)
        rc = mesa_buf_append(out, name, sizeof name - 1);
    if (rc == MESA_OK)
        rc = mesa_base64_encode(out, (struct mesa_span){both.data, both.len});
    mesa_buf_deinit(&both);
    return rc == MESA_OK ? mesa_buf_append(out, "\r\n", 2) : rc;
}
