/* transport_request.c - reads a request head: our own way, or by copying it out of libwebsockets.
 *
 * libwebsockets 4.1 parses a head into tokens for the headers it knows, and has no way to list the
 * others; 4.3 has one. On the older one the block the head was parsed into is searched for what
 * looks like a name, and each find is confirmed by asking for it. Where a header is repeated its
 * values come joined, by ", " for known ones; of an unknown one the first is seen. The path and the
 * query come percent-decoded, '+' as a space; the query is encoded again, since it is raw text
 * above. Mistakes of the parser that cannot be undone are found here, and the request is refused: a
 * path that goes on behind a NUL, and a header that has swallowed the next one.
 */
#include <arpa/inet.h>
#include <stdlib.h>
#include <string.h>

#include "io/transport_internal.h"

struct header_ref {
    uint32_t name, name_len, value, value_len;
};

static const struct {
    enum lws_token_indexes token;
    const char *name;
} methods[] = {
    {WSI_TOKEN_GET_URI, "GET"},         {WSI_TOKEN_POST_URI, "POST"},
    {WSI_TOKEN_HEAD_URI, "HEAD"},
#if defined(LWS_WITH_HTTP_UNCOMMON_HEADERS)
    {WSI_TOKEN_OPTIONS_URI, "OPTIONS"}, {WSI_TOKEN_PUT_URI, "PUT"},
    {WSI_TOKEN_PATCH_URI, "PATCH"},     {WSI_TOKEN_DELETE_URI, "DELETE"},
#endif
};

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

/* Makes room for `len` bytes and the NUL libwebsockets writes behind them. */
static char *room(struct mesa_buf *text, size_t len)
{
    return mesa_buf_reserve(text, len + 8) == MESA_OK ? text->data + text->len : NULL;
}

static enum mesa_status add_ref(struct mesa_capture *cap, const struct header_ref *ref)
{
    return mesa_buf_append(&cap->refs, ref, sizeof *ref);
}

/* Copies the value of a known header behind the text; `name` ends in ':'. */
static enum mesa_status add_known(struct mesa_capture *cap, struct lws *wsi,
                                  enum lws_token_indexes token, const char *name)
{
    int len = lws_hdr_total_length(wsi, token);
    size_t name_len = strlen(name) - 1;
    struct header_ref ref = {(uint32_t)cap->text.len, (uint32_t)name_len, 0, 0};
    /* twice the length: each fragment but the first brings a separator */
    if (mesa_buf_append(&cap->text, name, name_len) != MESA_OK ||
        room(&cap->text, (size_t)len * 2) == NULL)
        return MESA_ENOMEM;
    int n = lws_hdr_copy(wsi, cap->text.data + cap->text.len, len * 2 + 8, token);
    ref.value = (uint32_t)cap->text.len;
    ref.value_len = n > 0 ? (uint32_t)n : 0;
    cap->text.len += ref.value_len;
    return add_ref(cap, &ref);
}

static enum mesa_status add_known_headers(struct mesa_capture *cap, struct lws *wsi)
{
    for (int i = 0; i < WSI_TOKEN_COUNT; i++) {
        enum lws_token_indexes token = (enum lws_token_indexes)i;
        const char *name = (const char *)lws_token_to_string(token);
        size_t len = name != NULL ? strlen(name) : 0;
        if (len < 2 || name[0] == ':' || name[len - 1] != ':' ||
            lws_hdr_total_length(wsi, token) <= 0)
            continue;
        enum mesa_status rc = add_known(cap, wsi, token, name);
        if (rc != MESA_OK)
            return rc;
    }
    return MESA_OK;
}

static bool has_ref(const struct mesa_capture *cap, const char *name, size_t len)
{
    const struct header_ref *refs = (const struct header_ref *)(const void *)cap->refs.data;
    size_t count = cap->refs.len / sizeof *refs;
    for (size_t i = 0; i < count; i++)
        if (refs[i].name_len == len && memcmp(cap->text.data + refs[i].name, name, len) == 0)
            return true;
    return false;
}

