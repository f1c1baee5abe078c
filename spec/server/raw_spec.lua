local harness = require "spec.support.harness"
local to_lua = require "spec.support.to_lua"

local function script(config)
  config.port, config.host, config.raw = 0, "127.0.0.1", true
  return "local config = " .. to_lua(config) .. "\n" .. [[
    local Mesa = require "mesa"
    local server = Mesa.new(config)
    local errors = 0
    server:on("error", function() errors = errors + 1 end)
    server:on("connection", function(client)
      client:on("message", function(message)
        if message.data == "kind" then
          client:send(type(message.data) .. " " .. tostring(message.binary))
        elseif message.data == "all" then
          server:send("to everybody")
        elseif message.data == "bytes" then
          client:send("\0\1\255", { binary = true })
        elseif message.data == "errors" then
          client:send(tostring(errors))
        elseif message.data == "bad text" then
          local ok, err = pcall(client.send, client, "\255")
          client:send(ok and "sent" or "raised")
        elseif message.data == "leave" then
          client:disconnect(4321, "left")
        else
          client:send(message.data, { binary = message.binary })
        end
      end)
    end)
  ]]
end

for _, transport in ipairs(harness.transports) do
  describe("raw mode over " .. transport.name, function()
    local server, client

    local function start(config, options)
      config = config or {}
      if transport.tls then
        local pair = harness.tls.certificate()
        config.tls = { cert = pair.cert, key = pair.key }
      end
      server = harness.start(script(config))
      server.tls = transport.tls
      client = server:connect("/", options)
    end

    local function say(text)
      client:send(text)
      return client:next().raw
    end

    after_each(function()
      server:stop()
    end)

    it("sends no hello and carries text as it is", function()
      start()
      assert.equal("hello", say "hello")
      assert.equal("", say "")
      assert.equal("h\195\169\240\159\152\128", say "h\195\169\240\159\152\128")
    end)

    it("takes envelopes for text", function()
      start()
      assert.equal('{"op":1,"d":{}}', say '{"op":1,"d":{}}')
      assert.equal('{"op":', say '{"op":')
      assert.equal('{"op":5,"d":{},"t":"DISCONNECT_CLIENT"}', say '{"op":5,"d":{},"t":"DISCONNECT_CLIENT"}')
    end)

    it("carries binary messages as binary", function()
      start()
      client:send_binary "\0\255\254{"
      local answer = client:next()
      assert.equal("\0\255\254{", answer.raw)
      assert.is_true(answer.binary)
    end)

    it("tells the script which kind it got", function()
      start()
      assert.equal("string false", say "kind")
      client:send_binary "kind"
      assert.equal("string true", client:next().raw)
    end)

    it("sends binary on request", function()
      start()
      client:send "bytes"
      local answer = client:next()
      assert.is_true(answer.binary)
      assert.equal("\0\1\255", answer.raw)
    end)

    it("sends to everybody", function()
      start()
      local other = server:connect()
      client:send "all"
      assert.equal("to everybody", client:next().raw)
      assert.equal("to everybody", other:next().raw)
    end)

    it("carries large messages", function()
      start()
      local text = ("0123456789"):rep(50000)
      assert.equal(text, say(text))
    end)

    it("closes with 1007 on text that is not UTF-8", function()
      start()
      client:send "\255\254"
      client:expect_close(1007)
      client = server:connect()
      assert.equal("1", say "errors")
    end)

    it("never sends text that is not UTF-8", function()
      start()
      client:send "bad text"
      harness.loop.wait(function()
        return #client.inbox > 0 or client.close_code
      end, 5000)
      for _, message in ipairs(client.inbox) do
        assert.is_true(message.binary or message.raw == "raised" or message.raw == "sent", message.raw)
      end
    end)

    it("closes with 1009 over maxPayload", function()
      start { limits = { maxPayload = 1000 } }
      assert.equal(("x"):rep(1000), say(("x"):rep(1000)))
      client:send(("x"):rep(1001))
      client:expect_close(1009)
    end)

    it("closes with a code and a reason of the script", function()
      start()
      client:send "leave"
      assert.equal("left", client:expect_close(4321))
    end)

    it("uses WebSocket pings for the heartbeat", function()
      start { heartbeat = { enabled = true, interval = 50, maxAttempts = 1 } }
      assert.is_true(harness.loop.wait(function()
        return client.pings >= 5 or client.gone
      end, 5000))
      assert.is_true(client.pings >= 5, client:state())
      assert.equal(0, #client.inbox)
      assert.equal("still here", say "still here")
    end)

    it("closes a client that does not answer pings with 4009", function()
      start({ heartbeat = { enabled = true, interval = 50, maxAttempts = 2 } }, { pings = false })
      client:expect_close(4009)
      assert.equal(3, client.pings)
    end)
  end)
end
