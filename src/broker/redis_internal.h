/* redis_internal.h - what the files of the Redis broker share.
 *
 * Private to the files named below. Loop thread only. May
 * include: what broker.h may.
 *
 * A node has one random id, the origin of what it publishes, and a new incarnation each time it
 * reaches Redis: all it has is announced under the new one before the earlier one is removed, so
 * that neither a restarted Redis nor one that was merely out of reach needs to be asked what it
 * still knows, and nobody is seen absent in between.
 */
#ifndef MESA_BROKER_REDIS_INTERNAL_H
#define MESA_BROKER_REDIS_INTERNAL_H

#include "base/list.h"
#include "base/map.h"
#include "broker/broker.h"
#include "broker/redis_conn.h"
#include "broker/redis_scripts.h"

enum {
    MESA_NODE_ID_LEN = 22,
    MESA_INCARNATION_LEN = MESA_NODE_ID_LEN + 11, /* "<node>-<number>", "<node>+<number>" */
    MESA_INCARNATIONS_KEPT = 4, /* earlier ones to be removed; older ones lose their lease anyway */
    MESA_KEPT_BYTES = 64 * 1024 * 1024, /* of what waits for Redis to return, or for its answer */
};

struct mesa_redis_broker;
struct mesa_redis_call;

/* `reply` NULL: the connection was lost, what became of the command is unknown. */
typedef void (*mesa_redis_call_fn)(struct mesa_redis_call *c, const struct mesa_redis_reply *reply);

/* A command on its way, or kept for the time when Redis is back. Owns its arguments. */
struct mesa_redis_call {
    struct mesa_list link; /* broker.kept */
    struct mesa_redis_broker *broker;
    mesa_redis_call_fn fn; /* NULL: only errors are of interest */
    void *ctx;
    enum mesa_redis_script script; /* MESA_SCRIPT_COUNT_: the arguments are the whole command */
    bool whole;                    /* the script was sent with its text, after NOSCRIPT */
    bool message;                  /* counts against redis.queue */
    size_t count, bytes;
    struct mesa_span args[];
};

struct mesa_redis_portal {
    struct mesa_list link; /* broker.portals */
    uint64_t connection;   /* Redis's id of its subscribed connection; 0: unknown */
    unsigned missed;       /* refreshes of the pool in a row that did not have it */
    bool leased;           /* as of the latest one */
    uint64_t doubted_ms;   /* since when it has seemed dead; 0: it does not */
    size_t id_len;
    char id[];
};

struct mesa_redis_broker {
    struct mesa_broker base;
    struct mesa_loop *loop;
    const struct mesa_config *cfg;
    struct mesa_redis *commands, *subscriber;
    struct mesa_buf suffix;                /* of every name: "" or "_<namespace>" */
    struct mesa_buf channel, pool, portal; /* ws, available_portals_pool, portal */
    struct mesa_buf kept_channel;          /* mesa:kept */
    struct mesa_buf scratch;
    struct mesa_buf echo; /* how the messages of this node begin */
    char sha[MESA_SCRIPT_COUNT_][41];
    unsigned loading; /* scripts whose hashes are awaited */

    char node[MESA_NODE_ID_LEN + 1];
    char incarnation[MESA_INCARNATION_LEN + 1];
    char earlier[MESA_INCARNATIONS_KEPT][MESA_INCARNATION_LEN + 1];
    size_t earlier_count;
    unsigned number; /* of the incarnation */
    struct mesa_map *users;
    int64_t connections, counted; /* those here; those that Redis was told of */

    struct mesa_list kept; /* struct mesa_redis_call, until Redis is back */
    size_t kept_messages, kept_bytes, sent_bytes;
    struct mesa_turn turn;
    struct mesa_timer tick;
    struct mesa_list waiting; /* takes to be tried again */
    struct mesa_timer retry;
    struct mesa_buf confirms; /* of this turn: arguments of MESA_SCRIPT_CONFIRM in a row */
    size_t *confirm_lens;     /* of each */
    size_t confirm_count;
    struct mesa_list portals;
    struct mesa_list *next_portal; /* the one that had the latest event */
    size_t portal_count;

