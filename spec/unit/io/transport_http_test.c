/* transport_http_test.c - plain HTTP: bodies, answers now and later, peers that leave before, and
 * requests that lie about their length. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "fixture.h"
#include "test.h"

static struct fixture f;
static struct peer p;

static bool begin(void)
{
    fixture_init(&f);
    return CHECK(fixture_start(&f));
}

static void end(void)
{
    peer_close(&p);
    fixture_stop(&f);
}

static const char *ask(const char *request)
{
    peer_close(&p);
    if (!CHECK(peer_connect(&p, &f)))
        return "";
    (void)peer_send_text(&p, request);
    return peer_read_answer(&p);
}

static void expect_status(const char *request, int status)
{
    char expected[32];
    snprintf(expected, sizeof expected, "HTTP/1.1 %d ", status);
    const char *response = ask(request);
    if (!CHECK(strncmp(response, expected, strlen(expected)) == 0)) {
        CHECK_EQ_STR(request, "");
        CHECK_EQ_STR(response, expected);
    }
}

TEST(get_and_head_are_answered)
{
    p.fd = -1;
    CHECK_OR_RETURN(begin());
    const char *r = ask("GET /a/b?c=d HTTP/1.1\r\nHost: h\r\n\r\n");
    CHECK_EQ_STR(r, "HTTP/1.1 200 OK\r\n" BLANK_DATE
                    "Content-Length: 5\r\ncontent-type: text/plain\r\n\r\nhello");
    CHECK(strstr(f.request.data, "GET /a/b?c=d 127.0.0.1 []") != NULL);
    r = ask("HEAD / HTTP/1.1\r\nHost: h\r\n\r\n");
    CHECK_EQ_STR(r, "HTTP/1.1 200 OK\r\n" BLANK_DATE
                    "Content-Length: 5\r\ncontent-type: text/plain\r\n\r\n");
    end();
}

TEST(methods_with_bodies_are_given_the_whole_body)
{
    static const char *const methods[] = {"POST", "PUT", "PATCH", "DELETE", "OPTIONS", "GET"};
    char request[256];
    p.fd = -1;
    CHECK_OR_RETURN(begin());
    for (size_t i = 0; i < sizeof methods / sizeof *methods; i++) {
        snprintf(request, sizeof request,
                 "%s / HTTP/1.1\r\nHost: h\r\nContent-Length: 11\r\n\r\nhello world", methods[i]);
        expect_status(request, 200);
        CHECK_EQ_MEM(f.body.data, f.body.len, "hello world", 11);
    }
    expect_status("POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 0\r\n\r\n", 200);
    CHECK_EQ_INT(f.body.len, 0);
    expect_status("POST / HTTP/1.1\r\nHost: h\r\n\r\n", 200);
    CHECK_EQ_INT(f.http_requests, 8);
    end();
}

TEST(a_body_may_come_in_pieces)
{
    CHECK_OR_RETURN(begin());
    CHECK_OR_RETURN(peer_connect(&p, &f));
    peer_send_text(
        &p, "POST / HTTP/1.1\r\nHost: h\r\nExpect: 100-continue\r\nContent-Length: 60000\r\n\r\n");
    CHECK(WAIT_FOR(&f, (peer_poll(&p), p.in.len >= 25)));
    CHECK_EQ_MEM(p.in.data, p.in.len, "HTTP/1.1 100 Continue\r\n\r\n", 25);
    peer_consume(&p, 25);
    char *piece = malloc(6000);
    for (int i = 0; i < 10; i++) {
        memset(piece, '0' + i, 6000);
        CHECK_EQ_INT(f.http_requests, 0);
        peer_send(&p, piece, 6000);
        for (int turns = 0; turns < 5; turns++)
            fixture_turn(&f);
    }
    CHECK(strncmp(peer_read_answer(&p), "HTTP/1.1 200", 12) == 0);
    CHECK_EQ_INT(f.body.len, 60000);
    for (int i = 0; i < 10; i++)
        CHECK(f.body.data[i * 6000] == '0' + i && f.body.data[i * 6000 + 5999] == '0' + i);
    free(piece);
    end();
}

TEST(lengths_that_lie_are_refused)
{
    p.fd = -1;
    CHECK_OR_RETURN(begin());
    expect_status("POST / HTTP/1.1\r\nHost: h\r\nContent-Length: -1\r\n\r\nx", 400);
    expect_status("POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 1x\r\n\r\nx", 400);
    expect_status("POST / HTTP/1.1\r\nHost: h\r\nContent-Length: +1\r\n\r\nx", 400);
    expect_status("POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 99999999999999999999999\r\n\r\nx",
                  400);
    expect_status("POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 18446744073709551617\r\n\r\nx",
                  400);
    expect_status("POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 1\r\nContent-Length: 1\r\n\r\nx",
                  400);
    expect_status("GET / HTTP/1.1\r\nHost: h\r\nContent-Length: 1, 1\r\n\r\nx", 400);
    expect_status(
        "POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nx\r\n0\r\n\r\n", 411);
    expect_status(
        "POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        411);
    CHECK_EQ_INT(f.http_requests, 0);
    end();
}

TEST(a_body_over_the_limit_is_refused_even_while_it_is_being_sent)
{
    p.fd = -1;
    CHECK_OR_RETURN(begin());
    expect_status("POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 65537\r\n\r\n", 413);
    peer_close(&p);
    CHECK_OR_RETURN(peer_connect(&p, &f));
    char *body = calloc(1, 1 << 20);
    peer_send_text(&p, "POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 1048576\r\n\r\n");
    (void)peer_send(&p, body, 1 << 20);
    free(body);
    CHECK(strncmp(peer_read_all(&p), "HTTP/1.1 413", 12) == 0);
    CHECK_EQ_INT(f.http_requests, 0);
    end();
}

TEST(a_request_may_be_answered_later)
{
    CHECK_OR_RETURN(begin());
    f.hold_http = true;
    CHECK_OR_RETURN(peer_connect(&p, &f));
    peer_send_text(&p, "POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 2\r\n\r\nab");
    CHECK(WAIT_FOR(&f, f.http != NULL));
    for (int i = 0; i < 30; i++)
        fixture_turn(&f);
    mesa_http_reply(f.http, 201, NULL, 0, "later", 5);
    CHECK_EQ_STR(peer_read_answer(&p),
                 "HTTP/1.1 201 Created\r\n" BLANK_DATE "Content-Length: 5\r\n\r\nlater");
    end();
}

/* A loop that sleeps makes about one turn a millisecond here. */
static int turns_in_100_ms(void)
{
    int turns = 0;
    for (uint64_t until = fixture_now_ms() + 100; fixture_now_ms() < until; turns++)
        fixture_turn(&f);
    return turns;
}

