/* httpc_request.c - what a call asks for: checked, turned into bytes, changed by a redirection. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "io/httpc_internal.h"

static bool is_name(struct mesa_span s, const char *name)
{
    return s.len == strlen(name) && strncasecmp(s.p, name, s.len) == 0;
}

static bool is_any(struct mesa_span s, const char *const *names)
{
    for (; *names != NULL; names++)
        if (is_name(s, *names))
            return true;
    return false;
}

static bool is_token(struct mesa_span s)
{
    static const char bytes[] = "!#$%&'*+-.^_`|~0123456789"
                                "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";
    for (size_t i = 0; i < s.len; i++)
        if (s.p[i] == '\0' || strchr(bytes, s.p[i]) == NULL)
            return false;
    return s.len > 0;
}

/* The next "name: value\r\n" of `headers` from *at on. */
static bool next_header(const struct mesa_buf *headers, size_t *at, struct mesa_span *line,
                        struct mesa_span *name)
{
    if (*at >= headers->len)
        return false;
    const char *p = headers->data + *at;
    const char *end = memchr(p, '\n', headers->len - *at);
    const char *colon = memchr(p, ':', headers->len - *at);
    *line = (struct mesa_span){p, (size_t)(end - p) + 1};
    *name = (struct mesa_span){p, (size_t)(colon - p)};
    *at += line->len;
    return true;
}

static bool has_header(const struct mesa_buf *headers, const char *wanted)
{
    struct mesa_span line, name;
    for (size_t at = 0; next_header(headers, &at, &line, &name);)
        if (is_name(name, wanted))
            return true;
    return false;
}

/* -- checking -- */

static enum mesa_status add_header(struct mesa_httpc_call *call,
                                   const struct mesa_httpc_header *header, char *err,
                                   size_t err_len)
{
    static const char *const own[] = {
        "connection", "content-length",    "expect",  "keep-alive", "te",
        "trailer",    "transfer-encoding", "upgrade", NULL};
    struct mesa_span name = header->name, value = header->value;
    const char *why = NULL;
    if (!is_token(name))
        why = "has a name that no header may have";
    else if (is_any(name, own))
        why = "is set by the client itself";
    for (size_t i = 0; i < value.len && why == NULL; i++)
        if (value.p[i] == '\r' || value.p[i] == '\n' || value.p[i] == '\0')
            why = "has a line break or a NUL in its value";
    if (why != NULL) {
        snprintf(err, err_len, "the header \"%.*s\" %s", (int)(name.len < 40 ? name.len : 40),
                 name.p, why);
        return MESA_EINVAL;
    }
    return mesa_buf_printf(&call->headers, "%.*s: %.*s\r\n", (int)name.len, name.p, (int)value.len,
                           value.p);
}

enum mesa_status mesa_httpc_call_fill(struct mesa_httpc_call *call,
                                      const struct mesa_httpc_request *request, char *err,
                                      size_t err_len)
{
    const char *why;
    struct mesa_span method = request->method;
    if (!is_token(method) || method.len >= sizeof call->method || is_name(method, "CONNECT")) {
        snprintf(err, err_len, "the method cannot be sent");
        return MESA_EINVAL;
    }
    memcpy(call->method, method.p, method.len);
    enum mesa_status rc = mesa_url_parse(&call->url, request->url, &why);
    if (rc == MESA_EINVAL)
        snprintf(err, err_len, "the URL cannot be used: %s", why);
    for (size_t i = 0; i < request->header_count && rc == MESA_OK; i++)
        rc = add_header(call, &request->headers[i], err, err_len);
    if (rc == MESA_OK && !has_header(&call->headers, "authorization"))
        rc = mesa_url_append_basic(&call->url, &call->headers);
    call->has_body = request->body.p != NULL;
    if (rc == MESA_OK && call->has_body)
        rc = mesa_buf_append(&call->body, request->body.p, request->body.len);
    if (rc == MESA_OK && request->ca != NULL) {
        call->ca = strdup(request->ca);
        rc = call->ca != NULL ? MESA_OK : MESA_ENOMEM;
    }
    call->insecure = request->insecure;
    call->connect_timeout_ms = request->connect_timeout_ms;
    call->max_body_bytes = request->max_body_bytes;
    call->max_redirects = call->redirects_left = request->max_redirects;
    return rc;
}

