/* fuzz_http_response.c - the reader of HTTP responses: what comes of a response must not depend on
 * how its bytes arrive, and no bound may be exceeded. URLs of its Location header are resolved. */
#include <string.h>

#include "core/http_response.h"
#include "core/url.h"
#include "fuzz.h"

enum { MAX_BODY = 64 };

/* Feeds everything in pieces of `step` bytes; the status of the piece that failed, or of the end. */
static enum mesa_status read_all(struct mesa_http_response *r, const char *data, size_t size,
                                 size_t step, size_t *used)
{
    *used = 0;
    while (*used < size && r->state != MESA_HTTP_COMPLETE) {
        size_t n = 0, piece = size - *used < step ? size - *used : step;
        enum mesa_status rc = mesa_http_response_feed(r, data + *used, piece, &n);
        REQUIRE(n <= piece && (rc != MESA_OK || n == piece || r->state == MESA_HTTP_COMPLETE));
        REQUIRE(r->body.len <= MAX_BODY);
        REQUIRE(mesa_http_response_header_count(r) <= MESA_HTTP_HEADERS_MAX);
        *used += n;
        if (rc != MESA_OK) {
            REQUIRE(rc == MESA_ENOMEM || r->error != NULL);
            return rc;
        }
    }
    return mesa_http_response_end(r);
}

static void resolve(const struct mesa_http_response *r)
{
    struct mesa_span location = mesa_http_response_header(r, "location");
    struct mesa_url base, to, again;
    const char *why;
    struct mesa_buf text;
    if (location.p == NULL)
        return;
    REQUIRE(mesa_url_parse(&base, MESA_SPAN("http://host:8/a/b?c"), &why) == MESA_OK);
    mesa_buf_init(&text);
    if (mesa_url_resolve(&to, &base, location, &why) == MESA_OK) {
        REQUIRE(to.target.len > 0 && to.target.data[0] == '/' && to.port != 0);
        REQUIRE(memchr(to.target.data, ' ', to.target.len) == NULL);
        REQUIRE(memchr(to.target.data, '\n', to.target.len) == NULL);
        REQUIRE(mesa_url_append(&to, &text) == MESA_OK);
        if (text.len <= MESA_URL_MAX_BYTES) {
            REQUIRE(mesa_url_parse(&again, (struct mesa_span){text.data, text.len}, &why) ==
                    MESA_OK);
            REQUIRE(mesa_url_same_origin(&to, &again));
            mesa_url_deinit(&again);
        }
        mesa_url_deinit(&to);
    }
    mesa_buf_deinit(&text);
    mesa_url_deinit(&base);
}

/* The first byte says whether it answers HEAD, and in what pieces it is read the second time. */
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (size == 0)
        return 0;
    struct mesa_http_response whole, cut;
    size_t used, cut_used, step = (size_t)(data[0] >> 1) % 16 + 1;
    const char *text = (const char *)data + 1;
    mesa_http_response_init(&whole, (data[0] & 1) != 0, MAX_BODY);
    mesa_http_response_init(&cut, (data[0] & 1) != 0, MAX_BODY);
    enum mesa_status rc = read_all(&whole, text, size - 1, size, &used);
    enum mesa_status cut_rc = read_all(&cut, text, size - 1, step, &cut_used);
    REQUIRE(rc == cut_rc);
    if (rc == MESA_OK) {
        REQUIRE(used == cut_used && whole.status == cut.status);
        REQUIRE(whole.keep_alive == cut.keep_alive && whole.text.len == cut.text.len);
        REQUIRE(
            whole.body.len == cut.body.len &&
            (whole.body.len == 0 || memcmp(whole.body.data, cut.body.data, whole.body.len) == 0));
        resolve(&whole);
    }
    mesa_http_response_deinit(&whole);
    mesa_http_response_deinit(&cut);
    return 0;
}
