/* config.h - the validated configuration of one server.
 *
 * Plain data with defaults (PROTOCOL 3-8, DESIGN 5). Names of keys, types and ranges are checked
 * where the configuration is written (lua/mesa/config.lua); the invariants between fields are
 * checked here. Strings are owned by the struct. May include: base/, core/address.h.
 */
#ifndef MESA_CORE_CONFIG_H
#define MESA_CORE_CONFIG_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/status.h"
#include "core/address.h"

enum {
    MESA_SCRIPT_TIME_MS = 1000,
    MESA_ID_MAX = 512, /* bytes of a user's id */
};

/* A certificate for clients that ask for a name. */
struct mesa_config_name {
    char *name; /* in lower case; "*.example.org" is any one label in front of it */
    char *cert, *key, *passphrase;
};

struct mesa_config_tls {
    char *cert, *key;               /* PEM files; NULL: no TLS */
    char *passphrase;               /* of the key; NULL: none */
    struct mesa_config_name *names; /* in the order of their names */
    size_t name_count;
    char *ca; /* authorities of client certificates, and their revocation lists */
    bool request_cert;
    char *min_version;           /* "1.2" or "1.3"; NULL: 1.2 */
    char *ciphers;               /* as OpenSSL writes them; NULL: its own choice */
    char *ticket_keys;           /* file of a secret that processes share; NULL: each has its own */
    uint32_t ticket_lifetime_ms; /* 2 hours; 0: no session is resumed */
};

struct mesa_config {
    char *host;        /* NULL: every address */
    char *mode;        /* of a Unix socket: octal digits; NULL: what the umask gives */
    uint16_t port;     /* 4000; 0 is any free port */
    char *path;        /* NULL: every path is a WebSocket path */
    char *name_space;  /* NULL: none */
    char *static_root; /* NULL: no files; absolute otherwise */
    bool raw;

    struct mesa_config_tls tls;

    struct {
        bool enforce_equal_versions; /* false */
        char *version;               /* "1.5.8" */
    } client;

    struct {
        bool enabled;  /* false */
        char *uri;     /* instead of the fields up to `db`; NULL: those count */
        char *host;    /* NULL: "127.0.0.1" */
        uint16_t port; /* 6379 */
        char *path;    /* of a Unix socket, instead of host and port */
        char *user, *password;
        uint32_t db;      /* 0 */
        char **sentinels; /* "host:port", to be asked for the master called `name` */
        size_t sentinel_count;
        char *name;
        uint32_t connect_timeout_ms; /* 5000 */
        uint32_t command_timeout_ms; /* 5000 */
        uint32_t lease_ms;           /* 15000; a dead node's users are gone after this time */
        uint32_t queue;              /* 0; messages kept for the cluster while Redis is away */
    } redis;

    struct {
        bool enabled;         /* false */
        bool distribute_load; /* true: portals take turns; false: at random */
    } portal;

    bool concurrent_messages; /* false: a client's messages are handled one after the other */
    uint32_t store_messages;  /* of each direction of a client; 0: none. `true` in Lua means 100 */

    struct {
        bool enabled;                    /* false */
        uint32_t redelivery_interval_ms; /* 0: all at once */
        uint32_t max_messages;           /* 1000 per id */
        uint64_t max_bytes;              /* 1 MiB per id */
        uint64_t max_age_ms;             /* 7 days */
    } sync;

    struct {
        bool enabled;          /* false */
        uint32_t interval_ms;  /* 10000 */
        uint32_t max_attempts; /* 3 */
    } heartbeat;

    struct {
        bool enabled;         /* false */
        uint32_t interval_ms; /* 5000 */
    } reconnect;

    struct {
        uint32_t timeout_ms;        /* 10000; 0: off */
        bool required;              /* false */
        bool send_user_object;      /* true */
        bool disconnect_on_fail;    /* true */
        bool store_connected_users; /* true */
    } authentication;

    struct {
        bool enabled;          /* false */
        bool context_takeover; /* false */
        uint16_t level;        /* 6 */
        uint32_t threshold;    /* 1024 */
        size_t max_memory;     /* 64 MiB */
    } compression;

    struct mesa_network *proxies; /* whose word on addresses is believed; NULL: nobody's */
    size_t proxy_count;
    bool proxy_protocol; /* false; connections begin with a PROXY header */
    char **origins;      /* allowed, see core/origin.h; NULL: any */
    size_t origin_count;

    struct {
        char **names; /* subprotocols, the one liked best first; NULL: whatever is offered first */
        size_t count;
        bool required; /* false: who offers none of them is let in without one */
        bool asked;    /* false; true: on_protocol decides, and `names` is NULL */
    } protocols;

    struct {
        size_t max_payload;       /* 1 MiB */
        size_t max_backpressure;  /* 1 MiB */
        size_t max_body;          /* 1 MiB, of an HTTP request; 0: none */
        size_t max_queue;         /* 1 MiB, of one client's messages that wait for its handler */
        size_t max_queue_total;   /* 64 MiB, of all clients of the process */
        uint32_t max_connections; /* 0: unlimited */
        uint32_t max_connections_per_ip; /* 0: unlimited */
        uint32_t messages_per_second;    /* 0: unlimited */
        uint32_t burst;                  /* 0: the same as messages_per_second */
        uint32_t handshake_timeout_ms;   /* 10000 */
        uint32_t idle_timeout_ms;        /* 0: off */
        uint32_t max_depth;              /* 128, of JSON */
        uint32_t script_time_ms; /* 1000: a handler that holds the loop longer is logged; 0: off */
        size_t script_memory;    /* bytes of the Lua state; 0: unlimited */
    } limits;

    struct {
        char *host; /* NULL: "127.0.0.1" */
        char *mode; /* as above */
        uint16_t port;
        bool enabled; /* false */
    } admin;
};

/* Fills in every default; no string but client.version is set (MESA_ENOMEM). */
enum mesa_status mesa_config_init(struct mesa_config *c);
void mesa_config_deinit(struct mesa_config *c);

/* Checks the invariants between fields. MESA_EINVAL: *err (static) names keys as a user writes
 * them, e.g. "tls.key is missing: tls.cert needs it". */
enum mesa_status mesa_config_check(const struct mesa_config *c, const char **err);

#endif
