/* http_request_test.c - request heads: what RFC 9112 demands, and what two readers could understand
 * differently. */
#include "core/http_request.h"

#include <stdio.h>
#include <stdlib.h>

#include "test.h"

enum { HEADERS = 128 };

static struct mesa_header headers[HEADERS];
static struct mesa_http_request request;
static char *head; /* of exactly its size */

static enum mesa_status parse_bytes(const char *text, size_t len)
{
    free(head);
    head = malloc(len);
    memcpy(head, text, len);
    return mesa_http_request_parse(head, len, &request, headers, HEADERS);
}

static enum mesa_status parse(const char *text)
{
    return parse_bytes(text, strlen(text));
}

static void done(void)
{
    free(head);
    head = NULL;
}

static bool is(struct mesa_span got, const char *want)
{
    return CHECK_EQ_MEM(got.p, got.len, want, strlen(want));
}

static enum mesa_status parse_target(const char *target)
{
    char text[512];
    snprintf(text, sizeof text, "GET %s HTTP/1.1\r\nHost: h\r\n\r\n", target);
    return parse(text);
}

static void expect_target(const char *target, const char *path, const char *query)
{
    if (!CHECK_EQ_INT(parse_target(target), MESA_OK) || !is(request.path, path) ||
        !is(request.query, query))
        CHECK_EQ_STR(target, "");
}

static void refuse_targets(const char *const *targets)
{
    for (; *targets != NULL; targets++)
        if (!CHECK_EQ_INT(parse_target(*targets), MESA_EPROTO))
            CHECK_EQ_STR(*targets, "");
}

TEST(the_end_of_a_head_is_found_once_it_is_there)
{
    static const char text[] = "GET / HTTP/1.1\r\nHost: h\r\n\r\nmore\r\n\r\n";
    size_t end = (size_t)(strstr(text, "more") - text);
    for (size_t len = 0; len < sizeof text; len++)
        CHECK_EQ_INT(mesa_http_request_end(text, len), len < end ? 0 : end);
    CHECK_EQ_INT(mesa_http_request_end("\r\n\r\n", 4), 4);
    CHECK(mesa_http_request_end("\n\n\r\r\n\n", 6) == MESA_HTTP_BARE_LF);
    CHECK(mesa_http_request_end("GET / HTTP/1.1\nHost: h\n\n", 25) == MESA_HTTP_BARE_LF);
    CHECK_EQ_INT(mesa_http_request_end("", 0), 0);
}

TEST(a_head_begins_with_a_method)
{
    CHECK(mesa_http_request_may_begin('G') && mesa_http_request_may_begin('g'));
    static const char not [] = "\r\n \x16\x80\xff/:{\"";
    for (size_t i = 0; i < sizeof not ; i++) /* the NUL too */
        CHECK(!mesa_http_request_may_begin(not [i]));
}

TEST(a_request_is_taken_apart)
{
    CHECK_EQ_INT(parse("GET /a/b?c=d HTTP/1.1\r\nHost: example.org\r\nX-One:1\r\n"
                       "x!#$%&'*+-.^_`|~9: \t two words \t \r\nEMPTY:\r\nSpaces: \t\r\n"
                       "Colons: a:b\r\nOther: \xc3\xa9\r\n\r\n"),
                 MESA_OK);
    is(request.method, "GET");
    is(request.path, "/a/b");
    is(request.query, "c=d");
    CHECK_EQ_INT(request.minor, 1);
    static const char *const want[][2] = {
        {"host", "example.org"}, {"x-one", "1"}, {"x!#$%&'*+-.^_`|~9", "two words"},
        {"empty", ""},           {"spaces", ""}, {"colons", "a:b"},
        {"other", "\xc3\xa9"}};
    if (CHECK_EQ_INT(request.header_count, sizeof want / sizeof *want))
        for (size_t i = 0; i < request.header_count; i++) {
            is(headers[i].name, want[i][0]);
            is(headers[i].value, want[i][1]);
        }
    CHECK_EQ_INT(parse("OPTIONS /x HTTP/1.0\r\n\r\n"), MESA_OK);
    is(request.method, "OPTIONS");
    CHECK_EQ_INT(request.minor, 0);
    CHECK_EQ_INT(request.header_count, 0);
    CHECK_EQ_INT(parse("get / HTTP/1.1\r\nHost: h\r\n\r\n"), MESA_OK);
    is(request.method, "get"); /* methods are case-sensitive */
    done();
}

