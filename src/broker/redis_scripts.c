/* redis_scripts.c - see redis_scripts.h. */
#include "broker/redis_scripts.h"

#include <stddef.h>

#include "broker/redis_scripts_sync.h"

/* The names, each with the namespace's suffix, and what follows it. The id of
 * a user may have colons itself, so that those of the namespace are written %3A before it: "shop" with
 * the user "eu:7" is not "shop:eu" with the user "7". Incarnations and portals have none. */
static const char of_user[] = ":";

static const struct {
    const char *variable, *name, *tail;
} names[] = {
    {"CLIENTS", "connected_clients", ""},
    {"COUNT", "connected_clients_count", ""},
    {"STORE", "undelivered_messages", ""},
    {"POOL", "available_portals_pool", ""},
    {"WS", "ws", ""},
    {"PORTALS", "portal", ""},
    {"NODES", "mesa:nodes", ""},
    {"LEASE", "mesa:lease", ":"},
    {"USERS", "mesa:users", ":"},
    {"ONLINE", "mesa:online", ""},
    {"KEEPERS", "mesa:keepers", ""},
    {"COUNTS", "mesa:counts", ""},
    {"AGES", "mesa:ages", ""},
    {"NUMBER", "mesa:number", ""},
    {"LIVE", "mesa:live", of_user},
    {"GIVEN", "mesa:given", of_user},
    {"KEPT", "mesa:kept", ""},
    {"PORTAL", "mesa:portal", ":"},
};

/* -- presence -- */

static const char presence[] = "local function keeps(inc) return inc:find('+', 1, true) end\n"
                               "local function remains(key, id)\n"
                               "  if call('HINCRBY', key, id, -1) > 0 then return true end\n"
                               "  call('HDEL', key, id)\n"
                               "end\n"
                               "local function leave(inc, id)\n"
                               "  if keeps(inc) then remains(KEEPERS, id) end\n"
                               "  if not remains(ONLINE, id) then call('SREM', CLIENTS, id) end\n"
                               "end\n";

/* What is counted of a user, made what it has to be, whatever Redis has evicted or refused. */
static const char recounting[] =
    "local nodes\n"
    "local function put(key, id, n)\n"
    "  if n > 0 then call('HSET', key, id, n) else call('HDEL', key, id) end\n"
    "end\n"
    "local function recount(id)\n"
    "  local n, k = 0, 0\n"
    "  nodes = nodes or call('SMEMBERS', NODES)\n"
    "  for i = 1, #nodes do\n"
    "    if call('SISMEMBER', USERS..nodes[i], id) == 1 then\n"
    "      n = n + 1\n"
    "      if keeps(nodes[i]) then k = k + 1 end\n"
    "    end\n"
    "  end\n"
    "  put(ONLINE, id, n)\n"
    "  put(KEEPERS, id, k)\n"
    "  call(n > 0 and 'SADD' or 'SREM', CLIENTS, id)\n"
    "  return n\n"
    "end\n"
    "local function is_missing(id)\n"
    "  return call('HEXISTS', ONLINE, id) == 0 or keeps(me) and call('HEXISTS', KEEPERS, id) == 0\n"
    "    or call('SISMEMBER', CLIENTS, id) == 0\n"
    "end\n";

/* The connections of an incarnation; `told` is what it said before, for the case that it is lost. */
static const char counting[] =
    "local function count(connections, told)\n"
    "  local before = call('HGET', COUNTS, me) or told\n"
    "  if connections ~= before and call('INCRBY', COUNT, connections - before) < 0 then\n"
    "    call('SET', COUNT, 0)\n"
    "  end\n"
    "  call('HSET', COUNTS, me, connections)\n"
    "end\n";

/* A part of what an incarnation left behind; true when that was all. */
static const char reaping[] =
    "local function reap(inc)\n"
    "  local ids = call('SPOP', USERS..inc, 500)\n"
    "  for i = 1, #ids do\n"
    "    leave(inc, ids[i])\n"
    "    local ok, err = pcall(settle, ids[i], #ARGV + 1)\n"
    "    if not ok then errors[#errors + 1] = text(err) end\n"
    "  end\n"
    "  if #ids == 500 then return false end\n"
    "  local n = tonumber(call('HGET', COUNTS, inc) or 0)\n"
    "  if n ~= 0 and call('DECRBY', COUNT, n) < 0 then call('SET', COUNT, 0) end\n"
    "  call('HDEL', COUNTS, inc)\n"
    "  call('SREM', NODES, inc)\n"
    "  call('DEL', LEASE..inc)\n"
    "  return true\n"
    "end\n";

static const char begin_body[] = "call('SADD', NODES, me)\n"
                                 "call('SET', LEASE..me, 1, 'PX', ARGV[2])\n";

