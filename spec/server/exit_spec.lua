-- os.exit: what was sent before goes out, no script runs behind it, and the process ends with the status.
local harness = require "spec.support.harness"
local redis = require "spec.support.redis"

describe("os.exit", function()
  local server, data
  after_each(function()
    server:destroy()
    if data then data:stop() end
    data = nil
  end)

  local function start(source, options)
    server = harness.start('local Mesa = require "mesa"\nlocal Message = Mesa.Message\n' .. source, options)
    return server
  end

  local function ended(status)
    assert.equal(status, (server:wait_exit()), server:output())
    server:check_output()
    assert.is_nil(server.process.stdout:find "behind")
    assert.is_nil(server.process.stderr:find "error", server:output())
  end

  it("in a handler sends what was sent before, to everybody, and ends with the status", function()
    start [[
      local server = Mesa.new { port = 0, host = "127.0.0.1" }
      server:on("connection", function(client)
        client:on("message", function()
          for n = 1, 8 do client:send(Message(0, { n = n, text = ("x"):rep(64 * 1024) }, "LAST"), true) end
          server:send(Message(0, {}, "ALL"))
          os.exit(3)
          print "behind"
        end)
        client:on("message", function() print "behind, another listener" end)
        client:on("disconnect", function() print "behind, disconnect" end)
      end)
    ]]
    local client, other = server:join(), server:join()
    for _ = 1, 5 do client:send { op = 0, t = "GO" } end
    for n = 1, 8 do assert.equal(n, client:expect("LAST", { timeout = 5000 }).d.n) end
    client:expect "ALL"
    other:expect "ALL"
    client:expect_close(1001)
    other:expect_close(1001)
    ended(3)
  end)

  for name, call in pairs {
    ["pcall"] = "pcall(os.exit, 4) print 'behind'",
    ["a coroutine of its own"] = "coroutine.wrap(function() os.exit(4) end)() print 'behind'",
    ["a resumed coroutine"] = "coroutine.resume(coroutine.create(function() os.exit(4) end)) while true do end",
    ["a C function"] = "pcall(table.sort, { 3, 1, 2 }, function() os.exit(4) end) print 'behind'",
    ["an error handler"] = "xpcall(error, function() os.exit(4) end) print 'behind'",
    ["a metamethod"] = "local t = setmetatable({}, { __index = function() os.exit(4) end }) print(t.x, 'behind')",
    ["a compiled loop"] = "for i = 1, 1e9 do if i == 1e6 then os.exit(4) end end print 'behind'",
    ["a wait"] = "Mesa.sleep(10) os.exit(4) print 'behind'",
    ["a timer"] = "Mesa.setTimeout(function() os.exit(4) print 'behind' end, 1) Mesa.sleep(60000) print 'behind'",
    ["a callback of luv"] = "local t = require 'luv'.new_timer() t:start(1, 0, function() os.exit(4) print 'behind' end)",
    ["a listener of an event it causes"] = "server:on('error', function() os.exit(4) end) server:_report('x', 'y') print 'behind'",
  } do
    it("in " .. name .. " ends the program there", function()
      start([[
        local server = Mesa.new { port = 0, host = "127.0.0.1" }
        server:on("connection", function(client)
          client:send(Message(0, {}, "LAST"), true)
          ]] .. call .. [[

        end)
      ]])
      local client = server:join()
      client:expect "LAST"
      client:expect_close(1001)
      assert.equal(4, (server:wait_exit()), server:output())
      server:check_output()
      assert.is_nil(server.process.stdout:find "behind")
    end)
  end

  for name, status in pairs { ["1e300"] = 1e300, ["256"] = 256, ["-129"] = -129, ["1.5"] = 1.5, ["0/0"] = 0 / 0, ["'ended'"] = "ended" } do
    it("refuses the status " .. name .. " at its line", function()
      start(([[
        local server = Mesa.new { port = 0, host = "127.0.0.1" }
        server:on("connection", function(client)
          os.exit(%s)
        end)
      ]]):format(name))
      server:join()
      server:log_contains(("server.lua:5: os.exit expects true, false or an integer from 0 to 255, got %s\n"):format(
        (tostring(status):gsub("%p", "%%%0"))))
      server:stop()
    end)
  end

  it("takes negative statuses as the system does, and text that is a number", function()
    for call, status in pairs { ["-1"] = 255, ["'7'"] = 7 } do
      start('Mesa.new { port = 0, host = "127.0.0.1" }:on("connection", function() os.exit(' .. call .. ") end)\n")
      server:connect()
      ended(status)
      server:destroy()
    end
  end)

  it("of beforeExit refuses a status at its line, and one server's is enough", function()
    start [[
      Mesa.new { port = 0, host = "127.0.0.1", beforeExit = function(_, exit) exit(1e300) end }
      Mesa.new { port = 0, host = "127.0.0.1", beforeExit = function(_, exit) exit(5) end }
      Mesa.new { port = 0, host = "127.0.0.1", beforeExit = function(_, exit) Mesa.sleep(50) exit(0) end }
    ]]
    server:signal "sigterm"
    assert.equal(5, (server:wait_exit()), server:output())
    assert.matches("error in beforeExit: %S*server.lua:3: exit expects true, false or an integer from 0 to 255, got 1e%+300",
      server.process.stderr)
  end)

  for name, source in pairs {
    ["a message handler"] = [[server:on("connection", function(c) c:on("message", function() os.exit(3) end) end)]],
    ["a handler that waited"] = [[server:on("connection", function(c) while not c.closed do Mesa.sleep(1) end os.exit(3) end)]],
    ["a disconnect handler"] = [[server:on("connection", function(c) c:on("disconnect", function() os.exit(3) end) end)]],
    ["a finalizer"] = [[KEPT = newproxy(true) getmetatable(KEPT).__gc = function() os.exit(3) end]],
    ["a listener of a connection that is cut at the end"] =
      [[server:on("disconnection", function() if cut then os.exit(3) end end) Mesa.setTimeout(function() cut = true end, 2500)]],
  } do
    it("called during a shutdown by " .. name .. " says the status", function()
      start('local server = Mesa.new { port = 0, host = "127.0.0.1" }\n' .. source, { flags = { "--drain", "0.2" } })
      local client = server:join(nil, { close_answer = not name:find "cut" })
      server:signal "sigterm"
      server:log_contains "shutting down"
      for _ = 1, 10 do client:send { op = 0, t = "GO" } end
      assert.equal(3, (server:wait_exit()), server:output())
      server:check_output()
      assert.is_nil(server.process.stderr:find " error ", server:output())
    end)
  end

  it("takes a boolean, and in beforeExit and close the last word", function()
    start [[ Mesa.new { port = 0, host = "127.0.0.1", beforeExit = function() os.exit(false) end } ]]
    server:signal "sigterm"
    ended(1)
    server:destroy()
    start [[ Mesa.new { port = 0, host = "127.0.0.1" }:on("close", function() os.exit(9) end) ]]
    server:signal "sigterm"
    ended(9)
  end)

  it("while the main script loads sends to Redis what was dispatched", function()
    data = redis.start()
    local channel = data:subscribe "ws"
    server = harness.launch(([[
      local Mesa = require "mesa"
      local uri = "%s"
      local dispatcher = Mesa.Dispatcher(uri, { sync = { enabled = true } })
      dispatcher:dispatch(Mesa.Message(0, {}, "ALL"))
      dispatcher:dispatch(Mesa.Message(0, {}, "LATER"), { "anna" })
      dispatcher:close()
      Mesa.new { port = 0, host = "127.0.0.1", redis = uri }
      pcall(os.exit, 5)
      print "behind"
    ]]):format(data.uri))
    assert.matches("ALL", channel:expect())
    ended(5)
    assert.equal('[{"op":0,"d":{},"t":"LATER"}]', data:command("HGET", "undelivered_messages", "anna"))
  end)

  it("in a handler sends to Redis what was sent, and leaves nobody online", function()
    data = redis.start()
    local channel = data:subscribe "ws"
    start(([[
      local server = Mesa.new { port = 0, host = "127.0.0.1", redis = "%s", sync = { enabled = true } }
      server:on("connection", function(client)
        client:authenticate(function(_, done) done(nil, { id = "anna" }) end)
        client:on("message", function()
          for n = 1, 100 do server:send(Message(0, { n = n }, "N"), { "bert" }) end
          server:send(Message(0, {}, "ALL"))
          server.redis:pipeline({ { "SET", "key", "value" } }, function() print "behind" end)
          os.exit(6)
        end)
      end)
    ]]):format(data.uri))
    local client = server:join()
    client:send { op = 2, d = {} }
    client:expect(22)
    harness.loop.wait(function() return data:command("SCARD", "connected_clients") == 1 end, 5000)
    client:send { op = 0, t = "GO" }
    assert.matches('"ALL"', channel:expect(function(text) return text:find "ALL" end))
    ended(6)
    assert.equal("value", data:command("GET", "key"))
    assert.equal(100, select(2, data:command("HGET", "undelivered_messages", "bert"):gsub('"N"', "")))
    assert.equal(0, data:command("SCARD", "connected_clients"))
    assert.equal("0", data:command("GET", "connected_clients_count"))
  end)

  it("is not held up by peers, Redis or threads that do not answer", function()
    data = redis.start()
    start(([[
      local uv = require "luv"
      local server = Mesa.new { port = 0, host = "127.0.0.1", redis = "%s" }
      server:on("connection", function(client)
        uv.new_work(function()
          local ffi = require "ffi"
          ffi.cdef "int poll(void *fds, unsigned long count, int ms);"
          ffi.C.poll(nil, 0, 60000)
        end, function() end):queue()
        client:on("message", function() server.redis:pipeline({ { "PING" } }, function() end) os.exit(7) end)
      end)
    ]]):format(data.uri))
    local client = server:join()
    client:stop_reading()
    data:freeze()
    local begin = harness.loop.now_ms()
    client:send { op = 0, t = "GO" }
    assert.equal(7, (server:wait_exit(10000)))
    assert.is_true(harness.loop.now_ms() - begin < 8000)
  end)
end)
