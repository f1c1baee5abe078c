/* fuzz_http_request.c - request heads: what is accepted has nothing in it that could be understood in
 * two ways, and reads the same when it is written down again. */
#include <string.h>

#include "core/http_request.h"
#include "fuzz.h"

enum { HEADERS = 8 };

static void check_path(struct mesa_span path)
{
    REQUIRE(path.len > 0 && path.p[0] == '/');
    REQUIRE(memchr(path.p, '\0', path.len) == NULL);
    REQUIRE(memmem(path.p, path.len, "//", 2) == NULL);
    for (size_t i = 0; i < path.len; i++) {
        if (path.p[i] != '/')
            continue;
        const char *part = path.p + i + 1, *end = path.p + path.len;
        const char *slash = memchr(part, '/', (size_t)(end - part));
        size_t n = (size_t)((slash != NULL ? slash : end) - part);
        REQUIRE(!(n == 1 && part[0] == '.') && !(n == 2 && part[0] == '.' && part[1] == '.'));
    }
}

static void check_value(struct mesa_span value)
{
    for (size_t i = 0; i < value.len; i++) {
        unsigned char c = (unsigned char)value.p[i];
        REQUIRE((c >= ' ' || c == '\t') && c != 0x7f);
    }
    REQUIRE(value.len == 0 || memchr(" \t", value.p[0], 2) == NULL);
    REQUIRE(value.len == 0 || memchr(" \t", value.p[value.len - 1], 2) == NULL);
}

static void check_name(struct mesa_span name)
{
    REQUIRE(name.len > 0);
    for (size_t i = 0; i < name.len; i++) {
        unsigned char c = (unsigned char)name.p[i];
        REQUIRE(mesa_http_request_may_begin((char)c) && (c < 'A' || c > 'Z'));
    }
}

static void write_down(struct mesa_buf *out, const struct mesa_http_request *r,
                       const struct mesa_header *headers)
{
    static const char hex[] = "0123456789abcdef";
    mesa_buf_append(out, r->method.p, r->method.len);
    mesa_buf_append(out, " /", 2);
    for (size_t i = 1; i < r->path.len; i++) {
        unsigned char c = (unsigned char)r->path.p[i];
        char escaped[3] = {'%', hex[c >> 4], hex[c & 15]};
        mesa_buf_append(out, escaped, sizeof escaped);
    }
    mesa_buf_push(out, '?');
    mesa_buf_append(out, r->query.p, r->query.len);
    mesa_buf_printf(out, " HTTP/1.%d\r\n", r->minor);
    for (size_t i = 0; i < r->header_count; i++) {
        mesa_buf_append(out, headers[i].name.p, headers[i].name.len);
        mesa_buf_append(out, ":", 1);
        mesa_buf_append(out, headers[i].value.p, headers[i].value.len);
        mesa_buf_append(out, "\r\n", 2);
    }
    mesa_buf_append(out, "\r\n", 2);
}

static void check(const struct mesa_http_request *r, const struct mesa_header *headers)
{
    struct mesa_header again_headers[HEADERS];
    struct mesa_http_request again;
    struct mesa_buf text;
    REQUIRE(r->minor >= 0 && r->minor <= 9);
    if (mesa_span_eq(r->path, MESA_SPAN("*"))) {
        REQUIRE(mesa_span_eq(r->method, MESA_SPAN("OPTIONS")) && r->query.len == 0);
        return;
    }
    check_path(r->path);
    REQUIRE(r->header_count <= HEADERS);
    for (size_t i = 0; i < r->header_count; i++) {
        check_name(headers[i].name);
        check_value(headers[i].value);
    }
    mesa_buf_init(&text);
    write_down(&text, r, headers);
    REQUIRE(mesa_http_request_end(text.data, text.len) == text.len);
    REQUIRE(mesa_http_request_parse(text.data, text.len, &again, again_headers, HEADERS) ==
            MESA_OK);
    REQUIRE(mesa_span_eq(again.method, r->method) && mesa_span_eq(again.path, r->path));
    REQUIRE(mesa_span_eq(again.query, r->query) && again.minor == r->minor);
    REQUIRE(again.header_count == r->header_count);
    for (size_t i = 0; i < r->header_count; i++) {
        REQUIRE(mesa_span_eq(again_headers[i].name, headers[i].name));
        REQUIRE(mesa_span_eq(again_headers[i].value, headers[i].value));
    }
    mesa_buf_deinit(&text);
}

/* The head, which an empty line completes. */
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct mesa_header headers[HEADERS];
    struct mesa_http_request r;
    char *text = malloc(size + 4);
    REQUIRE(text != NULL);
    memcpy(text, data, size);
    memcpy(text + size, "\r\n\r\n", 4);
    size_t end = mesa_http_request_end(text, size + 4);
    if (end == MESA_HTTP_BARE_LF) {
        REQUIRE(memchr(text, '\n', size) != NULL);
        free(text);
        return 0;
    }
    REQUIRE(end >= 4 && end <= size + 4 && memcmp(text + end - 4, "\r\n\r\n", 4) == 0);
    for (size_t seen = end > 64 ? end - 64 : 0; seen < end; seen++)
        REQUIRE(mesa_http_request_end(text, seen) == 0);
    char *head = malloc(end);
    REQUIRE(head != NULL);
    memcpy(head, text, end);
    enum mesa_status rc = mesa_http_request_parse(head, end, &r, headers, HEADERS);
    REQUIRE(rc == MESA_OK || rc == MESA_EPROTO || rc == MESA_ETOOBIG);
    if (rc == MESA_OK)
        check(&r, headers);
    free(head);
    free(text);
    return 0;
}
