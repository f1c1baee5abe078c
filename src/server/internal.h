/* internal.h - what the files of server/ share.
 *
 * Private to server/. Loop thread only. May include: what server.h may.
 *
 * Every entry from outside that may call a hook is bracketed by mesa_server_enter and
 * mesa_server_leave: a hook may free the server, whose memory then lives until the last bracket is
 * closed. A client's memory lives as long as its references; the connection holds one, given back
 * at the end of the turn.
 */
#ifndef MESA_SERVER_INTERNAL_H
#define MESA_SERVER_INTERNAL_H

#include "base/list.h"
#include "core/client.h"
#include "core/metrics.h"
#include "core/outq.h"
#include "core/rate.h"
#include "core/registry.h"
#include "server/server.h"

enum {
    MESA_CLOSE_LINGER_MS = 5000, /* how long what was queued before a close may take to leave */
    MESA_SERVER_ID_LEN = 22,
    MESA_GATHER_BYTES = 256 * 1024, /* of small frames in one write */
};

/* Frames gathered for one write, kept while the next dirty connection may have the very same ones
 * queued. */
struct mesa_gather {
    struct mesa_buf bytes;
    struct mesa_frame **frames; /* referenced, so that equal pointers mean equal frames */
    size_t count, cap;
};

/* What is said about peers who were turned away before they were clients. */
enum mesa_refusal {
    MESA_REFUSED_PATH,
    MESA_REFUSED_ORIGIN,
    MESA_REFUSED_HEADERS,
    MESA_REFUSED_HANDSHAKE,
    MESA_REFUSED_LIMIT,
    MESA_REFUSALS,
};

/* Of one kind. */
struct mesa_refusals {
    uint64_t quiet_until_ms;
    uint64_t unreported;
};

/* broadcast.c: what everybody is to get at the end of the turn. */
enum { MESA_BROADCASTS = 32, MESA_BROADCAST_BYTES = 4096 };
struct mesa_broadcasts {
    struct mesa_frame *frames[MESA_BROADCASTS]; /* the last `count` of `total` */
    uint32_t count;
    bool flushing;
    uint64_t total;
};

struct mesa_server {
    struct mesa_config cfg;
    struct mesa_server_hooks hooks;
    void *ctx;
    struct mesa_loop *loop;
    struct mesa_transport *transport;
    struct mesa_listener *listener;
    struct mesa_listener *admin;
    struct mesa_broker *broker;
    struct mesa_registry *registry;
    struct mesa_metrics metrics;
    /* The same for everybody. With cfg.raw the heartbeat is a ping and the others are NULL. */
    uint64_t sends; /* messages to ids so far: tells which came before a connection had its id */
    struct mesa_frame *confirm; /* a ping whose pong says what was received; NULL: not asked for */
    struct mesa_frame *hello, *heartbeat, *ack;
    struct mesa_turn turn;
    struct mesa_list dirty;     /* clients with frames queued in this turn */
    struct mesa_list gone;      /* clients to give back at the end of the turn */
    struct mesa_list handovers; /* to other servers, that wait for clients to confirm */
    struct mesa_timer handover_timer;
    struct mesa_gather gather;
    struct mesa_broadcasts broadcasts;
    size_t open_count;        /* clients not closing */
    size_t live_count;        /* connections the transport still has, those of guests included */
    struct mesa_server *host; /* on whose port this one is a guest; NULL: it listens itself */
    struct mesa_list guests;
    struct mesa_list guest; /* host->guests */
    unsigned depth;         /* open brackets */
    bool in_transport; /* the outermost bracket is a callback of the transport: it goes on after */
    bool closing, dead;
    bool left; /* the broker was told that this server goes */
    struct mesa_refusals refusals[MESA_REFUSALS];

    struct mesa_timer close_timer;
    char *close_reason;
    int close_code;
    uint64_t close_begun_ms;
    uint32_t close_drain_ms;
    size_t close_total; /* clients there were when closing began */
};

/* A close that waits until what was queued before it has left. */
struct mesa_pending_close {
    int code;
    size_t len;
    char reason[];
};

