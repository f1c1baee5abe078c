/* transport_fair_test.c - one peer that sends without end leaves all others their turn. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "fixture.h"
#include "test.h"

enum {
    MANY = 4000,
    FRAME = 10, /* bytes of one with four digits */
    /* 256 are a slice, and slices that take no time may follow one another */
    BEFORE_OTHERS = 1024,
    CROWD = 5,
};

static struct fixture f;
static struct peer flooder, other, crowd[CROWD];
/* Of the flooder: messages handled, and whether each came behind the one before. */
static int flooded, seen_when_other_came;
static bool in_order;
static int busy_ms; /* of each message of a flooder */

static void work(void)
{
    uint64_t end = uv_hrtime() + (uint64_t)busy_ms * 1000000;
    while (uv_hrtime() < end) {
    }
}

static void on_message(struct fixture_client *c, const char *data, size_t len)
{
    if (len == 5) {
        seen_when_other_came = flooded + f.http_requests + f.clients[0].pongs;
        return;
    }
    char digits[16];
    snprintf(digits, sizeof digits, "%04d", flooded);
    in_order = in_order && len == 4 && memcmp(data, digits, 4) == 0;
    flooded++;
    work();
    (void)c;
}

static bool start(void)
{
    fixture_init(&f);
    f.on_message = on_message;
    flooded = 0;
    seen_when_other_came = -1;
    in_order = true;
    busy_ms = 0;
    return CHECK(fixture_start(&f));
}

/* Lets the kernel forget who was ready: whoever sends first is told of first. */
static void settle(void)
{
    for (int i = 0; i < 5; i++)
        fixture_turn(&f);
}

static bool begin(void)
{
    if (!start() || !CHECK(peer_open(&flooder, &f, "/", "")) ||
        !CHECK(peer_open(&other, &f, "/", "")))
        return false;
    settle();
    return true;
}

static void end(void)
{
    peer_close(&flooder);
    peer_close(&other);
    fixture_stop(&f);
}

/* Sends `count` numbered messages in one piece. */
static bool flood(struct peer *p, int count)
{
    char *frames = malloc((size_t)count * FRAME), digits[16];
    for (int i = 0; i < count; i++) {
        snprintf(digits, sizeof digits, "%04d", i);
        memcpy(frames + i * FRAME, "\x81\x84\0\0\0\0", 6);
        memcpy(frames + i * FRAME + 6, digits, 4);
    }
    bool sent = peer_send(p, frames, (size_t)count * FRAME);
    free(frames);
    return CHECK(sent);
}

TEST(so_many_messages_at_most_come_before_another_peer)
{
    CHECK_OR_RETURN(begin());
    CHECK_OR_RETURN(flood(&flooder, MANY));
    peer_send_frame(&other, 0x81, "other", 5);
    CHECK(WAIT_FOR(&f, seen_when_other_came >= 0));
    CHECK(seen_when_other_came <= BEFORE_OTHERS);
    CHECK(WAIT_FOR(&f, flooded == MANY));
    CHECK(in_order);
    end();
}

TEST(with_a_slow_handler_it_is_a_few)
{
    CHECK_OR_RETURN(begin());
    busy_ms = 2;
    CHECK_OR_RETURN(flood(&flooder, 100));
    peer_send_frame(&other, 0x81, "other", 5);
    CHECK(WAIT_FOR(&f, seen_when_other_came >= 0));
    CHECK(seen_when_other_came <= 3);
    CHECK(WAIT_FOR(&f, flooded == 100));
    CHECK(in_order);
    end();
}

TEST(a_new_connection_waits_for_a_few_too)
{
    struct peer late;
    CHECK_OR_RETURN(begin());
    busy_ms = 2;
    CHECK_OR_RETURN(flood(&flooder, 400));
    CHECK_OR_RETURN(CHECK(peer_open(&late, &f, "/", "")));
    CHECK(flooded <= 40);
    peer_close(&late);
    end();
}

TEST(frames_without_a_message_count_as_well)
{
    enum { PONGS = 10000 };
    CHECK_OR_RETURN(begin());
    char *pongs = malloc(PONGS * 6);
    for (int i = 0; i < PONGS; i++)
        memcpy(pongs + i * 6, "\x8a\x80\0\0\0\0", 6);
    CHECK(peer_send(&flooder, pongs, PONGS * 6));
    free(pongs);
    peer_send_frame(&other, 0x81, "other", 5);
    CHECK(WAIT_FOR(&f, seen_when_other_came >= 0));
    CHECK(seen_when_other_came < PONGS);
    CHECK(WAIT_FOR(&f, f.clients[0].pongs == PONGS));
    end();
}

