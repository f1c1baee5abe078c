/* server.h - one Mesa server: joins transport, clients and broker, and calls a table of hooks where
 * an application has something to say.
 *
 * Everything a hook receives is valid during the call only, but a client: hold one with
 * mesa_client_ref. Hooks may call any function here, closing clients and the server included:
 * closing only marks, and the loop frees at the end of the turn. Loop thread only. Never calls Lua.
 * May include: base/, core/, io/, broker/.
 *
 * Closes it begins itself, beyond PROTOCOL 7's: 1008 for a client that sent nothing, pongs
 * included, for limits.idleTimeout. A client whose queue does not drain within 5 s after it was
 * closed is dropped. An Origin header that is not in `origins` is refused with 403; without the
 * header (no browser) the list does not apply.
 */
#ifndef MESA_SERVER_SERVER_H
#define MESA_SERVER_SERVER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/buf.h"
#include "base/status.h"
#include "broker/broker.h"
#include "core/config.h"
#include "core/envelope.h"
#include "core/frame.h"
#include "core/metrics.h"
#include "io/loop.h"
#include "io/transport.h"

struct mesa_server; /* opaque */
struct mesa_client; /* opaque, reference-counted */

/* opaque: an upgrade that has still to be decided */
struct mesa_server_upgrade;

struct mesa_server_hooks {
    void (*on_connection)(void *ctx, struct mesa_client *c); /* after hello was queued */
    /* op 0, unknown ops, and op 2 without an authenticator. `text` is the whole envelope, `e` its
     * spans. */
    void (*on_message)(void *ctx, struct mesa_client *c, const struct mesa_envelope *e,
                       struct mesa_span text);
    /* Instead of on_message with cfg.raw. */
    void (*on_raw_message)(void *ctx, struct mesa_client *c, struct mesa_span bytes, bool binary);
    /* op 2 while mesa_client_set_connecting holds: to be handed to mesa_client_receive_again behind
     * what came before it. `text` is the whole envelope. */
    void (*on_early)(void *ctx, struct mesa_client *c, struct mesa_span text);
    /* op 2 with an authenticator: answer later or now with mesa_client_accept or mesa_client_refuse
     * and the same `check`. */
    void (*on_authenticate)(void *ctx, struct mesa_client *c, uint32_t check, struct mesa_span d);
    /* After op 22 was queued, before redelivery; also on a re-authentication. */
    void (*on_authenticated)(void *ctx, struct mesa_client *c);
    void (*on_disconnect)(void *ctx, struct mesa_client *c, int code, struct mesa_span reason);
    /* `code` is a stable upper-case word: "PROTOCOL", "JSON", "AUTH_BUSY", "AUTH_TIMEOUT",
     * "VERSION", "RATE", "BACKPRESSURE", "PAYLOAD", "UTF8", "COMPRESSION", "SYNC", "MEMORY", "REDIS" (what goes
     * wrong with Redis itself), "CLUSTER" (what others published is not what it should be); and of
     * peers turned away before they were clients, at most one a second of each: "PATH" (404),
     * "ORIGIN" (403), "HEADERS" (a request head over 8 KB or malformed), "HANDSHAKE" (late, or not
     * RFC 6455's), "LIMIT" (maxConnections, maxConnectionsPerIp), with the address in the text;
     * `text` is for people. The client may be NULL. Logged by the hook's owner, not by the server. A
     * peer that merely falls silent (4009, idleTimeout) is no error. */
    void (*on_error)(void *ctx, struct mesa_client *c, const char *code, const char *text);
    /* The queue of a client that had reported backpressure is empty. */
    void (*on_drain)(void *ctx, struct mesa_client *c);
    /* Sync: messages kept for offline ids; taken out and being redelivered; dropped to hold the
     * bounds. */
    void (*on_undeliverable)(void *ctx, struct mesa_span json, const struct mesa_span *ids,
                             size_t id_count);
    void (*on_redeliver)(void *ctx, struct mesa_client *c, const struct mesa_backlog *backlog);
    void (*on_undeliverable_dropped)(void *ctx, struct mesa_span id, struct mesa_span json);
    /* A message from elsewhere in the cluster was queued to these clients: an envelope, with cfg.raw
     * text or binary. */
    void (*on_delivered)(void *ctx, const struct mesa_frame *f, struct mesa_client *const *clients,
                         size_t client_count);
    /* With cfg.protocols.asked: which of the subprotocols offered is agreed to. Sets *chosen to one of
     * them, or to nothing (len 0), and returns 0; or the HTTP status to refuse the upgrade with. */
    int (*on_protocol)(void *ctx, const struct mesa_request *req, struct mesa_span offered,
                       struct mesa_span *chosen);
    /* Whether on_upgrade decides about upgrades now. NULL: no. */
    bool (*decides_upgrades)(void *ctx);
    /* An upgrade that all else speaks for, with the subprotocol agreed on: to be decided with
     * mesa_server_decide_upgrade, now or later, exactly once. */
    void (*on_upgrade)(void *ctx, struct mesa_server_upgrade *u, const struct mesa_request *req);
    /* A portal joined or left the cluster. */
    void (*on_portal)(void *ctx, struct mesa_span id, bool joined);
    /* A plain HTTP request that is neither an upgrade nor a static file. True: the hook's owner
     * answers `h`, later if it likes. NULL or false: the server does (404, or 426 on the WebSocket
     * path). */
    bool (*on_http)(void *ctx, struct mesa_http *h, const struct mesa_request *req,
                    struct mesa_span body);
    /* POST /reload on the admin listener: reload, append lines for people to `report`, and say
     * whether all went well (200 or 500). NULL: 404. */
    bool (*on_reload)(void *ctx, struct mesa_buf *report);
    /* mesa_server_close has finished: no client is left. The server may be freed in here. */
    void (*on_closed)(void *ctx);
};

