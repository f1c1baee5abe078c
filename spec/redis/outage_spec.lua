-- Redis that is away, comes back empty, hangs, is full or read-only.
local cluster = require "spec.support.cluster"
local loop = require "spec.support.loop"

local send = cluster.send

-- The codes of the server errors so far.
local function errors(client)
  client:send { op = 0, t = "EVENTS" }
  local codes = {}
  for _, event in ipairs(client:expect("EVENTS", { timeout = 10000 }).d.events) do
    if event.name == "server error" then codes[#codes + 1] = event.code .. " " .. event.message end
  end
  return codes
end

local function count(list, pattern)
  local n = 0
  for _, text in ipairs(list) do
    if text:find(pattern) then n = n + 1 end
  end
  return n
end

-- Sends from one to another until it arrives: within two seconds, on a machine that has nothing else to do.
local function cross(from, to, id, timeout)
  local ok = loop.wait(function()
    send(from, { t = "CROSS" }, { id })
    loop.sleep(20)
    for _, message in ipairs(to:drain()) do
      if message.t == "CROSS" then return true end
    end
  end, timeout or 6000)
  assert(ok, "messages do not cross the servers again")
end

describe("without Redis", function()
  local c
  before_each(function() c = cluster.start() end)
  after_each(function() c:stop() end)

  it("a server starts, serves its own clients, and joins the cluster when Redis is there", function()
    c.redis:kill()
    local a, b = c:lab(), c:lab()
    local anna, albert, bert = a:login "anna", a:login "albert", b:login "bert"
    assert.equal("redis unavailable", send(anna, { t = "HI" }, { "albert", "bert" }).err)
    albert:expect "HI"
    assert.equal("redis unavailable", send(anna, { t = "ALL" }).err)
    albert:expect "ALL"
    anna:expect "ALL"
    assert.equal(1, count(errors(anna), "^REDIS"))
    c.redis:restart()
    c:expect_presence({ "anna", "albert", "bert" }, 3)
    cross(anna, bert, "bert")
  end)

  it("what is sent is kept within redis.queue", function()
    local a, b = c:lab { redis = { queue = 2 } }, c:lab()
    c:settle(2)
    local anna, bert = a:login "anna", b:login "bert"
    c:expect_presence({ "anna", "bert" }, 2)
    c.redis:kill()
    loop.wait(function() return count(errors(anna), "^REDIS") > 0 end, 2000)
    for n = 1, 3 do
      assert.equal(n < 3, send(anna, { t = "N", d = { n = n } }, { "bert" }).ok)
    end
    c.redis:restart()
    c:expect_presence({ "anna", "bert" }, 2)
    cross(anna, bert, "bert")
  end)

  it("a backlog is fetched once Redis is back", function()
    c.redis:command("HSET", "undelivered_messages", "anna", '[{"op":0,"d":{"n":1},"t":"OLD"}]')
    c.redis:freeze()
    local a = c:lab { sync = { enabled = true } }
    local anna = a:login "anna"
    c.redis:thaw()
    assert.equal(1, anna:expect("OLD", { timeout = 10000 }).d.n)
  end)
end)

describe("a Redis that is killed ten times and comes back empty, under traffic", function()
  it("costs no client, and afterwards everything is exact", function()
    local c = cluster.start()
    local a, b = c:lab { sync = { enabled = true } }, c:lab { sync = { enabled = true } }
    c:settle(2)
    local anna, bert = a:login "anna", b:login "bert"
    for i = 1, 10 do a:login("a" .. i) b:login("b" .. i) end
    local ids = { "anna", "bert" }
    for i = 1, 10 do
      ids[#ids + 1] = "a" .. i
      ids[#ids + 1] = "b" .. i
    end
    for round = 1, 10 do
      for n = 1, 50 do
        anna:send { op = 0, t = "SEND", d = { message = { t = "N", d = { n = n } }, to = { "bert", "b1", "nobody" } } }
      end
      c.redis:kill()
      bert:send { op = 0, t = "SEND", d = { message = { t = "N" }, to = { "anna", "a" .. round } } }
      c.redis:restart()
      cross(anna, bert, "bert")
      cross(bert, anna, "anna")
    end
    c:expect_presence(ids, 22, 6000)
    for _, node in ipairs { a, b } do
      for _, client in ipairs(node.clients) do assert.is_nil(client.gone) end
    end
    assert.truthy(count(errors(anna), "^REDIS") >= 1)
    c:stop()
  end)
end)

describe("a Redis that", function()
  local c, a, b, anna, bert
  before_each(function()
    c = cluster.start()
    local config = { sync = { enabled = true }, redis = { commandTimeout = 300, connectTimeout = 300 } }
    a, b = c:lab(config), c:lab { sync = { enabled = true }, redis = { commandTimeout = 300, connectTimeout = 300 } }
    c:settle(2)
    anna, bert = a:login "anna", b:login "bert"
    c:expect_presence({ "anna", "bert" }, 2)
  end)
  after_each(function() c:stop() end)

  it("hangs is taken for lost, and nobody waits for it", function()
    c.redis:freeze()
    assert(loop.wait(function()
      return send(anna, { t = "HI" }, { "anna", "bert" }).err == "redis unavailable"
    end, 3000))
    anna:expect "HI"
    c.redis:thaw()
    cross(anna, bert, "bert", 4000)
    c:expect_presence({ "anna", "bert" }, 2)
  end)

  it("is full costs an error event for what could not be kept, not the messages to those online", function()
    c.redis:command("CONFIG", "SET", "maxmemory", "1")
    send(anna, { t = "KEEP", d = {} }, { "bert", "offline" })
    bert:expect "KEEP"
    assert(loop.wait(function() return count(errors(anna), "OOM") > 0 end, 3000))
    c.redis:command("CONFIG", "SET", "maxmemory", "0")
    send(anna, { t = "KEEP", d = {} }, { "offline" })
    b:login("offline"):expect "KEEP"
  end)

  it("is read-only costs error events", function()
    c.redis:command("REPLICAOF", "127.0.0.1", "1")
    send(anna, { t = "KEEP", d = {} }, { "offline" })
    assert(loop.wait(function() return count(errors(anna), "READONLY") > 0 end, 3000))
    c.redis:command("REPLICAOF", "NO", "ONE")
    assert.is_nil(anna.gone)
    cross(anna, bert, "bert", 4000)
    c:expect_presence({ "anna", "bert" }, 2, 3000)
  end)
end)
