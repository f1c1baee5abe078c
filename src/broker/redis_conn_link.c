/* redis_conn_link.c - one socket to Redis, for its life. */
#include "broker/redis_conn_link.h"

#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "broker/redis_conn_adapter.h"

enum {
    SLICE_MS = 10,                /* of work on replies, then others have their turn */
    WRITE_BYTES = 512 * 1024,     /* for hiredis at a time: it moves what a write has left */
    OUTPUT_KEPT_BYTES = 64 * 1024 /* of the output buffer, once it is empty */
};

struct request {
    struct mesa_list link;
    mesa_redis_reply_fn fn;
    void *ctx;
};

struct mesa_redis_link {
    struct mesa_redis_adapter adapter; /* its context is NULL once the link is closed */
    struct mesa_loop *loop;
    const struct mesa_redis_options *options;
    struct mesa_redis_tls *tls;
    struct ssl_st *ssl;
    char *host;
    bool connected;
    bool blocked;  /* the socket did not take all that hiredis was given */
    unsigned refs; /* the owner's and the handle's */
    struct mesa_redis_link_hooks hooks;
    void *ctx;

    struct mesa_list requests; /* oldest first */
    size_t request_count;
    struct mesa_buf output;
    size_t output_taken; /* by hiredis */
    struct mesa_turn turn;
    bool turn_set;

    /* Milliseconds of a clock that goes on while a turn lasts. */
    uint64_t waiting_since;   /* for a reply; 0: for none */
    uint64_t heard;           /* when bytes came last */
    size_t partial_bytes;     /* of a reply that is not complete yet */
    struct mesa_timer timer;  /* looks at both, and at the time it takes to connect */
    struct mesa_timer resume; /* the work on what was received */
    struct mesa_timer kick;   /* a turn's hooks may issue commands just before the loop sleeps */
};

static uint64_t now_ms(void)
{
    return uv_hrtime() / 1000000;
}

static void unref(struct mesa_redis_link *l)
{
    if (--l->refs > 0)
        return;
    mesa_buf_deinit(&l->output);
    free(l->host);
    free(l);
}

static void on_released(struct mesa_redis_adapter *a)
{
    unref(MESA_CONTAINER_OF(a, struct mesa_redis_link, adapter));
}

static void fail_requests(struct mesa_redis_link *l)
{
    /* From the list, one at a time: a callback may free the link, and then has to find the rest done. */
    while (!mesa_list_empty(&l->requests)) {
        struct request *q = MESA_CONTAINER_OF(l->requests.next, struct request, link);
        mesa_list_remove(&q->link);
        l->request_count--;
        if (q->fn != NULL)
            q->fn(q->ctx, MESA_ECLOSED, NULL);
        free(q);
    }
}

static void stop_turn(struct mesa_redis_link *l)
{
    if (!l->turn_set)
        return;
    l->turn_set = false;
    mesa_loop_remove_turn(&l->turn);
    mesa_loop_cancel(l->loop, &l->kick);
}

static void close_socket(struct mesa_redis_link *l)
{
    l->connected = false;
    stop_turn(l);
    mesa_loop_cancel(l->loop, &l->timer);
    mesa_loop_cancel(l->loop, &l->resume);
    mesa_redis_adapter_close(&l->adapter);
    l->ssl = NULL;
}

void mesa_redis_link_fail(struct mesa_redis_link *l, const char *reason)
{
    if (l->adapter.context == NULL)
        return;
    char text[256]; /* `reason` may be the context's own */
    snprintf(text, sizeof text, "%s", reason);
    close_socket(l);
    fail_requests(l);
    if (l->hooks.on_closed != NULL)
        l->hooks.on_closed(l->ctx, text);
}

void mesa_redis_link_free(struct mesa_redis_link *l)
{
    if (l == NULL)
        return;
    memset(&l->hooks, 0, sizeof l->hooks);
    if (l->adapter.context != NULL)
        close_socket(l);
    fail_requests(l);
    unref(l);
}

/* Arms the timer for the earliest thing there is to look at. */
static void set_timer(struct mesa_redis_link *l)
{
    uint64_t now = now_ms();
    uint64_t due = l->heard + l->options->keepalive_ms;
    if (!l->connected)
        due = l->heard + l->options->connect_timeout_ms;
    else if (l->waiting_since != 0)
        due = l->waiting_since + l->options->command_timeout_ms;
    mesa_loop_arm(l->loop, &l->timer, due > now ? due - now : 1);
}

