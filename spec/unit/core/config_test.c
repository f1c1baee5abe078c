/* config_test.c - defaults (PROTOCOL 3-8, DESIGN 5) and invariants. */
#include <stdlib.h>
#include <string.h>

#include "core/config.h"
#include "test.h"

static struct mesa_config cfg;

/* Checks the configuration, and ends it. */
static const char *check(void)
{
    const char *err = NULL;
    enum mesa_status rc = mesa_config_check(&cfg, &err);
    CHECK_EQ_INT(rc, err != NULL ? MESA_EINVAL : MESA_OK);
    mesa_config_deinit(&cfg);
    return err;
}

TEST(the_defaults_are_valid_and_the_protocols)
{
    CHECK_EQ_INT(mesa_config_init(&cfg), MESA_OK);
    CHECK_EQ_INT(cfg.port, 4000);
    CHECK_EQ_STR(cfg.client.version, "1.5.8");
    CHECK_EQ_INT(cfg.heartbeat.interval_ms, 10000);
    CHECK_EQ_INT(cfg.reconnect.interval_ms, 5000);
    CHECK_EQ_INT(cfg.authentication.timeout_ms, 10000);
    CHECK(cfg.authentication.send_user_object);
    CHECK(cfg.authentication.disconnect_on_fail);
    CHECK(!cfg.authentication.required);
    CHECK_EQ_INT(cfg.sync.max_messages, 1000);
    CHECK_EQ_INT(cfg.sync.max_bytes, 1048576);
    CHECK_EQ_INT(cfg.sync.max_age_ms, 604800000);
    CHECK_EQ_INT(cfg.limits.max_payload, 1048576);
    CHECK_EQ_INT(cfg.limits.max_depth, 128);
    CHECK_EQ_STR(check(), NULL);
}

TEST(tls_needs_both_files)
{
    mesa_config_init(&cfg);
    cfg.tls.cert = strdup("cert.pem");
    CHECK_EQ_STR(check(), "tls.key is missing: tls.cert needs it");
    mesa_config_init(&cfg);
    cfg.tls.key = strdup("key.pem");
    CHECK_EQ_STR(check(), "tls.cert is missing: tls.key needs it");
    mesa_config_init(&cfg);
    cfg.tls.ca = strdup("ca.pem");
    CHECK(check() != NULL);
    mesa_config_init(&cfg);
    cfg.tls.request_cert = true;
    CHECK(check() != NULL);
    mesa_config_init(&cfg);
    cfg.tls.cert = strdup("cert.pem");
    cfg.tls.key = strdup("key.pem");
    CHECK_EQ_STR(check(), NULL);
}

TEST(tls_settings_are_bounded)
{
    mesa_config_init(&cfg);
    CHECK_EQ_INT(cfg.tls.ticket_lifetime_ms, 7200000);
    cfg.tls.min_version = strdup("1.1");
    CHECK_EQ_STR(check(), "tls.minVersion must be \"1.2\" or \"1.3\"");
    mesa_config_init(&cfg);
    cfg.tls.ticket_lifetime_ms = 999;
    CHECK_EQ_STR(check(), "tls.ticketLifetime must be 0 or at least 1000");
    mesa_config_init(&cfg);
    cfg.tls.names = calloc(1, sizeof *cfg.tls.names);
    cfg.tls.names[0].name = strdup("a.example");
    cfg.tls.name_count = 1;
    CHECK_EQ_STR(check(),
                 "tls.names needs tls.cert and tls.key, for clients that ask for another name");
}

TEST(raw_excludes_what_needs_the_envelope)
{
    mesa_config_init(&cfg);
    cfg.raw = true;
    CHECK_EQ_STR(check(), NULL);
    mesa_config_init(&cfg);
    cfg.raw = cfg.client.enforce_equal_versions = true;
    CHECK(check() != NULL);
    mesa_config_init(&cfg);
    cfg.raw = cfg.sync.enabled = true;
    CHECK(check() != NULL);
    mesa_config_init(&cfg);
    cfg.raw = true;
    cfg.store_messages = 1;
    CHECK(check() != NULL);
}

TEST(sync_needs_connected_users_and_bounds)
{
    mesa_config_init(&cfg);
    cfg.sync.enabled = true;
    CHECK_EQ_STR(check(), NULL);
    mesa_config_init(&cfg);
    cfg.sync.enabled = true;
    cfg.authentication.store_connected_users = false;
    CHECK_EQ_STR(check(), "sync.enabled needs authentication.storeConnectedUsers");
    mesa_config_init(&cfg);
    cfg.sync.enabled = true;
    cfg.sync.max_messages = 0;
    CHECK(check() != NULL);
}

TEST(intervals_attempts_and_limits_are_positive)
{
    mesa_config_init(&cfg);
    cfg.heartbeat.enabled = true;
    cfg.heartbeat.interval_ms = 0;
    CHECK_EQ_STR(check(), "heartbeat.interval must be at least 1");
    mesa_config_init(&cfg);
    cfg.heartbeat.enabled = true;
    cfg.heartbeat.max_attempts = 0;
    CHECK_EQ_STR(check(), "heartbeat.maxAttempts must be at least 1");
    mesa_config_init(&cfg);
    cfg.limits.max_payload = 0;
    CHECK(check() != NULL);
    mesa_config_init(&cfg);
    cfg.limits.max_depth = 1025;
    CHECK(check() != NULL);
    mesa_config_init(&cfg);
    cfg.limits.burst = 5;
    CHECK_EQ_STR(check(), "limits.burst needs limits.messagesPerSecond");
    mesa_config_init(&cfg);
    cfg.limits.max_connections = 5;
    cfg.limits.max_connections_per_ip = 6;
    CHECK(check() != NULL);
}

TEST(places_are_absolute_and_apart)
{
    mesa_config_init(&cfg);
    cfg.path = strdup("chat");
    CHECK_EQ_STR(check(), "path must begin with '/'");
    mesa_config_init(&cfg);
    cfg.static_root = strdup("www");
    CHECK(check() != NULL);
    mesa_config_init(&cfg);
    cfg.admin.enabled = true;
    cfg.admin.port = cfg.port;
    CHECK_EQ_STR(check(), "admin.port must not be the server's port");
    mesa_config_init(&cfg);
    cfg.admin.enabled = true;
    cfg.admin.port = cfg.port;
    cfg.host = strdup("unix:/run/x.sock");
    CHECK_EQ_STR(check(), NULL);
}
