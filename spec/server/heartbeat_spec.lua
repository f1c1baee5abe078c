local harness = require "spec.support.harness"

for _, transport in ipairs(harness.transports) do
  describe("heartbeats over " .. transport.name, function()
    local server

    local function start(heartbeat)
      server = harness.lab({ heartbeat = heartbeat }, transport)
    end

    after_each(function()
      server:stop()
    end)

    it("are not sent unless they are enabled", function()
      start { enabled = false, interval = 20 }
      server:join():expect_silence(120)
    end)

    it("close a silent client with 4009 at the tick after maxAttempts repetitions", function()
      start { enabled = true, interval = 100, maxAttempts = 2 }
      local client = server:join()
      client:expect_close(4009)
      local seen = {}
      for i, message in ipairs(client:drain()) do
        seen[i] = { message.op, message.d }
      end
      assert.same({ { 1, {} }, { 1, { tries = 1, max = 2 } }, { 1, { tries = 2, max = 2 } } }, seen)
    end)

    it("repeat three times by default", function()
      start { enabled = true, interval = 40 }
      local client = server:join()
      client:expect_close(4009)
      local messages = client:drain()
      assert.equal(4, #messages)
      assert.same({ tries = 3, max = 3 }, messages[4].d)
    end)

    it("carry an empty object at first", function()
      start { enabled = true, interval = 50 }
      assert.matches('"d":{}', server:join():expect(1).raw, 1, true)
    end)

    it("go on without tries as long as they are acknowledged", function()
      start { enabled = true, interval = 30, maxAttempts = 1 }
      local client = server:join()
      for _ = 1, 20 do
        assert.same({}, client:expect(1).d)
        client:send { op = 11 }
      end
    end)

    it("reset the tries when a repetition is acknowledged", function()
      start { enabled = true, interval = 60, maxAttempts = 3 }
      local client = server:join()
      assert.same({}, client:expect(1).d)
      assert.same({ tries = 1, max = 3 }, client:expect(1).d)
      client:send { op = 11 }
      assert.same({}, client:expect(1).d)
      assert.same({ tries = 1, max = 3 }, client:expect(1).d)
      client:send { op = 11 }
      assert.same({}, client:expect(1).d)
    end)

    it("are not acknowledged by other messages", function()
      start { enabled = true, interval = 60, maxAttempts = 1 }
      local client = server:join()
      client:expect(1)
      client:send { op = 0, t = "ECHO" }
      client:send { op = 1 }
      assert.same({ tries = 1, max = 1 }, client:expect(1).d)
      client:expect_close(4009)
    end)

    it("are counted for each connection alone", function()
      start { enabled = true, interval = 60, maxAttempts = 1 }
      local silent, alive = server:join(), server:join("/", { heartbeats = true })
      silent:expect_close(4009)
      alive:drain()
      for _ = 1, 3 do
        assert.same({}, alive:expect(1).d)
      end
    end)

    it("report the closing to the script as a disconnect with 4009", function()
      start { enabled = true, interval = 40, maxAttempts = 1 }
      local alive, silent = server:join("/", { heartbeats = true }), server:join()
      silent:expect_close(4009)
      alive:send { op = 0, t = "EVENTS" }
      local code
      for _, event in ipairs(alive:expect("EVENTS").d.events) do
        code = code or event.name == "disconnect" and event.code or nil
      end
      assert.equal(4009, code)
    end)
  end)
end

describe("heartbeats of many connections", function()
  it("keep the phase of each connection's own connect time", function()
    local server = harness.lab { heartbeat = { enabled = true, interval = 400 } }
    local arrivals, clients = {}, {}
    for i = 1, 8 do
      clients[i] = server:join("/", { sink = nil })
      arrivals[i] = { connected = harness.loop.now_ms() }
      harness.loop.sleep(40)
    end
    for i, client in ipairs(clients) do
      client.sink = function(message)
        if message.raw:find('"op":1', 1, true) then
          arrivals[i].first = arrivals[i].first or harness.loop.now_ms()
        end
      end
    end
    assert.is_true(harness.loop.wait(function()
      for _, arrival in ipairs(arrivals) do
        if not arrival.first then
          return false
        end
      end
      return true
    end, 5000))
    -- Ticks in one instant would make the last client's first heartbeat come 280 ms too early or too late.
    assert.is_true(arrivals[8].first - arrivals[1].first > 140)
    server:stop()
  end)
end)
