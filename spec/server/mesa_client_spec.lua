-- Mesa.Client: programs that are clients of a Mesa server.
local harness = require "spec.support.harness"

-- A program that reports what happens on stdout; `body` sees `client`, `Message` and `say`.
local function program(server, body, options)
  local scheme = server.tls and "wss" or "ws"
  return ([[
local Mesa = require "mesa"
local Message = Mesa.Message
io.stdout:setvbuf "line"
local function say(...) print(...) end
local client = Mesa.Client("%s://localhost:%d/", %s)
client:on("error", function(err) say("error " .. err.code .. " " .. err.message) end)
%s
]]):format(scheme, server.port, options or "{}", body)
end

for _, transport in ipairs(harness.transports) do
  describe("Mesa.Client over " .. transport.name, function()
    local server, running

    local function serve(config, extra)
      server = harness.lab(config, { tls = transport.tls, extra = extra })
    end

    local function run(body, options)
      if transport.tls then
        options = (options or "{}"):gsub("^{", ("{ ca = %q, "):format(harness.tls.certificate().cert))
      end
      running = harness.launch(program(server, body, options))
      return running
    end

    after_each(function()
      if running then running:stop() end
      server:stop()
      running = nil
    end)

    it("connects, authenticates and talks, and the program ends when it has disconnected", function()
      serve()
      local bot = run [[
        client:on("connected", function(event)
          say("connected", event.isInitialConnection, event.isInitialSessionConnection, event.isAutomaticReconnection)
          local user = client:authenticate { id = "bot" }
          say("user", user.id, client.authenticated)
          say("sent", client:send(Message(0, { text = "hi" }, "ECHO")))
        end)
        client:on("message", function(message)
          say("message", message.type, message.data.text)
          client:disconnect(3001, "done")
        end)
        client:on("disconnected", function(code, reason, event) say("disconnected", code, reason, event.willAttemptReconnect) end)
      ]]
      assert.equal(0, bot:wait_exit(10000))
      assert.equal(table.concat({
        "connected\ttrue\ttrue\tfalse", "user\tbot\ttrue", "sent\ttrue", "message\tECHO\thi", "disconnected\t3001\tdone\tfalse", "",
      }, "\n"), bot.process.stdout)
    end)

    it("keeps what is sent while there is no connection, in order and bounded", function()
      serve()
      local bot = run([[
        for i = 1, 3 do client:send(Message(0, { n = i }, "ECHO")) end
        say("big", client:send(Message(0, { text = ("x"):rep(2000) }, "ECHO")))
        client:on("message", function(message)
          say(message.data.n)
          if message.data.n == 3 then client:disconnect() end
        end)
      ]], "{ maxQueue = 1000 }")
      assert.equal(0, bot:wait_exit(10000))
      assert.equal("big\tnil\tfull\n1\n2\n3\n", bot.process.stdout)
    end)

    it("carries a message of a megabyte both ways", function()
      serve { limits = { maxPayload = 4 * 1024 * 1024, maxBackpressure = 8 * 1024 * 1024 } }
      local bot = run([[
        local text = ("0123456789abcdef"):rep(65536)
        client:send(Message(0, { text = text }, "ECHO"))
        client:on("message", function(message)
          say(message.data.text == text)
          client:disconnect()
        end)
      ]], "{ maxPayload = 4 * 1024 * 1024, maxQueue = 4 * 1024 * 1024 }")
      assert.equal(0, bot:wait_exit(20000))
      assert.equal("true\n", bot.process.stdout)
    end)
  end)
end

