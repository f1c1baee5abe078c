/* transport_upgrade_test.c - the handshake: what is accepted, what is refused and how, and what the
 * layers above learn of the request. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "fixture.h"
#include "test.h"

static struct fixture f;
static struct peer p;

static bool begin(bool tls)
{
    fixture_init(&f);
    if (tls)
        fixture_use_tls(&f);
    return CHECK(fixture_start(&f));
}

static void end(void)
{
    peer_close(&p);
    fixture_stop(&f);
}

static bool saw(const char *line)
{
    return CHECK(f.request.data != NULL && strstr(f.request.data, line) != NULL);
}

TEST(a_request_is_captured_with_all_its_headers)
{
    CHECK_OR_RETURN(begin(false));
    CHECK_OR_RETURN(peer_open(
        &p, &f, "/caf%C3%A9/a%20b?x=1&y=%26%3d&z",
        "Origin: http://example.org\r\nX-Custom-One: first value\r\nCOOKIE: a=1; b=2\r\n"
        "x-y: z\r\nUser-Agent: test/1.0\r\nX-Empty:\r\nAuthorization: Bearer abc:def\r\n"));
    saw("GET /caf\xc3\xa9/a b?x=1&y=%26%3d&z 127.0.0.1 []");
    saw("\nhost: localhost\n");
    saw("\norigin: http://example.org\n");
    saw("\nx-custom-one: first value\n");
    saw("\ncookie: a=1; b=2\n");
    saw("\nx-y: z\n");
    saw("\nuser-agent: test/1.0\n");
    saw("\nx-empty: \n");
    saw("\nauthorization: Bearer abc:def\n");
    end();
}

TEST(headers_of_an_earlier_connection_are_not_seen)
{
    CHECK_OR_RETURN(begin(false));
    CHECK_OR_RETURN(peer_open(&p, &f, "/", "X-Secret: one\r\nX-Other: x-secret: two\r\n"));
    saw("\nx-secret: one\n");
    saw("\nx-other: x-secret: two\n");
    peer_close(&p);
    CHECK_OR_RETURN(peer_open(&p, &f, "/", ""));
    CHECK(strstr(f.request.data, "secret") == NULL);
    end();
}

TEST(a_secure_request_says_so)
{
    CHECK_OR_RETURN(begin(true));
    CHECK_OR_RETURN(peer_open(&p, &f, "/", "X-Custom: over tls\r\n"));
    saw("GET /? 127.0.0.1 [] tls\n");
    saw("\nx-custom: over tls\n");
    f.echo = true;
    peer_send_frame(&p, 0x81, "hello", 5);
    peer_expect(&p, 1, "hello");
    end();
}

TEST(the_first_subprotocol_offered_is_agreed_on)
{
    char response[512];
    static const char *const offers[][2] = {
        {"Sec-WebSocket-Protocol: chat\r\n", "chat"},
        {"Sec-WebSocket-Protocol:  v2.json , v1\r\n", "v2.json"},
        {"Sec-WebSocket-Protocol: mesa\r\n", "mesa"},
        {"Sec-WebSocket-Protocol: ,chat\r\n", "chat"},
        {"Sec-WebSocket-Protocol: graphql-transport-ws, graphql-ws\r\n", "graphql-transport-ws"},
        {"", ""},
    };
    CHECK_OR_RETURN(begin(false));
    for (size_t i = 0; i < sizeof offers / sizeof *offers; i++) {
        CHECK_OR_RETURN(peer_connect(&p, &f));
        snprintf(
            response, sizeof response,
            "GET / HTTP/1.1\r\nHost: h\r\nConnection: keep-alive, Upgrade\r\nUpgrade: WebSocket\r\n"
            "Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n%s\r\n",
            offers[i][0]);
        peer_send_text(&p, response);
        CHECK(WAIT_FOR(&f, f.opened == (int)i + 1 && (peer_poll(&p), p.in.len > 0)));
        mesa_buf_append(&p.in, "", 1);
        snprintf(response, sizeof response, "Sec-WebSocket-Protocol: %s\r\n", offers[i][1]);
        CHECK_EQ_INT(strstr(p.in.data, response) != NULL, offers[i][1][0] != '\0');
        CHECK(strstr(p.in.data, "Extensions") == NULL);
        snprintf(response, sizeof response, " [%s]", offers[i][1]);
        saw(response);
        peer_close(&p);
    }
    end();
}

TEST(on_upgrade_refuses_with_a_status)
{
    CHECK_OR_RETURN(begin(false));
    f.refuse = 403;
    CHECK(!peer_open(&p, &f, "/", ""));
    CHECK(strncmp(peer_read_all(&p), "HTTP/1.1 403 Forbidden\r\n", 24) == 0);
    CHECK(strstr(p.in.data, "\r\n\r\nForbidden") != NULL);
    CHECK_EQ_INT(f.opened, 0);
    peer_close(&p);
    f.refuse = 0;
    CHECK(peer_open(&p, &f, "/", ""));
    end();
}

#define KEY "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"
#define UPGRADE "Connection: Upgrade\r\nUpgrade: websocket\r\n"

TEST(a_handshake_that_is_wrong_gets_an_answer)
{
    static const struct {
        const char *request;
        int status;
    } cases[] = {
        {"GET / HTTP/1.1\r\nHost: h\r\n" UPGRADE "Sec-WebSocket-Version: 13\r\n\r\n", 400},
        {"GET / HTTP/1.1\r\nHost: h\r\n" UPGRADE KEY "\r\n", 426},
        {"GET / HTTP/1.1\r\nHost: h\r\n" UPGRADE KEY "Sec-WebSocket-Version: 8\r\n\r\n", 426},
        {"GET / HTTP/1.1\r\nHost: h\r\n" UPGRADE
         "Sec-WebSocket-Key: short\r\nSec-WebSocket-Version: 13\r\n\r\n",
         400},
        {"GET / HTTP/1.1\r\n" UPGRADE KEY "Sec-WebSocket-Version: 13\r\n\r\n", 400},
        {"GET / HTTP/1.1\r\nHost: h\r\nUpgrade: websocket\r\n" KEY
         "Sec-WebSocket-Version: 13\r\n\r\n",
         400},
        {"POST / HTTP/1.1\r\nHost: h\r\n" UPGRADE KEY "Sec-WebSocket-Version: 13\r\n\r\n", 405},
        {"GET / HTTP/1.1\r\nHost: h\r\n" UPGRADE KEY
         "Sec-WebSocket-Version: 13\r\nContent-Length: 5\r\n\r\n",
         400},
        {"GET / HTTP/1.1\r\nHost: h\r\n" UPGRADE KEY
         "Sec-WebSocket-Version: 13\r\nTransfer-Encoding: chunked\r\n\r\n",
         400},
        {"CONNECT h:80 HTTP/1.1\r\nHost: h\r\n\r\n", 400},
        {"GET /%zz HTTP/1.1\r\nHost: h\r\n\r\n", 400},
        {"GET /%00x HTTP/1.1\r\nHost: h\r\n\r\n", 400},
    };
    CHECK_OR_RETURN(begin(false));
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        char expected[32];
        CHECK_OR_RETURN(peer_connect(&p, &f));
        peer_send_text(&p, cases[i].request);
        snprintf(expected, sizeof expected, "HTTP/1.1 %d ", cases[i].status);
        const char *response = peer_read_all(&p);
        if (strncmp(response, expected, strlen(expected)) != 0) {
            CHECK_EQ_STR(response, cases[i].request);
            CHECK_EQ_STR(response, expected);
        }
        peer_close(&p);
    }
    CHECK_EQ_INT(f.opened, 0);
    fixture_stop(&f);
}

TEST(a_head_of_almost_8_kb_is_accepted_and_a_larger_one_ends_the_connection)
{
    char *headers = malloc(20000);
    int n = 0;
    CHECK_OR_RETURN(begin(false));
    for (int i = 0; i < 60; i++)
        n += sprintf(headers + n, "X-Header-%d: %0100d\r\n", i, i);
    char request[12000];
    snprintf(request, sizeof request, "GET / HTTP/1.1\r\nHost: localhost\r\n%s\r\n", headers);
    CHECK_OR_RETURN(peer_connect(&p, &f));
    peer_send_text(&p, request);
    CHECK(strncmp(peer_read_answer(&p), "HTTP/1.1 200", 12) == 0);
    saw("\nx-header-59: 0000000000");
    peer_close(&p);

    for (int i = 60; i < 140; i++)
        n += sprintf(headers + n, "X-Header-%d: %0100d\r\n", i, i);
    CHECK_OR_RETURN(peer_connect(&p, &f));
    peer_send_text(&p, "GET / HTTP/1.1\r\nHost: localhost\r\n");
    (void)peer_send_text(&p, headers);
    peer_expect_eof(&p);
    CHECK_EQ_INT(f.http_requests, 1);
    free(headers);
    end();
}

TEST(no_header_is_lost_wherever_it_stands)
{
    CHECK_OR_RETURN(begin(false));
    for (int pad = 0; pad < 130; pad++) {
        char headers[1024];
        int n = snprintf(headers, sizeof headers, "X-Pad: %0*d\r\n", pad + 1, 7);
        for (int i = 0; i < 8; i++)
            n += snprintf(headers + n, sizeof headers - (size_t)n, "X-H%d: %d\r\n", i, i);
        CHECK_OR_RETURN(peer_open(&p, &f, "/", headers));
        for (int i = 0; i < 8; i++) {
            char line[32];
            snprintf(line, sizeof line, "\nx-h%d: %d\n", i, i);
            saw(line);
        }
        peer_close(&p);
    }
    fixture_stop(&f);
}

TEST(a_stalled_handshake_is_ended)
{
    static const char *const beginnings[] = {"", "GET / HT",
                                             "GET / HTTP/1.1\r\nHost: h\r\nUpgrade: websocket\r\n"};
    for (int tls = 0; tls < 2; tls++) {
        for (size_t i = 0; i < sizeof beginnings / sizeof *beginnings; i++) {
            fixture_init(&f);
            f.config.handshake_timeout_ms = 300;
            if (tls)
                fixture_use_tls(&f);
            CHECK_OR_RETURN(fixture_start(&f));
            uint64_t start = fixture_now_ms();
            CHECK_OR_RETURN(peer_connect(&p, &f));
            peer_send_text(&p, beginnings[i]);
            peer_expect_eof(&p);
            CHECK(fixture_now_ms() - start > 200 && fixture_now_ms() - start < 3000);
            end();
        }
    }
}

TEST(a_stalled_tls_handshake_is_ended)
{
    fixture_init(&f);
    CHECK_OR_RETURN(fixture_start(&f)); /* makes the peer speak plain text ... */
    mesa_listener_free(f.listener);
    fixture_use_tls(&f);
    f.config.handshake_timeout_ms = 300;
    CHECK_OR_RETURN(fixture_start(&f));
    f.config.tls = NULL; /* ... to a listener that expects TLS */
    CHECK_OR_RETURN(peer_connect(&p, &f));
    peer_send(&p, "\x16\x03\x01\x02", 4);
    uint64_t start = fixture_now_ms();
    peer_expect_eof(&p);
    CHECK(fixture_now_ms() - start > 200 && fixture_now_ms() - start < 3000);
    peer_close(&p);
    CHECK_OR_RETURN(peer_connect(&p, &f));
    peer_send_text(&p, "GET / HTTP/1.1\r\nHost: h\r\n\r\n");
    peer_expect_eof(&p);
    end();
}