/* `cfg` is moved into the server (the caller's becomes empty) on MESA_OK. Otherwise `err` is a line
 * for people. */
enum mesa_status mesa_server_new(struct mesa_server **out, struct mesa_loop *loop,
                                 struct mesa_transport *transport, struct mesa_config *cfg,
                                 const struct mesa_server_hooks *hooks, void *ctx, char *err,
                                 size_t err_len);
/* `s` will not listen itself: connections to the port of `on` that ask for its path are its own.
 * Before mesa_server_listen. It closes when `on` closes, and is cut off when `on` is freed.
 * MESA_EINUSE: the path is taken; MESA_EINVAL: it has none, or `on` does not listen itself. */
enum mesa_status mesa_server_join(struct mesa_server *s, struct mesa_server *on);
/* Starts accepting, on the admin address too; on failure `err` is a line for people ("port 4000 is
 * in use"). */
enum mesa_status mesa_server_listen(struct mesa_server *s, char *err, size_t err_len);
/* The i-th file that `tls` names; NULL: there are no more. */
const char *mesa_server_tls_file(const struct mesa_server *s, size_t i);
/* Reads them again, for handshakes from now on. False: they cannot be used, the old ones are, and
 * on_error was told with the code "RELOAD". Lines for people are appended to `report` unless NULL. */
bool mesa_server_reload_tls(struct mesa_server *s, struct mesa_buf *report);
/* Stops accepting and closes every client with `code`, paced evenly over `drain_ms`; then
 * on_closed, once, in a later turn. Calling it again can only hasten it. */
void mesa_server_close(struct mesa_server *s, int code, const char *reason, uint32_t drain_ms);
/* Ends at once: clients still there are dropped after their on_disconnect, and no hook is called
 * after it has returned. Called from inside a hook, the memory itself goes at the end of the turn.
 * Before mesa_transport_free and mesa_loop_free. NULL is accepted. */
void mesa_server_free(struct mesa_server *s);

const struct mesa_config *mesa_server_config(const struct mesa_server *s);
uint16_t mesa_server_port(const struct mesa_server *s);       /* the bound one */
uint16_t mesa_server_admin_port(const struct mesa_server *s); /* the bound one; 0 without one */
/* Whether it serves a path on another server's port. */
bool mesa_server_is_guest(const struct mesa_server *s);
/* Whether mesa_server_close was called. */
bool mesa_server_is_closing(const struct mesa_server *s);
/* Open ones; those being closed are not counted. */
size_t mesa_server_client_count(const struct mesa_server *s);
/* For what only the owner of the hooks can count: script errors, reloads. */
struct mesa_metrics *mesa_server_metrics(struct mesa_server *s);

/* Lets the peer in (status 0), or refuses it with the status and a text, absent for the usual one; `u` is
 * no more. MESA_ECLOSED: the peer has left, its time was over, or the server closes. */
enum mesa_status mesa_server_decide_upgrade(struct mesa_server_upgrade *u, int status,
                                            struct mesa_span text);

/* Answers what on_http took but cannot serve: 426 for reading the WebSocket path, else 404. */
void mesa_server_refuse_http(const struct mesa_server *s, struct mesa_http *h,
                             struct mesa_span method, struct mesa_span path);

/* Who gets a message. ids NULL: everybody. Ids are de-duplicated; "excluding" removes user ids
 * (clients without an id are never excluded). */
struct mesa_recipients {
    const struct mesa_span *ids;
    size_t id_count;
    const struct mesa_span *excluding;
    size_t excluding_count;
};

/* Called for every local client the message was queued to. */
typedef void (*mesa_sent_fn)(void *ctx, struct mesa_client *c);

/* Sends one envelope frame (text, made by mesa_envelope_*; with cfg.raw any frame) to connections
 * here, and through the broker to where else its recipients may be; keeps it for offline ids when
 * sync is enabled and `sync` is true. authentication.required leaves out unauthenticated clients.
 * `sent` may be NULL. MESA_OK; MESA_ECLOSED: the server is
 * closing; MESA_EUNAVAILABLE: the connections here have it, but Redis is away, so nobody else. */
enum mesa_status mesa_server_send(struct mesa_server *s, struct mesa_frame *f,
                                  const struct mesa_recipients *to, bool sync, mesa_sent_fn sent,
                                  void *ctx);
/* op 5 DISCONNECT_CLIENT: closes every connection of the recipients with 1000, those here or, with
 * `everywhere`, in the whole cluster. The statuses of mesa_server_send. */
