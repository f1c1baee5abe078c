/* bind_config.c - see bind_config.h.
 *
 * Reading runs in a protected call, because Lua raises when memory for a key's string is short
 * and the strings already copied would be lost.
 */
#include "script/bind_config.h"

#include <lauxlib.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum field_kind { FIELD_STRING, FIELD_BOOL, FIELD_U16, FIELD_U32, FIELD_U64, FIELD_SIZE };

struct field {
    const char *section; /* NULL: the configuration itself */
    const char *key;
    enum field_kind kind;
    size_t offset;
};

#define FIELD(section, key, kind, member)                                \
    {                                                                    \
        section, key, FIELD_##kind, offsetof(struct mesa_config, member) \
    }

static const struct field fields[] = {
    FIELD(NULL, "host", STRING, host),
    FIELD(NULL, "mode", STRING, mode),
    FIELD(NULL, "port", U16, port),
    FIELD(NULL, "path", STRING, path),
    FIELD(NULL, "namespace", STRING, name_space),
    FIELD(NULL, "static", STRING, static_root),
    FIELD(NULL, "raw", BOOL, raw),
    FIELD(NULL, "proxyProtocol", BOOL, proxy_protocol),
    FIELD("tls", "cert", STRING, tls.cert),
    FIELD("tls", "key", STRING, tls.key),
    FIELD("tls", "passphrase", STRING, tls.passphrase),
    FIELD("tls", "ca", STRING, tls.ca),
    FIELD("tls", "requestCert", BOOL, tls.request_cert),
    FIELD("tls", "minVersion", STRING, tls.min_version),
    FIELD("tls", "ciphers", STRING, tls.ciphers),
    FIELD("tls", "ticketKeys", STRING, tls.ticket_keys),
    FIELD("tls", "ticketLifetime", U32, tls.ticket_lifetime_ms),
    FIELD("client", "enforceEqualVersions", BOOL, client.enforce_equal_versions),
    FIELD("client", "version", STRING, client.version),
    FIELD("options", "storeMessages", U32, store_messages),
    FIELD("redis", "uri", STRING, redis.uri),
    FIELD("redis", "host", STRING, redis.host),
    FIELD("redis", "port", U16, redis.port),
    FIELD("redis", "path", STRING, redis.path),
    FIELD("redis", "user", STRING, redis.user),
    FIELD("redis", "password", STRING, redis.password),
    FIELD("redis", "db", U32, redis.db),
    FIELD("redis", "name", STRING, redis.name),
    FIELD("redis", "connectTimeout", U32, redis.connect_timeout_ms),
    FIELD("redis", "commandTimeout", U32, redis.command_timeout_ms),
    FIELD("redis", "lease", U32, redis.lease_ms),
    FIELD("redis", "queue", U32, redis.queue),
    FIELD("portal", "enabled", BOOL, portal.enabled),
    FIELD("portal", "distributeLoad", BOOL, portal.distribute_load),
    FIELD("options", "concurrentMessages", BOOL, concurrent_messages),
    FIELD("sync", "enabled", BOOL, sync.enabled),
    FIELD("sync", "redeliveryInterval", U32, sync.redelivery_interval_ms),
    FIELD("sync", "maxMessages", U32, sync.max_messages),
    FIELD("sync", "maxBytes", U64, sync.max_bytes),
    FIELD("sync", "maxAge", U64, sync.max_age_ms),
    FIELD("heartbeat", "enabled", BOOL, heartbeat.enabled),
    FIELD("heartbeat", "interval", U32, heartbeat.interval_ms),
    FIELD("heartbeat", "maxAttempts", U32, heartbeat.max_attempts),
    FIELD("reconnect", "enabled", BOOL, reconnect.enabled),
    FIELD("reconnect", "interval", U32, reconnect.interval_ms),
    FIELD("authentication", "timeout", U32, authentication.timeout_ms),
    FIELD("authentication", "required", BOOL, authentication.required),
    FIELD("authentication", "sendUserObject", BOOL, authentication.send_user_object),
    FIELD("authentication", "disconnectOnFail", BOOL, authentication.disconnect_on_fail),
    FIELD("authentication", "storeConnectedUsers", BOOL, authentication.store_connected_users),
    FIELD("compression", "contextTakeover", BOOL, compression.context_takeover),
    FIELD("compression", "level", U16, compression.level),
    FIELD("compression", "threshold", U32, compression.threshold),
    FIELD("compression", "maxMemory", SIZE, compression.max_memory),
    FIELD("limits", "maxPayload", SIZE, limits.max_payload),
    FIELD("limits", "maxBackpressure", SIZE, limits.max_backpressure),
    FIELD("limits", "maxBody", SIZE, limits.max_body),
    FIELD("limits", "maxQueue", SIZE, limits.max_queue),
    FIELD("limits", "maxQueueTotal", SIZE, limits.max_queue_total),
    FIELD("limits", "maxConnections", U32, limits.max_connections),
    FIELD("limits", "maxConnectionsPerIp", U32, limits.max_connections_per_ip),
    FIELD("limits", "messagesPerSecond", U32, limits.messages_per_second),
    FIELD("limits", "burst", U32, limits.burst),
    FIELD("limits", "handshakeTimeout", U32, limits.handshake_timeout_ms),
    FIELD("limits", "idleTimeout", U32, limits.idle_timeout_ms),
    FIELD("limits", "maxDepth", U32, limits.max_depth),
    FIELD("limits", "scriptTime", U32, limits.script_time_ms),
    FIELD("limits", "scriptMemory", SIZE, limits.script_memory),
    FIELD("admin", "host", STRING, admin.host),
    FIELD("admin", "mode", STRING, admin.mode),
    FIELD("admin", "port", U16, admin.port),
};