TEST(messages_that_come_with_the_handshake_are_delivered)
{
    CHECK_OR_RETURN(begin(false));
    f.echo = true;
    CHECK_OR_RETURN(peer_connect(&p, &f));
    static const char request[] =
        "GET / HTTP/1.1\r\nHost: h\r\n" UPGRADE KEY "Sec-WebSocket-Version: 13\r\n\r\n"
        "\x81\x82\0\0\0\0hi";
    peer_send(&p, request, sizeof request - 1);
    CHECK(WAIT_FOR(&f, f.opened == 1 && f.clients[0].messages == 1));
    CHECK_EQ_MEM(f.clients[0].last.data, f.clients[0].last.len, "hi", 2);
    end();
}

TEST(what_rfc_9112_forbids_in_a_head_is_400)
{
    static const char *const heads[] = {
        "GET / HTTP/1.1\r\nHost: a\r\nHost: a\r\n\r\n",
        "GET / HTTP/1.1\r\n\r\n",
        "GET / HTTP/1.1\r\nHost : h\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: h\r\nA: b\r\n c\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: h\nA: b\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: h\r\nA: \x01\r\n\r\n",
        "GET /caf\xc3\xa9 HTTP/1.1\r\nHost: h\r\n\r\n",
        "GET /a b HTTP/1.1\r\nHost: h\r\n\r\n",
        "GET / HTTP/1.0\r\nHost: h\r\nUpgrade: websocket\r\n\r\n",
        "GET / HTTP/3.0\r\nHost: h\r\n\r\n",
        "\x16\x03\x01\x02",
    };
    CHECK_OR_RETURN(begin(false));
    for (size_t i = 0; i < sizeof heads / sizeof *heads; i++) {
        CHECK_OR_RETURN(peer_connect(&p, &f));
        peer_send_text(&p, heads[i]);
        if (!CHECK(strncmp(peer_read_all(&p), "HTTP/1.1 400 ", 13) == 0))
            CHECK_EQ_STR(heads[i], "");
        CHECK_EQ_INT(f.refusals, (int)i + 1);
        peer_close(&p);
    }
    CHECK(strncmp(f.refusal, "HEADERS 127.0.0.1: ", 19) == 0);
    CHECK_EQ_INT(f.http_requests, 0);
    end();
}

