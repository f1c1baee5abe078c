/* redis_scripts.h - what must happen in Redis in one step, as Lua that Redis runs.
 *
 * Keys beyond those of PROTOCOL 8, all with the namespace's suffix (in front of the id of a user its
 * colons are written %3A):
 *   mesa:nodes           set of the incarnations (one per connection of a node) that announced themselves,
 *                        "<node>-<n>", or "<node>+<n>" of nodes that keep messages until they are confirmed
 *   mesa:lease:<inc>     exists as long as the incarnation is alive; 1, or 0 while it is not subscribed
 *   mesa:users:<inc>     set of the users it has
 *   mesa:online          hash user -> number of incarnations that have it
 *   mesa:keepers         the same of those that keep messages
 *   mesa:counts          hash incarnation -> its connections in connected_clients_count
 *   mesa:number          the latest number: each message to ids gets one, in the order in which they are
 *                        published. Microseconds since 1970, or one more than the one before.
 *   mesa:live:<user>     list of "<number, 16 digits><node:send or -> <envelope>":
 *                        published, and not confirmed yet. Of the node's own messages, which it does not
 *                        hear of, it knows which of its sends they were.
 *   mesa:given:<user>    the same: taken by a connection that came after it was sent, and not confirmed yet;
 *                        "<number>stored <envelope>" of what was in undelivered_messages
 *   mesa:ages            hash user -> "<length of the array, 12 digits><number, 16 digits>..." of the elements
 *                        of undelivered_messages. A length that is not the array's says that a Node server
 *                        changed it: what it appended is numbered when it is read.
 *   mesa:portal:<id>     a lease of a portal that has one: the name of a channel, mesa:portals:<random>, that its
 *                        connection is subscribed to as long as to `portal`; portals may share one
 * and a channel, mesa:kept: a user who is online, and for whom there may be something to take.
 *
 * Pure: any thread. May include: base/.
 */
#ifndef MESA_BROKER_REDIS_SCRIPTS_H
#define MESA_BROKER_REDIS_SCRIPTS_H

#include "base/buf.h"
#include "base/status.h"

/* "bounds" are three arguments: maxMessages, maxBytes, maxAge; "changes" a reply {_, {dropped id, json...},
 * {error...}}. */
enum mesa_redis_script {
    MESA_SCRIPT_BEGIN,  /* inc, lease ms: announces an incarnation */
    MESA_SCRIPT_ONLINE, /* inc, "0" or "1": count them anew, id...: users it has */
    MESA_SCRIPT_FINISH, /* inc, its connections, bounds, the number of its users, earlier incs... -> changes:
                               replaces them, or an error that begins with INCOMPLETE */
    MESA_SCRIPT_PART, /* inc, id, "1": it has the user no more, bounds, (number, envelope)... -> changes: what
                               goes back, each behind its number. Without anybody to confirm it, all that
                               is not confirmed goes to the store. */
    MESA_SCRIPT_COUNT, /* inc, its connections, those it told of before */
    MESA_SCRIPT_TEND, /* inc, lease ms, bounds, its connections, those it told of before, the number of its
                               users, "1" or "0": it is subscribed, a surplus to take off -> {state, {dropped id,
                               json...}, {error...}, how many connections too many there seem to be}; state 0: all is well, 1: call
                               again, -1: this incarnation was removed, 2: what Redis has of its users is wrong */
    MESA_SCRIPT_AUDIT, /* inc, cursor, cursor, bounds -> {{cursor, cursor}, {dropped id, json...}, {error...}}: puts
                               a piece of what is known of users right */
    MESA_SCRIPT_LEAVE, /* inc, bounds -> changes */
    MESA_SCRIPT_ROUTE, /* origin, its count of sends, envelope, bounds, +id (has a connection at the origin,
                               which confirms) or -id ... -> {{stored id...}, {dropped id, json...}, {error...},
                               1 or 0: not all that was to be kept until it is confirmed is} */
    MESA_SCRIPT_TAKE, /* id, inc, mode ("take", "drop" or "nothing"), after, seen, upto or "", whom to wait for
                               ("beside": other connections at the node, "wait": those elsewhere, "no"), bounds
                               -> {1, upto}: they may still confirm something, or {0, upto, {number and
                               envelope...}, {dropped...}, {error...}}: what is stored, and of what is not
                               confirmed what was taken behind `after` or published behind `seen`; nothing that is
                               published behind `upto` */
    MESA_SCRIPT_CONFIRM, /* node, (from, live, send, n, n numbers, 16 digits each, and id)...: the user has what was
                               published behind the number `from` up to `live`, and the node's own messages up to
                               `send`, and of what was taken that with these numbers */
    MESA_SCRIPT_PORTALS, /* -> {subscribers of portal but those with a lease, {ids of the pool with one}, {without}} */
    MESA_SCRIPT_NO_PORTAL, /* id...: takes dead portals out of the pool and tells everybody, once */
    MESA_SCRIPT_COUNT_
};

/* The text of a script for names that end in `suffix`. MESA_ENOMEM. */
enum mesa_status mesa_redis_script_text(struct mesa_buf *out, enum mesa_redis_script script,
                                        struct mesa_span suffix);

#endif
