/* wsclient.c - the life of an outgoing WebSocket, see wsclient.h. */
#include "io/wsclient.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "io/client_tls.h"
#include "io/wsclient_internal.h"

/* -- the end ------------------------------------------------------------------------------------ */

static void drop_link(struct mesa_wsclient *c)
{
    if (c->link == NULL)
        return;
    mesa_outconn_release(&c->link->out);
    c->link = NULL;
}

static void stop(struct mesa_wsclient *c)
{
    c->phase = WSC_OVER;
    mesa_loop_cancel(c->transport->loop, &c->timer);
    mesa_job_cancel(&c->resume);
    mesa_loop_release(c->transport->loop);
    mesa_lookup_cancel(c->lookup);
    c->lookup = NULL;
    drop_link(c);
}

void mesa_wsclient_finish(struct mesa_wsclient *c, const char *error)
{
    if (c->phase == WSC_OVER)
        return;
    stop(c);
    c->hooks.on_close(c->ctx, c->close_code, c->close_reason, c->close_reason_len, error);
}

void mesa_wsclient_set_close(struct mesa_wsclient *c, int code, const char *reason, size_t len)
{
    if (len > sizeof c->close_reason) {
        len = sizeof c->close_reason;
        while (len > 0 && ((unsigned char)reason[len] & 0xc0) == 0x80)
            len--;
    }
    c->close_code = code;
    c->close_reason_len = len;
    if (len > 0)
        memcpy(c->close_reason, reason, len);
}

static void on_timer(struct mesa_timer *timer)
{
    struct mesa_wsclient *c = MESA_CONTAINER_OF(timer, struct mesa_wsclient, timer);
    if (c->phase == WSC_CLOSING)
        mesa_wsclient_finish(c, NULL);
    else
        mesa_wsclient_finish(c, c->error[0] != '\0' ? c->error : "timed out");
}

static void note_error(struct mesa_wsclient *c, const char *error)
{
    if (c->error[0] == '\0') /* the first reason is the best */
        snprintf(c->error, sizeof c->error, "%s", error);
}

/* Reports a failure from the loop, never from inside the call that met it. */
static void fail_later(struct mesa_wsclient *c, const char *error)
{
    note_error(c, error);
    mesa_loop_arm(c->transport->loop, &c->timer, 0);
}

void mesa_wsclient_free(struct mesa_wsclient *c)
{
    if (c == NULL)
        return;
    if (c->freed != NULL)
        *c->freed = true;
    if (c->phase != WSC_OVER)
        stop(c);
    mesa_http_response_deinit(&c->response);
    mesa_ws_reader_deinit(&c->reader);
    mesa_buf_deinit(&c->input);
    mesa_buf_deinit(&c->message);
    mesa_url_deinit(&c->url);
    free(c->ca);
    free(c);
}

/* -- closing and pausing ------------------------------------------------------------------------ */

void mesa_wsclient_begin_close(struct mesa_wsclient *c)
{
    unsigned char body[2 + MESA_MAX_REASON_BYTES] = {(unsigned char)(c->close_code >> 8),
                                                     (unsigned char)c->close_code};
    size_t len = c->close_code == MESA_CLOSE_NO_STATUS ? 0 : 2 + c->close_reason_len;
    memcpy(body + 2, c->close_reason, c->close_reason_len);
    c->phase = WSC_CLOSING;
    c->close_sent = true;
    mesa_loop_arm(c->transport->loop, &c->timer, MESA_CLOSE_TIMEOUT_MS);
    (void)mesa_wsclient_write(c, MESA_WS_CLOSE, (const char *)body, len);
}

void mesa_wsclient_close(struct mesa_wsclient *c, int code, const char *reason, size_t len)
{
    if (c->phase == WSC_CLOSING || c->phase == WSC_OVER)
        return;
    mesa_wsclient_set_close(c, code, reason, len);
    if (c->phase != WSC_OPEN) {
        mesa_lookup_cancel(c->lookup);
        c->lookup = NULL;
        drop_link(c);
        fail_later(c, "given up");
        return;
    }
    mesa_wsclient_pause(c, false); /* the server's answer is awaited */
    mesa_wsclient_begin_close(c);
}

void mesa_wsclient_pause(struct mesa_wsclient *c, bool pause)
{
    if (c->phase != WSC_OPEN || c->paused == pause)
        return;
    c->paused = pause;
    mesa_outconn_pause(&c->link->out, pause);
    if (!pause && !mesa_job_queued(&c->resume))
        mesa_loop_queue(c->transport->loop, &c->resume);
}