TEST(a_head_of_more_than_128_headers_is_431)
{
    char head[4096];
    CHECK_OR_RETURN(begin(false));
    for (int count = 128; count <= 129; count++) {
        int n = snprintf(head, sizeof head, "GET / HTTP/1.1\r\nHost: h\r\n");
        for (int i = 1; i < count; i++)
            n += snprintf(head + n, sizeof head - (size_t)n, "X-%d: %d\r\n", i, i);
        snprintf(head + n, sizeof head - (size_t)n, "\r\n");
        CHECK_OR_RETURN(peer_connect(&p, &f));
        peer_send_text(&p, head);
        CHECK(strncmp(peer_read_answer(&p), count == 128 ? "HTTP/1.1 200 " : "HTTP/1.1 431 ", 13) ==
              0);
        peer_close(&p);
    }
    CHECK_EQ_STR(f.refusal, "HEADERS 127.0.0.1: the request head is larger than 8192 bytes or has "
                            "more than 128 headers");
    end();
}

TEST(values_of_repeated_headers_are_joined)
{
    CHECK_OR_RETURN(begin(false));
    CHECK_OR_RETURN(peer_open(
        &p, &f, "/", "X-A: 1\r\nCookie: a=1\r\nX-B: b\r\nx-a: 2\r\nCOOKIE: b=2\r\nX-A:\r\n"));
    CHECK(strstr(f.request.data, "\nx-a: 1, 2, \n") != NULL);
    CHECK(strstr(f.request.data, "\ncookie: a=1; b=2\n") != NULL);
    CHECK(strstr(f.request.data, "\nx-b: b\n") != NULL);
    end();
}