static const char online_body[] =
    "for i = 3, #ARGV do\n"
    "  if call('SADD', USERS..me, ARGV[i]) == 1 and ARGV[2] == '0' then\n"
    "    call('HINCRBY', ONLINE, ARGV[i], 1)\n"
    "    if keeps(me) then call('HINCRBY', KEEPERS, ARGV[i], 1) end\n"
    "  end\n"
    "  if ARGV[2] == '0' then call('SADD', CLIENTS, ARGV[i]) else recount(ARGV[i]) end\n"
    "end\n";

/* The earlier ones stay as long as this one is not whole: Redis may have refused a part of it. */
static const char finish_body[] =
    "bounds(3)\n"
    "if call('SISMEMBER', NODES, me) == 0 or tonumber(ARGV[6]) ~= call('SCARD', USERS..me) then\n"
    "  return redis.error_reply('INCOMPLETE not all of what this server has could be announced')\n"
    "end\n"
    "count(ARGV[2], 0)\n"
    "for i = 7, #ARGV do\n"
    "  while not reap(ARGV[i]) do end\n"
    "end\n"
    "return {{}, dropped, errors}\n";

static const char count_body[] = "count(ARGV[2], ARGV[3])\n";

/* PEXPIRE and SADD to a set that is there need no memory: a Redis that is full takes nobody for dead.
 *
 * An incarnation that is known by its connections only has been evicted from the set of all.
 *
 * A Node server that shares a user with this one takes the id out when its own connection ends: what
 * is missing is put in again, but only when there may be Node servers. Without any, the number of
 * connections is the sum of what is known; with them it is at least that. (A server that has died is
 * still counted among the subscribed ones until its lease is over: what is too much is told, and taken
 * off when it has been so for longer.) */
static const char tend_body[] =
    "bounds(3)\n"
    "if call('PEXPIRE', LEASE..me, ARGV[2]) == 0 or call('GET', LEASE..me) ~= ARGV[9] then\n"
    "  call('SET', LEASE..me, ARGV[9], 'PX', ARGV[2])\n"
    "end\n"
    "local counts = call('HKEYS', COUNTS)\n"
    "for i = 1, #counts do call('SADD', NODES, counts[i]) end\n"
    "if call('SISMEMBER', NODES, me) == 0 then return {-1, {}, {}} end\n"
    "local all, state, subscribed = call('SMEMBERS', NODES), 0, 0\n"
    "for i = 1, #all do\n"
    "  local lease = call('GET', LEASE..all[i])\n"
    "  if lease == '1' then subscribed = subscribed + 1\n"
    "  elseif not lease and all[i] ~= me and not reap(all[i]) then state = 1 end\n"
    "end\n"
    "count(ARGV[6], ARGV[7])\n"
    "local sum, total = 0, tonumber(call('GET', COUNT) or 0) or 0\n"
    "counts = call('HVALS', COUNTS)\n"
    "for i = 1, #counts do sum = sum + counts[i] end\n"
    "local others = tonumber(call('PUBSUB', 'NUMSUB', WS)[2]) > subscribed\n"
    "local surplus = others and 0 or math.max(total - sum, 0)\n"
    "if total < sum or surplus > 0 and surplus == tonumber(ARGV[10]) then call('SET', COUNT, sum) end\n"
    "if others then\n"
    "  local missing = call('SDIFF', USERS..me, CLIENTS)\n"
    "  for i = 1, #missing do call('SADD', CLIENTS, missing[i]) end\n"
    "end\n"
    "if tonumber(ARGV[8]) ~= call('SCARD', USERS..me) then state = 2 end\n"
    "local some = call('SRANDMEMBER', USERS..me, 8)\n"
    "for i = 1, #some do\n"
    "  if is_missing(some[i]) then state = 2 end\n"
    "end\n"
    "return {state, dropped, errors, surplus}\n";

/* A piece of what this incarnation has, and of what is known of anybody: the one may be missing, the
 * other be left over. */
static const char audit_body[] =
    "bounds(4)\n"
    "local mine = call('SSCAN', USERS..me, ARGV[2], 'COUNT', 200)\n"
    "for i = 1, #mine[2] do\n"
    "  if is_missing(mine[2][i]) then recount(mine[2][i]) end\n"
    "end\n"
    "local known = call('HSCAN', ONLINE, ARGV[3], 'COUNT', 100)\n"
    "for i = 1, #known[2], 2 do\n"
    "  if recount(known[2][i]) == 0 then pcall(settle, known[2][i], #ARGV + 1) end\n"
    "end\n"
    "return {{mine[1], known[1]}, dropped, errors}\n";

