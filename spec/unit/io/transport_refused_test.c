/* transport_refused_test.c - peers that are turned away before they are a connection: what they are
 * answered, and what the layer above is told. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "fixture.h"
#include "test.h"

#define UPGRADE                                                                             \
    "Host: h\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n" \
    "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"

static struct fixture f;
static struct peer p;

static bool begin(void)
{
    fixture_init(&f);
    f.config.handshake_timeout_ms = 300;
    return CHECK(fixture_start(&f));
}

static void end(void)
{
    fixture_stop(&f);
}

/* Sends `request` and expects `status` (0: the end without an answer) and a report that begins
 * with `refusal` (NULL: none). */
static void expect(const char *request, int status, const char *refusal)
{
    char line[32];
    int before = f.refusals;
    CHECK_OR_RETURN(peer_connect(&p, &f));
    (void)peer_send_text(&p, request);
    const char *answer = status == 200 ? peer_read_answer(&p) : peer_read_all(&p);
    snprintf(line, sizeof line, " %d ", status);
    if (status == 0)
        CHECK_EQ_STR(answer, "");
    else if (!CHECK(strlen(answer) > 13 && strncmp(answer + 8, line, 5) == 0))
        CHECK_EQ_STR(answer, request);
    CHECK_EQ_INT(f.refusals - before, refusal != NULL);
    if (refusal != NULL && !CHECK(strncmp(f.refusal, refusal, strlen(refusal)) == 0))
        CHECK_EQ_STR(f.refusal, request);
    peer_close(&p);
}

static char *long_head(int bytes)
{
    char *head = malloc((size_t)bytes + 200);
    int n = sprintf(head, "GET / HTTP/1.1\r\nHost: h\r\n");
    for (int i = 0; n < bytes; i++)
        n += sprintf(head + n, "X-Header-%d: %0100d\r\n", i, i);
    strcpy(head + n, "\r\n");
    return head;
}

TEST(a_request_head_over_8_kb_is_431_and_reported)
{
    static const int sizes[] = {8400, 12000, 18000};
    CHECK_OR_RETURN(begin());
    for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++) {
        char *head = long_head(sizes[i]);
        expect(head, 431, "HEADERS 127.0.0.1: the request head is larger than 8192 bytes");
        free(head);
    }
    char *head = long_head(300000);
    expect(head, 431, "HEADERS 127.0.0.1: ");
    free(head);
    CHECK_EQ_INT(f.http_requests, 0);
    end();
}

TEST(what_is_no_request_is_reported)
{
    CHECK_OR_RETURN(begin());
    expect("BREW / HTTP/1.1\r\nHost: h\r\n\r\n", 200,
           NULL); /* whoever answers may know the method */
    expect("GET /%zz HTTP/1.1\r\nHost: h\r\n\r\n", 400, "HEADERS 127.0.0.1: ");
    expect("GET / HTTP/1.1\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nHost: h\r\n\r\n", 426,
           "HANDSHAKE 127.0.0.1: ");
    end();
}

TEST(a_handshake_that_stalls_is_reported_and_silence_is_not)
{
    CHECK_OR_RETURN(begin());
    expect("GET / HT", 0, "HANDSHAKE 127.0.0.1: ");
    expect("GET / HTTP/1.1\r\nHost: h\r\nUpgrade: web", 0, "HANDSHAKE 127.0.0.1: ");
    expect("", 0, NULL);
    CHECK_OR_RETURN(peer_connect(&p, &f));
    peer_close(&p);
    CHECK_OR_RETURN(peer_connect(&p, &f));
    peer_send_text(&p, "GET / HTTP/1.1\r\n");
    fixture_turn(&f);
    peer_close(&p);
    CHECK_OR_RETURN(peer_connect(&p, &f));
    peer_reset(&p);
    uint64_t start = fixture_now_ms();
    (void)WAIT_FOR(&f, fixture_now_ms() - start > 500);
    CHECK_EQ_INT(f.refusals, 2);
    end();
}

TEST(connections_above_a_limit_are_reported)
{
    for (int per_ip = 0; per_ip < 2; per_ip++) {
        struct peer first;
        fixture_init(&f);
        f.config.tls = NULL;
        f.config.max_connections = per_ip ? 0 : 1;
        f.config.max_connections_per_ip = per_ip ? 1 : 0;
        CHECK_OR_RETURN(CHECK(fixture_start(&f)));
        CHECK_OR_RETURN(peer_open(&first, &f, "/", ""));
        CHECK_OR_RETURN(peer_connect(&p, &f));
        peer_expect_eof(&p);
        peer_close(&p);
        CHECK_EQ_INT(f.refusals, 1);
        CHECK_EQ_STR(f.refusal,
                     per_ip ? "LIMIT 127.0.0.1: more connections than limits.maxConnectionsPerIp"
                            : "LIMIT 127.0.0.1: more connections than limits.maxConnections");
        peer_close(&first);
        end();
    }
}

