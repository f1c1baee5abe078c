/* httpc.c - calls of the HTTP client: from hop to hop until there is a response or a failure. */
#include "io/httpc.h"

#include <netdb.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "io/client_tls.h"
#include "io/httpc_internal.h"

/* -- the end of a call -- */

/* Leaves the hop's origin; the connection stays behind for others when `keep`. */
static void leave_hop(struct mesa_httpc_call *call, bool keep)
{
    struct mesa_httpc_conn *c = call->conn;
    mesa_job_cancel(&call->start);
    mesa_httpc_resolution_leave(call);
    mesa_loop_cancel(call->httpc->loop, &call->connecting);
    if (c != NULL && !keep) {
        mesa_httpc_conn_close(c);
        c = NULL;
    }
    if (call->origin != NULL)
        mesa_httpc_pool_give(call, c);
}

static void call_free(struct mesa_httpc_call *call)
{
    mesa_list_remove(&call->link);
    mesa_loop_cancel(call->httpc->loop, &call->total);
    mesa_http_response_deinit(&call->response);
    mesa_url_deinit(&call->url);
    mesa_buf_deinit(&call->headers);
    mesa_buf_deinit(&call->body);
    free(call->ca);
    free(call);
}

void mesa_httpc_cancel(struct mesa_httpc_call *call)
{
    leave_hop(call, false);
    call_free(call);
}

static void report(struct mesa_httpc_call *call, const struct mesa_httpc_result *result)
{
    mesa_list_remove(&call->link); /* nobody is to cancel it any more */
    mesa_loop_cancel(call->httpc->loop, &call->total);
    call->done(call->ctx, result);
    call_free(call);
}

/* `text` may be call->text. */
static void fail(struct mesa_httpc_call *call, const char *code, const char *text)
{
    const struct mesa_httpc_result result = {.code = code, .text = text};
    leave_hop(call, false);
    report(call, &result);
}

static void fail_memory(struct mesa_httpc_call *call)
{
    fail(call, "MEMORY", "not enough memory");
}

static void succeed(struct mesa_httpc_call *call, bool keep)
{
    struct mesa_buf url;
    mesa_buf_init(&url);
    if (mesa_url_append(&call->url, &url) != MESA_OK) {
        mesa_buf_deinit(&url);
        fail_memory(call);
        return;
    }
    const struct mesa_httpc_result result = {.response = &call->response,
                                             .url = {url.data, url.len}};
    leave_hop(call, keep);
    report(call, &result);
    mesa_buf_deinit(&url);
}

/* -- connecting -- */

static void try_next_address(struct mesa_httpc_call *call);

/* The time there is for an address: an equal share of what is left, so that one that never answers
 * does not keep the others from being tried. */
static void arm_connecting(struct mesa_httpc_call *call)
{
    unsigned left = 1;
    if (call->connect_timeout_ms == 0)
        return;
    for (struct addrinfo *a = call->next_address; a != NULL; a = a->ai_next)
        left++;
    uint64_t now = mesa_loop_now(call->httpc->loop);
    uint64_t ms = call->connect_by_ms > now ? call->connect_by_ms - now : 0;
    mesa_loop_arm(call->httpc->loop, &call->connecting, ms / left);
}

static void on_connecting_timer(struct mesa_timer *t)
{
    struct mesa_httpc_call *call = MESA_CONTAINER_OF(t, struct mesa_httpc_call, connecting);
    if (call->conn != NULL && call->next_address != NULL) {
        mesa_httpc_conn_close(call->conn);
        try_next_address(call);
        return;
    }
    const char *what = call->conn == NULL ? "resolve" : "connect to";
    snprintf(call->text, sizeof call->text, "could not %s %s within %llu ms", what, call->url.host,
             (unsigned long long)call->connect_timeout_ms);
    fail(call, "TIMEOUT", call->text);
}

static void on_total_timer(struct mesa_timer *t)
{
    struct mesa_httpc_call *call = MESA_CONTAINER_OF(t, struct mesa_httpc_call, total);
    snprintf(call->text, sizeof call->text, "there was no complete response within %llu ms",
             (unsigned long long)call->timeout_ms);
    fail(call, "TIMEOUT", call->text);
}

/* Tries the addresses that are left; the last one's failure counts. */
static void try_next_address(struct mesa_httpc_call *call)
{
    enum mesa_status rc = MESA_EIO;
    while (rc != MESA_OK && call->next_address != NULL) {
        const struct sockaddr *address = call->next_address->ai_addr;
        call->next_address = call->next_address->ai_next;
        rc = mesa_httpc_conn_open(call, address);
    }
    if (rc != MESA_OK) {
        fail(call, call->code, call->text);
        return;
    }
    call->code = NULL;
    arm_connecting(call);
}

