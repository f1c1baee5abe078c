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
    "local TAKEN, TAKES = 'mesa:taken'..S..':', 'mesa:takes'..S..':'\n"
    "local ORDER, HANDOVER = 'mesa:order'..S, 'mesa:handover'..S\n"
    "local call, me = redis.call, ARGV[1]\n";

/* -- presence -- */

static const char presence[] = "local function leave(id)\n"
                               "  if call('HINCRBY', ONLINE, id, -1) <= 0 then\n"
                               "    call('HDEL', ONLINE, id)\n"
                               "    call('SREM', CLIENTS, id)\n"
                               "    return false\n"
                               "  end\n"
                               "  return true\n"
                               "end\n";

/* A part of what an incarnation left behind; true when that was all. What its node had taken goes
 * back when the node has no other incarnation. */
static const char reaping[] =
    "local function last_of(node, inc)\n"
    "  local nodes = call('SMEMBERS', NODES)\n"
    "  for i = 1, #nodes do\n"
    "    if nodes[i] ~= inc and nodes[i]:sub(1, #node + 1) == node..'-' then return false end\n"
    "  end\n"
    "  return true\n"
    "end\n"
    "local function reap(inc)\n"
    "  local node = inc:match('^(.*)-%d+$') or inc\n"
    "  local ids = call('SPOP', USERS..inc, 2000)\n"
    "  for i = 1, #ids do leave(ids[i]) end\n"
    "  if #ids == 2000 then return false end\n"
    "  if last_of(node, inc) then\n"
    "    call('PUBLISH', HANDOVER, 'gone '..node)\n"
    "    ids = call('SPOP', TAKES..node, 100)\n"
    "    for i = 1, #ids do\n"
    "      local ok, err = pcall(give_back, ids[i], function(n) return n == node end)\n"
    "      if not ok then errors[#errors + 1] = text(err) end\n"
    "    end\n"
    "    if #ids == 100 then return false end\n"
    "  end\n"
    "  local n = tonumber(call('HGET', COUNTS, inc) or 0)\n"
    "  if n ~= 0 then call('DECRBY', COUNT, n) end\n"
    "  local leaving = call('HGETALL', LEAVING)\n"
    "  for i = 1, #leaving, 2 do\n"
    "    if leaving[i + 1]:find(inc..'.', 1, true) then\n"
    "      save_leaving(leaving[i], load_leaving(leaving[i], inc))\n"
    "    end\n"
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

static const char finish_body[] =
    "max, bytes, age = tonumber(ARGV[3]), tonumber(ARGV[4]), tonumber(ARGV[5])\n"
    "if tonumber(ARGV[2]) ~= 0 then\n"
    "  call('INCRBY', COUNT, ARGV[2])\n"
    "  call('HSET', COUNTS, me, ARGV[2])\n"
    "end\n"
    "for i = 6, #ARGV do\n"
    "  while not reap(ARGV[i]) do end\n"
    "end\n";

static const char offline_body[] =
    "for i = 2, #ARGV do\n"
    "  if call('SREM', USERS..me, ARGV[i]) == 1 then leave(ARGV[i]) end\n"
    "end\n";

/* Messages sent while the user was here come before the token, those sent from now on are stored,
 * or for those nodes that still have the user. */
static const char part_body[] =
    "local id, entry, node = ARGV[2], ARGV[3], ARGV[6]\n"
    "if call('SREM', USERS..me, id) == 1 and leave(id) then\n"
    "  call('PUBLISH', HANDOVER, 'parted '..node..' '..id)\n"
    "end\n"
    "local list = load_leaving(id)\n"
    "local at = #list + 1\n"
    /* What it was asked for and may not know yet is part of this. */
    "for i = 1, #list do\n"
    "  if list[i][1]:match('^(.*)%.h') == me then\n"
    "    list[i][1] = list[i][1]:gsub('%.h', '.k')\n"
    "    at = i + 1\n"
    "  end\n"
    "end\n"
    "table.insert(list, at, { entry, at <= #list and list[at - 1][2] or 0 })\n"
    "save_leaving(id, list)\n"
    "call('PUBLISH', ARGV[4], ARGV[5])\n";