/* Adds the header libwebsockets calls `name`, ':' included, when it does know one. */
static enum mesa_status add_custom(struct mesa_capture *cap, struct lws *wsi, const char *name,
                                   int name_len)
{
    int len = lws_hdr_custom_length(wsi, name, name_len);
    if (len < 0 || has_ref(cap, name, (size_t)name_len - 1))
        return MESA_OK;
    struct header_ref ref = {(uint32_t)cap->text.len, (uint32_t)name_len - 1, 0, 0};
    if (mesa_buf_append(&cap->text, name, (size_t)name_len - 1) != MESA_OK ||
        room(&cap->text, (size_t)len) == NULL)
        return MESA_ENOMEM;
    int n = lws_hdr_custom_copy(wsi, cap->text.data + cap->text.len, len + 1, name, name_len);
    ref.value = (uint32_t)cap->text.len;
    ref.value_len = n > 0 ? (uint32_t)n : 0;
    cap->text.len += ref.value_len;
    return add_ref(cap, &ref);
}

#if defined(MESA_HAVE_LWS_HDR_CUSTOM_NAME_FOREACH)
struct custom_walk {
    struct mesa_capture *cap;
    struct lws *wsi;
    enum mesa_status rc;
};

static void on_custom_name(const char *name, int len, void *opaque)
{
    struct custom_walk *w = opaque;
    if (memchr(name, ':', (size_t)len - 1) != NULL)
        w->rc = MESA_EPROTO; /* see is_swallower below */
    if (w->rc == MESA_OK)
        w->rc = add_custom(w->cap, w->wsi, name, len);
}

