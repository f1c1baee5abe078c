/* fixture.h - a transport with one listener, and what its hooks have seen; and a peer that speaks
 * bytes to it.
 *
 * Peer and server share the test's thread: every wait runs the loop until its condition holds or
 * the deadline has passed.
 */
#ifndef MESA_SPEC_IO_FIXTURE_H
#define MESA_SPEC_IO_FIXTURE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/buf.h"
#include "io/loop.h"
#include "io/transport.h"

enum { FIXTURE_CLIENTS = 64, FIXTURE_DEADLINE_MS = 40000 };

struct fixture;

/* One connection as the hooks have seen it. */
struct fixture_client {
    struct fixture *fixture;
    struct mesa_conn *conn; /* NULL once closed */
    int messages, pongs, drains, closes;
    struct mesa_buf last; /* the last message */
    bool binary;
    int code, error; /* of on_close and on_protocol_error, 0 until then */
    bool by_peer;
    char reason[128];
    struct mesa_buf out; /* what is still to be sent */
};

struct fixture {
    struct mesa_loop *loop;
    struct mesa_transport *transport;
    struct mesa_listener *listener; /* NULL once a test has freed it */
    struct mesa_listener_config config;
    struct mesa_config_tls tls; /* config.tls, if it has any */
    struct fixture_client clients[FIXTURE_CLIENTS];
    int opened;
    char err[256];
    int refuse;     /* what on_upgrade answers */
    bool echo;      /* messages go back */
    bool hold_http; /* on_http keeps the request in `http` */
    struct mesa_http *http;
    int http_requests;
    const char *root;        /* of files */
    struct mesa_buf request; /* "GET /path?query ip protocol", then a line a header */
    struct mesa_buf body;
    void (*on_open)(struct fixture_client *c);
    void (*on_message)(struct fixture_client *c, const char *data, size_t len);
    void (*on_drained)(struct fixture_client *c);
    int refusals;      /* of on_refused */
    char refusal[256]; /* "CODE ip: text" of the last one */
    bool free_on_refusal;
};

/* Starts with `f->config`, which fixture_init has filled with defaults; false: see f->err.
 * With MESA_TEST_TLS in the environment the default is TLS. */
void fixture_init(struct fixture *f);
bool fixture_start(struct fixture *f);
void fixture_stop(struct fixture *f);
/* A certificate for localhost, made once; for `tls`. */
void fixture_use_tls(struct fixture *f);

/* One turn of the loop that waits at most a millisecond. */
void fixture_turn(struct fixture *f);
uint64_t fixture_now_ms(void);

#define WAIT_FOR(f, cond)                                            \
    ({                                                               \
        uint64_t deadline_ = fixture_now_ms() + FIXTURE_DEADLINE_MS; \
        bool holds_;                                                 \
        while (!(holds_ = (cond)) && fixture_now_ms() < deadline_)   \
            fixture_turn(f);                                         \
        holds_;                                                      \
    })

/* Queues a frame for a client and writes as far as the transport takes it. */
void fixture_send(struct fixture_client *c, int opcode, const void *data, size_t len);

struct peer {
    struct fixture *fixture;
    int fd;
    void *ssl; /* NULL without TLS */
    bool eof;
    struct mesa_buf in;
};

struct peer_frame {
    int opcode;
    bool fin;
    const char *data; /* until the next read */
    size_t len;
};

bool peer_connect(struct peer *p, struct fixture *f);
/* Connects and becomes a WebSocket on `path`; `headers` are further lines, each with CR LF. */
bool peer_open(struct peer *p, struct fixture *f, const char *path, const char *headers);
void peer_close(struct peer *p);
/* Says that nothing more comes, and reads on. */
void peer_end(struct peer *p);
/* Closes so that the other side sees a reset. */
void peer_reset(struct peer *p);

bool peer_send(struct peer *p, const void *data, size_t len);
bool peer_send_text(struct peer *p, const char *text);
/* A masked frame; `first` is its first byte. */
bool peer_send_frame(struct peer *p, int first, const void *data, size_t len);
bool peer_send_close(struct peer *p, int code, const char *reason);
/* Takes what has arrived, without waiting. */
void peer_poll(struct peer *p);
/* What stands for the time in "Date" headers, once peer_blank_dates has seen what has arrived. */
#define BLANK_DATE "Date: ___, __ ___ ____ __:__:__ GMT\r\n"
void peer_blank_dates(struct peer *p);
/* Takes at most `len` bytes of it. */
void peer_sip(struct peer *p, size_t len);
/* Waits for a frame; false: none came. */
bool peer_read(struct peer *p, struct peer_frame *frame);
/* Waits for a frame and checks it: opcode and text. */
bool peer_expect(struct peer *p, int opcode, const char *text);
/* Waits for a close frame with this code. */
bool peer_expect_close(struct peer *p, int code);
/* Waits for the connection's end, dropping what comes. */
bool peer_expect_eof(struct peer *p);
/* Reads to the end of the connection; the text is NUL-terminated and lives as long as the peer. */
const char *peer_read_all(struct peer *p);
/* The same, having said that no further request will come. */
const char *peer_read_answer(struct peer *p);
/* Drops the first `n` bytes that have arrived. */
void peer_consume(struct peer *p, size_t n);

#endif
