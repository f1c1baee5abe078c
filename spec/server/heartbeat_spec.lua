local harness = require "spec.support.harness"

for _, transport in ipairs(harness.channels) do
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

    -- Takes heartbeats until one that answers an acknowledgement: it has no tries. A busy machine may repeat some before.
    local function expect_acknowledged(client)
      client:expect(function(message) return message.op == 1 and message.d.tries == nil end)
    end

    it("go on without tries as long as they are acknowledged", function()
      start { enabled = true, interval = 30, maxAttempts = 1000 }
      local client = server:join()
      for _ = 1, 20 do
        expect_acknowledged(client)
        client:send { op = 11 }
      end
    end)

    it("reset the tries when a repetition is acknowledged", function()
      start { enabled = true, interval = 60, maxAttempts = 1000 }
      local client = server:join()
      assert.same({}, client:expect(1).d)
      assert.same({ tries = 1, max = 1000 }, client:expect(1).d)
      for _ = 1, 2 do
        client:send { op = 11 }
        expect_acknowledged(client)
        assert.same({ tries = 1, max = 1000 }, client:expect(1).d)
      end
    end)

    it("are not acknowledged by other messages", function()
      start { enabled = true, interval = 60, maxAttempts = 30 }
      local client = server:join()
      assert.same({}, client:expect(1).d)
      client:send { op = 0, t = "ECHO" }
      client:send { op = 1 }
      client:expect "ECHO"
      client:expect_close(4009)
      local tries = 0
      for _, message in ipairs(client:drain()) do
        if message.op == 1 then
          tries = tries + 1
          assert.same({ tries = tries, max = 30 }, message.d)
        end
      end
      assert.equal(30, tries)
    end)

    it("are counted for each connection alone", function()
      start { enabled = true, interval = 100, maxAttempts = 19 }
      local silent, alive = server:join(), server:join("/", { heartbeats = true })
      silent:expect_close(4009)
      alive:drain()
      alive:expect(1)
    end)

    it("report the closing to the script as a disconnect with 4009", function()
      server = harness.lab({ heartbeat = { enabled = true, interval = 40, maxAttempts = 1 } }, {
        tls = transport.tls,
        extra = [[server:on("disconnection", function(client, event) print("gone with " .. event.code) end)]],
      })
      server:join():expect_close(4009)
      server:stdout_contains "gone with 4009\n"
    end)
  end)
end