static const char count_body[] = "call('INCRBY', COUNT, ARGV[2])\n"
                                 "call('HINCRBY', COUNTS, me, ARGV[2])\n";

/* A Node server that shares a user with this one takes the id out when its own connection ends: what
 * is missing is put in again, but only when there may be Node servers. */
static const char tend_body[] =
    "max, bytes, age = tonumber(ARGV[3]), tonumber(ARGV[4]), tonumber(ARGV[5])\n"
    "if call('SISMEMBER', NODES, me) == 0 then return {-1, {}, {}} end\n"
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
    "return {state, dropped, errors}\n";

static const char leave_body[] =
    "max, bytes, age = tonumber(ARGV[2]), tonumber(ARGV[3]), tonumber(ARGV[4])\n"
    "while not reap(me) do end\n";

/* -- the sync store -- */

static const char store[] =
    "local clock = call('TIME')\n"
    "local now = clock[1] * 1000 + math.floor(clock[2] / 1000)\n"
    "local dropped, errors = {}, {}\n"
    "local max, bytes, age, quiet\n"
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
    "local function save(id, body, n, times)\n"
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
    "local function text(err) return type(err) == 'table' and err.err or tostring(err) end\n"
    /* Who is about to put something back: {entry, what is in the store behind it}, oldest first. */
    "local function load_leaving(id, without)\n"
    "  local list = {}\n"
    "  for entry, behind in (call('HGET', LEAVING, id) or ''):gmatch('(%S+) (%d+)') do\n"
    "    if not without or entry:match('^(.*)%.') ~= without then\n"
    "      list[#list + 1] = { entry, tonumber(behind) }\n"
    "    end\n"
    "  end\n"
    "  return list\n"
    "end\n"
    "local function save_leaving(id, list)\n"
    "  if #list == 0 then return call('HDEL', LEAVING, id) end\n"
    "  for i = 1, #list do list[i] = list[i][1]..' '..string.format('%.0f', list[i][2]) end\n"
    "  call('HSET', LEAVING, id, table.concat(list, ' '))\n"
    "end\n"
    "local function append(id, json)\n"
    "  local body, n, times = load(id)\n"
    "  save(id, n > 0 and body..','..json or json, n + 1, times..ms(now))\n"
    "  local list = load_leaving(id)\n"
    "  for i = 1, #list do list[i][2] = list[i][2] + 1 end\n"
    "  if #list > 0 then save_leaving(id, list) end\n"
    "end\n"
    /* Puts elements in front of the last `behind` of the store. */
    "local function insert(id, more, moretimes, behind)\n"
    "  local body, n, times = load(id)\n"
    "  local before, p = math.max(n - behind, 0), 0\n"
    "  for i = 1, before do p = skip(body, p + 1) end\n"
    "  if before == n and n > 0 then body = body..','..more\n"
    "  else body = body:sub(1, p)..more..(n > 0 and ','..body:sub(p + 1) or '') end\n"
    "  local at = before * 13\n"
    "  save(id, body, n + #moretimes / 13, times:sub(1, at)..moretimes..times:sub(at + 1))\n"
    "  if not quiet and call('SISMEMBER', CLIENTS, id) == 1 then call('PUBLISH', KEPT, id) end\n"
    "end\n"
    /* -- what was taken and is not confirmed -- */
    "local function forget(id, field)\n"
    "  call('HDEL', TAKEN..id, field, field..'+')\n"
    "  local node, fields = field:match(' (.*)$'), call('HKEYS', TAKEN..id)\n"
    "  for i = 1, #fields do\n"
    "    if fields[i]:match(' ([^+]*)') == node then return end\n"
    "  end\n"
    "  call('SREM', TAKES..node, id)\n"
    "end\n"
    "local function give(id, field, value)\n"
    "  local at, times = value:find('[', 1, true), value:match('^%d+ (%d*)%[')\n"
    "  local body, from, to = value:sub(at + 1, -2), 0, #times / 13\n"
    "  local part = call('HGET', TAKEN..id, field..'+')\n"
    "  if part then from, to = part:match('(%d+) (%d+)') end\n"
    "  from, to = tonumber(from), math.min(tonumber(to), #times / 13)\n"
    "  local p, first, last = 0, 1, #body\n"
    "  for i = 1, to do\n"
    "    p = skip(body, p + 1)\n"
    "    if i == from then first = p + 1 end\n"
    "    if i == to and i < #times / 13 then last = p - 1 end\n"
    "  end\n"
    "  forget(id, field)\n"
    "  if to > from then\n"
    "    insert(id, body:sub(first, last), times:sub(from * 13 + 1, to * 13), 1e9)\n"
    "  end\n"
    "end\n"
    /* Puts back what those nodes had taken that `which` says, the newest first. */
    "local function give_back(id, which)\n"
    "  local all, list = call('HGETALL', TAKEN..id), {}\n"
    "  for i = 1, #all, 2 do\n"
    "    local n, node = all[i]:match('^(%d+) ([^+]*)$')\n"
    "    if n and which(node, all[i + 1]) then\n"
    "      list[#list + 1] = { tonumber(n), all[i], all[i + 1] }\n"
    "    end\n"
    "  end\n"
    "  table.sort(list, function(a, b) return a[1] > b[1] end)\n"
    "  for i = 1, #list do give(id, list[i][2], list[i][3]) end\n"
    "end\n";

