-- examples/cluster as it is, and what middleware has of Redis.
local harness = require "spec.support.harness"
local redis = require "spec.support.redis"

describe("the example cluster", function()
  local store, first, second, portal

  local function login(server, name)
    local client = server:join()
    client:send { op = 2, d = { name = name } }
    client:expect(22)
    return client
  end

  -- Until the server has reached Redis and read the pool, it knows of no portal.
  local function wait_for_portal(server)
    for n = 1, 50 do
      local name = ("probe %d of %d"):format(n, server.port)
      login(server, name):close(1000)
      if harness.loop.wait(function() return portal.process.stdout:find(name .. " logged in", 1, true) end, 100) then return end
    end
    error "the server never told the portal"
  end

  before_each(function()
    store = redis.start()
    local options = { flags = { "--port", "0" }, env = { REDIS_URL = store.uri, CLUSTER_NAMESPACE = "spec" } }
    local pool = store:subscribe "available_portals_pool_spec"
    portal = harness.launch("examples/cluster/portal.lua", { env = options.env })
    pool:expect()
    first = harness.start("examples/cluster/server.lua", options)
    second = harness.start("examples/cluster/server.lua", options)
    wait_for_portal(first)
    wait_for_portal(second)
  end)

  after_each(function()
    portal:stop()
    first:stop()
    second:stop()
    store:stop()
  end)

  local function dispatch(...)
    local started = harness.launch("examples/cluster/dispatcher.lua", {
      args = { ... }, env = { REDIS_URL = store.uri, CLUSTER_NAMESPACE = "spec" },
    })
    assert.equal(0, (started:wait_exit()))
    assert.equal("", started.process.stdout)
    started:destroy()
  end

  it("behaves as one server", function()
    local ann, bob = login(first, "ann"), login(second, "bob")
    assert.equal("Welcome, ann", ann:expect("NOTICE").d.text)
    assert.equal("Welcome, bob", bob:expect("NOTICE").d.text)
    ann:send { op = 0, t = "SAY", d = { text = "hello", to = { "bob" } } }
    assert.same({ from = "ann", text = "hello" }, { from = bob:expect("SAID").d.from, text = "hello" })
    bob:send { op = 0, t = "SAY", d = { text = "all" } }
    assert.equal("all", ann:expect("SAID").d.text)
    assert.equal("all", bob:expect("SAID").d.text)
    for _, line in ipairs { "somebody connected", "ann logged in", "bob logged in", 'ann sent {"op":0,"d":{' } do
      portal:stdout_contains((line:gsub("%p", "%%%0")))
    end
  end)

  it("is sent to and disconnected by a dispatcher", function()
    local ann, bob = login(first, "ann"), login(second, "bob")
    ann:expect "NOTICE"
    bob:expect "NOTICE"
    dispatch("to all")
    assert.equal("to all", ann:expect("NOTICE").d.text)
    assert.equal("to all", bob:expect("NOTICE").d.text)
    dispatch("to two", "bob", "cleo")
    assert.equal("to two", bob:expect("NOTICE").d.text)
    local cleo = login(first, "cleo")
    assert.equal("to two", cleo:expect(function(m) return m.t == "NOTICE" and m.s == 1 end).d.text)
    dispatch("--disconnect", "ann")
    ann:expect_close(1000)
    portal:stdout_contains "ann left"
  end)

  it("counts in Redis by a middleware", function()
    local ann, bob = login(first, "ann"), login(second, "bob")
    ann:send { op = 0, t = "SAY", d = { text = "x", to = { "bob" } } }
    bob:expect "SAID"
    local function counts(connected, messages)
      return harness.loop.wait(function()
        return store:command("GET", "connected_clients_count_mw-persisted_metrics_spec") == connected
          and store:command("GET", "messages_received_count_mw-persisted_metrics_spec") == messages
      end, 5000)
    end
    assert.is_true(counts("2", "1"))
    ann:close(1000)
    assert.is_true(counts("1", "1"))
  end)
end)

describe("a server's Redis", function()
  it("is nil without one, and the names need none", function()
    local server = harness.start [[
      local Mesa = require "mesa"
      local plain = Mesa.new { port = 0, host = "127.0.0.1" }
      local named = Mesa.new { port = 0, host = "127.0.0.1", namespace = "api" }
      print(plain.redis, named.redis, plain.unknown)
      print(plain:getMiddlewareNamespace("key", "mine"), named:getMiddlewareNamespace("key", "mine"))
      print(unpack(named:mapMiddlewareNamespace({ "a", "b" }, "mine")))
      print(pcall(plain.mapMiddlewareNamespace, plain, "a", "mine"))
    ]]
    server:stdout_contains "nil\tnil\tnil\n"
    server:stdout_contains "key_mw%-mine\tkey_mw%-mine_api\n"
    server:stdout_contains "a_mw%-mine_api\tb_mw%-mine_api\n"
    server:stdout_contains "false\t.*expects a list of keys"
    server:stop()
  end)
end)
