/* wsclient_internal.h - what the files of the WebSocket client share; nobody else includes it.
 *
 * A client tries one address after the other. Each attempt has a link, which libwebsockets may know
 * for longer than the client lives. Hooks may free the client: after one nothing of it is touched
 * without having asked. Loop thread only. May include: base/, core/, io/.
 */
#ifndef MESA_IO_WSCLIENT_INTERNAL_H
#define MESA_IO_WSCLIENT_INTERNAL_H

#include "core/http_response.h"
#include "core/url.h"
#include "core/ws_reader.h"
#include "io/lookup.h"
#include "io/outconn.h"
#include "io/transport_internal.h"
#include "io/wsclient.h"

enum mesa_wsclient_phase { WSC_LOOKUP, WSC_CONNECTING, WSC_OPEN, WSC_CLOSING, WSC_OVER };

struct mesa_ws_link {
    struct mesa_outconn out;
    struct mesa_wsclient *client;
};

struct mesa_wsclient {
    struct mesa_transport *transport;
    struct mesa_wsclient_hooks hooks;
    void *ctx;
    bool *freed; /* set when the client is freed; NULL: nobody asks */
    char *ca;
    struct mesa_url url;
    struct mesa_lookup *lookup;
    struct mesa_addresses addresses;
    size_t next_address;
    struct mesa_ws_link *link;
    struct mesa_timer timer; /* connecting, then closing; and whatever must wait for a later turn */
    struct mesa_job resume;  /* works on what came while it was paused, or tries the next address */
    struct mesa_http_response response;
    enum mesa_status answer; /* what the response said of the bytes so far */
    char key[32];            /* Sec-WebSocket-Key */
    struct mesa_ws_reader reader;
    struct mesa_buf input;   /* frames that nobody has looked at */
    struct mesa_buf message; /* fragments so far */
    size_t max_queue_bytes, max_payload_bytes;
    enum mesa_wsclient_phase phase;
    bool paused;
    bool broken;    /* what comes means nothing any more */
    bool no_memory; /* for something that came */
    bool ended;     /* the peer has gone, perhaps before its last frames were looked at */
    bool close_sent;
    int close_code;
    char close_reason[MESA_MAX_REASON_BYTES];
    size_t close_reason_len;
    char error[256];
};

/* wsclient.c */
/* Notes how the connection ends; a reason that is too long is cut between two characters. */
void mesa_wsclient_set_close(struct mesa_wsclient *c, int code, const char *reason, size_t len);
/* Sends the close frame that is noted, and waits for the end. */
void mesa_wsclient_begin_close(struct mesa_wsclient *c);
/* The connection is over: tells the owner, once. `error` only when there was none. */
void mesa_wsclient_finish(struct mesa_wsclient *c, const char *error);

/* wsclient_upgrade.c */
enum mesa_status mesa_wsclient_send_request(struct mesa_wsclient *c);
/* Why the answer does not make the connection a WebSocket; NULL: it does. `err` is room for it. */
const char *mesa_wsclient_refusal(const struct mesa_wsclient *c, char *err, size_t err_len);

/* wsclient_frames.c */
enum mesa_status mesa_wsclient_write(struct mesa_wsclient *c, enum mesa_ws_opcode opcode,
                                     const char *payload, size_t len);
/* Works on `input`. False: the client was freed meanwhile. */
bool mesa_wsclient_take_input(struct mesa_wsclient *c);

#endif
