/* transport_backpressure_test.c - readers that stall: everything arrives in
 * order, and nothing piles up. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

#include "fixture.h"
#include "test.h"

enum { CHUNK = 32768, CHUNKS = 1536 }; /* 48 MB */

static struct fixture f;
static struct peer p;
static int sent;
static char chunk[CHUNK + 4];

/* One binary frame of CHUNK bytes that begins with its number. */
static bool write_chunk(struct fixture_client *c)
{
    static const unsigned char head[4] = {0x82, 126, CHUNK >> 8, CHUNK & 255};
    memcpy(chunk, head, 4);
    memset(chunk + 4, sent & 127, CHUNK);
    memcpy(chunk + 4, &sent, sizeof sent);
    if (mesa_conn_write(c->conn, chunk, sizeof chunk) != MESA_OK)
        return false;
    sent++;
    return true;
}

static void pump(struct fixture_client *c)
{
    while (sent < CHUNKS && write_chunk(c)) {
    }
}

static bool begin(void)
{
    sent = 0;
    fixture_init(&f);
    return CHECK(fixture_start(&f)) && CHECK(peer_open(&p, &f, "/", ""));
}

static void end(void)
{
    peer_close(&p);
    fixture_stop(&f);
}

static size_t resident_bytes(void)
{
    unsigned long pages = 0;
    FILE *statm = fopen("/proc/self/statm", "r");
    if (statm == NULL || fscanf(statm, "%*u %lu", &pages) != 1)
        pages = 0;
    if (statm != NULL)
        fclose(statm);
    return pages * 4096;
}

/* Until the kernel's buffers have grown as far as they go. */
static void settle(void)
{
    for (int still = 0, at = sent; still < 200; still = sent == at ? still + 1 : 0, at = sent)
        fixture_turn(&f);
}

TEST(a_stalled_reader_gets_everything_in_order)
{
    CHECK_OR_RETURN(begin());
    f.on_drained = pump;
    pump(&f.clients[0]);
    CHECK(sent < CHUNKS);
    size_t before = resident_bytes();
    settle();
    CHECK(sent < CHUNKS / 2);
    CHECK_EQ_INT(mesa_conn_write(f.clients[0].conn, "\x81\x00", 2), MESA_EAGAIN);
    CHECK(resident_bytes() < before + (8u << 20));

    for (int i = 0; i < CHUNKS; i++) {
        struct peer_frame frame;
        int number;
        CHECK_OR_RETURN(peer_read(&p, &frame));
        CHECK_OR_RETURN(frame.len == CHUNK);
        memcpy(&number, frame.data, sizeof number);
        CHECK_OR_RETURN(number == i && frame.data[CHUNK - 1] == (i & 127));
    }
    CHECK_EQ_INT(sent, CHUNKS);
    CHECK(f.clients[0].drains > 0);
    end();
}

TEST(one_frame_larger_than_a_single_write_arrives)
{
    size_t len = 5u << 20;
    char *data = malloc(len);
    struct peer_frame frame;
    memset(data, 'q', len);
    CHECK_OR_RETURN(begin());
    fixture_send(&f.clients[0], 2, data, len);
    if (CHECK(peer_read(&p, &frame)))
        CHECK_EQ_MEM(frame.data, frame.len, data, len);
    end();
    free(data);
}

/* Fills the connection until the transport refuses, with the peer not reading. */
static void stall(void)
{
    while (write_chunk(&f.clients[0])) {
    }
}

/* Reads the numbered frames that were accepted. */
static bool read_chunks(void)
{
    for (int i = 0; i < sent; i++) {
        struct peer_frame frame;
        if (!CHECK(peer_read(&p, &frame)) || !CHECK_EQ_INT(frame.opcode, 2) ||
            !CHECK(memcmp(frame.data, &i, sizeof i) == 0))
            return false;
    }
    return true;
}

