local harness = require "spec.support.harness"

local MIB = 1024 * 1024
local CHUNK_BYTES, CHUNKS = 16384, 3072 -- 48 MiB
local SMALL_BUFFER = 65536 -- of the stalled reader's socket

for _, transport in ipairs(harness.transports) do
  describe("a reader that stalls, over " .. transport.name, function()
    local server

    local function start(limits)
      server = harness.lab({ limits = limits, authentication = { timeout = false } }, transport)
    end

    local function fill(sender, id)
      sender:send { op = 0, t = "SEND_MANY", d = { count = CHUNKS, bytes = CHUNK_BYTES, to = { id } } }
      sender:expect("SENT_MANY", { timeout = 60000 })
    end

    local function events(client, name)
      client:send { op = 0, t = "EVENTS" }
      local list = {}
      for _, event in ipairs(client:expect("EVENTS").d.events) do
        if event.name == name then
          list[#list + 1] = event
        end
      end
      return list
    end

    after_each(function()
      server:stop()
    end)

    it("gets 48 MB whole and in order when it reads on, with maxBackpressure raised for it", function()
      start { maxBackpressure = 64 * MIB }
      local stalled = server:login("stalled", nil, { receive_buffer = SMALL_BUFFER })
      local sender = server:join()
      stalled:stop_reading()
      fill(sender, "stalled")

      local count, wrong = 0, nil
      stalled.sink = function(message)
        local n = tonumber(message.raw:match '"n":(%d+)')
        count = count + 1
        if not wrong and (n ~= count or #message.raw < CHUNK_BYTES) then
          wrong = ("message %d has number %s and %d bytes"):format(count, tostring(n), #message.raw)
        end
      end
      stalled:start_reading()
      harness.loop.wait(function()
        return count == CHUNKS or wrong or stalled.gone
      end, 60000)
      assert.is_nil(wrong)
      assert.equal(CHUNKS, count)
      assert.is_nil(stalled.close_code)

      stalled.sink = nil
      stalled:send { op = 0, t = "ECHO", d = { n = 1 } }
      assert.same({ n = 1 }, stalled:expect("ECHO").d)
    end)

    it("is closed with 1013 at the default bound, others are served, and memory comes back", function()
      start()
      local sender, bystander = server:join(), server:join()
      local before
      for round = 1, 4 do
        local stalled = server:login("stalled", nil, { receive_buffer = SMALL_BUFFER })
        stalled:stop_reading()
        fill(sender, "stalled")
        local closed
        harness.loop.wait(function()
          closed = events(sender, "disconnect")[round]
          return closed
        end, 10000)
        assert.equal(1013, closed and closed.code)
        stalled:drop()
        bystander:send { op = 0, t = "ECHO" }
        bystander:expect "ECHO"
        before = before or server:rss() -- after the first round: what the process needs to do this at all
      end
      if not harness.sanitized() then
        assert.is_true(server:rss() - before < 8 * MIB, ("%d KiB grew"):format((server:rss() - before) / 1024))
      end
    end)

    it("is reported once when it is closed", function()
      start()
      local sender = server:join()
      local stalled = server:login("stalled", nil, { receive_buffer = SMALL_BUFFER })
      stalled:stop_reading()
      fill(sender, "stalled")
      local errors = events(sender, "server error")
      assert.equal(1, #errors)
      assert.equal("BACKPRESSURE", errors[1].code)
    end)

    it("hears of drain when its queue is empty again", function()
      start { maxBackpressure = 32 * MIB } -- the kernel takes some megabytes before the queue sees any
      local stalled = server:login("stalled", nil, { receive_buffer = SMALL_BUFFER })
      local sender = server:join()
      stalled:stop_reading()
      sender:send { op = 0, t = "SEND_MANY", d = { count = 1600, bytes = CHUNK_BYTES, to = { "stalled" } } }
      sender:expect "SENT_MANY"
      assert.equal(0, #events(sender, "drain"))
      stalled:start_reading()
      for n = 1, 1600 do
        assert.equal(n, stalled:expect("NUMBERED", { timeout = 20000 }).d.n)
      end
      assert.is_true(harness.loop.wait(function()
        return #events(sender, "drain") > 0
      end, 5000))
    end)

    it("is not read from either: its echoes do not pile up in the server", function()
      start { maxBackpressure = 8 * MIB }
      local bystander = server:join()
      local echoing = server:join("/", { receive_buffer = SMALL_BUFFER })
      local before = server:rss()
      echoing:stop_reading()
      local text = ("e"):rep(60000)
      for n = 1, 800 do -- 48 MB of requests
        echoing:send('{"op":0,"t":"ECHO","d":{"n":' .. n .. ',"text":"' .. text .. '"}}')
      end
      for _ = 1, 50 do
        bystander:send { op = 0, t = "ECHO" }
        bystander:expect "ECHO"
      end
      if not harness.sanitized() then
        assert.is_true(server:rss() - before < 24 * MIB, ("%d KiB grew"):format((server:rss() - before) / 1024))
      end

      local count, in_order = 0, true
      echoing.sink = function(message)
        count = count + 1
        in_order = in_order and tonumber(message.raw:match '"n":(%d+)') == count
      end
      echoing:start_reading()
      harness.loop.wait(function()
        return count == 800 or echoing.gone
      end, 60000)
      assert.equal(800, count, echoing:state())
      assert.is_true(in_order)
    end)
  end)
end

describe("the result of client:send", function()
  it("is true, then true and 'backpressure', then nil and 'dropped', then nil and 'closed'", function()
    local server = harness.lab({}, { extra = [[
      server:on("message", function(message, client)
        if message.type ~= "FLOOD" then return end
        local target, seen, text = server:client("stalled")[1], {}, ("x"):rep(16384)
        for _ = 1, 2000 do
          local ok, why = target:send(Message(0, text, "FLOOD"), true)
          local word = ok and (why or "ok") or why
          if seen[#seen] ~= word then seen[#seen + 1] = word end
        end
        client:send(Message(0, Mesa.array(seen), "SEEN"), true)
      end)
    ]] })
    local stalled = server:login("stalled", nil, { receive_buffer = SMALL_BUFFER })
    local sender = server:join()
    stalled:stop_reading()
    sender:send { op = 0, t = "FLOOD" }
    assert.same({ "ok", "backpressure", "dropped", "closed" }, sender:expect("SEEN", { timeout = 20000 }).d)
    stalled:drop()
    server:stop()
  end)
end)
