/* redis_conn_reply.c - what a reply holds, without hiredis. */
#include <hiredis/hiredis.h>

#include "broker/redis_conn.h"

static const redisReply *real(const struct mesa_redis_reply *reply)
{
    return (const redisReply *)reply;
}

enum mesa_redis_type mesa_redis_reply_type(const struct mesa_redis_reply *reply)
{
    switch (real(reply)->type) {
    case REDIS_REPLY_STRING:
        return MESA_REDIS_STRING;
    case REDIS_REPLY_STATUS:
        return MESA_REDIS_STATUS;
    case REDIS_REPLY_INTEGER:
        return MESA_REDIS_INTEGER;
    case REDIS_REPLY_ARRAY:
        return MESA_REDIS_ARRAY;
    case REDIS_REPLY_ERROR:
        return MESA_REDIS_ERROR;
    default: /* RESP3 is never asked for */
        return MESA_REDIS_NIL;
    }
}

long long mesa_redis_reply_integer(const struct mesa_redis_reply *reply)
{
    return real(reply)->type == REDIS_REPLY_INTEGER ? real(reply)->integer : 0;
}

struct mesa_span mesa_redis_reply_string(const struct mesa_redis_reply *reply)
{
    enum mesa_redis_type type = mesa_redis_reply_type(reply);
    if (type != MESA_REDIS_STRING && type != MESA_REDIS_STATUS && type != MESA_REDIS_ERROR)
        return (struct mesa_span){NULL, 0};
    return (struct mesa_span){real(reply)->str, real(reply)->len};
}

size_t mesa_redis_reply_count(const struct mesa_redis_reply *reply)
{
    return real(reply)->type == REDIS_REPLY_ARRAY ? real(reply)->elements : 0;
}

const struct mesa_redis_reply *mesa_redis_reply_element(const struct mesa_redis_reply *reply,
                                                        size_t i)
{
    return (const struct mesa_redis_reply *)real(reply)->element[i];
}
