/* metrics.h - counters of one server, and their text for Prometheus.
 *
 * Plain data: who causes something adds to its field. Loop thread only. May include: base/.
 */
#ifndef MESA_CORE_METRICS_H
#define MESA_CORE_METRICS_H

#include <stddef.h>
#include <stdint.h>

#include "base/buf.h"
#include "base/status.h"

enum { MESA_METRICS_CODES_MAX = 48, MESA_METRICS_CODE_LEN = 24 };

struct mesa_metrics_code {
    char code[MESA_METRICS_CODE_LEN]; /* as a label value: "JSON", "1007" */
    uint64_t count;
};

/* Counts by label; what does not fit any more is counted as "OTHER". */
struct mesa_metrics_codes {
    struct mesa_metrics_code at[MESA_METRICS_CODES_MAX];
    size_t count;
};

struct mesa_metrics {
    uint64_t connections_total, connections_open;
    uint64_t messages_in, messages_out; /* frames with data, the core's own included */
    uint64_t bytes_in, bytes_out;       /* payload in, frames out */
    /* of compressed messages received, and of all frames for connections with compression: their bytes
     * on the wire, and without compression */
    uint64_t deflate_wire_in, deflate_plain_in, deflate_wire_out, deflate_plain_out;
    uint64_t backpressure; /* sends that found the queue more than half full */
    uint64_t dropped;      /* sends refused because the queue was full */
    uint64_t queued_bytes; /* of messages that wait for a handler now */
    uint64_t sync_stored, sync_redelivered, sync_dropped;
    uint64_t auth_accepted, auth_refused, auth_timeout;
    uint64_t cluster_in, cluster_out; /* messages from and to the rest of the cluster */
    uint64_t cluster_skipped;         /* of cluster_in: not what connections here speak */
    uint64_t redis_up, redis_lost, redis_unavailable; /* connected now; times lost; sends refused */
    uint64_t redis_ready; /* as /readyz says; filled in when it is asked for */
    uint64_t script_slow; /* handlers that held the loop for too long */
    uint64_t upgrades_refused;
    uint64_t script_errors, reloads, reload_failures;
    struct mesa_metrics_codes errors; /* by error code */
    struct mesa_metrics_codes closes; /* by close code */
};

void mesa_metrics_init(struct mesa_metrics *m);
void mesa_metrics_count_error(struct mesa_metrics *m, const char *code);
void mesa_metrics_count_close(struct mesa_metrics *m, int code);

/* Appends the counters in Prometheus' text format 0.0.4. MESA_ENOMEM. */
enum mesa_status mesa_metrics_write(const struct mesa_metrics *m, struct mesa_buf *out);

#endif