static bool is_text(const redisReply *reply, const char *text)
{
    return reply->type == REDIS_REPLY_STRING && reply->len == strlen(text) &&
           memcmp(reply->str, text, reply->len) == 0;
}

static bool is_message(const redisReply *reply)
{
    return reply->type == REDIS_REPLY_ARRAY && reply->elements == 3 &&
           is_text(reply->element[0], "message") && reply->element[1]->type == REDIS_REPLY_STRING &&
           reply->element[2]->type == REDIS_REPLY_STRING;
}

static void dispatch(struct mesa_redis_link *l, redisReply *reply)
{
    if (l->hooks.on_message != NULL && is_message(reply)) {
        const redisReply *channel = reply->element[1], *payload = reply->element[2];
        if (l->waiting_since != 0)
            l->waiting_since = l->heard; /* a flood of messages delays replies */
        l->hooks.on_message(l->ctx, (struct mesa_span){channel->str, channel->len},
                            (struct mesa_span){payload->str, payload->len});
        return;
    }
    if (mesa_list_empty(&l->requests)) {
        /* "-ERR max number of clients reached" comes unasked */
        mesa_redis_link_fail(l, reply->type == REDIS_REPLY_ERROR
                                    ? reply->str
                                    : "protocol error: a reply nobody asked for");
        return;
    }

    struct request *q = MESA_CONTAINER_OF(l->requests.next, struct request, link);
    mesa_list_remove(&q->link);
    l->request_count--;
    l->waiting_since = l->request_count > 0 ? l->heard : 0;
    if (q->fn != NULL)
        q->fn(q->ctx, MESA_OK, (const struct mesa_redis_reply *)reply);
    free(q);
}

static void dispatch_all(struct mesa_redis_link *l)
{
    while (l->adapter.context != NULL) {
        void *reply = NULL;
        if (redisGetReplyFromReader(l->adapter.context, &reply) != REDIS_OK) {
            mesa_redis_link_fail(l, l->adapter.context->errstr);
            return;
        }
        if (reply == NULL)
            return;
        l->partial_bytes = 0;
        dispatch(l, reply);
        freeReplyObject(reply);
    }
}

/* Takes what the socket has. */
static void take(struct mesa_redis_link *l)
{
    if (mesa_redis_adapter_receive(&l->adapter))
        l->heard = now_ms();
    const char *problem = l->ssl != NULL ? mesa_redis_tls_problem(l->ssl) : NULL;
    if (l->adapter.ended && problem != NULL)
        snprintf(l->adapter.reason, sizeof l->adapter.reason, "TLS: %.90s", problem);
}

/* Works on what was received, for some milliseconds at most: the loop has others to serve. Redis is
 * listened to all the while, and fills a socket in less. */
static void parse(struct mesa_redis_link *l)
{
    uint64_t taken = now_ms(), now = taken, end = now + SLICE_MS;
    size_t bytes = 0;
    do {
        if (!mesa_redis_adapter_feed(&l->adapter, &bytes)) {
            mesa_redis_link_fail(l, "out of memory");
            return;
        }
        l->partial_bytes += bytes;
        dispatch_all(l);
        if (l->adapter.context == NULL)
            return;
        if (l->partial_bytes > l->options->reply_limit) {
            mesa_redis_link_fail(l, "a reply is larger than reply_limit");
            return;
        }
        now = now_ms();
        if (bytes > 0 && now > taken) {
            take(l);
            taken = now;
        }
    } while (bytes > 0 && now < end);

    if (bytes > 0)
        mesa_loop_arm(l->loop, &l->resume, 0);
    else if (l->adapter.ended)
        mesa_redis_link_fail(l, l->adapter.reason);
}

/* Takes what the socket has, and the replies in it. */
static void read_all(struct mesa_redis_link *l)
{
    take(l);
    parse(l);
}

static void on_resume(struct mesa_timer *timer)
{
    read_all(MESA_CONTAINER_OF(timer, struct mesa_redis_link, resume));
}

/* What Redis said before it stopped listening tells more than the error of a write. */
static void fail_write(struct mesa_redis_link *l)
{
    char reason[128];
    snprintf(reason, sizeof reason, "%.120s", l->adapter.context->errstr);
    read_all(l);
    mesa_redis_link_fail(l, reason);
}

static void watch(struct mesa_redis_link *l, bool writable)
{
    int rc =
        mesa_redis_adapter_watch(&l->adapter, writable ? UV_READABLE | UV_WRITABLE : UV_READABLE);
    if (rc != 0)
        mesa_redis_link_fail(l, uv_strerror(rc));
}

