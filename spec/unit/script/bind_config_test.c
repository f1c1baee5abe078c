/* Tests of script/bind_config.h: what lua/mesa/config.lua gives reaches the C configuration. */
#include <lauxlib.h>
#include <lualib.h>
#include <stdio.h>
#include <string.h>

#include "script/bind_config.h"
#include "test.h"

/* Leaves config.validate(<source>) on the stack of a new state. */
static lua_State *validated(const char *source)
{
    char chunk[1024];
    lua_State *L = luaL_newstate();
    luaL_openlibs(L);
    snprintf(
        chunk, sizeof chunk,
        "package.path = '%s/lua/?.lua;' .. package.path return require('mesa.config').validate(%s)",
        MESA_SOURCE_DIR, source);
    if (luaL_dostring(L, chunk) != 0)
        printf("%s\n", lua_tostring(L, -1));
    CHECK(lua_istable(L, -1));
    return L;
}

static enum mesa_status bind(const char *source, struct mesa_config *out,
                             struct mesa_config_error *err)
{
    lua_State *L = validated(source);
    int top = lua_gettop(L);
    enum mesa_status rc = mesa_bind_config(L, -1, out, err);
    if (rc != MESA_OK)
        printf("%s\n", err->text);
    CHECK_EQ_INT(lua_gettop(L), top);
    lua_close(L);
    return rc;
}

static void check_same_numbers(const struct mesa_config *got, const struct mesa_config *want)
{
    CHECK_EQ_INT(got->port, want->port);
    CHECK_EQ_INT(got->raw, want->raw);
    CHECK_EQ_INT(got->tls.request_cert, want->tls.request_cert);
    CHECK_EQ_INT(got->client.enforce_equal_versions, want->client.enforce_equal_versions);
    CHECK_EQ_INT(got->store_messages, want->store_messages);
    CHECK_EQ_INT(got->sync.enabled, want->sync.enabled);
    CHECK_EQ_INT(got->sync.redelivery_interval_ms, want->sync.redelivery_interval_ms);
    CHECK_EQ_INT(got->sync.max_messages, want->sync.max_messages);
    CHECK_EQ_INT(got->sync.max_bytes, want->sync.max_bytes);
    CHECK_EQ_INT(got->sync.max_age_ms, want->sync.max_age_ms);
    CHECK_EQ_INT(got->heartbeat.enabled, want->heartbeat.enabled);
    CHECK_EQ_INT(got->heartbeat.interval_ms, want->heartbeat.interval_ms);
    CHECK_EQ_INT(got->heartbeat.max_attempts, want->heartbeat.max_attempts);
    CHECK_EQ_INT(got->reconnect.enabled, want->reconnect.enabled);
    CHECK_EQ_INT(got->reconnect.interval_ms, want->reconnect.interval_ms);
    CHECK_EQ_INT(got->authentication.timeout_ms, want->authentication.timeout_ms);
    CHECK_EQ_INT(got->authentication.required, want->authentication.required);
    CHECK_EQ_INT(got->authentication.send_user_object, want->authentication.send_user_object);
    CHECK_EQ_INT(got->authentication.disconnect_on_fail, want->authentication.disconnect_on_fail);
    CHECK_EQ_INT(got->authentication.store_connected_users,
                 want->authentication.store_connected_users);
    CHECK_EQ_INT(got->limits.max_payload, want->limits.max_payload);
    CHECK_EQ_INT(got->limits.max_backpressure, want->limits.max_backpressure);
    CHECK_EQ_INT(got->limits.max_body, want->limits.max_body);
    CHECK_EQ_INT(got->limits.max_queue, want->limits.max_queue);
    CHECK_EQ_INT(got->limits.max_queue_total, want->limits.max_queue_total);
    CHECK_EQ_INT(got->limits.max_connections, want->limits.max_connections);
    CHECK_EQ_INT(got->limits.max_connections_per_ip, want->limits.max_connections_per_ip);
    CHECK_EQ_INT(got->limits.messages_per_second, want->limits.messages_per_second);
    CHECK_EQ_INT(got->limits.burst, want->limits.burst);
    CHECK_EQ_INT(got->limits.handshake_timeout_ms, want->limits.handshake_timeout_ms);
    CHECK_EQ_INT(got->limits.idle_timeout_ms, want->limits.idle_timeout_ms);
    CHECK_EQ_INT(got->limits.max_depth, want->limits.max_depth);
    CHECK_EQ_INT(got->admin.enabled, want->admin.enabled);
    CHECK_EQ_INT(got->admin.port, want->admin.port);
}