TEST(a_request_line_that_is_wrong_is_refused)
{
    static const char *const lines[] = {
        "",
        "GET",
        "GET ",
        "GET /",
        "GET HTTP/1.1",
        "GET  HTTP/1.1",
        "/ HTTP/1.1",
        " GET / HTTP/1.1",
        "GET  / HTTP/1.1",
        "GET /  HTTP/1.1",
        "GET / HTTP/1.1 ",
        "GET\t/ HTTP/1.1",
        "GET /\tHTTP/1.1",
        "GET / HTTP/2.0",
        "GET / HTTP/0.9",
        "GET / HTTP/1.",
        "GET / HTTP/11",
        "GET / HTTP/1.10",
        "GET / http/1.1",
        "GET / HTTPS/1.1",
        "GET /HTTP/1.1",
        "G(T / HTTP/1.1",
        "G\x01T / HTTP/1.1",
        "G\xc3\xa9T / HTTP/1.1",
        "PRI * HTTP/2.0",
    };
    for (size_t i = 0; i < sizeof lines / sizeof *lines; i++) {
        char text[256];
        snprintf(text, sizeof text, "%s\r\nHost: h\r\n\r\n", lines[i]);
        if (!CHECK_EQ_INT(parse(text), MESA_EPROTO))
            CHECK_EQ_STR(lines[i], "");
    }
    done();
}

TEST(a_header_that_is_wrong_is_refused)
{
    static const char *const lines[] = {
        ": nameless",
        "no colon",
        "space : before",
        "tab\t: before",
        " Folded: x",
        "\tFolded: x",
        "In valid: x",
        "A: b\r\n c",
        "A: b\r\n\tc",
        "(A): b",
        "A\x7f: b",
        "A\x01: b",
        "\xc3\xa9: b",
        "A: \x01",
        "A: b\x7f",
        "A: b\x1f"
        "c",
        "A: b\x0b",
        "A: b\nB: c",
        "A: b\rB: c",
        "A: b\n",
        "A: b\r\n\nB: c",
        "\nA: b",
        "A\n: b",
        "A\r: b",
        "A=b",
        "A;: b",
        "\"A\": b",
        "A/B: c",
        "A,B: c",
    };
    for (size_t i = 0; i < sizeof lines / sizeof *lines; i++) {
        char text[256];
        snprintf(text, sizeof text, "GET / HTTP/1.1\r\nHost: h\r\n%s\r\nZ: z\r\n\r\n", lines[i]);
        if (!CHECK_EQ_INT(parse(text), MESA_EPROTO))
            CHECK_EQ_STR(lines[i], "");
        snprintf(text, sizeof text, "GET / HTTP/1.1\r\n%s\r\n\r\n", lines[i]);
        if (!CHECK_EQ_INT(parse(text), MESA_EPROTO))
            CHECK_EQ_STR(lines[i], "");
    }
    done();
}

TEST(bare_line_feeds_end_no_line)
{
    CHECK_EQ_INT(parse("GET / HTTP/1.1\nHost: h\r\n\r\n"), MESA_EPROTO);
    CHECK_EQ_INT(parse("GET / HTTP/1.1\r\nHost: h\nA: b\r\n\r\n"), MESA_EPROTO);
    CHECK_EQ_INT(parse("GET / HTTP/1.1\n\r\n\r\n"), MESA_EPROTO);
    CHECK_EQ_INT(parse("GET / HTTP/1.1\rHost: h\r\n\r\n"), MESA_EPROTO);
    CHECK_EQ_INT(parse("\r\n\r\n"), MESA_EPROTO);
    done();
}

TEST(a_nul_is_refused_wherever_it_stands)
{
    static const char text[] = "GET /a?b HTTP/1.1\r\nHost: h\r\n\r\n";
    for (size_t i = 0; i < sizeof text - 5; i++) { /* up to the empty line */
        char with[sizeof text];
        memcpy(with, text, sizeof text);
        with[i] = '\0';
        if (!CHECK_EQ_INT(parse_bytes(with, sizeof text - 1), MESA_EPROTO))
            CHECK_EQ_INT(i, -1);
    }
    done();
}

TEST(a_path_is_decoded_and_a_query_is_not)
{
    expect_target("/", "/", "");
    expect_target("/?", "/", "");
    expect_target("/caf%C3%A9/a%20b", "/caf\xc3\xa9/a b", "");
    expect_target("/a+b", "/a+b", "");
    expect_target("/a%3Fb?c", "/a?b", "c");
    expect_target("/a%2fb", "/a/b", "");
    expect_target("/%25", "/%", "");
    expect_target("/%2525", "/%25", "");
    expect_target("/a?b=%26%3d+%zz%&c?d/../e", "/a", "b=%26%3d+%zz%&c?d/../e");
    expect_target("/a?//", "/a", "//");
    static const char *const bad[] = {"/%", "/%4", "/%zz", "/%4g", "/%00", "/a%00b", "/%0", NULL};
    refuse_targets(bad);
    done();
}

