/* transport_http.c - plain HTTP requests: their bodies, and answers now or later. */
#include "io/transport_http.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <time.h>
#include <unistd.h>

enum {
    CHUNK_BYTES = 64 * 1024,
    CHUNKS_PER_TURN = 16,
};

static void http_free(struct mesa_http *h)
{
    if (h->file >= 0)
        close(h->file);
    mesa_capture_deinit(&h->capture);
    mesa_buf_deinit(&h->body);
    mesa_buf_deinit(&h->out);
    free(h);
}

void mesa_http_detach(struct mesa_conn *c)
{
    struct mesa_http *h = c->http;
    if (h == NULL)
        return;
    c->http = NULL;
    h->conn = NULL;
    /* whoever was given `h` still has to answer it */
    if (h->answered || !h->dispatched)
        http_free(h);
}

const char *mesa_http_status_text(int status)
{
    static const struct {
        int status;
        const char *text;
    } known[] = {
        {200, "OK"},
        {201, "Created"},
        {202, "Accepted"},
        {204, "No Content"},
        {206, "Partial Content"},
        {301, "Moved Permanently"},
        {302, "Found"},
        {303, "See Other"},
        {304, "Not Modified"},
        {307, "Temporary Redirect"},
        {308, "Permanent Redirect"},
        {400, "Bad Request"},
        {401, "Unauthorized"},
        {403, "Forbidden"},
        {404, "Not Found"},
        {405, "Method Not Allowed"},
        {406, "Not Acceptable"},
        {408, "Request Timeout"},
        {409, "Conflict"},
        {410, "Gone"},
        {411, "Length Required"},
        {413, "Content Too Large"},
        {414, "URI Too Long"},
        {412, "Precondition Failed"},
        {415, "Unsupported Media Type"},
        {416, "Range Not Satisfiable"},
        {421, "Misdirected Request"},
        {422, "Unprocessable Content"},
        {426, "Upgrade Required"},
        {429, "Too Many Requests"},
        {431, "Request Header Fields Too Large"},
        {500, "Internal Server Error"},
        {501, "Not Implemented"},
        {502, "Bad Gateway"},
        {503, "Service Unavailable"},
        {504, "Gateway Timeout"},
    };
    for (size_t i = 0; i < sizeof known / sizeof *known; i++)
        if (known[i].status == status)
            return known[i].text;
    return "Status";
}

/* The time as RFC 9110 section 5.6.7 has it. */
static const char *date_now(void)
{
    static char text[MESA_HTTP_DATE_BYTES];
    static time_t shown;
    time_t now = time(NULL);
    if (now != shown)
        mesa_http_date(now, text);
    shown = now;
    return text;
}

void mesa_http_date(time_t when, char out[MESA_HTTP_DATE_BYTES])
{
    struct tm tm;
    gmtime_r(&when, &tm);
    strftime(out, MESA_HTTP_DATE_BYTES, "%a, %d %b %Y %H:%M:%S GMT", &tm);
}

/* The Connection header; whoever says Upgrade lists it there (RFC 9110 section 7.8). */
static const char *connection(int status, bool keep)
{
    if (status == 426)
        return keep ? "Connection: Upgrade\r\n" : "Connection: Upgrade, close\r\n";
    return keep ? "" : "Connection: close\r\n";
}

void mesa_conn_refuse(struct mesa_conn *c, int status, const char *extra_headers,
                      struct mesa_span text)
{
    char head[512];
    const char *usual = mesa_http_status_text(status);
    if (text.p == NULL)
        text = (struct mesa_span){usual, strlen(usual)};
    int n = snprintf(
        head, sizeof head,
        "HTTP/1.1 %d %s\r\nDate: %s\r\n%sContent-Type: text/plain; charset=utf-8\r\n%sContent-Length: %zu\r\n\r\n",
        status, usual, date_now(), connection(status, false), extra_headers, text.len + 1);
    if (n > 0 && (size_t)n < sizeof head) {
        mesa_link_cork(c, head, (size_t)n);
        mesa_link_cork(c, text.p, text.len);
        (void)mesa_link_write(c, "\n", 1);
    }
    c->linger = true;
    mesa_conn_kill_later(c);
}

enum mesa_status mesa_http_put_head(struct mesa_http *h, int status, uint64_t content_length)
{
    const struct mesa_conn *c = h->conn;
    h->keep = h->keep && c != NULL && !c->kill && c->listener->acceptor != NULL;
    h->out.len = 0;
    enum mesa_status rc =
        mesa_buf_printf(&h->out, "HTTP/1.1 %d %s\r\nDate: %s\r\n%s", status,
                        mesa_http_status_text(status), date_now(), connection(status, h->keep));
    if (rc == MESA_OK && status != 204 && status != 304)
        rc = mesa_buf_printf(&h->out, "Content-Length: %llu\r\n",
                             (unsigned long long)content_length);
    return rc;
}

