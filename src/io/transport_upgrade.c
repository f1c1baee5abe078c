/* transport_upgrade.c - decides whether a request becomes a WebSocket (RFC 6455 section 4.2). */
#include <openssl/evp.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>

#include "io/transport_internal.h"

bool mesa_header_lists(struct mesa_span list, const char *word)
{
    for (struct mesa_span t = mesa_http_list_next(&list); t.p != NULL;
         t = mesa_http_list_next(&list))
        if (t.len == strlen(word) && strncasecmp(t.p, word, t.len) == 0)
            return true;
    return false;
}

/* Whether it is the base64 of 16 bytes. */
static bool is_key(struct mesa_span s)
{
    if (s.len != 24 || s.p[22] != '=' || s.p[23] != '=')
        return false;
    for (size_t i = 0; i < 22; i++) {
        char c = s.p[i];
        bool letter = (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z');
        if (!letter && !(c >= '0' && c <= '9') && c != '+' && c != '/')
            return false;
    }
    return true;
}

/* RFC 6455 section 4.2.1. */
static int check_request(const struct mesa_request *req, const char **headers)
{
    struct mesa_span key = mesa_request_header(req, "sec-websocket-key");
    struct mesa_span version = mesa_request_header(req, "sec-websocket-version");
    struct mesa_span host = mesa_request_header(req, "host");
    struct mesa_span length = mesa_request_header(req, "content-length");
    if (!mesa_span_eq(req->method, MESA_SPAN("GET"))) {
        *headers = "Allow: GET\r\n";
        return 405;
    }
    if (!mesa_span_eq(version, MESA_SPAN("13"))) {
        *headers = "Upgrade: websocket\r\nSec-WebSocket-Version: 13\r\n"; /* section 4.4 */
        return 426;
    }
    if (!mesa_header_lists(mesa_request_header(req, "connection"), "upgrade") || !is_key(key) ||
        host.len == 0)
        return 400;
    /* a body has no place here, and what it says about itself could hide another request */
    if (mesa_request_header(req, "transfer-encoding").p != NULL ||
        (length.p != NULL && !mesa_span_eq(length, MESA_SPAN("0"))))
        return 400;
    return 0;
}

/* RFC 2616 section 2.2, which RFC 6455 section 4.1 demands. */
static bool is_token(struct mesa_span s)
{
    for (size_t i = 0; i < s.len; i++)
        if (s.p[i] <= ' ' || s.p[i] >= 0x7f || strchr("()<>@,;:\\\"/[]?={}", s.p[i]) != NULL)
            return false;
    return s.len > 0;
}

/* Agrees to the first subprotocol offered, unless on_upgrade knows better. */
static int choose_protocol(const struct mesa_request *req, struct mesa_upgrade *out)
{
    struct mesa_span offer = mesa_request_header(req, "sec-websocket-protocol");
    if (offer.p == NULL)
        return 0;
    struct mesa_span first = mesa_http_list_next(&offer);
    if (!is_token(first))
        return 400;
    out->protocol = first;
    return 0;
}

bool mesa_upgrade_wanted(const struct mesa_request *req)
{
    return mesa_header_lists(mesa_request_header(req, "upgrade"), "websocket");
}

int mesa_upgrade_decide(struct mesa_conn *c, const char **headers, bool *waits)
{
    const struct mesa_address *from = &c->transport->upgrade.address;
    struct mesa_request *req = &c->transport->upgrade.request;
    struct mesa_upgrade upgrade = {.protocol = req->protocol};
    int status = check_request(req, headers);
    if (status == 0)
        status = choose_protocol(req, &upgrade);
    if (status != 0)
        mesa_listener_refused(c->listener, from, "HANDSHAKE",
                              "the upgrade request is not one for a WebSocket");
    else if (!mesa_conn_count(c, from))
        status = 429;
    else if (c->listener->hooks.on_upgrade != NULL)
        status = c->listener->hooks.on_upgrade(c->listener->ctx, req, &upgrade);
    req->protocol = upgrade.protocol;
    *waits = upgrade.waits;
    if (status != 0 || c->listener == NULL)
        return status;
    status = mesa_conn_agree_on_deflate(c, upgrade.compression);
    if (status != 0)
        mesa_listener_refused(c->listener, &c->address, "HANDSHAKE",
                              "Sec-WebSocket-Extensions cannot be read");
    return status;
}

void mesa_upgrade_accept(EVP_MD_CTX *hash, struct mesa_span key, char out[MESA_ACCEPT_TEXT_LEN])
{
    static const char guid[] = "258EAFA5-E914-47DA-95CA-C5AB0DC85B11";
    unsigned char digest[EVP_MAX_MD_SIZE];
    if (EVP_DigestInit_ex(hash, NULL, NULL) != 1 || EVP_DigestUpdate(hash, key.p, key.len) != 1 ||
        EVP_DigestUpdate(hash, guid, sizeof guid - 1) != 1 ||
        EVP_DigestFinal_ex(hash, digest, NULL) != 1)
        memset(digest, 0, sizeof digest); /* not in any build: the peer would hang up */
    EVP_EncodeBlock((unsigned char *)out, digest, 20);
}

/* `name` with a colon and a space. */
static void cork_header(struct mesa_conn *c, const char *name, struct mesa_span value)
{
    mesa_link_cork(c, name, strlen(name));
    mesa_link_cork(c, value.p, value.len);
    mesa_link_cork(c, "\r\n", 2);
}

void mesa_upgrade_answer(struct mesa_conn *c, const struct mesa_request *req)
{
    static const char head[] =
        "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n";
    static const char protocol[] = "Sec-WebSocket-Protocol: ";
    static const char extensions[] = "Sec-WebSocket-Extensions: ";
    char text[256], accept[MESA_ACCEPT_TEXT_LEN], deflate[MESA_DEFLATE_ANSWER_MAX];
    mesa_upgrade_accept(c->transport->hash, mesa_request_header(req, "sec-websocket-key"), accept);
    int n = snprintf(text, sizeof text, "%sSec-WebSocket-Accept: %s\r\n", head, accept);
    mesa_link_cork(c, text, (size_t)n);
    if (c->deflate != NULL) {
        size_t len = mesa_deflate_answer(mesa_deflate_terms(c->deflate), deflate);
        cork_header(c, extensions, (struct mesa_span){deflate, len});
    }
    if (req->protocol.len > 0)
        cork_header(c, protocol, req->protocol);
    mesa_link_cork(c, "\r\n", 2);
}
