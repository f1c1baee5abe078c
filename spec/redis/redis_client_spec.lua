-- Mesa.redis: commands, pipelines and subscriptions of scripts, against a real redis-server.
local cjson = require "cjson"
local fs = require "spec.support.fs"
local harness = require "spec.support.harness"
local loop = require "spec.support.loop"
local redis = require "spec.support.redis"

local null = cjson.null

describe("a connection to Redis", function()
  local store, server, client

  before_each(function()
    store = redis.start()
    server = harness.start("spec/redis/fixtures/runner.lua", { env = { REDIS_URL = store.uri } })
    client = server:join()
  end)

  after_each(function()
    server:stop()
    store:stop()
  end)

  local function answer(from)
    local result = from:expect("RESULT", { timeout = 15000 }).d
    if not result.ok then error(result.list[1], 3) end
    return unpack(result.list, 1, result.n)
  end

  -- Runs Lua text in a handler; its results, nil as null.
  local function run(code)
    client:send { op = 0, t = "RUN", d = { code = code } }
    return answer(client)
  end

  it("has every command as a method, and by its name", function()
    assert.equal("OK", run 'return r:set("k", "v")')
    assert.equal("v", run 'return r:get("k")')
    assert.equal("v", run 'return r:command("GET", "k")')
    assert.equal("v", run 'return r:GET("k")')
    assert.equal("v", store:command("GET", "k"))
  end)

  it("turns replies into Lua values", function()
    assert.equal(2, run 'return r:rpush("list", "a", "b")')
    assert.same({ "a", "b" }, (run 'return r:lrange("list", 0, -1)'))
    assert.equal(null, (run 'return r:get("nothing")'))
    assert.is_true(run 'return r:get("nothing") == nil')
    assert.is_true(run 'local a = r:mget("nothing", "nothing") return a[1] == Mesa.null and a[2] == Mesa.null and #a == 2')
    assert.equal("[]", (run 'return Mesa.json.encode(r:lrange("nothing", 0, -1))'))
    assert.same({ 1, { "x", { 2 } } }, (run [[return r:eval("return {1, {'x', {2}}}", 0)]]))
  end)

  it("leaves bytes as they are", function()
    assert.is_true(run [[ r:set("bytes", "a\0b\r\n\255") return r:get("bytes") == "a\0b\r\n\255" ]])
    assert.equal("a\0b\r\n\255", store:command("GET", "bytes"))
  end)

  it("sends numbers exactly", function()
    run [[r:mset("a", 9007199254740991, "b", 0.1, "c", -1, "d", 1e15)]]
    assert.same({ "9007199254740991", "0.1", "-1", "1000000000000000" }, store:command("MGET", "a", "b", "c", "d"))
  end)

  it("returns errors of Redis as nil, message and code", function()
    run 'r:set("text", "x")'
    assert.same({ null, "ERR value is not an integer or out of range", "REDIS" }, { run 'return r:incr("text")' })
    local _, message, code = run 'return r:no_such_command("a")'
    assert.matches("unknown command", message)
    assert.equal("REDIS", code)
  end)

  it("raises at the line that misuses it", function()
    for code, expected in pairs {
      ['r:set("k", true)'] = "spec:1: argument 2 of set is a boolean, not a string or a number",
      ['r:set("k", nil)'] = "spec:1: argument 2 of set is a nil",
      ['r:set("k", {})'] = "spec:1: argument 2 of set is a table",
      ['r:set("k", 1/0)'] = "not finite",
      ['r:subscribe("c")'] = "spec:1: redis:subscribe expects a function",
      ['r:command("SUBSCRIBE", "c")'] = "spec:1: SUBSCRIBE cannot be sent: use redis:subscribe",
      ['r:select(1)'] = "spec:1: SELECT cannot be sent: name db in the options",
      ['r:auth("x")'] = "spec:1: AUTH cannot be sent",
      ['r:sync()'] = "spec:1: SYNC cannot be sent: what follows is no reply",
      ['r:psync("?", -1)'] = "spec:1: PSYNC cannot be sent",
      ['r:shutdown("nosave")'] = "spec:1: SHUTDOWN cannot be sent: it has no reply",
      ['r:command("replconf", "ack", 1)'] = "spec:1: REPLCONF cannot be sent",
      ['r:client("reply", "off")'] = "spec:1: CLIENT REPLY cannot be sent: replies would go to the commands of others",
      ['r:command("CLIENT", "Reply", "SKIP")'] = "spec:1: CLIENT REPLY cannot be sent",
      ['r:pipeline(function(p) p:client("REPLY", "SKIP") p:get("x") end)'] = "spec:1: CLIENT REPLY cannot be sent",
      ['r:pipeline(function(p) p:command("CLIENT", "REPLY", "OFF") end)'] = "spec:1: CLIENT REPLY cannot be sent",
      ['r:pipeline { { "GET", "x" }, { "client", "reply", "skip" } }'] = "spec:1: CLIENT REPLY cannot be sent",
      ['r:client("TRACKING", "on")'] = "spec:1: CLIENT TRACKING cannot be sent",
      ['r:script("debug", "yes")'] = "spec:1: SCRIPT DEBUG cannot be sent",
      ['r:debug("segfault")'] = "spec:1: DEBUG SEGFAULT cannot be sent",
      ['r:multi()'] = "spec:1: MULTI is sent within a pipeline",
      ['r:pipeline(function(p) p:multi() p:set("x", 1) end)'] = "spec:1: redis:pipeline has MULTI without EXEC or DISCARD: others",
      ['r:pipeline { { "multi" }, { "multi" }, { "exec" } }'] = "spec:1: redis:pipeline has MULTI within MULTI",
      ['r:pipeline { { "EXEC" } }'] = "spec:1: redis:pipeline has EXEC without MULTI",
      ['r:pipeline { { "WATCH", "x" }, { "GET", "x" } }'] = "spec:1: redis:pipeline has WATCH without EXEC, DISCARD or UNWATCH",
      ['r:pipeline(5)'] = "spec:1: redis:pipeline expects",
      ['r:pipeline({ { "GET", {} } })'] = "argument 1 of GET is a table",
      ['Mesa.redis.connect("http://x")'] = "spec:1: Mesa.redis.connect: ",
      ['Mesa.redis.connect(5)'] = "spec:1: Mesa.redis.connect: ",
      ['coroutine.wrap(function() r:get("k") end)()'] = "can only wait inside a handler",
    } do
      local ok, err = pcall(run, code .. " return 1")
      assert.is_false(ok, code)
      assert.truthy(tostring(err):find(expected, 1, true), code .. ": " .. tostring(err))
    end
    assert.equal("PONG", run 'return r:ping()')
    assert.equal("OK", run 'return r:client("SETNAME", "spec")')
  end)

  it("connects again after a reply that is nested too deep to be read", function()
    local nested = ("{"):rep(20) .. "1" .. ("}"):rep(20)
    local reply, message, code = run(('return r:eval("return %s", 0)'):format(nested))
    assert.same({ null, "redis unavailable", "UNAVAILABLE" }, { reply, message, code })
    assert.is_true(harness.loop.wait(function() return run 'return r:ping()' == "PONG" end, 10000))
  end)

  it("keeps what each of many waiting handlers asked for apart", function()
    local others = {}
    for i = 1, 20 do others[i] = server:join() end
    for i, other in ipairs(others) do
      other:send { op = 0, t = "RUN", d = { code = ([[
        for n = 1, 50 do
          r:set("own:%d", n)
          assert(tonumber(r:get("own:%d")) == n)
        end
        return %d
      ]]):format(i, i, i) } }
    end
    for i, other in ipairs(others) do assert.equal(i, (answer(other))) end
  end)

  it("does not hold up others while it waits", function()
    local other = server:join()
    client:send { op = 0, t = "RUN", d = { code = 'return r:blpop("late", 3)' } }
    other:send { op = 0, t = "RUN", d = { code = "return 7" } }
    assert.equal(7, (answer(other)))
    store:command("RPUSH", "late", "now")
    assert.same({ "late", "now" }, (answer(client)))
  end)

  it("calls a function instead of waiting", function()
    assert.same({ true, null, "PONG" }, { run [[
      local sent = r:ping(function(err, reply) state.err, state.reply = err, reply end)
      assert(state.reply == nil)
      while not state.reply do Mesa.sleep(1) end
      return sent, state.err, state.reply
    ]] })
    assert.same({ "WRONGTYPE", null, "REDIS" }, { run [[
      r:set("text", "x")
      r:llen("text", function(err, reply, code) state.done = { err:match "^%u+", reply or Mesa.null, code } end)
      while not state.done do Mesa.sleep(1) end
      return unpack(state.done)
    ]] })
  end)

  it("runs callbacks in coroutines, and contains their errors", function()
    assert.equal("waited", (run [[
      r:ping(function() Mesa.sleep(1) state.late = r:echo("waited") end)
      r:ping(function() error "in a callback" end)
      while not state.late do Mesa.sleep(1) end
      return state.late
    ]]))
    server:log_contains "in a callback"
  end)

  it("sends pipelines in one go", function()
    assert.same({ "OK", 2, null, { "a" } }, (run [[
      return r:pipeline(function(p)
        p:set("n", 1)
        p:incr("n")
        p:get("nothing")
        p:command("EVAL", "return {'a'}", 0)
      end)
    ]]))
    assert.same({ "2", "PONG" }, (run 'return r:pipeline { { "GET", "n" }, { "PING" } }'))
    assert.same({}, (run 'return r:pipeline {}'))
    assert.same({ true, true, false }, { run [[
      local replies = r:pipeline { { "SET", "t", "x" }, { "INCR", "t" } }
      return Mesa.redis.isError(replies[2]), tostring(replies[2]):find("not an integer") ~= nil, Mesa.redis.isError(replies[1])
    ]] })
    assert.same({ "OK", "QUEUED", "QUEUED", { 1, 2 } }, (run [[
      return r:pipeline(function(p) p:multi() p:incr("m") p:incr("m") p:exec() end)
    ]]))
    assert.equal(3, (run [[
      r:pipeline({ { "INCR", "m" } }, function(_, replies) state.piped = replies[1] end)
      while not state.piped do Mesa.sleep(1) end
      return state.piped
    ]]))
  end)

  it("takes large values", function()
    assert.equal(5000000, run 'r:set("big", ("x"):rep(5000000)) return #r:get("big")')
    assert.equal(20000, run [[
      for _ = 1, 20 do
        r:pipeline(function(p) for n = 1, 1000 do p:rpush("many", n) end end)
      end
      return r:llen("many")
    ]])
    assert.equal(20000, run 'return #r:lrange("many", 0, -1)')
  end)

  it("subscribes, to several listeners, and ends it", function()
    run [[
      state.got = {}
      local function first(payload, channel) table.insert(state.got, "1 " .. channel .. " " .. payload) end
      state.first = first
      r:subscribe("news", first, function() state.active = true end)
      r:subscribe("news", function(payload) table.insert(state.got, "2 " .. payload) end)
      r:subscribe("other", function(payload) table.insert(state.got, "3 " .. payload) end)
      while not state.active do Mesa.sleep(1) end
    ]]
    store:command("PUBLISH", "news", "hello")
    assert.same({ "1 news hello", "2 hello" }, (run 'while #state.got < 2 do Mesa.sleep(1) end return state.got'))
    assert.equal(1, run 'r:unsubscribe("news", state.first) return r:publish("news", "again")')
    assert.same({ "1 news hello", "2 hello", "2 again" }, (run 'while #state.got < 3 do Mesa.sleep(1) end return state.got'))
    assert.equal(0, (run [[
      r:unsubscribe("news")
      while r:publish("news", "nobody") > 0 do Mesa.sleep(1) end
      return r:publish("news", "nobody")
    ]]))
    assert.equal(1, run 'return r:publish("other", "x")')
  end)

  it("subscribes again after a loss", function()
    run [[
      state.begun, state.got = 0, {}
      r:subscribe("news", function(payload) table.insert(state.got, payload) end, function() state.begun = state.begun + 1 end)
      while state.begun < 1 do Mesa.sleep(1) end
    ]]
    store:kill()
    store:restart()
    run "while state.begun < 2 do Mesa.sleep(1) end"
    store:command("PUBLISH", "news", "after")
    assert.same({ "after" }, (run "while #state.got < 1 do Mesa.sleep(1) end return state.got"))
  end)

  it("says that Redis is unavailable, and goes on when it is back", function()
    run 'r:ping()'
    store:kill()
    local unavailable = { null, "redis unavailable", "UNAVAILABLE" }
    assert.same(unavailable, { run 'local _, err, code = r:ping() return nil, err, code' })
    assert.same(unavailable, { run 'return r:pipeline { { "PING" }, { "PING" } }' })
    assert.same({ null, "redis unavailable", "redis unavailable" }, { run [[
      local ok, err = r:ping(function(e) state.e = e end)
      assert(state.e == nil)
      while not state.e do Mesa.sleep(1) end
      return ok, err, state.e
    ]] })
    store:restart()
    assert.equal("PONG", (run 'local reply repeat reply = r:ping() until reply or Mesa.sleep(10) return reply'))
  end)

  it("lives through ten deaths of Redis under traffic", function()
    run [[
      state.answered, state.failed, state.heard = 0, 0, 0
      local function count(err) if err then state.failed = state.failed + 1 else state.answered = state.answered + 1 end end
      r:subscribe("traffic", function() state.heard = state.heard + 1 end)
      state.timer = Mesa.setInterval(function()
        for _ = 1, 10 do r:incr("n", count) end
        r:pipeline({ { "GET", "n" }, { "PUBLISH", "traffic", "x" } }, count)
        local _, err = r:echo("wait")
        count(err)
        local other = Mesa.redis.connect(os.getenv "REDIS_URL")
        other:ping(count)
        if state.answered % 2 == 0 then other:close() end
      end, 2)
    ]]
    for _ = 1, 10 do
      local before = run "return state.answered"
      assert.is_true(loop.wait(function() return run "return state.answered" > before + 100 end, 10000))
      store:kill()
      local failed = run "return state.failed"
      assert.is_true(loop.wait(function() return run "return state.failed" > failed + 10 end, 10000))
      store:restart()
    end
    local heard = run "return state.heard"
    assert.is_true(loop.wait(function() return run "return state.heard" > heard end, 10000))
    run "Mesa.clearTimer(state.timer)"
  end)

  it("tells who waits when Redis dies meanwhile", function()
    client:send { op = 0, t = "RUN", d = { code = 'return r:blpop("never", 3)' } }
    assert.is_true(loop.wait(function() return store:command("INFO", "clients"):find "blocked_clients:1" end, 5000))
    store:kill()
    assert.same({ null, "redis unavailable", "UNAVAILABLE" }, { answer(client) })
  end)

  it("gives up on a Redis that hangs", function()
    run [[
      state.c = Mesa.redis.connect { uri = os.getenv "REDIS_URL", commandTimeout = 200 }
      state.c:ping()
    ]]
    store:freeze()
    assert.same({ null, "redis unavailable", "UNAVAILABLE" }, { run "return state.c:ping()" })
    assert.same({ null, "redis unavailable", "UNAVAILABLE" }, { run "return state.c:ping()" })
    store:thaw()
    assert.equal("PONG", (run "local reply repeat reply = state.c:ping() until reply or Mesa.sleep(10) return reply"))
  end)

  it("may be closed from within what it calls", function()
    assert.same({ "command", "subscription", "active" }, (run [[
      local done = {}
      local function new() return Mesa.redis.connect(os.getenv "REDIS_URL") end
      local a, b, c = new(), new(), new()
      a:ping(function() a:close() collectgarbage() table.insert(done, "command") end)
      while #done < 1 do Mesa.sleep(1) end
      b:subscribe("x", function()
        b:close()
        collectgarbage()
        table.insert(done, "subscription")
      end, function() r:publish("x", 1) end)
      while #done < 2 do Mesa.sleep(1) end
      c:subscribe("x", print, function() c:close() collectgarbage() table.insert(done, "active") end)
      while #done < 3 do Mesa.sleep(1) end
      return done
    ]]))
  end)

  it("calls everybody although nobody holds it", function()
    assert.equal(200, run [[
      state.n = 0
      for _ = 1, 100 do
        local c = Mesa.redis.connect(os.getenv "REDIS_URL")
        c:ping(function() state.n = state.n + 1 end)
        c:pipeline({ { "PING" } }, function() state.n = state.n + 1 end)
        collectgarbage "step"
      end
      while state.n < 200 do collectgarbage() Mesa.sleep(1) end
      return state.n
    ]])
  end)

  it("gets every message of a crowd, in order", function()
    assert.equal(20000, run [[
      state.last = 0
      r:subscribe("many", function(payload)
        assert(tonumber(payload) == state.last + 1)
        state.last = state.last + 1
      end, function() state.active = true end)
      while not state.active do Mesa.sleep(1) end
      for i = 0, 19 do r:pipeline(function(p) for n = 1, 1000 do p:publish("many", i * 1000 + n) end end) end
      while state.last < 20000 do Mesa.sleep(1) end
      return state.last
    ]])
  end)

  it("is closed when the commands under way have been answered", function()
    assert.same({ "PONG", null, "closed", "CLOSED" }, { run [[
      local c = Mesa.redis.connect(os.getenv "REDIS_URL")
      c:ping(function(_, reply) state.pong = reply end)
      c:close()
      c:close()
      while not state.pong do Mesa.sleep(1) end
      return state.pong, c:ping()
    ]] })
    local ok, err = pcall(run, 'local c = Mesa.redis.connect(os.getenv "REDIS_URL") c:close() c:subscribe("x", print)')
    assert.is_false(ok)
    assert.matches("closed", tostring(err))
  end)

  it("goes away when nobody holds it", function()
    run 'r:ping()'
    local function connections()
      return tonumber(store:command("INFO", "clients"):match "connected_clients:(%d+)")
    end
    local before = connections()
    run [[
      for _ = 1, 20 do
        local c = Mesa.redis.connect(os.getenv "REDIS_URL")
        c:ping()
        c:subscribe("x", print)
        c:unsubscribe("x")
      end
    ]]
    assert.is_true(loop.wait(function()
      run "collectgarbage() collectgarbage()"
      return connections() == before
    end, 5000))
  end)

  it("may be left open, subscribed and waiting when the server stops", function()
    run 'r:subscribe("a", print) r:get("k", function() end)'
    client:send { op = 0, t = "RUN", d = { code = 'r:blpop("never", 0)' } }
    assert.is_true(loop.wait(function() return store:command("INFO", "clients"):find "blocked_clients:1" end, 5000))
    server:stop()
  end)
end)

