/* tls_context.h - what the TLS sessions of a listener share: certificates, authorities, settings.
 *
 * A context is made from files at once and never changes. To take new files another one is made,
 * for the sessions that begin from then on; those that have begun keep theirs. Loop thread only.
 * May include: base/, core/config.h.
 */
#ifndef MESA_IO_TLS_CONTEXT_H
#define MESA_IO_TLS_CONTEXT_H

#include <stdbool.h>
#include <stddef.h>
#include <time.h>

#include "base/status.h"
#include "core/config.h"

struct mesa_tls_context; /* opaque, reference-counted */
struct mesa_tls_tickets;

/* Room for an error: a path may be in it. */
enum { MESA_TLS_ERROR_BYTES = 4608 };

/* Reads every file of `cfg`. `tickets` is given the secret of tls.ticketKeys; NULL: it is only
 * read, for a context that serves nobody. `err` names the key of the configuration, the file and
 * the reason: "tls.cert: cannot use …". MESA_EINVAL, MESA_ENOMEM. */
enum mesa_status mesa_tls_context_new(struct mesa_tls_context **out,
                                      const struct mesa_config_tls *cfg,
                                      struct mesa_tls_tickets *tickets, char *err, size_t err_len);
struct mesa_tls_context *mesa_tls_context_ref(struct mesa_tls_context *c);
/* NULL is accepted. */
void mesa_tls_context_unref(struct mesa_tls_context *c);

/* Whether both were made from files with the same content. */
bool mesa_tls_context_same(const struct mesa_tls_context *a, const struct mesa_tls_context *b);
/* Logs what has expired at `now` or will have 14 days later, is not valid yet, or is not for the
 * name it is configured for. */
void mesa_tls_context_warn(const struct mesa_tls_context *c, time_t now);
/* "CN=example.org, valid until 2027-01-31", of the certificate for those who ask for no other
 * one. */
void mesa_tls_context_describe(const struct mesa_tls_context *c, char *out, size_t len);

#endif
