-- What a user was sent is kept in Redis until a connection of the user has confirmed it (README, Clusters).
local cjson = require "cjson"
local cluster = require "spec.support.cluster"
local loop = require "spec.support.loop"

local send = cluster.send
local deaf = { pings = false } -- a client that does not answer pings: it looks like one that has died

-- Logged in, and in possession of what there was: what is sent from now on is new.
local function login(node, id, data, options)
  local client = node:login(id, data, options)
  send(client, { t = "HERE", o = { sync = false } }, { id })
  client:expect "HERE"
  return client
end

local function kept(c, id)
  local text = c.redis:command("HGET", "undelivered_messages", id)
  return text and cjson.decode(text) or {}
end

local function waiting(c, id)
  return c.redis:command("LLEN", "mesa:live:" .. id) + c.redis:command("LLEN", "mesa:given:" .. id)
end

local function expect_waiting(c, id, n)
  local found
  assert(loop.wait(function()
    found = waiting(c, id)
    return found == n
  end, 5000), ("%s messages wait for %s, not %d"):format(tostring(found), id, n))
end

local function expect_numbers(client, list, s)
  for i, n in ipairs(list) do
    local m = client:expect "N"
    assert.equal(n, m.d.n)
    assert.equal(s and s + i - 1 or nil, m.s)
  end
end

local function numbered(client, to, first, last)
  for n = first, last do send(client, { t = "N", d = { n = n } }, { to }) end
end

-- The same, and Redis has it then: the answer to the sender only says that it is on its way.
local function numbered_and_kept(c, client, to, first, last)
  local before = c.redis:command("GET", "mesa:number")
  for n = first, last do
    numbered(client, to, n, n)
    local now
    assert(loop.wait(function()
      now = c.redis:command("GET", "mesa:number")
      return now ~= before
    end, 5000))
    before = now
  end
end

local function has_error(client, pattern)
  client:send { op = 0, t = "EVENTS" }
  for _, event in ipairs(client:expect("EVENTS", { timeout = 10000 }).d.events) do
    if event.name == "server error" and (event.code .. " " .. event.message):find(pattern) then return true end
  end
end

local function start_cluster()
  local c = cluster.start()
  local a, b = c:lab { sync = { enabled = true } }, c:lab { sync = { enabled = true } }
  c:settle(2)
  return c, a, b, b:login "anna"
end