    /* redis_heal.c */
    struct mesa_timer heal; /* armed while something was refused */
    uint32_t heal_ms;       /* until it is tried again */
    size_t refused_users;   /* in `users`, which Redis did not take */
    bool count_refused;
    bool take_refused;
    int64_t surplus; /* connections too many in Redis, as it seems */
    uint64_t surplus_since_ms;
    bool announced;            /* the incarnation is whole */
    char refusal[200];         /* why Redis refuses what it is told of presence; "": it does not */
    char cursors[2][24];       /* how far the audit has come */
    char channel_trouble[200]; /* why the subscriber is away */
    bool channel_told;
    struct mesa_timer channel_timer; /* armed while it may still come by itself */

    mesa_broker_closed_fn closed_fn;
    void *closed_ctx;
    struct mesa_timer closing_timer;
    size_t unsure; /* messages of which nobody knows whether they were kept */
    bool loaded;   /* the scripts are, on the connection there is */
    bool up;       /* all was restored */
    bool closing, freeing;
};

static inline struct mesa_redis_broker *mesa_redis_self(struct mesa_broker *b)
{
    return MESA_CONTAINER_OF(b, struct mesa_redis_broker, base);
}

/* -- redis_call.c -- */
/* A call with a copy of `args`, not sent yet. NULL: no memory. */
struct mesa_redis_call *mesa_redis_call_new(struct mesa_redis_broker *r,
                                            enum mesa_redis_script script,
                                            const struct mesa_span *args, size_t count,
                                            mesa_redis_call_fn fn, void *ctx);
/* Sends it; its function is called and it is freed in any case. */
void mesa_redis_call_send(struct mesa_redis_call *c);
/* Both steps; without memory the function is not called and MESA_ENOMEM returned. */
enum mesa_status mesa_redis_do(struct mesa_redis_broker *r, enum mesa_redis_script script,
                               const struct mesa_span *args, size_t count, mesa_redis_call_fn fn,
                               void *ctx);
/* Keeps a call until Redis is back; false: there is no room, the call was freed. */
bool mesa_redis_keep(struct mesa_redis_call *c);
void mesa_redis_send_kept(struct mesa_redis_broker *r);
/* The text of a reply that is an error; NULL: it is none. */
const char *mesa_redis_reply_error(const struct mesa_redis_reply *reply);

static inline struct mesa_span mesa_redis_text(const char *s)
{
    return (struct mesa_span){s, strlen(s)};
}

static inline struct mesa_span mesa_redis_span(const struct mesa_buf *b)
{
    return (struct mesa_span){b->data != NULL ? b->data : "", b->len};
}

/* -- redis.c -- */
void mesa_redis_error(struct mesa_redis_broker *r, const char *code, const char *text);

/* -- redis_presence.c -- */
/* Announces a new incarnation with all this node has. `exactly`: what is known of its users may be wrong,
 * and they are counted anew. */
void mesa_redis_presence_restore(struct mesa_redis_broker *r, bool exactly);
/* Announces the users that Redis has refused. */
void mesa_redis_presence_repeat(struct mesa_redis_broker *r);
/* Refreshes the lease, removes dead nodes. */
void mesa_redis_presence_tend(struct mesa_redis_broker *r);
/* Tells Redis of connections made and ended since the last time. */
void mesa_redis_presence_count(struct mesa_redis_broker *r);
void mesa_redis_user_online(struct mesa_broker *b, struct mesa_span id);
void mesa_redis_user_offline(struct mesa_broker *b, struct mesa_span id,
                             const struct mesa_backlog *unread);
void mesa_redis_connected(struct mesa_broker *b);
void mesa_redis_disconnected(struct mesa_broker *b);

