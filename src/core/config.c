/* config.c - see config.h: defaults and the invariants between fields. */
#include "core/config.h"

#include <stdlib.h>
#include <string.h>

#include "core/deflate.h"
#include "core/json.h"

enum { MEBI = 1024 * 1024 };

static const uint64_t week_ms = 7ull * 24 * 60 * 60 * 1000;

enum mesa_status mesa_config_init(struct mesa_config *c)
{
    *c = (struct mesa_config){
        .port = 4000,
        .redis = {.port = 6379,
                  .connect_timeout_ms = 5000,
                  .command_timeout_ms = 5000,
                  .lease_ms = 15000},
        .tls = {.ticket_lifetime_ms = 2 * 60 * 60 * 1000},
        .portal = {.distribute_load = true},
        .sync = {.max_messages = 1000, .max_bytes = MEBI, .max_age_ms = week_ms},
        .heartbeat = {.interval_ms = 10000, .max_attempts = 3},
        .reconnect = {.interval_ms = 5000},
        .authentication = {.timeout_ms = 10000,
                           .send_user_object = true,
                           .disconnect_on_fail = true,
                           .store_connected_users = true},
        .compression = {.level = MESA_DEFLATE_LEVEL,
                        .threshold = 1024,
                        .max_memory = (size_t)64 * MEBI},
        .limits = {.max_payload = MEBI,
                   .max_backpressure = MEBI,
                   .max_body = MEBI,
                   .max_queue = MEBI,
                   .max_queue_total = (size_t)64 * MEBI,
                   .handshake_timeout_ms = 10000,
                   .max_depth = MESA_JSON_DEPTH_DEFAULT,
                   .script_time_ms = MESA_SCRIPT_TIME_MS},
    };
    c->client.version = strdup("1.5.8");
    return c->client.version != NULL ? MESA_OK : MESA_ENOMEM;
}

/* Wiped: what is freed may be read by a bug elsewhere. */
static void free_secret(char *secret)
{
    if (secret != NULL)
        explicit_bzero(secret, strlen(secret));
    free(secret);
}

static void free_tls(struct mesa_config_tls *t)
{
    for (size_t i = 0; i < t->name_count; i++) {
        free(t->names[i].name);
        free(t->names[i].cert);
        free(t->names[i].key);
        free_secret(t->names[i].passphrase);
    }
    free(t->names);
    free(t->cert);
    free(t->key);
    free_secret(t->passphrase);
    free(t->ca);
    free(t->min_version);
    free(t->ciphers);
    free(t->ticket_keys);
}

void mesa_config_deinit(struct mesa_config *c)
{
    free(c->host);
    free(c->mode);
    free(c->path);
    free(c->name_space);
    free(c->static_root);
    free_tls(&c->tls);
    free(c->client.version);
    for (size_t i = 0; i < c->origin_count; i++)
        free(c->origins[i]);
    free(c->origins);
    free(c->proxies);
    for (size_t i = 0; i < c->protocols.count; i++)
        free(c->protocols.names[i]);
    free(c->protocols.names);
    free(c->redis.uri);
    free(c->redis.host);
    free(c->redis.path);
    free(c->redis.user);
    free(c->redis.password);
    free(c->redis.name);
    for (size_t i = 0; i < c->redis.sentinel_count; i++)
        free(c->redis.sentinels[i]);
    free(c->redis.sentinels);
    free(c->admin.host);
    free(c->admin.mode);
    memset(c, 0, sizeof *c);
}

static bool is_unix(const char *host)
{
    return host != NULL && strncmp(host, "unix:", 5) == 0;
}

static const char *check_tls(const struct mesa_config_tls *t)
{
    const char *least = t->min_version != NULL ? t->min_version : "1.2";
    if (t->cert != NULL && t->key == NULL)
        return "tls.key is missing: tls.cert needs it";
    if (t->key != NULL && t->cert == NULL)
        return "tls.cert is missing: tls.key needs it";
    if (t->ca != NULL && t->cert == NULL)
        return "tls.ca needs tls.cert and tls.key";
    if (t->request_cert && t->ca == NULL)
        return "tls.requestCert needs tls.ca: without it no certificate could be verified";
    if (t->name_count > 0 && t->cert == NULL)
        return "tls.names needs tls.cert and tls.key, for clients that ask for another name";
    if (strcmp(least, "1.2") != 0 && strcmp(least, "1.3") != 0)
        return "tls.minVersion must be \"1.2\" or \"1.3\"";
    if (t->ticket_lifetime_ms > 0 && t->ticket_lifetime_ms < 1000)
        return "tls.ticketLifetime must be 0 or at least 1000";
    return NULL;
}