static const char leave_body[] = "bounds(2)\n"
                                 "while not reap(me) do end\n"
                                 "return {{}, dropped, errors}\n";

/* -- portals -- */

static const char portals_body[] =
    "local ids, leased, others = call('SMEMBERS', POOL), {}, {}\n"
    "local function subscribers(channel) return tonumber(call('PUBSUB', 'NUMSUB', channel)[2]) end\n"
    "local count, seen = subscribers(PORTALS), {}\n"
    "for i = 1, #ids do\n"
    "  local connection = call('GET', PORTAL..ids[i])\n"
    "  local list = connection and leased or others\n"
    "  list[#list + 1] = ids[i]\n"
    "  if connection and not seen[connection] then count = count - subscribers(connection) end\n"
    "  if connection then seen[connection] = true end\n"
    "end\n"
    "return {count, leased, others}\n";

static const char no_portal_body[] =
    "for i = 1, #ARGV do\n"
    "  if call('SREM', POOL, ARGV[i]) == 1 then\n"
    "    call('PUBLISH', POOL, '{\"id\":'..cjson.encode(ARGV[i])..',\"ready\":false}')\n"
    "  end\n"
    "end\n";

/* What only some runs of a script need is not made by the others. */
static const char store_begin[] = "local function store()\n";
static const char store_end[] = "return append\n"
                                "end\n";

enum { PARTS_MAX = 8 };

#define SETTLING                                                                    \
    presence, mesa_redis_lua_numbers, mesa_redis_lua_store, mesa_redis_lua_collect, \
        mesa_redis_lua_settle

static const struct {
    const char *preludes[PARTS_MAX], *body;
} scripts[MESA_SCRIPT_COUNT_] = {
    [MESA_SCRIPT_BEGIN] = {{NULL}, begin_body},
    [MESA_SCRIPT_ONLINE] = {{presence, recounting}, online_body},
    [MESA_SCRIPT_FINISH] = {{SETTLING, reaping, counting}, finish_body},
    [MESA_SCRIPT_PART] = {{SETTLING}, mesa_redis_lua_part},
    [MESA_SCRIPT_COUNT] = {{counting}, count_body},
    [MESA_SCRIPT_TEND] = {{SETTLING, reaping, counting, recounting}, tend_body},
    [MESA_SCRIPT_AUDIT] = {{SETTLING, recounting}, audit_body},
    [MESA_SCRIPT_LEAVE] = {{SETTLING, reaping}, leave_body},
    [MESA_SCRIPT_ROUTE] = {{mesa_redis_lua_numbers, mesa_redis_lua_keep, store_begin,
                            mesa_redis_lua_store, store_end},
                           mesa_redis_lua_route},
    [MESA_SCRIPT_TAKE] = {{mesa_redis_lua_numbers, mesa_redis_lua_store, mesa_redis_lua_collect},
                          mesa_redis_lua_take},
    [MESA_SCRIPT_CONFIRM] = {{NULL}, mesa_redis_lua_confirm},
    [MESA_SCRIPT_PORTALS] = {{NULL}, portals_body},
    [MESA_SCRIPT_NO_PORTAL] = {{NULL}, no_portal_body},
};

/* As literals, which cost a run of the script nothing. */
static enum mesa_status write_name(struct mesa_buf *out, size_t name, struct mesa_span suffix)
{
    enum mesa_status rc =
        mesa_buf_printf(out, "local %s = '%s", names[name].variable, names[name].name);
    for (size_t i = 0; rc == MESA_OK && i < suffix.len; i++) {
        if (suffix.p[i] == ':' && names[name].tail == of_user)
            rc = mesa_buf_printf(out, "%%3A");
        else
            rc = mesa_buf_printf(out, "\\%03u", (unsigned)(unsigned char)suffix.p[i]);
    }
    return rc == MESA_OK ? mesa_buf_printf(out, "%s'\n", names[name].tail) : rc;
}

enum mesa_status mesa_redis_script_text(struct mesa_buf *out, enum mesa_redis_script script,
                                        struct mesa_span suffix)
{
    enum mesa_status rc = MESA_OK;
    for (size_t i = 0; rc == MESA_OK && i < sizeof names / sizeof names[0]; i++)
        rc = write_name(out, i, suffix);
    if (rc == MESA_OK)
        rc = mesa_buf_printf(out, "local call, me = redis.call, ARGV[1]\n");
    for (size_t i = 0; rc == MESA_OK && i < PARTS_MAX && scripts[script].preludes[i] != NULL; i++)
        rc = mesa_buf_printf(out, "%s", scripts[script].preludes[i]);
    return rc == MESA_OK ? mesa_buf_printf(out, "%s", scripts[script].body) : rc;
}
