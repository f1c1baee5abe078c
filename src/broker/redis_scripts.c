/* redis_scripts.c - see redis_scripts.h.
 *
 * JSON is never decoded in Redis: its decoder turns [] into {} and cuts numbers to 14 digits. An
 * array of messages is a string that grows at its ends.
 */
#include "broker/redis_scripts.h"

static const char names[] =
    "local CLIENTS, COUNT = 'connected_clients'..S, 'connected_clients_count'..S\n"
    "local STORE, POOL, WS = 'undelivered_messages'..S, 'available_portals_pool'..S, 'ws'..S\n"
    "local AGES, NODES, ONLINE = 'mesa:ages'..S, 'mesa:nodes'..S, 'mesa:online'..S\n"
    "local COUNTS, PORTAL = 'mesa:counts'..S, 'mesa:portal'..S..':'\n"
    "local LEASE, USERS = 'mesa:lease'..S..':', 'mesa:users'..S..':'\n"
    "local LEAVING, KEPT = 'mesa:leaving'..S, 'mesa:kept'..S\n"
    "local call, me = redis.call, ARGV[1]\n";

/* -- presence -- */

static const char presence[] =
    "local function leave(id)\n"
    "  if call('HINCRBY', ONLINE, id, -1) <= 0 then\n"
    "    call('HDEL', ONLINE, id)\n"
    "    call('SREM', CLIENTS, id)\n"
    "  end\n"
    "end\n"
    /* A part of what an incarnation left behind; true when that was all. */
    "local function reap(inc)\n"
    "  local ids = call('SPOP', USERS..inc, 2000)\n"
    "  for i = 1, #ids do leave(ids[i]) end\n"
    "  if #ids == 2000 then return false end\n"
    "  local n = tonumber(call('HGET', COUNTS, inc) or 0)\n"
    "  if n ~= 0 then call('DECRBY', COUNT, n) end\n"
    "  local leaving = call('HGETALL', LEAVING)\n"
    "  for i = 1, #leaving, 2 do\n"
    "    if leaving[i + 1] == inc then call('HDEL', LEAVING, leaving[i]) end\n"
    "  end\n"
    "  call('HDEL', COUNTS, inc)\n"
    "  call('SREM', NODES, inc)\n"
    "  call('DEL', LEASE..inc)\n"
    "  return true\n"
    "end\n";

static const char begin_body[] = "call('SADD', NODES, me)\n"
                                 "call('SET', LEASE..me, 1, 'PX', ARGV[2])\n";

static const char online_body[] =
    "for i = 2, #ARGV do\n"
    "  if call('SADD', USERS..me, ARGV[i]) == 1 then call('HINCRBY', ONLINE, ARGV[i], 1) end\n"
    "  call('SADD', CLIENTS, ARGV[i])\n"
    "end\n";

static const char finish_body[] = "if tonumber(ARGV[2]) ~= 0 then\n"
                                  "  call('INCRBY', COUNT, ARGV[2])\n"
                                  "  call('HSET', COUNTS, me, ARGV[2])\n"
                                  "end\n"
                                  "for i = 3, #ARGV do\n"
                                  "  while not reap(ARGV[i]) do end\n"
                                  "end\n";

static const char offline_body[] =
    "for i = 2, #ARGV do\n"
    "  if call('SREM', USERS..me, ARGV[i]) == 1 then leave(ARGV[i]) end\n"
    "end\n";

/* Messages sent while the user was here come before the token, those sent from now on are stored. */
static const char part_body[] = "if call('SREM', USERS..me, ARGV[2]) == 1 then leave(ARGV[2]) end\n"
                                "call('HSET', LEAVING, ARGV[2], me)\n"
                                "call('PUBLISH', ARGV[3], ARGV[4])\n";

static const char count_body[] = "call('INCRBY', COUNT, ARGV[2])\n"
                                 "call('HINCRBY', COUNTS, me, ARGV[2])\n";

/* A Node server that shares a user with this one takes the id out when its own connection ends: what
 * is missing is put in again, but only when there may be Node servers. */
static const char tend_body[] =
    "if call('SISMEMBER', NODES, me) == 0 then return {-1, 0} end\n"
    "call('SET', LEASE..me, 1, 'PX', ARGV[2])\n"
    "local nodes, state, dead = call('SMEMBERS', NODES), 0, 0\n"
    "for i = 1, #nodes do\n"
    "  if nodes[i] ~= me and call('EXISTS', LEASE..nodes[i]) == 0 then\n"
    "    dead = dead + 1\n"
    "    if not reap(nodes[i]) then state = 1 end\n"
    "  end\n"
    "end\n"
    "if tonumber(call('PUBSUB', 'NUMSUB', WS)[2]) > #nodes - dead then\n"
    "  local missing = call('SDIFF', USERS..me, CLIENTS)\n"
    "  for i = 1, #missing do call('SADD', CLIENTS, missing[i]) end\n"
    "end\n"
    "return {state, dead}\n";

