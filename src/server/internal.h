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
    struct mesa_frame *hello, *heartbeat, *ack;
    struct mesa_frame *confirm;  /* a ping whose pong says what was received; NULL: not asked for */
    uint64_t sends;              /* messages to ids so far */
    uint64_t seen;               /* the number of the latest message from elsewhere */
    uint64_t gaps;               /* how often some of those may have been missed */
    struct mesa_list confirming; /* clients that received something the broker does not know of */
    struct mesa_timer confirm_timer;
    struct mesa_turn turn;
    struct mesa_list upgrades; /* that wait to be decided */
    struct mesa_list dirty;    /* clients with frames queued in this turn */
    struct mesa_list gone;     /* clients to give back at the end of the turn */
    struct mesa_gather gather;
    struct mesa_deflate_options deflate; /* of cfg.compression */
    struct mesa_buf wire;                /* frames for a connection with compression */
    struct mesa_broadcasts broadcasts;
    size_t open_count;        /* clients not closing */
    size_t live_count;        /* connections the transport still has, those of guests included */
    struct mesa_server *host; /* on whose port this one is a guest; NULL: it listens itself */
    struct mesa_list guests;
    struct mesa_list guest; /* host->guests */
    unsigned depth;         /* open brackets */
    bool in_callback; /* the outermost bracket is a callback of the transport or of the broker,
                         which go on after it */
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
    struct mesa_certificate *certificate;       /* NULL: it has shown none */
    struct mesa_outq outq;
    struct mesa_list link;       /* the server's dirty or gone */
    struct mesa_list confirming; /* the server's */
    struct mesa_timer timer;     /* the earliest of what is due below */
    uint64_t heartbeat_due_ms;
    uint64_t deadline_ms; /* of authentication while open, of draining while closing; 0: none */
    uint64_t received_ms; /* when anything came last */
    struct mesa_client_state state;
    struct mesa_rate rate;
    struct mesa_redelivery *redelivery; /* NULL: none */
    struct mesa_taking *taking;         /* the latest that has no answer yet */
    struct mesa_unread *unread;         /* NULL: nobody asks what was received */
    struct mesa_outq *stored;           /* NULL, or one ring for each enum mesa_stored */
    struct mesa_pending_close *pending_close;
    uint64_t broadcasts; /* how many of the server's it was given, or was not meant for */
    uint64_t pushed;     /* frames ever queued; minus what waits: frames ever written */
    uint32_t refs;
    uint16_t fetching;             /* takes that have no answer yet */
    enum mesa_take_mode take_mode; /* of the next one */
    char server_id[MESA_SERVER_ID_LEN];
    bool closed : 1;
    bool told : 1;       /* on_disconnect was called */
    bool close_sent : 1; /* mesa_conn_close was called */
    bool backed_up : 1;  /* the transport takes nothing until on_drained */
    bool wants_drain : 1;
    bool backlog_missed : 1; /* it could not be fetched, or there may be more now */
    bool script_paused : 1;
    bool conn_paused : 1;
    bool deflates : 1; /* the connection has compression */
};

static inline uint32_t mesa_server_burst(const struct mesa_server *s)
{
    return s->cfg.limits.burst > 0 ? s->cfg.limits.burst : s->cfg.limits.messages_per_second;
}

/* -- server.c -- */
void mesa_server_enter(struct mesa_server *s);
void mesa_server_leave(struct mesa_server *s);
/* The same around a callback of the transport or of the broker. */
void mesa_server_enter_callback(struct mesa_server *s);
void mesa_server_leave_callback(struct mesa_server *s);
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
/* mesa_client_must_authenticate of one that has a server, as whoever is not closed does. */
static inline bool mesa_client_is_shut_out(const struct mesa_client *c)
{
    return c->server->cfg.authentication.required && !c->state.authenticated;
}

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
/* The usual case of it, of an open client: room without a look at the bounds. False: it is not that. */
static inline bool mesa_client_queue_quickly(struct mesa_client *c, struct mesa_frame *f)
{
    size_t quick = c->server->cfg.limits.max_backpressure / 2;
    if (f->len > quick || mesa_outq_push(&c->outq, f, quick) != MESA_OK)
        return false;
    c->pushed++;
    if (!c->backed_up && mesa_list_empty(&c->link))
        mesa_list_append(&c->server->dirty, &c->link);
    return true;
}
/* Writes what is queued, as far as the transport takes it. Calls no hook. */
void mesa_client_flush(struct mesa_client *c);
void mesa_server_flush_all(struct mesa_server *s);
/* Room again: continues with what waits. */
void mesa_client_drained(struct mesa_client *c);
void mesa_gather_deinit(struct mesa_gather *g);