struct reader {
    struct mesa_config *out;
    struct mesa_config_error *err;
    enum mesa_status status;
};

static void fail(struct reader *r, enum mesa_status status, const char *text)
{
    r->status = status;
    snprintf(r->err->text, sizeof r->err->text, "%s", text);
}

static void fail_type(struct reader *r, const struct field *f, const char *wanted)
{
    r->status = MESA_EINVAL;
    snprintf(r->err->text, sizeof r->err->text, "%s%s%s must be %s",
             f->section != NULL ? f->section : "", f->section != NULL ? "." : "", f->key, wanted);
}

/* Replaces *slot by a copy of the string on top of the stack. */
static void copy_string(lua_State *L, struct reader *r, char **slot)
{
    char *copy = strdup(lua_tostring(L, -1));
    if (copy == NULL) {
        fail(r, MESA_ENOMEM, "not enough memory");
        return;
    }
    free(*slot);
    *slot = copy;
}

static void store_number(struct reader *r, const struct field *f, void *slot, double n)
{
    static const double max[] = {
        [FIELD_U16] = UINT16_MAX,
        [FIELD_U32] = UINT32_MAX,
        [FIELD_U64] = 0x1p53,
        [FIELD_SIZE] = sizeof(size_t) > 4 ? 0x1p53 : UINT32_MAX,
    };
    if (!(n >= 0 && n <= max[f->kind])) {
        fail_type(r, f, "within its range");
        return;
    }
    switch (f->kind) {
    case FIELD_U16:
        *(uint16_t *)slot = (uint16_t)n;
        break;
    case FIELD_U32:
        *(uint32_t *)slot = (uint32_t)n;
        break;
    case FIELD_U64:
        *(uint64_t *)slot = (uint64_t)n;
        break;
    default:
        *(size_t *)slot = (size_t)n;
    }
}

