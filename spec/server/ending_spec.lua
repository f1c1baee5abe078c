-- SIGTERM always ends the process, within --drain and five seconds, whatever scripts, peers and Redis do.
local fs = require "spec.support.fs"
local harness = require "spec.support.harness"
local redis = require "spec.support.redis"
local stream = require "spec.support.stream"

local LIMIT_MS = 5000

local FORCED = 4

-- Sends SIGTERM and waits for the end: in order, or with another status, within the limit (and what a loaded machine needs
-- beyond it).
local function ends(server, drain_ms, status)
  server:signal "sigterm"
  assert.equal(status or 0, (server:wait_exit(LIMIT_MS + (drain_ms or 0) + 2000)), server:output())
  server:check_output()
end

describe("SIGTERM ends the process", function()
  local server, others

  before_each(function() others = {} end)
  after_each(function()
    server:destroy()
    for _, other in ipairs(others) do other:destroy() end
  end)

  local function start(source, options)
    server = harness.start('local Mesa = require "mesa"\nlocal Message = Mesa.Message\n' .. source, options)
    return server
  end

  it("though the server that a Mesa.Client reconnects to says come back", function()
    others[1] = harness.start [[
      local Mesa = require "mesa"
      local server = Mesa.new { port = 0, host = "127.0.0.1", reconnect = { enabled = true, interval = 20 } }
      server:on("connection", function(client) print "came" client:on("disconnect", function() print "left" end) end)
    ]]
    start(([[
      local server = Mesa.new { port = 0, host = "127.0.0.1" }
      local peer = Mesa.Client "ws://127.0.0.1:%d"
      peer:on("disconnected", function(_, _, event) print("again " .. tostring(event.willAttemptReconnect)) end)
      server:on("disconnection", function() print(peer:connect()) end)
    ]]):format(others[1].port), { flags = { "--drain", "0.5" } })
    others[1]:stdout_contains "came"
    for _ = 1, 5 do server:join() end
    ends(server, 500)
    assert.matches("again false", server.process.stdout)
    assert.equal(1, select(2, others[1].process.stdout:gsub("came", "")))
  end)

  it("though beforeExit never calls exit, and closes the clients", function()
    start [[
      local server = Mesa.new { port = 0, host = "127.0.0.1", beforeExit = function() print "asked" end }
      Mesa.new { port = 0, host = "127.0.0.1", beforeExit = function() Mesa.sleep(60000) end }
      Mesa.new { port = 0, host = "127.0.0.1", beforeExit = function() error "in beforeExit" end }
    ]]
    local client = server:join()
    ends(server, 0, FORCED)
    client:expect_close(1001)
    assert.matches("has not come to its end in time", server.process.stderr)
  end)

  it("though peers never answer the close, and one does not read", function()
    start [[
      local server = Mesa.new { port = 0, host = "127.0.0.1", limits = { maxBackpressure = 64 * 1024 * 1024 } }
      server:on("connection", function(client) client:send(Message(0, ("x"):rep(20 * 1024 * 1024), "BIG"), true) end)
      server:on("request", function() Mesa.sleep(60000) end)
    ]]
    local deaf = server:connect(nil, { receive_buffer = 4096 })
    deaf:stop_reading()
    local wire = assert(stream.connect { port = server.port })
    wire:write "GET /slow HTTP/1.1\r\nHost: h\r\n\r\n"
    local half = assert(stream.connect { port = server.port })
    half:write "GET / HTTP/1.1\r\n"
    ends(server)
    wire:close()
    half:close()
  end)

  it("though handlers wait, timers run and luv handles are open", function()
    start [[
      local uv = require "luv"
      local server = Mesa.new { port = 0, host = "127.0.0.1" }
      uv.new_timer():start(10, 10, function() end)
      uv.new_tcp():bind("127.0.0.1", 0)
      uv.new_idle():start(function() end)
      Mesa.setInterval(function() Mesa.sleep(60000) end, 20)
      server:on("connection", function() Mesa.sleep(60000) end)
      server:on("disconnection", function() Mesa.sleep(60000) end)
      server:on("close", function() Mesa.sleep(60000) end)
    ]]
    server:join()
    ends(server)
  end)

  it("though work on the thread pool does not end", function()
    start [[
      local uv = require "luv"
      local server = Mesa.new { port = 0, host = "127.0.0.1" }
      server:on("listening", function()
        uv.new_work(function()
          local ffi = require "ffi"
          ffi.cdef "int poll(void *fds, unsigned long count, int ms);"
          ffi.C.poll(nil, 0, 60000)
        end, function() end):queue()
        print "working"
      end)
    ]]
    server:stdout_contains "working"
    ends(server, 0, FORCED)
  end)

  it("though a handler never returns", function()
    start [[
      local server = Mesa.new { port = 0, host = "127.0.0.1", limits = { scriptTime = 0 } }
      server:on("connection", function() print "spinning" while true do end end)
    ]]
    local wire = assert(stream.connect { port = server.port })
    wire:write("GET / HTTP/1.1\r\nHost: h\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
      .. "Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\n")
    server:stdout_contains "spinning"
    ends(server, 0, FORCED)
    wire:close()
  end)

  it("though the main script never returns", function()
    server = harness.launch 'print "loading"\nwhile true do end\n'
    server:stdout_contains "loading"
    ends(server, 0, FORCED)
  end)

  it("though Redis hangs, with a portal, a dispatcher and a server on it", function()
    local data = redis.start()
    start(([[
      local uri = "%s"
      local server = Mesa.new { port = 0, host = "127.0.0.1", redis = uri, sync = { enabled = true } }
      local portal = Mesa.Portal(uri)
      local dispatcher = Mesa.Dispatcher(uri, { sync = { enabled = true } })
      server:on("disconnection", function() dispatcher:dispatch(Message(0, {}, "LEFT"), { "a" }) end)
    ]]):format(data.uri), { flags = { "--drain", "0" } })
    harness.loop.wait(function() return data:command("SCARD", "available_portals_pool") == 1 end, 5000)
    server:join()
    data:freeze()
    local ok, err = pcall(ends, server)
    data:stop()
    assert(ok, err)
  end)

  it("though listeners close servers, and one calls os.exit", function()
    start [[
      local one = Mesa.new { port = 0, host = "127.0.0.1" }
      local two = Mesa.new { port = 0, host = "127.0.0.1" }
      one:on("disconnection", function() two:close() one:close() end)
      one:on("close", function() print "closed" two:close() end)
      two:on("close", function() print "closed" os.exit(0) end)
    ]]
    server:join()
    ends(server)
  end)
end)

