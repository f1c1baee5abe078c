-- Messages that cross servers (PROTOCOL 8).
local cjson = require "cjson"
local cluster = require "spec.support.cluster"
local harness = require "spec.support.harness"
local loop = require "spec.support.loop"

local send = cluster.send

describe("two servers on one Redis", function()
  local c, a, b, anna, bert
  setup(function()
    c = cluster.start()
    a, b = c:lab(), c:lab()
    c:settle(2)
  end)
  teardown(function() c:stop() end)
  before_each(function()
    anna, bert = a:login "anna", b:login "bert"
    c:expect_presence({ "anna", "bert" }, 2)
  end)
  after_each(function() c:drop_clients() end)

  it("reach a user wherever the user is", function()
    assert.same({ ok = true, value = "true" }, send(anna, { t = "HI", d = { n = 1 } }, { "bert" }))
    local message = bert:expect "HI"
    assert.same({ n = 1 }, message.d)
    assert.is_nil(message.o)
    assert.is_nil(message.s)
  end)

  it("reach everybody once, unauthenticated clients included", function()
    local guest = b:join()
    send(anna, { t = "ALL" })
    for _, client in ipairs { anna, bert, guest } do
      client:expect "ALL"
      client:expect_silence(50)
    end
  end)

  it("reach every connection of a user, once", function()
    local second, third = a:login "bert", b:login "bert"
    send(anna, { t = "HI" }, { "bert", "bert" })
    for _, client in ipairs { bert, second, third } do
      client:expect "HI"
      client:expect_silence(50)
    end
  end)

  it("leave out those who are excluded, on every server", function()
    local guest = b:join()
    send(anna, { t = "MOST" }, nil, { "bert" })
    anna:expect "MOST"
    guest:expect "MOST"
    bert:expect_silence(50)
    send(anna, { t = "SOME" }, { "anna", "bert" }, { "bert" })
    anna:expect "SOME"
    bert:expect_silence(50)
  end)

  it("carry what JSON can say", function()
    local d = '{"list":[],"object":{},"null":null,"big":9007199254740991,"fine":0.10000000000000001,"text":"\240\159\152\128/"}'
    anna:send('{"op":0,"t":"SEND","d":{"to":["bert"],"message":{"op":0,"t":"JSON","d":' .. d .. "}}}")
    local raw = bert:expect("JSON").raw
    assert.truthy(raw:find('"list":[]', 1, true), raw)
    assert.truthy(raw:find('"object":{}', 1, true), raw)
    assert.truthy(raw:find('"null":null', 1, true), raw)
    assert.truthy(raw:find("9007199254740991", 1, true), raw)
    assert.truthy(raw:find("\240\159\152\128/", 1, true), raw)
  end)

  it("disconnect clients elsewhere with op 5", function()
    send(anna, { op = 5, t = "DISCONNECT_CLIENT" }, { "bert" })
    bert:expect_close(1000)
    anna:expect_silence(50)
  end)

  it("keep their order from one sender", function()
    anna:send { op = 0, t = "SEND_MANY", d = { count = 500, to = { "bert" }, t = "N" } }
    for n = 1, 500 do assert.equal(n, bert:expect("N").d.n) end
  end)

  it("understand what a dispatcher publishes", function()
    c.redis:command("PUBLISH", "ws", '{"message":{"op":0,"d":{"x":1},"t":"D","o":{"sync":true}},"recipients":["bert","anna"]}')
    assert.equal('{"op":0,"d":{"x":1},"t":"D"}', anna:expect("D").raw)
    assert.same({ x = 1 }, bert:expect("D").d)
    c.redis:command("PUBLISH", "ws", '{"message":{"op":5,"d":{},"t":"DISCONNECT_CLIENT"},"recipients":["bert"]}')
    bert:expect_close(1000)
    c.redis:command("PUBLISH", "ws", '{"message":{"op":5,"d":{},"t":"SOMETHING"},"recipients":["*"]}')
    anna:expect_silence(50)
  end)

  it("publish in the form of the protocol, and once", function()
    local watch = c.redis:subscribe "ws"
    send(anna, { t = "HI", d = { 1 }, o = { sync = false } }, { "bert", "anna" })
    local json = cjson.decode(watch:expect())
    assert.same({ op = 0, t = "HI", d = { 1 } }, json.message)
    table.sort(json.recipients)
    assert.same({ "anna", "bert" }, json.recipients)
    loop.sleep(50)
    assert.equal(0, #watch.published)
    send(anna, { t = "ALL" })
    assert.same({ "*" }, cjson.decode(watch:expect()).recipients)
  end)
end)

describe("authentication.required", function()
  it("holds for messages that arrive through Redis", function()
    local c = cluster.start()
    local a, b = c:lab { authentication = { required = true } }, c:lab { authentication = { required = true } }
    c:settle(2)
    local anna, guest, bert = a:login "anna", b:join(), b:login "bert"
    send(anna, { t = "ALL" })
    bert:expect "ALL"
    guest:expect_silence(100)
    c:stop()
  end)
end)

describe("namespaces", function()
  it("keep clusters on one Redis apart", function()
    local c = cluster.start()
    local a, b = c:lab { namespace = "one" }, c:lab { namespace = "two" }
    c:settle(1, "_one")
    c:settle(1, "_two")
    local anna, bert = a:login "anna", b:login "bert"
    send(anna, { t = "ALL" })
    anna:expect "ALL"
    bert:expect_silence(100)
    assert.same({ "anna" }, c.redis:command("SMEMBERS", "connected_clients_one"))
    assert.equal("1", c.redis:command("GET", "connected_clients_count_two"))
    c:stop()
  end)

  it("and ids that have colons are told apart, wherever the colons are", function()
    local c = cluster.start()
    local shop = c:lab { namespace = "shop", sync = { enabled = true } }
    local eu = c:lab { namespace = "shop:eu", sync = { enabled = true } }
    c:settle(1, "_shop")
    c:settle(1, "_shop:eu")
    local writer = shop:login "writer"
    local deaf = shop:login("eu:7", nil, { pings = false }) -- confirms nothing, so that it is kept
    for n = 1, 3 do send(writer, { t = "SECRET", d = { n = n } }, { "eu:7" }) end
    for _ = 1, 3 do deaf:expect "SECRET" end
    local seven = eu:login "7"
    send(seven, { t = "OWN" }, { "7" })
    seven:expect "OWN"
    for _, message in ipairs(seven:drain()) do assert.not_equal("SECRET", message.t) end
    deaf:drop()
    local back = shop:login "eu:7"
    for n = 1, 3 do assert.equal(n, back:expect("SECRET").d.n) end
    c:stop()
  end)

  it("that would share a key with others are refused, servers', dispatchers' and portals'", function()
    for _, name in ipairs { "count", "count_down" } do
      for _, make in ipairs {
        'Mesa.new { port = 0, namespace = "%s", redis = "redis://127.0.0.1:1" }',
        'Mesa.Dispatcher("redis://127.0.0.1:1", { namespace = "%s" })',
        'Mesa.Portal("redis://127.0.0.1:1", { namespace = "%s" })',
      } do
        local node = harness.launch('local Mesa = require "mesa"\n' .. make:format(name) .. "\n")
        assert.equal(1, (node:wait_exit()))
        assert.matches('server.lua:2: .-namespace must be another word than "count", and not begin with "count_", '
          .. 'got the string "' .. name .. '" %(its users would be in connected_clients_' .. name, node.process.stderr)
        node:destroy()
      end
    end
  end)
end)

describe("what is not understood", function()
  it("is an error event, and nothing else", function()
    local c = cluster.start()
    local a = c:lab({ portal = { enabled = true } })
    c:settle(1)
    local anna = a:login "anna"
    local bad = {
      "not JSON", "", "[]", "{}", "null", '{"message":{"op":0},"recipients":"*"}', '{"message":7,"recipients":["*"]}',
      '{"message":{"op":0},"recipients":[{}]}', '{"message":{"op":"x"},"recipients":["*"]}', "\255\254",
      '{"message":{"op":0,"d":' .. ("["):rep(2000) .. ("]"):rep(2000) .. '},"recipients":["*"]}',
      '{"message":{"op":0,"d":"' .. ("x"):rep(8 * 1024 * 1024),
    }
    for _, text in ipairs(bad) do c.redis:command("PUBLISH", "ws", text) end
    c.redis:command("PUBLISH", "available_portals_pool", '{"id":7,"ready":true}')
    c.redis:command("PUBLISH", "ws", '{"message":{"op":0,"t":"FINE"},"recipients":["*"]}')
    anna:expect "FINE"
    anna:send { op = 0, t = "EVENTS" }
    local errors = 0
    for _, event in ipairs(anna:expect("EVENTS").d.events) do
      if event.name == "server error" and event.code == "CLUSTER" then errors = errors + 1 end
    end
    assert.equal(#bad + 1, errors)
    c:stop()
  end)
end)

describe("a Node server in the cluster", function()
  local c, a, b, node, anna, nora
  setup(function()
    c = cluster.start()
    a, b = c:lab(), c:lab()
    node = c:node_lab()
    c:settle(3)
    anna, nora = a:login "anna", node:login "nora"
    c:expect_presence({ "anna", "nora" }, 2)
  end)
  teardown(function() c:stop() end)

  it("gets and sends messages to users and to everybody", function()
    local bert = b:login "bert"
    send(anna, { t = "HI", d = { n = 1 } }, { "nora", "bert" })
    assert.same({ n = 1 }, nora:expect("HI").d)
    bert:expect "HI"
    send(nora, { t = "BACK", d = { n = 2 } }, { "anna", "bert" })
    assert.same({ n = 2 }, anna:expect("BACK").d)
    bert:expect "BACK"
    send(nora, { t = "ALL" })
    for _, client in ipairs { anna, bert, nora } do client:expect "ALL" end
    send(bert, { t = "ALL2" })
    for _, client in ipairs { anna, bert, nora } do client:expect "ALL2" end
    for _, client in ipairs { anna, bert, nora } do client:expect_silence(50) end
  end)

  it("disconnects its clients when told to", function()
    local nils = node:login "nils"
    send(anna, { op = 5, t = "DISCONNECT_CLIENT" }, { "nils" })
    nils:expect_close(1000)
  end)
end)