static void flush(struct mesa_redis_link *l)
{
    redisContext *c = l->adapter.context;
    int done = 1;
    stop_turn(l);
    if (l->request_count > 0 && l->waiting_since == 0) {
        l->waiting_since = now_ms();
        set_timer(l);
    }
    do {
        if (done) {
            size_t left = l->output.len - l->output_taken;
            size_t n = left < WRITE_BYTES ? left : WRITE_BYTES;
            if (n > 0 &&
                redisAppendFormattedCommand(c, l->output.data + l->output_taken, n) != REDIS_OK) {
                fail_write(l);
                return;
            }
            l->output_taken += n;
        }
        if (redisBufferWrite(c, &done) != REDIS_OK) {
            fail_write(l);
            return;
        }
    } while (done && l->output_taken < l->output.len);

    mesa_redis_drop_taken(&l->output, &l->output_taken, OUTPUT_KEPT_BYTES);
    l->blocked = !done;
    watch(l, !done && !(l->ssl != NULL && mesa_redis_tls_wants_input(l->ssl)));
}

static void on_turn(struct mesa_turn *turn)
{
    flush(MESA_CONTAINER_OF(turn, struct mesa_redis_link, turn));
}

static void on_kick(struct mesa_timer *timer)
{
    (void)timer; /* the loop is awake: the hook comes */
}

static void on_connected(struct mesa_redis_link *l)
{
    redisContext *c = l->adapter.context;
    int problem = 0;
    socklen_t len = sizeof problem;
    if (getsockopt(c->fd, SOL_SOCKET, SO_ERROR, &problem, &len) != 0)
        problem = errno;
    if (problem != 0) {
        mesa_redis_link_fail(l, strerror(problem));
        return;
    }
    if (l->tls != NULL) {
        char reason[200];
        l->ssl = mesa_redis_tls_start(l->tls, c, l->host, reason, sizeof reason);
        if (l->ssl == NULL) {
            mesa_redis_link_fail(l, reason);
            return;
        }
    }
    l->connected = true;
    l->heard = now_ms();
    set_timer(l);
    watch(l, false);
    if (l->adapter.context != NULL)
        l->hooks.on_open(l->ctx);
}

static void on_event(struct mesa_redis_adapter *a, int status, int events)
{
    struct mesa_redis_link *l = MESA_CONTAINER_OF(a, struct mesa_redis_link, adapter);
    if (!l->connected) {
        on_connected(l); /* or not: the socket says */
        return;
    }
    /* What came before the end is there to be read; reading then says how it ended. */
    if (status != 0 || (events & UV_READABLE) != 0)
        read_all(l);
    if (status != 0 && l->adapter.context != NULL && !mesa_timer_armed(&l->resume))
        mesa_redis_link_fail(l, "the connection broke");
    if (l->adapter.context != NULL && l->blocked)
        flush(l);
}

static void on_timer(struct mesa_timer *timer)
{
    struct mesa_redis_link *l = MESA_CONTAINER_OF(timer, struct mesa_redis_link, timer);
    uint64_t now = now_ms();
    char reason[96];

    /* A turn that took long must not cost the connection: look before judging. */
    if (!l->connected) {
        struct pollfd fd = {.fd = l->adapter.context->fd, .events = POLLOUT};
        if (poll(&fd, 1, 0) > 0) {
            on_connected(l);
            return;
        }
        if (now - l->heard < l->options->connect_timeout_ms) {
            set_timer(l);
            return;
        }
        snprintf(reason, sizeof reason, "no connection within %u ms",
                 l->options->connect_timeout_ms);
        mesa_redis_link_fail(l, reason);
        return;
    }
    read_all(l);
    if (l->adapter.context == NULL)
        return;

    now = now_ms();
    bool behind = mesa_timer_armed(&l->resume); /* the reply may be here already */
    if (!behind && l->waiting_since != 0 &&
        now - l->waiting_since >= l->options->command_timeout_ms) {
        snprintf(reason, sizeof reason, "no reply within %u ms", l->options->command_timeout_ms);
        mesa_redis_link_fail(l, reason);
        return;
    }
    if (l->request_count == 0 && now - l->heard >= l->options->keepalive_ms)
        mesa_redis_link_command(l, 1, &MESA_SPAN("PING"), NULL, NULL);
    set_timer(l);
}