describe("a program that only talks to Redis", function()
  local store

  before_each(function()
    store = redis.start { unix = true }
  end)

  after_each(function()
    store:stop()
  end)

  local function program(source)
    return harness.launch(source, { env = { REDIS_URL = store.uri, REDIS_SOCKET = store.unix } })
  end

  local function ends(started, code)
    assert.equal(code or 0, (started:wait_exit()))
    started.may_have_ended = true
    local output = started.process.stdout
    started:check_output()
    started:destroy()
    return output
  end

  it("ends when it has nothing left to do", function()
    local started = program [[
      local r = require "mesa".redis.connect(os.getenv "REDIS_URL")
      r:set("k", "v", function(err, reply) print("set", err, reply) end)
      r:get("k", function(err, reply)
        print("get", err, reply)
        print("waits", r:get("k"))
      end)
    ]]
    assert.equal("set\tnil\tOK\nget\tnil\tv\nwaits\tv\n", ends(started))
  end)

  it("connects to nothing when it is only checked", function()
    local checked = harness.run({ "--check", "examples/cluster/portal.lua" }, { env = { REDIS_URL = "redis://127.0.0.1:1" } })
    assert.equal(0, checked.exit_code)
    assert.is_nil(checked.stderr:find "lost")
  end)

  it("cannot wait while it loads", function()
    local started = program [[
      local r = require "mesa".redis.connect(os.getenv "REDIS_URL")
      r:get("k")
    ]]
    assert.equal(1, (started:wait_exit()))
    assert.matches("server.lua:2: .*cannot wait while a script loads", started.process.stderr)
    started:destroy()
  end)

  it("gives each listener of a channel a coroutine: one that fails or waits does not stop the others", function()
    local started = program [[
      local Mesa = require "mesa"
      local r = Mesa.redis.connect(os.getenv "REDIS_URL")
      local publisher = Mesa.redis.connect(os.getenv "REDIS_URL")
      local go
      r:subscribe("news", function(text)
        if text == "bad" then error "a listener fails" end
        if text == "slow" then print(Mesa.await(function(resolve) go = resolve end)) end
      end, function() error "active fails" end)
      r:subscribe("news", function(text)
        print("got " .. text)
        if text == "slow" then go "went on" r:close() publisher:close() end
      end, function() publisher:publish("news", "bad") publisher:publish("news", "slow") end)
    ]]
    assert.equal(0, (started:wait_exit()), started:output())
    assert.equal("got bad\ngot slow\nwent on\n", started.process.stdout)
    assert.matches("server.lua:6: a listener fails", started.process.stderr)
    assert.matches("server.lua:8: active fails", started.process.stderr)
    started.may_have_ended = true
    started:destroy()
  end)

  it("stays for a subscription, and ends without it", function()
    local started = program [[
      local r = require "mesa".redis.connect(os.getenv "REDIS_URL")
      r:subscribe("orders", function(payload)
        print(payload)
        r:unsubscribe("orders")
      end, function() print "ready" end)
    ]]
    started:stdout_contains "ready"
    assert.is_false(started.process:wait(100))
    store:command("PUBLISH", "orders", "go")
    assert.equal("ready\ngo\n", ends(started))
  end)

  it("stops at a signal", function()
    local started = program [[
      local r = require "mesa".redis.connect(os.getenv "REDIS_URL")
      r:subscribe("orders", print, function() print "ready" end)
    ]]
    started:stdout_contains "ready"
    started:stop()
  end)

  it("is told that there is no Redis", function()
    local started = program [[
      local r = require "mesa".redis.connect "redis://127.0.0.1:1"
      r:ping(function(err, reply, code) print(err, reply, code) end)
    ]]
    assert.equal("redis unavailable\tnil\tUNAVAILABLE\n", ends(started))
  end)

  it("connects to a Unix socket, a database and with a password", function()
    store:command("CONFIG", "SET", "requirepass", "se:cret/")
    store.own = nil
    store.options.password = "se:cret/"
    local started = program [[
      local Mesa = require "mesa"
      local port = tonumber(os.getenv "REDIS_URL":match ":(%d+)$")
      local socket = os.getenv "REDIS_SOCKET"
      for name, address in pairs {
        uri = "redis://:se%3Acret%2F@127.0.0.1:" .. port .. "/1",
        table = { host = "127.0.0.1", port = port, password = "se:cret/", db = 1 },
        socket = { path = socket, password = "se:cret/", db = 1 },
      } do
        Mesa.redis.connect(address):set(name, "here", function(err) if err then print(name, err) end end)
      end
    ]]
    assert.equal("", ends(started))
    store:command("SELECT", 1)
    assert.same({ "here", "here", "here" }, store:command("MGET", "uri", "table", "socket"))
  end)

  it("ends the subscriptions that a handler script made when it is loaded again", function()
    local handler = [[
      local Mesa = require "mesa"
      local r = Mesa.redis.connect(os.getenv "REDIS_URL")
      r:subscribe("c", function(payload) print("VERSION", payload) end, function() print "VERSION active" end)
      return function() end
    ]]
    local server = harness.start([[
      local Mesa = require "mesa"
      Mesa.new { port = 0, host = "127.0.0.1", scripts = { message = "on_message.lua" } }
    ]], { files = { ["on_message.lua"] = handler:gsub("VERSION", "one") }, env = { REDIS_URL = store.uri } })
    server:stdout_contains "one active"
    fs.write_atomically(server:path "on_message.lua", (handler:gsub("VERSION", "two")))
    server:stdout_contains "two active"
    assert.equal(1, store:command("PUBLISH", "c", "hello"))
    server:stdout_contains "two\thello"
    assert.is_nil(server.process.stdout:find "one\thello")
    server:stop()
  end)
end)
