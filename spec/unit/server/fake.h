/* fake.h - a loop with a clock of our own and a transport without sockets, for the tests of
 * server/.
 *
 * fake.c implements the functions of io/loop.h and io/transport.h that the server uses; a test
 * plays the peers. The turn's end runs when a test says so.
 */
#ifndef MESA_SPEC_FAKE_H
#define MESA_SPEC_FAKE_H

#include "io/loop.h"
#include "io/transport.h"
#include "server/server.h"

/* -- the loop -- */
struct mesa_loop *fake_loop(void);
struct mesa_transport *fake_transport(void);
/* The end of a turn; then the transport tells of the connections that were closed, and another turn
 * ends. */
void fake_turn(void);
/* Lets the time pass, millisecond by millisecond, a turn each. */
void fake_advance(uint64_t ms);
/* Ends the loop and everything in it; reports timers and hooks that were left behind. */
void fake_end(void);

/* -- the peer -- */
struct fake_peer {
    const char *path;       /* NULL: "/" */
    const char *origin;     /* NULL: none */
    const char *protocols;  /* that it offers; NULL: none */
    const char *extensions; /* the same */
};

/* Connects to the listener opened last but the admin's. NULL: refused, see fake_status. */
struct mesa_conn *fake_connect(void);
/* Whether the upgrade of the peer that connected last is still to be decided about. */
bool fake_deciding(void);
/* That peer goes away meanwhile. */
void fake_leave_undecided(void);
/* Its connection, when it was let in; else NULL. */
struct mesa_conn *fake_let_in(void);
/* The transport turns a peer away. */
void fake_refuse(const char *code, const char *text);
struct mesa_conn *fake_connect_as(const struct fake_peer *peer);
/* The HTTP status of the last refusal or answer. */
int fake_status(void);
const char *fake_body(void);
/* The value of a header of the last answer, or NULL. */
const char *fake_header(const char *name);
/* A plain request to the server, or to its admin listener. */
void fake_request(const char *method, const char *path, bool admin, const char *origin);
/* Makes mesa_http_file find a file at this path. NULL: none. */
void fake_set_file(const char *path);
/* The next mesa_listener_open fails. */
void fake_fail_listen(void);
bool fake_listening(void);

void fake_receive(struct mesa_conn *c, const char *text);
void fake_pong(struct mesa_conn *c);
/* The peer goes away. */
void fake_leave(struct mesa_conn *c, int code);
/* As the transport does with what is too big. */
void fake_protocol_error(struct mesa_conn *c, int code);
/* The peer stops reading: the transport takes nothing more. And reads on. */
void fake_stall(struct mesa_conn *c);
void fake_drain(struct mesa_conn *c);
/* It stays full, but the peer has taken some of what was written. */
void fake_read_some(struct mesa_conn *c);

/* The next frame the peer received, as text ("ping" for a ping): "" when there is none. */
const char *fake_next(struct mesa_conn *c);
/* Drops what was received so far. */
void fake_skip(struct mesa_conn *c);
size_t fake_received_bytes(const struct mesa_conn *c);
unsigned fake_writes(const struct mesa_conn *c);
bool fake_paused(const struct mesa_conn *c);
/* The code given to mesa_conn_close, 0 while open; the reason; whether with `drop`. */
int fake_close_code(const struct mesa_conn *c);
const char *fake_close_reason(const struct mesa_conn *c);
bool fake_close_drop(const struct mesa_conn *c);
/* on_close was called. */
bool fake_gone(const struct mesa_conn *c);

/* The most recent result of a write was made of the same memory as the one before: the gathered
 * bytes were used again. */
bool fake_same_memory(const struct mesa_conn *a, const struct mesa_conn *b);

#endif