/* The value of the field is on top of the stack. */
static void read_field(lua_State *L, struct reader *r, const struct field *f)
{
    void *slot = (char *)r->out + f->offset;
    int type = lua_type(L, -1);
    if (type == LUA_TNIL)
        return;
    if (f->kind == FIELD_STRING) {
        if (type == LUA_TSTRING)
            copy_string(L, r, slot);
        else
            fail_type(r, f, "a string");
    } else if (f->kind == FIELD_BOOL) {
        if (type == LUA_TBOOLEAN)
            *(bool *)slot = lua_toboolean(L, -1);
        else
            fail_type(r, f, "true or false");
    } else {
        if (type == LUA_TNUMBER)
            store_number(r, f, slot, lua_tonumber(L, -1));
        else
            fail_type(r, f, "a number");
    }
}

/* A list of strings called `name` is on top of the stack. */
static void read_list(lua_State *L, struct reader *r, const char *name, char ***list, size_t *count)
{
    size_t n = lua_objlen(L, -1);
    *list = calloc(n > 0 ? n : 1, sizeof **list);
    if (*list == NULL) {
        fail(r, MESA_ENOMEM, "not enough memory");
        return;
    }
    for (size_t i = 0; i < n && r->status == MESA_OK; i++) {
        lua_rawgeti(L, -1, (int)i + 1);
        if (lua_type(L, -1) != LUA_TSTRING) {
            r->status = MESA_EINVAL;
            snprintf(r->err->text, sizeof r->err->text, "%s must be a list of strings", name);
            return;
        }
        /* Counted before it is copied, so that what was copied is freed whatever happens. */
        *count = i + 1;
        copy_string(L, r, &(*list)[i]);
        lua_pop(L, 1);
    }
}

/* proxies, a list of strings, is on top of the stack. */
static void read_proxies(lua_State *L, struct reader *r)
{
    struct mesa_config *c = r->out;
    size_t n = lua_objlen(L, -1);
    c->proxies = calloc(n > 0 ? n : 1, sizeof *c->proxies);
    if (c->proxies == NULL) {
        fail(r, MESA_ENOMEM, "not enough memory");
        return;
    }
    for (size_t i = 0; i < n; i++, c->proxy_count++) {
        struct mesa_span text;
        lua_rawgeti(L, -1, (int)i + 1);
        text.p = lua_tolstring(L, -1, &text.len);
        if (text.p == NULL || mesa_network_read(&c->proxies[i], text) != MESA_OK) {
            r->status = MESA_EINVAL;
            snprintf(r->err->text, sizeof r->err->text,
                     "proxies[%zu] must be an address, a network such as \"10.0.0.0/8\", or "
                     "\"unix\", got \"%.60s\"",
                     i + 1, text.p != NULL ? text.p : "");
            return;
        }
        lua_pop(L, 1);
    }
}

/* A list with `required`, or a function that on_protocol calls. */
static void read_protocols(lua_State *L, struct reader *r)
{
    lua_getfield(L, 1, "protocols");
    r->out->protocols.asked = lua_isfunction(L, -1);
    if (lua_istable(L, -1)) {
        read_list(L, r, "protocols", &r->out->protocols.names, &r->out->protocols.count);
        lua_getfield(L, -1, "required");
        r->out->protocols.required = lua_toboolean(L, -1);
    }
}

/* The string `key` of the table on top of the stack, if there is one. */
static void read_string(lua_State *L, struct reader *r, const char *key, char **slot)
{
    lua_getfield(L, -1, key);
    if (lua_type(L, -1) == LUA_TSTRING)
        copy_string(L, r, slot);
    lua_pop(L, 1);
}

static int compare_names(const void *a, const void *b)
{
    return strcmp(((const struct mesa_config_name *)a)->name,
                  ((const struct mesa_config_name *)b)->name);
}