describe("a program that ends by itself", function()
  -- The signal comes from a thread, while the process waits for it behind its last turn of the loop.
  for signal, number in pairs { SIGTERM = 15, SIGINT = 2, SIGHUP = 1 } do
    it("keeps its status when " .. signal .. " comes meanwhile", function()
      local server = harness.start(([[
        local Mesa = require "mesa"
        local uv = require "luv"
        uv.new_signal():start("sigterm", function() end)
        Mesa.new { port = 0, host = "127.0.0.1" }:on("connection", function()
          uv.new_work(function(signal)
            local ffi = require "ffi"
            ffi.cdef "int poll(void *fds, unsigned long count, int ms); int getpid(void); int kill(int pid, int signal);"
            ffi.C.poll(nil, 0, 300)
            ffi.C.kill(ffi.C.getpid(), signal)
            ffi.C.poll(nil, 0, 300)
          end, function() end):queue(%d)
          Mesa.setTimeout(function() os.exit(6) end, 1)
        end)
      ]]):format(number))
      server:connect()
      local status, by_signal = server:wait_exit()
      local output = server:output()
      server:destroy()
      assert.same({ 6, 0 }, { status, by_signal }, output)
    end)
  end
end)

describe("a program that is started without standard files", function()
  it("opens /dev/null in their place", function()
    local dir = fs.mkdtemp()
    fs.write(dir .. "/server.lua", [[
      local Mesa = require "mesa"
      local uv = require "luv"
      Mesa.new { port = 0, host = "127.0.0.1" }
      for i = 1, 300 do print(i) io.stderr:write "text\n" Mesa.log.warn("a line for the log", "spec") end
      for fd = 0, 2 do assert(uv.fs_fstat(fd).type ~= "unknown") end
      Mesa.setTimeout(function()
        local file = assert(io.open(arg[1], "w"))
        file:write "listening"
        file:close()
      end, 1)
    ]])
    for set = 1, 7 do
      local redirect = {}
      for fd = 0, 2 do
        if math.floor(set / 2 ^ fd) % 2 == 1 then redirect[#redirect + 1] = fd .. (fd == 0 and "<&-" or ">&-") end
      end
      local mark = ("%s/mark%d"):format(dir, set)
      local child = harness.process.spawn("/bin/sh", { args = { "-c",
        ('"%s" "%s/server.lua" "%s" %s & wait $!'):format(harness.binary(), dir, mark, table.concat(redirect, " ")) .. "\n" } })
      local found = harness.loop.wait(function() return fs.exists(mark) and fs.read(mark) == "listening" end, 15000)
      assert.is_true(found, table.concat(redirect, " "))
      local children = fs.read(("/proc/%d/task/%d/children"):format(child.pid, child.pid))
      os.execute("kill " .. children)
      assert.is_true(child:wait(10000))
      assert.equal(0, child.exit_code)
      child:destroy()
    end
    fs.remove(dir)
  end)
end)
