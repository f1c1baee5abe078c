/* dialect.h - what a server speaks on top of WebSocket: its greeting, its heartbeats, and how it wraps a message.
 *
 * Mesa's protocol is that of all peers but Socket.IO, which has one of its own (Engine.IO 4 and Socket.IO 5).
 * Pure. May include: jsonwalk.
 */
#ifndef MESA_BENCH_DIALECT_H
#define MESA_BENCH_DIALECT_H

#include <stdbool.h>

#include "jsonwalk.h"

enum said {
    SAID_HELLO,         /* the first words of a connection */
    SAID_AUTHENTICATED, /* the answer to `join` */
    SAID_HEARTBEAT,     /* wants `ack` */
    SAID_NOTHING,       /* well-formed, and nothing to do about it */
    SAID_WRONG,
};

struct dialect {
    const char *name;
    const char *path; /* to connect to */
    const char *join; /* format of what authenticates; a number makes the user */
    bool must_join;   /* a connection without is of no use */
    const char *ack;  /* of a heartbeat */
    const char *head; /* format of what stands before a message's text; its number, its type */
    const char *tail; /* and behind it; its type */
    /* Finds the data of a message of `type`. False: it is none. */
    bool (*unwrap)(struct json_span message, const char *type, struct json_span *data);
    /* What is said by one that is no message. */
    enum said (*said)(struct json_span text);
};

extern const struct dialect dialect_mesa, dialect_socketio;

/* NULL: there is none of this name. */
const struct dialect *dialect_find(const char *name);

#endif
