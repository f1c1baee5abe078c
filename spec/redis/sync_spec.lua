-- Messages for users who are offline everywhere, kept in Redis in Node's format (PROTOCOL 8, Sync).
local cjson = require "cjson"
local cluster = require "spec.support.cluster"
local loop = require "spec.support.loop"

local send = cluster.send

local record = [[
  server:use(function()
    return {
      onUndeliverableMessageSent = function(message, ids) record("kept", { t = message.type, ids = ids }) end,
      onUndeliverableMessageDropped = function(message, id) record("dropped", { d = message.data, id = id }) end,
    }
  end)
]]

local function events(client, name)
  client:send { op = 0, t = "EVENTS" }
  local list = {}
  for _, event in ipairs(client:expect("EVENTS").d.events) do
    if event.name == name then list[#list + 1] = event end
  end
  return list
end

local function until_event(client, name, n)
  local list
  assert(loop.wait(function()
    list = events(client, name)
    return #list >= n
  end, 3000), "no event " .. name)
  return list
end

describe("sync through Redis", function()
  local c, a, b, anna
  local function start(sync)
    sync = sync or {}
    sync.enabled = true
    c = cluster.start()
    a = c:lab({ sync = sync }, { extra = record })
    b = c:lab({ sync = sync }, { extra = record })
    c:settle(2)
    anna = a:login "anna"
  end
  local function stored(id)
    local text = c.redis:command("HGET", "undelivered_messages", id)
    return text and cjson.decode(text) or nil, text
  end
  after_each(function() c:stop() end)

  it("keeps what is sent in Node's format, oldest first, and says so", function()
    start()
    send(anna, { t = "A", d = { list = cjson.empty_array } }, { "bert", "anna" })
    send(anna, { t = "B", d = { n = 2 } }, { "bert" })
    send(anna, { t = "C", o = { sync = false } }, { "bert" })
    send(anna, { t = "D" })
    until_event(anna, "kept", 2)
    local _, text = stored "bert"
    assert.truthy(text:find('^%[{"op":0,"d":{.-},"t":"A"},{"op":0,"d":{"n":2},"t":"B"}%]$'), text)
    assert.is_nil(stored "anna")
  end)

  it("delivers on any server, in order, with s, once", function()
    start()
    for n = 1, 5 do send(anna, { t = "N", d = { n = n } }, { "bert" }) end
    until_event(anna, "kept", 5)
    local bert = b:login "bert"
    for n = 1, 5 do
      local m = bert:expect "N"
      assert.same({ n, n }, { m.d.n, m.s })
    end
    assert.is_nil(stored "bert")
    bert:close()
    b:login("bert"):expect_silence(100)
  end)

  it("drops it when the client does not want it", function()
    start()
    send(anna, { t = "N" }, { "bert" })
    until_event(anna, "kept", 1)
    b:login("bert", { shouldSync = false }):expect_silence(100)
    assert.is_nil(stored "bert")
  end)

  it("holds the bounds, the oldest go first", function()
    start { maxMessages = 3 }
    for n = 1, 5 do send(anna, { t = "N", d = { n = n } }, { "bert" }) end
    local dropped = until_event(anna, "dropped", 2)
    assert.same({ { n = 1 }, { n = 2 } }, { dropped[1].d, dropped[2].d })
    local list = stored "bert"
    assert.same({ 3, 4, 5 }, { list[1].d.n, list[2].d.n, list[3].d.n })
  end)

  it("holds the bounds of bytes and age", function()
    start { maxBytes = 200, maxAge = 1500 }
    send(anna, { t = "BIG", d = { text = ("x"):rep(300) } }, { "bert" })
    until_event(anna, "dropped", 1)
    assert.is_nil(stored "bert")
    send(anna, { t = "N", d = { n = 1 } }, { "bert" })
    loop.sleep(1600)
    send(anna, { t = "N", d = { n = 2 } }, { "bert" })
    local bert = b:login "bert"
    assert.equal(2, bert:expect("N").d.n)
  end)

  it("delivers what Node stored, whatever it put into it", function()
    start()
    c.redis:command("HSET", "undelivered_messages", "bert",
      ' [ {"op":0,"d":{"n":1},"t":"N","o":{"sync":true}} , {"op":0,"d":{"n":"],["},"t":"N","s":9}]')
    send(anna, { t = "N", d = { n = 3 } }, { "bert" })
    until_event(anna, "kept", 1)
    local bert = b:login "bert"
    assert.equal('{"op":0,"d":{"n":1},"t":"N","s":1}', bert:expect("N").raw)
    assert.equal('{"op":0,"d":{"n":"],["},"t":"N","s":2}', bert:expect("N").raw)
    assert.equal(3, bert:expect("N").d.n)
  end)

  it("survives a field that is not an array, and elements that are no messages", function()
    start()
    for i, text in ipairs { "garbage", "{}", "7", '["x",{"op":0,"t":"OK"},{"op":5,"t":"DISCONNECT_CLIENT"}]', "[garbage]", "[[[", "" } do
      c.redis:command("HSET", "undelivered_messages", "u" .. i, text)
      local client = b:login("u" .. i)
      if i == 4 then client:expect "OK" end
      client:expect_silence(20)
      send(anna, { t = "FINE" }, { "u" .. i })
      client:expect "FINE"
      client:close()
    end
    c:expect_presence({ "anna" }, 1)
    c.redis:command("HSET", "undelivered_messages", "u", "garbage")
    send(anna, { t = "KEPT" }, { "u" })
    b:login("u"):expect "KEPT"
    local watcher = b:join()
    local found = 0
    for _, event in ipairs(events(watcher, "server error")) do
      if event.code == "SYNC" then found = found + 1 end
    end
    assert.truthy(found >= 5, found)
  end)

  it("survives a key of another type", function()
    start()
    c.redis:command("SET", "undelivered_messages", "text")
    send(anna, { t = "N" }, { "bert" })
    assert(loop.wait(function() return #events(anna, "server error") > 0 end, 3000)) -- bert's return is another
    b:login("bert"):expect_silence(50)
  end)

  it("takes up what a client did not read", function()
    start { redeliveryInterval = 50 }
    for n = 1, 5 do send(anna, { t = "N", d = { n = n } }, { "bert" }) end
    until_event(anna, "kept", 5)
    local bert = b:login "bert"
    bert:expect "N"
    bert:drop()
    c:expect_presence({ "anna" }, 1)
    send(anna, { t = "N", d = { n = 6 } }, { "bert" })
    local again, last = a:login "bert", 0
    for _ = 1, 6 do
      local n = again:expect("N").d.n
      if n <= 2 and last == 0 then last = n - 1 end
      assert.equal(last + 1, n)
      last = n
      if n == 6 then break end
    end
    assert.equal(6, last)
  end)
end)

describe("sync beside a Node server", function()
  it("works in both directions", function()
    local c = cluster.start()
    local a = c:lab { sync = { enabled = true } }
    local node = c:node_lab { sync = { enabled = true } }
    c:settle(2)
    local anna, nora = a:login "anna", node:login "nora"
    c:expect_presence({ "anna", "nora" }, 2)
    send(anna, { t = "N", d = { n = 1 } }, { "bert" })
    send(nora, { t = "N", d = { n = 2 } }, { "carl" })
    assert(loop.wait(function() return c.redis:command("HLEN", "undelivered_messages") == 2 end, 3000))
    local bert = node:login "bert"
    assert.equal(1, bert:expect("N").d.n)
    local carl = a:login "carl"
    assert.equal(2, carl:expect("N").d.n)
    c:stop()
  end)
end)
