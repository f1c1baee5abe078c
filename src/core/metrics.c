/* metrics.c - see metrics.h. */
#include "core/metrics.h"

#include <inttypes.h>
#include <stdio.h>

struct metric {
    const char *name, *type, *help;
    size_t offset;
};

#define COUNTER(field, suffix, help)                                          \
    {                                                                         \
        "mesa_" suffix, "counter", help, offsetof(struct mesa_metrics, field) \
    }

static const struct metric metrics[] = {
    COUNTER(connections_total, "connections_total", "Connections accepted."),
    {"mesa_connections_open", "gauge", "Connections open now.",
     offsetof(struct mesa_metrics, connections_open)},
    COUNTER(messages_in, "messages_received_total", "Messages received."),
    COUNTER(messages_out, "messages_sent_total", "Messages written to connections."),
    COUNTER(bytes_in, "received_bytes_total", "Payload bytes received."),
    COUNTER(bytes_out, "sent_bytes_total", "Bytes of frames written to connections."),
    COUNTER(deflate_wire_in, "deflate_received_wire_bytes_total",
            "Payload bytes of compressed messages as they came."),
    COUNTER(deflate_plain_in, "deflate_received_plain_bytes_total", "The same, inflated."),
    COUNTER(deflate_wire_out, "deflate_sent_wire_bytes_total",
            "Bytes of frames written to connections with compression."),
    COUNTER(deflate_plain_out, "deflate_sent_plain_bytes_total",
            "The same, had they not been compressed."),
    COUNTER(backpressure, "backpressure_total", "Sends that found a queue over half its bound."),
    COUNTER(dropped, "dropped_total", "Sends refused because a queue was full."),
    {"mesa_queued_bytes", "gauge", "Bytes of messages that wait for a handler.",
     offsetof(struct mesa_metrics, queued_bytes)},
    COUNTER(sync_stored, "sync_stored_total", "Messages kept for offline users."),
    COUNTER(sync_redelivered, "sync_redelivered_total", "Kept messages queued to their user."),
    COUNTER(sync_dropped, "sync_dropped_total", "Kept messages dropped before delivery."),
    COUNTER(auth_accepted, "authentication_accepted_total", "Authentications accepted."),
    COUNTER(auth_refused, "authentication_refused_total", "Authentications refused."),
    COUNTER(auth_timeout, "authentication_timeout_total",
            "Clients closed for late authentication."),
    COUNTER(cluster_in, "cluster_received_total", "Messages from elsewhere in the cluster."),
    COUNTER(cluster_skipped, "cluster_skipped_total",
            "Of these, envelopes for a raw server or the other way round."),
    COUNTER(cluster_out, "cluster_sent_total", "Messages published to the cluster."),
    {"mesa_redis_up", "gauge", "Whether Redis can be reached.",
     offsetof(struct mesa_metrics, redis_up)},
    {"mesa_redis_ready", "gauge",
     "Whether this server is connected, subscribed and announced, and Redis refuses nothing.",
     offsetof(struct mesa_metrics, redis_ready)},
    COUNTER(redis_lost, "redis_lost_total", "Times the connection to Redis was lost."),
    COUNTER(redis_unavailable, "redis_unavailable_total", "Sends that could not leave this node."),
    COUNTER(upgrades_refused, "upgrades_refused_total",
            "Upgrades refused by listeners of the upgrade event."),
    COUNTER(script_errors, "script_errors_total", "Errors raised by script handlers."),
    COUNTER(script_slow, "script_slow_total", "Handlers that held the loop beyond scriptTime."),
    COUNTER(reloads, "reloads_total", "Scripts reloaded."),
    COUNTER(reload_failures, "reload_failures_total", "Reloads that kept the old code."),
};

void mesa_metrics_init(struct mesa_metrics *m)
{
    memset(m, 0, sizeof *m);
}

static void count_code(struct mesa_metrics_codes *codes, const char *code)
{
    size_t i = 0;
    while (i < codes->count && strncmp(codes->at[i].code, code, MESA_METRICS_CODE_LEN - 1) != 0)
        i++;
    if (i == MESA_METRICS_CODES_MAX - 1 && i == codes->count)
        code = "OTHER"; /* the last place is shared by all that come late */
    if (i == MESA_METRICS_CODES_MAX)
        i--;
    if (i == codes->count) {
        snprintf(codes->at[i].code, MESA_METRICS_CODE_LEN, "%s", code);
        codes->count++;
    }
    codes->at[i].count++;
}

void mesa_metrics_count_error(struct mesa_metrics *m, const char *code)
{
    count_code(&m->errors, code);
}

void mesa_metrics_count_close(struct mesa_metrics *m, int code)
{
    char text[MESA_METRICS_CODE_LEN];
    snprintf(text, sizeof text, "%d", code);
    count_code(&m->closes, text);
}

static enum mesa_status write_head(struct mesa_buf *out, const char *name, const char *type,
                                   const char *help)
{
    return mesa_buf_printf(out, "# HELP %s %s\n# TYPE %s %s\n", name, help, name, type);
}

static enum mesa_status write_codes(struct mesa_buf *out, const char *name, const char *help,
                                    const struct mesa_metrics_codes *codes)
{
    enum mesa_status rc = write_head(out, name, "counter", help);
    for (size_t i = 0; rc == MESA_OK && i < codes->count; i++)
        rc = mesa_buf_printf(out, "%s{code=\"%s\"} %" PRIu64 "\n", name, codes->at[i].code,
                             codes->at[i].count);
    return rc;
}

enum mesa_status mesa_metrics_write(const struct mesa_metrics *m, struct mesa_buf *out)
{
    enum mesa_status rc = MESA_OK;
    for (size_t i = 0; rc == MESA_OK && i < sizeof metrics / sizeof metrics[0]; i++) {
        uint64_t value;
        memcpy(&value, (const char *)m + metrics[i].offset, sizeof value);
        rc = write_head(out, metrics[i].name, metrics[i].type, metrics[i].help);
        if (rc == MESA_OK)
            rc = mesa_buf_printf(out, "%s %" PRIu64 "\n", metrics[i].name, value);
    }
    if (rc == MESA_OK)
        rc = write_codes(out, "mesa_errors_total", "Error events by code.", &m->errors);
    if (rc == MESA_OK)
        rc = write_codes(out, "mesa_closes_total", "Closed connections by close code.", &m->closes);
    return rc;
}
