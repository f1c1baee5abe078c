/* redis_uri.c - where Redis is and how to talk to it: options, their defaults, and URIs. */
#include "broker/redis_uri.h"

#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/un.h>

#include "base/buf.h"

enum { DEFAULT_PORT = 6379, SENTINEL_PORT = 26379, MAX_DB = INT32_MAX };

void mesa_redis_options_init(struct mesa_redis_options *o)
{
    *o = (struct mesa_redis_options){
        .port = DEFAULT_PORT,
        .connect_timeout_ms = 5000,
        .command_timeout_ms = 5000,
        .keepalive_ms = 10000,
        .backoff_min_ms = 50,
        .backoff_max_ms = 1000,
        .refused_retry_ms = 10000,
        .output_limit = (size_t)64 << 20,
        .reply_limit = (size_t)512 << 20,
    };
}

static void wipe(char *secret)
{
    if (secret != NULL)
        explicit_bzero(secret, strlen(secret));
    free(secret);
}

void mesa_redis_options_deinit(struct mesa_redis_options *o)
{
    for (size_t i = 0; i < o->sentinel_count; i++)
        free(o->sentinels[i].host);
    free(o->sentinels);
    free(o->host);
    free(o->path);
    free(o->user);
    wipe(o->password);
    free(o->name);
    free(o->tls_ca);
    free(o->tls_cert);
    free(o->tls_key);
    free(o->master);
    free(o->sentinel_user);
    wipe(o->sentinel_password);
    *o = (struct mesa_redis_options){0};
}

enum mesa_status mesa_redis_options_set(char **field, const char *value)
{
    char *copy = value != NULL ? strdup(value) : NULL;
    if (value != NULL && copy == NULL)
        return MESA_ENOMEM;
    wipe(*field);
    *field = copy;
    return MESA_OK;
}

static enum mesa_status add_endpoint(struct mesa_redis_options *o, const char *host, uint16_t port)
{
    struct mesa_redis_endpoint *grown =
        realloc(o->sentinels, (o->sentinel_count + 1) * sizeof *grown);
    if (grown == NULL)
        return MESA_ENOMEM;
    o->sentinels = grown;
    grown[o->sentinel_count] = (struct mesa_redis_endpoint){.host = strdup(host), .port = port};
    if (grown[o->sentinel_count].host == NULL)
        return MESA_ENOMEM;
    o->sentinel_count++;
    return MESA_OK;
}

static uint32_t or_default(uint32_t value, uint32_t fallback)
{
    return value != 0 ? value : fallback;
}

static void fill_defaults(struct mesa_redis_options *o)
{
    struct mesa_redis_options d;
    mesa_redis_options_init(&d);
    if (o->port == 0)
        o->port = d.port;
    o->connect_timeout_ms = or_default(o->connect_timeout_ms, d.connect_timeout_ms);
    o->command_timeout_ms = or_default(o->command_timeout_ms, d.command_timeout_ms);
    o->keepalive_ms = or_default(o->keepalive_ms, d.keepalive_ms);
    o->backoff_min_ms = or_default(o->backoff_min_ms, d.backoff_min_ms);
    o->backoff_max_ms = or_default(o->backoff_max_ms, d.backoff_max_ms);
    o->refused_retry_ms = or_default(o->refused_retry_ms, d.refused_retry_ms);
    if (o->output_limit == 0)
        o->output_limit = d.output_limit;
    if (o->reply_limit == 0)
        o->reply_limit = d.reply_limit;
}

