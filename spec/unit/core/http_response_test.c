/* http_response_test.c - reading HTTP/1.1 responses, cut anywhere. */
#include "core/http_response.h"

#include <stdio.h>

#include "test.h"

enum { MAX_BODY = 100 };

/* Feeds `text` in pieces of `step` bytes; the status of the first piece that fails, and what of
 * the text belongs to the response. */
static enum mesa_status feed(struct mesa_http_response *r, const char *text, size_t len,
                             size_t step, size_t *used)
{
    *used = 0;
    while (*used < len && r->state != MESA_HTTP_COMPLETE) {
        size_t n = 0, piece = len - *used < step ? len - *used : step;
        enum mesa_status rc = mesa_http_response_feed(r, text + *used, piece, &n);
        *used += n;
        if (rc != MESA_OK)
            return rc;
    }
    return MESA_OK;
}

static void check_body(const char *text, const char *body, bool keep_alive, size_t surplus)
{
    size_t len = strlen(text), used;
    for (size_t step = 1; step <= len; step++) {
        struct mesa_http_response r;
        mesa_http_response_init(&r, false, MAX_BODY);
        CHECK_EQ_INT(feed(&r, text, len, step, &used), MESA_OK);
        CHECK_EQ_INT(mesa_http_response_end(&r), MESA_OK);
        CHECK_EQ_INT(used, len - surplus);
        CHECK_EQ_INT(r.keep_alive, keep_alive);
        CHECK_EQ_MEM(r.body.len > 0 ? r.body.data : "", r.body.len, body, strlen(body));
        mesa_http_response_deinit(&r);
    }
}

#define OK_LINE "HTTP/1.1 200 OK\r\n"

TEST(a_body_ends_where_its_framing_says)
{
    check_body(OK_LINE "Content-Length: 5\r\n\r\nhelloHTTP", "hello", true, 4);
    check_body(OK_LINE "Content-Length: 5\r\ncontent-length: 5\r\n\r\nhello", "hello", true, 0);
    check_body(OK_LINE "\r\nto the end", "to the end", false, 0);
    check_body(OK_LINE "Transfer-Encoding: Chunked\r\n\r\n2\r\nab\r\nA ; x=\"y\"\r\n0123456789\r\n"
                       "0\r\nTrailer: x\r\n\r\nnext",
               "ab0123456789", true, 4);
    check_body("HTTP/1.1 204 No\r\n\r\n", "", true, 0);
    check_body("HTTP/1.1 304\r\nContent-Length: 7\r\n\r\n", "", true, 0);
    check_body("HTTP/1.1 200 OK\nContent-Length: 1\n\nx", "x", true, 0);
    check_body("HTTP/1.1 100 Continue\r\nA: b\r\n\r\n" OK_LINE "Content-Length: 1\r\n\r\nx", "x",
               true, 0);
}

TEST(the_connection_is_kept_unless_somebody_says_otherwise)
{
    check_body(OK_LINE "Connection: x, Close\r\nContent-Length: 1\r\n\r\nx", "x", false, 0);
    check_body("HTTP/1.0 200 OK\r\nContent-Length: 1\r\n\r\nx", "x", false, 0);
    check_body("HTTP/1.0 200 OK\r\nConnection: keep-alive\r\nContent-Length: 1\r\n\r\nx", "x", true,
               0);
}

TEST(the_answer_to_head_has_no_body)
{
    struct mesa_http_response r;
    size_t used;
    mesa_http_response_init(&r, true, MAX_BODY);
    const char text[] = OK_LINE "Content-Length: 1000000\r\n\r\n";
    CHECK_EQ_INT(mesa_http_response_feed(&r, text, sizeof text - 1, &used), MESA_OK);
    CHECK_EQ_INT(r.state, MESA_HTTP_COMPLETE);
    mesa_http_response_deinit(&r);
}

