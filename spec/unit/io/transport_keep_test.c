/* transport_keep_test.c - many requests on one connection: their order and bounds, what ends
 * it, and what it may become. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

#include "fixture.h"
#include "test.h"

#define GET(path) "GET " path " HTTP/1.1\r\nHost: h\r\n\r\n"
#define OK \
    "HTTP/1.1 200 OK\r\n" BLANK_DATE "Content-Length: 5\r\ncontent-type: text/plain\r\n\r\nhello"
#define OK_LAST                      \
    "HTTP/1.1 200 OK\r\n" BLANK_DATE \
    "Connection: close\r\nContent-Length: 5\r\ncontent-type: text/plain\r\n\r\nhello"
#define UPGRADE                                                                  \
    "GET / HTTP/1.1\r\nHost: h\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n" \
    "Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"

static struct fixture f;
static struct peer p;

static bool begin(void)
{
    fixture_init(&f);
    return CHECK(fixture_start(&f)) && CHECK(peer_connect(&p, &f));
}

static void end(void)
{
    peer_close(&p);
    fixture_stop(&f);
}

/* Waits for exactly these bytes, and forgets them. */
static void expect(const char *text)
{
    size_t len = strlen(text);
    CHECK(WAIT_FOR(&f, (peer_poll(&p), p.in.len >= len || p.eof)));
    peer_blank_dates(&p);
    CHECK_EQ_MEM(p.in.data, p.in.len < len ? p.in.len : len, text, len);
    peer_consume(&p, p.in.len < len ? p.in.len : len);
}

TEST(requests_come_one_after_the_other)
{
    CHECK_OR_RETURN(begin());
    for (int i = 1; i <= 100; i++) {
        peer_send_text(&p, GET("/one"));
        expect(OK);
        CHECK_EQ_INT(f.http_requests, i);
    }
    CHECK(!p.eof);
    end();
}

TEST(requests_that_come_at_once_are_answered_in_order_one_at_a_time)
{
    char number[8];
    CHECK_OR_RETURN(begin());
    f.hold_http = true;
    peer_send_text(
        &p, GET("/1") "POST /2 HTTP/1.1\r\nHost: h\r\nContent-Length: 7\r\n\r\nGET / H" GET("/3"));
    for (int i = 1; i <= 3; i++) {
        CHECK_OR_RETURN(CHECK(WAIT_FOR(&f, f.http != NULL)));
        for (int turns = 0; turns < 10; turns++)
            fixture_turn(&f);
        CHECK_EQ_INT(f.http_requests, i);
        CHECK(f.request.data[i == 2 ? 6 : 5] == '0' + i);
        CHECK_EQ_MEM(f.body.data, f.body.len, "GET / H", i == 2 ? 7 : 0);
        struct mesa_http *h = f.http;
        f.http = NULL;
        snprintf(number, sizeof number, "no. %d", i);
        mesa_http_reply(h, 200, NULL, 0, number, 5);
    }
    expect("HTTP/1.1 200 OK\r\n" BLANK_DATE "Content-Length: 5\r\n\r\nno. 1"
           "HTTP/1.1 200 OK\r\n" BLANK_DATE "Content-Length: 5\r\n\r\nno. 2"
           "HTTP/1.1 200 OK\r\n" BLANK_DATE "Content-Length: 5\r\n\r\nno. 3");
    end();
}

TEST(a_stream_of_requests_may_be_cut_anywhere)
{
    static const char stream[] =
        GET("/a") "PUT /b HTTP/1.1\r\nHost: h\r\nContent-Length: 3\r\n\r\nabc" GET("/c");
    size_t len = sizeof stream - 1;
    CHECK_OR_RETURN(begin());
    for (size_t cut = 1; cut < len; cut++) {
        peer_send(&p, stream, cut);
        for (int turns = 0; turns < 3; turns++)
            fixture_turn(&f);
        peer_send(&p, stream + cut, len - cut);
        expect(OK OK OK);
        CHECK_OR_RETURN(CHECK_EQ_INT(f.http_requests, 3 * (int)cut));
    }
    end();
}

TEST(who_wants_no_more_is_told_so_and_gets_no_more)
{
    static const char *const last[] = {
        "GET / HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: h\r\nConnection: foo, Close\r\n\r\n",
        "GET / HTTP/1.0\r\n\r\n",
    };
    for (size_t i = 0; i < sizeof last / sizeof *last; i++) {
        CHECK_OR_RETURN(begin());
        peer_send_text(&p, GET("/"));
        expect(OK);
        peer_send_text(&p, last[i]);
        peer_send_text(&p, GET("/ignored"));
        expect(OK_LAST);
        peer_expect_eof(&p);
        CHECK_EQ_INT(f.http_requests, 2);
        end();
    }
}

TEST(what_cannot_be_read_ends_the_connection_with_an_answer)
{
    static const struct {
        const char *request, *status;
    } bad[] = {
        {"nonsense\r\n\r\n", "HTTP/1.1 400 "},
        {"POST / HTTP/1.1\r\nHost: h\r\nContent-Length: x\r\n\r\n", "HTTP/1.1 400 "},
        {"POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
         "HTTP/1.1 411 "},
        {"POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 99999999\r\n\r\n" GET("/hidden"),
         "HTTP/1.1 413 "},
    };
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        CHECK_OR_RETURN(begin());
        peer_send_text(&p, GET("/"));
        expect(OK);
        peer_send_text(&p, bad[i].request);
        expect(bad[i].status);
        CHECK(strstr(peer_read_all(&p), "\r\nConnection: close\r\n") != NULL);
        CHECK_EQ_INT(f.http_requests, 1);
        end();
    }
}