describe("what a user was sent", function()
  local c, a, b, anna
  before_each(function() c, a, b, anna = start_cluster() end)
  after_each(function() c:stop() end)

  it("is kept until it is confirmed, and no longer, wherever it was sent", function()
    local bert = login(a, "bert", nil, deaf)
    local albert = a:login "albert"
    numbered(anna, "bert", 1, 2)
    expect_numbers(bert, { 1, 2 })
    numbered(albert, "bert", 3, 4)
    expect_waiting(c, "bert", 4)
    expect_numbers(bert, { 3, 4 })
    bert:send_frame(0xA, "mesa")
    assert(loop.wait(function() return bert.pings >= 2 end, 3000))
    bert:send_frame(0xA, "mesa")
    expect_waiting(c, "bert", 0)
    bert:drop()
    c:expect_presence({ "anna", "albert" }, 2)
    assert.same({}, kept(c, "bert"))
  end)

  it("survives its server, for whoever is back at once", function()
    local bert = login(a, "bert", nil, deaf)
    numbered(anna, "bert", 1, 3)
    expect_numbers(bert, { 1, 2, 3 })
    cluster.kill(a)
    numbered(anna, "bert", 4, 4)
    local again = b:login "bert"
    numbered(anna, "bert", 5, 5)
    expect_numbers(again, { 1, 2, 3, 4 }, 1)
    expect_numbers(again, { 5 })
    expect_waiting(c, "bert", 0)
    c:expect_presence({ "anna", "bert" }, 2)
    assert.same({}, kept(c, "bert"))
  end)

  it("survives its server, for whoever stays away and comes to a Node server", function()
    local node = c:node_lab { sync = { enabled = true } }
    local bert = login(a, "bert", nil, deaf)
    numbered(anna, "bert", 1, 3)
    expect_numbers(bert, { 1, 2, 3 })
    cluster.kill(a)
    c:expect_presence({ "anna" }, 1)
    numbered(anna, "bert", 4, 4)
    local list
    assert(loop.wait(function()
      list = kept(c, "bert")
      return #list == 4
    end, 3000))
    for n = 1, 4 do assert.same({ op = 0, t = "N", d = { n = n } }, list[n]) end
    local again = node:login "bert"
    for n = 1, 4 do assert.equal(n, again:expect("N").d.n) end
  end)

  it("comes to a second connection by the side of the first in order, and once", function()
    local bert = login(a, "bert")
    for n = 1, 50 do anna:send { op = 0, t = "SEND", d = { message = { t = "N", d = { n = n } }, to = { "bert" } } } end
    local second = b:join()
    second:send { op = 2, d = { id = "bert" } }
    numbered(anna, "bert", 51, 60)
    for n = 1, 60 do expect_numbers(bert, { n }) end
    local last
    assert(loop.wait(function()
      for _, m in ipairs(second:drain()) do
        if m.t == "N" then
          assert.truthy(not last or m.d.n == last + 1)
          last = m.d.n
        end
      end
      return last == 60
    end, 5000))
    expect_waiting(c, "bert", 0)
  end)

  it("is left to the other connections when one goes in the middle of a redelivery", function()
    numbered(anna, "bert", 1, 3)
    assert(loop.wait(function() return #kept(c, "bert") == 3 end, 3000))
    local first = a:login("bert", nil, deaf)
    expect_numbers(first, { 1, 2, 3 }, 1)
    c.redis:command("HSET", "undelivered_messages", "bert", '[{"op":0,"d":{"n":4},"t":"N"}]')
    first:send_frame(0xA, "mesa")
    expect_waiting(c, "bert", 0)
    local second = b:login("bert", nil, deaf)
    expect_numbers(second, { 4 }, 1)
    second:drop()
    expect_numbers(first, { 4 }, 1)
  end)

  it("is received by a connection that becomes somebody else", function()
    local bert = login(a, "bert")
    bert:send { op = 0, t = "UPDATE_USER", d = { id = "carl" } }
    assert.is_true(bert:expect("UPDATED").d.ok)
    c:expect_presence({ "anna", "carl" }, 2)
    numbered(anna, "carl", 1, 3)
    expect_numbers(bert, { 1, 2, 3 })
    expect_waiting(c, "carl", 0)
    expect_waiting(c, "bert", 0)
  end)

  it("comes once to a connection that authenticates again meanwhile", function()
    local paced = c:lab { sync = { enabled = true, redeliveryInterval = 40 } }
    c:settle(3)
    numbered(anna, "bert", 1, 6)
    assert(loop.wait(function() return #kept(c, "bert") == 6 end, 3000))
    local bert = paced:join()
    for _ = 1, 2 do bert:send { op = 2, d = { id = "bert" } } end -- the second before the first has got anything
    for n = 1, 6 do
      assert.equal(n, bert:expect("N").d.n)
      if n == 3 then bert:send { op = 2, d = { id = "bert" } } end
    end
    expect_waiting(c, "bert", 0)
    bert:expect_silence(60, function(m) return m.op == 22 end)
  end)

  it("is received by whoever declined the backlog", function()
    numbered(anna, "bert", 1, 1)
    assert(loop.wait(function() return #kept(c, "bert") == 1 end, 3000))
    local bert = login(a, "bert", { shouldSync = false })
    numbered(anna, "bert", 2, 3)
    expect_numbers(bert, { 2, 3 })
    expect_waiting(c, "bert", 0)
  end)

  it("is delivered although the channel of messages was lost for a moment", function()
    local bert = login(a, "bert")
    local last = 0
    for n = 1, 4 do
      c.redis:command("CLIENT", "KILL", "TYPE", "pubsub")
      numbered(anna, "bert", n, n)
      assert(loop.wait(function()
        for _, m in ipairs(bert:drain()) do
          if m.t == "N" and m.d.n > last then
            assert.equal(last + 1, m.d.n)
            last = m.d.n
          end
        end
        return last == n
      end, 5000), "lost: " .. n)
    end
    expect_waiting(c, "bert", 0)
    assert.is_nil(bert.gone)
  end)

  it("is delivered in order although Redis refused to give what was missed", function()
    local bert = login(a, "bert")
    numbered(anna, "bert", 1, 1)
    expect_numbers(bert, { 1 })
    expect_waiting(c, "bert", 0)
    c.redis:command("CLIENT", "KILL", "TYPE", "pubsub")
    numbered_and_kept(c, anna, "bert", 2, 2)
    c.redis:command("CONFIG", "SET", "min-replicas-to-write", "1")
    assert(loop.wait(function() return has_error(bert, "NOREPLICAS") end, 5000))
    c.redis:command("CONFIG", "SET", "min-replicas-to-write", "0")
    numbered(anna, "bert", 3, 3) -- what was missed comes with it, unless it was asked for again before
    for n = 2, 3 do assert.equal(n, bert:expect("N").d.n) end
    numbered(anna, "bert", 4, 4)
    expect_numbers(bert, { 4 })
    expect_waiting(c, "bert", 0)
  end)

  it("is delivered when Redis gives again what it refused, although nothing else is sent", function()
    local bert = login(a, "bert")
    c.redis:command("CLIENT", "KILL", "TYPE", "pubsub")
    numbered_and_kept(c, anna, "bert", 1, 2)
    c.redis:command("CONFIG", "SET", "min-replicas-to-write", "1")
    assert(loop.wait(function() return has_error(bert, "NOREPLICAS") end, 5000))
    c.redis:command("CONFIG", "SET", "min-replicas-to-write", "0")
    for n = 1, 2 do assert.equal(n, bert:expect("N").d.n) end
    expect_waiting(c, "bert", 0)
  end)

  it("is bounded like the store", function()
    local d = c:lab { sync = { enabled = true, maxMessages = 3, maxBytes = 2000 } }
    c:settle(3)
    local dora = d:login "dora"
    local bert = login(a, "bert", nil, deaf)
    numbered(dora, "bert", 1, 5)
    expect_waiting(c, "bert", 3)
    send(dora, { t = "BIG", d = { text = ("x"):rep(1500) } }, { "bert" })
    send(dora, { t = "BIG", d = { text = ("x"):rep(1500) } }, { "bert" })
    send(dora, { t = "TOO_BIG", d = { text = ("x"):rep(3000) } }, { "bert" })
    expect_waiting(c, "bert", 1)
    expect_numbers(bert, { 1, 2, 3, 4, 5 })
    bert:expect "TOO_BIG"
  end)

  it("costs an error event and nothing else when Redis holds garbage in its place", function()
    c.redis:command("SET", "mesa:live:bert", "x")
    c.redis:command("HSET", "mesa:given:bert", "x", "y")
    local bert = login(a, "bert")
    numbered(anna, "bert", 1, 1)
    expect_numbers(bert, { 1 })
    assert(loop.wait(function() return has_error(bert, "SYNC") end, 3000))
    expect_waiting(c, "bert", 0)
    c.redis:command("LPUSH", "mesa:live:bert", "", "garbage", ("9"):rep(16))
    c.redis:command("LPUSH", "mesa:given:bert", "", "garbage", "0000000000000001[]")
    b:login("bert"):expect_silence(50)
    c.redis:command("DEL", "mesa:live:bert")
    c.redis:command("SET", "mesa:number", "garbage")
    numbered(anna, "bert", 2, 3)
    expect_numbers(bert, { 2, 3 })
    bert:drop()
    c.redis:command("DEL", "mesa:live:bert", "mesa:given:bert", "mesa:number")
    c.redis:command("LPUSH", "mesa:number", "x")
    numbered(anna, "bert", 4, 4)
    assert(loop.wait(function() return has_error(anna, "WRONGTYPE") end, 3000))
    assert.is_nil(anna.gone)
  end)
end)

describe("what nobody else keeps", function()
  local c, a, b, anna
  before_each(function() c, a, b, anna = start_cluster() end)
  after_each(function() c:stop() end)

  it("because a Node server published it, goes to the store when it was not confirmed, in order", function()
    local bert = login(a, "bert", nil, deaf)
    numbered(anna, "bert", 1, 1)
    expect_numbers(bert, { 1 })
    c.redis:command("PUBLISH", "ws", '{"message":{"op":0,"d":{"n":2},"t":"N"},"recipients":["bert"]}')
    c.redis:command("PUBLISH", "ws", '{"message":{"op":0,"d":{"n":9},"t":"N","o":{"sync":false}},"recipients":["bert"]}')
    expect_numbers(bert, { 2, 9 })
    numbered(anna, "bert", 3, 3)
    expect_numbers(bert, { 3 })
    bert:drop()
    c:expect_presence({ "anna" }, 1)
    expect_numbers(b:login "bert", { 1, 2, 3 }, 1)
  end)

  it("because Redis was away, goes to the store when it was not confirmed", function()
    local albert, bert = a:login "albert", login(a, "bert", nil, deaf)
    c.redis:kill()
    assert(loop.wait(function() return send(albert, { t = "HI" }, { "carl" }).err == "redis unavailable" end, 5000))
    numbered(albert, "bert", 1, 2)
    expect_numbers(bert, { 1, 2 })
    c.redis:restart()
    c:expect_presence({ "anna", "albert", "bert" }, 3)
    bert:drop()
    c:expect_presence({ "anna", "albert" }, 2)
    expect_numbers(b:login "bert", { 1, 2 }, 1)
  end)
end)

describe("what a server says", function()
  local c, a
  local function start(extra)
    c = cluster.start()
    a = c:lab({ sync = { enabled = true } }, { extra = extra })
    c:settle(1)
  end
  after_each(function() c:stop() end)

  it("just before a good-bye is not repeated", function()
    start [[
      server:on("message", function(message, client)
        if message.type ~= "LEAVE" then return end
        client:send(Message(0, { n = 1 }, "N"))
        client:disconnect(4001)
      end)
    ]]
    local bert = login(a, "bert")
    bert:send { op = 0, t = "LEAVE" }
    expect_numbers(bert, { 1 })
    bert:expect_close(4001)
    c:expect_presence({}, 0)
    a:login("bert"):expect_silence(100)
  end)

  it("when a user has authenticated arrives once, behind the backlog", function()
    start [[
      server:use(function()
        return { onAuthenticated = function(client) client:send(Message(0, { n = 3 }, "N")) end }
      end)
    ]]
    c.redis:command("HSET", "undelivered_messages", "bert", '[{"op":0,"d":{"n":1},"t":"N"},{"op":0,"d":{"n":2},"t":"N"}]')
    local bert = a:login "bert"
    expect_numbers(bert, { 1, 2 }, 1)
    expect_numbers(bert, { 3 })
    expect_waiting(c, "bert", 0)
    bert:close()
    c:expect_presence({}, 0)
    assert.same({}, kept(c, "bert"))
  end)
end)
