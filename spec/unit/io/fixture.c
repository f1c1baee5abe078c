/* fixture.c - see fixture.h: the server's side. */
#include "fixture.h"

#include <openssl/evp.h>
#include <openssl/pem.h>
#include <openssl/x509.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

static int on_upgrade(void *ctx, const struct mesa_request *req, struct mesa_upgrade *out)
{
    struct fixture *f = ctx;
    (void)req;
    (void)out;
    return f->refuse;
}

static void record_request(struct fixture *f, const struct mesa_request *r)
{
    mesa_buf_reset(&f->request, 0);
    mesa_buf_printf(&f->request, "%.*s %.*s?%.*s %.*s [%.*s]%s\n", (int)r->method.len, r->method.p,
                    (int)r->path.len, r->path.p, (int)r->query.len, r->query.p, (int)r->ip.len,
                    r->ip.p, (int)r->protocol.len, r->protocol.p, r->secure ? " tls" : "");
    for (size_t i = 0; i < r->header_count; i++)
        mesa_buf_printf(&f->request, "%.*s: %.*s\n", (int)r->headers[i].name.len,
                        r->headers[i].name.p, (int)r->headers[i].value.len, r->headers[i].value.p);
    mesa_buf_append(&f->request, "", 1);
}

static void *on_open(void *ctx, struct mesa_conn *conn, const struct mesa_request *req)
{
    struct fixture *f = ctx;
    struct fixture_client *c = &f->clients[f->opened++ % FIXTURE_CLIENTS];
    mesa_buf_deinit(&c->last);
    mesa_buf_deinit(&c->out);
    *c = (struct fixture_client){.fixture = f, .conn = conn};
    record_request(f, req);
    if (f->on_open != NULL)
        f->on_open(c);
    return c;
}

static void flush(struct fixture_client *c)
{
    if (c->out.len == 0 || c->conn == NULL)
        return;
    if (mesa_conn_write(c->conn, c->out.data, c->out.len) == MESA_OK)
        mesa_buf_reset(&c->out, 0);
}

void fixture_send(struct fixture_client *c, int opcode, const void *data, size_t len)
{
    unsigned char head[10] = {(unsigned char)(0x80 | opcode)};
    size_t n = 2;
    if (len < 126) {
        head[1] = (unsigned char)len;
    } else if (len < 65536) {
        head[1] = 126;
        n = 4;
    } else {
        head[1] = 127;
        n = 10;
    }
    for (size_t i = 2; i < n; i++)
        head[i] = (unsigned char)((uint64_t)len >> (8 * (n - 1 - i)));
    mesa_buf_append(&c->out, head, n);
    mesa_buf_append(&c->out, data, len);
    flush(c);
}

static void on_message(void *user, const char *data, size_t len, bool binary)
{
    struct fixture_client *c = user;
    struct fixture *f = c->fixture;
    c->messages++;
    c->binary = binary;
    mesa_buf_reset(&c->last, 4096);
    mesa_buf_append(&c->last, data, len);
    if (f->echo)
        fixture_send(c, binary ? 2 : 1, data, len);
    if (f->on_message != NULL)
        f->on_message(c, data, len);
}

static void on_pong(void *user)
{
    struct fixture_client *c = user;
    c->pongs++;
}

static void on_drained(void *user)
{
    struct fixture_client *c = user;
    c->drains++;
    flush(c);
    if (c->fixture->on_drained != NULL)
        c->fixture->on_drained(c);
}

static void on_close(void *user, int code, const char *reason, size_t len, bool by_peer)
{
    struct fixture_client *c = user;
    c->conn = NULL;
    c->closes++;
    c->code = code;
    c->by_peer = by_peer;
    snprintf(c->reason, sizeof c->reason, "%.*s", (int)len, reason);
}

static void on_protocol_error(void *user, int code, const char *error, const char *text)
{
    (void)error;
    struct fixture_client *c = user;
    (void)text;
    c->error = code;
}

static void on_http(void *ctx, struct mesa_http *h, const struct mesa_request *req,
                    struct mesa_span body)
{
    static const struct mesa_header type = {{"content-type", 12}, {"text/plain", 10}};
    struct fixture *f = ctx;
    f->http_requests++;
    record_request(f, req);
    mesa_buf_reset(&f->body, 0);
    mesa_buf_append(&f->body, body.p, body.len);
    if (f->hold_http) {
        f->http = h;
        return;
    }
    if (f->root != NULL) {
        if (mesa_http_file(h, f->root) == MESA_ENOTFOUND)
            mesa_http_reply(h, 404, NULL, 0, "no file", 7);
        return;
    }
    mesa_http_reply(h, 200, &type, 1, "hello", 5);
}

