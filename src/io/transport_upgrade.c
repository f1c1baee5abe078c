/* transport_upgrade.c - decides whether a request becomes a WebSocket (RFC 6455 section 4.2).
 *
 * What libwebsockets, where it has the socket, would drop without an answer is answered here first. It looks a client's
 * subprotocols up among its own protocols and fails the handshake when there is none: ours takes
 * the name of the first one offered for the moment in which the response is written.
 */
#include <stdio.h>
#include <string.h>
#include <strings.h>

#include "io/transport_internal.h"

enum { MAX_OFFER_BYTES = 126 }; /* what libwebsockets can parse */

static const char own_name[] = "mesa";

void mesa_upgrade_done(struct mesa_transport *t)
{
    if (t->renamed != NULL)
        t->renamed->name = own_name;
    t->renamed = NULL;
}

static bool is_space(char c)
{
    return c == ' ' || c == '\t';
}

/* The next member of a comma-separated list, without the space around it; absent at the end. */
static struct mesa_span next_token(struct mesa_span *list)
{
    struct mesa_span token = {NULL, 0};
    while (list->len > 0 && (is_space(*list->p) || *list->p == ',')) {
        list->p++;
        list->len--;
    }
    if (list->len == 0)
        return token;
    const char *comma = memchr(list->p, ',', list->len);
    token.p = list->p;
    token.len = comma != NULL ? (size_t)(comma - list->p) : list->len;
    list->p += token.len;
    list->len -= token.len;
    while (token.len > 0 && is_space(token.p[token.len - 1]))
        token.len--;
    return token;
}

bool mesa_header_lists(struct mesa_span list, const char *word)
{
    for (struct mesa_span t = next_token(&list); t.p != NULL; t = next_token(&list))
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
        *headers = "Upgrade: websocket\r\nSec-WebSocket-Version: 13\r\n";
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

/* RFC 2616 section 2.2, which RFC 6455 demands; what else libwebsockets would not find again. */
static bool is_token(struct mesa_span s)
{
    for (size_t i = 0; i < s.len; i++)
        if (s.p[i] <= ' ' || s.p[i] >= 0x7f || strchr("()<>@,;:\\\"/[]?={}", s.p[i]) != NULL)
            return false;
    return s.len > 0;
}

/* Agrees to the first subprotocol offered. */
static int choose_protocol(struct mesa_conn *c)
{
    struct mesa_capture *cap = &c->transport->upgrade;
    struct mesa_span offer = mesa_request_header(&cap->request, "sec-websocket-protocol");
    if (offer.p == NULL)
        return 0;
    if (offer.len > MAX_OFFER_BYTES)
        return 400;
    struct mesa_span first = next_token(&offer);
    if (first.len >= sizeof cap->protocol || !is_token(first))
        return 400;
    memcpy(cap->protocol, first.p, first.len);
    cap->protocol[first.len] = '\0';
    cap->request.protocol = (struct mesa_span){cap->protocol, first.len};
    return 0;
}

static int rename_protocol(struct mesa_conn *c)
{
    struct mesa_transport *t = c->transport;
    if (t->upgrade.request.protocol.len == 0)
        return 0;
    /* libwebsockets gave each vhost a writable copy of the array it was created with */
    struct lws_protocols *p = (struct lws_protocols *)(uintptr_t)lws_vhost_name_to_protocol(
        lws_get_vhost(c->wsi), own_name);
    if (p == NULL)
        return -1;
    p->name = t->upgrade.protocol;
    t->renamed = p;
    return 0;
}

static int check_handshake(struct mesa_conn *c, const char **headers)
{
    const struct mesa_request *req = &c->transport->upgrade.request;
    if (!mesa_header_lists(mesa_request_header(req, "upgrade"), "websocket"))
        return 400;
    int status = check_request(req, headers);
    return status == 0 ? choose_protocol(c) : status;
}

int mesa_upgrade_decide(struct mesa_conn *c, const char **headers)
{
    int status = check_handshake(c, headers);
    if (status != 0)
        mesa_listener_refused(c->listener, &c->address, "HANDSHAKE",
                              "the upgrade request is not one for a WebSocket");
    else if (c->listener->hooks.on_upgrade != NULL)
        status = c->listener->hooks.on_upgrade(c->listener->ctx, &c->transport->upgrade.request);
    return status;
}

size_t mesa_upgrade_answer(struct mesa_transport *t, char out[MESA_UPGRADE_ANSWER_MAX])
{
    static const char guid[] = "258EAFA5-E914-47DA-95CA-C5AB0DC85B11";
    const struct mesa_request *req = &t->upgrade.request;
    struct mesa_span key = mesa_request_header(req, "sec-websocket-key");
    unsigned char joined[24 + sizeof guid - 1], hash[20];
    char accept[32];
    memcpy(joined, key.p, 24);
    memcpy(joined + 24, guid, sizeof guid - 1);
    lws_SHA1(joined, sizeof joined, hash);
    lws_b64_encode_string((const char *)hash, sizeof hash, accept, sizeof accept);
    bool named = req->protocol.len > 0;
    return (size_t)snprintf(
        out, MESA_UPGRADE_ANSWER_MAX,
        "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: %s\r\n%s%.*s%s\r\n",
        accept, named ? "Sec-WebSocket-Protocol: " : "", (int)req->protocol.len, req->protocol.p,
        named ? "\r\n" : "");
}

int mesa_upgrade_confirm(struct mesa_conn *c, const char *protocol_name)
{
    struct mesa_transport *t = c->transport;
    const char *headers = "";

    if (c->phase != MESA_CONN_REQUEST)
        return -1;        /* behind another request */
    mesa_upgrade_done(t); /* the one before may have failed later on */
    int status = mesa_capture_read(&t->upgrade, c, protocol_name);
    if (status == 0)
        status = mesa_upgrade_decide(c, &headers);
    if (c->listener == NULL)
        return -1; /* a hook freed it */
    if (status == 0)
        return rename_protocol(c);
    mesa_http_refuse(c, status, headers);
    return -1;
}