/* Refills `out` from the file; false at its end or when it has become shorter than promised. */
static bool read_chunk(struct mesa_http *h)
{
    h->out.len = h->out_sent = 0;
    if (h->file < 0 || h->file_left == 0 || mesa_buf_reserve(&h->out, CHUNK_BYTES) != MESA_OK)
        return false;
    size_t want = h->file_left < CHUNK_BYTES ? (size_t)h->file_left : CHUNK_BYTES;
    ssize_t n = read(h->file, h->out.data, want);
    if (n <= 0)
        return false;
    h->out.len = (size_t)n;
    h->file_left -= (uint64_t)n;
    return true;
}

static void set_reading(struct mesa_conn *c, bool reading)
{
    c->paused = !reading;
    mesa_ws_update_reading(c);
}

/* Frees `h`; its connection has limits.handshakeTimeout for another request. */
static void expect_another(struct mesa_http *h)
{
    struct mesa_conn *c = h->conn;
    mesa_http_detach(c);
    c->phase = MESA_CONN_REQUEST;
    mesa_conn_arm(c, c->listener->handshake_timeout_ms);
    set_reading(c, true);
}

/* All is written. Frees `h` when the connection goes on. */
static void finish(struct mesa_http *h)
{
    struct mesa_conn *c = h->conn;
    h->done = true;
    if (h->keep && h->file_left == 0) {
        expect_another(h);
    } else {
        c->linger = true;
        mesa_conn_kill_later(c);
    }
}

/* Writes as much as the socket takes; false when there is more. Otherwise `h` may be gone. */
static bool push(struct mesa_http *h)
{
    struct mesa_conn *c = h->conn;
    for (int i = 0; i < CHUNKS_PER_TURN && !mesa_link_buffered(c); i++) {
        if (h->out_sent == h->out.len && !read_chunk(h)) {
            finish(h);
            return true;
        }
        size_t n = h->out.len - h->out_sent;
        if (n > CHUNK_BYTES)
            n = CHUNK_BYTES;
        if (!mesa_link_write(c, h->out.data + h->out_sent, n)) {
            h->done = true;
            mesa_conn_kill_later(c);
            return true;
        }
        h->out_sent += n;
    }
    return false;
}

/* There is more to write, when the socket takes it. */
static void go_on_later(struct mesa_http *h)
{
    mesa_conn_arm(h->conn, MESA_HTTP_STALL_TIMEOUT_MS);
    mesa_link_want_writable(h->conn);
}

void mesa_http_send(struct mesa_http *h)
{
    struct mesa_conn *c = h->conn;
    h->answered = true;
    if (c == NULL) {
        http_free(h);
        return;
    }
    if (c->kill || push(h)) /* small answers, the usual case, never wait for the loop */
        return;
    set_reading(c, false);
    go_on_later(h);
}

static bool clean(struct mesa_span s)
{
    return s.len == 0 || (memchr(s.p, '\r', s.len) == NULL && memchr(s.p, '\n', s.len) == NULL &&
                          memchr(s.p, '\0', s.len) == NULL);
}

static bool is_own_header(struct mesa_span name)
{
    static const char *const own[] = {"connection", "content-length", "date", "transfer-encoding"};
    for (size_t i = 0; i < sizeof own / sizeof *own; i++)
        if (name.len == strlen(own[i]) && strncasecmp(name.p, own[i], name.len) == 0)
            return true;
    return false;
}

static enum mesa_status put_headers(struct mesa_http *h, const struct mesa_header *headers,
                                    size_t count)
{
    enum mesa_status rc = MESA_OK;
    for (size_t i = 0; i < count && rc == MESA_OK; i++) {
        if (headers[i].name.len == 0 || !clean(headers[i].name) || !clean(headers[i].value))
            return MESA_EINVAL;
        if (is_own_header(headers[i].name))
            continue;
        rc = mesa_buf_printf(&h->out, "%.*s: %.*s\r\n", (int)headers[i].name.len, headers[i].name.p,
                             (int)headers[i].value.len, headers[i].value.p);
    }
    return rc;
}

void mesa_http_reply(struct mesa_http *h, int status, const struct mesa_header *headers,
                     size_t header_count, const void *body, size_t len)
{
    enum mesa_status rc =
        status >= 200 && status <= 599 ? mesa_http_put_head(h, status, len) : MESA_EINVAL;
    if (rc == MESA_OK)
        rc = put_headers(h, headers, header_count);
    if (rc != MESA_OK) {
        rc = mesa_http_put_head(h, 500, 0);
        len = 0;
    }
    if (rc == MESA_OK)
        rc = mesa_buf_append(&h->out, "\r\n", 2);
    if (rc == MESA_OK && !h->head_only && status != 204 && status != 304)
        rc = mesa_buf_append(&h->out, body, len);
    if (rc != MESA_OK) { /* no memory: the connection just ends */
        h->out.len = 0;
        h->keep = false;
    }
    mesa_http_send(h);
}