enum mesa_status mesa_server_disconnect(struct mesa_server *s, const struct mesa_recipients *to,
                                        bool everywhere);

/* Iterates over open clients; safe while clients come and go (a client that joins meanwhile may or
 * may not be seen). Start with NULL. */
struct mesa_client *mesa_server_next(struct mesa_server *s, struct mesa_client *after);
/* Iterates over the open connections of one user id. */
struct mesa_client *mesa_server_next_of(struct mesa_server *s, struct mesa_span id,
                                        struct mesa_client *after);

/* Clients stay readable after they have closed, as long as somebody holds a reference. */
struct mesa_client *mesa_client_ref(struct mesa_client *c);
void mesa_client_unref(struct mesa_client *c);

/* NULL once the client has closed and the server may be gone. */
struct mesa_server *mesa_client_server(const struct mesa_client *c);
bool mesa_client_closed(const struct mesa_client *c); /* closing or closed: sends are refused */
bool mesa_client_authenticated(const struct mesa_client *c);
/* With authentication.required, before it: nothing of the application's is sent to the client. */
bool mesa_client_must_authenticate(const struct mesa_client *c);
struct mesa_span mesa_client_id(const struct mesa_client *c); /* absent before authentication */
/* Unique per connection, random, 22 characters of [A-Za-z0-9_-]. */
struct mesa_span mesa_client_server_id(const struct mesa_client *c);
/* The request it connected with, valid as long as the client; NULL: no memory. Asking costs some
 * hundred bytes, the first time. */
const struct mesa_request *mesa_client_request(struct mesa_client *c);
size_t mesa_client_buffered(const struct mesa_client *c); /* bytes waiting in the queue */

/* One pointer for the owner of the hooks. */
void mesa_client_set_data(struct mesa_client *c, void *data);
void *mesa_client_data(const struct mesa_client *c);

/* Queues a frame to this connection only. MESA_OK; MESA_EAGAIN: queued, but more than half of
 * limits.maxBackpressure is waiting (on_drain will come); MESA_ETOOBIG: refused, the bound would be
 * exceeded: the client is being closed with 1013; MESA_ECLOSED. */
enum mesa_status mesa_client_send(struct mesa_client *c, struct mesa_frame *f);
/* Whether a message to the client's user, or to a client without one, goes to this connection and nowhere else. */
bool mesa_client_is_whole_user(const struct mesa_client *c);
/* The same as mesa_client_send if nothing comes of it but that the frame waits in the queue: no hook is called. False: nothing was done. */
bool mesa_client_try_send(struct mesa_client *c, struct mesa_frame *f);
/* MESA_EINVAL: a code PROTOCOL 7 does not allow, or a reason over 123 bytes or not UTF-8. Repeating
 * has no effect. */
enum mesa_status mesa_client_disconnect(struct mesa_client *c, int code, struct mesa_span reason);
/* Stop and restart reading this client's messages (while its handler waits). What was already read
 * is still delivered. */
void mesa_client_pause(struct mesa_client *c);
void mesa_client_resume(struct mesa_client *c);

/* The connection handlers have yet to return, and perhaps to set an authenticator: until then op 2
 * goes to on_early. */
void mesa_client_set_connecting(struct mesa_client *c, bool connecting);
/* As if the text, one of on_early, came now. Nothing happens once the client is closed. */
void mesa_client_receive_again(struct mesa_client *c, struct mesa_span text);
/* Whether op 2 is a check (true) or an ordinary message; arms or clears the authentication timeout.
 */
void mesa_client_set_authenticator(struct mesa_client *c, bool present);
/* Answers check number `check`. A number that is not the one under way, or a closed client:
 * MESA_ECLOSED, no effect. `user_json` is VALID JSON. `id` 1-512 bytes of UTF-8 and not "*" (MESA_EINVAL, the
 * check stays under way). With cfg.raw, where there are no checks, it is mesa_client_update. The
 * backlog of sync follows op 22, redeliveryInterval apart and never filling more than half of
 * limits.maxBackpressure; live messages are not held back by it. */
enum mesa_status mesa_client_accept(struct mesa_client *c, uint32_t check, struct mesa_span id,
                                    struct mesa_span user_json);
/* Refuses: closes with 1008 unless authentication.disconnectOnFail is false. */
enum mesa_status mesa_client_refuse(struct mesa_client *c, uint32_t check);
/* client:updateUser: changes the id (presence included) without op 22. MESA_EINVAL before
 * authentication, but with cfg.raw, where it authenticates (on_authenticated). */
enum mesa_status mesa_client_update(struct mesa_client *c, struct mesa_span id);

/* options.storeMessages: the i-th kept envelope (0 is the oldest) as JSON text; false past the end.
 * Each direction keeps limits.maxPayload bytes at most; the core's own messages (hello, heartbeats,
 * op 22) are not kept. */
enum mesa_stored { MESA_STORED_SENT, MESA_STORED_RECEIVED };
bool mesa_client_stored(const struct mesa_client *c, enum mesa_stored which, size_t i,
                        struct mesa_span *json);

#endif
