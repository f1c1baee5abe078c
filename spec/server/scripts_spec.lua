local harness = require "spec.support.harness"

-- A server whose on_message.lua has this body (sees message, client, server, Mesa, Message).
local function with_handler(body, config, main)
  return harness.start(nil, { files = {
    ["server.lua"] = ([[
      Mesa = require "mesa"
      Message = Mesa.Message
      server = Mesa.new { port = 0, host = "127.0.0.1", scripts = { message = "on_message.lua" }, %s }
      errors = {}
      server:on("error", function(err, client)
        errors[#errors + 1] = { where = "server", message = err.message, code = err.code,
          text = tostring(err), traceback = err.traceback, client = client and client.serverId }
      end)
      server:on("connection", function(client)
        client:on("error", function(err)
          errors[#errors + 1] = { where = "client", message = err.message }
        end)
        client:on("message", function(message)
          if message.type == "ERRORS" then client:send(Message(0, Mesa.array(errors), "ERRORS"), true) end
          if message.type == "PING" then client:send(Message(0, {}, "PONG"), true) end
        end)
      end)
      %s
    ]]):format(config or "", main or ""),
    ["on_message.lua"] = "return function(message, client, server)\n" .. body .. "\nend\n",
  } })
end

local function errors_of(client)
  client:send { op = 0, t = "ERRORS" }
  return client:expect("ERRORS").d
end

local function alive(client)
  client:send { op = 0, t = "PING" }
  client:expect "PONG"
end

describe("a handler that throws", function()
  local server, client

  after_each(function()
    server:stop()
  end)

  local function provoke(body)
    server = with_handler("if message.type == 'DO' then\n" .. body .. "\nend")
    client = server:join()
    client:send { op = 0, t = "DO" }
    alive(client)
  end

  it("costs that one event: the connection stays, and so do the others", function()
    provoke "error('thrown here')"
    client:send { op = 0, t = "DO" }
    alive(client)
    alive(server:join())
  end)

  it("is logged with file, line and traceback", function()
    provoke "error('thrown here')"
    server:log_contains "on_message%.lua:3: thrown here"
    server:log_contains "stack traceback"
  end)

  it("is reported to the client's error event, then to the server's", function()
    provoke "error('thrown here')"
    local errors = errors_of(client)
    assert.equal(2, #errors)
    assert.equal("client", errors[1].where)
    assert.equal("server", errors[2].where)
    assert.matches("on_message.lua:3: thrown here", errors[2].message, 1, true)
    assert.equal(errors[2].message, errors[2].text)
    assert.matches("stack traceback", errors[2].traceback, 1, true)
    assert.is_string(errors[2].client)
  end)

  it("does not tell the client anything", function()
    provoke "error('thrown here')"
    assert.equal(0, #client.inbox)
  end)

  for what, body in pairs {
    ["nil"] = "error()",
    ["a table"] = "error { code = 5 }",
    ["a table with a message"] = "error { message = 'inside' }",
    ["an object whose __tostring throws"] = "error(setmetatable({}, { __tostring = function() error 'again' end }))",
    ["a number"] = "error(5)",
    ["a runtime error"] = "local t = nil; return t.field",
    ["a stack overflow"] = "local function f() return 1 + f() end return f()",
    ["an error in a deeper coroutine"] = "local co = coroutine.wrap(function() error 'deep' end) co()",
  } do
    it("may throw " .. what, function()
      provoke(body)
      assert.equal(2, #errors_of(client))
    end)
  end

  it("may throw in the error event without end", function()
    server = harness.lab({}, { extra = [[
      server:on("error", function() error("in the error listener") end)
      server:on("connection", function(client)
        client:on("error", function() error("in the client's error listener") end)
      end)
    ]] })
    client = server:join()
    client:send { op = 0, t = "THROW" }
    client:send { op = 0, t = "ECHO" }
    client:expect "ECHO"
    server:log_contains "in the error listener"
  end)

  it("does not keep the other listeners from running", function()
    server = harness.lab({}, { extra = [[
      server:on("connection", function(client)
        client:on("message", function(message) if message.type == "TRY" then error("first") end end)
        client:on("message", function(message)
          if message.type == "TRY" then client:send(Message(0, {}, "SECOND"), true) end
        end)
      end)
    ]] })
    client = server:join()
    client:send { op = 0, t = "TRY" }
    client:expect "SECOND"
  end)
end)

describe("a connection handler that throws", function()
  it("leaves the connection open and reports it", function()
    local server = harness.lab({}, { extra = [[server:on("connection", function() error("at the door") end)]] })
    local client = server:join()
    client:send { op = 0, t = "ECHO" }
    client:expect "ECHO"
    server:log_contains "at the door"
    server:stop()
  end)
end)

describe("a handler that returns nonsense or yields where it may not", function()
  local server, client

  after_each(function()
    server:stop()
  end)

  for what, body in pairs {
    ["returns values of every kind"] = "return false, {}, function() end, 5, 'x'",
    ["yields by itself"] = "coroutine.yield('out of the blue')",
    ["yields inside a sort"] = "table.sort({ 3, 1, 2 }, function(a, b) Mesa.sleep(1) return a < b end)",
    ["sleeps inside a coroutine of its own"] = "coroutine.wrap(function() Mesa.sleep(10) end)()",
    ["sleeps inside a gsub"] = "('abc'):gsub('.', function() Mesa.sleep(1) end)",
    ["sleeps for nonsense"] = "Mesa.sleep('long')",
  } do
    it("that " .. what .. " harms nobody", function()
      server = with_handler("if message.type == 'DO' then\n" .. body .. "\nend")
      client = server:join()
      for _ = 1, 3 do
        client:send { op = 0, t = "DO" }
      end
      local other = server:join()
      alive(other)
      client:send { op = 0, t = "PING" }
      client:expect("PONG", { timeout = 8000 })
    end)
  end
end)

describe("a handler that waits", function()
  local server

  after_each(function()
    server:stop()
  end)

  it("holds up nobody else", function()
    server = with_handler [[
      if message.type == "SLOW" then
        Mesa.await(function(resolve)
          client:send(Message(0, {}, "WAITS"), true)
          go = resolve
        end)
        client:send(Message(0, {}, "SLOW_DONE"), true)
      elseif message.type == "GO" then
        go()
      end
    ]]
    local slow, quick = server:join(), server:join()
    slow:send { op = 0, t = "SLOW" }
    slow:expect "WAITS"
    for _ = 1, 20 do
      alive(quick)
    end
    assert.equal(0, #slow.inbox)
    quick:send { op = 0, t = "GO" }
    slow:expect "SLOW_DONE"
  end)

  it("finds its client closed when the peer has left meanwhile", function()
    server = with_handler [[
      if message.type ~= "SLOW" then return end
      print("begun")
      Mesa.sleep(100)
      print("sent", client:send(Message(0, {}), true))
    ]]
    local client = server:join()
    client:send { op = 0, t = "SLOW" }
    server:stdout_contains "begun"
    client:drop()
    server:stdout_contains "sent\tnil\tclosed"
  end)

  it("may wait many times at once", function()
    server = with_handler("if message.type == 'SLOW' then Mesa.sleep(50) client:send(Message(0, message.data, 'SLOW_DONE'), true) end")
    local clients = {}
    for i = 1, 100 do
      clients[i] = server:join()
      clients[i]:send { op = 0, t = "SLOW", d = { i = i } }
    end
    for i, client in ipairs(clients) do
      assert.equal(i, client:expect("SLOW_DONE").d.i)
    end
  end)

  it("before it listens for messages misses none of them, and gets them in order", function()
    server = harness.start [[
      local Mesa = require "mesa"
      local server = Mesa.new { port = 0, host = "127.0.0.1" }
      server:on("connection", function(client)
        Mesa.sleep(150)
        client:on("message", function(message) client:send(message, true) end)
      end)
    ]]
    local client = server:join()
    for n = 1, 20 do
      client:send { op = 0, t = "EARLY", d = { n = n } }
    end
    for n = 1, 20 do
      assert.equal(n, client:expect("EARLY").d.n)
    end
  end)
end)

describe("a handler that disconnects", function()
  local server

  after_each(function()
    server:stop()
  end)

  it("everyone in the middle of a broadcast, itself included, crashes nothing", function()
    server = with_handler([[
      if message.type ~= "END" then return end
      for other in server:clients() do
        server:send(Message(0, {}, "LAST"))
        other:disconnect(4000)
      end
      local ok, err = client:send(Message(0, {}, "TOO_LATE"), true)
      assert(ok == nil and err == "closed")
    ]])
    local clients = {}
    for i = 1, 20 do
      clients[i] = server:join()
    end
    clients[7]:send { op = 0, t = "END" }
    for _, client in ipairs(clients) do
      client:expect_close(4000)
      for _, message in ipairs(client:drain()) do
        assert.equal("LAST", message.t)
      end
    end
    local probe = server:join()
    assert.same({}, errors_of(probe))
  end)

  it("everyone from the middleware that sees a message sent crashes nothing", function()
    server = with_handler([[if message.type == "SAY" then server:send(Message(0, {}, "SAID")) end]], "", [[
      server:use(function()
        return { onMessageSent = function(m, recipients)
          if m.type == "SAID" then for _, c in ipairs(recipients) do c:disconnect(4001) end end
        end }
      end)
    ]])
    local clients = { server:join(), server:join(), server:join() }
    clients[2]:send { op = 0, t = "SAY" }
    for _, client in ipairs(clients) do
      client:expect_close(4001)
    end
    alive(server:join())
  end)

  it("its client in the connection event closes it behind hello", function()
    server = harness.lab({}, { extra = [[
      server:on("connection", function(client) if client.request.path == "/out" then client:disconnect(4002, "out") end end)
    ]] })
    local client = server:connect "/out"
    assert.equal(10, client:hello().op)
    assert.equal("out", client:expect_close(4002))
    server:join("/in"):expect_silence(50)
  end)

  it("a client while its authentication waits makes the late answer have no effect", function()
    server = harness.lab({}, { extra = [[
      server:on("message", function(message)
        if message.type == "OUT" then for other in server:clients() do other:disconnect(4003) end end
      end)
    ]] })
    local client = server:join()
    client:send { op = 2, d = { id = "u", wait = 1000 } }
    client:send { op = 0, t = "OUT" }
    client:expect_close(4003)
    harness.loop.sleep(1100)
    local probe = server:join()
    probe:send { op = 0, t = "CONNECTIONS_OF", d = { id = "u" } }
    assert.equal(0, probe:expect("CONNECTIONS_OF").d.count)
  end)
end)

describe("a client object kept after its peer left", function()
  local server, probe, leaver

  before_each(function()
    server = harness.start "spec/server/fixtures/keeper.lua"
    probe, leaver = server:join(), server:join()
    leaver:send { op = 0, t = "KEEP_ME" }
    leaver:close()
    probe:expect "LEFT"
  end)

  after_each(function()
    server:stop()
  end)

  it("reports 'closed' and never raises", function()
    probe:send { op = 0, t = "SEND_TO_KEPT" }
    assert.same({ ok = false, err = "closed" }, probe:expect("KEPT_RESULT").d)
  end)

  it("stays readable and may be used in every way", function()
    probe:send { op = 0, t = "USE_KEPT" }
    local used = probe:expect("USED").d
    assert.is_true(used.closed)
    assert.equal("/", used.path)
    assert.equal("mine", used.label)
    assert.equal(22, #used.serverId)
    for _, method in ipairs { "send", "disconnect", "disconnect_code", "authenticate", "on", "emit" } do
      assert.is_nil(used[method].raised, method)
    end
  end)

  it("may be forgotten", function()
    probe:send { op = 0, t = "FORGET" }
    probe:expect "FORGOTTEN"
    probe:send { op = 0, t = "SEND_TO_KEPT" } -- throws in the script: nothing is kept
    server:log_contains "keeper%.lua:%d+:"
  end)
end)
