-- Messages to users who keep connecting and vanishing: none is lost, each sender's are in order.
local cjson = require "cjson"
local cluster = require "spec.support.cluster"
local loop = require "spec.support.loop"
local process = require "spec.support.process"

local MESSAGES = tonumber(os.getenv "MESA_STORM_MESSAGES") or 10000
local SENDERS, USERS = 4, 50
local PROCESSES = 6 -- of so many sessions one is a process of its own

-- What a user has received, over all its connections: n of each sender.
local function new_user(id)
  return { id = id, last = {}, seen = {}, total = 0, repeated = 0 }
end

-- `ordered`: strictly in order but for repetitions, which say that they may be some.
local function take(user, message, ordered)
  local d = message.d
  if message.t ~= "STORM" then return end
  local sender = user.last[d.from] or 0
  if user.seen[d.from .. ":" .. d.n] then
    assert(message.s or not ordered, "a repetition that does not say that it was kept")
    user.repeated = user.repeated + 1
  else
    user.seen[d.from .. ":" .. d.n] = true
    user.total = user.total + 1
    assert(d.n > sender or not ordered, ("%s got %d of sender %s after %d"):format(user.id, d.n, d.from, sender))
    user.last[d.from] = d.n
  end
end

describe("a storm of messages", function()
  -- `noticed`: users come back when the cluster has noticed that they were gone, else at once: then a user has two
  -- connections for a moment, and what was on its way to the old one may arrive behind what is sent to the new one.
  local function storm(noticed)
    local c = cluster.start()
    local nodes = {}
    for i = 1, 2 do nodes[i] = c:lab { redis = { lease = 10000 }, sync = { enabled = true, maxMessages = 100000 } } end
    c:settle(2)
    local users, sessions, killed, heard = {}, {}, 0, 0
    for i = 1, USERS do users[i] = new_user("user" .. i) end

    local function read(i)
      local session = sessions[i]
      if session.client then
        for _, message in ipairs(session.client:drain()) do take(users[i], message, true) end
        return
      end
      local lines = session.process.stdout
      for line, stop in lines:sub(session.read):gmatch "([^\n]*)\n()" do
        take(users[i], cjson.decode(line), true)
        session.next = session.read + stop - 1
      end
      session.read = session.next
    end
    local function come(i)
      local gone = not noticed or loop.wait(function()
        return c.redis:command("SISMEMBER", "connected_clients", users[i].id) == 0
          and c.redis:command("HEXISTS", "mesa:none", users[i].id) == 0
      end, 5000)
      assert(gone, users[i].id .. " is still online")
      local node = nodes[math.random(2)]
      if math.random(PROCESSES) == 1 then
        local child = process.spawn("/usr/bin/env", { args = { "luajit", "spec/redis/fixtures/storm_client.lua", node.port, users[i].id } })
        sessions[i] = { process = child, read = 1, next = 1 }
        return
      end
      local client = node:join()
      sessions[i] = { client = client }
      client:send { op = 2, d = { id = users[i].id } }
      if math.random(2) == 1 then client:expect(22) end
    end
    -- As a process that is killed, or one: what it did not read is lost with it.
    local function vanish(i)
      local session = sessions[i]
      if session.process then
        session.process:signal "sigkill"
        session.process:wait(5000)
        killed = killed + 1
        if #session.process.stdout > 0 then heard = heard + 1 end
      end
      read(i)
      if session.client and math.random(2) == 1 then session.client:reset() elseif session.client then session.client:drop() end
      sessions[i] = nil
    end

    local senders = {}
    for k = 1, SENDERS do senders[k] = nodes[k % 2 + 1]:login("sender" .. k) end
    local sent = {} -- by sender and user
    local total = 0
    local per_sender = MESSAGES / SENDERS
    for n = 1, per_sender do
      for k = 1, SENDERS do
        local i = math.random(USERS)
        sent[k] = sent[k] or {}
        sent[k][i] = (sent[k][i] or 0) + 1
        total = total + 1
        senders[k]:send { op = 0, t = "SEND", d = {
          to = { users[i].id }, message = { t = "STORM", d = { from = tostring(k), n = sent[k][i] } },
        } }
      end
      if n % 4 == 0 then
        local i = math.random(USERS)
        if sessions[i] then vanish(i) else come(i) end
        loop.poll()
        for k = 1, SENDERS do senders[k]:drain() end
      end
    end

    for i = 1, USERS do
      if not sessions[i] then come(i) end
    end
    local function received()
      local sum = 0
      for i = 1, USERS do
        read(i)
        sum = sum + users[i].total
      end
      return sum
    end
    local complete = loop.wait(function() return received() >= total end, 60000)
    local missing = {}
    for k = 1, SENDERS do
      for i = 1, USERS do
        for n = 1, sent[k][i] or 0 do
          if not users[i].seen[k .. ":" .. n] then missing[#missing + 1] = ("%d to %d: %d of %d"):format(k, i, n, sent[k][i]) end
        end
      end
    end
    assert(complete, ("received %d of %d\n%s"):format(received(), total, table.concat(missing, "\n", 1, math.min(10, #missing))))
    assert.equal(0, c.redis:command("HLEN", "undelivered_messages"))
    assert.equal(0, c.redis:command("HLEN", "mesa:ages"))
    assert(loop.wait(function() return c.redis:command("HLEN", "mesa:none") == 0 end, 2000))
    local repeated = 0
    for i = 1, USERS do repeated = repeated + users[i].repeated end
    assert.truthy(repeated < total / (noticed and 10 or 2), "too many repetitions: " .. repeated)
    assert.truthy(heard > 0, "no process was killed after it had received something")
    if os.getenv "MESA_STORM_VERBOSE" then print(cjson.encode { total = total, repeated = repeated, killed = killed, heard = heard }) end
    for i = 1, USERS do
      if sessions[i].process then sessions[i].process:destroy() end
    end
    c:stop()
  end

  it("reaches users who connect and vanish anywhere, in order", function() storm(true) end)

  it("reaches users who return before anybody has noticed that they were gone", function() storm(false) end)
end)
