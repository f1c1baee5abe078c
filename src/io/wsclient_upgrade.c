/* wsclient_upgrade.c - the request that asks for a WebSocket, and what is answered (RFC 6455 section 4). */
#include <openssl/rand.h>
#include <stdio.h>
#include <string.h>

#include "base/base64.h"
#include "io/wsclient_internal.h"

enum { KEY_BYTES = 16 };

static enum mesa_status make_key(struct mesa_wsclient *c)
{
    unsigned char bytes[KEY_BYTES];
    struct mesa_buf text;
    mesa_buf_init(&text);
    if (RAND_bytes(bytes, sizeof bytes) != 1)
        return MESA_EIO;
    enum mesa_status rc =
        mesa_base64_encode(&text, (struct mesa_span){(const char *)bytes, sizeof bytes});
    if (rc == MESA_OK)
        snprintf(c->key, sizeof c->key, "%.*s", (int)text.len, text.data);
    mesa_buf_deinit(&text);
    return rc;
}

static enum mesa_status write_head(const struct mesa_wsclient *c, struct mesa_buf *out)
{
    static const char host[] = " HTTP/1.1\r\nHost: ";
    enum mesa_status rc = mesa_buf_append(out, "GET ", 4);
    if (rc == MESA_OK)
        rc = mesa_buf_append(out, c->url.target.data, c->url.target.len);
    if (rc == MESA_OK)
        rc = mesa_buf_append(out, host, sizeof host - 1);
    if (rc == MESA_OK)
        rc = mesa_url_append_host(&c->url, out);
    if (rc == MESA_OK)
        rc = mesa_buf_printf(out,
                             "\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
                             "Sec-WebSocket-Key: %s\r\nSec-WebSocket-Version: 13\r\n"
                             "User-Agent: mesa-lua/" MESA_VERSION "\r\n",
                             c->key);
    if (rc == MESA_OK)
        rc = mesa_url_append_basic(&c->url, out);
    return rc == MESA_OK ? mesa_buf_append(out, "\r\n", 2) : rc;
}

enum mesa_status mesa_wsclient_send_request(struct mesa_wsclient *c)
{
    struct mesa_buf head;
    mesa_buf_init(&head);
    enum mesa_status rc = make_key(c);
    if (rc == MESA_OK)
        rc = write_head(c, &head);
    if (rc == MESA_OK)
        rc = mesa_outgoing_write(&c->link->out, head.data, head.len);
    mesa_buf_deinit(&head);
    mesa_http_response_deinit(&c->response);
    mesa_http_response_init(&c->response, true, 0);
    c->response.upgrade = true;
    c->answer = MESA_OK;
    return rc;
}

const char *mesa_wsclient_refusal(const struct mesa_wsclient *c, char *err, size_t err_len)
{
    const struct mesa_http_response *r = &c->response;
    char accept[MESA_ACCEPT_TEXT_LEN];
    if (r->status != 101) {
        snprintf(err, err_len, "the server answered %d, no WebSocket", r->status);
        return err;
    }
    mesa_upgrade_accept(c->transport->hash, (struct mesa_span){c->key, strlen(c->key)}, accept);
    struct mesa_span given = mesa_http_response_header(r, "sec-websocket-accept");
    if (!mesa_header_lists(mesa_http_response_header(r, "upgrade"), "websocket") ||
        !mesa_header_lists(mesa_http_response_header(r, "connection"), "upgrade"))
        return "the server's answer to the upgrade lacks Upgrade: websocket";
    if (!mesa_span_eq(given, (struct mesa_span){accept, strlen(accept)}))
        return "the server's answer to the upgrade has a wrong Sec-WebSocket-Accept";
    if (mesa_http_response_header(r, "sec-websocket-extensions").len > 0 ||
        mesa_http_response_header(r, "sec-websocket-protocol").len > 0)
        return "the server has chosen an extension or a subprotocol that nobody offered";
    return NULL;
}