TEST(a_pong_waits_behind_a_partial_frame)
{
    CHECK_OR_RETURN(begin());
    stall();
    peer_send_frame(&p, 0x89, "ping", 4);
    for (int i = 0; i < 50; i++)
        fixture_turn(&f);
    CHECK_OR_RETURN(read_chunks());
    peer_expect(&p, 10, "ping");
    CHECK(WAIT_FOR(&f, f.clients[0].drains == 1));
    fixture_send(&f.clients[0], 1, "after", 5);
    peer_expect(&p, 1, "after");
    end();
}

TEST(nothing_is_read_from_a_peer_that_does_not_read)
{
    CHECK_OR_RETURN(begin());
    stall();
    peer_send_frame(&p, 0x81, "hello", 5);
    for (int i = 0; i < 50; i++)
        fixture_turn(&f);
    CHECK_EQ_INT(f.clients[0].messages, 0);
    CHECK_OR_RETURN(read_chunks());
    CHECK(WAIT_FOR(&f, f.clients[0].messages == 1));
    end();
}

TEST(a_close_follows_what_is_buffered)
{
    CHECK_OR_RETURN(begin());
    stall();
    mesa_conn_close(f.clients[0].conn, 1013, "slow", 4, false);
    for (int i = 0; i < 20; i++)
        fixture_turn(&f);
    CHECK_OR_RETURN(read_chunks());
    peer_expect_close(&p, 1013);
    peer_send_close(&p, 1013, "");
    CHECK(WAIT_FOR(&f, f.clients[0].closes == 1));
    CHECK_EQ_INT(f.clients[0].code, 1013);
    end();
}

TEST(drop_does_not_wait_for_a_stalled_reader)
{
    CHECK_OR_RETURN(begin());
    stall();
    uint64_t start = fixture_now_ms();
    mesa_conn_close(f.clients[0].conn, 1013, "slow", 4, true);
    CHECK_EQ_INT(f.clients[0].closes, 0);
    CHECK(WAIT_FOR(&f, f.clients[0].closes == 1));
    CHECK(fixture_now_ms() - start < 1000);
    CHECK_EQ_INT(f.clients[0].code, 1013);
    peer_expect_eof(&p);
    end();
}

TEST(a_close_that_a_stalled_reader_never_reads_ends_after_five_seconds)
{
    CHECK_OR_RETURN(begin());
    f.on_drained = pump;
    stall();
    settle();
    uint64_t start = fixture_now_ms();
    mesa_conn_close(f.clients[0].conn, 1001, "", 0, false);
    CHECK(WAIT_FOR(&f, f.clients[0].closes == 1));
    CHECK(fixture_now_ms() - start >= 4500); /* how much later is the machine's affair */
    CHECK_EQ_INT(f.clients[0].code, 1001);
    end();
}

TEST(a_close_waits_for_a_reader_that_is_slow)
{
    CHECK_OR_RETURN(begin());
    f.on_drained = pump;
    stall();
    settle();
    uint64_t start = fixture_now_ms(), next = start;
    mesa_conn_close(f.clients[0].conn, 1001, "", 0, false);
    while (fixture_now_ms() - start < 7500) {
        fixture_turn(&f);
        if (fixture_now_ms() < next)
            continue;
        peer_sip(&p, 65536);
        next += 500;
    }
    CHECK_EQ_INT(f.clients[0].closes, 0);
    CHECK_OR_RETURN(read_chunks());
    peer_expect_close(&p, 1001);
    end();
}

TEST(a_stalled_reader_that_resets_is_noticed)
{
    CHECK_OR_RETURN(begin());
    stall();
    peer_reset(&p);
    CHECK(WAIT_FOR(&f, f.clients[0].closes == 1));
    CHECK_EQ_INT(f.clients[0].code, 1006);
    fixture_stop(&f);
}

TEST(the_peer_closes_in_the_middle_of_a_large_write)
{
    CHECK_OR_RETURN(begin());
    stall();
    peer_send_close(&p, 4000, "done");
    CHECK_OR_RETURN(read_chunks());
    peer_expect_close(&p, 4000);
    CHECK(WAIT_FOR(&f, f.clients[0].closes == 1));
    CHECK_EQ_INT(f.clients[0].code, 4000);
    CHECK(f.clients[0].by_peer);
    end();
}