static const char route_body[] =
    "local json = ARGV[2]\n"
    "max, bytes, age = tonumber(ARGV[3]), tonumber(ARGV[4]), tonumber(ARGV[5])\n"
    "local online, stored = {}, {}\n"
    "for i = 6, #ARGV do\n"
    "  local id = ARGV[i]:sub(2)\n"
    "  if ARGV[i]:byte() == 43 or call('SISMEMBER', CLIENTS, id) == 1 then\n"
    "    online[#online + 1] = cjson.encode(id)\n"
    "  elseif #json > bytes then\n"
    "    dropped[#dropped + 1] = id\n"
    "    dropped[#dropped + 1] = json\n"
    "  else\n"
    "    local ok, err = pcall(append, id, json)\n"
    "    if ok then stored[#stored + 1] = id else errors[#errors + 1] = text(err) end\n"
    "  end\n"
    "end\n"
    "if #online > 0 then\n"
    "  call('PUBLISH', WS, '{\"origin\":\"'..me..'\",\"message\":'..json..',\"recipients\":['..\n"
    "    table.concat(online, ',')..'],\"sync\":true}')\n"
    "end\n"
    "return {stored, dropped, errors}\n";

/* A node that was killed is not subscribed any more, long before its lease ends. Without room to keep what is taken it is taken all the same: that is what makes room. */
static const char take_body[] =
    "local inc, node, token, step = ARGV[2], ARGV[3], ARGV[4], ARGV[5]\n"
    "max, bytes, age = tonumber(ARGV[6]), tonumber(ARGV[7]), tonumber(ARGV[8])\n"
    "local asked = string.format('%.0f', clock[1] * 1e6 + clock[2])\n"
    "local list, here = load_leaving(me), call('SISMEMBER', USERS..inc, me)\n"
    "local function alive(other)\n"
    "  local channel = 'mesa:node:'..(other:match('^(.*)-%d+$') or '')\n"
    "  return call('EXISTS', LEASE..other) == 1 and tonumber(call('PUBSUB', 'NUMSUB', channel)[2]) > 0\n"
    "end\n"
    "if step:sub(1, 3) == 'ask' and tonumber(call('HGET', ONLINE, me) or 0) > here then\n"
    "  local incs = call('SMEMBERS', NODES)\n"
    "  for i = 1, #incs do\n"
    "    if incs[i] ~= inc and call('SISMEMBER', USERS..incs[i], me) == 1 and alive(incs[i]) then\n"
    "      list[#list + 1] = { incs[i]..'.h'..node..'-'..token, 0 }\n"
    "    end\n"
    "  end\n"
    "  save_leaving(me, { unpack(list) })\n"
    "  call('PUBLISH', HANDOVER, 'take '..node..' '..asked..' h'..node..'-'..token..' '..me)\n"
    "end\n"
    "if step == 'ask' then return {1, asked} end\n"
    "for i = 1, step ~= 'anyway' and #list or 0 do\n"
    "  if alive(list[i][1]:match('^(.*)%.')) then return {1, asked} end\n"
    "end\n"
    "local living = {}\n"
    "local incs = call('EXISTS', TAKEN..me) == 1 and call('SMEMBERS', NODES) or {}\n"
    "for i = 1, #incs do\n"
    "  if alive(incs[i]) then living[incs[i]:match('^(.*)-%d+$')] = true end\n"
    "end\n"
    "quiet = true\n"
    "give_back(me, function(n) return n ~= node and (step == 'anyway' or not living[n]) end)\n"
    "local body, n, times = load(me)\n"
    "if #errors > 0 or n == 0 then return {0, asked, false, '', ms(now), errors[1] or false, '0'} end\n"
    "local function hold()\n"
    "  local born = string.format('%.0f', now * 1000)\n"
    "  if call('HSETNX', ORDER, 'born', born) == 1 then call('HSET', ORDER, 'last', born) end\n"
    "  local order = string.format('%.0f', call('HINCRBY', ORDER, 'last', 1))\n"
    "  call('HSET', TAKEN..me, order..' '..node, token..' '..times..'['..body..']')\n"
    "  call('SADD', TAKES..node, me)\n"
    "  return order\n"
    "end\n"
    "local ok, order = pcall(hold)\n"
    "call('HDEL', STORE, me)\n"
    "call('HDEL', AGES, me)\n"
    "return {0, asked, '['..body..']', times, ms(now), false, ok and order or '0'}\n";

