#include "dialect.h"

#include <stddef.h>
#include <string.h>

/* ---- Mesa: {"op":…,"d":…,"t":…} ---- */

static bool mesa_unwrap(struct json_span message, const char *type, struct json_span *data)
{
    static const char *const keys[] = {"op", "d", "t"};
    struct json_span value[3];
    if (!json_exact_members(message, keys, 3, value) || !json_span_is(value[0], "0") ||
        !json_is_string(value[2], type, strlen(type)))
        return false;
    *data = value[1];
    return true;
}

static enum said mesa_said(struct json_span text)
{
    struct json_member member[8];
    uint64_t op = 0;
    bool has_data = false;
    int count = json_members(text, member, 8);
    for (int i = 0; i < count; i++) {
        if (json_span_is(member[i].key, "op") && !json_span_uint(member[i].value, &op))
            return SAID_WRONG;
        has_data = has_data || (json_span_is(member[i].key, "d") && member[i].value.p[0] == '{');
    }
    switch (op) {
    case 1:
        return SAID_HEARTBEAT;
    case 10:
        return has_data ? SAID_HELLO : SAID_WRONG;
    case 11:
        return SAID_NOTHING;
    case 22:
        return SAID_AUTHENTICATED;
    default:
        return SAID_WRONG;
    }
}

const struct dialect dialect_mesa = {
    .name = "mesa",
    .path = "/",
    .join = "{\"op\":2,\"d\":{\"id\":\"user-%u\"}}",
    .ack = "{\"op\":11,\"d\":{}}",
    .head = "{\"op\":0,\"d\":{\"seq\":%1$u,\"text\":\"",
    .tail = "\"},\"t\":\"%s\"}",
    .unwrap = mesa_unwrap,
    .said = mesa_said,
};

/* ---- Socket.IO: the digits of Engine.IO's and its own packet type, then JSON ---- */

static bool starts(struct json_span text, const char *with)
{
    size_t n = strlen(with);
    return text.n >= n && memcmp(text.p, with, n) == 0;
}

static struct json_span rest(struct json_span text, size_t from)
{
    return (struct json_span){text.p + from, text.n - from};
}

/* 42["TYPE",DATA] */
static bool socketio_unwrap(struct json_span message, const char *type, struct json_span *data)
{
    size_t n = strlen(type);
    if (!starts(message, "42[\"") || message.p[message.n - 1] != ']')
        return false;
    message = rest(message, 4);
    if (!starts(message, type) || !starts(rest(message, n), "\","))
        return false;
    *data = (struct json_span){message.p + n + 2, message.n - n - 3};
    return true;
}

static enum said socketio_said(struct json_span text)
{
    struct json_member member[8];
    if (json_span_is(text, "2"))
        return SAID_HEARTBEAT;
    if (starts(text, "0") && json_members(rest(text, 1), member, 8) >= 0)
        return SAID_HELLO;
    if (starts(text, "40") && json_members(rest(text, 2), member, 8) >= 0)
        return SAID_AUTHENTICATED;
    return SAID_WRONG;
}

const struct dialect dialect_socketio = {
    .name = "socketio",
    .path = "/socket.io/?EIO=4&transport=websocket",
    .join = "40{\"id\":\"user-%u\"}",
    .must_join = true,
    .ack = "3",
    .head = "42[\"%2$s\",{\"seq\":%1$u,\"text\":\"",
    .tail = "\"}]",
    .unwrap = socketio_unwrap,
    .said = socketio_said,
};

const struct dialect *dialect_find(const char *name)
{
    static const struct dialect *const all[] = {&dialect_mesa, &dialect_socketio};
    for (size_t i = 0; i < sizeof all / sizeof all[0]; i++) {
        if (strcmp(all[i]->name, name) == 0)
            return all[i];
    }
    return NULL;
}
