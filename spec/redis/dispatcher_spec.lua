-- Mesa.Dispatcher and Mesa.DispatchEvent: what they publish and store (PROTOCOL 8, 9).
local cjson = require "cjson"
local harness = require "spec.support.harness"
local redis = require "spec.support.redis"

describe("a dispatcher", function()
  local store

  before_each(function()
    store = redis.start()
  end)

  after_each(function()
    store:stop()
  end)

  -- Runs a program to its end; what it printed.
  local function program(source)
    local started = harness.launch('local Mesa = require "mesa"\nlocal uri = os.getenv "REDIS_URL"\n' .. source, {
      env = { REDIS_URL = store.uri },
    })
    local code = started:wait_exit()
    local out, err = started.process.stdout, started.process.stderr
    started.may_have_ended = true
    started:check_output()
    started:destroy()
    return out, err, code
  end

  local function published(channel)
    return cjson.decode(channel:expect())
  end

  it("publishes for everybody, as the Node library does", function()
    local ws = store:subscribe "ws"
    assert.equal("", (program [[
      local dispatcher = Mesa.Dispatcher(uri)
      print(select("#", dispatcher:dispatch(Mesa.Message(0, { a = 1 }, "HELLO"))) == 1 and "" or "more")
    ]]:gsub("\n", "")))
    assert.same({ message = { op = 0, d = { a = 1 }, t = "HELLO" }, recipients = { "*" } }, published(ws))
  end)

  it("publishes to ids, without the excluded ones", function()
    local ws = store:subscribe "ws"
    program [[
      local dispatcher = Mesa.Dispatcher(uri)
      dispatcher:dispatch(Mesa.Message(0, {}, "A"), { "0", "1", "2" }, { "1" })
      dispatcher:dispatch(Mesa.Message(0, {}, "B"), { 7, "7" })
      dispatcher:dispatch(Mesa.Message(0, {}, "C"), "8")
      dispatcher:dispatch(Mesa.Message(0, {}, "nobody"), { "1" }, { "1" })
      dispatcher:dispatch(Mesa.Message(0, {}, "D"), { "*" }, { "1" })
      dispatcher:dispatch(Mesa.Message(0, {}, "E", { sync = false }), { "1" })
    ]]
    assert.same({ "0", "2" }, published(ws).recipients)
    assert.same({ "7" }, published(ws).recipients)
    assert.same({ "8" }, published(ws).recipients)
    local all = published(ws)
    assert.same({ { "*" }, { "1" } }, { all.recipients, all.excluding })
    assert.same({ op = 0, d = {}, t = "E", o = { sync = false } }, published(ws).message)
  end)

  it("publishes events", function()
    local ws = store:subscribe "ws"
    program [[ Mesa.Dispatcher(uri):dispatch(Mesa.DispatchEvent("DISCONNECT_CLIENT"), { "1" }) ]]
    assert.same({ message = { op = 5, d = {}, t = "DISCONNECT_CLIENT" }, recipients = { "1" } }, published(ws))
  end)

  it("keeps to its namespace", function()
    local ws = store:subscribe "ws_api"
    program [[ Mesa.Dispatcher(uri, { namespace = "api" }):dispatch(Mesa.Message(0, {}, "HELLO"), { "1" }) ]]
    assert.same({ "1" }, published(ws).recipients)
  end)

  it("stores for those who are offline, with sync", function()
    local ws = store:subscribe "ws_api"
    store:command("SADD", "connected_clients_api", "on")
    program [[
      local dispatcher = Mesa.Dispatcher(uri, { namespace = "api", sync = { enabled = true } })
      for n = 1, 3 do dispatcher:dispatch(Mesa.Message(0, { n = n }, "SYNC", { sync = true }), { "on", "off", "gone" }, { "gone" }) end
      dispatcher:dispatch(Mesa.Message(0, {}, "TYPING", { sync = false }), { "off" })
      dispatcher:dispatch(Mesa.DispatchEvent("DISCONNECT_CLIENT"), { "off" })
      dispatcher:dispatch(Mesa.Message(0, {}, "ALL"), { "*", "off" })
    ]]
    for n = 1, 3 do
      local m = published(ws)
      assert.same({ { "on" }, n }, { m.recipients, m.message.d.n })
    end
    assert.equal("TYPING", published(ws).message.t)
    assert.equal("DISCONNECT_CLIENT", published(ws).message.t)
    assert.equal("ALL", published(ws).message.t)
    local stored = cjson.decode(store:command("HGET", "undelivered_messages_api", "off"))
    assert.equal(3, #stored)
    for n = 1, 3 do assert.same({ op = 0, d = { n = n }, t = "SYNC" }, stored[n]) end
    assert.is_nil((store:command("HGET", "undelivered_messages_api", "gone")))
    assert.is_nil((store:command("HGET", "undelivered_messages_api", "on")))
  end)

  it("stores for any number of ids, within its bounds", function()
    program [[
      local dispatcher = Mesa.Dispatcher(uri, { sync = { enabled = true, maxMessages = 2 } })
      local ids = {}
      for i = 1, 5000 do ids[i] = "user " .. i end
      for n = 1, 3 do dispatcher:dispatch(Mesa.Message(0, { n = n }), ids) end
    ]]
    assert.equal(5000, store:command("HLEN", "undelivered_messages"))
    local stored = cjson.decode(store:command("HGET", "undelivered_messages", "user 5000"))
    assert.same({ 2, 3 }, { stored[1].d.n, stored[2].d.n })
  end)

  it("stores although Redis has forgotten its script", function()
    program [[
      local dispatcher = Mesa.Dispatcher(uri, { sync = { enabled = true } })
      local function dispatch(n) dispatcher:dispatch(Mesa.Message(0, { n = n }), { "off" }) end
      dispatch(1)
      dispatcher.redis:script("FLUSH", function()
        dispatch(2)
        dispatcher.redis:ping(function() dispatch(3) end)
      end)
    ]]
    local stored = cjson.decode(store:command("HGET", "undelivered_messages", "off"))
    assert.same({ 1, 2, 3 }, { stored[1].d.n, stored[2].d.n, stored[3].d.n })
  end)

  it("goes on when Redis comes back empty", function()
    local started = harness.launch([[
      local Mesa = require "mesa"
      local dispatcher = Mesa.Dispatcher(os.getenv "REDIS_URL", { sync = { enabled = true } })
      local n, failed = 0, 0
      dispatcher:on("error", function() failed = failed + 1 end)
      local timer
      timer = Mesa.setInterval(function()
        n = n + 1
        dispatcher:dispatch(Mesa.Message(0, { n = n }), { "off" })
        if failed > 0 and dispatcher.redis:hexists("undelivered_messages", "off") == 1 then
          print "stored again"
          Mesa.clearTimer(timer)
        end
        if n == 3 then print "running" end
      end, 10)
    ]], { env = { REDIS_URL = store.uri } })
    started:stdout_contains "running"
    store:kill()
    started:log_contains "lost"
    store:restart()
    assert.equal(0, (started:wait_exit()))
    assert.matches("stored again", started.process.stdout)
    started:check_output()
    started:destroy()
  end)

  it("reports what Redis refuses, and goes on", function()
    store:command("SET", "undelivered_messages", "no hash")
    local out, err = program [[
      local dispatcher = Mesa.Dispatcher(uri, { sync = { enabled = true } })
      dispatcher:dispatch(Mesa.Message(0, {}, "A"), { "1" })
      dispatcher:on("error", function(e) print(e.code, e.message) end)
    ]]
    assert.matches("^SYNC\t.*WRONGTYPE", out)
    assert.is_nil(err:find "WRONGTYPE")
  end)

  it("says that Redis is unavailable", function()
    local out, err = program [[
      local dispatcher = Mesa.Dispatcher("redis://127.0.0.1:1")
      print(dispatcher:dispatch(Mesa.Message(0, {}, "A")))
      local function again()
        local ok, err, code = dispatcher:dispatch(Mesa.Message(0, {}, "B"))
        if ok then return Mesa.setTimeout(again, 20) end -- not yet refused
        print(ok, err, code)
        dispatcher:on("error", function(e) print(e) end)
      end
      Mesa.setTimeout(again, 200)
    ]]
    assert.equal("true\nnil\tredis unavailable\tUNAVAILABLE\nredis unavailable\n", out)
    assert.matches("dispatcher: redis unavailable", err)
  end)

  it("uses a connection that it is given, and leaves it open", function()
    local ws = store:subscribe "ws"
    assert.equal("still open\tPONG\n", (program [[
      local connection = Mesa.redis.connect(uri)
      local dispatcher = Mesa.Dispatcher(connection)
      dispatcher:dispatch(Mesa.Message(0, {}, "A"))
      dispatcher:close()
      assert(select(2, dispatcher:dispatch(Mesa.Message(0, {}, "B"))) == "closed")
      connection:ping(function(_, reply) print("still open", reply) end)
    ]]))
    assert.equal("A", published(ws).message.t)
  end)

  it("sends what was dispatched before it was closed", function()
    local ws = store:subscribe "ws"
    program [[
      local dispatcher = Mesa.Dispatcher(uri)
      dispatcher:dispatch(Mesa.Message(0, {}, "A"))
      dispatcher:close()
    ]]
    assert.equal("A", published(ws).message.t)
  end)

  it("raises at the line that misuses it", function()
    local out = program [[
      local function try(fn) print((tostring(select(2, pcall(fn))):gsub("^.-server.lua:", ""))) end
      local d = Mesa.Dispatcher(uri)
      try(function() Mesa.Dispatcher() end)
      try(function() Mesa.Dispatcher("localhost") end)
      try(function() Mesa.Dispatcher(uri, { name = "x" }) end)
      try(function() Mesa.Dispatcher(uri, { namespace = "a b" }) end)
      try(function() Mesa.Dispatcher(uri, { sync = { enable = true } }) end)
      try(function() d:dispatch("text") end)
      try(function() d:dispatch({ opcode = 0 }) end)
      try(function() d:dispatch(Mesa.Message(0), { true }) end)
      try(function() d:dispatch(Mesa.Message(0, { f = print })) end)
      try(function() Mesa.DispatchEvent() end)
    ]]
    local expected = {
      "^5: Mesa.Dispatcher: redis must be a URI", "^6: Mesa.Dispatcher: redis must be a URI",
      "^7: Mesa.Dispatcher: unknown option name; there are namespace, sync", "^8: Mesa.Dispatcher: namespace must be",
      "^9: Mesa.Dispatcher: unknown option sync.enable", "^10: dispatcher:dispatch expects a Message or a DispatchEvent",
      "^11: dispatcher:dispatch expects a Message", "^12: dispatcher:dispatch: recipients: ids are strings or integers, got boolean",
      "cannot encode a function", "^14: Mesa.DispatchEvent expects an action",
    }
    local i = 0
    for line in out:gmatch "[^\n]+" do
      i = i + 1
      assert.matches(expected[i], line)
    end
    assert.equal(#expected, i)
  end)
end)