TEST(a_refusal_may_free_the_listener)
{
    static const char *const requests[] = {
        "GET / HT",
        "BREW / HTTP/1.1\r\n\r\n",
        "GET /%00 HTTP/1.1\r\nHost: h\r\n\r\n",
        "GET /%00 HTTP/1.1\r\n" UPGRADE "\r\n",
        "GET / HTTP/1.1\r\nHost: h\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n",
    };
    for (size_t i = 0; i <= sizeof requests / sizeof *requests; i++) {
        fixture_init(&f);
        f.free_on_refusal = true;
        f.config.handshake_timeout_ms = 300;
        f.config.max_connections = i < sizeof requests / sizeof *requests ? 0 : 1;
        CHECK_OR_RETURN(CHECK(fixture_start(&f)));
        struct peer other;
        CHECK_OR_RETURN(peer_connect(&p, &f));
        if (f.config.max_connections == 0)
            peer_send_text(&p, requests[i]);
        else
            (void)peer_connect(&other, &f);
        CHECK(WAIT_FOR(&f, f.refusals == 1));
        peer_expect_eof(&p);
        peer_close(&p);
        if (f.config.max_connections != 0)
            peer_close(&other);
        CHECK(f.listener == NULL);
        end();
    }
}

TEST(a_header_named_like_the_beginning_of_another_is_a_header_of_its_own)
{
    static const char *const names[] = {"X", "X-A", "X-Auth", "X-Forwarded", "Content", "Auth"};
    char request[1024];
    CHECK_OR_RETURN(begin());
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        snprintf(request, sizeof request, "GET / HTTP/1.1\r\nHost: h\r\n%s: v:w\r\n\r\n", names[i]);
        expect(request, 200, NULL);
        snprintf(request, sizeof request, "%s: v\r\nOrigin: http://a\r\n", names[i]);
        CHECK_OR_RETURN(peer_open(&p, &f, "/", request));
        CHECK(strstr(f.request.data, ": v\norigin: http://a\n") != NULL);
        peer_close(&p);
    }
    end();
}

TEST(a_nul_in_a_path_is_400)
{
    static const char *const targets[] = {"/%00", "/sub/%00", "/%00x", "/%00?a=1", "/%00?/"};
    char request[512];
    CHECK_OR_RETURN(begin());
    for (size_t i = 0; i < sizeof targets / sizeof *targets; i++) {
        snprintf(request, sizeof request, "GET %s HTTP/1.1\r\nHost: h\r\n\r\n", targets[i]);
        expect(request, 400, "HEADERS 127.0.0.1: ");
        snprintf(request, sizeof request, "GET %s HTTP/1.1\r\n" UPGRADE "\r\n", targets[i]);
        expect(request, 400, "HEADERS 127.0.0.1: ");
    }
    expect("GET /%00%00 HTTP/1.1\r\nHost: h\r\n\r\n", 400, "HEADERS 127.0.0.1: ");
    CHECK_EQ_INT(f.http_requests, 0);
    end();
}

TEST(paths_that_are_resolved_are_not_mistaken_for_it)
{
    static const char *const targets[][2] = {
        {"/", "/?"},
        {"/a/..", "/?"},
        {"/a/../?x=1", "/?x=1"},
        {"/a/b/..", "/a/?"},
        {"//a/./b", "/a/b?"},
        {"/a?x", "/a?x"},
        {"/?", "/?"},
        {"/live?", "/live?"},
        {"/a?x=1&", "/a?x=1&"},
        {"/a?&x=1", "/a?&x=1"},
        {"/a?x=%2f", "/a?x=%2f"},
        {"/a?b&&c", "/a?b&&c"},
        {"/a?/b", "/a?/b"},
    };
    char text[256];
    CHECK_OR_RETURN(begin());
    for (size_t i = 0; i < sizeof targets / sizeof *targets; i++) {
        snprintf(text, sizeof text, "GET %s HTTP/1.1\r\nHost: h\r\n\r\n", targets[i][0]);
        expect(text, 200, NULL);
        snprintf(text, sizeof text, "GET %s 127.0.0.1 ", targets[i][1]);
        if (!CHECK(strncmp(f.request.data, text, strlen(text)) == 0))
            CHECK_EQ_STR(f.request.data, text);
    }
    end();
}

TEST(a_subprotocol_that_is_no_token_is_400)
{
    static const char *const offers[] = {"http/1.1", "a b", "x(y)", "\"q\"", "h/2, chat"};
    char request[512];
    CHECK_OR_RETURN(begin());
    for (size_t i = 0; i < sizeof offers / sizeof *offers; i++) {
        snprintf(request, sizeof request,
                 "GET / HTTP/1.1\r\n" UPGRADE "Sec-WebSocket-Protocol: %s\r\n\r\n", offers[i]);
        expect(request, 400, "HANDSHAKE 127.0.0.1: ");
    }
    CHECK_OR_RETURN(peer_open(&p, &f, "/", "Sec-WebSocket-Protocol: a!#$%&'*+-.^_`|~b, h/2\r\n"));
    peer_close(&p);
    end();
}