TEST(the_defaults_of_lua_are_those_of_c)
{
    struct mesa_config got, want;
    struct mesa_config_error err;
    CHECK_OR_RETURN(mesa_config_init(&want) == MESA_OK);
    CHECK_OR_RETURN(bind("{}", &got, &err) == MESA_OK);
    check_same_numbers(&got, &want);
    CHECK_EQ_STR(got.host, NULL);
    CHECK_EQ_STR(got.path, NULL);
    CHECK_EQ_STR(got.name_space, NULL);
    CHECK_EQ_STR(got.static_root, NULL);
    CHECK_EQ_STR(got.tls.cert, NULL);
    CHECK_EQ_STR(got.client.version, want.client.version);
    CHECK_EQ_STR(got.admin.host, NULL);
    CHECK(got.origins == NULL && got.origin_count == 0);
    mesa_config_deinit(&got);
    mesa_config_deinit(&want);
}

TEST(every_number_and_switch_arrives)
{
    static const struct mesa_config want = {
        .port = 1,
        .client = {.enforce_equal_versions = true},
        .store_messages = 100,
        .sync = {true, 2, 3, 4, 5},
        .heartbeat = {true, 6, 7},
        .reconnect = {true, 8},
        .authentication = {9, true, false, false, true},
        .limits = {10, 11, 13, 14, 15, 12, 11, 14, 15, 16, 17, 18},
        .admin = {.enabled = true, .port = 19},
    };
    struct mesa_config got;
    struct mesa_config_error err;
    CHECK_OR_RETURN(
        bind(
            "{ port = 1, client = { enforceEqualVersions = true }, options = { storeMessages = true },"
            "  sync = { enabled = true, redeliveryInterval = 2, maxMessages = 3, maxBytes = 4, maxAge = 5 },"
            "  heartbeat = { enabled = true, interval = 6, maxAttempts = 7 }, reconnect = { enabled = true, interval = 8 },"
            "  authentication = { timeout = 9, required = true, sendUserObject = false, disconnectOnFail = false },"
            "  limits = { maxPayload = 10, maxBackpressure = 11, maxBody = 13, maxQueue = 14, maxQueueTotal = 15, maxConnections = 12, maxConnectionsPerIp = 11,"
            "    messagesPerSecond = 14, burst = 15, handshakeTimeout = 16, idleTimeout = 17, maxDepth = 18 },"
            "  admin = { port = 19 } }",
            &got, &err) == MESA_OK);
    check_same_numbers(&got, &want);
    mesa_config_deinit(&got);
}

