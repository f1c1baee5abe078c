/* forwarded_test.c - addresses, networks, and who a request behind proxies comes from. */
#include "core/forwarded.h"

#include <string.h>

#include "test.h"

static struct mesa_span span(const char *text)
{
    return (struct mesa_span){text, text != NULL ? strlen(text) : 0};
}

static struct mesa_address address(const char *text)
{
    struct mesa_network n;
    CHECK_EQ_INT(mesa_network_read(&n, span(text)), MESA_OK);
    return n.address;
}

static bool in(const char *network, const char *peer)
{
    struct mesa_network n;
    struct mesa_address a = address(peer);
    return CHECK(mesa_network_read(&n, span(network)) == MESA_OK) && mesa_networks_have(&n, 1, &a);
}

/* -- addresses -- */

TEST(addresses_are_read_and_written)
{
    static const char *const texts[][2] = {
        {"192.0.2.1", "192.0.2.1"},
        {"2001:DB8::0:1", "2001:db8::1"},
        {"::ffff:10.0.0.1", "10.0.0.1"},
        {"::", "::"},
        {"unix", "unix"},
    };
    for (size_t i = 0; i < sizeof texts / sizeof *texts; i++) {
        char out[MESA_ADDRESS_TEXT_LEN];
        struct mesa_address a = address(texts[i][0]);
        mesa_address_text(&a, out);
        CHECK_EQ_STR(out, texts[i][1]);
    }
}

TEST(what_is_no_network_is_refused)
{
    static const char *const bad[] = {"",         "10.0.0",      "10.0.0.0/33", "10.0.0.0/",
                                      "::1/129",  "[::1]",       "10.0.0.1:80", "localhost",
                                      "fe80::1%", "10.0.0.0/+8", "10.0.0.0/ 8", " 10.0.0.1",
                                      "unix/8",   "/8",          "10.0.0.0/8/8"};
    struct mesa_network n;
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++)
        if (!CHECK_EQ_INT(mesa_network_read(&n, span(bad[i])), MESA_EINVAL))
            CHECK_EQ_STR(bad[i], NULL);
    CHECK_EQ_INT(mesa_network_read(&n, (struct mesa_span){"::1\0", 4}), MESA_EINVAL);
}

TEST(a_network_has_the_addresses_that_begin_alike)
{
    CHECK(in("10.0.0.0/8", "10.255.0.1"));
    CHECK(in("10.1.2.3/8", "10.255.0.1"));
    CHECK(!in("10.0.0.0/8", "11.0.0.1"));
    CHECK(in("192.0.2.128/25", "192.0.2.200"));
    CHECK(!in("192.0.2.128/25", "192.0.2.127"));
    CHECK(in("192.0.2.1", "192.0.2.1"));
    CHECK(!in("192.0.2.1", "192.0.2.0"));
    CHECK(in("0.0.0.0/0", "203.0.113.9"));
    CHECK(!in("0.0.0.0/0", "2001:db8::1"));
    CHECK(in("::/0", "2001:db8::1"));
    CHECK(in("2001:db8::/33", "2001:db8:7fff::"));
    CHECK(!in("2001:db8::/33", "2001:db8:8000::"));
    CHECK(in("::ffff:10.0.0.0/104", "10.9.9.9"));
}

TEST(unix_sockets_are_a_network_of_their_own)
{
    CHECK(in("unix", "unix"));
    CHECK(!in("unix", "::"));
    CHECK(!in("::/0", "unix"));
}

TEST(an_ipv4_address_and_an_ipv6_network_count_as_one_peer)
{
    struct mesa_address four = address("192.0.2.1"), six = address("2001:db8::1");
    CHECK_EQ_INT(mesa_address_key(&four), 16);
    CHECK_EQ_INT(mesa_address_key(&six), 8);
}

/* -- headers -- */

/* Who comes of the headers, with 10.0.0.0/8, fd00::/8 and Unix sockets believed: "203.0.113.1", with an
 * "s" behind it when secure. */