enum mesa_status mesa_redis_options_copy(struct mesa_redis_options *out,
                                         const struct mesa_redis_options *o)
{
    struct mesa_redis_options c = *o;
    char **fields[] = {&c.host,
                       &c.path,
                       &c.user,
                       &c.password,
                       &c.name,
                       &c.tls_ca,
                       &c.tls_cert,
                       &c.tls_key,
                       &c.master,
                       &c.sentinel_user,
                       &c.sentinel_password};
    enum { COUNT = sizeof fields / sizeof fields[0] };
    const char *from[COUNT];
    for (size_t i = 0; i < COUNT; i++) {
        from[i] = *fields[i];
        *fields[i] = NULL;
    }
    c.sentinels = NULL;
    c.sentinel_count = 0;

    enum mesa_status rc = MESA_OK;
    for (size_t i = 0; i < COUNT && rc == MESA_OK; i++)
        rc = mesa_redis_options_set(fields[i], from[i]);
    for (size_t i = 0; i < o->sentinel_count && rc == MESA_OK; i++)
        rc = add_endpoint(&c, o->sentinels[i].host, o->sentinels[i].port);
    if (rc != MESA_OK) {
        mesa_redis_options_deinit(&c);
        return rc;
    }
    fill_defaults(&c);
    *out = c;
    return MESA_OK;
}

static enum mesa_status refuse(char *err, size_t err_len, const char *fmt, ...)
    __attribute__((format(printf, 3, 4)));

static enum mesa_status refuse(char *err, size_t err_len, const char *fmt, ...)
{
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(err, err_len, fmt, ap);
    va_end(ap);
    return MESA_EINVAL;
}

