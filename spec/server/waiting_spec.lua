-- What handlers may count on while they wait: bounds, order, and what luv's callbacks can do.
local harness = require "spec.support.harness"

local loop = harness.loop

-- A server whose handler of WAIT waits for GO, which anybody may send; what else it gets it counts and answers.
local GATE = [[
  local Mesa = require "mesa"
  local server = Mesa.new { port = 0, host = "127.0.0.1", options = { concurrentMessages = %s } }
  local gate, running, most = {}, 0, 0
  local function pass()
    running = running + 1
    most = math.max(most, running)
    Mesa.await(function(resolve) gate[#gate + 1] = resolve end)
    running = running - 1
  end
  server:on("message", function(message, client)
    if message.type == "WAIT" then
      pass()
    elseif message.type == "GO" then
      local waiting = gate
      gate = {}
      for _, resolve in ipairs(waiting) do resolve() end
      client:send(Mesa.Message(0, { waited = #waiting, most = most }, "WENT"), true)
    else
      client:send(Mesa.Message(0, { n = message.data.n }, "GOT"), true)
    end
  end)
]]

describe("while a handler waits,", function()
  local server

  after_each(function()
    server:stop()
  end)

  local function go(client)
    client:send { op = 0, t = "GO" }
    return client:expect("WENT").d
  end

  -- Opens the gate until so many have gone through it.
  local function let_through(client, count)
    local seen, report = 0, nil
    assert.is_true(loop.wait(function()
      report = go(client)
      seen = seen + report.waited
      return seen >= count
    end, 10000))
    assert.equal(count, seen)
    return report
  end

  it("the messages behind it wait, and past some of them the client is not read from", function()
    server = harness.start(GATE:format "false")
    local client, other = server:join(), server:join()
    client:send { op = 0, t = "WAIT" }
    local filler, before = ("x"):rep(16 * 1024), server:rss()
    for n = 1, 2000 do client:send { op = 0, t = "N", d = { n = n, filler = filler } } end
    assert.equal(1, go(other).waited) -- the other one is served meanwhile
    for n = 1, 2000 do assert.equal(n, client:expect("GOT").d.n) end

    client:send { op = 0, t = "WAIT" }
    for n = 1, 2000 do client:send { op = 0, t = "N", d = { n = n, filler = filler } } end
    for _ = 1, 20 do
      other:send { op = 0, t = "N", d = { n = 0 } }
      other:expect "GOT"
    end
    assert.is_true(client.stream:pending_write_bytes() > 0)
    assert.is_true(harness.sanitized() or server:rss() - before < 16 * 2 ^ 20)
    let_through(other, 1)
    for n = 1, 2000 do assert.equal(n, client:expect("GOT").d.n) end
  end)

  it("no more than 64 messages of one client are handled at once with options.concurrentMessages", function()
    server = harness.start(GATE:format "true")
    local client, other = server:join(), server:join()
    for _ = 1, 200 do client:send { op = 0, t = "WAIT" } end
    assert.equal(64, let_through(other, 200).most)
  end)
end)

describe("a timer whose function fails", function()
  it("is an error event, and an interval goes on", function()
    local server = harness.start [[
      local Mesa = require "mesa"
      local server = Mesa.new { port = 0, host = "127.0.0.1" }
      server:on("error", function(err) print("error", err.code, err.message) end)
      local n, interval = 0, nil
      interval = Mesa.setInterval(function()
        n = n + 1
        if n == 4 then
          Mesa.clearInterval(interval)
          print "stopped"
        end
        if n % 2 == 0 then Mesa.sleep(1) end
        error("tick " .. n)
      end, 5)
    ]]
    server:stdout_contains "stopped"
    for n = 1, 4 do server:stdout_contains(("error\tSCRIPT\t[^\n]*tick %d\n"):format(n)) end
    server:log_contains "error in a timer: [^\n]*tick 4"
    server:stop()
  end)
end)

describe("luv's callbacks", function()
  it("may call everything, waiting included", function()
    local server = harness.start [[
      local Mesa = require "mesa"
      local uv = require "luv"
      local server = Mesa.new { port = 0, host = "127.0.0.1", path = "/ws" }
      server:on("request", function(request, response) response:json { path = request.path } end)
      server:on("connection", function(client)
        local timer = uv.new_timer()
        timer:start(1, 0, function()
          timer:close()
          client:send(Mesa.Message(0, { from = "client" }, "SENT"), true)
          server:send(Mesa.Message(0, { from = "server" }, "SENT"))
          Mesa.sleep(1)
          local response = assert(Mesa.http.get(("http://127.0.0.1:%d/page"):format(server.port)))
          client:send(Mesa.Message(0, { from = response.json.path }, "SENT"), true)
          Mesa.await(function(resolve) uv.new_work(function(n) return n + 1 end, resolve):queue(41) end)
          local own = Mesa.Client(("ws://127.0.0.1:%d/ws?own"):format(server.port), { autoConnect = false })
          if not client.request.query.own then
            assert(own:connect())
            own:disconnect()
          end
          Mesa.setTimeout(function() client:disconnect(4000, "done") end, 1)
        end)
      end)
    ]]
    local client = server:join "/ws"
    for _, from in ipairs { "client", "server", "/page" } do assert.equal(from, client:expect("SENT").d.from) end
    client:expect_close(4000)
    server:stop()
  end)

end)

describe("luv", function()
  -- What the program prints that does this in a handler; `timer` is a handle of it.
  local function printed(body)
    local program = harness.launch(([[
      local Mesa = require "mesa"
      local uv = require "luv"
      Mesa.setTimeout(function()
        local timer = uv.new_timer()
        %s
        timer:close()
      end, 0)
    ]]):format(body))
    assert.equal(0, program:wait_exit(10000), program:output())
    program:stop()
    return program.process.stdout
  end

  it("walks over the handles of scripts, and over none of the server's", function()
    assert.equal("true\n1\n", printed [[
      local seen = {}
      uv.walk(function(handle) seen[#seen + 1] = handle end)
      Mesa.sleep(1)
      uv.walk(function() Mesa.sleep(1) end)
      print(seen[1] == timer)
      print(#seen)
    ]])
  end)

  it("leaves the loop to the server", function()
    for _, name in ipairs { "run", "stop", "loop_close" } do
      local out = printed(("print(pcall(function() uv.%s() end))"):format(name))
      assert.matches(("^false\t%%S+%%.lua:5: uv%%.%s: the loop is the server's"):format(name), out)
    end
  end)
end)

describe("what scripts leave open and under way", function()
  it("does not keep a server from ending: handles of every kind, and work of the thread pool", function()
    local server = harness.lab(nil, { extra = [[
      local uv = require "luv"
      local nothing = function() end
      uv.new_timer():start(1000000, 1000, nothing)
      uv.new_pipe(false)
      uv.new_udp():bind("127.0.0.1", 0)
      uv.new_idle():start(nothing)
      uv.new_prepare():start(nothing)
      uv.new_check():start(nothing)
      uv.new_async(nothing)
      uv.new_signal():start("sigusr1", nothing)
      uv.new_fs_event():start(".", {}, nothing)
      uv.new_fs_poll():start(".", 1000, nothing)
      local tcp = uv.new_tcp()
      tcp:bind("127.0.0.1", 0)
      tcp:listen(8, nothing)
      uv.new_tcp():connect("127.0.0.1", tcp:getsockname().port, nothing)
      uv.getaddrinfo("localhost", nil, {}, nothing)
      uv.fs_stat(".", nothing)
      for _ = 1, 8 do
        uv.new_work(function() require("luv").sleep(100) end, function() print "worked" end):queue()
      end
      print "all open"
    ]] })
    server:stdout_contains "all open"
    server:stop()
  end)

  it("does not outlive the Lua state: a handle that closes when the thread pool has done its last", function()
    local server = harness.lab(nil, { env = { UV_THREADPOOL_SIZE = "1" }, extra = [[
      local uv = require "luv"
      uv.new_work(function() require("luv").sleep(300) end, function() end):queue()
      uv.new_fs_poll():start(".", 1000, function() end) -- its first look waits for the thread
      print "all open"
    ]] })
    server:stdout_contains "all open"
    server:stop()
  end)

  it("ends with the server: a hundred handlers that wait in every way", function()
    local server = harness.lab(nil, { extra = [[
      local uv = require "luv"
      local silent = uv.new_tcp()
      silent:bind("127.0.0.1", 0)
      silent:listen(128, function() end)
      local port = silent:getsockname().port
      local kept = {}
      local ways = {
        function() Mesa.sleep(3600000) end,
        function() Mesa.await(function(resolve) kept[#kept + 1] = resolve end) end,
        function() Mesa.await(function(resolve) kept[#kept + 1] = resolve end, 3600000) end,
        function() Mesa.http.get(("http://127.0.0.1:%d/"):format(port), { timeout = 0 }) end,
        function() Mesa.Client(("ws://127.0.0.1:%d/"):format(port), { autoConnect = false, timeout = 3600000 }):connect() end,
      }
      local waiting = 0
      server:on("message", function(message)
        if message.type ~= "WAIT" then return end
        waiting = waiting + 1
        local way = waiting % #ways + 1
        if waiting == 100 then print "all wait" end
        ways[way]()
        if way < #ways then print "it went on" end -- connections of clients are closed in order
      end)
    ]] })
    for _ = 1, 100 do server:join():send { op = 0, t = "WAIT" } end
    server:stdout_contains("all wait", 10000)
    server:stop()
    assert.is_nil(server.process.stdout:find("it went on", 1, true))
  end)
end)