enum mesa_status mesa_wsclient_send(struct mesa_wsclient *c, const char *text, size_t len)
{
    if (c->phase != WSC_OPEN)
        return MESA_ECLOSED;
    size_t queued = mesa_outconn_queued(&c->link->out), max = c->max_queue_bytes;
    if (queued > 0 && (len > max || queued > max - len)) {
        mesa_outconn_want_drained(&c->link->out);
        return MESA_EAGAIN;
    }
    return mesa_wsclient_write(c, MESA_WS_TEXT, text, len);
}

/* -- the connection ----------------------------------------------------------------------------- */

static void take_input(struct mesa_wsclient *c)
{
    if (mesa_wsclient_take_input(c) && c->ended && (c->input.len == 0 || !c->paused))
        mesa_wsclient_finish(c, NULL);
}

static struct mesa_wsclient *client_of(struct mesa_outconn *o)
{
    return MESA_CONTAINER_OF(o, struct mesa_ws_link, out)->client;
}

static void on_ready(struct mesa_outconn *o)
{
    struct mesa_wsclient *c = client_of(o);
    enum mesa_status rc = mesa_wsclient_send_request(c);
    if (rc != MESA_OK)
        mesa_wsclient_finish(c, mesa_status_text(rc));
}

static void on_failed(struct mesa_outconn *o, const char *why)
{
    struct mesa_wsclient *c = client_of(o);
    note_error(c, why);
    drop_link(c);
    if (!mesa_job_queued(&c->resume))
        mesa_loop_queue(c->transport->loop, &c->resume);
}

static void on_bytes(struct mesa_outconn *o, const char *data, size_t len)
{
    struct mesa_wsclient *c = client_of(o);
    size_t used = 0;
    if (c->answer != MESA_OK || c->broken || c->no_memory)
        return;
    if (c->phase == WSC_CONNECTING && c->response.state != MESA_HTTP_COMPLETE)
        c->answer = mesa_http_response_feed(&c->response, data, len, &used);
    if (c->answer == MESA_OK)
        c->no_memory = mesa_buf_append(&c->input, data + used, len - used) != MESA_OK;
}

/* Why the server's answer, as far as it has come, makes no WebSocket; NULL: it does, or may yet. */
static const char *refusal(const struct mesa_wsclient *c, bool ended, const char *why, char *err,
                           size_t err_len)
{
    if (c->answer != MESA_OK) {
        snprintf(err, err_len, "the server's answer cannot be used: %s",
                 c->answer == MESA_ENOMEM ? "not enough memory" : c->response.error);
        return err;
    }
    if (c->response.state == MESA_HTTP_COMPLETE)
        return mesa_wsclient_refusal(c, err, err_len);
    return ended ? why : NULL;
}

/* True once the connection is a WebSocket. False: it is over, or the answer is not complete. */
static bool take_answer(struct mesa_wsclient *c, bool ended, const char *why)
{
    char err[sizeof c->error];
    const char *no = refusal(c, ended, why, err, sizeof err);
    if (no != NULL)
        mesa_wsclient_finish(c, no);
    if (no != NULL || c->response.state != MESA_HTTP_COMPLETE)
        return false;
    c->phase = WSC_OPEN;
    mesa_wsclient_set_close(c, MESA_CLOSE_ABNORMAL, "", 0);
    mesa_loop_cancel(c->transport->loop, &c->timer);
    bool freed = false;
    c->freed = &freed;
    c->hooks.on_open(c->ctx);
    if (freed)
        return false;
    c->freed = NULL;
    return true;
}

static void on_turn(struct mesa_outconn *o, enum mesa_outconn_state state, const char *why)
{
    struct mesa_wsclient *c = client_of(o);
    bool ended = state != MESA_OUTCONN_OPEN;
    if (c->phase == WSC_CONNECTING && !take_answer(c, ended, why))
        return;
    if (c->no_memory) { /* frames are missing: the rest of the stream means nothing */
        mesa_wsclient_finish(c, NULL);
        return;
    }
    c->ended = ended;
    take_input(c);
}

static void on_drained(struct mesa_outconn *o)
{
    struct mesa_wsclient *c = client_of(o);
    if (c->phase == WSC_OPEN)
        c->hooks.on_drained(c->ctx);
}

