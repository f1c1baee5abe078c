-- Events whose listeners wait, and errors in functions that no server calls.
local harness = require "spec.support.harness"

describe("events", function()
  local server
  local function start(...)
    server = harness.start(...)
    return server
  end
  after_each(function()
    if server then server:stop() end
    server = nil
  end)

  -- Runs a program to its end; what it printed, and its log.
  local function run(source)
    local program = harness.launch(source)
    assert.equal(0, program:wait_exit(20000), program:output())
    local output, log = program.process.stdout, program.process.stderr
    program:stop()
    return output, log
  end

  describe("op 2 while the connection handlers wait", function()
    local function waiting(authenticate_first)
      return ([[
        local Mesa = require "mesa"
        local server = Mesa.new { port = 0, host = "127.0.0.1", authentication = { timeout = 5000 } }
        server:on("message", function(message, client)
          client:send(Mesa.Message(0, { op = message.opcode, id = client.id, data = message.data }, "GOT"), true)
        end)
        server:on("connection", function(client)
          local function authenticate()
            client:authenticate(function(data, done) done(nil, { id = data.token }) end)
          end
          if %s then authenticate() end
          Mesa.await(function(resolve) server:once("go", resolve) end)
          if %s then authenticate() end
        end)
        local go = Mesa.new { server = server, path = "/go" }
        go:on("connection", function(client)
          Mesa.sleep(50)
          server:emit "go"
        end)
      ]]):format(tostring(authenticate_first), tostring(authenticate_first == false))
    end

    for _, first in ipairs { false, true } do
      it("is kept for the authenticator that was set " .. (first and "before" or "after") .. ", in order with messages", function()
        start(waiting(first))
        local client = server:join()
        client:send { op = 0, d = 1 }
        client:send { op = 2, d = { token = "ann" } }
        client:send { op = 0, d = 2 }
        server:join "/go"
        assert.same({ op = 0, data = 1 }, client:expect(0).d)
        assert.equal("ann", client:expect(22).d.id)
        assert.same({ op = 0, id = "ann", data = 2 }, client:expect(0).d)
      end)
    end

    it("is a message behind them when there is none", function()
      start(waiting(nil))
      local client = server:join()
      client:send { op = 2, d = { token = "ann" } }
      server:join "/go"
      assert.same({ op = 2, data = { token = "ann" } }, client:expect(0).d)
    end)

    it("is forgotten when the client leaves first", function()
      start(waiting(false))
      local client = server:join()
      client:send { op = 2, d = { token = "ann" } }
      client:close()
      server:join "/go"
      local other = server:join()
      other:send { op = 2, d = { token = "bob" } }
      server:join "/go"
      assert.equal("bob", other:expect(22).d.id)
    end)
  end)

  describe("a listener registered with once", function()
    it("is called once when an earlier listener waits, or emits again", function()
      assert.equal("alarm 3\nconnected 1\n", run [[
        local Mesa = require "mesa"
        local server = Mesa.new { port = 0, host = "127.0.0.1" }
        server:on("alarm", function(n) if n < 3 then server:emit("alarm", n + 1) end end)
        server:once("alarm", function(n) print("alarm " .. n) end)
        server:emit("alarm", 1)
        local connected = 0
        server:on("connection", function(client)
          Mesa.await(function(resolve) server:on("go", resolve) end)
        end)
        server:once("connection", function() connected = connected + 1 end)
        server:on("listening", function(port)
          for _ = 1, 3 do
            local client = Mesa.Client("ws://127.0.0.1:" .. port, { autoConnect = false })
            assert(client:connect())
          end
          Mesa.sleep(50)
          server:emit "go"
          Mesa.sleep(50)
          print("connected " .. connected)
          os.exit(0)
        end)
      ]])
    end)
  end)

  it("of reloads run in coroutines, whether they succeed or fail", function()
    start("server.lua", { files = {
      ["server.lua"] = [[
        local Mesa = require "mesa"
        local server = Mesa.new { port = 0, host = "127.0.0.1", scripts = { message = "on_message.lua" } }
        server:on("reload", function(event) Mesa.sleep(1) print("reloaded " .. event.version) end)
        server:on("error", function(err) Mesa.sleep(1) print("failed " .. err.code) end)
        server:use(function() return { onError = function(err) Mesa.sleep(1) print("onError " .. err.code) end } end)
      ]],
      ["on_message.lua"] = "return function(message) end",
    } })
    server:write_file("on_message.lua", "return function() end")
    server:stdout_contains "reloaded 2"
    server:write_file("on_message.lua", "return {")
    server:stdout_contains "failed RELOAD"
    server:stdout_contains "onError RELOAD"
  end)

  it("tell errors in luv's callbacks and in its thread pool with file and line", function()
    local source = [[
      local Mesa = require "mesa"
      local uv = require "luv"
      local server = Mesa.new { port = 0, host = "127.0.0.1" }
      local errors = 0
      server:on("error", function(err)
        print(err.code, err.message)
        errors = errors + 1
        if errors == 3 then print(Mesa.await(function(resolve) Mesa.setTimeout(resolve, 1, "waited") end)) os.exit(0) end
      end)
      server:on("listening", function()
        local timer = uv.new_timer()
        timer:start(1, 0, function()
          timer:close()
          error "in a timer"
        end)
        uv.new_work(function(a)
          local function inner() error("in the pool: " .. a) end
          inner()
        end, function(...)
          print("after", select("#", ...))
          error "after work"
        end):queue "x"
        uv.new_work(function(a, b) return a + 1, b end, function(...) print(...) end):queue(1, nil)
      end)
    ]]
    local program = harness.launch(source)
    assert.equal(0, program:wait_exit(20000), program:output())
    local output, log = program.process.stdout, program.process.stderr
    program:stop()
    for _, pattern in ipairs { "SCRIPT\t%S*server.lua:14: in a timer", "SCRIPT\t%S*server.lua:17: in the pool: x",
        "SCRIPT\t%S*server.lua:21: after work", "after\t0\n", "2\tnil\n", "waited\n" } do
      assert.matches(pattern, output)
    end
    assert.matches("error in a luv callback: %S*server.lua:14: in a timer\n%s*stack traceback:", log)
    assert.matches("error in a function of uv.new_work: %S*server.lua:17: in the pool: x\n%s*stack traceback:", log)
    assert.is_nil(log:find("Uncaught", 1, true))
  end)
end)