static const char *from(const char *peer, bool tls, const char *list, const char *scheme,
                        const char *forwarded)
{
    static char out[MESA_ADDRESS_TEXT_LEN + 1];
    struct mesa_network believed[3];
    CHECK(mesa_network_read(&believed[0], span("10.0.0.0/8")) == MESA_OK);
    CHECK(mesa_network_read(&believed[1], span("fd00::/8")) == MESA_OK);
    CHECK(mesa_network_read(&believed[2], span("unix")) == MESA_OK);
    struct mesa_source source = {.address = address(peer), .secure = tls};
    struct mesa_forwarding headers = {
        .list = span(list), .scheme = span(scheme), .forwarded = span(forwarded)};
    mesa_forwarded_find(&source, &headers, believed, 3);
    mesa_address_text(&source.address, out);
    return source.secure ? strcat(out, "s") : out;
}

static const char *listed(const char *list)
{
    return from("10.0.0.1", false, list, NULL, NULL);
}

static const char *elements(const char *forwarded)
{
    return from("10.0.0.1", false, NULL, NULL, forwarded);
}

TEST(who_is_not_believed_says_nothing)
{
    CHECK_EQ_STR(from("203.0.113.9", false, "192.0.2.1", "https", NULL), "203.0.113.9");
    CHECK_EQ_STR(from("203.0.113.9", true, NULL, "http", "for=192.0.2.1"), "203.0.113.9s");
}

TEST(a_list_is_walked_from_the_right_over_those_who_are_believed)
{
    CHECK_EQ_STR(listed("192.0.2.1"), "192.0.2.1");
    CHECK_EQ_STR(listed("192.0.2.66, 192.0.2.1"), "192.0.2.1");
    CHECK_EQ_STR(listed("192.0.2.1, 10.0.0.2, fd00::7"), "192.0.2.1");
    CHECK_EQ_STR(listed("nonsense, 192.0.2.1,10.0.0.2"), "192.0.2.1");
    CHECK_EQ_STR(listed("10.0.0.3, 10.0.0.2"), "10.0.0.3"); /* the client is one of them */
    CHECK_EQ_STR(listed(" ,\t192.0.2.1 ,, "), "192.0.2.1");
    CHECK_EQ_STR(listed(""), "10.0.0.1");
    CHECK_EQ_STR(listed(NULL), "10.0.0.1");
    CHECK_EQ_STR(from("unix", false, "192.0.2.1", NULL, NULL), "192.0.2.1");
}

TEST(addresses_of_a_list_may_have_brackets_and_ports)
{
    CHECK_EQ_STR(listed("192.0.2.1:4711"), "192.0.2.1");
    CHECK_EQ_STR(listed("2001:db8::1"), "2001:db8::1");
    CHECK_EQ_STR(listed("[2001:db8::1]"), "2001:db8::1");
    CHECK_EQ_STR(listed("[2001:db8::1]:4711"), "2001:db8::1");
    CHECK_EQ_STR(listed("[::ffff:192.0.2.1]:1, [fd00::1]:_x"), "192.0.2.1");
}

TEST(what_cannot_be_read_leaves_the_peer)
{
    static const char *const bad[] = {"nonsense",
                                      "192.0.2.1:",
                                      "192.0.2.1:123456",
                                      "192.0.2.1:x",
                                      "192.0.2",
                                      "[192.0.2.1]",
                                      "[2001:db8::1",
                                      "[2001:db8::1]x",
                                      "[]:1",
                                      "2001:db8::1:x",
                                      "_",
                                      "_a b",
                                      "\"192.0.2.1\"",
                                      "192.0.2.1 x",
                                      "unix",
                                      "x, 10.0.0.2",
                                      "[::1]a:80",
                                      ":80"};
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++)
        if (!CHECK_EQ_STR(listed(bad[i]), "10.0.0.1"))
            CHECK_EQ_STR(bad[i], NULL);
}