static const char confirm_body[] = "local field = ARGV[3]..' '..ARGV[2]\n"
                                   "if tonumber(ARGV[4]) >= tonumber(ARGV[5]) then\n"
                                   "  forget(me, field)\n"
                                   "elseif call('HEXISTS', TAKEN..me, field) == 1 then\n"
                                   "  call('HSET', TAKEN..me, field..'+', ARGV[4]..' '..ARGV[5])\n"
                                   "end\n";

static const char return_body[] =
    "max, bytes, age = tonumber(ARGV[4]), tonumber(ARGV[5]), tonumber(ARGV[6])\n"
    "give_back(me, function(node, value)\n"
    "  return node == ARGV[2] and value:match('^%d+') == ARGV[3]\n"
    "end)\n"
    "return {{}, dropped, errors}\n";

/* What was taken and is not there any more was put back by others, unless Redis has lost it. */
static const char put_back_body[] =
    "local node, place = ARGV[2], ARGV[3]\n"
    "max, bytes, age = tonumber(ARGV[5]), tonumber(ARGV[6]), tonumber(ARGV[7])\n"
    "local born, there = tonumber(call('HGET', ORDER, 'born') or math.huge), {}\n"
    "local parts, times = {}, ''\n"
    "for i = 8, #ARGV, 3 do\n"
    "  local field = ARGV[i]..' '..node\n"
    "  if ARGV[i] == '0' or tonumber(ARGV[i]) < born then there[field] = true end\n"
    "  if there[field] == nil then\n"
    "    there[field] = call('HEXISTS', TAKEN..me, field) == 1\n"
    "    if there[field] then forget(me, field) end\n"
    "  end\n"
    "  if there[field] and ARGV[i + 1] ~= '' then\n"
    "    parts[#parts + 1] = ARGV[i + 1]\n"
    "    times = times..ARGV[i + 2]\n"
    "  end\n"
    "end\n"
    "times = times:gsub(('.'):rep(13), { [('0'):rep(13)] = ms(now) })\n"
    "local list, at, behind = load_leaving(me), 1, 1e9\n"
    "if place == '+' then at, behind = #list + 1, 0 end\n"
    "for i = 1, #list do\n"
    "  if list[i][1]:gsub('%.k', '.h') == place then at, behind = i, list[i][2] end\n"
    "end\n"
    "if #parts > 0 then\n"
    "  insert(me, table.concat(parts, ','), times, behind)\n"
    "end\n"
    "for i = 1, at - 1 do list[i][2] = list[i][2] + #times / 13 end\n"
    "if list[at] and list[at][1]:gsub('%.k', '.h') == place and ARGV[4] == '0' then\n"
    "  table.remove(list, at)\n"
    "  if call('SISMEMBER', CLIENTS, me) == 1 and call('HEXISTS', STORE, me) == 1 then\n"
    "    call('PUBLISH', KEPT, me)\n"
    "  end\n"
    "end\n"
    "save_leaving(me, list)\n"
    "return {{}, dropped, errors}\n";

