local harness = require "spec.support.harness"
local stream = require "spec.support.stream"

describe("limits", function()
  local server

  local function start(limits, config)
    config = config or {}
    config.limits = limits
    server = harness.lab(config)
  end

  local function errors_and_disconnects()
    local bystander = server:join()
    bystander:send { op = 0, t = "EVENTS" }
    local names = {}
    for _, event in ipairs(bystander:expect("EVENTS").d.events) do
      names[event.name] = (names[event.name] or 0) + 1
    end
    return names
  end

  after_each(function()
    server:stop()
  end)

  describe("maxPayload", function()
    it("is one MiB by default", function()
      start(nil)
      local client = server:join()
      local room = 1024 * 1024 - #'{"op":0,"t":"GOT","d":""}'
      client:send('{"op":0,"t":"GOT","d":"' .. ("x"):rep(room) .. '"}')
      client:expect "GOT"
      client:send('{"op":0,"t":"GOT","d":"' .. ("x"):rep(room + 1) .. '"}')
      client:expect_close(1009)
    end)

    it("holds for one byte", function()
      start { maxPayload = 100 }
      local client = server:join()
      client:send('{"op":0,"t":"ECHO","d":"' .. ("x"):rep(74) .. '"}')
      client:expect "ECHO"
      client:send('{"op":0,"t":"ECHO","d":"' .. ("x"):rep(75) .. '"}')
      client:expect_close(1009)
    end)

    it("does not bound what the server sends", function()
      start { maxPayload = 100 }
      local client = server:join()
      client:send '{"op":0,"t":"SEND_MANY","d":{"count":1,"bytes":5000}}'
      assert.equal(5000, #client:expect("NUMBERED").d.padding)
    end)
  end)

  describe("maxDepth", function()
    it("is 128 by default", function()
      start(nil)
      local client = server:join()
      local function nested(depth) -- inside the envelope, which is one level itself
        return '{"op":0,"t":"ECHO","d":' .. ("["):rep(depth) .. ("]"):rep(depth) .. "}"
      end
      client:send(nested(127))
      client:expect "ECHO"
      client:send(nested(129))
      client:expect_close(1007)
    end)

    it("can be lowered", function()
      start { maxDepth = 4 }
      local client = server:join()
      client:send '{"op":0,"t":"ECHO","d":[[1]]}'
      client:expect "ECHO"
      client:send '{"op":0,"t":"ECHO","d":[[[[1]]]]}'
      client:expect_close(1007)
    end)
  end)

  describe("messagesPerSecond", function()
    it("closes with 4008 above the burst and reports it once", function()
      start { messagesPerSecond = 1, burst = 20 }
      local client = server:join()
      local began = harness.loop.now_ms()
      for _ = 1, 60 do
        client:send { op = 0, t = "ECHO" }
      end
      client:expect_close(4008)
      local echoes = 0
      for _, message in ipairs(client:drain()) do
        echoes = echoes + (message.t == "ECHO" and 1 or 0)
      end
      local most = 20 + math.ceil((harness.loop.now_ms() - began) / 1000)
      assert.is_true(echoes >= 20 and echoes <= most, ("answered %d, at most %d allowed"):format(echoes, most))
      local names = errors_and_disconnects()
      assert.equal(1, names["server error"])
      assert.equal(1, names["client error"])
    end)

    it("lets messages pass at the rate", function()
      start { messagesPerSecond = 50, burst = 5 }
      local client = server:join()
      for _ = 1, 25 do
        client:send { op = 0, t = "ECHO" }
        client:expect "ECHO"
        harness.loop.sleep(25)
      end
    end)

    it("counts each connection alone", function()
      start { messagesPerSecond = 10 }
      local noisy, quiet = server:join(), server:join()
      for _ = 1, 50 do
        noisy:send { op = 0, t = "ECHO" }
      end
      noisy:expect_close(4008)
      quiet:send { op = 0, t = "ECHO" }
      quiet:expect "ECHO"
    end)
  end)

  describe("maxConnections", function()
    it("refuses those above it, and accepts again when one has left", function()
      start { maxConnections = 3 }
      local clients = { server:join(), server:join(), server:join() }
      assert.is_nil((server:try_connect "/"))
      clients[1]:close()
      assert.is_true(harness.loop.wait(function()
        return server:try_connect "/" ~= nil
      end, 5000))
      clients[2]:send { op = 0, t = "ECHO" }
      clients[2]:expect "ECHO"
    end)

    it("counts connections that have not finished their handshake", function()
      start { maxConnections = 2, handshakeTimeout = 300 }
      local idle = { assert(stream.connect { port = server.port }), assert(stream.connect { port = server.port }) }
      assert.is_true(harness.loop.wait(function() -- freed by the handshake timeout
        return server:try_connect "/" ~= nil
      end, 5000))
      for _, wire in ipairs(idle) do
        wire:close()
      end
    end)
  end)

  describe("maxConnectionsPerIp", function()
    it("refuses those above it from one address only", function()
      start({ maxConnectionsPerIp = 2 }, { host = "::" })
      server:join("/", { host = "127.0.0.1" })
      server:join("/", { host = "127.0.0.1" })
      assert.is_nil((server:try_connect("/", { host = "127.0.0.1" })))
      assert.equal(10, server:connect("/", { host = "::1" }):hello().op)
    end)
  end)

  describe("idleTimeout", function()
    it("closes a client that says nothing", function()
      start { idleTimeout = 1500 }
      local silent, busy = server:join(), server:join()
      assert.is_true(harness.loop.wait(function()
        busy:send { op = 0, t = "ECHO" }
        busy:expect "ECHO"
        return silent.gone
      end, 5000))
      busy:send { op = 0, t = "ECHO" }
      busy:expect "ECHO"
    end)
  end)

  describe("origins", function()
    local function status(origin)
      local client, _, response = server:try_connect("/", { headers = { Origin = origin or false } })
      return client and 101 or response and response.status
    end

    it("let in those that are named and refuse others with 403", function()
      start(nil, { origins = { "https://good.example", "http://localhost:8080" } })
      assert.equal(101, status "https://good.example")
      assert.equal(101, status "http://localhost:8080")
      for _, origin in ipairs {
        "https://evil.example", "http://good.example", "https://good.example.evil.example", "https://good.example:444",
        "https://sub.good.example", "null", "https://good.exampl",
      } do
        assert.equal(403, status(origin), origin)
      end
    end)

    it("may have a wildcard for the names below another one", function()
      start(nil, { origins = { "https://*.good.example", "null" } })
      assert.equal(101, status "https://a.good.example")
      assert.equal(101, status "https://a.b.good.example")
      for _, origin in ipairs {
        "https://good.example", "http://a.good.example", "https://a.good.example:444", "https://evil.example/.good.example",
        "https://a.good.example.evil.example",
      } do
        assert.equal(403, status(origin), origin)
      end
    end)

    it("are asked for when every page can connect from anywhere", function()
      local function warned(config)
        if server then server:stop() end
        local lines = { 'local Mesa = require "mesa"', "local server = Mesa.new { port = 0, " .. config .. " }",
          'server:on("listening", function() Mesa.log.info "it is up" end)' }
        server = harness.start(table.concat(lines, "\n"))
        server:log_contains "it is up"
        return server.process.stderr:find("origins is not set", 1, true) ~= nil
      end
      assert.is_true(warned 'host = "0.0.0.0"')
      assert.is_true(warned "")
      assert.matches('or origins = "*" if every page may', server:log_contains "origins is not set[^\n]*", 1, true)
      assert.is_false(warned 'origins = "*"')
      assert.equal(101, status "https://any.example")
      assert.is_false(warned 'origins = { "https://good.example" }')
      assert.is_false(warned 'host = "127.0.0.1"')
      assert.is_false(warned 'host = "localhost"')
    end)

    it("are compared without regard to case", function()
      start(nil, { origins = { "https://good.example" } })
      assert.equal(101, status "HTTPS://Good.Example")
    end)

    it("allow every page by default", function()
      start()
      assert.equal(101, status "https://any.example")
      assert.equal(101, status(nil))
    end)
  end)

  describe("handshakeTimeout", function()
    it("does not touch a connection that is open", function()
      start { handshakeTimeout = 1500 }
      local client = server:join()
      client:expect_silence(1800)
      client:send { op = 0, t = "ECHO" }
      client:expect "ECHO"
    end)

    it("ends a handshake that comes in drops", function()
      start { handshakeTimeout = 300 }
      local wire = assert(stream.connect { port = server.port })
      wire:listen(function() end, function() end)
      local request = "GET / HTTP/1.1\r\nX-Slow: " .. ("s"):rep(200)
      local at = 0
      assert.is_true(harness.loop.wait(function()
        at = at + 1
        wire:write(request:sub(at % #request + 1, at % #request + 1))
        harness.loop.poll()
        return wire.ended
      end, 5000))
      wire:close()
    end)
  end)

  it("keep descriptors and memory flat over thousands of connections", function()
    server = harness.start [[
      local Mesa = require "mesa"
      local server = Mesa.new { port = 0, host = "127.0.0.1", options = { storeMessages = true } }
      server:on("connection", function(client)
        client:authenticate(function(data, done) done(nil, { id = data.id, user = data }) end)
        client:on("message", function(message)
          client.last = message
          client:send(message, true)
        end)
        client:on("disconnect", function(event) client.gone = event end)
      end)
      server:on("error", function() end)
    ]]

    local function cycle(count)
      for i = 1, count do
        local client = server:join()
        client:send { op = 2, d = { id = "user " .. i, name = ("n"):rep(100) } }
        client:expect(22)
        client:send { op = 0, t = "BACK" }
        client:expect "BACK"
        if i % 3 == 0 then
          client:close()
        elseif i % 3 == 1 then
          client:send "no envelope"
          client:expect_close(1007)
        else
          client:drop()
        end
      end
    end

    cycle(600)
    local fds, rss = server:fds(), server:rss()
    cycle(1800)
    assert.is_true(harness.loop.wait(function()
      return server:fds() <= fds + 1
    end, 5000), ("%d descriptors, %d before"):format(server:fds(), fds))
    if not harness.sanitized() then
      assert.is_true(server:rss() - rss < 1024 * 1024, ("%d KiB grew"):format((server:rss() - rss) / 1024))
    end
  end)
end)
