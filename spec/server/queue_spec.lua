-- Messages that wait behind a handler: bounded in bytes for a client and for the process, and given back.
local harness = require "spec.support.harness"

local loop = harness.loop

-- Handlers of WAIT wait for GO, which anybody may send; N is answered.
local SERVER = [[
  local Mesa = require "mesa"
  local server = Mesa.new {
    port = 0, host = "127.0.0.1", admin = { port = %d },
    limits = { maxPayload = 2 * 2 ^ 20, maxQueue = %d, maxQueueTotal = %d },
  }
  local gate, handled = {}, 0
  server:on("error", function(err) print("error", err.code, err.message) end)
  server:on("message", function(message, client)
    if message.type == "WAIT" then
      Mesa.await(function(resolve) gate[#gate + 1] = resolve end)
    elseif message.type == "GO" then
      local waiting = gate
      gate = {}
      for _, resolve in ipairs(waiting) do resolve() end
    elseif message.type == "HANDLED" then
      client:send(Mesa.Message(0, { handled = handled }, "HANDLED"), true)
    else
      handled = handled + 1
      if not client.closed then client:send(Mesa.Message(0, { n = message.data.n }, "GOT"), true) end
    end
  end)
]]

local MIB = 2 ^ 20

describe("messages that wait for a handler", function()
  local server, admin_port

  after_each(function()
    server:stop()
  end)

  local function start(per_client, total)
    admin_port = harness.free_port()
    server = harness.start(SERVER:format(admin_port, per_client, total))
  end

  local function queued()
    local metrics = server:http({ path = "/metrics" }, { port = admin_port }).body
    return tonumber(metrics:match "\nmesa_queued_bytes (%d+)\n")
  end

  local function queued_reaches(predicate)
    local last
    assert.is_true(loop.wait(function()
      last = queued()
      return predicate(last)
    end, 10000), "bytes that wait: " .. tostring(last))
    return last
  end

  local function wait_with(count, bytes)
    local client = server:join()
    local filler = ("x"):rep(bytes)
    client:send { op = 0, t = "WAIT" }
    for n = 1, count do client:send { op = 0, t = "N", d = { n = n, filler = filler } } end
    return client
  end

  -- That what can be read has been read.
  local function settle(probe)
    for n = 1, 30 do
      probe:send { op = 0, t = "N", d = { n = -n } }
      probe:expect "GOT"
    end
  end

  it("are bounded by limits.maxQueue, and all arrive in order", function()
    start(MIB, 64 * MIB)
    local client, probe = wait_with(12, MIB), server:join()
    queued_reaches(function(bytes) return bytes >= MIB end)
    settle(probe)
    local bytes = queued()
    assert.is_true(bytes < 2.1 * MIB, "bytes that wait: " .. bytes)
    probe:send { op = 0, t = "GO" }
    for n = 1, 12 do assert.equal(n, client:expect("GOT", { timeout = 10000 }).d.n) end
    assert.equal(0, queued())
  end)

  it("are given back some seconds after the client has left, whatever its handler waits for", function()
    start(4 * MIB, 64 * MIB)
    local client, probe = wait_with(4, MIB), server:join()
    queued_reaches(function(bytes) return bytes >= 4 * MIB end)
    client:reset()
    queued_reaches(function(bytes) return bytes == 0 end)
    server:stdout_contains "error\tQUEUE\t4 messages %(%d+ bytes%) of a client that has left were dropped"
    probe:send { op = 0, t = "GO" }
    probe:send { op = 0, t = "HANDLED" }
    assert.equal(0, probe:expect("HANDLED").d.handled)
  end)

  it("are handled when the handler goes on soon after the client has left", function()
    start(4 * MIB, 64 * MIB)
    local client, probe = wait_with(3, 1000), server:join()
    queued_reaches(function(bytes) return bytes > 3000 end)
    client:reset()
    probe:send { op = 0, t = "GO" }
    assert.is_true(loop.wait(function()
      probe:send { op = 0, t = "HANDLED" }
      return probe:expect("HANDLED").d.handled == 3
    end, 5000))
    assert.equal(0, queued())
  end)

  it("are bounded by limits.maxQueueTotal for all clients, and those who do not wait are served", function()
    start(2 * MIB, 4 * MIB)
    local waiting = {}
    for i = 1, 8 do waiting[i] = wait_with(8, MIB / 2) end
    local probe = server:join()
    queued_reaches(function(bytes) return bytes >= 4 * MIB end)
    settle(probe)
    local bytes = queued()
    assert.is_true(bytes < 5 * MIB, "bytes that wait: " .. bytes)
    -- a client that begins to wait only now adds nothing
    local late = wait_with(8, MIB / 2)
    settle(probe)
    assert.equal(bytes, queued())
    assert.is_true(loop.wait(function()
      probe:send { op = 0, t = "GO" }
      settle(probe)
      return queued() == 0
    end, 20000))
    waiting[#waiting + 1] = late
    for _, client in ipairs(waiting) do
      for n = 1, 8 do assert.equal(n, client:expect("GOT", { timeout = 10000 }).d.n) end
    end
  end)

  it("of clients that have left are dropped first at limits.maxQueueTotal", function()
    start(2 * MIB, 4 * MIB)
    local gone = wait_with(8, MIB / 2)
    queued_reaches(function(bytes) return bytes >= 2 * MIB end)
    gone:reset()
    local client, other, probe = wait_with(8, MIB / 2), wait_with(2, MIB / 2), server:join()
    server:stdout_contains "error\tQUEUE"
    assert.is_true(queued() < 4 * MIB)
    assert.is_true(loop.wait(function()
      probe:send { op = 0, t = "GO" }
      settle(probe)
      return queued() == 0
    end, 20000))
    for n = 1, 8 do assert.equal(n, client:expect("GOT").d.n) end
    for n = 1, 2 do assert.equal(n, other:expect("GOT").d.n) end
  end)
end)