struct mesa_client {
    struct mesa_registry_entry entry;
    struct mesa_server *server; /* NULL after on_disconnect */
    struct mesa_conn *conn;     /* NULL once the transport let go of it */
    void *data;
    struct mesa_packed_request *packed_request; /* NULL once it has been unpacked */
    struct mesa_request *request;               /* NULL until somebody asks */
    struct mesa_outq outq;
    struct mesa_list link;   /* the server's dirty or gone */
    struct mesa_timer timer; /* the earliest of what is due below */
    uint64_t heartbeat_due_ms;
    uint64_t deadline_ms; /* of authentication while open, of draining while closing; 0: none */
    uint64_t received_ms; /* when anything came last */
    struct mesa_client_state state;
    struct mesa_rate rate;
    struct mesa_redelivery *redelivery; /* NULL: none */
    struct mesa_unread *unread;         /* NULL: nobody asks what was received */
    struct mesa_outq *stored;           /* NULL, or one ring for each enum mesa_stored */
    struct mesa_pending_close *pending_close;
    uint64_t broadcasts; /* how many of the server's it was given, or was not meant for */
    uint64_t pushed;     /* frames ever queued; minus what waits: frames ever written */
    uint32_t refs;
    uint16_t fetching; /* takes that have no answer yet */
    char server_id[MESA_SERVER_ID_LEN];
    bool closed : 1;
    bool told : 1;       /* on_disconnect was called */
    bool close_sent : 1; /* mesa_conn_close was called */
    bool backed_up : 1;  /* the transport takes nothing until on_drained */
    bool wants_drain : 1;
    bool backlog_missed : 1; /* it could not be fetched, or there is more now */
    bool script_paused : 1;
    bool conn_paused : 1;
};

static inline uint32_t mesa_server_burst(const struct mesa_server *s)
{
    return s->cfg.limits.burst > 0 ? s->cfg.limits.burst : s->cfg.limits.messages_per_second;
}

/* -- server.c -- */
void mesa_server_enter(struct mesa_server *s);
void mesa_server_leave(struct mesa_server *s);
/* The same around a callback of the transport. */
void mesa_server_enter_transport(struct mesa_server *s);
void mesa_server_leave_transport(struct mesa_server *s);
/* Counts an error and reports it; `c` may be NULL. */
void mesa_server_report(struct mesa_server *s, struct mesa_client *c, const char *code,
                        const char *text);
/* A connection is gone: finishes a close that waited for it. */
void mesa_server_connection_gone(struct mesa_server *s);

/* -- session.c: one connection's life -- */
extern const struct mesa_listener_hooks mesa_session_hooks;
/* Tells the client good-bye and lets go of the server, which is being freed; the transport still
 * has the connection. */
void mesa_session_abandon(struct mesa_client *c);
/* Begins the end of a client: nothing is delivered from it any more. With `drop`, what is queued is
 * lost; else it goes out first. */
void mesa_client_close(struct mesa_client *c, int code, struct mesa_span reason, bool drop);
/* To be called when the queue of a closing client is empty. */
void mesa_client_finish_close(struct mesa_client *c);
void mesa_client_apply_pause(struct mesa_client *c);

/* -- client.c: a client's memory -- */
enum mesa_status mesa_client_new(struct mesa_client **out, struct mesa_server *s,
                                 struct mesa_conn *conn, const struct mesa_request *req);
void mesa_client_store(struct mesa_client *c, enum mesa_stored which, struct mesa_frame *f);

/* -- timing.c: the one timer of a client -- */
void mesa_client_timing_init(struct mesa_client *c);
/* To be called when any of the due times changed. */
void mesa_client_timing_update(struct mesa_client *c);

/* -- auth.c -- */
/* The client stops being its user: presence, and what was still to be redelivered. `vanished`: what
 * it did not confirm goes back, else what was not queued. */
void mesa_client_leave_user(struct mesa_client *c, bool vanished);

/* -- delivery.c: out -- */
/* Queues a frame of the core's own. The statuses of mesa_client_send. */
enum mesa_status mesa_client_push(struct mesa_client *c, struct mesa_frame *f);
/* The same without a look at what everybody gets. */
enum mesa_status mesa_client_queue(struct mesa_client *c, struct mesa_frame *f);
/* Writes what is queued, as far as the transport takes it. Calls no hook. */
void mesa_client_flush(struct mesa_client *c);
void mesa_server_flush_all(struct mesa_server *s);
/* Room again: continues with what waits. */
void mesa_client_drained(struct mesa_client *c);
void mesa_gather_deinit(struct mesa_gather *g);