TEST(dots_and_empty_parts_are_resolved)
{
    static const char *const cases[][2] = {
        {"/.", "/"},
        {"/..", "/"},
        {"/../..", "/"},
        {"/a/..", "/"},
        {"/a/../", "/"},
        {"/a/./b", "/a/b"},
        {"/a/../b", "/b"},
        {"/a/b/..", "/a/"},
        {"/a/b/../..", "/"},
        {"/a/b/.", "/a/b/"},
        {"//", "/"},
        {"//a", "/a"},
        {"/a//b", "/a/b"},
        {"/a///", "/a/"},
        {"/../a", "/a"},
        {"/...", "/..."},
        {"/.a/..b", "/.a/..b"},
        {"/a./b..", "/a./b.."},
        {"/%2e%2e/a", "/a"},
        {"/a/%2e%2E%2fb", "/b"},
        {"/a//../b", "/b"},
        {"/./././", "/"},
        {"/a/", "/a/"},
        {"/a/b/../../../c", "/c"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++)
        expect_target(cases[i][0], cases[i][1], "");
    done();
}

TEST(a_target_may_be_a_whole_url)
{
    expect_target("http://host/a/../b?c=d", "/b", "c=d");
    expect_target("HTTP://user@host:80/", "/", "");
    expect_target("http://[::1]:80/x", "/x", "");
    expect_target("http://host", "/", "");
    expect_target("http://host:8080?a=/b", "/", "a=/b");
    expect_target("ws+unix.a-b://host//x", "/x", "");
    static const char *const bad[] = {
        "*",        "host:443",      "a/b",          "?x",           "http:/a",
        "://host/", "1http://host/", "a?x=://b/c",   "http:///a",    "http://?a",
        "http://",  "ht/tp://host/", "ht%74p://h/a", "http//host/a", NULL};
    refuse_targets(bad);
    done();
}

TEST(a_target_has_neither_spaces_nor_controls_nor_a_fragment_nor_raw_utf_8)
{
    static const char *const bad[] = {"/a b",   "/a\tb", "/\x01",        "/\x7f",       "/a#b",
                                      "/a?b c", "/?#",   "/caf\xc3\xa9", "/a?\xc3\xa9", "/\x80",
                                      "/\xff",  "/a\nb", "/a\rb",        NULL};
    refuse_targets(bad);
    done();
}

TEST(there_are_at_most_as_many_headers_as_fit)
{
    char text[8192];
    for (int count = HEADERS - 1; count <= HEADERS + 1; count++) {
        int n = snprintf(text, sizeof text, "GET / HTTP/1.1\r\n");
        for (int i = 0; i < count; i++)
            n += snprintf(text + n, sizeof text - (size_t)n, "H-%d: %d\r\n", i, i);
        snprintf(text + n, sizeof text - (size_t)n, "\r\n");
        CHECK_EQ_INT(parse(text), count <= HEADERS ? MESA_OK : MESA_ETOOBIG);
        if (count <= HEADERS)
            CHECK_EQ_INT(request.header_count, count);
    }
    is(headers[HEADERS - 1].name, "h-127");
    done();
}

TEST(later_versions_of_http_1_are_read_as_http_1)
{
    CHECK_EQ_INT(parse("GET / HTTP/1.2\r\nHost: h\r\n\r\n"), MESA_OK);
    CHECK_EQ_INT(request.minor, 2);
}

TEST(options_may_be_about_the_server_and_nothing_is_tunnelled)
{
    CHECK_EQ_INT(parse("OPTIONS * HTTP/1.1\r\nHost: h\r\n\r\n"), MESA_OK);
    is(request.path, "*");
    CHECK_EQ_INT(parse("GET * HTTP/1.1\r\nHost: h\r\n\r\n"), MESA_EPROTO);
    CHECK_EQ_INT(parse("CONNECT / HTTP/1.1\r\nHost: h\r\n\r\n"), MESA_EPROTO);
    CHECK_EQ_INT(parse("CONNECT h:80 HTTP/1.1\r\nHost: h\r\n\r\n"), MESA_EPROTO);
}

TEST(a_host_is_a_name_or_an_address_and_maybe_a_port)
{
    static const char *const good[] = {
        "", "h", "a.b-c_d.example:80", "127.0.0.1", "[::1]", "[::1]:443", "x%20y", "h:"};
    static const char *const bad[] = {"a b",    "a/b@c", "h:x",  "h:80:80", "[::1",
                                      "[::1]x", "[g]",   "a\"b", "u@h"};
    for (size_t i = 0; i < sizeof good / sizeof *good; i++)
        CHECK(mesa_http_host_valid((struct mesa_span){good[i], strlen(good[i])}));
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++)
        CHECK(!mesa_http_host_valid((struct mesa_span){bad[i], strlen(bad[i])}));
}

TEST(a_list_has_members_between_its_commas)
{
    struct mesa_span list = MESA_SPAN(" a ,,\tb c\t, ,d,");
    is(mesa_http_list_next(&list), "a");
    is(mesa_http_list_next(&list), "b c");
    is(mesa_http_list_next(&list), "d");
    CHECK(mesa_http_list_next(&list).p == NULL);
    list = MESA_SPAN(" , ,");
    CHECK(mesa_http_list_next(&list).p == NULL);
    list = MESA_SPAN("");
    CHECK(mesa_http_list_next(&list).p == NULL);
}