/* -- compression.c: the same for connections with permessage-deflate -- */
void mesa_server_init_compression(struct mesa_server *s);
/* Compresses what is at the front of the queue, and writes it. The statuses of mesa_conn_write. */
enum mesa_status mesa_client_write_compressed(struct mesa_client *c);

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
/* Fetches the backlog of the client's id, to send it, to drop it, or only to know what came before. */
void mesa_redelivery_begin(struct mesa_client *c, enum mesa_take_mode mode);
/* Fetches what has not been fetched yet, or there is only now. */
void mesa_redelivery_again(struct mesa_client *c);
/* Queues what is due and fits. May close the client. */
void mesa_redelivery_continue(struct mesa_client *c);
/* When the next message is due; false: nothing waits for a time. */
bool mesa_redelivery_due(const struct mesa_client *c, uint64_t *due_ms);
/* Forgets what is wholly written, or confirmed; whether something is queued and is not. Calls no hook. */
bool mesa_redelivery_trim(struct mesa_client *c);
/* Puts back what was not queued yet; what the broker keeps is forgotten. */
void mesa_redelivery_stop(struct mesa_client *c);
/* Puts back everything that was not written. */
void mesa_redelivery_end(struct mesa_client *c);
/* Gives up what is not queued; the stamp up to which the client was given something then. */
uint64_t mesa_redelivery_give_up(struct mesa_client *c, uint64_t taken);
/* What mesa_unread_list_init listed is somebody else's now. */
void mesa_redelivery_forget(struct mesa_client *c, bool vanished);
/* What goes back when a client leaves its user, in order: what it was not given or, `vanished`, may not
 * have received, and nobody keeps. */
struct mesa_unread_list {
    struct mesa_backlog backlog;
    struct mesa_span *json;
    uint64_t *stamps;
};
enum mesa_status mesa_unread_list_init(struct mesa_unread_list *u, struct mesa_client *c,
                                       bool vanished);
void mesa_unread_list_deinit(struct mesa_unread_list *u);

/* -- recipients.c -- */
/* Sends a message from elsewhere in the cluster to the connections here. `sent` may be NULL. */
enum mesa_status mesa_server_deliver(struct mesa_server *s, struct mesa_frame *f,
                                     const struct mesa_recipients *to, bool sync, uint64_t number,
                                     mesa_sent_fn sent, void *ctx);

/* -- cluster.c -- */
extern const struct mesa_broker_hooks mesa_server_broker_hooks;
/* The broker's on_unkept; also for what could not be given to the broker at all. */
void mesa_server_unkept(void *ctx, const struct mesa_span *ids, size_t count, uint64_t send);
/* Tells one portal. `e` is the message of MESA_PORTAL_MESSAGE, else NULL. */
void mesa_server_tell_one_portal(struct mesa_client *c, enum mesa_portal_event_type type,
                                 const struct mesa_envelope *e);
/* The same, with portal.enabled, for a client that a hook may have left without a server. */
static inline void mesa_server_tell_portal(struct mesa_client *c, enum mesa_portal_event_type type,
                                           const struct mesa_envelope *e)
{
    if (c->server != NULL && c->server->cfg.portal.enabled)
        mesa_server_tell_one_portal(c, type, e);
}

