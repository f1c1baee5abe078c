/* cluster.h - the JSON that servers, dispatchers and portals exchange through Redis (PROTOCOL 8, 9).
 *
 * Foreign input: anybody may publish on these channels, so everything is validated as strictly as
 * what clients send. Pure: any thread. May include: base/, core/envelope.h, core/json.h.
 */
#ifndef MESA_CORE_CLUSTER_H
#define MESA_CORE_CLUSTER_H

#include <stdbool.h>
#include <stddef.h>

#include "base/buf.h"
#include "core/envelope.h"
#include "core/json.h"

/* Decoded strings of a JSON array. */
struct mesa_cluster_ids {
    struct mesa_span *at; /* into `bytes` */
    size_t count;
    struct mesa_buf bytes;
};

/* What a message on the channel `ws` is for the connections of. */
enum mesa_cluster_kind {
    MESA_CLUSTER_ENVELOPE, /* servers that speak the protocol */
    MESA_CLUSTER_TEXT,     /* raw servers */
    MESA_CLUSTER_BINARY,
};

/* A message on the channel `ws`. */
struct mesa_cluster_message {
    struct mesa_envelope envelope; /* spans into the text, or into `mended` */
    struct mesa_buf mended;        /* the text, when it had lone surrogate escapes */
    enum mesa_cluster_kind kind;
    struct mesa_buf raw; /* what raw clients get, decoded; of an envelope empty */
    bool everybody;      /* "*" is among the recipients */
    bool sync;           /* to be kept for recipients who turn out not to have received it */
    uint64_t number; /* in the order of what is kept; 0: it has none, and nobody else keeps it */
    struct mesa_cluster_ids recipients;
    struct mesa_cluster_ids excluding; /* without the key: none */
};

/* {"message": envelope, "recipients": [ids], "excluding"?: [ids], "origin"?, "sync"?: true, "number"?: n}.
 * Without an origin, a Node server's, it is to be kept unless its options say otherwise. Ids are strings, or integers,
 * which become their decimal strings; null is nobody (a Node server publishes it for a client
 * without an id). Other keys are validated and ignored; of duplicate keys the last one counts.
 * A raw message has "raw": its text, or, with "binary": true, the base64 of its bytes. Its envelope
 * is MESA_CLUSTER_RAW, which servers that know nothing of it do not show to their clients, and it
 * is never kept.
 * MESA_EPROTO/MESA_EUTF8 with *err, MESA_ENOMEM: nothing to deinit. */
#define MESA_CLUSTER_RAW "{\"op\":5,\"d\":{},\"t\":\"RAW\"}"
enum mesa_status mesa_cluster_message_parse(const char *text, size_t len, unsigned max_depth,
                                            struct mesa_cluster_message *out,
                                            struct mesa_json_error *err);
void mesa_cluster_message_deinit(struct mesa_cluster_message *m);

/* A message on the channel `available_portals_pool`. */
struct mesa_portal_update {
    struct mesa_buf id; /* decoded, not empty */
    bool ready;         /* it joined, else it left */
};

/* {"id": string, "ready": bool}; the rest as above. */
enum mesa_status mesa_portal_update_parse(const char *text, size_t len, unsigned max_depth,
                                          struct mesa_portal_update *out,
                                          struct mesa_json_error *err);
void mesa_portal_update_deinit(struct mesa_portal_update *u);

/* The elements of a JSON array: *out, to be freed, has one span into the text for each.
 * MESA_EPROTO/MESA_EUTF8 with *err: not an array, or not JSON. MESA_ENOMEM. */
enum mesa_status mesa_cluster_elements(const char *text, size_t len, unsigned max_depth,
                                       struct mesa_span **out, size_t *count,
                                       struct mesa_json_error *err);

#endif
