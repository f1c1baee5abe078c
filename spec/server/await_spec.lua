-- Mesa.await: handlers that wait for callbacks.
local harness = require "spec.support.harness"

-- Runs `body` in a handler of a program; what it printed.
local function run(body)
  local program = harness.launch(([[
    local Mesa = require "mesa"
    Mesa.setTimeout(function()
      %s
    end, 0)
  ]]):format(body))
  assert.equal(0, program:wait_exit(20000), program:output())
  program:stop()
  return program.process.stdout
end

describe("Mesa.await", function()
  it("returns what resolve is given, at once or later", function()
    assert.equal("now\n1\tnil\t3\n\n", run [[
      print(Mesa.await(function(resolve) resolve "now" end))
      print(Mesa.await(function(resolve) Mesa.setTimeout(resolve, 10, 1, nil, 3) end))
      print(Mesa.await(function(resolve) Mesa.setTimeout(resolve, 10) end))
    ]])
  end)

  it("counts the first resolve only", function()
    assert.equal("first\ntrue\tfalse\tfalse\n", run [[
      local a, b, c
      print(Mesa.await(function(resolve)
        a, b = resolve "first", resolve "second"
        Mesa.setTimeout(function() c = resolve "third" end, 5)
      end))
      Mesa.sleep(20)
      print(a, b, c)
    ]])
  end)

  it("raises what the function raises", function()
    assert.matches("false\t.*oops", run [[print(pcall(Mesa.await, function() error "oops" end))]])
  end)

  it("ends with a timeout, and when nobody can resolve any more", function()
    assert.equal("nil\ttimeout\nnil\tabandoned\n", run [[
      print(Mesa.await(function(resolve) _G.kept = resolve end, 20))
      Mesa.setTimeout(function() collectgarbage() collectgarbage() end, 10)
      print(Mesa.await(function() end))
    ]])
  end)

  it("waits for luv", function()
    assert.matches("^true\tdata\ndone\n$", run [[
      local uv = require "luv"
      print(Mesa.await(function(resolve)
        local work = uv.new_work(function(text) return text end, function(text) resolve(true, text) end)
        work:queue "data"
      end))
      Mesa.await(function(resolve)
        local timer = uv.new_timer()
        timer:start(5, 0, function()
          timer:close()
          Mesa.sleep(5) -- luv's callbacks may wait as well
          resolve()
        end)
      end)
      print "done"
    ]])
  end)

  it("is freed in the end, whatever a stack overflow has done to the collector", function()
    assert.equal("done\n", run [[
      jit.off() -- compiled, LuaJIT itself can crash in debug.traceback after a stack overflow
      collectgarbage("setpause", 60)
      collectgarbage("setstepmul", 800)
      local function deeper() return 1 + deeper() end
      for i = 1, 100 do
        for _ = 1, 10 do Mesa.await(function(resolve) resolve() end) end
        pcall(xpcall, deeper, function(err) return debug.traceback(err) .. ("x"):rep(i) end)
      end
      print "done"
    ]])
  end)

  it("raises outside of a handler", function()
    local program = harness.launch 'local Mesa = require "mesa"\nprint(pcall(Mesa.await, function() end))\n'
    assert.equal(0, program:wait_exit(10000))
    assert.matches("Mesa.await cannot wait while a script loads", program.process.stdout)
    program:stop()
  end)

  it("goes on when its client has left, and sees that it has", function()
    local server = harness.lab(nil, { extra = [[
      server:on("connection", function(client)
        client:on("message", function(message)
          if message.type ~= "WAIT" then return end
          print "waiting"
          io.stdout:flush()
          local value = Mesa.await(function(resolve) client:once("disconnect", function() Mesa.setTimeout(resolve, 10, "over") end) end)
          print(value, client.closed, client:send(Message(0, {}, "LATE"), true))
          io.stdout:flush()
        end)
      end)
    ]] })
    local client = server:join()
    client:send { op = 0, t = "WAIT" }
    server:stdout_contains "waiting"
    client:close()
    server:stdout_contains "over\ttrue\tnil\tclosed"
    server:stop()
  end)
end)
