-- Messages to users who keep connecting and vanishing: none is lost, each sender's are in order.
local cjson = require "cjson"
local cluster = require "spec.support.cluster"
local loop = require "spec.support.loop"

local MESSAGES = tonumber(os.getenv "MESA_STORM_MESSAGES") or 10000
local SENDERS, USERS = 4, 50

-- What a user has received, over all its connections: n of each sender, strictly in order but for repetitions.
local function new_user(id)
  return { id = id, last = {}, seen = {}, total = 0, repeated = 0 }
end

local function take(user, message)
  local d = message.d
  if message.t ~= "STORM" then return end
  local sender = user.last[d.from] or 0
  if user.seen[d.from .. ":" .. d.n] then
    user.repeated = user.repeated + 1
  else
    user.seen[d.from .. ":" .. d.n] = true
    user.total = user.total + 1
    assert(d.n > sender, ("%s got %d of sender %s after %d"):format(user.id, d.n, d.from, sender))
    user.last[d.from] = d.n
  end
end

describe("a storm of messages", function()
  it("reaches users who connect and vanish anywhere", function()
    local c = cluster.start()
    local nodes = {}
    for i = 1, 2 do nodes[i] = c:lab { redis = { lease = 10000 }, sync = { enabled = true, maxMessages = 100000 } } end
    c:settle(2)
    local users, sessions = {}, {}
    for i = 1, USERS do users[i] = new_user("user" .. i) end

    local function read(i)
      for _, message in ipairs(sessions[i].client:drain()) do take(users[i], message) end
    end
    -- Comes when the cluster has noticed that the earlier connection is gone: a user with two connections has two orders.
    local function come(i)
      local gone = loop.wait(function()
        return c.redis:command("SISMEMBER", "connected_clients", users[i].id) == 0
          and c.redis:command("HEXISTS", "mesa:leaving", users[i].id) == 0
      end, 5000)
      assert(gone, users[i].id .. " is still online")
      local client = nodes[math.random(2)]:join()
      sessions[i] = { client = client }
      client:send { op = 2, d = { id = users[i].id } }
      if math.random(2) == 1 then client:expect(22) end
    end
    -- As a process that is killed: what it did not read is lost with it.
    local function vanish(i)
      read(i)
      if math.random(2) == 1 then sessions[i].client:reset() else sessions[i].client:drop() end
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
    assert(loop.wait(function() return c.redis:command("HLEN", "mesa:leaving") == 0 end, 2000))
    local repeated = 0
    for i = 1, USERS do repeated = repeated + users[i].repeated end
    assert.truthy(repeated < total / 10, "too many repetitions: " .. repeated)
    if os.getenv "MESA_STORM_VERBOSE" then print(cjson.encode { total = total, repeated = repeated }) end
    c:stop()
  end)
end)
