/* inbox.h - messages of a client that wait until its handler has ended.
 *
 * They are kept outside of the Lua state and bounded in count and bytes, for each client
 * (limits.maxQueue) and for the whole process (limits.maxQueueTotal): at a bound, clients are not
 * read from. What a client that has left had sent is kept for a few seconds at most, and is the
 * first to be dropped when the process is at its bound.
 *
 * Private to script/. Loop thread only.
 */
#ifndef MESA_SCRIPT_INBOX_H
#define MESA_SCRIPT_INBOX_H

#include <stdbool.h>
#include <stddef.h>

#include "base/buf.h"

struct client_box;
struct script_server;

enum mesa_waiting_kind {
    MESA_WAITING_TEXT,
    MESA_WAITING_BINARY,
    MESA_WAITING_EARLY, /* for mesa_client_receive_again */
};

struct mesa_waiting {
    struct mesa_waiting *next;
    size_t len;
    enum mesa_waiting_kind kind;
    char bytes[];
};

/* Keeps a copy of the message; may stop reading from the client, and from others. May call the
 * error hook. */
void mesa_inbox_push(struct client_box *box, struct mesa_span text, enum mesa_waiting_kind kind);
/* The oldest message, to be freed with free(); NULL: none waits. */
struct mesa_waiting *mesa_inbox_take(struct client_box *box);
/* No more messages can be handled now: reads from the client again if it may. */
void mesa_inbox_settle(struct client_box *box);
/* The client has left. May call the error hook. */
void mesa_inbox_leave(struct client_box *box);
/* Forgets what waits. */
void mesa_inbox_free(struct client_box *box);
/* The handler of a message has begun to wait, while the process is at its bound. */
void mesa_inbox_hold(struct client_box *box);

#endif