TEST(every_string_arrives)
{
    struct mesa_config got;
    struct mesa_config_error err;
    CHECK_OR_RETURN(
        bind(
            "{ host = '::1', path = '/ws', namespace = 'n', static = '/srv', raw = true, client = { version = '2.0.0' },"
            "  tls = { cert = 'c.pem', key = 'k.pem', passphrase = 'p', ca = 'a.pem', requestCert = true,"
            "    minVersion = '1.3', ciphers = 'DEFAULT', ticketKeys = 't', ticketLifetime = 5000,"
            "    names = { ['b.example'] = { cert = 'b', key = 'bk' },"
            "      ['A.example'] = { cert = 'a', key = 'ak', passphrase = 'ap' } } },"
            "  admin = { host = '127.0.0.2', port = 0 }, origins = { 'https://a', 'https://B:8' } }",
            &got, &err) == MESA_OK);
    CHECK_EQ_STR(got.host, "::1");
    CHECK_EQ_STR(got.path, "/ws");
    CHECK_EQ_STR(got.name_space, "n");
    CHECK_EQ_STR(got.static_root, "/srv");
    CHECK(got.raw);
    CHECK_EQ_STR(got.client.version, "2.0.0");
    CHECK_EQ_STR(got.tls.cert, "c.pem");
    CHECK_EQ_STR(got.tls.key, "k.pem");
    CHECK_EQ_STR(got.tls.ca, "a.pem");
    CHECK(got.tls.request_cert);
    CHECK_EQ_STR(got.tls.passphrase, "p");
    CHECK_EQ_STR(got.tls.min_version, "1.3");
    CHECK_EQ_STR(got.tls.ciphers, "DEFAULT");
    CHECK_EQ_STR(got.tls.ticket_keys, "t");
    CHECK_EQ_INT(got.tls.ticket_lifetime_ms, 5000);
    CHECK_EQ_INT(got.tls.name_count, 2);
    CHECK_EQ_STR(got.tls.names[0].name, "a.example");
    CHECK_EQ_STR(got.tls.names[0].cert, "a");
    CHECK_EQ_STR(got.tls.names[0].key, "ak");
    CHECK_EQ_STR(got.tls.names[0].passphrase, "ap");
    CHECK_EQ_STR(got.tls.names[1].name, "b.example");
    CHECK_EQ_STR(got.tls.names[1].passphrase, NULL);
    CHECK_EQ_STR(got.admin.host, "127.0.0.2");
    CHECK_EQ_INT(got.origin_count, 2);
    CHECK_EQ_STR(got.origins[0], "https://a");
    CHECK_EQ_STR(got.origins[1], "https://b:8");
    mesa_config_deinit(&got);
}

TEST(a_timeout_that_is_off_is_zero)
{
    struct mesa_config got;
    struct mesa_config_error err;
    CHECK_OR_RETURN(bind("{ authentication = { timeout = false } }", &got, &err) == MESA_OK);
    CHECK_EQ_INT(got.authentication.timeout_ms, 0);
    mesa_config_deinit(&got);
}

TEST(a_table_that_was_not_validated_is_refused)
{
    static const char *const cases[][2] = {
        {"return { port = 'x' }", "port must be a number"},
        {"return { port = 65536 }", "port must be within its range"},
        {"return { port = 0 / 0 }", "port must be within its range"},
        {"return { host = 1 }", "host must be a string"},
        {"return { raw = 1 }", "raw must be true or false"},
        {"return { heartbeat = 1 }", "heartbeat.enabled must be in a table"},
        {"return { origins = { 1 } }", "origins must be a list of strings"},
        {"return { origins = { 'a', 'b', {} } }", "origins must be a list of strings"},
        {"return { tls = { cert = 'c', key = 'k', names = { 1 } } }",
         "tls.names must be a table of names"},
        {"return { tls = { cert = 'c', key = 'k', names = { a = { cert = 'c' } } } }",
         "each of tls.names needs cert and key"},
        {"return { host = 'kept until here', tls = { cert = 'c' } }",
         "tls.key is missing: tls.cert needs it"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        lua_State *L = luaL_newstate();
        struct mesa_config got;
        struct mesa_config_error err = {""};
        CHECK(luaL_dostring(L, cases[i][0]) == 0);
        CHECK_EQ_INT(mesa_bind_config(L, 1, &got, &err), MESA_EINVAL);
        CHECK_EQ_STR(err.text, cases[i][1]);
        CHECK_EQ_INT(lua_gettop(L), 1);
        lua_close(L);
    }
}

static int raise_error(lua_State *L)
{
    return luaL_error(L, "raised");
}

TEST(an_error_while_reading_leaks_nothing)
{
    lua_State *L = luaL_newstate();
    struct mesa_config got;
    struct mesa_config_error err = {""};
    lua_newtable(L);
    lua_pushliteral(L, "a host that was copied");
    lua_setfield(L, -2, "host");
    lua_newtable(L);
    lua_pushcfunction(L, raise_error);
    lua_setfield(L, -2, "__index");
    lua_setmetatable(L, -2);
    CHECK_EQ_INT(mesa_bind_config(L, 1, &got, &err), MESA_ENOMEM);
    CHECK_EQ_INT(lua_gettop(L), 1);
    lua_close(L);
}