static void answer(struct mesa_http *h, int status)
{
    const char *text = mesa_http_status_text(status);
    h->dispatched = true;
    mesa_http_reply(h, status, NULL, 0, text, strlen(text));
}

/* Answers a request whose body is not read: what follows its head cannot be told. */
static void refuse(struct mesa_http *h, int status)
{
    h->keep = false;
    answer(h, status);
}

static void dispatch(struct mesa_http *h)
{
    struct mesa_conn *c = h->conn;
    struct mesa_listener *l = c->listener;
    h->dispatched = true;
    mesa_conn_arm(c, 0);
    if (mesa_span_eq(h->capture.request.path,
                     MESA_SPAN("*"))) { /* OPTIONS: about the server itself */
        mesa_http_reply(h, 204, NULL, 0, NULL, 0);
        return;
    }
    if (l->hooks.on_http == NULL) {
        answer(h, 404);
        return;
    }
    l->hooks.on_http(l->ctx, h, &h->capture.request, (struct mesa_span){h->body.data, h->body.len});
    if (c->http == h && !h->answered)
        set_reading(c, false); /* or the loop would spin on whatever arrives until then */
}

/* The length of the body, or the status to refuse with. */
static int read_length(const struct mesa_request *req, size_t max, size_t *out)
{
    struct mesa_span v = mesa_request_header(req, "content-length");
    uint64_t n = 0;
    *out = 0;
    if (mesa_request_header(req, "transfer-encoding").p != NULL)
        return 411; /* and never read on: the lengths two readers see could differ */
    if (v.p == NULL)
        return 0;
    if (v.len == 0 || v.len > 18) /* repeated lengths come joined by a comma and fail below */
        return 400;
    for (size_t i = 0; i < v.len; i++) {
        if (v.p[i] < '0' || v.p[i] > '9')
            return 400;
        n = n * 10 + (uint64_t)(v.p[i] - '0');
    }
    if (n > max)
        return 413;
    *out = (size_t)n;
    return 0;
}

static struct mesa_http *http_new(struct mesa_conn *c)
{
    struct mesa_http *h = calloc(1, sizeof *h);
    if (h == NULL)
        return NULL;
    h->file = -1;
    h->conn = c;
    c->http = h;
    c->phase = MESA_CONN_HTTP;
    return h;
}

/* The head is there. */
static void begin(struct mesa_http *h)
{
    static const char go_on[] = "HTTP/1.1 100 Continue\r\n\r\n";
    struct mesa_conn *c = h->conn;
    const struct mesa_request *req = &h->capture.request;
    h->head_only = mesa_span_eq(req->method, MESA_SPAN("HEAD"));
    int status = read_length(req, c->listener->max_body_bytes, &h->body_expected);
    if (status != 0) {
        refuse(h, status);
        return;
    }
    if (h->body_expected == 0) {
        dispatch(h);
        return;
    }
    if (c->listener->handshake_timeout_ms == 0) /* else it is for the body, too */
        mesa_conn_arm(c, MESA_HTTP_STALL_TIMEOUT_MS);

    struct mesa_span expect = mesa_request_header(req, "expect");
    /* RFC 9110 section 10.1.1 */
    if (h->capture.minor > 0 && expect.len == 12 && strncasecmp(expect.p, "100-continue", 12) == 0)
        (void)mesa_link_write(c, go_on, sizeof go_on - 1);
}

void mesa_http_begin(struct mesa_conn *c)
{
    const struct mesa_capture *head = &c->transport->upgrade;
    struct mesa_http *h = http_new(c);
    if (h == NULL || mesa_capture_copy(&h->capture, head) != MESA_OK) {
        mesa_conn_kill_later(c);
        return;
    }
    h->keep = head->minor > 0 &&
              !mesa_header_lists(mesa_request_header(&head->request, "connection"), "close");
    begin(h);
}

size_t mesa_http_body_left(const struct mesa_conn *c)
{
    const struct mesa_http *h = c->http;
    return h != NULL && !h->dispatched ? h->body_expected - h->body.len : 0;
}

void mesa_http_body(struct mesa_conn *c, const char *data, size_t len)
{
    struct mesa_http *h = c->http;
    if (mesa_buf_append(&h->body, data, len) != MESA_OK)
        mesa_conn_kill_later(c);
    else if (h->body.len == h->body_expected)
        dispatch(h);
}

void mesa_http_writable(struct mesa_conn *c)
{
    struct mesa_http *h = c->http;
    if (h != NULL && h->answered && !h->done && !mesa_link_buffered(c) && !push(h))
        go_on_later(h);
}
