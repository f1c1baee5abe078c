/* transport_request.c - reads a request head where it was received, and copies it when it must last. */
#include <stdlib.h>
#include <string.h>

#include "core/forwarded.h"
#include "io/transport_internal.h"

enum { MAX_HEADERS = 128 };

static enum mesa_status reserve_headers(struct mesa_capture *cap, size_t count)
{
    if (count <= cap->header_cap)
        return MESA_OK;
    struct mesa_header *grown = realloc(cap->headers, count * sizeof *grown);
    if (grown == NULL)
        return MESA_ENOMEM;
    cap->headers = grown;
    cap->header_cap = count;
    return MESA_OK;
}

int mesa_head_refused(struct mesa_conn *c, enum mesa_status why)
{
    switch (why) {
    case MESA_ENOMEM:
        return 503;
    case MESA_ETOOBIG:
        mesa_listener_refused(
            c->listener, &c->address, "HEADERS",
            "the request head is larger than 8192 bytes or has more than 128 headers");
        return 431;
    default:
        mesa_listener_refused(c->listener, &c->address, "HEADERS",
                              "the request head cannot be read");
        return 400;
    }
}

/* Appends the value of every later header called like number `i` and takes these out (RFC 9110 section
 * 5.3); `text` has room. MESA_EPROTO: one that must not be repeated. */
static enum mesa_status join_repeated(struct mesa_capture *cap, size_t i, size_t *count)
{
    struct mesa_header *h = &cap->headers[i];
    size_t kept = i + 1;
    char *joined = NULL;
    for (size_t j = i + 1; j < *count; j++) {
        const struct mesa_header *other = &cap->headers[j];
        if (!mesa_span_eq(other->name, h->name)) {
            cap->headers[kept++] = *other;
            continue;
        }
        if (mesa_span_eq(h->name, MESA_SPAN("host")))
            return MESA_EPROTO;
        if (joined == NULL) {
            joined = cap->text.data + cap->text.len;
            (void)mesa_buf_append(&cap->text, h->value.p, h->value.len);
        }
        bool cookie = mesa_span_eq(h->name, MESA_SPAN("cookie")); /* RFC 6265 section 5.4 */
        (void)mesa_buf_append(&cap->text, cookie ? "; " : ", ", 2);
        (void)mesa_buf_append(&cap->text, other->value.p, other->value.len);
        h->value = (struct mesa_span){joined, (size_t)(cap->text.data + cap->text.len - joined)};
    }
    *count = kept;
    return MESA_OK;
}

/* Who the request comes from: the peer, or the client of proxies that are believed. */
static void find_source(const struct mesa_conn *c, struct mesa_capture *cap)
{
    struct mesa_request *req = &cap->request;
    struct mesa_source source = {.address = c->address, .secure = c->tls != NULL};
    if (c->listener->proxy_count > 0) {
        const struct mesa_forwarding headers = {
            .list = mesa_request_header(req, "x-forwarded-for"),
            .scheme = mesa_request_header(req, "x-forwarded-proto"),
            .forwarded = mesa_request_header(req, "forwarded"),
        };
        mesa_forwarded_find(&source, &headers, c->listener->proxies, c->listener->proxy_count);
    }
    cap->address = source.address;
    mesa_address_text(&cap->address, cap->ip);
    req->ip = (struct mesa_span){cap->ip, strlen(cap->ip)};
    req->secure = source.secure;
}

enum mesa_status mesa_head_read(struct mesa_conn *c, char *head, size_t len)
{
    struct mesa_capture *cap = &c->transport->upgrade;
    struct mesa_http_request r;
    cap->text.len = 0;
    enum mesa_status rc = reserve_headers(cap, MAX_HEADERS);
    if (rc == MESA_OK)
        rc = mesa_buf_reserve(&cap->text, 2 * len); /* for values joined, each by two bytes */
    if (rc == MESA_OK)
        rc = mesa_http_request_parse(head, len, &r, cap->headers, MAX_HEADERS);
    for (size_t i = 0; rc == MESA_OK && i < r.header_count; i++)
        rc = join_repeated(cap, i, &r.header_count);
    if (rc != MESA_OK)
        return rc;
    struct mesa_certificate *certificate;
    rc = mesa_secure_certificate(c, &certificate);
    if (rc != MESA_OK)
        return rc;
    cap->minor = r.minor;
    cap->request = (struct mesa_request){
        .method = r.method,
        .path = r.path,
        .query = r.query,
        .protocol = {"", 0},
        .certificate = certificate,
        .headers = cap->headers,
        .header_count = r.header_count,
    };
    find_source(c, cap);
    struct mesa_span host = mesa_request_header(&cap->request, "host");
    if (host.p == NULL ? r.minor > 0 : !mesa_http_host_valid(host)) /* RFC 9112 section 3.2 */
        return MESA_EPROTO;
    /* RFC 6455 section 4.1 */
    return r.minor == 0 && mesa_upgrade_wanted(&cap->request) ? MESA_EPROTO : MESA_OK;
}

/* Appends `s` to `text`, which has room. */
static struct mesa_span copy_text(struct mesa_buf *text, struct mesa_span s)
{
    struct mesa_span copy = {text->data + text->len, s.len};
    if (s.len > 0)
        (void)mesa_buf_append(text, s.p, s.len);
    return copy;
}

enum mesa_status mesa_capture_copy(struct mesa_capture *to, const struct mesa_capture *from)
{
    const struct mesa_request *r = &from->request;
    size_t bytes = r->method.len + r->path.len + r->query.len;
    for (size_t i = 0; i < r->header_count; i++)
        bytes += r->headers[i].name.len + r->headers[i].value.len;
    enum mesa_status rc = mesa_buf_reserve(&to->text, bytes);
    if (rc == MESA_OK)
        rc = reserve_headers(to, r->header_count);
    if (rc != MESA_OK)
        return rc;
    to->minor = from->minor;
    to->request = *r;
    to->request.method = copy_text(&to->text, r->method);
    to->request.path = copy_text(&to->text, r->path);
    to->request.query = copy_text(&to->text, r->query);
    for (size_t i = 0; i < r->header_count; i++) {
        to->headers[i].name = copy_text(&to->text, r->headers[i].name);
        to->headers[i].value = copy_text(&to->text, r->headers[i].value);
    }
    to->request.headers = to->headers;
    to->certificate = mesa_certificate_ref(r->certificate);
    to->address = from->address;
    memcpy(to->ip, from->ip, sizeof to->ip);
    to->request.ip.p = to->ip;
    return MESA_OK;
}

void mesa_capture_deinit(struct mesa_capture *cap)
{
    mesa_buf_deinit(&cap->text);
    free(cap->headers);
    cap->headers = NULL;
    mesa_certificate_unref(cap->certificate);
    cap->certificate = NULL;
}

struct mesa_span mesa_request_header(const struct mesa_request *req, const char *name)
{
    struct mesa_span wanted = {name, strlen(name)};
    for (size_t i = 0; i < req->header_count; i++)
        if (mesa_span_eq(req->headers[i].name, wanted))
            return req->headers[i].value;
    return (struct mesa_span){NULL, 0};
}
