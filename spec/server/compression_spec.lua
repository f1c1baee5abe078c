-- permessage-deflate (RFC 7692), with TLS and without.
local deflate = require "spec.support.deflate"
local harness = require "spec.support.harness"
local http = require "spec.support.http"
local ws_frame = require "spec.support.ws_frame"

local loop = harness.loop

local MIB = 1024 * 1024
local OFFER = "permessage-deflate; client_max_window_bits"
local NO_TAKEOVER = "permessage-deflate; server_no_context_takeover; client_no_context_takeover"
local TEXT, BINARY, CONTINUATION, PING = ws_frame.TEXT, ws_frame.BINARY, ws_frame.CONTINUATION, ws_frame.PING

local function echo(text)
  return '{"op":0,"t":"ECHO","d":"' .. text .. '"}'
end

local LONG = ("All work and no play makes Jack a dull boy. "):rep(100)

for _, transport in ipairs(harness.transports) do
  describe("compression over " .. transport.name, function()
    local server

    local function start(compression, config, options)
      config = config or {}
      config.authentication = { timeout = false }
      config.compression = compression
      local all = { tls = transport.tls }
      for key, value in pairs(options or {}) do all[key] = value end
      server = harness.lab(config, all)
    end

    after_each(function()
      server:stop()
    end)

    local function answer(offer)
      return server:connect("/", { deflate = offer }).response.headers["sec-websocket-extensions"]
    end

    it("is agreed on with who offers it, on the terms of the first offer that can be", function()
      start(true)
      assert.is_nil(answer(nil))
      assert.is_nil(answer "x-webkit-deflate-frame")
      assert.is_nil(answer "permessage-deflate; server_max_window_bits=16")
      assert.equal(NO_TAKEOVER, answer(OFFER))
      assert.equal(NO_TAKEOVER, answer "permessage-deflate; unknown=1, permessage-deflate")
      assert.equal(NO_TAKEOVER .. "; server_max_window_bits=10", answer 'permessage-deflate; server_max_window_bits="10"')
      local client = server:connect("/", {
        headers = { ["sec-websocket-extensions"] = "foo", ["Sec-WebSocket-Extensions"] = "permessage-deflate" },
      })
      assert.equal(NO_TAKEOVER, client.response.headers["sec-websocket-extensions"])
    end)

    it("is off by default, and a header that cannot be read is refused all the same", function()
      start(nil)
      assert.is_nil(answer(OFFER))
      local client, _, response = server:try_connect("/", { deflate = "permessage-deflate; a=" })
      assert.is_nil(client)
      assert.equal(400, response.status)
      server:log_contains "HANDSHAKE: Sec%-WebSocket%-Extensions cannot be read"
      client = server:join("/", { deflate = OFFER })
      client:send_frame(TEXT, "", { rsv = 4 })
      client:expect_close(1002)
    end)

    it("inflates what comes, however it is cut, and compresses what goes", function()
      start(true)
      local client = server:join("/", { deflate = OFFER })
      client:send_compressed(echo(LONG))
      local message = client:expect "ECHO"
      assert.equal(LONG, message.d)
      assert.is_true(message.compressed)
      assert.is_true(message.wire < #LONG / 10)
      client:send_compressed(echo(LONG), 1)
      assert.equal(LONG, client:expect("ECHO").d)
      client:send(echo(LONG))
      assert.equal(LONG, client:expect("ECHO").d)
      local frame = ws_frame.encode(TEXT, client.deflate(echo "byte by byte"), { rsv = 4 })
      for i = 1, #frame do
        client:send_raw(frame:sub(i, i))
        loop.poll()
      end
      assert.equal("byte by byte", client:expect("ECHO").d)
      assert.is_nil(client.protocol_error)
    end)

    it("lets control frames pass between fragments, empty ones among them", function()
      start(true)
      local client = server:join("/", { deflate = OFFER })
      local bytes = client.deflate(echo "in pieces")
      client:send_frame(TEXT, "", { fin = false, rsv = 4 })
      client:send_frame(CONTINUATION, bytes:sub(1, 9), { fin = false })
      client:ping "now"
      client:expect_pong "now"
      client:send_frame(CONTINUATION, bytes:sub(10), { fin = false })
      client:send_frame(CONTINUATION, "")
      assert.equal("in pieces", client:expect("ECHO").d)
    end)

    it("takes messages whose last block says so, and goes on", function()
      start({ contextTakeover = true })
      local client = server:join("/", { deflate = OFFER })
      local stored = echo "stored"
      -- BFINAL, not compressed, length and its complement; RFC 7692 section 7.2.3.4 adds a byte of 0
      local block = "\1" .. string.char(#stored, 0, 255 - #stored, 255) .. stored
      for _, message in ipairs { block .. "\0", block, block .. block:gsub("^\1", "\0") .. "\0" } do
        client:send_frame(BINARY, message, { rsv = 4 })
      end
      client:expect_close(1007) -- the third was two texts in one message, and is no JSON
      assert.equal("stored", client:expect("ECHO").d)
      assert.equal("stored", client:expect("ECHO").d)
    end)

    for name, bad in pairs {
      ["a reserved bit of a continuation"] = { 1002, function(c)
        c:send_frame(TEXT, "a", { fin = false, rsv = 4 })
        c:send_frame(CONTINUATION, "b", { rsv = 4 })
      end },
      ["a reserved bit of a ping"] = { 1002, function(c) c:send_frame(PING, "", { rsv = 4 }) end },
      ["another reserved bit"] = { 1002, function(c) c:send_frame(TEXT, "", { rsv = 6 }) end },
      ["bytes that deflate does not make"] = { 1007, function(c) c:send_frame(TEXT, "\255\255\255", { rsv = 4 }) end },
      ["a message cut in a block"] = { 1007, function(c)
        c:send_frame(TEXT, c.deflate(echo(LONG)):sub(1, -8), { rsv = 4 })
      end },
      ["what refers to an earlier message"] = { 1007, function(c)
        local keeps = deflate.compressor { keep = true }
        keeps(echo(LONG))
        c:send_frame(TEXT, keeps(echo(LONG)), { rsv = 4 })
      end },
      ["text that is not UTF-8 when inflated"] = { 1007, function(c) c:send_compressed(echo "\255") end },
      ["text that ends in a character"] = { 1007, function(c) c:send_compressed(echo("x"):sub(1, -3) .. "\226\130") end },
    } do
      it("closes with " .. bad[1] .. " on " .. name, function()
        start(true)
        local client = server:join("/", { deflate = OFFER })
        client:send_compressed(echo "before")
        client:expect "ECHO"
        bad[2](client)
        client:expect_close(bad[1])
        local other = server:join("/", { deflate = OFFER }) -- whom none of it concerns
        other:send_compressed(echo "after")
        assert.equal("after", other:expect("ECHO").d)
      end)
    end

    it("has an error code of its own for what cannot be inflated", function()
      start(true)
      local client = server:join("/", { deflate = OFFER })
      client:send_frame(TEXT, "\255\255\255", { rsv = 4 })
      assert.equal("invalid compressed data", client:expect_close(1007))
      server:log_contains "COMPRESSION: invalid compressed data"
    end)

    it("inflates up to maxPayload and no further", function()
      start(true, { limits = { maxPayload = 100000, maxBackpressure = 2 * MIB } })
      local frame_bytes = #echo ""
      local client = server:join("/", { deflate = OFFER })
      client:send_compressed(echo(("x"):rep(100000 - frame_bytes)))
      assert.equal(100000 - frame_bytes, #client:expect("ECHO").d)
      client:send_compressed(echo(("x"):rep(100001 - frame_bytes)))
      client:expect_close(1009)
    end)

    it("survives bombs in constant memory", function()
      start(true)
      local bomb = deflate.compressor()(("\0"):rep(64 * MIB))
      assert.is_true(#bomb < 100000)
      local function throw(pieces)
        local client = server:join("/", { deflate = OFFER })
        if pieces then
          for at = 1, #bomb, 10000 do
            client:send_frame(at == 1 and BINARY or CONTINUATION, bomb:sub(at, at + 9999),
              { rsv = at == 1 and 4 or 0, fin = at + 10000 > #bomb })
          end
        else
          client:send_frame(BINARY, bomb, { rsv = 4 })
        end
        client:expect_close(1009)
      end
      throw(false)
      local before = server:rss()
      for i = 1, 20 do throw(i % 2 == 0) end
      if not harness.sanitized() then
        assert.is_true(server:rss() - before < 4 * MIB, ("grew by %d bytes"):format(server:rss() - before))
      end
    end)

    it("leaves messages below the threshold as they are", function()
      start({ threshold = 200 })
      local client = server:join("/", { deflate = OFFER })
      local around = 200 - #'{"op":0,"d":"","t":"ECHO"}'
      client:send(echo(("x"):rep(around - 1)))
      assert.is_false(client:expect("ECHO").compressed)
      client:send(echo(("x"):rep(around)))
      assert.is_true(client:expect("ECHO").compressed)
    end)

    it("sends what everybody gets to those with windows of any size and those without", function()
      start(true)
      local offers = { false, OFFER, "permessage-deflate", "permessage-deflate; server_max_window_bits=9",
        "permessage-deflate; server_max_window_bits=8", OFFER, false }
      local clients = {}
      for i, offer in ipairs(offers) do
        clients[i] = server:join("/", { deflate = offer or nil })
      end
      for n = 1, 20 do
        clients[1]:send { op = 0, t = "SEND", d = { message = { t = "ALL", d = { n = n, text = LONG } } } }
      end
      for i, client in ipairs(clients) do
        for n = 1, 20 do
          local message = client:expect "ALL"
          assert.same({ n = n, text = LONG }, message.d)
          assert.equal(offers[i] ~= false, message.compressed)
        end
        assert.is_nil(client.protocol_error)
      end
    end)

    it("keeps windows from one message to the next with contextTakeover, where the client agrees", function()
      start({ contextTakeover = true, threshold = 0 })
      assert.equal("permessage-deflate; client_max_window_bits=12", answer(OFFER))
      assert.equal("permessage-deflate", answer "permessage-deflate")
      assert.equal(NO_TAKEOVER, answer(NO_TAKEOVER))
      assert.equal("permessage-deflate; server_no_context_takeover; client_max_window_bits=9",
        answer "permessage-deflate; server_no_context_takeover; client_max_window_bits=9")
      local client = server:join("/", { deflate = OFFER })
      local wire = {}
      for n = 1, 100 do
        local text = ("%d: a message that is like the one before"):format(n)
        client:send_compressed(echo(text))
        local message = client:expect "ECHO"
        assert.equal(text, message.d)
        wire[n] = message.wire
      end
      assert.is_true(wire[100] < wire[1] / 3, ("%d bytes, then %d"):format(wire[1], wire[100]))
      client:send_compressed(echo(LONG:rep(20)), 100)
      assert.equal(LONG:rep(20), client:expect("ECHO").d)
    end)

    it("keeps no windows beyond maxMemory", function()
      start({ contextTakeover = true, maxMemory = 120000 })
      local clients = {}
      for i = 1, 3 do
        clients[i] = server:join("/", { deflate = OFFER })
      end
      local function terms(client)
        return client.response.headers["sec-websocket-extensions"]
      end
      assert.equal("permessage-deflate; client_max_window_bits=12", terms(clients[2]))
      assert.equal(NO_TAKEOVER, terms(clients[3]))
      for _, client in ipairs(clients) do
        client:send_compressed(echo(LONG))
        assert.equal(LONG, client:expect("ECHO").d)
      end
      clients[1]:close()
      assert.equal("permessage-deflate; client_max_window_bits=12", terms(server:join("/", { deflate = OFFER })))
    end)

    for name, takeover in pairs { ["with windows kept"] = true, ["without"] = false } do
      it("brings a reader that stalls everything in order, " .. name, function()
        start({ contextTakeover = takeover }, { limits = { maxBackpressure = 64 * MIB } })
        local stalled = server:login("stalled", nil, { receive_buffer = 65536, deflate = OFFER })
        local sender = server:join()
        stalled:stop_reading()
        local noise = {} -- that is hardly less when compressed: 10 MB are more than sockets take
        for i = 1, 4096 do noise[i] = ("%08x"):format(math.random(0, 2 ^ 31)) end
        for n = 1, 600 do
          noise[1 + n % 4096] = tostring(n)
          sender:send { op = 0, t = "SEND",
            d = { to = { "stalled" }, message = { t = "N", d = { n = n, text = table.concat(noise) } } } }
          sender:expect("SENT", { timeout = 60000 })
        end
        stalled:start_reading()
        for n = 1, 600 do
          local message = stalled:expect("N", { timeout = 60000 })
          assert.equal(n, message.d.n)
          assert.is_true(message.compressed)
        end
        assert.is_nil(stalled.protocol_error)
      end)
    end

    it("is counted before and after", function()
      start(true, { admin = { port = 0 } })
      local admin = { host = "127.0.0.1", port = server.admin_port }
      local client = server:join("/", { deflate = OFFER })
      client:send_compressed(echo(LONG))
      client:expect "ECHO"
      local text = http.request(admin, { path = "/metrics" }).body
      local function count(name)
        return tonumber(text:match("\nmesa_deflate_" .. name .. "_bytes_total (%d+)"))
      end
      assert.equal(#echo(LONG), count "received_plain")
      assert.equal(#client.deflate(echo(LONG)), count "received_wire")
      assert.is_true(count "sent_plain" > #LONG)
      assert.is_true(count "sent_wire" < #LONG / 4)
    end)
  end)
end

describe("servers on one port", function()
  it("have compression of their own", function()
    local server = harness.start [[
      local Mesa = require "mesa"
      local host = Mesa.new { port = 0, host = "127.0.0.1", path = "/plain" }
      local guest = Mesa.new { server = host, path = "/packed", compression = true }
    ]]
    finally(function() server:stop() end)
    assert.is_nil(server:connect("/plain", { deflate = OFFER }).response.headers["sec-websocket-extensions"])
    assert.equal(NO_TAKEOVER, server:connect("/packed", { deflate = OFFER }).response.headers["sec-websocket-extensions"])
  end)
end)
