/* url_test.c - URLs of requests and of redirections. */
#include "core/url.h"

#include <stdio.h>

#include "test.h"

static const char *why;

static enum mesa_status parse(struct mesa_url *u, const char *text)
{
    return mesa_url_parse(u, (struct mesa_span){text, strlen(text)}, &why);
}

static void check_whole(const struct mesa_url *u, const char *want)
{
    struct mesa_buf out;
    mesa_buf_init(&out);
    CHECK_EQ_INT(mesa_url_append(u, &out), MESA_OK);
    CHECK_EQ_MEM(out.data, out.len, want, strlen(want));
    mesa_buf_deinit(&out);
}

static void check_url(const char *text, const char *want, bool secure, int port)
{
    struct mesa_url u;
    CHECK_OR_RETURN(parse(&u, text) == MESA_OK);
    CHECK_EQ_INT(u.secure, secure);
    CHECK_EQ_INT(u.port, port);
    check_whole(&u, want);
    mesa_url_deinit(&u);
}

TEST(parts_get_their_defaults)
{
    check_url("http://Example.ORG", "http://example.org/", false, 80);
    check_url("HTTPS://example.org:8443/a?b#c", "https://example.org:8443/a?b", true, 8443);
    check_url("http://example.org:80/", "http://example.org/", false, 80);
    check_url("http://example.org:?q", "http://example.org/?q", false, 80);
    check_url("http://[::1]:8080/x", "http://[::1]:8080/x", false, 8080);
    check_url("http://a/b c\xc3\xbc", "http://a/b%20c%C3%BC", false, 80);
}

TEST(user_information_is_taken_out_and_decoded)
{
    struct mesa_url u;
    CHECK_OR_RETURN(parse(&u, "http://me:a%40b%zz@host/") == MESA_OK);
    CHECK_EQ_MEM(u.userinfo.data, u.userinfo.len, "me:a@b%zz", 9);
    check_whole(&u, "http://host/");
    mesa_url_deinit(&u);
}

TEST(user_information_is_sent_as_basic_authentication)
{
    static const char *const cases[][2] = {
        {"http://h/", ""},
        {"http://Aladdin:open%20sesame@h/",
         "Authorization: Basic QWxhZGRpbjpvcGVuIHNlc2FtZQ==\r\n"}, /* RFC 7617 section 2 */
        {"http://a@h/", "Authorization: Basic YTo=\r\n"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct mesa_url u;
        struct mesa_buf out;
        mesa_buf_init(&out);
        CHECK_EQ_INT(parse(&u, cases[i][0]), MESA_OK);
        CHECK_EQ_INT(mesa_url_append_basic(&u, &out), MESA_OK);
        CHECK_EQ_MEM(out.len > 0 ? out.data : "", out.len, cases[i][1], strlen(cases[i][1]));
        mesa_url_deinit(&u);
        mesa_buf_deinit(&out);
    }
}

TEST(what_is_no_url_is_refused)
{
    static const char *const bad[] = {
        "",
        "/a",
        "http:",
        "http:/a",
        "http://",
        "ftp://a/",
        "http://:8",
        "http://a:0",
        "http://a:65536",
        "http://a:99999999999",
        "http://a:8x",
        "http://[::1",
        "http://a b",
        "http://[::1]x",
        "http://\xc3\xbc/",
        "http://a\r\nb/",
        "http://u@/",
        "javascript://a",
    };
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        struct mesa_url u;
        if (!CHECK(parse(&u, bad[i]) == MESA_EINVAL))
            printf("%s\n", bad[i]);
    }
}

static void check_reference(const char *reference, const char *want)
{
    struct mesa_url base, u;
    CHECK_OR_RETURN(parse(&base, "http://a:8/b/c/d;p?q") == MESA_OK);
    if (CHECK(mesa_url_resolve(&u, &base, (struct mesa_span){reference, strlen(reference)}, &why) ==
              MESA_OK)) {
        check_whole(&u, want);
        mesa_url_deinit(&u);
    }
    mesa_url_deinit(&base);
}

/* RFC 3986 section 5.4 */
TEST(references_mean_what_the_rfc_says)
{
    check_reference("g", "http://a:8/b/c/g");
    check_reference("./g", "http://a:8/b/c/g");
    check_reference("g/", "http://a:8/b/c/g/");
    check_reference("/g", "http://a:8/g");
    check_reference("//g", "http://g/");
    check_reference("?y", "http://a:8/b/c/d;p?y");
    check_reference("g?y#s", "http://a:8/b/c/g?y");
    check_reference("", "http://a:8/b/c/d;p?q");
    check_reference("#s", "http://a:8/b/c/d;p?q");
    check_reference(".", "http://a:8/b/c/");
    check_reference("..", "http://a:8/b/");
    check_reference("../g", "http://a:8/b/g");
    check_reference("../../../../g", "http://a:8/g");
    check_reference("/./g/../h", "http://a:8/h");
    check_reference("g..", "http://a:8/b/c/g..");
    check_reference("g?y/../x", "http://a:8/b/c/g?y/../x");
    check_reference("https://h/i", "https://h/i");
}

TEST(origins_are_scheme_host_and_port)
{
    struct mesa_url a, b;
    CHECK_OR_RETURN(parse(&a, "http://h/x") == MESA_OK);
    CHECK_OR_RETURN(parse(&b, "http://H:80/y") == MESA_OK);
    CHECK(mesa_url_same_origin(&a, &b));
    mesa_url_deinit(&b);
    CHECK_OR_RETURN(parse(&b, "https://h:80/") == MESA_OK);
    CHECK(!mesa_url_same_origin(&a, &b));
    mesa_url_deinit(&b);
    mesa_url_deinit(&a);
}
