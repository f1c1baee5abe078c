local harness = require "spec.support.harness"

-- Runs `body` (sees server, Mesa, Message, out) once the server listens and returns what it put into `out`.
local function run_inside(body, config)
  local server = harness.start(([[
    local Mesa = require "mesa"
    local Message = Mesa.Message
    local server = Mesa.new { port = 0, host = "127.0.0.1", %s }
    local out = {}
    local function raised(fn, ...)
      local ok, err = pcall(fn, ...)
      return not ok and tostring(err) or nil
    end
    server:on("message", function(_, client) client:send(Message(0, out, "OUT"), true) end)
    %s
  ]]):format(config or "", body))
  local client = server:join()
  client:send { op = 0, t = "GIVE" }
  local message = client:expect "OUT"
  server:stop()
  return message.d, message.raw
end

describe("emitters", function()
  it("call listeners in the order of their registration, once-listeners once", function()
    local out = run_inside [[
      server:on("custom", function(a, b) out[#out + 1] = "on " .. a .. b end)
      server:once("custom", function() out[#out + 1] = "once" end)
      server:on("custom", function() out[#out + 1] = "second" end)
      server:emit("custom", 1, 2)
      server:emit("custom", 3, 4)
      assert(server:emit("nobody listens") == false)
    ]]
    assert.same({ "on 12", "once", "second", "on 34", "second" }, out)
  end)

  it("let off remove one listener, a once-listener, and all of an event", function()
    local out = run_inside [[
      local function listener() out[#out + 1] = "removed" end
      server:on("a", listener) server:off("a", listener) server:emit("a")
      server:once("a", listener) server:off("a", listener) server:emit("a")
      server:on("a", listener) server:on("a", listener) server:off("a") server:emit("a")
      server:off("a", listener)
      out[#out + 1] = "end"
    ]]
    assert.same({ "end" }, out)
  end)

  it("contain an error in a listener and call the rest", function()
    local out = run_inside [[
      server:on("error", function(err) out[#out + 1] = err.code end)
      server:on("a", function() error("bad") end)
      server:on("a", function() out[#out + 1] = "rest" end)
      server:emit("a")
    ]]
    assert.same({ "SCRIPT", "rest" }, out)
  end)

  it("may be changed while they emit: it counts from the next event", function()
    local out = run_inside [[
      local function last() out[#out + 1] = "last" end
      server:on("a", function()
        out[#out + 1] = "first"
        server:off("a", last)
        server:on("b", function() out[#out + 1] = "added" end)
        server:emit("b")
      end)
      server:on("a", last)
      server:emit("a")
      out[#out + 1] = "-"
      server:emit("a")
    ]]
    assert.same({ "first", "added", "last", "-", "first", "added", "added" }, out)
  end)

  it("raise at the caller on misuse", function()
    local out = run_inside [[
      out.a = raised(server.on, server, 1, print)
      out.b = raised(server.on, server, "x", "not a function")
      out.c = raised(function() server:on("x") end)
    ]]
    assert.is_string(out.a)
    assert.is_string(out.b)
    assert.matches("server.lua:%d+:", out.c)
  end)

  it("carry custom events of a client", function()
    local server = harness.lab({}, { extra = [[
      server:on("connection", function(client)
        client:on("custom", function(text) client:send(Message(0, text, "CUSTOM"), true) end)
        client:emit("custom", "hello")
      end)
    ]] })
    assert.equal("hello", server:join():expect("CUSTOM").d)
    server:stop()
  end)
end)

describe("server events", function()
  it("tell listening with the bound port, connection, message, disconnection and close", function()
    local server = harness.start [[
      local Mesa = require "mesa"
      local server = Mesa.new { port = 0, host = "127.0.0.1" }
      server:on("listening", function() print("event listening " .. server.port) end)
      server:on("connection", function(client) print("event connection " .. client.request.path) end)
      server:on("message", function(message, client) print("event message " .. message.type .. " " .. client.serverId) end)
      server:on("disconnection", function(client, event) print("event disconnection " .. client.serverId .. " " .. event.code) end)
      server:on("close", function() print("event close") end)
    ]]
    assert.equal(server.port, tonumber(server:stdout_contains "event listening (%d+)"))
    local client = server:join "/path"
    client:send { op = 0, t = "SAY" }
    server:stdout_contains "event connection /path"
    local id = server:stdout_contains "event message SAY (%S+)"
    client:close(4005)
    assert.equal(id, (server:stdout_contains "event disconnection (%S+) 4005"))
    server:stop()
    assert.matches("event close", server.process.stdout)
  end)

  it("close everybody with 1001 on server:close()", function()
    local server = harness.lab({}, { extra = [[
      server:on("message", function(message) if message.type == "CLOSE" then server:close() end end)
      server:on("close", function() print("closed") end)
      Mesa.setInterval(function() end, 1000)
    ]] })
    local first, second = server:join(), server:join()
    first:send { op = 0, t = "CLOSE" }
    first:expect_close(1001)
    second:expect_close(1001)
    server:stdout_contains "closed"
    assert.is_nil((server:try_connect "/"))
    server.may_have_ended = true
    server:stop()
  end)
end)

describe("a server made after the main script has returned", function()
  it("raises where it is made, and harms nobody", function()
    local server = harness.lab({}, { extra = "Mesa.setTimeout(function() Mesa.new { port = 0 } end, 1)" })
    server:log_contains "while the main script runs"
    server:join()
    server:stop()
  end)
end)

describe("middleware", function()
  it("sees what client:send sends to the user, and not what goes to one connection only", function()
    local server = harness.lab({}, { extra = [[
      server:use(function()
        return { onMessageSent = function(message, clients, here)
          print("sent " .. message.type .. " to " .. #clients .. " " .. tostring(here))
        end }
      end)
    ]] })
    local first, second = server:join(), server:join()
    for _, client in ipairs { first, second } do
      client:send { op = 2, d = { id = "u1" } }
      client:expect(22)
    end
    first:send { op = 0, t = "SEND_OWN", d = { directly = true, message = { t = "ALONE" } } }
    first:expect "ALONE"
    first:send { op = 0, t = "SEND_OWN", d = { message = { t = "SHARED" } } }
    second:expect "SHARED"
    server:stdout_contains "sent SHARED to 2 true"
    assert.is_nil(server.process.stdout:find("sent ALONE", 1, true))
    server:stop()
  end)

  it("hears of everything, several in the order of use", function()
    local server = harness.lab({}, { extra = [[
      local function observer(name)
        return function(given)
          assert(given == server)
          return {
            onConnection = function() print(name .. " connection") end,
            onAuthenticated = function(client) print(name .. " authenticated " .. client.id) end,
            onMessageReceived = function(message, client) print(name .. " received " .. message.type .. " " .. tostring(client.id)) end,
            onMessageSent = function(message, clients) print(name .. " sent " .. tostring(message.type) .. " " .. #clients) end,
            onError = function(err, client) print(name .. " error " .. err.code .. " " .. tostring(client ~= nil)) end,
            onDisconnection = function(client, event) print(name .. " disconnection " .. client.id .. " " .. event.code) end,
          }
        end
      end
      server:use(observer "first")
      server:use(observer "second")
    ]] })
    local client = server:login "ann"
    local other = server:join()
    client:send { op = 0, t = "SEND", d = { message = { t = "NOTE" } } }
    other:expect "NOTE"
    client:send { op = 0, t = "THROW" }
    client:close(4006)
    for _, name in ipairs { "first", "second" } do
      server:stdout_contains(name .. " connection")
      server:stdout_contains(name .. " authenticated ann")
      server:stdout_contains(name .. " received SEND ann")
      server:stdout_contains(name .. " sent NOTE 2")
      server:stdout_contains(name .. " error SCRIPT true")
      server:stdout_contains(name .. " disconnection ann 4006")
    end
    local first, second = server.process.stdout:find "first connection", server.process.stdout:find "second connection"
    assert.is_true(first < second)
    server:stop()
  end)

  it("that throws costs nothing but its own call", function()
    local server = harness.lab({}, { extra = [[
      server:use(function() return { onMessageReceived = function() error("in middleware") end } end)
      server:use(function() return { onMessageReceived = function() print("second ran") end } end)
    ]] })
    local client = server:join()
    client:send { op = 0, t = "ECHO" }
    client:expect "ECHO"
    server:stdout_contains "second ran"
    server:log_contains "in middleware"
    server:stop()
  end)

  it("that is none raises where it is used", function()
    local out = run_inside [[
      out.number = raised(server.use, server, 5)
      out.nothing = raised(server.use, server, function() end)
      out.unknown = raised(server.use, server, function() return { onMesage = print } end)
    ]]
    assert.is_string(out.number)
    assert.is_string(out.nothing)
    assert.matches("onMesage", out.unknown, 1, true)
  end)
end)

describe("messages", function()
  it("have opcode, data, type, options and can be serialized", function()
    local out = run_inside [[
      local m = Message(0, { a = 1 }, "T", { sync = false })
      out.opcode, out.data, out.type, out.sync, out.text = m.opcode, m.data, m.type, m.options.sync, m:serialize()
    ]]
    assert.equal(0, out.opcode)
    assert.same({ a = 1 }, out.data)
    assert.equal("T", out.type)
    assert.is_false(out.sync)
    local json = require("cjson").decode(out.text)
    assert.same({ 0, { a = 1 }, "T" }, { json.op, json.d, json.t })
  end)

  it("raise at the caller when they cannot be JSON", function()
    local out = run_inside [[
      local loop = {} loop.loop = loop
      for name, value in pairs { fn = print, loop = loop, nan = 0 / 0, inf = math.huge, thread = coroutine.create(print) } do
        out[name] = raised(function() server:send(Message(0, { value }, "T")) end)
      end
      out.utf8 = raised(function() server:send(Message(0, "\255", "T")) end)
    ]]
    for _, name in ipairs { "fn", "loop", "nan", "inf", "thread", "utf8" } do
      assert.is_string(out[name], name)
    end
  end)

  it("of the wrong kind raise at the caller's line", function()
    local out = run_inside [[
      out.op = raised(function() local _ = Message("x", {}) end)
      out.type = raised(function() local _ = Message(0, {}, 5) end)
      out.send = raised(function() server:send("text") end)
      out.nothing = raised(function() server:send() end)
      out.ids = raised(function() server:send(Message(0, {}), print) end)
    ]]
    for _, name in ipairs { "op", "type", "send", "nothing", "ids" } do
      assert.matches("server.lua:%d+:", out[name] or "did not raise: " .. name)
    end
  end)

  it("are gone through by pairs as the table of their fields, whether or not anybody has read the data", function()
    local server = harness.start [[
      local Mesa = require "mesa"
      local server = Mesa.new { port = 0, host = "127.0.0.1" }
      server:on("message", function(message, client)
        local fields = {}
        for key, value in pairs(message) do fields[key] = value end
        client:send(Mesa.Message(0, fields, "FIELDS"), true)
      end)
    ]]
    local client = server:join()
    for _ = 1, 3 do -- the server learns that the data are not read before
      client:send { op = 0, t = "UNREAD", d = { text = "hello" } }
      assert.same({ opcode = 0, type = "UNREAD", data = { text = "hello" } }, client:expect("FIELDS").d)
    end
    server:stop()
  end)

  it("take nothing that a script puts into their private field for data", function()
    local out = run_inside [[
      for name, value in pairs { file = io.stdout, proxy = newproxy(), number = 1, text = "{", server = server } do
        local m = Message(0, nil, "T")
        rawset(m, "data", nil)
        m._raw = value
        local text = m:serialize()
        out[name] = tostring(m.data) .. " " .. text
      end
    ]]
    for _, name in ipairs { "file", "proxy", "number", "text", "server" } do
      assert.equal('nil {"op":0,"t":"T"}', out[name], name)
    end
  end)

  it("distinguish [] from {} and carry null", function()
    local _, raw = run_inside [[
      out.array, out.object, out.null, out.nested = Mesa.array {}, {}, Mesa.null, { Mesa.array { Mesa.null, 1 } }
    ]]
    assert.matches('"array":[]', raw, 1, true)
    assert.matches('"object":{}', raw, 1, true)
    assert.matches('"null":null', raw, 1, true)
    assert.matches('"nested":[[null,1]]', raw, 1, true)
  end)

  it("share null with lua-cjson", function()
    assert.is_true(run_inside("out.same = Mesa.null == require('cjson').null").same)
  end)
end)

describe("a client's fields", function()
  it("are the script's, whatever it calls them, also while messages wait", function()
    local server = harness.start [[
      local Mesa = require "mesa"
      local server = Mesa.new { port = 0, host = "127.0.0.1" }
      server:on("message", function(message, client)
        if message.type == "WAIT" then
          client._queue = { 1, 2, 3 }
          Mesa.sleep(50)
          client._queue = { "mine" }
        end
        client:send(Mesa.Message(0, message.data, "GOT"), true)
      end)
    ]]
    local client = server:join()
    client:send { op = 0, t = "WAIT", d = { n = 1 } }
    for n = 2, 5 do client:send { op = 0, t = "GO", d = { n = n } } end
    for n = 1, 5 do assert.equal(n, client:expect("GOT").d.n) end
    server:stop()
  end)
end)

describe("timers and sleeping", function()
  it("run once, repeat, pass arguments and can be stopped", function()
    local server = harness.start [[
      local Mesa = require "mesa"
      Mesa.new { port = 0, host = "127.0.0.1" }
      Mesa.setTimeout(function(a, b) print("timeout", a, b) end, 10, "x", "y")
      local stopped = Mesa.setTimeout(function() print("must not run") end, 20)
      Mesa.clearTimeout(stopped)
      Mesa.clearTimer(nil)
      local n, interval = 0, nil
      interval = Mesa.setInterval(function()
        n = n + 1
        print("tick", n)
        if n == 3 then Mesa.clearInterval(interval) Mesa.setTimeout(print, 60, "done") end
      end, 10)
      Mesa.setTimeout(function() error("in a timer") end, 5)
      Mesa.setTimeout(function() Mesa.sleep(20) print("slept") end, 5)
    ]]
    server:stdout_contains "done"
    server:stdout_contains "timeout\tx\ty"
    server:stdout_contains "slept"
    assert.is_nil(server.process.stdout:find("must not run", 1, true))
    assert.is_nil(server.process.stdout:find("tick\t4", 1, true))
    server:log_contains "server%.lua:%d+: in a timer"
    server:stop()
  end)

  it("raise for nonsense, and sleeping outside a handler raises", function()
    local out = run_inside [[
      out.fn = raised(Mesa.setTimeout, "x", 1)
      out.ms = raised(Mesa.setTimeout, print, -1)
      out.sleep = raised(Mesa.sleep, 1)
    ]]
    assert.is_string(out.fn)
    assert.is_string(out.ms)
    assert.is_string(out.sleep)
  end)

  it("that still run do not keep the process from ending", function()
    local server = harness.lab({}, { extra = "Mesa.setInterval(function() end, 1)" })
    server:stop()
  end)
end)

describe("the loop", function()
  it("is luv's too, and what a script left open does not keep the process from ending", function()
    local server = harness.lab({}, { extra = [[
      local uv = require "luv"
      local timer = uv.new_timer()
      timer:start(10, 0, function() print("luv timer") end)
      local tcp = uv.new_tcp()
      tcp:bind("127.0.0.1", 0)
      tcp:listen(1, function() end)
      uv.new_timer():start(100000, 0, function() end)
    ]] })
    server:stdout_contains "luv timer"
    server:stop()
  end)

  it("survives an error in a luv callback", function()
    local server = harness.lab({}, { extra = [[
      local timer = require("luv").new_timer()
      timer:start(10, 0, function() print("about to fail") error("in a luv callback") end)
    ]] })
    server:stdout_contains "about to fail"
    server:log_contains "in a luv callback"
    local client = server:join()
    client:send { op = 0, t = "ECHO" }
    client:expect "ECHO"
    server:stop()
  end)
end)
