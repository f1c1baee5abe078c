/* origin_test.c - origins and patterns of origins. */
#include "core/origin.h"

#include <string.h>

#include "test.h"

static bool matches(const char *pattern, const char *origin)
{
    return mesa_origin_matches(pattern, (struct mesa_span){origin, strlen(origin)});
}

TEST(an_origin_is_itself_whatever_its_case)
{
    CHECK(matches("https://a.example", "https://a.example"));
    CHECK(matches("https://a.example", "HTTPS://A.Example"));
    CHECK(matches("null", "null"));
    CHECK(!matches("https://a.example", "http://a.example"));
    CHECK(!matches("https://a.example", "https://a.example:8443"));
    CHECK(!matches("https://a.example", "https://b.a.example"));
    CHECK(!matches("https://a.example", "https://a.exampl"));
    CHECK(!matches("https://a.example", ""));
}

TEST(a_wildcard_is_any_name_below)
{
    static const char pattern[] = "https://*.example.org";
    CHECK(matches(pattern, "https://a.example.org"));
    CHECK(matches(pattern, "https://a.b-2._c.EXAMPLE.org"));
    CHECK(!matches(pattern, "https://example.org"));
    CHECK(!matches(pattern, "https://.example.org"));
    CHECK(!matches(pattern, "https://a..example.org"));
    CHECK(!matches(pattern, "https://..example.org"));
    CHECK(!matches(pattern, "https://evilexample.org"));
    CHECK(!matches(pattern, "http://a.example.org"));
    CHECK(!matches(pattern, "https://a.example.org:8443"));
    CHECK(!matches(pattern, "https://a.example.org.evil.example"));
    CHECK(!matches(pattern, "null"));
}

TEST(a_wildcard_is_nothing_but_a_name)
{
    static const char pattern[] = "https://*.example.org";
    CHECK(!matches(pattern, "https://evil.example/.example.org"));
    CHECK(!matches(pattern, "https://evil.example?.example.org"));
    CHECK(!matches(pattern, "https://evil.example#.example.org"));
    CHECK(!matches(pattern, "https://evil.example:80.example.org"));
    CHECK(!matches(pattern, "https://a@b.example.org"));
    CHECK(!matches(pattern, "https://a b.example.org"));
    CHECK(!matches(pattern, "https://*.example.org"));
}

TEST(a_wildcard_keeps_the_port)
{
    CHECK(matches("http://*.test:8080", "http://a.test:8080"));
    CHECK(!matches("http://*.test:8080", "http://a.test"));
    CHECK(!matches("http://*.test:8080", "http://a.test:80"));
}