void mesa_httpc_call_unconnected(struct mesa_httpc_call *call, const char *code, const char *text)
{
    bool refused = strcmp(code, "CONNECT") == 0;
    if (refused && call->next_address != NULL) {
        mesa_httpc_conn_close(call->conn);
        try_next_address(call);
        return;
    }
    snprintf(call->text, sizeof call->text, "cannot connect to %s port %u: %s", call->url.host,
             call->url.port, text);
    fail(call, code, refused ? call->text : text);
}

static void use_resolution(struct mesa_httpc_call *call)
{
    const struct mesa_httpc_resolution *r = call->resolution;
    if (r->status != 0) {
        snprintf(call->text, sizeof call->text, "cannot resolve %s: %s", call->url.host,
                 uv_strerror(r->status));
        fail(call, "RESOLVE", call->text);
        return;
    }
    call->next_address = r->addresses;
    try_next_address(call);
}

static void resolve(struct mesa_httpc_call *call)
{
    int rc = mesa_httpc_resolve(call);
    if (rc != 0)
        fail(call, "RESOLVE", uv_strerror(rc));
    else if (call->resolution->answered)
        use_resolution(call);
    else
        arm_connecting(call);
}

/* True: the host is an address, and was tried. */
static bool connect_to_address(struct mesa_httpc_call *call)
{
    struct sockaddr_storage address;
    if (uv_ip4_addr(call->url.host, call->url.port, (struct sockaddr_in *)&address) != 0 &&
        uv_ip6_addr(call->url.host, call->url.port, (struct sockaddr_in6 *)&address) != 0)
        return false;
    if (mesa_httpc_conn_open(call, (const struct sockaddr *)&address) != MESA_OK) {
        fail(call, call->code, call->text);
    } else {
        call->code = NULL;
        arm_connecting(call);
    }
    return true;
}

static void make_connection(struct mesa_httpc_call *call)
{
    call->connect_by_ms = mesa_loop_now(call->httpc->loop) + call->connect_timeout_ms;
    if (!connect_to_address(call))
        resolve(call);
}

void mesa_httpc_call_connected(struct mesa_httpc_call *call)
{
    struct mesa_buf out;
    mesa_loop_cancel(call->httpc->loop, &call->connecting);
    mesa_httpc_resolution_leave(call);
    mesa_buf_init(&out);
    enum mesa_status rc = mesa_httpc_call_write_head(call, &out);
    if (rc == MESA_OK && call->has_body)
        rc = mesa_buf_append(&out, call->body.data, call->body.len);
    if (rc == MESA_OK)
        rc = mesa_httpc_conn_write(call->conn, out.data, out.len);
    mesa_buf_deinit(&out);
    if (rc == MESA_ENOMEM)
        fail_memory(call);
    else if (rc != MESA_OK)
        fail(call, "CLOSED", "the connection broke while the request was being sent");
}

static void on_start(struct mesa_job *job)
{
    struct mesa_httpc_call *call = MESA_CONTAINER_OF(job, struct mesa_httpc_call, start);
    if (call->conn != NULL)
        mesa_httpc_call_connected(call);
    else if (call->resolution != NULL)
        use_resolution(call);
    else
        make_connection(call);
}

void mesa_httpc_call_start(struct mesa_httpc_call *call)
{
    mesa_loop_queue(call->httpc->loop, &call->start);
}

/* Begins the request anew at call->url. */
static enum mesa_status begin_hop(struct mesa_httpc_call *call)
{
    mesa_http_response_deinit(&call->response);
    mesa_http_response_init(&call->response, strcmp(call->method, "HEAD") == 0,
                            call->max_body_bytes);
    call->origin = mesa_httpc_origin_of(call);
    if (call->origin == NULL)
        return MESA_ENOMEM;
    if (mesa_httpc_pool_take(call) || mesa_httpc_pool_slot(call))
        mesa_httpc_call_start(call);
    return MESA_OK;
}

/* -- the response -- */

static bool is_redirection(const struct mesa_http_response *r)
{
    return (r->status == 301 || r->status == 302 || r->status == 303 || r->status == 307 ||
            r->status == 308) &&
           mesa_http_response_header(r, "location").p != NULL;
}

static void follow(struct mesa_httpc_call *call, bool keep)
{
    struct mesa_url to;
    const char *why;
    if (call->redirects_left-- == 0) {
        snprintf(call->text, sizeof call->text, "more than %u redirections", call->max_redirects);
        fail(call, "REDIRECT", call->text);
        return;
    }
    enum mesa_status rc = mesa_url_resolve(
        &to, &call->url, mesa_http_response_header(&call->response, "location"), &why);
    if (rc != MESA_OK) {
        snprintf(call->text, sizeof call->text, "the redirection cannot be followed: %s", why);
        fail(call, "REDIRECT", call->text);
        return;
    }
    if (call->url.secure && !to.secure) { /* the body, too, would be there for all to read */
        mesa_url_deinit(&to);
        fail(call, "REDIRECT", "a redirection from https to http is not followed");
        return;
    }
    leave_hop(call, keep);
    mesa_httpc_call_redirect(call, &to, call->response.status);
    call->retried = false;
    if (begin_hop(call) != MESA_OK)
        fail_memory(call);
}