TEST(the_loop_does_not_spin_while_an_answer_is_awaited)
{
    CHECK_OR_RETURN(begin());
    f.hold_http = true;
    CHECK_OR_RETURN(peer_connect(&p, &f));
    peer_send_text(&p, "GET / HTTP/1.1\r\nHost: h\r\n\r\nGET /second HTTP/1.1\r\nHost: h\r\n\r\n");
    peer_end(&p);
    CHECK(WAIT_FOR(&f, f.http != NULL));
    for (int i = 0; i < 20; i++)
        fixture_turn(&f);
    CHECK(turns_in_100_ms() < 200);
    mesa_http_reply(f.http, 200, NULL, 0, "ok", 2);
    f.hold_http = false;
    (void)peer_read_all(&p);
    CHECK_EQ_INT(f.http_requests, 2);
    end();
}

TEST(the_loop_does_not_spin_while_a_reader_stalls)
{
    size_t len = 16u << 20;
    char *body = calloc(1, len);
    CHECK_OR_RETURN(begin());
    f.hold_http = true;
    CHECK_OR_RETURN(peer_connect(&p, &f));
    peer_send_text(&p, "GET / HTTP/1.1\r\nHost: h\r\n\r\n");
    CHECK(WAIT_FOR(&f, f.http != NULL));
    mesa_http_reply(f.http, 200, NULL, 0, body, len);
    peer_end(&p);
    CHECK(WAIT_FOR(&f, turns_in_100_ms() < 200)); /* once the kernel's buffers are full */
    (void)peer_read_all(&p);
    CHECK(p.in.len > len);
    free(body);
    end();
}

TEST(an_answer_to_a_peer_that_has_left_is_dropped)
{
    for (int i = 0; i < 2; i++) {
        CHECK_OR_RETURN(begin());
        f.hold_http = true;
        CHECK_OR_RETURN(peer_connect(&p, &f));
        peer_send_text(&p, "GET / HTTP/1.1\r\nHost: h\r\n\r\n");
        CHECK(WAIT_FOR(&f, f.http != NULL));
        peer_reset(&p);
        for (int turns = 0; turns < 20; turns++)
            fixture_turn(&f);
        mesa_http_reply(f.http, 200, NULL, 0, "too late", 8);
        for (int turns = 0; turns < 20; turns++)
            fixture_turn(&f);
        fixture_stop(&f);
    }
}

TEST(an_answer_after_the_transport_is_gone_is_safe)
{
    CHECK_OR_RETURN(begin());
    f.hold_http = true;
    CHECK_OR_RETURN(peer_connect(&p, &f));
    peer_send_text(&p, "GET / HTTP/1.1\r\nHost: h\r\n\r\n");
    CHECK(WAIT_FOR(&f, f.http != NULL));
    struct mesa_http *h = f.http;
    fixture_stop(&f);
    mesa_http_reply(h, 200, NULL, 0, "too late", 8);
    peer_close(&p);
}

TEST(an_unsafe_header_becomes_500)
{
    static const struct mesa_header bad[] = {{{"x", 1}, {"a\r\nSet-Cookie: b", 16}}};
    CHECK_OR_RETURN(begin());
    f.hold_http = true;
    CHECK_OR_RETURN(peer_connect(&p, &f));
    peer_send_text(&p, "GET / HTTP/1.1\r\nHost: h\r\n\r\n");
    CHECK(WAIT_FOR(&f, f.http != NULL));
    mesa_http_reply(f.http, 200, bad, 1, "body", 4);
    CHECK_EQ_STR(peer_read_answer(&p),
                 "HTTP/1.1 500 Internal Server Error\r\n" BLANK_DATE "Content-Length: 0\r\n\r\n");
    end();
}

TEST(a_large_answer_reaches_a_slow_reader_whole)
{
    size_t len = 8u << 20;
    char *body = malloc(len);
    for (size_t i = 0; i < len; i++)
        body[i] = (char)(i >> 10);
    CHECK_OR_RETURN(begin());
    f.hold_http = true;
    CHECK_OR_RETURN(peer_connect(&p, &f));
    peer_send_text(&p, "GET / HTTP/1.1\r\nHost: h\r\n\r\n");
    CHECK(WAIT_FOR(&f, f.http != NULL));
    mesa_http_reply(f.http, 200, NULL, 0, body, len);
    for (int i = 0; i < 100; i++)
        fixture_turn(&f);
    const char *r = peer_read_answer(&p);
    const char *at = strstr(r, "\r\n\r\n");
    if (CHECK(at != NULL))
        CHECK_EQ_MEM(at + 4, p.in.len - 1 - (size_t)(at + 4 - r), body, len);
    end();
    free(body);
}
