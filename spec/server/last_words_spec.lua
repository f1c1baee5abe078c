local harness = require "spec.support.harness"
local to_lua = require "spec.support.to_lua"
local ws_frame = require "spec.support.ws_frame"

local SOURCE = [[
  local Mesa = require "mesa"
  config.port, config.host, config.raw, config.limits = 0, "127.0.0.1", true, { maxBackpressure = 64 * 1024 * 1024 }
  local server = Mesa.new(config)
  server:on("connection", function(client)
    client:on("message", function(message)
      if message.data == "big" then
        for _ = 1, 22 do client:send(("x"):rep(1000000), { binary = true }) end
        client:disconnect(4001, "enough")
      else
        client:send("re:" .. message.data)
      end
    end)
  end)
]]

-- RFC 6455 sections 1.4, 5.5.1 and 7.1.1: an end comes behind what came before it.
for _, transport in ipairs(harness.transports) do
  describe("what comes before the end of a connection over " .. transport.name, function()
    local server

    setup(function()
      local pair = transport.tls and harness.tls.certificate()
      local config = { tls = pair and { cert = pair.cert, key = pair.key } or nil }
      server = harness.start("local config = " .. to_lua(config) .. "\n" .. SOURCE)
      server.tls = transport.tls
    end)

    teardown(function()
      server:stop()
    end)

    local function two_and(last)
      local client = server:connect()
      client:send_raw(ws_frame.encode(1, "one") .. ws_frame.encode(1, "two") .. last)
      client.sent_close = true
      assert.equal("re:one", client:next().raw)
      assert.equal("re:two", client:next().raw)
      return client
    end

    it("is answered before a close in the same packet", function()
      two_and(ws_frame.encode(ws_frame.CLOSE, ws_frame.close_payload(1000))):expect_close(1000)
    end)

    it("is answered before the close for a violation in the same packet", function()
      two_and(ws_frame.encode(1, "bad", { rsv = 4 })):expect_close(1002, { keep_open = true })
    end)

    it("is answered to each of a hundred who send and close at once", function()
      for _ = 1, 100 do
        local client = server:connect()
        client:send_raw(ws_frame.encode(1, "q"))
        client:send_raw(ws_frame.encode(ws_frame.CLOSE, ws_frame.close_payload(1000)))
        client.sent_close = true
        assert.equal("re:q", client:next().raw)
        client:expect_close(1000)
      end
    end)

    it("reaches a reader who takes longer than a stalled one is waited for", function()
      local client = server:connect()
      client:send "big"
      local size = 0
      for _ = 1, 14 do -- seven seconds, a little in each half
        client:stop_reading()
        harness.loop.sleep(500)
        client:start_reading()
        for _ = 1, 10 do
          harness.loop.poll()
        end
      end
      client:expect_close(4001, { timeout = 20000 })
      for _, message in ipairs(client:drain()) do
        size = size + #message.raw
      end
      assert.equal(22 * 1000000, size)
    end)
  end)
end
