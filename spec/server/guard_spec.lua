-- Handlers that hold the loop, memory without bounds, and messages handled at once.
local harness = require "spec.support.harness"

describe("a server whose handlers misbehave", function()
  local server

  after_each(function()
    server:stop()
  end)

  local function handling(config, body)
    server = harness.lab(config, { extra = ([[
      server:on("connection", function(client)
        client:on("message", function(message)
          %s
        end)
      end)
    ]]):format(body) })
    return server:join()
  end

  local function slow_count()
    local body = server:http({ path = "/metrics" }, { port = server.admin_port }).body
    return tonumber(body:match "mesa_script_slow_total (%d+)")
  end

  it("logs and counts one that holds the loop, with the place it was found at", function()
    local client = handling({ limits = { scriptTime = 100 }, admin = { port = 0 } }, [[
      if message.type == "SPIN" then
        local function spin_here() local from = os.clock() while os.clock() - from < 0.4 do end end
        spin_here()
        client:send(Message(0, {}, "SPUN"), true)
      end
    ]])
    client:send { op = 0, t = "SPIN" }
    client:expect "SPUN"
    local ms = server:log_contains "a handler held the loop for (%d+) ms %(limits.scriptTime is 100%)"
    assert.is_true(tonumber(ms) >= 200, ms)
    server:log_contains "in function 'spin_here'"
    server:log_contains "server.lua:%d+"
    assert.equal(1, server:log_count "in function 'spin_here'")
  end)

  it("drops the machine code of one that holds the loop, in which LuaJIT may stand still", function()
    local client = handling({ limits = { scriptTime = 100 } }, [[
      local util = require "jit.util"
      local function spin() local from = os.clock() while os.clock() - from < 0.4 do end end
      jit.off(spin)
      local n = 0
      for i = 1, 1000 do n = n + i end
      local before = util.traceinfo(1) ~= nil
      spin()
      client:send(Message(0, { before = before, after = util.traceinfo(1) ~= nil }, "SPUN"), true)
    ]])
    client:send { op = 0, t = "SPIN" }
    assert.same({ before = true, after = false }, client:expect("SPUN").d)
  end)

  it("says nothing of handlers that wait, nor with scriptTime off", function()
    local client = handling({ limits = { scriptTime = 1000 } }, [[Mesa.sleep(1500) client:send(Message(0, {}, "SLEPT"), true)]])
    client:send { op = 0, t = "SLEEP" }
    client:expect "SLEPT"
    assert.equal(0, server:log_count "held the loop")
    server:stop()
    client = handling({ limits = { scriptTime = false } }, [[
      local from = os.clock()
      while os.clock() - from < 0.2 do end
      client:send(Message(0, {}, "SPUN"), true)
    ]])
    client:send { op = 0, t = "SPIN" }
    client:expect "SPUN"
    assert.equal(0, server:log_count "held the loop")
  end)

  it("counts what it logs in the metrics", function()
    local client = handling({ limits = { scriptTime = 50 }, admin = { port = 0 } }, [[
      local from = os.clock()
      while os.clock() - from < 0.2 do end
      client:send(Message(0, {}, "SPUN"), true)
    ]])
    client:send { op = 0, t = "SPIN" }
    client:expect "SPUN"
    server:log_contains "held the loop"
    -- a machine that stood still adds another of its own, at any time
    assert.is_true(harness.loop.wait(function()
      local logged = server:log_count "held the loop"
      return logged >= 1 and slow_count() == logged
    end, 5000))
  end)

  it("fails a handler that needs more memory than there is, and serves on", function()
    local client = handling({ limits = { scriptMemory = 64 * 1024 * 1024 } }, [[
      if message.type == "HOARD" then
        local hoard = {}
        for i = 1, 1e9 do hoard[i] = ("x"):rep(10000) .. i end
      end
      if message.type == "PING" then client:send(Message(0, {}, "PONG"), true) end
    ]])
    for _ = 1, 3 do client:send { op = 0, t = "HOARD" } end
    client:send { op = 0, t = "PING" }
    client:expect("PONG", { timeout = 20000 })
    server:log_contains "error in message: %S*server.lua:%d+: not enough memory %(limits.scriptMemory is 67108864%)"
    server:log_contains "a handler was ended: not enough memory: %d+ bytes are in use, limits.scriptMemory is 67108864"
    assert.equal(3, server:log_count "error in message: %S*server.lua:%d+: not enough memory")
  end)

  it("handles the messages of one client at once with options.concurrentMessages", function()
    local client = handling({ options = { concurrentMessages = true } }, [[
      if message.data.wait then Mesa.sleep(100) end
      client:send(Message(0, {}, message.type .. "_DONE"), true)
    ]])
    client:send { op = 0, t = "SLOW", d = { wait = true } }
    client:send { op = 0, t = "FAST", d = {} }
    client:expect "FAST_DONE"
    client:expect "SLOW_DONE"
    for i = 1, 300 do client:send { op = 0, t = "N" .. i, d = { wait = i <= 200 } } end
    local seen = 0
    while seen < 300 do
      local message = client:expect(function(m) return m.t and m.t:find "^N%d+_DONE$" end, { timeout = 10000 })
      assert.truthy(message)
      seen = seen + 1
    end
  end)
end)