describe("Mesa.Client", function()
  local server, running

  local function run(body, options)
    running = harness.launch(program(server, body, options))
    return running
  end

  after_each(function()
    if running then running:stop() end
    if server then server:stop() end
    server, running = nil, nil
  end)

  it("comes back by the server's interval, and sends then what waited", function()
    server = harness.lab({ reconnect = { enabled = true, interval = 100 } }, { extra = [[
      server:on("connection", function(client)
        client:on("message", function(message) if message.type == "KICK" then client:disconnect(4001, "out") end end)
      end)
    ]] })
    local bot = run [[
      client:on("connected", function(event)
        say("connected", event.isInitialConnection, event.isAutomaticReconnection)
        if event.isInitialConnection then client:send(Message(0, {}, "KICK")) end
      end)
      client:on("disconnected", function(code, reason, event)
        say("disconnected", code, reason, event.willAttemptReconnect)
        if event.willAttemptReconnect then client:send(Message(0, { late = true }, "ECHO")) end
      end)
      client:on("message", function(message)
        if message.type == "ECHO" then
          say("late", message.data.late)
          client:disconnect()
        end
      end)
    ]]
    assert.equal(0, bot:wait_exit(10000))
    assert.equal("connected\ttrue\tfalse\ndisconnected\t4001\tout\ttrue\nconnected\tfalse\ttrue\nlate\ttrue\n"
      .. "disconnected\t1000\t\tfalse\n", bot.process.stdout)
  end)

  it("keeps trying while the server is away", function()
    local config = { reconnect = { enabled = true, interval = 50 }, port = harness.free_port() }
    server = harness.lab(config)
    local bot = run [[
      client:on("connected", function(event)
        say("connected", event.isInitialConnection, event.isAutomaticReconnection)
        if event.isAutomaticReconnection then client:disconnect() end
      end)
    ]]
    bot:stdout_contains "connected\ttrue\tfalse"
    server:stop()
    assert.is_true(harness.loop.wait(function()
      return select(2, bot.process.stdout:gsub("error CONNECT cannot connect to", "")) >= 3
    end, 10000))
    server = harness.lab(config)
    assert.equal(0, bot:wait_exit(10000))
    assert.matches("connected\tfalse\ttrue\n$", bot.process.stdout)
  end)

  it("comes back at a time of its own when many have lost the same server", function()
    server = harness.lab({ reconnect = { enabled = true, interval = 500 } }, { extra = [[
      server:on("connection", function(client)
        client:on("message", function(message)
          if message.type ~= "KICK_ALL" then return end
          for other in server:clients() do other:disconnect(4001) end
        end)
      end)
    ]] })
    local bot = harness.launch(([[
      local Mesa = require "mesa"
      local uv = require "luv"
      local first, last, lost, back, round = math.huge, 0, math.huge, 0, 1
      local clients = {}
      local function again()
        first, last, lost, back = math.huge, 0, math.huge, 0
        clients[1]:send(Mesa.Message(0, {}, "KICK_ALL"))
      end
      local function connected(event)
        back = back + 1
        if not event.isAutomaticReconnection then
          if back == 40 then again() end
          return
        end
        first, last = math.min(first, uv.hrtime()), math.max(last, uv.hrtime())
        if back == 40 then
          local apart = (last - first) / 1e6 >= 20
          if not apart and round < 5 then -- a process that stood still finds all its timers due at once
            round = round + 1
            return again()
          end
          print((first - lost) / 1e6 >= 200, apart)
          for _, client in ipairs(clients) do client:disconnect() end
        end
      end
      for i = 1, 40 do
        clients[i] = Mesa.Client "ws://localhost:%d/"
        clients[i]:on("connected", connected)
        clients[i]:on("disconnected", function(code) if code == 4001 then lost = math.min(lost, uv.hrtime()) end end)
      end
    ]]):format(server.port))
    running = bot
    assert.equal(0, bot:wait_exit(20000), bot:output())
    assert.equal("true\ttrue\n", bot.process.stdout)
  end)

  it("answers heartbeats while a listener waits", function()
    server = harness.lab { heartbeat = { enabled = true, interval = 100, maxAttempts = 14 } }
    local bot = run [[
      client:on("connected", function()
        Mesa.sleep(2500)
        say("still here", client.connected)
        client:disconnect()
      end)
    ]]
    assert.equal(0, bot:wait_exit(10000))
    assert.equal("still here\ttrue\n", bot.process.stdout)
  end)

  it("says its version where the server insists, and keeps messages where it is told to", function()
    server = harness.lab { client = { enforceEqualVersions = true }, options = { storeMessages = true } }
    local bot = run [[
      client:on("connected", function()
        client:authenticate { id = "v" }
        client:send(Message(0, { n = 1 }, "ECHO"))
      end)
      client:on("message", function()
        say(#client.messages.received, #client.messages.sent, table.concat(client.rules, ","))
        client:disconnect()
      end)
    ]]
    assert.equal(0, bot:wait_exit(10000))
    assert.matches("^1\t1\tenforce_equal_versions,store_messages", bot.process.stdout)
    running = harness.launch(program(server, [[
      client:on("disconnected", function(code) say(code) end)
    ]], "{ version = '0.0.1' }"))
    assert.equal(0, running:wait_exit(10000))
    assert.equal("1002\n", running.process.stdout)
  end)

  it("hears of a refused authentication as nil and why", function()
    server = harness.lab(nil, { extra = [[
      server:on("connection", function(client)
        client:authenticate(function(_, done) done("no") end)
      end)
    ]] })
    local bot = run [[
      client:on("connected", function() say("auth", client:authenticate { id = "x" }) end)
      client:on("disconnected", function(code) say("disconnected", code) end)
    ]]
    assert.equal(0, bot:wait_exit(10000))
    assert.equal("disconnected\t1008\nauth\tnil\tclosed\n", bot.process.stdout)
  end)

  it("handles messages in order, one listener at a time", function()
    server = harness.lab()
    local bot = run [[
      for i = 1, 200 do client:send(Message(0, { n = i }, "ECHO")) end
      local busy, order = 0, 0
      client:on("message", function(message)
        busy = busy + 1
        if message.data.n % 20 == 0 then Mesa.sleep(5) end
        assert(busy == 1 and message.data.n == order + 1, "out of order")
        order, busy = message.data.n, busy - 1
        if order == 200 then say("in order") client:disconnect() end
      end)
    ]]
    assert.equal(0, bot:wait_exit(10000))
    assert.equal("in order\n", bot.process.stdout)
  end)

  it("reports a server that is not there, refuses, or is no WebSocket server", function()
    server = harness.lab { path = "/ws" }
    local bot = harness.launch(([[
      local Mesa = require "mesa"
      Mesa.setTimeout(function()
        for _, url in ipairs { "ws://127.0.0.1:1/", "ws://localhost:%d/other", "ws://no.such.host.invalid/", "ws://[::1]:1/" } do
          local client = Mesa.Client(url, { autoConnect = false, timeout = 3000 })
          client:on("error", function() end)
          local ok, err = client:connect()
          print(ok, err)
        end
      end, 0)
    ]]):format(server.port))
    running = bot
    assert.equal(0, bot:wait_exit(20000))
    local lines = {}
    for line in bot.process.stdout:gmatch "[^\n]+" do lines[#lines + 1] = line end
    assert.equal(4, #lines, bot:output())
    for _, line in ipairs(lines) do assert.matches("^nil\t%S+", line) end
  end)

  it("gives up a server that accepts and says nothing", function()
    local silent = require("luv").new_tcp()
    assert(silent:bind("127.0.0.1", 0))
    assert(silent:listen(8, function() end))
    running = harness.launch(([[
      local Mesa = require "mesa"
      local client = Mesa.Client("ws://127.0.0.1:%d/", { timeout = 200 })
      client:on("error", function(err) print(err.message) end)
    ]]):format(silent:getsockname().port))
    assert.equal(0, running:wait_exit(10000))
    silent:close()
    assert.matches("timed out", running.process.stdout)
  end)

  it("trusts nobody it was not told to", function()
    server = harness.lab(nil, { tls = true })
    local bot = run [[
      client:on("connected", function() say "connected" end)
    ]]
    assert.equal(0, bot:wait_exit(10000))
    assert.matches("^error CONNECT", bot.process.stdout)
    local ca = ("{ ca = %q }"):format(harness.tls.certificate().cert)
    local stranger = program(server, "", ca):gsub("localhost", "127.1") -- the same address by a name it has no certificate for
    running = harness.launch(stranger)
    assert.equal(0, running:wait_exit(10000))
    assert.matches("^error CONNECT", running.process.stdout)
    local by_address = program(server, [[client:on("connected", function() say "connected" client:disconnect() end)]], ca)
      :gsub("localhost", "127.0.0.1")
    running = harness.launch(by_address)
    assert.equal(0, running:wait_exit(10000))
    assert.equal("connected\n", running.process.stdout)
  end)

  it("verifies a server that is named by an IPv6 address", function()
    server = harness.lab({ host = "::1" }, { tls = true })
    local ca = ("{ ca = %q }"):format(harness.tls.certificate().cert)
    local text = program(server, [[client:on("connected", function() say "connected" client:disconnect() end)]], ca)
    running = harness.launch((text:gsub("localhost", "[::1]")))
    assert.equal(0, running:wait_exit(10000))
    assert.equal("connected\n", running.process.stdout)
  end)

  it("survives answers that are none", function()
    local uv = require "luv"
    for _, answer in ipairs {
      "", "\0\255garbage\r\n\r\n", "HTTP/1.1 101", "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello",
      "HTTP/1.1 302 Found\r\nLocation: ws://no.such.host.invalid/\r\nContent-Length: 0\r\n\r\n",
      "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: wrong\r\n\r\n",
      "HTTP/1.1 101 Switching Protocols\r\n" .. ("X-Filler: " .. ("y"):rep(1000) .. "\r\n"):rep(100) .. "\r\n",
    } do
      local fake = uv.new_tcp()
      assert(fake:bind("127.0.0.1", 0))
      assert(fake:listen(8, function()
        local peer = uv.new_tcp()
        fake:accept(peer)
        peer:read_start(function(err, chunk)
          if peer:is_closing() then return end
          if err or not chunk then return peer:close() end
          peer:write(answer, function() if not peer:is_closing() then peer:close() end end)
        end)
      end))
      local bot = harness.launch(([[
        local Mesa = require "mesa"
        local client = Mesa.Client("ws://127.0.0.1:%d/", { timeout = 2000 })
        client:on("connected", function() print "connected" end)
        client:on("error", function(err) print(err.code) end)
      ]]):format(fake:getsockname().port))
      assert.equal(0, bot:wait_exit(10000), answer)
      assert.equal("CONNECT\n", bot.process.stdout, answer)
      bot:stop()
      fake:close()
    end
  end)

  it("reports what is no message, and goes on", function()
    server = harness.start([[
      local Mesa = require "mesa"
      local server = Mesa.new { port = 0, host = "127.0.0.1", raw = true }
      server:on("connection", function(client)
        for _, text in ipairs { "not json", "[]", "{}", '{"op":"x"}', '{"op":10,"d":null}', '{"op":10,"d":{"rules":7}}', '{"op":22}',
          '{"op":0,"t":"FINE"}' } do client:send(text) end
        client:send("\\0\\1", { binary = true })
        client:send '{"op":0,"t":"END"}'
      end)
    ]])
    local bot = run [[
      client:on("message", function(message)
        say(message.type)
        if message.type == "END" then client:disconnect() end
      end)
    ]]
    assert.equal(0, bot:wait_exit(10000))
    assert.equal(5, select(2, bot.process.stdout:gsub("error PROTOCOL", "")), bot.process.stdout)
    assert.matches("FINE\n.*END\n$", bot.process.stdout)
  end)

  it("says when it is full, and when it can go on", function()
    server = harness.lab { limits = { maxBackpressure = 64 * 1024 * 1024 } }
    local bot = run([[
      local sent, got, refusals, text = 0, 0, 0, ("x"):rep(10000)
      local function fill()
        while sent < 200 do
          local ok, err = client:send(Message(0, { n = sent + 1, text = text }, "ECHO"))
          if not ok then
            assert(err == "full")
            refusals = refusals + 1
            return
          end
          sent = sent + 1
        end
      end
      client:on("connected", fill)
      client:on("drain", fill)
      client:on("message", function(message)
        got = got + 1
        assert(message.data.n == got, "out of order")
        if got == 200 then
          say("all", refusals > 0)
          client:disconnect()
        end
      end)
    ]], "{ maxQueue = 100000 }")
    assert.equal(0, bot:wait_exit(20000))
    assert.equal("all\ttrue\n", bot.process.stdout)
  end)

  it("closes a server whose message is too big", function()
    server = harness.lab()
    local bot = run([[
      client:send(Message(0, { text = ("x"):rep(3000) }, "ECHO"))
      client:on("disconnected", function(code) say(code) end)
    ]], "{ maxPayload = 2000 }")
    assert.equal(0, bot:wait_exit(10000))
    assert.equal("error PAYLOAD the server broke the WebSocket protocol: message too big (closed with 1009)\n1009\n", bot.process.stdout)
  end)

  it("leaves with 1001 when its program is told to end", function()
    server = harness.lab(nil, { extra = [[
      server:on("disconnection", function(_, event) print("left", event.code) io.stdout:flush() end)
    ]] })
    local bot = run [[client:on("connected", function() say "connected" end)]]
    bot:stdout_contains "connected"
    bot:stop()
    server:stdout_contains "left\t1001"
  end)

  it("raises at misuse", function()
    running = harness.launch [[
      local Mesa = require "mesa"
      local client = Mesa.Client("ws://localhost:1/", { autoConnect = false })
      for _, call in ipairs {
        function() Mesa.Client(42) end,
        function() Mesa.Client "http://localhost/" end,
        function() Mesa.Client("ws://localhost/", { nonsense = true }) end,
        function() Mesa.Client("wss://localhost/", { ca = "/no/such/file" }) end,
        function() client:send "text" end,
        function() client:authenticate {} end,
        function() client:disconnect(1006) end,
      } do print(select(2, pcall(call))) end
    ]]
    assert.equal(0, running:wait_exit(10000))
    for _, text in ipairs { "expects a URL", "ws:// or wss://", '"nonsense"', "/no/such/file",
      "expects a Message", "cannot wait while a script loads", "1006" } do
      assert.is_truthy(running.process.stdout:find(text, 1, true), text .. "\n" .. running:output())
    end
  end)
end)