TEST(answers_without_a_body_leave_the_place_of_the_next_one)
{
    static const int statuses[] = {204, 304};
    CHECK_OR_RETURN(begin());
    peer_send_text(&p, "HEAD / HTTP/1.1\r\nHost: h\r\n\r\n");
    expect("HTTP/1.1 200 OK\r\n" BLANK_DATE
           "Content-Length: 5\r\ncontent-type: text/plain\r\n\r\n");
    f.hold_http = true;
    for (size_t i = 0; i < 2; i++) {
        peer_send_text(&p, GET("/"));
        CHECK_OR_RETURN(CHECK(WAIT_FOR(&f, f.http != NULL)));
        struct mesa_http *h = f.http;
        f.http = NULL;
        mesa_http_reply(h, statuses[i], NULL, 0, "no body", 7);
        expect(i == 0 ? "HTTP/1.1 204 No Content\r\n" BLANK_DATE "\r\n"
                      : "HTTP/1.1 304 Not Modified\r\n" BLANK_DATE "\r\n");
    }
    f.hold_http = false;
    peer_send_text(&p, GET("/"));
    expect(OK);
    end();
}

TEST(a_large_answer_is_followed_by_the_next_one)
{
    size_t len = 8u << 20;
    char *body = calloc(1, len);
    CHECK_OR_RETURN(begin());
    f.hold_http = true;
    peer_send_text(&p, GET("/large") GET("/next"));
    CHECK_OR_RETURN(CHECK(WAIT_FOR(&f, f.http != NULL)));
    f.hold_http = false;
    mesa_http_reply(f.http, 200, NULL, 0, body, len);
    for (int turns = 0; turns < 50; turns++)
        fixture_turn(&f);
    CHECK_EQ_INT(f.http_requests, 1);
    expect("HTTP/1.1 200 OK\r\n" BLANK_DATE "Content-Length: 8388608\r\n\r\n");
    CHECK(WAIT_FOR(&f, (peer_poll(&p), p.in.len >= len)));
    peer_consume(&p, len);
    expect(OK);
    free(body);
    end();
}

TEST(a_connection_may_become_a_web_socket_later)
{
    CHECK_OR_RETURN(begin());
    f.echo = true;
    peer_send_text(&p, GET("/page"));
    expect(OK);
    peer_send_text(&p, UPGRADE);
    CHECK(WAIT_FOR(&f, f.opened == 1));
    expect("HTTP/1.1 101 ");
    CHECK(WAIT_FOR(&f, (peer_poll(&p), memmem(p.in.data, p.in.len, "\r\n\r\n", 4) != NULL)));
    peer_consume(&p, (size_t)((char *)memmem(p.in.data, p.in.len, "\r\n\r\n", 4) + 4 - p.in.data));
    peer_send_frame(&p, 0x81, "echo", 4);
    peer_expect(&p, 1, "echo");
    end();
}

TEST(an_idle_connection_ends_in_time_and_nobody_is_told)
{
    for (int half = 0; half < 2; half++) {
        fixture_init(&f);
        f.config.handshake_timeout_ms = 200;
        CHECK_OR_RETURN(CHECK(fixture_start(&f)) && CHECK(peer_connect(&p, &f)));
        peer_send_text(&p, GET("/"));
        expect(OK);
        if (half)
            peer_send_text(&p, "GET / HT");
        peer_expect_eof(&p);
        CHECK_EQ_INT(f.refusals, half);
        end();
    }
}

TEST(a_listener_that_stops_accepting_ends_its_connections_with_their_next_answer)
{
    CHECK_OR_RETURN(begin());
    peer_send_text(&p, GET("/"));
    expect(OK);
    mesa_listener_stop(f.listener);
    peer_send_text(&p, GET("/"));
    expect(OK_LAST);
    peer_expect_eof(&p);
    end();
}

TEST(a_peer_may_leave_between_requests_and_in_the_middle_of_one)
{
    static const char *const rests[] = {
        "", "GE", "POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 9\r\n\r\nabc"};
    CHECK_OR_RETURN(begin());
    peer_close(&p);
    for (size_t i = 0; i < 3; i++)
        for (int how = 0; how < 3; how++) {
            CHECK_OR_RETURN(peer_connect(&p, &f));
            peer_send_text(&p, GET("/"));
            expect(OK);
            peer_send_text(&p, rests[i]);
            for (int turns = 0; turns < 5; turns++)
                fixture_turn(&f);
            if (how == 0)
                peer_reset(&p);
            else if (how == 1)
                peer_end(&p);
            if (how == 1)
                peer_expect_eof(&p);
            peer_close(&p);
            for (int turns = 0; turns < 5; turns++)
                fixture_turn(&f);
        }
    CHECK_EQ_INT(f.http_requests, 9);
    CHECK_EQ_INT(f.refusals, 0);
    end();
}
