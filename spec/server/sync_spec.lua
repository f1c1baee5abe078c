local harness = require "spec.support.harness"

-- Tells the spec what the middleware hears.
local OBSERVER = [[
  local heard = {}
  server:use(function()
    return {
      onUndeliverableMessageSent = function(message, ids)
        heard[#heard + 1] = { name = "stored", t = message.type, ids = Mesa.array(ids) }
      end,
      onUndeliverableMessageDropped = function(message, id)
        heard[#heard + 1] = { name = "dropped", n = message.data.n, id = id }
      end,
      onRedeliverUndeliverableMessages = function(count, client)
        heard[#heard + 1] = { name = "redelivered", count = count, id = client.id }
      end,
    }
  end)
  server:on("message", function(message, client)
    if message.type == "HEARD" then client:send(Message(0, { heard = Mesa.array(heard) }, "HEARD_LIST"), true) end
  end)
]]

describe("sync for users who are offline", function()
  local server, sender

  local function start(sync, config)
    config = config or {}
    config.sync = sync or { enabled = true }
    server = harness.lab(config, { extra = OBSERVER })
    sender = server:login "sender"
  end

  local function send(n, to, message, excluding)
    message = message or {}
    message.t, message.d = message.t or "KEPT", message.d or { n = n }
    sender:send { op = 0, t = "SEND", d = { to = to or { "bob" }, excluding = excluding, message = message } }
    sender:expect "SENT"
  end

  local function heard(name)
    sender:send { op = 0, t = "HEARD" }
    local list = {}
    for _, event in ipairs(sender:expect("HEARD_LIST").d.heard) do
      if event.name == name then
        list[#list + 1] = event
      end
    end
    return list
  end

  -- What has come to the client by now, in order.
  local function numbers(client)
    client:send { op = 0, t = "ECHO" }
    client:expect "ECHO"
    local list = {}
    for _, message in ipairs(client:drain()) do
      if message.t == "KEPT" then
        list[#list + 1] = message.d.n
      end
    end
    return list
  end

  after_each(function()
    server:stop()
  end)

  it("keeps messages to an id and delivers them in order after op 22, numbered from 1", function()
    start()
    for n = 1, 5 do
      send(n)
    end
    local bob = server:join()
    bob:send { op = 2, d = { id = "bob" } }
    assert.equal(22, bob:next().op)
    for n = 1, 5 do
      local message = bob:next()
      assert.equal(0, message.op)
      assert.equal("KEPT", message.t)
      assert.same({ n = n }, message.d)
      assert.equal(n, message.s)
      assert.is_nil(message.o)
    end
  end)

  it("gives live messages no sequence", function()
    start()
    local bob = server:login "bob"
    send(1)
    assert.is_nil(bob:expect("KEPT").s)
  end)

  it("delivers once", function()
    start()
    send(1)
    local bob = server:login "bob"
    bob:expect "KEPT"
    bob:close()
    bob = server:login "bob"
    assert.same({}, numbers(bob))
  end)

  it("keeps nothing unless it is enabled", function()
    start { enabled = false }
    send(1)
    assert.same({}, numbers(server:login "bob"))
  end)

  it("keeps nothing for an id that is online on any connection", function()
    start()
    local first, second = server:login "bob", server:login "bob"
    first:close()
    send(1)
    assert.same({ 1 }, numbers(second))
    assert.same({}, numbers(server:login "bob"))
  end)

  it("keeps messages again once the last connection has left", function()
    start()
    local first, second = server:login "bob", server:login "bob"
    first:close()
    second:close()
    harness.loop.wait(function()
      sender:send { op = 0, t = "CONNECTIONS_OF", d = { id = "bob" } }
      return sender:expect("CONNECTIONS_OF").d.count == 0
    end, 5000)
    send(1)
    assert.same({ 1 }, numbers(server:login "bob"))
  end)

  it("never keeps what is for everybody", function()
    start()
    send(1, { "*" })
    assert.same({}, numbers(server:login "bob"))
  end)

  it("keeps nothing for an excluded id", function()
    start()
    send(1, { "bob", "cid" }, nil, { "bob" })
    assert.same({}, numbers(server:login "bob"))
    assert.same({ 1 }, numbers(server:login "cid"))
  end)

  it("keeps no message with { sync = false }", function()
    start()
    send(1, nil, { o = { sync = false } })
    send(2)
    assert.same({ 2 }, numbers(server:login "bob"))
  end)

  it("keeps a message to several ids for those who are offline", function()
    start()
    local ann = server:login "ann"
    send(1, { "ann", "bob", "cid" })
    assert.same({ 1 }, numbers(ann))
    assert.same({ 1 }, numbers(server:login "bob"))
    assert.same({ 1 }, numbers(server:login "cid"))
  end)

  it("drops the backlog of a client that authenticates with shouldSync = false", function()
    start()
    send(1)
    assert.same({}, numbers(server:login("bob", { shouldSync = false })))
    assert.same({}, numbers(server:login("bob", { shouldSync = true })))
  end)

  it("delivers with shouldSync = true", function()
    start()
    send(1)
    assert.same({ 1 }, numbers(server:login("bob", { shouldSync = true })))
  end)

  it("keeps data of every kind as it was sent", function()
    start()
    for _, data in ipairs { "[]", "{}", "null", "[1.5,\"x\"]", "9007199254740991" } do
      sender:send(('{"op":0,"t":"SEND","d":{"to":["bob"],"message":{"t":"RAW","d":%s}}}'):format(data))
      sender:expect "SENT"
    end
    local bob = server:login "bob"
    for _, data in ipairs { "[]", "{}", "null", "[1.5,\"x\"]", "9007199254740991" } do
      if data ~= "null" then -- the lab turns a missing d into {}
        assert.matches('"d":' .. data .. ",", bob:expect("RAW").raw, 1, true)
      else
        bob:expect "RAW"
      end
    end
  end)

  it("tells the middleware what was kept and redelivered", function()
    start()
    send(1)
    send(2)
    numbers(server:login "bob")
    local stored = heard "stored"
    assert.equal(2, #stored)
    assert.same({ "bob" }, stored[1].ids)
    assert.same({ { name = "redelivered", count = 2, id = "bob" } }, heard "redelivered")
  end)

  describe("bounds", function()
    it("drops the oldest beyond maxMessages and says so", function()
      start { enabled = true, maxMessages = 3 }
      for n = 1, 5 do
        send(n)
      end
      assert.same({ { name = "dropped", n = 1, id = "bob" }, { name = "dropped", n = 2, id = "bob" } }, heard "dropped")
      assert.same({ 3, 4, 5 }, numbers(server:login "bob"))
    end)

    it("drops the oldest beyond maxBytes", function()
      start { enabled = true, maxBytes = 1000 }
      for n = 1, 5 do
        send(n, nil, { d = { n = n, text = ("x"):rep(300) } })
      end
      local dropped = heard "dropped"
      assert.is_true(#dropped >= 2)
      assert.equal(1, dropped[1].n)
      local left = numbers(server:login "bob")
      assert.equal(5, #left + #dropped)
      assert.equal(5, left[#left])
    end)

    it("bounds each id alone", function()
      start { enabled = true, maxMessages = 2 }
      for n = 1, 2 do
        send(n, { "bob" })
        send(n + 10, { "cid" })
      end
      assert.same({ 1, 2 }, numbers(server:login "bob"))
      assert.same({ 11, 12 }, numbers(server:login "cid"))
    end)

    it("drops what is older than maxAge", function()
      start { enabled = true, maxAge = 1500 }
      send(1)
      harness.loop.sleep(1600)
      send(2)
      assert.same({ 2 }, numbers(server:login "bob"))
      assert.same({ { name = "dropped", n = 1, id = "bob" } }, heard "dropped")
    end)
  end)

  describe("with redeliveryInterval", function()
    it("spaces the messages and keeps their order", function()
      start { enabled = true, redeliveryInterval = 60 }
      for n = 1, 4 do
        send(n)
      end
      local before = harness.loop.now_ms()
      local bob = server:login "bob"
      for n = 1, 4 do
        local message = bob:expect "KEPT"
        assert.equal(n, message.d.n)
        assert.equal(n, message.s)
      end
      assert.is_true(harness.loop.now_ms() - before >= 3 * 60)
    end)

    it("puts back what was not written when the connection drops, in front of newer messages", function()
      start { enabled = true, redeliveryInterval = 150 }
      for n = 1, 4 do
        send(n)
      end
      local bob = server:login "bob"
      assert.equal(1, bob:expect("KEPT").d.n)
      bob:drop()
      harness.loop.wait(function()
        sender:send { op = 0, t = "CONNECTIONS_OF", d = { id = "bob" } }
        return sender:expect("CONNECTIONS_OF").d.count == 0
      end, 5000)
      send(5)
      bob = server:login "bob"
      for s, n in ipairs { 2, 3, 4, 5 } do
        local message = bob:expect "KEPT"
        assert.equal(n, message.d.n)
        assert.equal(s, message.s)
      end
    end)
  end)

  it("does not lose or double a backlog when two connections of an id authenticate at once", function()
    start()
    for n = 1, 20 do
      send(n)
    end
    local first, second = server:join(), server:join()
    first:send { op = 2, d = { id = "bob" } }
    second:send { op = 2, d = { id = "bob" } }
    first:expect(22)
    second:expect(22)
    local all = numbers(first)
    for _, n in ipairs(numbers(second)) do
      all[#all + 1] = n
    end
    table.sort(all)
    local wanted = {}
    for n = 1, 20 do
      wanted[n] = n
    end
    assert.same(wanted, all)
  end)

  it("keeps a large backlog whole", function()
    start()
    sender:send { op = 0, t = "SEND_MANY", d = { count = 1000, to = { "bob" }, bytes = 700, t = "KEPT" } }
    sender:expect "SENT_MANY"
    local bob = server:login "bob"
    for n = 1, 1000 do
      local message = bob:expect "KEPT"
      assert.equal(n, message.d.n)
      assert.equal(n, message.s)
    end
  end)
end)
