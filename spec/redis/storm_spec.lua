-- Messages to users who keep connecting and vanishing: none is lost, each sender's are in order.
local cjson = require "cjson"
local cluster = require "spec.support.cluster"
local loop = require "spec.support.loop"
local process = require "spec.support.process"

local MESSAGES = tonumber(os.getenv "MESA_STORM_MESSAGES") or 10000
local SENDERS, USERS = 4, 50
local PROCESSES = 6 -- of so many sessions one is a process of its own

-- ---- users ---------------------------------------------------------------------------------------------------------

-- What a user has received, over all its connections, one after the other: n of each sender.
local function new_user(id, is_unordered)
  return { id = id, last = {}, seen = {}, total = 0, repeated = 0, is_unordered = is_unordered }
end

-- First arrivals are strictly in order; whatever comes again says that it may. But for what the sender's server gave to a connection
-- of its own at once, while the user's next one was announced by the other server before Redis had heard of the message: both
-- connections are there when it is sent.
local function take(user, message, node, homes)
  local d = message.d
  if message.t ~= "STORM" then return end
  local key, home = d.from .. ":" .. d.n, homes[tonumber(d.from)]
  if user.seen[key] then
    local beside = user.is_unordered or user.seen[key] == home and node ~= home
    assert(message.s or beside, ("%s got %s again without s"):format(user.id, key))
    user.repeated = user.repeated + 1
    return
  end
  local last = user.last[d.from] or 0
  assert(d.n > last or user.is_unordered, ("%s got %d of sender %s after %d"):format(user.id, d.n, d.from, last))
  user.seen[key], user.last[d.from] = node, d.n
  user.total = user.total + 1
end

-- A connection of a user, in this process or one of its own. `unconfirmed()`: what it received and the server may not know of.
-- One ping is under way at a time, so the one before the last was answered, and what came before that one is confirmed.
local session = {}
session.__index = session

local function connect(node, user, homes)
  local self = setmetatable({
    node = node, user = user, homes = homes, read_to = 1, count = 0, at_ping = 0, confirmed = 0,
  }, session)
  if math.random(PROCESSES) == 1 then
    local args = { "luajit", "spec/redis/fixtures/storm_client.lua", node.port, user.id }
    self.process = process.spawn("/usr/bin/env", { args = args })
    return self
  end
  self.client = node:join(nil, { on_ping = function() self:ping(self.client and self.client.received or 0) end })
  self.client:send { op = 2, d = { id = user.id } }
  if math.random(2) == 1 then self.client:expect(22) end
  return self
end

function session:ping(count)
  self.confirmed, self.at_ping = self.at_ping, count
end

function session:read()
  if self.client then
    for _, message in ipairs(self.client:drain()) do take(self.user, message, self.node, self.homes) end
    return
  end
  local lines = self.process.stdout
  for line, stop in lines:sub(self.read_to):gmatch "([^\n]*)\n()" do
    self.next = self.read_to + stop - 1
    if line == "PING" then
      self:ping(self.count)
    else
      self.count = self.count + 1
      take(self.user, cjson.decode(line), self.node, self.homes)
    end
  end
  self.read_to = self.next or 1
end

function session:unconfirmed()
  return (self.client and self.client.received or self.count) - self.confirmed
end

-- As a process that is killed, or one: what it did not read is lost with it.
function session:vanish()
  if self.process then
    self.process:signal "sigkill"
    self.process:wait(5000)
  end
  self:read()
  if self.client and math.random(2) == 1 then
    self.client:reset()
  elseif self.client then
    self.client:drop()
  end
end

-- ---- the storm -----------------------------------------------------------------------------------------------------

local storm = {}
storm.__index = storm

-- noticed: users come back when the cluster has noticed that they were gone, else at once. kills: a server is killed in the middle;
-- the senders are on the other one, and so are all users from then on. cuts: the servers lose the channel of messages time and again.
-- many: users have up to two connections, each with an order of its own, and what is redelivered is paced.
local function start(options)
  local self = setmetatable({
    noticed = options.noticed, kills = options.kills, cuts = options.cuts, many = options.many,
    cluster = cluster.start(),
    nodes = {}, users = {}, sessions = {}, others = {}, senders = {}, homes = {}, sent = {},
    total = 0, killed = 0, heard = 0, unconfirmed = 0,
  }, storm)
  local sync = { enabled = true, maxMessages = 100000, redeliveryInterval = options.many and 2 or 0 }
  for i = 1, 2 do self.nodes[i] = self.cluster:lab { redis = { lease = 10000 }, sync = sync } end
  self.cluster:settle(2)
  for i = 1, USERS do self.users[i] = new_user("user" .. i, options.many) end
  for k = 1, SENDERS do
    self.homes[k] = self.nodes[self.kills and 2 or k % 2 + 1]
    self.senders[k] = self.homes[k]:login("sender" .. k)
    self.sent[k] = {}
  end
  return self
end