static void on_refused(void *ctx, const char *code, struct mesa_span ip, const char *text)
{
    struct fixture *f = ctx;
    f->refusals++;
    snprintf(f->refusal, sizeof f->refusal, "%s %.*s: %s", code, (int)ip.len, ip.p, text);
    if (!f->free_on_refusal)
        return;
    mesa_listener_free(f->listener);
    f->listener = NULL;
}

static char cert_path[64], key_path[64];

static void remove_certificate(void)
{
    unlink(cert_path);
    unlink(key_path);
}

static void write_certificate(void)
{
    EVP_PKEY *key = EVP_EC_gen("P-256");
    X509 *cert = X509_new();
    X509_NAME *name = X509_get_subject_name(cert);

    X509_set_version(cert, 2);
    ASN1_INTEGER_set(X509_get_serialNumber(cert), 1);
    X509_gmtime_adj(X509_getm_notBefore(cert), -3600);
    X509_gmtime_adj(X509_getm_notAfter(cert), 86400);
    X509_set_pubkey(cert, key);
    X509_NAME_add_entry_by_txt(name, "CN", MBSTRING_ASC, (const unsigned char *)"localhost", -1, -1,
                               0);
    X509_set_issuer_name(cert, name);
    X509_sign(cert, key, EVP_sha256());

    snprintf(cert_path, sizeof cert_path, "/tmp/mesa-unit-%d-cert.pem", (int)getpid());
    snprintf(key_path, sizeof key_path, "/tmp/mesa-unit-%d-key.pem", (int)getpid());
    FILE *out = fopen(cert_path, "w");
    PEM_write_X509(out, cert);
    fclose(out);
    out = fopen(key_path, "w");
    PEM_write_PrivateKey(out, key, NULL, NULL, 0, NULL, NULL);
    fclose(out);
    X509_free(cert);
    EVP_PKEY_free(key);
    atexit(remove_certificate);
}

void fixture_use_tls(struct fixture *f)
{
    if (cert_path[0] == '\0')
        write_certificate();
    f->tls = (struct mesa_config_tls){
        .cert = cert_path, .key = key_path, .ticket_lifetime_ms = 60 * 60 * 1000};
    f->config.tls = &f->tls;
}

void fixture_init(struct fixture *f)
{
    memset(f, 0, sizeof *f);
    f->config = (struct mesa_listener_config){
        .host = "127.0.0.1",
        .max_payload_bytes = 1 << 20,
        .handshake_timeout_ms = 5000,
        .max_body_bytes = 1 << 16,
    };
    if (getenv("MESA_TEST_TLS") != NULL)
        fixture_use_tls(f);
}

bool fixture_start(struct fixture *f)
{
    static const struct mesa_listener_hooks hooks = {
        .on_upgrade = on_upgrade,
        .on_open = on_open,
        .on_message = on_message,
        .on_pong = on_pong,
        .on_drained = on_drained,
        .on_close = on_close,
        .on_protocol_error = on_protocol_error,
        .on_http = on_http,
        .on_refused = on_refused,
    };
    if (f->loop == NULL && mesa_loop_new(&f->loop) != MESA_OK)
        return false;
    if (f->transport == NULL && mesa_transport_new(&f->transport, f->loop) != MESA_OK)
        return false;
    return mesa_listener_open(&f->listener, f->transport, &f->config, &hooks, f, f->err,
                              sizeof f->err) == MESA_OK;
}

void fixture_stop(struct fixture *f)
{
    mesa_listener_free(f->listener);
    f->listener = NULL;
    mesa_transport_free(f->transport);
    mesa_loop_free(f->loop);
    for (int i = 0; i < FIXTURE_CLIENTS; i++) {
        mesa_buf_deinit(&f->clients[i].last);
        mesa_buf_deinit(&f->clients[i].out);
    }
    mesa_buf_deinit(&f->request);
    mesa_buf_deinit(&f->body);
}

uint64_t fixture_now_ms(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * 1000 + (uint64_t)now.tv_nsec / 1000000;
}

void fixture_turn(struct fixture *f)
{
    uv_loop_t *uv = mesa_loop_uv(f->loop);
    struct pollfd backend = {.fd = uv_backend_fd(uv), .events = POLLIN};
    if (uv_backend_timeout(uv) != 0)
        poll(&backend, 1, 1);
    uv_run(uv, UV_RUN_NOWAIT);
}