static void complete(struct mesa_httpc_call *call, bool keep)
{
    if (call->max_redirects > 0 && is_redirection(&call->response))
        follow(call, keep);
    else
        succeed(call, keep);
}

void mesa_httpc_call_fed(struct mesa_httpc_call *call, enum mesa_status rc, bool surplus)
{
    if (rc == MESA_ENOMEM) {
        fail_memory(call);
    } else if (rc != MESA_OK) {
        snprintf(call->text, sizeof call->text, "the response cannot be used: %s",
                 call->response.error);
        fail(call, rc == MESA_ETOOBIG ? "TOO_LARGE" : "PROTOCOL", call->text);
    } else if (call->response.state == MESA_HTTP_COMPLETE) {
        complete(call, call->response.keep_alive && !surplus && mesa_httpc_conn_sent(call->conn));
    }
}

void mesa_httpc_call_ended(struct mesa_httpc_call *call, bool clean, const char *why)
{
    if (clean && mesa_http_response_end(&call->response) == MESA_OK) {
        complete(call, false);
        return;
    }
    /* An idle connection may have been closed while the request was on its way. */
    if (call->conn->reused && !call->response.begun && !call->retried &&
        mesa_httpc_call_idempotent(call)) {
        call->retried = true;
        mesa_httpc_conn_close(call->conn);
        mesa_httpc_call_start(call);
        return;
    }
    snprintf(call->text, sizeof call->text, "%s before the response was complete", why);
    fail(call, "CLOSED", call->text);
}

/* -- the client -- */

enum mesa_status mesa_httpc_new(struct mesa_httpc **out, struct mesa_loop *loop)
{
    struct mesa_httpc *h = calloc(1, sizeof *h);
    if (h == NULL)
        return MESA_ENOMEM;
    h->loop = loop;
    mesa_list_init(&h->calls);
    mesa_list_init(&h->origins);
    mesa_list_init(&h->authorities);
    if (uv_timer_init(mesa_loop_uv(loop), &h->idle) != 0) {
        free(h);
        return MESA_EIO;
    }
    h->idle.data = h;
    uv_unref((uv_handle_t *)&h->idle); /* as the connections it is for */
    *out = h;
    return MESA_OK;
}

static void on_idle_closed(uv_handle_t *handle)
{
    free(handle->data);
}

void mesa_httpc_free(struct mesa_httpc *h)
{
    if (h == NULL)
        return;
    /* those that wait for a slot first: they would get the slots of the others */
    MESA_LIST_FOREACH_SAFE(it, next, &h->calls) {
        struct mesa_httpc_call *call = MESA_CONTAINER_OF(it, struct mesa_httpc_call, link);
        if (!call->has_slot)
            mesa_httpc_cancel(call);
    }
    while (!mesa_list_empty(&h->calls))
        mesa_httpc_cancel(MESA_CONTAINER_OF(h->calls.next, struct mesa_httpc_call, link));
    mesa_httpc_pool_clear(h);
    mesa_client_tls_clear(&h->authorities);
    uv_close((uv_handle_t *)&h->idle, on_idle_closed);
}

enum mesa_status mesa_httpc_send(struct mesa_httpc_call **out, struct mesa_httpc *h,
                                 const struct mesa_httpc_request *request, mesa_httpc_fn done,
                                 void *ctx, char *err, size_t err_len)
{
    struct mesa_httpc_call *call = calloc(1, sizeof *call);
    snprintf(err, err_len, "not enough memory");
    if (call == NULL)
        return MESA_ENOMEM;
    call->httpc = h;
    call->done = done;
    call->ctx = ctx;
    mesa_list_init(&call->link);
    mesa_list_init(&call->waiting);
    mesa_timer_init(&call->total, on_total_timer);
    mesa_timer_init(&call->connecting, on_connecting_timer);
    mesa_job_init(&call->start, on_start);
    enum mesa_status rc = mesa_httpc_call_fill(call, request, err, err_len);
    if (rc == MESA_OK)
        rc = begin_hop(call);
    if (rc != MESA_OK) {
        call_free(call);
        return rc;
    }
    mesa_list_append(&h->calls, &call->link);
    call->timeout_ms = request->timeout_ms;
    if (request->timeout_ms > 0)
        mesa_loop_arm(h->loop, &call->total, request->timeout_ms);
    *out = call;
    return MESA_OK;
}