/* -- sending -- */

bool mesa_httpc_call_idempotent(const struct mesa_httpc_call *call)
{
    static const char *const safe[] = {"GET", "HEAD", "PUT", "DELETE", "OPTIONS", "TRACE", NULL};
    return is_any((struct mesa_span){call->method, strlen(call->method)}, safe);
}

enum mesa_status mesa_httpc_call_write_head(const struct mesa_httpc_call *call,
                                            struct mesa_buf *out)
{
    static const char *const with_body[] = {"POST", "PUT", "PATCH", NULL};
    const struct mesa_buf *target = &call->url.target;
    enum mesa_status rc = mesa_buf_printf(out, "%s ", call->method);
    if (rc == MESA_OK)
        rc = mesa_buf_append(out, target->data, target->len);
    if (rc == MESA_OK)
        rc = mesa_buf_printf(out, " HTTP/1.1\r\n");
    if (rc == MESA_OK && !has_header(&call->headers, "host")) {
        rc = mesa_buf_printf(out, "Host: ");
        if (rc == MESA_OK)
            rc = mesa_url_append_host(&call->url, out);
        if (rc == MESA_OK)
            rc = mesa_buf_printf(out, "\r\n");
    }
    if (rc == MESA_OK && !has_header(&call->headers, "user-agent"))
        rc = mesa_buf_printf(out, "User-Agent: mesa-lua/" MESA_VERSION "\r\n");
    if (rc == MESA_OK && !has_header(&call->headers, "accept"))
        rc = mesa_buf_printf(out, "Accept: */*\r\n");
    if (rc == MESA_OK &&
        (call->has_body ||
         is_any((struct mesa_span){call->method, strlen(call->method)}, with_body)))
        rc = mesa_buf_printf(out, "Content-Length: %zu\r\n", call->body.len);
    if (rc == MESA_OK)
        rc = mesa_buf_append(out, call->headers.data, call->headers.len);
    return rc == MESA_OK ? mesa_buf_append(out, "\r\n", 2) : rc;
}

/* -- redirections -- */

/* Keeps the headers that are in `kept` (or, `keep` being false, those that are not). */
static void filter_headers(struct mesa_buf *headers, const char *const *names, bool keep)
{
    struct mesa_span line, name;
    size_t out = 0;
    for (size_t at = 0; next_header(headers, &at, &line, &name);) {
        if (is_any(name, names) != keep)
            continue;
        memmove(headers->data + out, line.p, line.len);
        out += line.len;
    }
    headers->len = out;
}

void mesa_httpc_call_redirect(struct mesa_httpc_call *call, struct mesa_url *to, int status)
{
    /* Whoever the request goes to now was not meant to see the rest: credentials, cookies, keys. */
    static const char *const harmless[] = {"accept",           "accept-language", "content-type",
                                           "content-language", "user-agent",      NULL};
    static const char *const of_body[] = {"content-type", "content-language", "content-encoding",
                                          NULL};
    bool is_head = strcmp(call->method, "HEAD") == 0;
    /* 301 and 302 change POST only, as every browser does (RFC 9110 section 15.4) */
    if ((status == 303 && !is_head) || (status < 303 && strcmp(call->method, "POST") == 0)) {
        strcpy(call->method, "GET");
        call->has_body = false;
        call->body.len = 0;
        filter_headers(&call->headers, of_body, false);
    }
    if (!mesa_url_same_origin(&call->url, to))
        filter_headers(&call->headers, harmless, true);
    mesa_url_deinit(&call->url);
    call->url = *to;
}