static const char leave_body[] = "while not reap(me) do end\n";

/* -- the sync store -- */

static const char store[] =
    "local clock = call('TIME')\n"
    "local now = clock[1] * 1000 + math.floor(clock[2] / 1000)\n"
    "local dropped, errors = {}, {}\n"
    "local function ms(t) return string.format('%013.0f', t) end\n"
    /* The place of the comma or bracket behind the element at p. */
    "local function skip(s, p)\n"
    "  local depth = 0\n"
    "  while true do\n"
    "    p = s:find('[\"%[%]{},]', p)\n"
    "    if not p then return #s end\n"
    "    local c = s:byte(p)\n"
    "    if c == 34 then\n"
    "      p = s:find('[\"\\\\]', p + 1)\n"
    "      while p and s:byte(p) == 92 do p = s:find('[\"\\\\]', p + 2) end\n"
    "      if not p then return #s end\n"
    "    elseif c == 91 or c == 123 then depth = depth + 1\n"
    "    elseif depth == 0 then return p\n"
    "    elseif c ~= 44 then depth = depth - 1 end\n"
    "    p = p + 1\n"
    "  end\n"
    "end\n"
    /* The array of a user without its brackets, its number of elements and their times. */
    "local function load(id)\n"
    "  local a = call('HGET', STORE, id)\n"
    "  if not a then return '', 0, '' end\n"
    "  local body = a:byte(1) == 91 and a:byte(-1) == 93 and a:sub(2, -2)\n"
    "  if not body then body = a:match('^%s*%[(.*)%]%s*$') end\n"
    "  if not body then\n"
    "    errors[#errors + 1] = 'what undelivered_messages holds for \"'..id..'\" is not an array'\n"
    "    return '', 0, ''\n"
    "  end\n"
    "  if not body:find('%S') then return '', 0, '' end\n"
    "  local ages = call('HGET', AGES, id) or ''\n"
    "  local times = ages:sub(13)\n"
    "  if tonumber(ages:sub(1, 12)) == #a then return body, #times / 13, times end\n"
    "  local n, p = 0, 0\n"
    "  repeat\n"
    "    n = n + 1\n"
    "    p = skip(body, p + 1)\n"
    "  until p >= #body\n"
    "  if #times > 13 * n then times = times:sub(-13 * n) end\n"
    "  return body, n, times..ms(now):rep(n - #times / 13)\n"
    "end\n"
    /* Keeps what the bounds allow. */
    "local function save(id, body, n, times, max, bytes, age)\n"
    "  local from, first = 1, 1\n"
    "  while n > 0 and (n > max or #body - from + 1 - (n - 1) > bytes or\n"
    "      now - tonumber(times:sub(first, first + 12)) > age) do\n"
    "    local to = skip(body, from)\n"
    "    if to >= #body then to = #body + 1 end\n"
    "    dropped[#dropped + 1] = id\n"
    "    dropped[#dropped + 1] = body:sub(from, to - 1)\n"
    "    from, first, n = to + 1, first + 13, n - 1\n"
    "  end\n"
    "  if n == 0 or from > #body then\n"
    "    call('HDEL', STORE, id)\n"
    "    call('HDEL', AGES, id)\n"
    "    return\n"
    "  end\n"
    "  local a = '['..body:sub(from)..']'\n"
    "  call('HSET', STORE, id, a)\n"
    "  call('HSET', AGES, id, string.format('%012.0f', #a)..times:sub(first))\n"
    "end\n"
    "local function append(id, json, max, bytes, age)\n"
    "  local body, n, times = load(id)\n"
    "  save(id, n > 0 and body..','..json or json, n + 1, times..ms(now), max, bytes, age)\n"
    "end\n"
    "local function text(err) return type(err) == 'table' and err.err or tostring(err) end\n";

