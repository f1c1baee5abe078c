/* proxy_header_test.c - PROXY headers of both versions, whole and in pieces. */
#include "core/proxy_header.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "test.h"

static struct mesa_proxy_header header;
static size_t used;

/* In memory of exactly that size. */
static enum mesa_status read_bytes(const char *bytes, size_t len)
{
    char *copy = malloc(len > 0 ? len : 1);
    if (!CHECK(copy != NULL))
        return MESA_ENOMEM;
    memcpy(copy, bytes, len);
    memset(&header, 0xa5, sizeof header);
    enum mesa_status rc = mesa_proxy_header_read(copy, len, &header, &used);
    free(copy);
    return rc;
}

static enum mesa_status read_text(const char *text)
{
    return read_bytes(text, strlen(text));
}

/* The source of a header that was read, "-" without one. */
static const char *source(void)
{
    static char out[MESA_ADDRESS_TEXT_LEN];
    if (!header.known)
        return "-";
    mesa_address_text(&header.source, out);
    return out;
}

/* Version 2: the signature, the two bytes behind it, and `len` bytes of addresses. */
static char binary[8192];
static size_t build(int command, int family, const char *addresses, size_t len)
{
    memcpy(binary, "\r\n\r\n\0\r\nQUIT\n", 12);
    binary[12] = (char)command;
    binary[13] = (char)family;
    binary[14] = (char)(len >> 8);
    binary[15] = (char)len;
    memset(binary + 16, 0xee, len);
    if (addresses != NULL)
        memcpy(binary + 16, addresses, strlen(addresses));
    return 16 + len;
}

TEST(a_line_names_the_source)
{
    CHECK_EQ_INT(read_text("PROXY TCP4 203.0.113.7 192.0.2.1 56324 443\r\nGET / "), MESA_OK);
    CHECK_EQ_STR(source(), "203.0.113.7");
    CHECK_EQ_INT(used, 44);
    CHECK_EQ_INT(read_text("PROXY TCP6 2001:db8::7 ::1 0 65535\r\n"), MESA_OK);
    CHECK_EQ_STR(source(), "2001:db8::7");
    CHECK_EQ_INT(read_text("PROXY TCP6 ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff "
                           "ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff 65535 65535\r\n"),
                 MESA_OK);
    CHECK_EQ_INT(used, 104);
}

TEST(a_line_may_name_nobody)
{
    CHECK_EQ_INT(read_text("PROXY UNKNOWN\r\n"), MESA_OK);
    CHECK_EQ_STR(source(), "-");
    CHECK_EQ_INT(read_text("PROXY UNKNOWN ffff::1 anything at all\r\nx"), MESA_OK);
    CHECK_EQ_STR(source(), "-");
    CHECK_EQ_INT(used, 39);
}

TEST(a_line_that_is_malformed_is_none)
{
    static const char *const bad[] = {
        "GET / HTTP/1.1\r\n",
        "proxy UNKNOWN\r\n",
        "PROXY\r\n",
        "PROXY \r\n",
        "PROXY UNKNOWN\n",
        "PROXY UNKNOWNX\r\n",
        "PROXY TCP5 203.0.113.7 192.0.2.1 1 2\r\n",
        "PROXY TCP4 203.0.113.7 192.0.2.1 1\r\n",
        "PROXY TCP4 203.0.113.7 192.0.2.1 1 2 \r\n",
        "PROXY TCP4 203.0.113.7 192.0.2.1 1 2 3\r\n",
        "PROXY TCP4  203.0.113.7 192.0.2.1 1 2\r\n",
        "PROXY TCP4 203.0.113.7 192.0.2.1 1 65536\r\n",
        "PROXY TCP4 203.0.113.7 192.0.2.1 01 2\r\n",
        "PROXY TCP4 203.0.113.7 192.0.2.1 -1 2\r\n",
        "PROXY TCP4 2001:db8::7 ::1 1 2\r\n",
        "PROXY TCP6 203.0.113.7 192.0.2.1 1 2\r\n",
        "PROXY TCP4 203.0.113.7 x 1 2\r\n",
        "PROXY TCP4 203.0.113.7 192.0.2.1 1 2\r\r\n",
        "\r\n\r\nGET",
        "\r\n\r\n\r\n",
    };
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++)
        if (!CHECK_EQ_INT(read_text(bad[i]), MESA_EPROTO))
            CHECK_EQ_STR(bad[i], NULL);
}