TEST(the_answer_to_an_upgrade_ends_with_its_head)
{
    static const char text[] =
        "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\n\r\n\x81\x01x";
    struct mesa_http_response r;
    size_t used;
    mesa_http_response_init(&r, true, 0);
    r.upgrade = true;
    CHECK_EQ_INT(mesa_http_response_feed(&r, text, sizeof text - 1, &used), MESA_OK);
    CHECK_EQ_INT(r.state, MESA_HTTP_COMPLETE);
    CHECK_EQ_INT(used, sizeof text - 1 - 3);
    CHECK_EQ_INT(r.status, 101);
    mesa_http_response_deinit(&r);
    mesa_http_response_init(&r, true, 0); /* nobody asked */
    CHECK_EQ_INT(mesa_http_response_feed(&r, text, sizeof text - 1, &used), MESA_EPROTO);
    mesa_http_response_deinit(&r);
}

TEST(the_reason_is_what_follows_the_status)
{
    static const char *const cases[][2] = {
        {"HTTP/1.1 401 Not  you \r\nA: b\r\n\r\n", "Not  you"},
        {"HTTP/1.1 401 \r\nA: b\r\n\r\n", ""},
        {"HTTP/1.1 401\r\nA: b\r\n\r\n", ""},
        {"HTTP/1.1 100 Continue\r\nX: y\r\n\r\nHTTP/1.1 200 OK\r\nA: b\r\n\r\n", "OK"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct mesa_http_response r;
        size_t used;
        mesa_http_response_init(&r, true, 0);
        CHECK_EQ_INT(feed(&r, cases[i][0], strlen(cases[i][0]), 3, &used), MESA_OK);
        struct mesa_span reason = mesa_http_response_reason(&r);
        CHECK_EQ_MEM(reason.len > 0 ? reason.p : "", reason.len, cases[i][1], strlen(cases[i][1]));
        CHECK(mesa_span_eq(mesa_http_response_header(&r, "a"), MESA_SPAN("b")));
        mesa_http_response_deinit(&r);
    }
}

TEST(headers_have_lower_case_names_and_trimmed_values)
{
    struct mesa_http_response r;
    size_t used;
    mesa_http_response_init(&r, false, MAX_BODY);
    const char text[] = OK_LINE "X-Name:\t a: b \r\nEmpty:\r\nContent-Length: 0\r\n\r\n";
    CHECK_EQ_INT(mesa_http_response_feed(&r, text, sizeof text - 1, &used), MESA_OK);
    CHECK_EQ_INT(mesa_http_response_header_count(&r), 3);
    struct mesa_span v = mesa_http_response_header(&r, "x-name");
    CHECK_EQ_MEM(v.p, v.len, "a: b", 4);
    v = mesa_http_response_header(&r, "empty");
    CHECK(v.p != NULL);
    CHECK_EQ_INT(v.len, 0);
    CHECK(mesa_http_response_header(&r, "missing").p == NULL);
    mesa_http_response_deinit(&r);
}

static void check_refused(const char *text, enum mesa_status want)
{
    size_t len = strlen(text), used;
    for (size_t step = 1; step <= len; step++) {
        struct mesa_http_response r;
        mesa_http_response_init(&r, false, MAX_BODY);
        if (!CHECK_EQ_INT(feed(&r, text, len, step, &used), want))
            printf("step %zu of: %s\n", step, text);
        CHECK(r.error != NULL);
        mesa_http_response_deinit(&r);
    }
}

TEST(what_could_be_read_in_two_ways_is_refused)
{
    check_refused("garbage", MESA_EPROTO);
    check_refused("HTTP/1.2 200 OK\r\n", MESA_EPROTO);
    check_refused("HTTP/1.1 2000 OK\r\n", MESA_EPROTO);
    check_refused("HTTP/1.1 099 OK\r\n", MESA_EPROTO);
    check_refused("HTTP/1.1 101 Switching\r\n\r\n", MESA_EPROTO);
    check_refused(OK_LINE ": x\r\n", MESA_EPROTO);
    check_refused(OK_LINE "A : x\r\n", MESA_EPROTO);
    check_refused(OK_LINE "A: x\r\n y\r\n", MESA_EPROTO);
    check_refused(OK_LINE "A: x\ry\r\n", MESA_EPROTO);
    check_refused(OK_LINE "Content-Length: 1, 1\r\n\r\n", MESA_EPROTO);
    check_refused(OK_LINE "Content-Length: +1\r\n\r\n", MESA_EPROTO);
    check_refused(OK_LINE "Content-Length: 1\r\nContent-Length: 2\r\n\r\n", MESA_EPROTO);
    check_refused(OK_LINE "Content-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n", MESA_EPROTO);
    check_refused(OK_LINE "Transfer-Encoding: gzip, chunked\r\n\r\n", MESA_EPROTO);
    check_refused(OK_LINE "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n",
                  MESA_EPROTO);
    check_refused(OK_LINE "Transfer-Encoding: chunked\r\n\r\n0x5\r\n", MESA_EPROTO);
    check_refused(OK_LINE "Transfer-Encoding: chunked\r\n\r\n-5\r\n", MESA_EPROTO);
    check_refused(OK_LINE "Transfer-Encoding: chunked\r\n\r\n10000000000000000\r\n", MESA_EPROTO);
    check_refused(OK_LINE "Transfer-Encoding: chunked\r\n\r\n1\r\nab\r\n", MESA_EPROTO);
}

TEST(what_is_too_large_is_refused_as_soon_as_it_is_known)
{
    char body[MAX_BODY + 2];
    struct mesa_http_response r;
    size_t used;
    check_refused(OK_LINE "Content-Length: 101\r\n\r\n", MESA_ETOOBIG);
    check_refused(OK_LINE "Transfer-Encoding: chunked\r\n\r\n65\r\n", MESA_ETOOBIG);
    check_refused(OK_LINE "Transfer-Encoding: chunked\r\n\r\nfffffffffffffff\r\n", MESA_ETOOBIG);

    mesa_http_response_init(&r, false, MAX_BODY);
    memset(body, 'x', sizeof body);
    CHECK_EQ_INT(mesa_http_response_feed(&r, OK_LINE "\r\n", 19, &used), MESA_OK);
    CHECK_EQ_INT(mesa_http_response_feed(&r, body, MAX_BODY, &used), MESA_OK);
    CHECK_EQ_INT(mesa_http_response_feed(&r, body, 1, &used), MESA_ETOOBIG);
    mesa_http_response_deinit(&r);
}

/* Every kind of line that does not count into the body is bounded. */
TEST(endless_heads_are_refused)
{
    static const char *const endless[] = {
        OK_LINE "A: ",
        "HTTP/1.1 100 Continue\r\n\r\n",
        OK_LINE "Transfer-Encoding: chunked\r\n\r\n0\r\nA: b\r\n",
        OK_LINE "Transfer-Encoding: chunked\r\n\r\n1;",
    };
    static const char *const more[] = {"x", "HTTP/1.1 100 Continue\r\n\r\n", "A: b\r\n", "x"};
    for (size_t i = 0; i < sizeof endless / sizeof *endless; i++) {
        struct mesa_http_response r;
        enum mesa_status rc;
        size_t used, total = 0;
        mesa_http_response_init(&r, false, MAX_BODY);
        rc = mesa_http_response_feed(&r, endless[i], strlen(endless[i]), &used);
        while (rc == MESA_OK && total < 2 * MESA_HTTP_HEAD_MAX_BYTES) {
            rc = mesa_http_response_feed(&r, more[i], strlen(more[i]), &used);
            total += used;
        }
        CHECK_EQ_INT(rc, MESA_ETOOBIG);
        mesa_http_response_deinit(&r);
    }
}

TEST(an_early_end_is_told)
{
    static const char text[] = OK_LINE "Content-Length: 5\r\n\r\nhell";
    for (size_t len = 0; len < sizeof text; len++) {
        struct mesa_http_response r;
        size_t used;
        mesa_http_response_init(&r, false, MAX_BODY);
        CHECK_EQ_INT(mesa_http_response_feed(&r, text, len, &used), MESA_OK);
        CHECK_EQ_INT(mesa_http_response_end(&r), MESA_ECLOSED);
        CHECK_EQ_INT(r.begun, len > 0);
        mesa_http_response_deinit(&r);
    }
}