function storm:come(i)
  local id = self.users[i].id
  local gone = not self.noticed or loop.wait(function()
    return self.cluster.redis:command("SISMEMBER", "connected_clients", id) == 0
  end, 5000)
  assert(gone, id .. " is still online")
  self.sessions[i] = connect(self.nodes[math.random(#self.nodes)], self.users[i], self.homes)
end

function storm:vanish(i)
  local one = self.sessions[i]
  one:vanish()
  self.unconfirmed = self.unconfirmed + one:unconfirmed()
  if one.process then
    self.killed = self.killed + 1
    if one.count > 0 then self.heard = self.heard + 1 end
  end
  self.sessions[i] = nil
end

function storm:send(k)
  local i = math.random(USERS)
  local n = (self.sent[k][i] or 0) + 1
  self.sent[k][i] = n
  self.total = self.total + 1
  self.senders[k]:send { op = 0, t = "SEND", d = {
    to = { self.users[i].id }, message = { t = "STORM", d = { from = tostring(k), n = n } },
  } }
end

-- kill -9, and everybody it had goes to the other server.
function storm:kill_server()
  local dead = table.remove(self.nodes, 1)
  cluster.kill(dead)
  for i = 1, USERS do
    if self.sessions[i] and self.sessions[i].node == dead then
      self:vanish(i)
      self:come(i)
    end
  end
end

-- Another connection of some user comes or goes.
function storm:toggle_other()
  local i = math.random(USERS)
  if self.others[i] then
    self.others[i]:vanish()
    self.others[i] = nil
  else
    self.others[i] = connect(self.nodes[math.random(#self.nodes)], self.users[i], self.homes)
  end
end

function storm:read()
  for i = 1, USERS do
    if self.sessions[i] then self.sessions[i]:read() end
    if self.others[i] then self.others[i]:read() end
  end
end

function storm:rage()
  local rounds = MESSAGES / SENDERS
  for n = 1, rounds do
    for k = 1, SENDERS do self:send(k) end
    if n % 4 == 0 then
      local i = math.random(USERS)
      if self.sessions[i] then self:vanish(i) else self:come(i) end
      if self.many then self:toggle_other() end
      loop.poll()
      for k = 1, SENDERS do self.senders[k]:drain() end
    end
    if self.cuts and n % math.floor(rounds / 8) == 0 then self.cluster.redis:command("CLIENT", "KILL", "TYPE", "pubsub") end
    if self.kills and n == math.floor(rounds / 2) then self:kill_server() end
  end
  for i = 1, USERS do
    if not self.sessions[i] then self:come(i) end
  end
end

function storm:sum(field)
  local sum = 0
  for i = 1, USERS do sum = sum + self.users[i][field] end
  return sum
end

function storm:expect_everything()
  local complete = loop.wait(function()
    self:read()
    return self:sum "total" >= self.total
  end, 60000)
  local missing = {}
  for k = 1, SENDERS do
    for i = 1, USERS do
      for n = 1, self.sent[k][i] or 0 do
        if not self.users[i].seen[k .. ":" .. n] then
          missing[#missing + 1] = ("%d to %d: %d of %d"):format(k, i, n, self.sent[k][i])
        end
      end
    end
  end
  assert(complete, ("received %d of %d\n%s"):format(self:sum "total", self.total, table.concat(missing, "\n", 1, math.min(10, #missing))))
end

-- Everything was confirmed: Redis keeps nothing.
function storm:expect_nothing_left()
  local redis, keys = self.cluster.redis, nil
  local empty = loop.wait(function()
    self:read()
    keys = redis:command("KEYS", "mesa:live:*")
    for _, pattern in ipairs { "mesa:given:*", "undelivered_messages", "mesa:ages" } do
      for _, key in ipairs(redis:command("KEYS", pattern)) do keys[#keys + 1] = key end
    end
    return #keys == 0
  end, 10000)
  assert(empty, "left over: " .. table.concat(keys, ", "))
end

function storm:stop()
  for i = 1, USERS do
    for _, one in pairs { self.sessions[i], self.others[i] } do
      if one.process then one.process:destroy() end
    end
  end
  self.cluster:stop()
end

describe("a storm of messages", function()
  local s
  after_each(function() s:stop() end)

  local function run(options)
    s = start(options)
    s:rage()
    s:expect_everything()
    s:expect_nothing_left()
    local repeated = s:sum "repeated"
    if os.getenv "MESA_STORM_VERBOSE" then
      print(cjson.encode { total = s.total, repeated = repeated, unconfirmed = s.unconfirmed, killed = s.killed, heard = s.heard })
    end
    -- Only what a connection had received and not confirmed when it vanished comes again, once for each that vanished. But a server that
    -- may have missed something does not know which of the latest messages its own were.
    local expected = repeated <= s.unconfirmed or options.cuts or options.many
    assert.truthy(expected, ("%d repetitions of %d messages that were not confirmed"):format(repeated, s.unconfirmed))
    assert.truthy(s.heard > 0, "no process was killed after it had received something")
  end

  it("reaches users who connect and vanish anywhere, in order", function() run { noticed = true } end)

  it("reaches users who return before anybody has noticed that they were gone, in order", function() run {} end)

  it("reaches users whose servers lose the channel of messages, in order", function() run { cuts = true } end)

  it("reaches users with several connections, whose servers lose the channel of messages", function() run { cuts = true, many = true } end)

  it("reaches users whose server is killed, in order", function() run { kills = true } end)
end)