/* -- redis_heal.c: what Redis has refused, lost or evicted -- */
void mesa_redis_heal_init(struct mesa_redis_broker *r);
/* Whether the reply to a step of presence, or to a take, is a refusal: then it is repeated in a
 * moment. */
bool mesa_redis_refused(struct mesa_redis_broker *r, const struct mesa_redis_reply *reply);
/* Nothing is refused any more, as far as is known. */
void mesa_redis_healed(struct mesa_redis_broker *r);
/* Redis has taken everything there was to tell: it may give what it refused to give, too. */
void mesa_redis_tended(struct mesa_redis_broker *r);
/* Something is to be done again. */
void mesa_redis_heal_later(struct mesa_redis_broker *r);
/* How many connections too many there seem to be in Redis; and how many are to be taken off, since that
 * has lasted. */
void mesa_redis_note_surplus(struct mesa_redis_broker *r, int64_t surplus);
int64_t mesa_redis_surplus(const struct mesa_redis_broker *r);
/* Compares a piece of what Redis knows of users with who is here. */
void mesa_redis_audit(struct mesa_redis_broker *r);

/* -- redis_sync.c: to the store, and back to it -- */
/* The bounds of the store as arguments of a script. */
struct mesa_redis_bounds {
    char text[3][24];
};
void mesa_redis_write_bounds(const struct mesa_redis_broker *r, struct mesa_redis_bounds *b);
/* Writes them into three arguments. */
static inline void mesa_redis_put_bounds(const struct mesa_redis_bounds *b, struct mesa_span *args)
{
    for (size_t i = 0; i < 3; i++)
        args[i] = mesa_redis_text(b->text[i]);
}

enum mesa_status mesa_redis_send(struct mesa_broker *b, const struct mesa_publication *p);
void mesa_redis_put_back(struct mesa_broker *b, struct mesa_span id,
                         const struct mesa_backlog *unread);
/* The user has no connection here any more (`gone`), or one less. */
void mesa_redis_part(struct mesa_redis_broker *r, struct mesa_span id, bool gone,
                     const struct mesa_backlog *unread);
/* A PART that has waited is about to be sent: who has come back meanwhile is not taken out. */
void mesa_redis_part_again(struct mesa_redis_call *c);
/* What scripts that change the store say beside what was stored, at these places of a reply. */
void mesa_redis_report_changes(struct mesa_redis_broker *r, const struct mesa_redis_reply *reply);
/* A list of dropped messages, {id, json, ...}; and one of errors. */
void mesa_redis_report_dropped(struct mesa_redis_broker *r, const struct mesa_redis_reply *list);
void mesa_redis_report_errors(struct mesa_redis_broker *r, const struct mesa_redis_reply *list);

/* -- redis_take.c: from the store, and until it is confirmed -- */
void mesa_redis_take(struct mesa_broker *b, struct mesa_span id, const struct mesa_take *what,
                     mesa_backlog_wanted_fn wanted, mesa_backlog_fn fn, void *ctx);
void mesa_redis_waiting_free(struct mesa_redis_broker *r);
void mesa_redis_on_retry(struct mesa_timer *t);
enum mesa_status mesa_redis_confirm(struct mesa_broker *b, struct mesa_span id,
                                    const struct mesa_confirmation *c);
/* Tells Redis what was confirmed since the last time. */
void mesa_redis_send_confirms(struct mesa_redis_broker *r);

/* -- redis_portal.c -- */
void mesa_redis_tell_portal(struct mesa_broker *b, const struct mesa_portal_event *e);
void mesa_redis_portal_update(struct mesa_redis_broker *r, const char *text, size_t len);
/* Compares what is known with the pool and with who is subscribed. */
void mesa_redis_portals_check(struct mesa_redis_broker *r);
void mesa_redis_portals_free(struct mesa_redis_broker *r);

#endif