static const char *check_places(const struct mesa_config *c)
{
    if (c->mode != NULL && !is_unix(c->host))
        return "mode is for Unix sockets: it needs host = \"unix:/path\"";
    if (c->admin.mode != NULL && !is_unix(c->admin.host))
        return "admin.mode is for Unix sockets: it needs admin.host = \"unix:/path\"";
    if (c->path != NULL && c->path[0] != '/')
        return "path must begin with '/'";
    if (c->static_root != NULL && c->static_root[0] != '/')
        return "static must be an absolute folder";

    const char *host = c->admin.host != NULL ? c->admin.host : "127.0.0.1";
    if (c->admin.enabled && c->admin.port != 0 && c->admin.port == c->port &&
        (c->host == NULL || strcmp(c->host, host) == 0))
        return "admin.port must not be the server's port";
    return NULL;
}

static const char *check_protocol(const struct mesa_config *c)
{
    if (c->raw && c->client.enforce_equal_versions)
        return "client.enforceEqualVersions needs the Mesa envelope: it cannot be used with raw";
    if (c->raw && c->sync.enabled)
        return "sync.enabled needs the Mesa envelope: it cannot be used with raw";
    if (c->raw && c->store_messages > 0)
        return "options.storeMessages needs the Mesa envelope: it cannot be used with raw";
    if (c->client.enforce_equal_versions &&
        (c->client.version == NULL || c->client.version[0] == '\0'))
        return "client.version is missing: client.enforceEqualVersions needs it";
    if (c->sync.enabled && !c->authentication.store_connected_users)
        return "sync.enabled needs authentication.storeConnectedUsers";
    if (c->sync.enabled && c->sync.max_messages == 0)
        return "sync.maxMessages must be at least 1";
    if (c->sync.enabled && c->sync.max_bytes == 0)
        return "sync.maxBytes must be at least 1";
    if (c->sync.enabled && c->sync.max_age_ms == 0)
        return "sync.maxAge must be at least 1";
    if (c->heartbeat.enabled && c->heartbeat.interval_ms == 0)
        return "heartbeat.interval must be at least 1";
    if (c->heartbeat.enabled && c->heartbeat.max_attempts == 0)
        return "heartbeat.maxAttempts must be at least 1";
    if (c->reconnect.enabled && c->reconnect.interval_ms == 0)
        return "reconnect.interval must be at least 1";
    return NULL;
}

static const char *check_cluster(const struct mesa_config *c)
{
    if (c->portal.enabled && !c->redis.enabled)
        return "portal.enabled needs redis";
    if (c->raw && c->portal.enabled)
        return "portal.enabled needs the Mesa envelope: it cannot be used with raw";
    if (!c->redis.enabled)
        return NULL;
    if (c->redis.sentinel_count > 0 && c->redis.name == NULL)
        return "redis.name is missing: redis.sentinels needs the name of the master";
    if (c->redis.path != NULL && (c->redis.host != NULL || c->redis.sentinel_count > 0))
        return "redis.path cannot be used with redis.host or redis.sentinels";
    if (c->redis.lease_ms < 100)
        return "redis.lease must be at least 100";
    return NULL;
}

static const char *check_limits(const struct mesa_config *c)
{
    if (c->limits.max_payload == 0)
        return "limits.maxPayload must be at least 1";
    if (c->limits.max_backpressure == 0)
        return "limits.maxBackpressure must be at least 1";
    if (c->limits.max_queue == 0)
        return "limits.maxQueue must be at least 1";
    if (c->limits.max_queue > c->limits.max_queue_total)
        return "limits.maxQueue must not exceed limits.maxQueueTotal";
    if (c->limits.burst > 0 && c->limits.messages_per_second == 0)
        return "limits.burst needs limits.messagesPerSecond";
    if (c->limits.max_connections > 0 &&
        c->limits.max_connections_per_ip > c->limits.max_connections)
        return "limits.maxConnectionsPerIp must not exceed limits.maxConnections";
    if (c->limits.max_depth == 0 || c->limits.max_depth > MESA_JSON_DEPTH_MAX)
        return "limits.maxDepth must be from 1 to 1024";
    return NULL;
}

enum mesa_status mesa_config_check(const struct mesa_config *c, const char **err)
{
    const char *text = check_places(c);
    if (text == NULL)
        text = check_tls(&c->tls);
    if (text == NULL)
        text = check_protocol(c);
    if (text == NULL)
        text = check_cluster(c);
    if (text == NULL)
        text = check_limits(c);
    if (text == NULL)
        return MESA_OK;
    *err = text;
    return MESA_EINVAL;
}
