local harness = require "spec.support.harness"

describe("stopping", function()
  local server

  after_each(function()
    server:destroy()
  end)

  local function ends_with(code)
    assert.equal(code, (server:wait_exit()), server:output())
    server:check_output()
  end

  it("delivers what was queued, then 1001", function()
    server = harness.lab {}
    local client = server:join()
    client:send { op = 0, t = "SEND_MANY", d = { count = 200, bytes = 1000 } }
    client:expect "SENT_MANY"
    server:signal "sigterm"
    client:expect_close(1001)
    local count = 0
    for _, message in ipairs(client:drain()) do
      count = count + (message.t == "NUMBERED" and 1 or 0)
    end
    assert.equal(200, count)
    ends_with(0)
  end)

  it("accepts nobody any more", function()
    server = harness.lab({}, { flags = { "--drain", "1" } })
    for _ = 1, 4 do
      server:join()
    end
    server:signal "sigterm"
    server:log_contains "shutting down"
    assert.is_true(harness.loop.wait(function()
      return server:try_connect "/" == nil
    end, 5000))
    ends_with(0)
  end)

  it("spreads the closing over --drain", function()
    server = harness.lab({}, { flags = { "--drain", "2" } })
    local clients, closed = {}, {}
    for i = 1, 20 do
      clients[i] = server:join()
    end
    local begin = harness.loop.now_ms()
    server:signal "sigterm"
    assert.is_true(harness.loop.wait(function()
      for i, client in ipairs(clients) do
        closed[i] = closed[i] or client.close_code and harness.loop.now_ms() - begin or nil
        if not closed[i] then
          return false
        end
      end
      return true
    end, 5000))
    table.sort(closed)
    assert.is_true(closed[20] >= 1900, ("all closed within %d ms"):format(closed[20])) -- the last is due at the end of it
    assert.is_true(closed[1] < closed[20])
    for _, client in ipairs(clients) do
      assert.equal(1001, client.close_code)
    end
    ends_with(0)
  end)

  it("does not wait for a reader that stalls", function()
    server = harness.lab { limits = { maxBackpressure = 64 * 1024 * 1024 }, authentication = { timeout = false } }
    local stalled = server:login("stalled", nil, { receive_buffer = 65536 })
    stalled:stop_reading()
    local sender = server:join()
    sender:send { op = 0, t = "SEND_MANY", d = { count = 1000, bytes = 16384, to = { "stalled" } } }
    sender:expect("SENT_MANY", { timeout = 20000 })
    server:signal "sigterm"
    sender:expect_close(1001)
    ends_with(0)
  end)

  it("ends handshakes and timers that are under way", function()
    local stream = require "spec.support.stream"
    server = harness.lab({}, { extra = "Mesa.setInterval(function() end, 5) Mesa.setTimeout(function() Mesa.sleep(60000) end, 1)" })
    local wire = assert(stream.connect { port = server.port })
    wire:write "GET / HTTP/1.1\r\n"
    server:join()
    server:signal "sigterm"
    ends_with(0)
    wire:close()
  end)

  it("tells handlers of every disconnection, and lets them finish", function()
    server = harness.lab({}, { extra = [[
      server:on("disconnection", function(client, event) print("gone " .. event.code) end)
    ]] })
    server:join()
    server:join()
    server:signal "sigterm"
    ends_with(0)
    assert.equal(2, select(2, server.process.stdout:gsub("gone 1001", "")))
  end)

  it("exits at once on the second signal though beforeExit never answers", function()
    server = harness.lab({}, { setup = "config.beforeExit = function() print('never') end" })
    server:signal "sigterm"
    server:stdout_contains "never"
    server:signal "sigterm"
    ends_with(128 + 15)
  end)

  it("exits with the status given to beforeExit's exit", function()
    server = harness.lab({}, { setup = "config.beforeExit = function(_, exit) exit(7) end" })
    server:signal "sigint"
    ends_with(7)
  end)

  it("waits for a beforeExit that waits, and serves meanwhile", function()
    server = harness.lab({}, { setup = [[
      local own
      config.beforeExit = function(_, exit)
        local Mesa = require "mesa"
        Mesa.sleep(1)
        local response = assert(Mesa.http.get(("http://127.0.0.1:%d/"):format(own.port)))
        exit(response.status == 426 and 9 or 1)
      end
    ]], extra = "own = server" })
    server:signal "sigterm"
    ends_with(9)
  end)

  it("goes on when beforeExit throws", function()
    server = harness.lab({}, { setup = "config.beforeExit = function() error('in beforeExit') end" })
    server:signal "sigterm"
    ends_with(0)
    assert.matches("in beforeExit", server.process.stderr, 1, true)
  end)
end)