static const char route_body[] =
    "local json, max, bytes, age = ARGV[2], tonumber(ARGV[3]), tonumber(ARGV[4]), tonumber(ARGV[5])\n"
    "local online, stored = {}, {}\n"
    "for i = 6, #ARGV do\n"
    "  local id = ARGV[i]:sub(2)\n"
    "  if ARGV[i]:byte() == 43 or call('SISMEMBER', CLIENTS, id) == 1 then\n"
    "    online[#online + 1] = cjson.encode(id)\n"
    "  elseif #json > bytes then\n"
    "    dropped[#dropped + 1] = id\n"
    "    dropped[#dropped + 1] = json\n"
    "  else\n"
    "    local ok, err = pcall(append, id, json, max, bytes, age)\n"
    "    if ok then stored[#stored + 1] = id else errors[#errors + 1] = text(err) end\n"
    "  end\n"
    "end\n"
    "if #online > 0 then\n"
    "  call('PUBLISH', WS, '{\"origin\":\"'..me..'\",\"message\":'..json..',\"recipients\":['..\n"
    "    table.concat(online, ',')..'],\"sync\":true}')\n"
    "end\n"
    "return {stored, dropped, errors}\n";

static const char take_body[] =
    "local by = call('HGET', LEAVING, me)\n"
    "if by and call('EXISTS', LEASE..by) == 1 or\n"
    "    ARGV[2] == '1' and tonumber(call('HGET', ONLINE, me) or 0) > 1 then\n"
    "  return {false, '', ms(now), false, 1}\n"
    "end\n"
    "local body, n, times = load(me)\n"
    "if #errors > 0 or n == 0 then return {false, '', ms(now), errors[1] or false, 0} end\n"
    "call('HDEL', STORE, me)\n"
    "call('HDEL', AGES, me)\n"
    "return {'['..body..']', times, ms(now), false, 0}\n";

static const char put_back_body[] =
    "if ARGV[7] and call('HGET', LEAVING, me) == ARGV[7] then call('HDEL', LEAVING, me) end\n"
    "if ARGV[2] == '' then return {{}, {}, {}} end\n"
    "ARGV[3] = ARGV[3]:gsub(('.'):rep(13), { [('0'):rep(13)] = ms(now) })\n"
    "local body, n, times = load(me)\n"
    "save(me, n > 0 and ARGV[2]..','..body or ARGV[2], n + #ARGV[3] / 13, ARGV[3]..times,\n"
    "  tonumber(ARGV[4]), tonumber(ARGV[5]), tonumber(ARGV[6]))\n"
    "if call('SISMEMBER', CLIENTS, me) == 1 then call('PUBLISH', KEPT, me) end\n"
    "return {{}, dropped, errors}\n";

/* -- portals -- */

static const char portals_body[] =
    "local ids, leased, others = call('SMEMBERS', POOL), {}, {}\n"
    "for i = 1, #ids do\n"
    "  local list = call('EXISTS', PORTAL..ids[i]) == 1 and leased or others\n"
    "  list[#list + 1] = ids[i]\n"
    "end\n"
    "return {tonumber(call('PUBSUB', 'NUMSUB', 'portal'..S)[2]), leased, others}\n";

static const char no_portal_body[] =
    "for i = 1, #ARGV do\n"
    "  if call('SREM', POOL, ARGV[i]) == 1 then\n"
    "    call('PUBLISH', POOL, '{\"id\":'..cjson.encode(ARGV[i])..',\"ready\":false}')\n"
    "  end\n"
    "end\n";

static const struct {
    const char *prelude, *body;
} scripts[MESA_SCRIPT_COUNT_] = {
    [MESA_SCRIPT_BEGIN] = {"", begin_body},
    [MESA_SCRIPT_ONLINE] = {"", online_body},
    [MESA_SCRIPT_FINISH] = {presence, finish_body},
    [MESA_SCRIPT_OFFLINE] = {presence, offline_body},
    [MESA_SCRIPT_PART] = {presence, part_body},
    [MESA_SCRIPT_COUNT] = {"", count_body},
    [MESA_SCRIPT_TEND] = {presence, tend_body},
    [MESA_SCRIPT_LEAVE] = {presence, leave_body},
    [MESA_SCRIPT_ROUTE] = {store, route_body},
    [MESA_SCRIPT_TAKE] = {store, take_body},
    [MESA_SCRIPT_PUT_BACK] = {store, put_back_body},
    [MESA_SCRIPT_PORTALS] = {"", portals_body},
    [MESA_SCRIPT_NO_PORTAL] = {"", no_portal_body},
};

enum mesa_status mesa_redis_script_text(struct mesa_buf *out, enum mesa_redis_script script,
                                        struct mesa_span suffix)
{
    enum mesa_status rc = mesa_buf_printf(out, "local S = '");
    for (size_t i = 0; rc == MESA_OK && i < suffix.len; i++)
        rc = mesa_buf_printf(out, "\\%03u", (unsigned)(unsigned char)suffix.p[i]);
    if (rc == MESA_OK)
        rc =
            mesa_buf_printf(out, "'\n%s%s%s", names, scripts[script].prelude, scripts[script].body);
    return rc;
}
