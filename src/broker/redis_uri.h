/* redis_uri.h - where Redis is and how to talk to it: options, their defaults, and URIs.
 *
 *   redis://[user:password@]host[:port][/db]     rediss:// for TLS
 *   unix://[user:password@]/path/of/socket[?db=1]
 *
 * User, password, host, path and values are percent-decoded. `redis://:password@host` has no user.
 * The options own their strings. Pure: any thread. May include: base/.
 */
#ifndef MESA_BROKER_REDIS_URI_H
#define MESA_BROKER_REDIS_URI_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/status.h"

struct mesa_redis_endpoint {
    char *host;
    uint16_t port;
};

/* Zero in a time, count or size means its default, unless said otherwise. */
struct mesa_redis_options {
    char *host;    /* NULL: "127.0.0.1" */
    uint16_t port; /* 6379 */
    char *path;    /* of a Unix socket, instead of host and port */
    char *user;    /* NULL: Redis's default user */
    char *password;
    uint32_t db; /* 0 */
    char *name;  /* of the connection, for CLIENT LIST; NULL: none */

    bool tls;
    char *tls_ca;             /* file; NULL: the system's */
    char *tls_cert, *tls_key; /* files; NULL: none */

    /* When there are any, they are asked where the master called `master` is, and host, port and
     * path do not count. user and password are the master's. */
    struct mesa_redis_endpoint *sentinels;
    size_t sentinel_count;
    char *master;
    char *sentinel_user, *sentinel_password;

    uint32_t connect_timeout_ms; /* 5000; for looking a name up, and for each address */
    uint32_t command_timeout_ms; /* 5000; a command that takes longer costs the connection */
    uint32_t keepalive_ms;       /* 10000; of silence, until a PING */
    uint32_t backoff_min_ms;     /* 50; doubles with each failure, with jitter */
    uint32_t backoff_max_ms;     /* 1000 */
    uint32_t refused_retry_ms;   /* 10000; when Redis refused the password, the user or the db */
    size_t queue_limit;          /* commands kept while there is no connection; 0: none */
    size_t output_limit;         /* 64 MiB; bytes not yet taken by the socket */
    size_t reply_limit;          /* 512 MiB; bytes of one reply */
};

void mesa_redis_options_init(struct mesa_redis_options *o);
/* Wipes the passwords. */
void mesa_redis_options_deinit(struct mesa_redis_options *o);
enum mesa_status mesa_redis_options_copy(struct mesa_redis_options *out,
                                         const struct mesa_redis_options *o);

/* Replaces one of the strings above by a copy of `value` (NULL: none). MESA_ENOMEM keeps the old. */
enum mesa_status mesa_redis_options_set(char **field, const char *value);

/* Takes over what the URI names and leaves the rest. MESA_EINVAL, with a line for people in `err`
 * that names the part and never the password: nothing was changed. MESA_ENOMEM. */
enum mesa_status mesa_redis_options_set_uri(struct mesa_redis_options *o, const char *uri,
                                            char *err, size_t err_len);

/* "host", "host:port" (26379) or "[v6]:port". As above. */
enum mesa_status mesa_redis_options_add_sentinel(struct mesa_redis_options *o, const char *text,
                                                 char *err, size_t err_len);

/* Whether the options go together: MESA_EINVAL with a line in `err` when not. */
enum mesa_status mesa_redis_options_check(const struct mesa_redis_options *o, char *err,
                                          size_t err_len);

#endif