TEST(so_do_requests_in_one_piece)
{
    static const char request[] = "GET / HTTP/1.1\r\nHost: h\r\n\r\n";
    enum { REQUESTS = 2000, LEN = sizeof request - 1 };
    CHECK_OR_RETURN(start());
    CHECK_OR_RETURN(CHECK(peer_open(&other, &f, "/", "")));
    CHECK_OR_RETURN(CHECK(peer_connect(&flooder, &f)));
    settle();
    char *requests = malloc((size_t)REQUESTS * LEN);
    for (int i = 0; i < REQUESTS; i++)
        memcpy(requests + (size_t)i * LEN, request, LEN);
    CHECK(peer_send(&flooder, requests, (size_t)REQUESTS * LEN));
    free(requests);
    int before = f.http_requests; /* sending may have taken turns */
    peer_send_frame(&other, 0x81, "other", 5);
    CHECK(WAIT_FOR(&f, seen_when_other_came >= 0));
    CHECK(seen_when_other_came - before <= BEFORE_OTHERS);
    CHECK(WAIT_FOR(&f, (peer_poll(&flooder), f.http_requests == REQUESTS)));
    end();
}

TEST(busy_peers_go_on_in_turns)
{
    enum { EACH = 100 };
    CHECK_OR_RETURN(start());
    busy_ms = 3; /* more than a slice */
    for (int i = 0; i < CROWD; i++)
        CHECK_OR_RETURN(CHECK(peer_open(&crowd[i], &f, "/", "")));
    for (int i = 0; i < CROWD; i++)
        CHECK_OR_RETURN(flood(&crowd[i], EACH));
    int from[CROWD];
    for (int i = 0; i < CROWD; i++)
        from[i] = f.clients[i].messages;
    int target = flooded + 20 * CROWD;
    CHECK(WAIT_FOR(&f, flooded >= target));
    for (int i = 0; i < CROWD; i++)
        CHECK(f.clients[i].messages - from[i] >= 15 && f.clients[i].messages - from[i] <= 25);
    for (int i = 0; i < CROWD; i++)
        peer_close(&crowd[i]);
    fixture_stop(&f);
}

/* Of what waits in sockets, and not in the server, the kernel would tell in the same order each time. */
TEST(peers_that_send_one_slow_message_at_a_time_take_turns_too)
{
    CHECK_OR_RETURN(start());
    busy_ms = 2;
    for (int i = 0; i < CROWD; i++)
        CHECK_OR_RETURN(CHECK(peer_open(&crowd[i], &f, "/", "")));
    for (int round = 0; round < 20 * CROWD; round++) {
        for (int i = 0; i < CROWD; i++)
            if (f.clients[i].messages == round / CROWD || i == 0)
                CHECK_OR_RETURN(peer_send_frame(&crowd[i], 0x81, "1234", 4));
        fixture_turn(&f);
    }
    for (int i = 1; i < CROWD; i++)
        CHECK(f.clients[i].messages >= 15);
    for (int i = 0; i < CROWD; i++)
        peer_close(&crowd[i]);
    fixture_stop(&f);
}

static void pause_at_ten(struct fixture_client *c, const char *data, size_t len)
{
    on_message(c, data, len);
    if (flooded == 10)
        mesa_conn_pause(c->conn);
}

TEST(what_is_kept_waits_while_reading_is_stopped)
{
    CHECK_OR_RETURN(begin());
    f.on_message = pause_at_ten;
    CHECK_OR_RETURN(flood(&flooder, MANY));
    for (int i = 0; i < 20; i++)
        fixture_turn(&f);
    CHECK_EQ_INT(flooded, 10);
    mesa_conn_resume(f.clients[0].conn);
    CHECK_EQ_INT(flooded, 10); /* never inside of the call */
    CHECK(WAIT_FOR(&f, flooded == MANY));
    CHECK(in_order);
    end();
}

TEST(a_close_ends_a_flood)
{
    CHECK_OR_RETURN(begin());
    busy_ms = 2;
    CHECK_OR_RETURN(flood(&flooder, 2000));
    CHECK(WAIT_FOR(&f, flooded > 0));
    int seen = flooded;
    mesa_conn_close(f.clients[0].conn, 4000, "", 0, false);
    peer_send_close(&flooder, 4000, "");
    CHECK(peer_expect_close(&flooder, 4000));
    CHECK(WAIT_FOR(&f, f.clients[0].closes == 1));
    CHECK_EQ_INT(f.clients[0].code, 4000);
    CHECK_EQ_INT(flooded, seen);
    end();
}

TEST(the_server_or_the_peer_may_go_in_the_middle)
{
    for (int how = 0; how < 3; how++) {
        CHECK_OR_RETURN(begin());
        busy_ms = 2;
        CHECK_OR_RETURN(flood(&flooder, 2000));
        CHECK(WAIT_FOR(&f, flooded > 0));
        if (how == 0)
            peer_reset(&flooder);
        else if (how == 1)
            mesa_conn_close(f.clients[0].conn, 4000, "", 0, true);
        if (how < 2)
            CHECK(WAIT_FOR(&f, f.clients[0].closes == 1));
        end();
    }
}
