local harness = require "spec.support.harness"
local ws_frame = require "spec.support.ws_frame"

local ECHO = '{"op":0,"t":"ECHO","d":{"n":1}}'

for _, transport in ipairs(harness.channels) do
  describe("the WebSocket protocol over " .. transport.name, function()
    local server, bystander

    setup(function()
      server = harness.lab({ authentication = { timeout = false } }, transport)
      bystander = server:join()
    end)

    teardown(function()
      server:stop()
    end)

    after_each(function()
      bystander:send(ECHO)
      bystander:expect "ECHO"
    end)

    describe("messages", function()
      it("accepts one in fragments of one byte", function()
        local client, pieces = server:join(), {}
        for i = 1, #ECHO do
          pieces[i] = ECHO:sub(i, i)
        end
        client:send_fragments(pieces)
        assert.same({ n = 1 }, client:expect("ECHO").d)
      end)

      it("accepts empty fragments at the beginning, in the middle and at the end", function()
        local client = server:join()
        client:send_fragments { "", ECHO:sub(1, 9), "", ECHO:sub(10), "" }
        assert.same({ n = 1 }, client:expect("ECHO").d)
      end)

      it("answers a ping between fragments at once and still joins them", function()
        local client = server:join()
        client:send_frame(ws_frame.TEXT, ECHO:sub(1, 9), { fin = false })
        client:ping "in between"
        client:expect_pong "in between"
        client:send_frame(ws_frame.CONTINUATION, ECHO:sub(10))
        assert.same({ n = 1 }, client:expect("ECHO").d)
      end)

      it("accepts frames that arrive byte by byte", function()
        local client = server:join()
        local bytes = ws_frame.encode(ws_frame.TEXT, ECHO)
        for i = 1, #bytes do
          client:send_raw(bytes:sub(i, i))
          harness.loop.poll()
        end
        assert.same({ n = 1 }, client:expect("ECHO").d)
      end)

      it("accepts many in one segment, in order", function()
        local client, bytes = server:join(), {}
        for i = 1, 500 do
          bytes[i] = ws_frame.encode(ws_frame.TEXT, ('{"op":0,"t":"ECHO","d":%d}'):format(i))
        end
        client:send_raw(table.concat(bytes))
        for i = 1, 500 do
          assert.equal(i, client:next().d)
        end
      end)

      for _, size in ipairs { 125, 126, 127, 65535, 65536, 65537, 300000 } do
        it(("carries a frame of %d bytes both ways"):format(size), function()
          local client = server:join()
          local frame_bytes = #'{"op":0,"d":"","t":"ECHO"}'
          local text = ("y"):rep(size - frame_bytes)
          client:send('{"op":0,"d":"' .. text .. '","t":"ECHO"}')
          assert.equal(text, client:expect("ECHO").d)
        end)
      end

      it("accepts a character cut in two by a fragment boundary", function()
        local client = server:join()
        client:send_fragments { '{"op":0,"t":"ECHO","d":"\240\159', '\152\128"}' }
        assert.equal("\240\159\152\128", client:expect("ECHO").d)
      end)

      it("closes with 1007 on invalid UTF-8 that a fragment boundary hides", function()
        local client = server:join()
        client:send_fragments { '{"op":0,"t":"ECHO","d":"\240\159', '\152"}' }
        client:expect_close(1007)
      end)

      it("closes with 1007 on a text that ends inside a character before an empty last fragment", function()
        local client = server:join()
        client:send_fragments { '{"op":0,"t":"ECHO","d":"\226\130', "" }
        client:expect_close(1007)
      end)
    end)

    describe("control frames", function()
      it("answers a ping with its payload", function()
        local client = server:join()
        client:ping "payload"
        client:expect_pong "payload"
      end)

      it("answers an empty ping and one of 125 bytes", function()
        local client = server:join()
        client:ping ""
        client:expect_pong ""
        client:ping(("p"):rep(125))
        client:expect_pong(("p"):rep(125))
      end)

      it("ignores a pong nobody asked for", function()
        local client = server:join()
        client:send_frame(ws_frame.PONG, "unasked")
        client:send(ECHO)
        client:expect "ECHO"
      end)

      it("answers each of several pings in one segment, in their place", function()
        local client, bytes = server:join(), {}
        for i = 1, 100 do
          bytes[i] = ws_frame.encode(ws_frame.PING, tostring(i))
        end
        client:send_raw(table.concat(bytes))
        client:expect_pong "100"
        for i = 1, 99 do
          assert.equal(tostring(i), client.pongs[i])
        end
      end)
    end)

    describe("closing", function()
      for _, code in ipairs {
        1000, 1001, 1002, 1003, 1007, 1008, 1009, 1010, 1011, 1012, 1013, 1014, 3000, 3999, 4000, 4999,
      } do
        it(("answers the close code %d and ends the connection"):format(code), function()
          local client = server:join()
          client:send_frame(ws_frame.CLOSE, ws_frame.close_payload(code, "bye"))
          client.sent_close = true
          client:expect_close(code)
        end)
      end

      it("answers a close without a code", function()
        local client = server:join()
        client:close(false)
        assert.is_true(client.gone)
        assert.equal(1005, client.close_code, client:state())
      end)

      for what, payload in pairs {
        ["of one byte"] = "\3",
        ["with the reserved code 1004"] = ws_frame.close_payload(1004),
        ["with code 1005, which must not be sent"] = ws_frame.close_payload(1005),
        ["with code 1006, which must not be sent"] = ws_frame.close_payload(1006),
        ["with code 1015, which must not be sent"] = ws_frame.close_payload(1015),
        ["with a code below 1000"] = ws_frame.close_payload(999),
        ["with code 0"] = ws_frame.close_payload(0),
        ["with the unassigned code 1016"] = ws_frame.close_payload(1016),
        ["with the unassigned code 1100"] = ws_frame.close_payload(1100),
        ["with code 2000, which no standard has"] = ws_frame.close_payload(2000),
        ["with code 2999, which no standard has"] = ws_frame.close_payload(2999),
        ["with code 65535"] = ws_frame.close_payload(65535),
        ["with a code above 4999"] = ws_frame.close_payload(5000),
      } do
        it("answers 1002 to a close frame " .. what, function()
          local client = server:join()
          client:send_frame(ws_frame.CLOSE, payload)
          client.sent_close = true
          client:expect_close(1002)
        end)
      end

      it("answers a close reason of 123 bytes", function()
        local client = server:join()
        client:send_frame(ws_frame.CLOSE, ws_frame.close_payload(1000, ("r"):rep(123)))
        client.sent_close = true
        assert.equal(("r"):rep(123), client:expect_close(1000))
      end)

      it("answers 1007 to a close reason that is not UTF-8", function()
        local client = server:join()
        client:send_frame(ws_frame.CLOSE, ws_frame.close_payload(1000, "\255\254"))
        client.sent_close = true
        client:expect_close(1007)
      end)

      it("ignores what follows a close frame", function()
        local client = server:join()
        client:send_raw(ws_frame.encode(ws_frame.CLOSE, ws_frame.close_payload(1000)) .. ws_frame.encode(1, ECHO))
        client.sent_close = true
        client:expect_close(1000)
        assert.equal(0, #client.inbox)
      end)

      it("survives a connection that ends inside a frame", function()
        local client = server:join()
        client:send_raw(ws_frame.encode(1, ECHO):sub(1, 9))
        client:drop()
      end)

      it("survives a connection that is reset", function()
        local client = server:join()
        client:send(ECHO)
        client:reset()
      end)
    end)

    describe("violations", function()
      local frames = {
        -- with compression it means something, but at the beginning of a message only
        ["the reserved bit 1"] = ws_frame.encode(transport.deflate and ws_frame.PING or 1, ECHO, { rsv = 4 }),
        ["the reserved bit 2"] = ws_frame.encode(1, ECHO, { rsv = 2 }),
        ["the reserved bit 3"] = ws_frame.encode(1, ECHO, { rsv = 1 }),
        ["the unknown opcode 3"] = ws_frame.encode(3, ECHO),
        ["the unknown control opcode 11"] = ws_frame.encode(11, ""),
        ["a continuation of nothing"] = ws_frame.encode(0, ECHO),
        ["a new message inside another"] = ws_frame.encode(1, "{", { fin = false }) .. ws_frame.encode(1, ECHO),
        ["a new message behind two fragments of another"] = ws_frame.encode(1, "[", { fin = false })
          .. ws_frame.encode(0, "]", { fin = false }) .. ws_frame.encode(1, ECHO),
        ["a ping of 126 bytes"] = ws_frame.encode(ws_frame.PING, ("p"):rep(126), { wide = 2 }),
        ["a ping in fragments"] = ws_frame.encode(ws_frame.PING, "half", { fin = false }),
        ["a text that is not masked"] = ws_frame.encode(1, ECHO, { mask = false }),
        ["a ping that is not masked"] = ws_frame.encode(ws_frame.PING, "", { mask = false }),
        ["a close that is not masked"] = ws_frame.encode(ws_frame.CLOSE, ws_frame.close_payload(1000), { mask = false }),
        ["a short length in two bytes"] = ws_frame.encode(1, ECHO, { wide = 2 }),
        ["a short length in eight bytes"] = ws_frame.encode(1, ECHO, { wide = 8 }),
        ["a length of two bytes in eight"] = ws_frame.encode(1, ("y"):rep(65535), { wide = 8 }),
      }
      for what, frame in pairs(frames) do
        it("close with 1002: " .. what, function()
          local client = server:join()
          client:send_raw(frame)
          client:expect_close(1002, { keep_open = true })
        end)
      end

      it("end the connection in the end, though the peer's answer may not be found behind them", function()
        local client = server:join()
        client:send_raw(ws_frame.encode(1, ECHO, { rsv = 2 }))
        client:expect_close(1002, { timeout = 9000 })
      end)
    end)
  end)
end

for _, transport in ipairs(harness.transports) do
  describe("the opening handshake over " .. transport.name, function()
    local server

    setup(function()
      server = harness.lab({ path = "/live", authentication = { timeout = false } }, transport)
    end)

    teardown(function()
      server:stop()
    end)

    it("accepts the configured path", function()
      assert.equal(10, server:connect("/live"):hello().op)
    end)

    it("accepts the path with a query and hands it to the script decoded", function()
      local client = server:join "/live?room=7&name=a%20b&text=%26%3D%C3%A9&twice=1&twice=2&empty"
      client:send { op = 0, t = "ME" }
      local request = client:expect("ME").d.request
      assert.equal("/live", request.path)
      assert.same({ room = "7", name = "a b", text = "&=\195\169", twice = "2", empty = "" }, request.query)
    end)

    it("agrees on the first subprotocol that is offered, as the Node library does", function()
      local client = server:join("/live", { protocol = "first, second" })
      assert.equal("first", client.response.headers["sec-websocket-protocol"])
      client:send { op = 0, t = "ME" }
      assert.equal("first", client:expect("ME").d.request.protocol)
      assert.is_nil(server:connect("/live").response.headers["sec-websocket-protocol"])
    end)

    it("refuses another path with 404", function()
      for _, path in ipairs { "/", "/other", "/live/more", "/live/", "/liv", "/live2", "/LIVE" } do
        local client, _, response = server:try_connect(path)
        assert.is_nil(client)
        assert.equal(404, response and response.status, path)
      end
    end)

    it("gives the peer's address and headers to the script", function()
      local client = server:join("/live", { headers = { ["User-Agent"] = "spec/1" } })
      client:send { op = 0, t = "ME" }
      local request = client:expect("ME").d.request
      assert.equal("127.0.0.1", request.ip)
      assert.equal("spec/1", request.agent)
    end)

    it("answers the accept key of RFC 6455", function()
      local client = server:connect("/live", { headers = { ["Sec-WebSocket-Key"] = "dGhlIHNhbXBsZSBub25jZQ==" } })
      assert.equal("s3pPLMBiTxaQ9kYGzzhZRbK+xOo=", client.response.headers["sec-websocket-accept"])
    end)

    it("does not agree to compression that is off", function()
      local client = server:connect("/live", { headers = { ["Sec-WebSocket-Extensions"] = "permessage-deflate" } })
      assert.is_nil(client.response.headers["sec-websocket-extensions"])
    end)

    for what, case in pairs {
      ["without a key"] = { status = 400, headers = { ["Sec-WebSocket-Key"] = false } },
      ["of version 7"] = { status = 426, headers = { ["Sec-WebSocket-Version"] = "7" } },
      ["without a Host"] = { status = 400, headers = { Host = false } },
      ["with two words for a header's name"] = { status = 400, headers = { ["Two Words"] = "x" } },
    } do
      it("refuses an upgrade " .. what, function()
        local client, _, response = server:try_connect("/live", { headers = case.headers })
        assert.is_nil(client)
        assert.equal(case.status, response and response.status)
      end)
    end

    it("accepts header names in any case and a Connection with several words", function()
      local client = server:connect("/live", { headers = {
        Upgrade = false, Connection = false, upgrade = "WebSocket", CONNECTION = "keep-alive, Upgrade",
      } })
      assert.equal(10, client:hello().op)
    end)

    it("accepts frames sent together with the handshake", function()
      local stream = require "spec.support.stream"
      local ws_client = require "spec.support.ws_client"
      local wire = assert(stream.connect(server:address(), { ca = transport.tls and harness.tls.certificate().cert or nil }))
      local text = ""
      wire:listen(function(bytes) text = text .. bytes end, function() end)
      wire:write(ws_client.request "/live" .. ws_frame.encode(1, ECHO))
      assert.is_true(harness.loop.wait(function()
        return text:find('"t":"ECHO"', 1, true) ~= nil
      end, 5000), text)
      wire:close()
    end)
  end)
end

describe("listening", function()
  local server

  after_each(function()
    server:stop()
  end)

  it("serves IPv6", function()
    server = harness.lab { host = "::1" }
    assert.equal(10, server:connect("/", { host = "::1" }):hello().op)
  end)

  it("serves IPv4 and IPv6 when no host is given", function()
    server = harness.start('require("mesa").new { port = 0 }\n')
    assert.equal(10, server:connect("/", { host = "127.0.0.1" }):hello().op)
    assert.equal(10, server:connect("/", { host = "::1" }):hello().op)
  end)

  it("serves a Unix socket and removes it at the end", function()
    local dir = harness.fs.mkdtemp()
    local path = dir .. "/mesa.sock"
    server = harness.lab { host = "unix:" .. path }
    local client = server:join("/", { unix = path })
    client:send { op = 0, t = "ME" }
    assert.equal("unix", client:expect("ME").d.request.ip)
    server:stop()
    assert.is_false(harness.fs.exists(path))
    harness.fs.remove(dir)
  end)

  it("gives a Unix socket the permissions of `mode`", function()
    local dir = harness.fs.mkdtemp()
    local path = dir .. "/mesa.sock"
    for _, mode in ipairs { "600", "0666" } do
      server = harness.lab { host = "unix:" .. path, mode = mode }
      local stat = assert(require("luv").fs_stat(path))
      assert.equal(tonumber(mode, 8), stat.mode % 512)
      server:stop()
    end
    harness.fs.remove(dir)
  end)

  it("gives the Unix socket of the admin endpoint the permissions of `admin.mode`", function()
    local dir = harness.fs.mkdtemp()
    local path = dir .. "/admin.sock"
    for _, mode in ipairs { "600", "0666" } do
      server = harness.lab { admin = { host = "unix:" .. path, port = 1, mode = mode } }
      local stat = assert(require("luv").fs_stat(path))
      assert.equal(tonumber(mode, 8), stat.mode % 512)
      assert.equal(200, server:http({ path = "/healthz" }, { unix = path }).status)
      server:stop()
    end
    harness.fs.remove(dir)
  end)

  it("takes over a Unix socket that a crash left behind, but not one in use", function()
    local dir = harness.fs.mkdtemp()
    local path = dir .. "/mesa.sock"
    local crashed = harness.lab { host = "unix:" .. path }
    local refused, err = pcall(harness.lab, { host = "unix:" .. path })
    assert.is_false(refused)
    assert.matches("in use", err)
    crashed:join("/", { unix = path }) -- not disturbed by that
    crashed:signal "sigkill"
    crashed.process:wait(5000)
    crashed:destroy()
    assert.is_true(harness.fs.exists(path))
    server = harness.lab { host = "unix:" .. path }
    server:join("/", { unix = path })
    server:stop()
    harness.fs.remove(dir)
  end)

  it("accepts five hundred connections that come at once", function()
    server = harness.lab {}
    local stream = require "spec.support.stream"
    local ws_client = require "spec.support.ws_client"
    local wires, greeted = {}, 0
    for i = 1, 500 do
      local wire = assert(stream.connect { port = server.port })
      local text, done = "", false
      wire:listen(function(bytes)
        text = text .. bytes
        if not done and text:find('"op":10', 1, true) then
          done = true
          greeted = greeted + 1
        end
      end, function() end)
      wires[i] = wire
    end
    for _, wire in ipairs(wires) do
      wire:write(ws_client.request "/")
    end
    assert.is_true(harness.loop.wait(function()
      return greeted == 500
    end, 10000), ("%d of 500 were greeted"):format(greeted))
    for _, wire in ipairs(wires) do
      wire:close()
    end
  end)

  it("serves several servers of one script", function()
    server = harness.start([[
      local Mesa = require "mesa"
      for i = 1, 2 do
        local server = Mesa.new { port = 0, host = "127.0.0.1" }
        server:on("connection", function(client) client:send(Mesa.Message(0, { server = i }, "NUMBER"), true) end)
      end
    ]], { listeners = 2 })
    local seen = {}
    for _, port in ipairs(server.ports) do
      seen[server:connect("/", { port = port }):expect("NUMBER").d.server] = true
    end
    assert.same({ true, true }, seen)
  end)
end)