TEST(a_line_has_at_most_107_bytes)
{
    char line[128];
    memset(line, 'x', sizeof line);
    memcpy(line, "PROXY UNKNOWN ", 14);
    CHECK_EQ_INT(read_bytes(line, 106), MESA_EAGAIN);
    CHECK_EQ_INT(read_bytes(line, 107), MESA_EPROTO);
    memcpy(line + 105, "\r\n", 2);
    CHECK_EQ_INT(read_bytes(line, 128), MESA_OK);
    CHECK_EQ_INT(used, 107);
    line[105] = 'x';
    memcpy(line + 106, "\r\n", 2);
    CHECK_EQ_INT(read_bytes(line, 128), MESA_EPROTO);
}

TEST(a_binary_header_names_the_source)
{
    size_t len = build(0x21, 0x11, "\xcb\x01\x71\x07", 12);
    CHECK_EQ_INT(read_bytes(binary, len), MESA_OK);
    CHECK_EQ_STR(source(), "203.1.113.7");
    CHECK_EQ_INT(used, 28);
    len = build(0x21, 0x21, "\x20\x01\x0d\xb8\x11\x11\x11\x11\x11\x11\x11\x11\x11\x11\x11\x07", 36);
    CHECK_EQ_INT(read_bytes(binary, len), MESA_OK);
    CHECK_EQ_STR(source(), "2001:db8:1111:1111:1111:1111:1111:1107");
}

TEST(what_is_appended_to_the_addresses_is_skipped)
{
    size_t len = build(0x21, 0x11, "\xcb\x01\x71\x07", 4080);
    CHECK_EQ_INT(read_bytes(binary, len + 100), MESA_OK);
    CHECK_EQ_STR(source(), "203.1.113.7");
    CHECK_EQ_INT(used, MESA_PROXY_HEADER_MAX);
    len = build(0x21, 0x11, "\xcb\x01\x71\x07", 4081);
    CHECK_EQ_INT(read_bytes(binary, 16), MESA_ETOOBIG);
    CHECK_EQ_INT(read_bytes(binary, len), MESA_ETOOBIG);
}

TEST(a_binary_header_may_name_nobody)
{
    static const int pairs[][3] = {{0x20, 0x00, 0}, {0x20, 0x11, 0}, {0x20, 0x11, 12},
                                   {0x21, 0x00, 0}, {0x21, 0x00, 9}, {0x21, 0x31, 216}};
    for (size_t i = 0; i < sizeof pairs / sizeof *pairs; i++) {
        size_t len = build(pairs[i][0], pairs[i][1], NULL, (size_t)pairs[i][2]);
        CHECK_EQ_INT(read_bytes(binary, len), MESA_OK);
        CHECK_EQ_STR(source(), "-");
        CHECK_EQ_INT(used, len);
    }
}

TEST(a_binary_header_that_is_malformed_is_none)
{
    static const int bad[][3] = {
        {0x11, 0x11, 12}, {0x31, 0x11, 12}, {0x22, 0x11, 12},  {0x21, 0x41, 12}, {0x21, 0x13, 12},
        {0x21, 0x11, 11}, {0x21, 0x21, 35}, {0x21, 0x31, 215}, {0x2f, 0x00, 0},  {0x20, 0xf0, 0},
    };
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        size_t len = build(bad[i][0], bad[i][1], NULL, (size_t)bad[i][2]);
        CHECK_EQ_INT(read_bytes(binary, len), MESA_EPROTO);
        CHECK_EQ_INT(read_bytes(binary, 16), MESA_EPROTO); /* before the rest has come */
    }
}

TEST(a_header_comes_in_pieces)
{
    static const char line[] = "PROXY TCP4 203.0.113.7 192.0.2.1 56324 443\r\n";
    for (size_t n = 0; n < sizeof line - 1; n++) {
        CHECK_EQ_INT(read_bytes(line, n), MESA_EAGAIN);
        CHECK_EQ_INT(used, n);
    }
    size_t len = build(0x21, 0x21, NULL, 50);
    for (size_t n = 0; n < len; n++) {
        CHECK_EQ_INT(read_bytes(binary, n), MESA_EAGAIN);
        CHECK_EQ_INT(used, n);
    }
    CHECK_EQ_INT(read_bytes(binary, len), MESA_OK);
}