/* False: not to this address; why is noted. */
static bool connect_to(struct mesa_wsclient *c, const char *address)
{
    static const struct mesa_outconn_hooks hooks = {
        .on_ready = on_ready,
        .on_failed = on_failed,
        .on_bytes = on_bytes,
        .on_turn = on_turn,
        .on_drained = on_drained,
    };
    struct mesa_transport *t = c->transport;
    char why[sizeof c->error];
    SSL *ssl = NULL;
    if (c->url.secure && mesa_client_tls_new(&ssl, &t->authorities, c->ca, c->url.host, false, why,
                                             sizeof why) != MESA_OK) {
        note_error(c, why);
        return false;
    }
    c->link = calloc(1, sizeof *c->link);
    if (c->link == NULL) {
        SSL_free(ssl);
        note_error(c, "not enough memory");
        return false;
    }
    c->link->client = c;
    return mesa_outconn_open(&c->link->out, t, address, c->url.port, ssl, &hooks);
}

static void try_next_address(struct mesa_wsclient *c)
{
    c->phase = WSC_CONNECTING;
    while (c->next_address < c->addresses.count) {
        if (connect_to(c, c->addresses.text[c->next_address++]))
            return;
        drop_link(c);
    }
    fail_later(c, "connection refused");
}

static void on_resume(struct mesa_job *job)
{
    struct mesa_wsclient *c = MESA_CONTAINER_OF(job, struct mesa_wsclient, resume);
    if (c->phase == WSC_CONNECTING)
        try_next_address(c);
    else
        take_input(c);
}

static void on_looked_up(void *ctx, const struct mesa_addresses *found, const char *err)
{
    struct mesa_wsclient *c = ctx;
    c->lookup = NULL;
    if (found == NULL) {
        fail_later(c, err);
        return;
    }
    c->addresses = *found;
    try_next_address(c);
}

/* -- the beginning ------------------------------------------------------------------------------ */

/* ws:// is parsed as http://, and wss:// as https://. */
static enum mesa_status read_url(struct mesa_wsclient *c, const char *text, char *err,
                                 size_t err_len)
{
    const char *why = "the URL must begin with ws:// or wss://";
    bool secure = strncasecmp(text, "wss://", 6) == 0;
    struct mesa_buf http;
    enum mesa_status rc = MESA_EINVAL;

    mesa_buf_init(&http);
    if (secure || strncasecmp(text, "ws://", 5) == 0)
        rc = mesa_buf_printf(&http, "http%s%s", secure ? "s" : "", strchr(text, ':'));
    if (rc == MESA_OK)
        rc = mesa_url_parse(&c->url, (struct mesa_span){http.data, http.len}, &why);
    snprintf(err, err_len, "%s", rc == MESA_EINVAL ? why : mesa_status_text(rc));
    mesa_buf_deinit(&http);
    return rc;
}

/* MESA_EINVAL when they cannot be used, MESA_ENOMEM. */
static enum mesa_status read_authorities(struct mesa_wsclient *c, const char *ca, char *err,
                                         size_t err_len)
{
    if (!c->url.secure)
        return MESA_OK;
    if (ca != NULL && (c->ca = strdup(ca)) == NULL)
        return MESA_ENOMEM;
    bool ok = mesa_client_tls_check(&c->transport->authorities, ca, err, err_len);
    return ok ? MESA_OK : MESA_EINVAL;
}

enum mesa_status mesa_wsclient_connect(struct mesa_wsclient **out, struct mesa_transport *t,
                                       const struct mesa_wsclient_config *cfg,
                                       const struct mesa_wsclient_hooks *hooks, void *ctx,
                                       char *err, size_t err_len)
{
    enum mesa_status rc = MESA_ENOMEM;
    struct mesa_wsclient *c = calloc(1, sizeof *c);
    snprintf(err, err_len, "out of memory");
    if (c == NULL)
        return rc;
    c->transport = t;
    c->hooks = *hooks;
    c->ctx = ctx;
    c->max_queue_bytes = cfg->max_queue_bytes;
    c->max_payload_bytes = cfg->max_payload_bytes;
    c->close_code = MESA_CLOSE_ABNORMAL;
    c->phase = WSC_OVER; /* nothing to be told of yet */
    mesa_timer_init(&c->timer, on_timer);
    mesa_job_init(&c->resume, on_resume);
    mesa_http_response_init(&c->response, true, 0);

    rc = read_url(c, cfg->url, err, err_len);
    if (rc == MESA_OK)
        rc = read_authorities(c, cfg->ca, err, err_len);
    if (rc != MESA_OK)
        goto fail;
    rc = mesa_lookup_start(&c->lookup, t->loop, c->url.host, on_looked_up, c);
    if (rc != MESA_OK) {
        snprintf(err, err_len, "cannot look up %s", c->url.host);
        goto fail;
    }
    c->phase = WSC_LOOKUP;
    mesa_loop_hold(t->loop);
    mesa_loop_arm(t->loop, &c->timer, cfg->timeout_ms);
    *out = c;
    return MESA_OK;

fail:
    mesa_wsclient_free(c);
    return rc;
}
