/* wsclient_upgrade.c - the request for a WebSocket, and what is answered (RFC 6455 section 4). */
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
        rc = mesa_outconn_write(&c->link->out, head.data, head.len);
    mesa_buf_deinit(&head);
    mesa_http_response_deinit(&c->response);
    mesa_http_response_init(&c->response, true, 0);
    c->response.upgrade = true;
    c->answer = MESA_OK;
    return rc;
}

/* -- the answer --------------------------------------------------------------------------------- */

/* How often the answer has the header. */
static unsigned count(const struct mesa_http_response *r, const char *header)
{
    struct mesa_span wanted = {header, strlen(header)}, name, value;
    unsigned n = 0;
    for (size_t i = 0; i < mesa_http_response_header_count(r); i++) {
        mesa_http_response_header_at(r, i, &name, &value);
        n += (unsigned)mesa_span_eq(name, wanted);
    }
    return n;
}

/* Whether a header that is a list has the word, in whichever of its lines. */
static bool lists(const struct mesa_http_response *r, const char *header, const char *word)
{
    struct mesa_span wanted = {header, strlen(header)}, name, value;
    for (size_t i = 0; i < mesa_http_response_header_count(r); i++) {
        mesa_http_response_header_at(r, i, &name, &value);
        if (mesa_span_eq(name, wanted) && mesa_header_lists(value, word))
            return true;
    }
    return false;
}

/* For people: " text", or nothing when there is none; without what a terminal could obey. */
static void show(char *to, size_t room, struct mesa_span text)
{
    size_t n = 0;
    if (text.len > 0 && room > 1)
        to[n++] = ' ';
    for (size_t i = 0; i < text.len && n + 1 < room; i++)
        to[n++] = (char)(text.p[i] >= ' ' && text.p[i] <= '~' ? text.p[i] : '?');
    to[n] = '\0';
}

static void describe_status(const struct mesa_http_response *r, char *err, size_t err_len)
{
    char reason[48], where[128] = "";
    struct mesa_span location = mesa_http_response_header(r, "location");
    show(reason, sizeof reason, mesa_http_response_reason(r));
    if (r->status >= 300 && r->status <= 399 && location.len > 0)
        show(where, sizeof where, location);
    snprintf(err, err_len, "the server answered %d%s, no WebSocket%s%s%s", r->status, reason,
             where[0] != '\0' ? " (it points to" : "", where,
             where[0] != '\0' ? ", redirects are not followed)" : "");
}

const char *mesa_wsclient_refusal(const struct mesa_wsclient *c, char *err, size_t err_len)
{
    const struct mesa_http_response *r = &c->response;
    char accept[MESA_ACCEPT_TEXT_LEN];
    if (r->status != 101) {
        describe_status(r, err, err_len);
        return err;
    }
    if (!r->keep_alive)
        return "the server answered the upgrade with HTTP/1.0";
    if (!lists(r, "upgrade", "websocket"))
        return "the server's answer to the upgrade lacks Upgrade: websocket";
    if (!lists(r, "connection", "upgrade"))
        return "the server's answer to the upgrade lacks Connection: Upgrade";
    mesa_upgrade_accept(c->transport->hash, (struct mesa_span){c->key, strlen(c->key)}, accept);
    if (count(r, "sec-websocket-accept") != 1 ||
        !mesa_span_eq(mesa_http_response_header(r, "sec-websocket-accept"),
                      (struct mesa_span){accept, strlen(accept)}))
        return "the server's answer to the upgrade has no or a wrong Sec-WebSocket-Accept";
    if (count(r, "sec-websocket-extensions") > 0)
        return "the server has chosen an extension, and none was offered";
    if (count(r, "sec-websocket-protocol") > 0)
        return "the server has chosen a subprotocol, and none was offered";
    return NULL;
}