/* -- broadcast.c -- */
/* Has everybody get the frame, in place, until the end of the turn. False: it is not done so. */
bool mesa_server_broadcast(struct mesa_server *s, struct mesa_frame *f);
/* Queues what everybody is to get and this client was not given yet: to be called before anything else happens to its queue, or to what it
 * may get. May close it. */
void mesa_client_settle(struct mesa_client *c);
/* The bytes of it. */
size_t mesa_client_unsettled_bytes(const struct mesa_client *c);
/* Queues and writes it for all. */
void mesa_server_broadcast_flush(struct mesa_server *s);
void mesa_broadcasts_deinit(struct mesa_broadcasts *b);

/* -- sync.c: what waits for users who were offline -- */
/* Fetches the backlog of the client's id, to send it or, when the client does not want it, to drop
 * it. */
void mesa_redelivery_begin(struct mesa_client *c);
/* Fetches what could not be fetched before, if there was anything. */
void mesa_redelivery_retry(struct mesa_client *c);
/* Fetches what may have been stored while Redis did not know that the client is here. */
void mesa_redelivery_again(struct mesa_client *c);
/* Queues what is due and fits. May close the client. */
void mesa_redelivery_continue(struct mesa_client *c);
/* When the next message is due; false: nothing waits for a time. */
bool mesa_redelivery_due(const struct mesa_client *c, uint64_t *due_ms);
/* Forgets what is wholly written. Calls no hook. */
void mesa_redelivery_trim(struct mesa_client *c);
/* Puts back what was not queued yet. */
void mesa_redelivery_stop(struct mesa_client *c);
/* Puts back everything that was not written. */
void mesa_redelivery_end(struct mesa_client *c);
/* Whether any of it was queued and is not confirmed. */
bool mesa_redelivery_unconfirmed(const struct mesa_client *c);
/* What mesa_unread_list_init listed is somebody else's now. */
void mesa_redelivery_forget(struct mesa_client *c, bool vanished);
/* What a leaving client did not read, in order: what was redelivered to it and live messages. */
struct mesa_unread_list {
    struct mesa_backlog *parts;
    size_t count;
    struct mesa_span *json;
    uint64_t *ms;
};
enum mesa_status mesa_unread_list_init(struct mesa_unread_list *u, struct mesa_client *c,
                                       bool vanished);
void mesa_unread_list_deinit(struct mesa_unread_list *u);

/* -- recipients.c -- */
/* Sends a message from elsewhere in the cluster to the connections here. `sent` may be NULL. */
enum mesa_status mesa_server_deliver(struct mesa_server *s, struct mesa_frame *f,
                                     const struct mesa_recipients *to, bool sync, mesa_sent_fn sent,
                                     void *ctx);

/* -- cluster.c -- */
extern const struct mesa_broker_hooks mesa_server_broker_hooks;
/* Tells one portal, with portal.enabled. `e` is the message of MESA_PORTAL_MESSAGE, else NULL. */
void mesa_server_tell_portal(struct mesa_client *c, enum mesa_portal_event_type type,
                             const struct mesa_envelope *e);

/* -- unread.c: what a user was sent and may not have received -- */
/* Whether a message counts as received only when the client confirmed it. */
enum mesa_keep {
    MESA_KEEP_NOT,
    MESA_KEEP_SENT,      /* by this server */
    MESA_KEEP_DELIVERED, /* by another one */
};
/* Sends a message of the cluster to a client. While kept messages are on their way, it waits behind them. The statuses of
 * mesa_client_send. */
enum mesa_status mesa_unread_send(struct mesa_client *c, struct mesa_frame *f, enum mesa_keep keep);
/* Kept messages are on their way / were queued. */
void mesa_unread_hold(struct mesa_client *c);
void mesa_unread_release(struct mesa_client *c);
/* Asks the client to confirm what it was sent. */
void mesa_unread_ask(struct mesa_client *c);
void mesa_unread_confirmed(struct mesa_client *c);
/* Forgets everything: the client is another user now. */
void mesa_unread_reset(struct mesa_client *c);
/* How many of the frames ever queued were received, as far as is known. */
uint64_t mesa_unread_received(const struct mesa_client *c);
/* The frames that go back, oldest first; all that was sent and not confirmed, with `vanished`. What
 * another connection of the user here got as well has no JSON. */