/* -- unread.c: what a user was sent and may not have received -- */
/* Who has a message until the client has confirmed it. */
enum mesa_keep {
    MESA_KEEP_NOT,      /* nobody */
    MESA_KEEP_HERE,     /* this server, which puts it back when the connection ends */
    MESA_KEEP_OWN,      /* the broker, under the count of this server's sends */
    MESA_KEEP_NUMBERED, /* the broker, under its number */
};
struct mesa_kept_frame {
    struct mesa_frame *frame;
    enum mesa_keep keep;
    uint64_t number; /* 0: none */
    uint64_t send;   /* of MESA_KEEP_OWN */
};
/* Sends a message of the cluster to a client. While kept messages are on their way, it waits behind them. The statuses of
 * mesa_client_send. */
enum mesa_status mesa_unread_send(struct mesa_client *c, const struct mesa_kept_frame *m);
/* Kept messages were queued: what waits follows. */
void mesa_unread_release(struct mesa_client *c);
/* Asks the client to confirm what it was sent. */
void mesa_unread_ask(struct mesa_client *c);
void mesa_unread_confirmed(struct mesa_client *c);
/* Something redelivered was received. */
void mesa_unread_received_stamp(struct mesa_client *c, uint64_t stamp);
/* How many of the frames ever queued were received, as far as is known. */
uint64_t mesa_unread_received(const struct mesa_client *c);
/* What was sent with this count is not kept by the broker. */
void mesa_unread_unkept(struct mesa_client *c, uint64_t send);
/* Says what the client has been given. From now on everything waits, if it has been given nothing. */
void mesa_unread_before_take(struct mesa_client *c, struct mesa_take *what);
/* Somebody left what it had taken: unless some of it is the client's own, all of it is to be given. */
void mesa_unread_left_over(struct mesa_client *c);
/* What this server sends from now on comes behind what is taken. */
void mesa_unread_asked(struct mesa_client *c);
/* `missed`: messages may have been since then. */
void mesa_unread_after_take(struct mesa_client *c, const struct mesa_take *what,
                            const struct mesa_backlog *backlog, bool missed);
/* Tells the broker in a moment what was received: what is confirmed until then goes along. */
void mesa_unread_tell(struct mesa_client *c);
void mesa_unread_on_confirm_timer(struct mesa_timer *t);
/* Messages from elsewhere may be missed from now on. */
void mesa_unread_gap(struct mesa_client *c);
/* How many messages mesa_unread_leave fills in at most. */
size_t mesa_unread_count(const struct mesa_client *c);
/* The client is leaving its user: fills in what goes back and returns the number. */
size_t mesa_unread_leave(struct mesa_client *c, bool vanished, struct mesa_span *json,
                         uint64_t *stamps);
/* Forgets everything: the client is another user now. */
void mesa_unread_reset(struct mesa_client *c);
void mesa_unread_free(struct mesa_client *c);

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
int mesa_server_check_upgrade(void *ctx, const struct mesa_request *req, struct mesa_upgrade *out);
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

/* -- upgrade.c -- */
/* The transport's on_handshake. */
void mesa_server_begin_upgrade(void *ctx, struct mesa_handshake *h, const struct mesa_request *req);
/* The server closes: those that wait are refused with 503. */
void mesa_server_refuse_upgrades(struct mesa_server *s);

/* -- trace.c: the log of --log-level debug; nothing is formatted without it. -- */
void mesa_trace_connected(const struct mesa_client *c, const struct mesa_request *req);
void mesa_trace_gone(const struct mesa_client *c, int code, struct mesa_span reason);
/* `e` is NULL on a raw server. */
void mesa_trace_message(const struct mesa_client *c, const struct mesa_envelope *e, size_t bytes);
void mesa_trace_authenticating(const struct mesa_client *c);
void mesa_trace_authenticated(const struct mesa_client *c, struct mesa_span id);
void mesa_trace_refused(const struct mesa_client *c);
void mesa_trace_http(const struct mesa_request *req, size_t body_bytes);

/* -- admin.c -- */
enum mesa_status mesa_admin_listen(struct mesa_server *s, char *err, size_t err_len);

#endif