/* -- portals -- */

static const char portals_body[] =
    "local ids, leased, others = call('SMEMBERS', POOL), {}, {}\n"
    "local function subscribers(channel) return tonumber(call('PUBSUB', 'NUMSUB', channel)[2]) end\n"
    "local count, seen = subscribers('portal'..S), {}\n"
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

static const struct {
    const char *preludes[3], *body;
} scripts[MESA_SCRIPT_COUNT_] = {
    [MESA_SCRIPT_BEGIN] = {{NULL}, begin_body},
    [MESA_SCRIPT_ONLINE] = {{NULL}, online_body},
    [MESA_SCRIPT_FINISH] = {{store, presence, reaping}, finish_body},
    [MESA_SCRIPT_OFFLINE] = {{presence}, offline_body},
    [MESA_SCRIPT_PART] = {{store, presence}, part_body},
    [MESA_SCRIPT_COUNT] = {{NULL}, count_body},
    [MESA_SCRIPT_TEND] = {{store, presence, reaping}, tend_body},
    [MESA_SCRIPT_LEAVE] = {{store, presence, reaping}, leave_body},
    [MESA_SCRIPT_ROUTE] = {{store}, route_body},
    [MESA_SCRIPT_TAKE] = {{store}, take_body},
    [MESA_SCRIPT_CONFIRM] = {{store}, confirm_body},
    [MESA_SCRIPT_RETURN] = {{store}, return_body},
    [MESA_SCRIPT_PUT_BACK] = {{store}, put_back_body},
    [MESA_SCRIPT_PORTALS] = {{NULL}, portals_body},
    [MESA_SCRIPT_NO_PORTAL] = {{NULL}, no_portal_body},
};

enum mesa_status mesa_redis_script_text(struct mesa_buf *out, enum mesa_redis_script script,
                                        struct mesa_span suffix)
{
    enum mesa_status rc = mesa_buf_printf(out, "local S = '");
    for (size_t i = 0; rc == MESA_OK && i < suffix.len; i++)
        rc = mesa_buf_printf(out, "\\%03u", (unsigned)(unsigned char)suffix.p[i]);
    if (rc == MESA_OK)
        rc = mesa_buf_printf(out, "'\n%s", names);
    for (size_t i = 0; rc == MESA_OK && i < 3 && scripts[script].preludes[i] != NULL; i++)
        rc = mesa_buf_printf(out, "%s", scripts[script].preludes[i]);
    if (rc == MESA_OK)
        rc = mesa_buf_printf(out, "%s", scripts[script].body);
    return rc;
}