size_t mesa_unread_count(const struct mesa_client *c, bool vanished);
struct mesa_unread_message {
    struct mesa_span json;
    uint64_t number; /* in the client's queue, or behind all of it */
};
struct mesa_unread_message mesa_unread_message(const struct mesa_client *c, bool vanished,
                                               size_t i);
enum {
    MESA_RELIEVED_HERE = 2
}; /* by a newer connection of this server; servers have odd numbers */
/* Another connection, or server, answers for what is sent to the user from now on; or not any more, when
 * it was this one (0: whoever it was). */
void mesa_unread_relieve(struct mesa_client *c, uint64_t by);
void mesa_unread_unrelieve(struct mesa_client *c, uint64_t by);
bool mesa_unread_relieved(const struct mesa_client *c);
/* The other servers were told of the client then. Whether that was before; no, while it is not known. */
void mesa_unread_asked(struct mesa_client *c, uint64_t asked);
bool mesa_unread_told_before(const struct mesa_client *c, uint64_t asked);
bool mesa_unread_is_undecided(const struct mesa_client *c);
/* Whether the client has anything to confirm from before `newer` came (NULL: at all). */
bool mesa_unread_any(const struct mesa_client *c, const struct mesa_client *newer);
/* All that the client did not confirm is somebody else's now. */
void mesa_unread_forget(struct mesa_client *c);
void mesa_unread_free(struct mesa_client *c);

/* -- handover.c: from the older connections of a user to the newest -- */
enum { MESA_HAND_OVER_MS = 200 }; /* in which connections that live confirm what they were sent */
/* Whether the user's older connections here have nothing to confirm any more; with `force` what they
 * have not confirmed goes back and the answer is yes. */
bool mesa_hand_over_here(struct mesa_client *c, bool force);
/* Hands over what the leaving client did not read, when another server waits for it. */
bool mesa_hand_over_leave(struct mesa_client *c, const struct mesa_unread_list *unread);
/* The broker's hooks of these names. */
void mesa_server_hand_over(void *ctx, struct mesa_span id, uint64_t by, uint64_t asked,
                           struct mesa_span request);
void mesa_server_returned(void *ctx, struct mesa_span id, uint64_t by);
void mesa_hand_over_init(struct mesa_server *s);
void mesa_hand_over_deinit(struct mesa_server *s);

/* -- guest.c: servers on the port of another one -- */
/* Who serves the path of a request to the port of `host`. */
struct mesa_server *mesa_server_for(struct mesa_server *host, struct mesa_span path);
void mesa_server_close_guests(struct mesa_server *s, int code, const char *reason,
                              uint32_t drain_ms);
/* The server is being freed: leaves its host, and sends its guests away. */
void mesa_server_part(struct mesa_server *s);

/* -- request.c -- */
/* A copy in one allocation, for free(). NULL: no memory. */
struct mesa_packed_request *mesa_request_pack(const struct mesa_request *req);
struct mesa_request *mesa_request_unpack(const struct mesa_packed_request *packed);

/* -- http.c -- */
int mesa_server_check_upgrade(void *ctx, const struct mesa_request *req);
void mesa_server_answer_http(void *ctx, struct mesa_http *h, const struct mesa_request *req,
                             struct mesa_span body);
/* Answers with a line of text; `extra` may be NULL. */
void mesa_server_reply_text(struct mesa_http *h, int status, const char *text,
                            const struct mesa_header *extra);

/* -- refusal.c: peers who were turned away before they were clients -- */
/* Counts and reports one: at most one a second of each kind. May free the server at the end of its
 * bracket. */
void mesa_server_refused(struct mesa_server *s, enum mesa_refusal kind, struct mesa_span ip,
                         const char *text);
/* The transport's on_refused. */
void mesa_server_transport_refused(void *ctx, const char *code, struct mesa_span ip,
                                   const char *text);

/* -- admin.c -- */
enum mesa_status mesa_admin_listen(struct mesa_server *s, char *err, size_t err_len);

#endif