enum mesa_status mesa_redis_link_open(struct mesa_redis_link **out, struct mesa_loop *loop,
                                      const struct mesa_redis_address *address,
                                      const struct mesa_redis_link_options *options,
                                      const struct mesa_redis_link_hooks *hooks, void *ctx,
                                      char *err, size_t err_len)
{
    struct mesa_redis_link *l = calloc(1, sizeof *l);
    if (l == NULL || (l->host = strdup(options->host)) == NULL) {
        free(l);
        snprintf(err, err_len, "out of memory");
        return MESA_ENOMEM;
    }
    l->loop = loop;
    l->options = options->redis;
    l->tls = options->tls;
    l->hooks = *hooks;
    l->ctx = ctx;
    mesa_list_init(&l->requests);
    mesa_buf_init(&l->output);
    l->turn.fn = on_turn;
    mesa_list_init(&l->turn.link);
    mesa_timer_init(&l->timer, on_timer);
    mesa_timer_init(&l->kick, on_kick);
    mesa_timer_init(&l->resume, on_resume);
    l->adapter.on_event = on_event;
    l->adapter.on_released = on_released;
    l->refs = 2;

    int rc = mesa_redis_adapter_connect(&l->adapter, mesa_loop_uv(loop),
                                        (const struct sockaddr *)&address->sa, address->len,
                                        options->redis->keepalive_ms);
    if (rc != 0) {
        snprintf(err, err_len, "%s", uv_strerror(rc));
        free(l->host);
        free(l);
        return MESA_EIO;
    }
    rc = mesa_redis_adapter_watch(&l->adapter, UV_WRITABLE);
    if (rc != 0) {
        snprintf(err, err_len, "%s", uv_strerror(rc));
        mesa_redis_link_free(l);
        return MESA_EIO;
    }
    l->heard = now_ms();
    set_timer(l);
    *out = l;
    return MESA_OK;
}

void mesa_redis_link_set_hooks(struct mesa_redis_link *l, const struct mesa_redis_link_hooks *hooks,
                               void *ctx)
{
    l->hooks = hooks != NULL ? *hooks : (struct mesa_redis_link_hooks){0};
    l->ctx = ctx;
}

bool mesa_redis_link_up(const struct mesa_redis_link *l)
{
    return l->connected;
}

size_t mesa_redis_link_pending(const struct mesa_redis_link *l)
{
    return l->request_count;
}

static enum mesa_status append_command(struct mesa_buf *out, size_t argc,
                                       const struct mesa_span *argv)
{
    size_t start = out->len;
    enum mesa_status rc = mesa_buf_printf(out, "*%zu\r\n", argc);
    for (size_t i = 0; i < argc && rc == MESA_OK; i++) {
        rc = mesa_buf_printf(out, "$%zu\r\n", argv[i].len);
        if (rc == MESA_OK)
            rc = mesa_buf_append(out, argv[i].p, argv[i].len);
        if (rc == MESA_OK)
            rc = mesa_buf_append(out, "\r\n", 2);
    }
    if (rc != MESA_OK)
        out->len = start;
    return rc;
}

enum mesa_status mesa_redis_link_command(struct mesa_redis_link *l, size_t argc,
                                         const struct mesa_span *argv, mesa_redis_reply_fn fn,
                                         void *ctx)
{
    if (!l->connected)
        return MESA_ECLOSED;
    size_t bytes = 0;
    for (size_t i = 0; i < argc; i++)
        bytes += argv[i].len;
    size_t waiting = l->output.len - l->output_taken;
    if (waiting + bytes > l->options->output_limit && waiting > 0)
        return MESA_EAGAIN;

    struct request *q = malloc(sizeof *q);
    if (q == NULL)
        return MESA_ENOMEM;
    enum mesa_status rc = append_command(&l->output, argc, argv);
    if (rc != MESA_OK) {
        free(q);
        return rc;
    }
    q->fn = fn;
    q->ctx = ctx;
    mesa_list_init(&q->link);
    mesa_list_append(&l->requests, &q->link);
    l->request_count++;
    if (!l->turn_set) {
        l->turn_set = true;
        mesa_loop_add_turn(l->loop, &l->turn);
        mesa_loop_arm(l->loop, &l->kick, 0);
    }
    return MESA_OK;
}

enum mesa_status mesa_redis_link_auth(struct mesa_redis_link *l, const char *user,
                                      const char *password, mesa_redis_reply_fn fn, void *ctx)
{
    struct mesa_span argv[3] = {MESA_SPAN("AUTH")};
    size_t argc = 1;
    if (user != NULL)
        argv[argc++] = (struct mesa_span){user, strlen(user)};
    argv[argc++] = (struct mesa_span){password, strlen(password)};
    return mesa_redis_link_command(l, argc, argv, fn, ctx);
}
