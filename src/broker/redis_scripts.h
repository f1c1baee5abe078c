/* redis_scripts.h - what must happen in Redis in one step, as Lua that Redis runs.
 *
 * Keys beyond those of PROTOCOL 8, all with the namespace's suffix:
 *   mesa:nodes           set of the incarnations (one per connection of a node) that announced themselves
 *   mesa:lease:<inc>     exists as long as the incarnation is alive
 *   mesa:users:<inc>     set of the users it has
 *   mesa:online          hash user -> number of incarnations that have it
 *   mesa:counts          hash incarnation -> its connections in connected_clients_count
 *   mesa:ages            hash user -> "<length of the array, 12 digits><ms, 13 digits>...", when each of
 *                        undelivered_messages was stored. A length that is not the array's says that a
 *                        Node server changed it: what it appended counts as stored now.
 *   mesa:leaving         hash user -> incarnation that is about to put back what the user did not read
 *   mesa:portal:<id>     a lease of a portal that has one
 *
 * Pure: any thread. May include: base/.
 */
#ifndef MESA_BROKER_REDIS_SCRIPTS_H
#define MESA_BROKER_REDIS_SCRIPTS_H

#include "base/buf.h"
#include "base/status.h"

enum mesa_redis_script {
    MESA_SCRIPT_BEGIN,    /* inc, lease ms: announces an incarnation */
    MESA_SCRIPT_ONLINE,   /* inc, id...: users it has */
    MESA_SCRIPT_FINISH,   /* inc, its connections, earlier incs...: replaces them */
    MESA_SCRIPT_OFFLINE,  /* inc, id... */
    MESA_SCRIPT_PART,     /* inc, id, channel, token: OFFLINE, but nobody takes the user's messages
                               before PUT_BACK with the same inc; the token is published */
    MESA_SCRIPT_COUNT,    /* inc, delta */
    MESA_SCRIPT_TEND,     /* inc, lease ms -> {state, number of dead incarnations removed}; state
                               0: all is well, 1: call again, -1: this incarnation was removed */
    MESA_SCRIPT_LEAVE,    /* inc */
    MESA_SCRIPT_ROUTE,    /* origin, envelope, maxMessages, maxBytes, maxAge, +id (has a connection
                               at the origin) or -id ... -> {{stored id...}, {dropped id, json...}, {error...}} */
    MESA_SCRIPT_TAKE,     /* id, "1": not while other nodes have the user -> {array or false, ms of
                               each..., now, error or false, 1: not now} */
    MESA_SCRIPT_PUT_BACK, /* id, envelopes joined by commas, their ms joined (zeros: now),
                               maxMessages, maxBytes, maxAge, inc of PART if any -> as ROUTE;
                               a user who is online is published on mesa:kept */
    MESA_SCRIPT_PORTALS, /* -> {subscribers of portal, {ids of the pool with a lease}, {without}} */
    MESA_SCRIPT_NO_PORTAL, /* id...: takes dead portals out of the pool and tells everybody, once */
    MESA_SCRIPT_COUNT_
};

/* The text of a script for names that end in `suffix`. MESA_ENOMEM. */
enum mesa_status mesa_redis_script_text(struct mesa_buf *out, enum mesa_redis_script script,
                                        struct mesa_span suffix);

#endif