static enum mesa_status add_custom_headers(struct mesa_capture *cap, struct lws *wsi,
                                           const char *head)
{
    struct custom_walk w = {cap, wsi, MESA_OK};
    (void)head;
    lws_hdr_custom_name_foreach(wsi, on_custom_name, &w);
    return w.rc;
}
#else
/* RFC 7230 section 3.2.6; libwebsockets has turned names into lower case. */
static bool is_name_char(char c)
{
    return (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') ||
           (c != '\0' && strchr("!#$%&'*+-.^_`|~", c) != NULL);
}

/* In front of a name stands an offset below 64 KB, of which two bytes may look like a part of it. */
enum { STRAY_BYTES = 2 };

/* A header called like the beginning of a known one ("X-Auth", for "X-Auth-Token") does not end at
 * its colon: libwebsockets takes all up to the next colon for its name, in lower case. */
static bool is_swallower(struct lws *wsi, const char *name, const char *colon, const char *end)
{
    const char *next = memchr(colon + 1, ':', (size_t)(end - colon - 1));
    return next != NULL && lws_hdr_custom_length(wsi, name, (int)(next + 1 - name)) >= 0;
}

static enum mesa_status add_custom_headers(struct mesa_capture *cap, struct lws *wsi,
                                           const char *head)
{
    size_t len;
    const char *block = mesa_rx_memory_head(head, &len);
    if (block == NULL)
        return MESA_OK;
    const char *end = block + len;
    for (const char *colon = memchr(block, ':', len); colon != NULL;
         colon = memchr(colon + 1, ':', (size_t)(end - colon - 1))) {
        const char *name = colon;
        while (name > block && is_name_char(name[-1]))
            name--;
        for (int i = 0; i <= STRAY_BYTES && name < colon; i++, name++) {
            if (is_swallower(wsi, name, colon, end))
                return MESA_EPROTO;
            enum mesa_status rc = add_custom(cap, wsi, name, (int)(colon + 1 - name));
            if (rc != MESA_OK)
                return rc;
        }
    }
    return MESA_OK;
}
#endif

/* Encodes what would read differently in a query: '=' only behind the first one. */
static enum mesa_status add_encoded(struct mesa_buf *out, const char *p, size_t len)
{
    static const char hex[] = "0123456789ABCDEF";
    enum mesa_status rc = MESA_OK;
    for (size_t i = 0; i < len && rc == MESA_OK; i++) {
        unsigned char c = (unsigned char)p[i];
        if (c == ' ') {
            rc = mesa_buf_push(out, '+');
        } else if (c < 0x20 || c >= 0x7f || strchr("%&;#+", c) != NULL) {
            char escaped[3] = {'%', hex[c >> 4], hex[c & 15]};
            rc = mesa_buf_append(out, escaped, sizeof escaped);
        } else {
            rc = mesa_buf_push(out, (char)c);
        }
    }
    return rc;
}

/* libwebsockets makes "/" of a last part that is empty, as of an empty path. */
static bool is_made_up(struct lws *wsi, const char *part, int len, int index)
{
    char next[MESA_PARSED_HEADER_BYTES + 1];
    return len == 1 && part[0] == '/' &&
           lws_hdr_copy_fragment(wsi, next, sizeof next, WSI_TOKEN_HTTP_URI_ARGS, index + 1) < 0;
}

static enum mesa_status add_query(struct mesa_buf *out, struct lws *wsi)
{
    char part[MESA_PARSED_HEADER_BYTES + 1];
    enum mesa_status rc = MESA_OK;
    for (int i = 0; rc == MESA_OK; i++) {
        int n = lws_hdr_copy_fragment(wsi, part, sizeof part, WSI_TOKEN_HTTP_URI_ARGS, i);
        if (n < 0 || is_made_up(wsi, part, n, i))
            break;
        if (i > 0)
            rc = mesa_buf_push(out, '&');
        if (rc == MESA_OK)
            rc = add_encoded(out, part, (size_t)n);
    }
    return rc;
}

void mesa_address_text(const struct mesa_address *a, char out[MESA_ADDRESS_TEXT_LEN])
{
    static const unsigned char mapped[12] = {0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff};
    if (a->is_unix)
        strcpy(out, "unix");
    else if (memcmp(a->bytes, mapped, sizeof mapped) == 0)
        inet_ntop(AF_INET, a->bytes + 12, out, MESA_ADDRESS_TEXT_LEN);
    else
        inet_ntop(AF_INET6, a->bytes, out, MESA_ADDRESS_TEXT_LEN);
}

/* Turns offsets into pointers, now that `text` has its final place. */
static enum mesa_status resolve_headers(struct mesa_capture *cap)
{
    const struct header_ref *refs = (const struct header_ref *)(const void *)cap->refs.data;
    size_t count = cap->refs.len / sizeof *refs;
    if (reserve_headers(cap, count) != MESA_OK)
        return MESA_ENOMEM;
    for (size_t i = 0; i < count; i++) {
        cap->headers[i].name = (struct mesa_span){cap->text.data + refs[i].name, refs[i].name_len};
        cap->headers[i].value =
            (struct mesa_span){cap->text.data + refs[i].value, refs[i].value_len};
    }
    cap->request.headers = cap->headers;
    cap->request.header_count = count;
    return MESA_OK;
}

/* Copies the path to the front of the text; MESA_EPROTO: a method nobody here knows, or no path. */
static enum mesa_status add_path(struct mesa_capture *cap, struct lws *wsi)
{
    for (size_t i = 0; i < sizeof methods / sizeof *methods; i++) {
        int len = lws_hdr_total_length(wsi, methods[i].token);
        if (len <= 0)
            continue;
        if (room(&cap->text, (size_t)len) == NULL)
            return MESA_ENOMEM;
        int n = lws_hdr_copy(wsi, cap->text.data, len + 1, methods[i].token);
        if (n <= 0 || cap->text.data[0] != '/' || memchr(cap->text.data, '\0', (size_t)n) != NULL)
            return MESA_EPROTO;
        cap->text.len = (size_t)n;
        cap->request.method = (struct mesa_span){methods[i].name, strlen(methods[i].name)};
        return MESA_OK;
    }
    return MESA_EPROTO;
}

/* A NUL at the end of a path is not in its length, but moves what follows away from it. */
static bool hides_nul(struct lws *wsi, struct mesa_span path, const char *head)
{
    char args[MESA_PARSED_HEADER_BYTES + 1];
    size_t len;
    const char *block = mesa_rx_memory_head(head, &len);
    if (block == NULL)
        return false;
    const char *found = memmem(block, len, path.p, path.len); /* the first text in the block */
    if (found == NULL || (size_t)(found - block) + path.len + sizeof "HTTP" > len)
        return false;
    const char *behind = found + path.len + 1;
    int n = lws_hdr_copy_fragment(wsi, args, sizeof args, WSI_TOKEN_HTTP_URI_ARGS, 0);
    if (n < 0)
        return behind[0] == '\0';
    return memcmp(behind + 1, args, (size_t)n + 1) != 0; /* one byte is skipped before the query */
}

static enum mesa_status read_request(struct mesa_capture *cap, struct mesa_conn *c,
                                     const char *head)
{
    cap->request = (struct mesa_request){.secure = c->listener->secure, .protocol = {"", 0}};
    cap->text.len = cap->refs.len = 0;
    enum mesa_status rc = add_path(cap, c->wsi);
    size_t path_len = cap->text.len;
    if (rc == MESA_OK && hides_nul(c->wsi, (struct mesa_span){cap->text.data, path_len}, head))
        rc = MESA_EPROTO;
    if (rc == MESA_OK)
        rc = add_query(&cap->text, c->wsi);
    size_t query_end = cap->text.len;
    if (rc == MESA_OK)
        rc = add_known_headers(cap, c->wsi);
    if (rc == MESA_OK)
        rc = add_custom_headers(cap, c->wsi, head);
    if (rc == MESA_OK)
        rc = resolve_headers(cap);
    if (rc != MESA_OK)
        return rc;
    cap->request.path = (struct mesa_span){cap->text.data, path_len};
    cap->request.query = (struct mesa_span){cap->text.data + path_len, query_end - path_len};
    mesa_address_text(&c->address, cap->ip);
    cap->request.ip = (struct mesa_span){cap->ip, strlen(cap->ip)};
    /* as sent: ": " and CR LF with each header, and the request line */
    size_t sent = cap->text.len + 4 * cap->request.header_count + sizeof " HTTP/1.1\r\n" +
                  cap->request.method.len;
    return sent <= MESA_MAX_HEADER_BYTES ? MESA_OK : MESA_ETOOBIG;
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

int mesa_capture_read(struct mesa_capture *cap, struct mesa_conn *c, const char *head)
{
    enum mesa_status rc = read_request(cap, c, head);
    return rc == MESA_OK ? 0 : mesa_head_refused(c, rc);
}

/* -- our own way -- */

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
    mesa_address_text(&c->address, cap->ip);
    cap->minor = r.minor;
    cap->request = (struct mesa_request){
        .method = r.method,
        .path = r.path,
        .query = r.query,
        .ip = {cap->ip, strlen(cap->ip)},
        .protocol = {"", 0},
        .headers = cap->headers,
        .header_count = r.header_count,
    };
    /* RFC 6455 section 4.1, RFC 9112 section 3.2 */
    const char *odd = r.minor == 0 ? "upgrade" : "host";
    bool has = mesa_request_header(&cap->request, odd).p != NULL;
    return has == (r.minor == 0) ? MESA_EPROTO : MESA_OK;
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
    memcpy(to->ip, from->ip, sizeof to->ip);
    to->request.ip.p = to->ip;
    return MESA_OK;
}

void mesa_capture_deinit(struct mesa_capture *cap)
{
    mesa_buf_deinit(&cap->text);
    mesa_buf_deinit(&cap->refs);
    free(cap->headers);
    cap->headers = NULL;
}

struct mesa_span mesa_request_header(const struct mesa_request *req, const char *name)
{
    struct mesa_span wanted = {name, strlen(name)};
    for (size_t i = 0; i < req->header_count; i++)
        if (mesa_span_eq(req->headers[i].name, wanted))
            return req->headers[i].value;
    return (struct mesa_span){NULL, 0};
}