static int hex_digit(char c)
{
    if (c >= '0' && c <= '9')
        return c - '0';
    c |= 0x20;
    return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

/* Percent-decodes into a new string; `part` is its name in `err`. */
static enum mesa_status decode(char **out, struct mesa_span s, const char *part, char *err,
                               size_t err_len)
{
    char *text = calloc(1, s.len + 1);
    if (text == NULL)
        return MESA_ENOMEM;

    for (size_t i = 0, n = 0; i < s.len; i++) {
        int c = (unsigned char)s.p[i];
        if (c == '%') {
            int hi = i + 2 < s.len ? hex_digit(s.p[i + 1]) : -1;
            int lo = i + 2 < s.len ? hex_digit(s.p[i + 2]) : -1;
            c = hi < 0 || lo < 0 ? -1 : hi * 16 + lo;
            i += 2;
        }
        if (c <= 0) {
            wipe(text);
            return refuse(err, err_len, "redis uri: %s: %s", part,
                          c == 0 ? "a NUL byte is not allowed"
                                 : "% must be followed by two hexadecimal digits");
        }
        text[n++] = (char)c;
    }
    *out = text;
    return MESA_OK;
}

/* A decimal number from `min` to `max`, digits only. */
static bool parse_number(struct mesa_span s, uint32_t min, uint32_t max, uint32_t *out)
{
    uint64_t value = 0;
    if (s.len == 0 || s.len > 10)
        return false;
    for (size_t i = 0; i < s.len; i++) {
        if (s.p[i] < '0' || s.p[i] > '9')
            return false;
        value = value * 10 + (uint64_t)(s.p[i] - '0');
    }
    if (value < min || value > max)
        return false;
    *out = (uint32_t)value;
    return true;
}

/* What stands before `stop` in *rest; *rest goes on behind it. All of it when there is no `stop`. */
static struct mesa_span cut(struct mesa_span *rest, char stop)
{
    const char *end = rest->len > 0 ? memchr(rest->p, stop, rest->len) : NULL;
    struct mesa_span head = *rest;
    if (end != NULL) {
        head.len = (size_t)(end - rest->p);
        *rest = (struct mesa_span){end + 1, rest->len - head.len - 1};
    } else {
        *rest = (struct mesa_span){NULL, 0};
    }
    return head;
}

/* "host", "host:port", "[v6]:port" -> host (absent when empty) and port (0 when absent). `area` begins
 * the line in `err`. */
static enum mesa_status split_host(struct mesa_span s, struct mesa_span *host, uint32_t *port,
                                   const char *area, char *err, size_t err_len)
{
    struct mesa_span rest = s;
    if (s.len > 0 && s.p[0] == '[') {
        rest = (struct mesa_span){s.p + 1, s.len - 1};
        *host = cut(&rest, ']');
        if (rest.p == NULL || (rest.len > 0 && rest.p[0] != ':') || host->len == 0)
            return refuse(err, err_len, "%s: host: an IPv6 address must be written [address]",
                          area);
        if (rest.len > 0)
            rest = (struct mesa_span){rest.p + 1, rest.len - 1};
        else
            rest.p = NULL;
    } else {
        *host = cut(&rest, ':');
        if (rest.len > 0 && memchr(rest.p, ':', rest.len) != NULL)
            return refuse(err, err_len, "%s: host: an IPv6 address must be written [address]",
                          area);
    }
    *port = 0;
    if (rest.p != NULL && !parse_number(rest, 1, UINT16_MAX, port))
        return refuse(err, err_len, "%s: port: must be a number from 1 to 65535", area);
    return MESA_OK;
}

/* What a URI says, not yet decoded; absent parts are NULL. */
struct parts {
    bool is_unix, tls;
    struct mesa_span user, password, host, path, db;
    uint32_t port;
};

static enum mesa_status split_query(struct parts *u, struct mesa_span query, char *err,
                                    size_t err_len)
{
    while (query.len > 0) {
        struct mesa_span value = cut(&query, '&');
        struct mesa_span key = cut(&value, '=');
        if (key.len == 0)
            continue;
        if (!mesa_span_eq(key, MESA_SPAN("db")))
            return refuse(err, err_len, "redis uri: unknown parameter \"%.*s\"; there is only db",
                          (int)(key.len < 32 ? key.len : 32), key.p);
        u->db = value.p != NULL ? value : MESA_SPAN("");
    }
    return MESA_OK;
}

static struct mesa_span split_scheme(struct parts *u, const char *uri)
{
    static const struct {
        const char *prefix;
        bool is_unix, tls;
    } schemes[] = {
        {"redis://", false, false}, {"rediss://", false, true}, {"unix://", true, false}};

    for (size_t i = 0; i < sizeof schemes / sizeof schemes[0]; i++) {
        size_t n = strlen(schemes[i].prefix);
        if (strncasecmp(uri, schemes[i].prefix, n) == 0) {
            u->is_unix = schemes[i].is_unix;
            u->tls = schemes[i].tls;
            return (struct mesa_span){uri + n, strlen(uri + n)};
        }
    }
    return (struct mesa_span){NULL, 0};
}

static enum mesa_status split(struct parts *u, const char *uri, char *err, size_t err_len)
{
    struct mesa_span rest = split_scheme(u, uri);
    if (rest.p == NULL)
        return refuse(err, err_len, "redis uri: scheme: must be redis://, rediss:// or unix://");

    struct mesa_span query = rest;
    rest = cut(&query, '?');
    struct mesa_span path = rest;
    struct mesa_span authority = cut(&path, '/');
    bool has_path = path.p != NULL;

    const char *at = authority.len > 0 ? memrchr(authority.p, '@', authority.len) : NULL;
    if (at != NULL) {
        u->password = (struct mesa_span){authority.p, (size_t)(at - authority.p)};
        u->user = cut(&u->password, ':');
        authority = (struct mesa_span){at + 1, authority.len - (size_t)(at - authority.p) - 1};
    }

    if (u->is_unix) {
        if (authority.len > 0 || path.len == 0)
            return refuse(err, err_len,
                          "redis uri: path: must be absolute, as in unix:///run/redis.sock");
        u->path = (struct mesa_span){path.p - 1, path.len + 1};
    } else {
        enum mesa_status rc = split_host(authority, &u->host, &u->port, "redis uri", err, err_len);
        if (rc != MESA_OK)
            return rc;
        if (has_path && path.len > 0)
            u->db = path;
    }
    return split_query(u, query, err, err_len);
}

enum mesa_status mesa_redis_options_set_uri(struct mesa_redis_options *o, const char *uri,
                                            char *err, size_t err_len)
{
    struct parts u = {0};
    enum mesa_status rc = split(&u, uri, err, err_len);
    if (rc != MESA_OK)
        return rc;
    uint32_t db = 0;
    if (u.db.p != NULL && !parse_number(u.db, 0, MAX_DB, &db))
        return refuse(err, err_len, "redis uri: db: must be a number from 0 to %d", MAX_DB);

    char *user = NULL, *password = NULL, *host = NULL, *path = NULL;
    if (u.user.len > 0)
        rc = decode(&user, u.user, "user", err, err_len);
    if (rc == MESA_OK && u.password.p != NULL)
        rc = decode(&password, u.password, "password", err, err_len);
    if (rc == MESA_OK && u.host.len > 0)
        rc = decode(&host, u.host, "host", err, err_len);
    if (rc == MESA_OK && u.path.p != NULL)
        rc = decode(&path, u.path, "path", err, err_len);
    if (rc != MESA_OK) {
        free(user);
        wipe(password);
        free(host);
        free(path);
        return rc;
    }

    if (u.user.p != NULL) {
        wipe(o->user);
        wipe(o->password);
        o->user = user;
        o->password = password;
    }
    free(o->host);
    free(o->path);
    o->host = host;
    o->path = path;
    o->tls = u.tls;
    if (u.port != 0)
        o->port = (uint16_t)u.port;
    if (u.db.p != NULL)
        o->db = db;
    return MESA_OK;
}

enum mesa_status mesa_redis_options_add_sentinel(struct mesa_redis_options *o, const char *text,
                                                 char *err, size_t err_len)
{
    struct mesa_span host;
    uint32_t port;
    enum mesa_status rc = split_host((struct mesa_span){text, strlen(text)}, &host, &port,
                                     "redis sentinel", err, err_len);
    if (rc != MESA_OK)
        return rc;
    if (host.len == 0)
        return refuse(err, err_len, "redis sentinel: host: is missing in \"%s\"", text);

    char *name = strndup(host.p, host.len);
    if (name == NULL)
        return MESA_ENOMEM;
    rc = add_endpoint(o, name, port != 0 ? (uint16_t)port : SENTINEL_PORT);
    free(name);
    return rc;
}

static bool is_word(const char *s)
{
    for (; *s != '\0'; s++) {
        if (*s <= ' ' || *s > '~')
            return false;
    }
    return true;
}

enum mesa_status mesa_redis_options_check(const struct mesa_redis_options *o, char *err,
                                          size_t err_len)
{
    struct sockaddr_un un;
    if (o->path != NULL && o->host != NULL)
        return refuse(err, err_len, "redis: path and host exclude each other");
    if (o->path != NULL && (o->path[0] == '\0' || strlen(o->path) >= sizeof un.sun_path))
        return refuse(err, err_len, "redis: path: must have 1 to %zu bytes",
                      sizeof un.sun_path - 1);
    if (o->path != NULL && o->tls)
        return refuse(err, err_len, "redis: path and tls exclude each other");
    if (o->host != NULL && o->host[0] == '\0')
        return refuse(err, err_len, "redis: host: must not be empty");
    if (o->user != NULL && o->password == NULL)
        return refuse(err, err_len, "redis: user: needs a password");
    if (o->db > MAX_DB)
        return refuse(err, err_len, "redis: db: must be a number from 0 to %d", MAX_DB);
    if (o->name != NULL && !is_word(o->name))
        return refuse(err, err_len, "redis: name: must be printable ASCII without spaces");
    if ((o->tls_cert == NULL) != (o->tls_key == NULL))
        return refuse(err, err_len, "redis: tls: certificate and key need each other");
    if (o->sentinel_count > 0 && (o->master == NULL || o->master[0] == '\0'))
        return refuse(err, err_len, "redis: sentinels: need the name of their master");
    if (o->sentinel_count == 0 && o->master != NULL)
        return refuse(err, err_len, "redis: the name of a master needs sentinels");
    if (o->sentinel_user != NULL && o->sentinel_password == NULL)
        return refuse(err, err_len, "redis: sentinel user: needs a password");
    if (o->backoff_min_ms > or_default(o->backoff_max_ms, UINT32_MAX))
        return refuse(err, err_len,
                      "redis: backoff: the shortest delay is longer than the longest");
    return MESA_OK;
}