TEST(who_is_not_named_leaves_the_proxy_that_says_so)
{
    CHECK_EQ_STR(listed("unknown"), "10.0.0.1");
    CHECK_EQ_STR(listed("192.0.2.66, Unknown, 10.0.0.2"), "10.0.0.2");
    CHECK_EQ_STR(listed("_hidden, 10.0.0.2"), "10.0.0.2");
    CHECK_EQ_STR(elements("for=192.0.2.66, for=\"_hidden:_port\", for=10.0.0.2"), "10.0.0.2");
    CHECK_EQ_STR(elements("for=192.0.2.66, by=203.0.113.43, for=10.0.0.2"), "10.0.0.2");
    CHECK_EQ_STR(elements("for=unknown;proto=https"), "10.0.0.1s");
}

TEST(the_scheme_is_that_of_the_clients_own_connection)
{
    CHECK_EQ_STR(from("10.0.0.1", false, "192.0.2.1", "https", NULL), "192.0.2.1s");
    CHECK_EQ_STR(from("10.0.0.1", false, "192.0.2.1", "WSS", NULL), "192.0.2.1s");
    CHECK_EQ_STR(from("10.0.0.1", true, "192.0.2.1", "http", NULL), "192.0.2.1");
    CHECK_EQ_STR(from("10.0.0.1", true, "192.0.2.1", NULL, NULL), "192.0.2.1s");
    CHECK_EQ_STR(from("10.0.0.1", true, "192.0.2.1", "gopher", NULL), "192.0.2.1s");
    CHECK_EQ_STR(from("10.0.0.1", false, NULL, "https", NULL), "10.0.0.1s");
    /* one for each hop, or the first one kept by those behind it */
    CHECK_EQ_STR(from("10.0.0.1", false, "192.0.2.1, 10.0.0.2", "https, http", NULL), "192.0.2.1s");
    CHECK_EQ_STR(from("10.0.0.1", false, "192.0.2.1, 10.0.0.2", "https", NULL), "192.0.2.1s");
    /* whatever the client itself has put in front */
    CHECK_EQ_STR(from("10.0.0.1", false, "192.0.2.66, 192.0.2.1", "https, http", NULL),
                 "192.0.2.1");
}

TEST(elements_have_pairs_in_any_order)
{
    CHECK_EQ_STR(elements("for=192.0.2.1"), "192.0.2.1");
    CHECK_EQ_STR(elements("proto=https; FOR=\"192.0.2.1:80\" ;by=_x"), "192.0.2.1s");
    CHECK_EQ_STR(elements("For=\"[2001:db8::1]:4711\""), "2001:db8::1");
    CHECK_EQ_STR(elements("for=192.0.2.1;proto=https, for=10.0.0.2;proto=http"), "192.0.2.1s");
    CHECK_EQ_STR(elements("for=192.0.2.1;host=\"a,b\\\",;c\\\\\";proto=https;"), "192.0.2.1s");
}

TEST(elements_that_cannot_be_read_leave_the_peer)
{
    static const char *const bad[] = {"for",
                                      "for=",
                                      "for=2001:db8::1",
                                      "for=\"2001:db8::1\"",
                                      "for=[2001:db8::1]",
                                      "for=\"192.0.2.1",
                                      "for=192.0.2.1\"",
                                      "for=\"192.0.2.1\\",
                                      "for=192.0.2.1 proto=https",
                                      "for=192.0.2.1;for=192.0.2.2",
                                      "for=192.0.2.1;proto=http;proto=https",
                                      "for = 192.0.2.1",
                                      "=192.0.2.1",
                                      "192.0.2.1",
                                      "for=\"\"",
                                      "proto=https;for=nonsense"};
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++)
        if (!CHECK_EQ_STR(elements(bad[i]), "10.0.0.1"))
            CHECK_EQ_STR(bad[i], NULL);
}

TEST(an_open_quotation_mark_swallows_nothing_behind_it)
{
    CHECK_EQ_STR(elements("for=\"192.0.2.66, for=192.0.2.1"), "192.0.2.1");
    CHECK_EQ_STR(elements("for=\"192.0.2.66\\, for=\"192.0.2.1:80\";proto=https"), "192.0.2.1s");
}

TEST(x_forwarded_for_is_preferred)
{
    CHECK_EQ_STR(from("10.0.0.1", false, "192.0.2.1", NULL, "for=192.0.2.66;proto=https"),
                 "192.0.2.1");
}