/* tls.names, a table of tables, is on top of the stack. */
static void read_names(lua_State *L, struct reader *r)
{
    struct mesa_config_tls *tls = &r->out->tls;
    size_t n = 0;
    for (lua_pushnil(L); lua_next(L, -2) != 0; lua_pop(L, 1))
        n++;
    tls->names = calloc(n > 0 ? n : 1, sizeof *tls->names);
    if (tls->names == NULL) {
        fail(r, MESA_ENOMEM, "not enough memory");
        return;
    }
    for (lua_pushnil(L); r->status == MESA_OK && lua_next(L, -2) != 0; lua_pop(L, 1)) {
        struct mesa_config_name *name = &tls->names[tls->name_count++];
        if (lua_type(L, -2) != LUA_TSTRING || !lua_istable(L, -1)) {
            fail(r, MESA_EINVAL, "tls.names must be a table of names");
            return;
        }
        lua_pushvalue(L, -2);
        copy_string(L, r, &name->name);
        lua_pop(L, 1);
        read_string(L, r, "cert", &name->cert);
        read_string(L, r, "key", &name->key);
        read_string(L, r, "passphrase", &name->passphrase);
        if (r->status == MESA_OK && (name->cert == NULL || name->key == NULL))
            fail(r, MESA_EINVAL, "each of tls.names needs cert and key");
    }
    if (r->status == MESA_OK)
        qsort(tls->names, tls->name_count, sizeof *tls->names, compare_names);
}

/* (table, lightuserdata reader); raises only on lack of memory */
static int read_config(lua_State *L)
{
    struct reader *r = lua_touserdata(L, 2);
    for (size_t i = 0; i < sizeof fields / sizeof fields[0] && r->status == MESA_OK; i++) {
        const struct field *f = &fields[i];
        lua_settop(L, 2);
        lua_pushvalue(L, 1);
        if (f->section != NULL)
            lua_getfield(L, -1, f->section);
        if (lua_istable(L, -1)) {
            lua_getfield(L, -1, f->key);
            read_field(L, r, f);
        } else if (!lua_isnil(L, -1)) {
            fail_type(r, f, "in a table");
        }
    }
    if (r->status != MESA_OK)
        return 0;

    lua_settop(L, 2);
    lua_getfield(L, 1, "admin");
    r->out->admin.enabled = lua_istable(L, -1);
    lua_getfield(L, 1, "compression");
    r->out->compression.enabled = lua_istable(L, -1);
    lua_getfield(L, 1, "origins");
    if (lua_istable(L, -1))
        read_list(L, r, "origins", &r->out->origins, &r->out->origin_count);
    lua_getfield(L, 1, "proxies");
    if (lua_istable(L, -1))
        read_proxies(L, r);
    read_protocols(L, r);

    lua_getfield(L, 1, "tls");
    if (lua_istable(L, -1)) {
        lua_getfield(L, -1, "names");
        if (lua_istable(L, -1))
            read_names(L, r);
    }
    lua_getfield(L, 1, "redis");
    r->out->redis.enabled = lua_istable(L, -1);
    if (!r->out->redis.enabled || r->status != MESA_OK)
        return 0;
    lua_getfield(L, -1, "sentinels");
    if (lua_istable(L, -1))
        read_list(L, r, "redis.sentinels", &r->out->redis.sentinels, &r->out->redis.sentinel_count);
    return 0;
}

enum mesa_status mesa_bind_config(lua_State *L, int index, struct mesa_config *out,
                                  struct mesa_config_error *err)
{
    int top = lua_gettop(L);
    if (index < 0)
        index += top + 1;
    luaL_checkstack(L, 3, NULL);
    lua_pushcfunction(L, read_config); /* the last call that may raise: nothing is held yet */

    struct reader r = {.out = out, .err = err, .status = mesa_config_init(out)};
    if (r.status != MESA_OK)
        goto out_of_memory;
    lua_pushvalue(L, index);
    lua_pushlightuserdata(L, &r);
    if (lua_pcall(L, 2, 0, 0) != 0)
        goto out_of_memory;

    const char *invariant;
    if (r.status == MESA_OK && mesa_config_check(out, &invariant) != MESA_OK)
        fail(&r, MESA_EINVAL, invariant);
    goto done;

out_of_memory:
    fail(&r, MESA_ENOMEM, "not enough memory");
done:
    lua_settop(L, top);
    if (r.status != MESA_OK)
        mesa_config_deinit(out);
    return r.status;
}
