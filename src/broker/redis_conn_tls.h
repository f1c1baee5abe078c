/* redis_conn_tls.h - TLS to Redis, where the hiredis at hand has it.
 *
 * Certificates and the host's name are verified. Loop thread only. May include: base/, hiredis, OpenSSL.
 */
#ifndef MESA_BROKER_REDIS_CONN_TLS_H
#define MESA_BROKER_REDIS_CONN_TLS_H

#include <hiredis/hiredis.h>
#include <stdbool.h>
#include <stddef.h>

#include "base/status.h"
#include "broker/redis_uri.h"

struct mesa_redis_tls; /* what all connections share; opaque */
struct ssl_st;         /* one connection's, owned by its hiredis context */

/* MESA_EINVAL, with a line in `err`: hiredis has no TLS, or a file cannot be used. */
enum mesa_status mesa_redis_tls_new(struct mesa_redis_tls **out,
                                    const struct mesa_redis_options *options, char *err,
                                    size_t err_len);
void mesa_redis_tls_free(struct mesa_redis_tls *t);

/* Starts TLS on a connected context; on failure NULL, and `err` says why. `host` is whom the
 * certificate must name. */
struct ssl_st *mesa_redis_tls_start(struct mesa_redis_tls *t, redisContext *context,
                                    const char *host, char *err, size_t err_len);
/* Whether output that was not taken waits for input, not for room. */
bool mesa_redis_tls_wants_input(const struct ssl_st *ssl);
/* What is wrong with the peer's certificate, or NULL. */
const char *mesa_redis_tls_problem(const struct ssl_st *ssl);

#endif
