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
 *   mesa:leaving         hash user -> "<entry> <n> ...", oldest first: who is about to put back what the user
 *                        did not read, in front of the last n of undelivered_messages. An entry is
 *                        "<inc>.<token>", or "<inc>.h<node>-<token>" when asked by the node, with a "k" once the
 *                        user has left the one that was asked.
 *   mesa:taken:<user>    hash "<order> <node>" -> "<token> <ms, 13 digits>...[...]": what the node took and nobody
 *                        has confirmed yet; "<order> <node>+" -> "<from> <to>": only these of it
 *   mesa:takes:<node>    set of the users the node has taken something of
 *   mesa:order           hash: "last", the order of the latest take; "born", where it began. What was
 *                        taken before "born" was lost by Redis.
 *   mesa:portal:<id>     a lease of a portal that has one: the name of a channel, mesa:portals:<random>, that its
 *                        connection is subscribed to as long as to `portal`; portals may share one
 * and channels: mesa:kept (a user: something was put back), mesa:node:<node> (for one node alone),
 * mesa:handover: "take <node> <asked> h<node>-<token> <user>": the node has the user's newest
 * connection; the others see to it that theirs have confirmed everything, or put it back. "parted <node> <user>": that
 * connection is gone. "gone <node>": the node is.
 *
 * Pure: any thread. May include: base/.
 */
#ifndef MESA_BROKER_REDIS_SCRIPTS_H
#define MESA_BROKER_REDIS_SCRIPTS_H

#include "base/buf.h"
#include "base/status.h"

/* "bounds" are three arguments: maxMessages, maxBytes, maxAge. */
enum mesa_redis_script {
    MESA_SCRIPT_BEGIN,   /* inc, lease ms: announces an incarnation */
    MESA_SCRIPT_ONLINE,  /* inc, id...: users it has */
    MESA_SCRIPT_FINISH,  /* inc, its connections, bounds, earlier incs...: replaces them */
    MESA_SCRIPT_OFFLINE, /* inc, id... */
    MESA_SCRIPT_PART,  /* inc, id, entry, channel, token, node: OFFLINE, but nobody takes the user's
                               messages before PUT_BACK with the same entry; the token is published */
    MESA_SCRIPT_COUNT, /* inc, delta */
    MESA_SCRIPT_TEND,  /* inc, lease ms, bounds -> {state, {dropped id, json...}, {error...}}; state
                               0: all is well, 1: call again, -1: this incarnation was removed */
    MESA_SCRIPT_LEAVE, /* inc, bounds */
    MESA_SCRIPT_ROUTE, /* origin, envelope, maxMessages, maxBytes, maxAge, +id (has a connection
                               at the origin) or -id ... -> {{stored id...}, {dropped id, json...}, {error...}} */
    MESA_SCRIPT_TAKE, /* id, inc, node, token, step, bounds -> {1, asked}: not now, or {0, asked, array or false, ms of
                               each..., now, error or false, order or "0"}. Steps: "ask" other nodes to hand
                               over, "ask or take", "take", and "anyway", whoever still has to put something back */
    MESA_SCRIPT_CONFIRM, /* id, node, order, from, to: only these of what was taken are not received yet */
    MESA_SCRIPT_RETURN, /* id, node, token, bounds: puts back what this take brought, if it did -> as ROUTE */
    MESA_SCRIPT_PUT_BACK, /* id, node, entry or "" (in front of all) or "+" (behind), "1": the entry stays,
                               bounds, (order of the take it came from or "0", envelopes joined by commas,
                               their ms joined; zeros: now)... -> as ROUTE; a user who is online is
                               published on mesa:kept */
    MESA_SCRIPT_PORTALS, /* -> {subscribers of portal but those with a lease, {ids of the pool with one}, {without}} */
    MESA_SCRIPT_NO_PORTAL, /* id...: takes dead portals out of the pool and tells everybody, once */
    MESA_SCRIPT_COUNT_
};

/* The text of a script for names that end in `suffix`. MESA_ENOMEM. */
enum mesa_status mesa_redis_script_text(struct mesa_buf *out, enum mesa_redis_script script,
                                        struct mesa_span suffix);

#endif
