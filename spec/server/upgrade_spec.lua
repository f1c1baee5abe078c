-- The `upgrade` event: who asks for a WebSocket is let in, or refused, before a client exists.
local harness = require "spec.support.harness"
local http = require "spec.support.http"
local stream = require "spec.support.stream"
local ws_client = require "spec.support.ws_client"
local ws_frame = require "spec.support.ws_frame"

local loop = harness.loop

local SOURCE = [[
  local Mesa = require "mesa"
  local server = Mesa.new { port = 0, host = "127.0.0.1", tls = %s, limits = { handshakeTimeout = %d }, admin = { port = 0 } }
  server:on("connection", function(client)
    print("client " .. client.request.path)
    client:send(Mesa.Message(0, { query = client.request.query, protocol = client.request.protocol }, "IN"))
    client:on("message", function(message) client:send(message) end)
    client:on("disconnect", function(event) print("gone " .. event.code) end)
  end)
  server:on("error", function(err) print("error " .. err.code .. ": " .. err.message) end)
]]

-- A server that listens for upgrades with this Lua text.
local function start(listeners, options)
  options = options or {}
  local cert = options.tls and harness.tls.certificate()
  local server = harness.start(SOURCE:format(
    cert and ("{ cert = %q, key = %q }"):format(cert.cert, cert.key) or "nil", options.timeout or 10000
  ) .. listeners)
  server.tls = options.tls
  return server
end

local function connect(server)
  return assert(stream.connect({ port = server.port }, { ca = server.tls and harness.tls.certificate().cert or nil }))
end

-- The status and the body that a refused peer gets.
local function refused(server, path)
  local response = assert(server:http { raw = ws_client.request(path or "/") })
  return response.status, response.body
end

for _, transport in ipairs(harness.transports) do
  describe("the upgrade event over " .. transport.name, function()
    local server

    after_each(function()
      server:stop()
    end)

    it("lets in and refuses, at once", function()
      server = start([[
        server:on("upgrade", function(request, decide)
          assert(request.ip == "127.0.0.1" and request.headers.host == "localhost")
          if request.path == "/in" then assert(decide(true)) return end
          assert(decide(false, tonumber(request.query.status), request.query.text))
        end)
      ]], transport)
      local client = server:join("/in?a=1", { protocol = "p, q" })
      assert.same({ query = { a = "1" }, protocol = "p" }, client:expect("IN").d)
      assert.equal("p", client.response.headers["sec-websocket-protocol"])
      client:send { op = 0, t = "ECHO" }
      client:expect "ECHO"
      assert.same({ 403, "Forbidden\n" }, { refused(server, "/out") })
      assert.same({ 401, "who are you?\n" }, { refused(server, "/out?status=401&text=who+are+you?") })
      assert.same({ 503, ("x"):rep(2000) .. "\n" }, { refused(server, "/out?status=503&text=" .. ("x"):rep(2000)) })
      assert.is_nil(server.process.stdout:find("client /out", 1, true))
      local metrics = http.request({ port = server.admin_port }, { path = "/metrics" }).body
      assert.matches("\nmesa_upgrades_refused_total 3\n", metrics)
    end)

    it("may wait, and decide after it has returned", function()
      server = start([[
        server:on("upgrade", function(request, decide)
          if request.path == "/waits" then
            Mesa.sleep(20)
            decide(true)
          else
            Mesa.setTimeout(function() decide(request.path == "/later", 429) end, 20)
          end
        end)
      ]], transport)
      for _, path in ipairs { "/waits", "/later" } do
        local client = server:join(path)
        client:expect "IN"
        client:send { op = 0, t = "ECHO" }
        client:expect "ECHO"
      end
      assert.equal(429, (refused(server, "/never")))
    end)

    it("keeps what a peer sends meanwhile", function()
      server = start([[
        server:on("upgrade", function(request, decide) Mesa.setTimeout(function() decide(true) end, 50) end)
      ]], transport)
      local wire = connect(server)
      local text = ""
      wire:listen(function(bytes) text = text .. bytes end, function() end)
      wire:write(ws_client.request "/" .. ws_frame.encode(ws_frame.TEXT, '{"op":0,"t":"EARLY","d":{}}'))
      assert.is_true(loop.wait(function() return text:find("EARLY", 1, true) end, 5000), text)
      wire:close()
    end)

    it("closes who is not decided about in time, with 503", function()
      server = start([[
        server:on("upgrade", function(request, decide) server.state.decide = decide end)
        Mesa.setInterval(function()
          if server.state.decide and server.state.late then print("late " .. tostring(select(2, server.state.decide(true)))) end
          server.state.late = server.state.decide ~= nil and server.state.error
        end, 20)
        server:on("error", function() server.state.error = true end)
      ]], { tls = transport.tls, timeout = 700 })
      assert.equal(503, (refused(server)))
      assert.matches("error HANDSHAKE: nobody has decided about the upgrade within limits.handshakeTimeout, from 127.0.0.1",
        server:stdout_contains "error HANDSHAKE[^\n]*", 1, true)
      assert.equal("late closed", server:stdout_contains "late [^\n]*")
    end)

    it("notices that the peer leaves meanwhile", function()
      server = start([[
        server:on("upgrade", function(request, decide)
          print "asked"
          server.state.decide = decide
        end)
        server:on("request", function(_, response)
          local ok, why = server.state.decide(true)
          response:send(tostring(ok) .. " " .. tostring(why))
        end)
      ]], transport)
      local before = server:fds()
      local wire = connect(server)
      wire:write(ws_client.request "/")
      server:stdout_contains "asked"
      wire:close()
      assert.is_true(loop.wait(function() return server:fds() <= before end, 5000))
      assert.equal("nil closed", server:http("/").body)
      assert.is_nil(server.process.stdout:find("client /", 1, true))
    end)
  end)
end

describe("listeners of upgrade", function()
  local server

  after_each(function()
    if server then server:stop() end
    server = nil
  end)

  it("that raise refuse with 500, and are told with their line", function()
    server = start 'server:on("upgrade", function(request, decide) error "oops" end)'
    assert.equal(500, (refused(server)))
    assert.matches("server.lua:%d+: oops", server:log_contains "[^\n]*oops")
    assert.matches("error SCRIPT", server:stdout_contains "error SCRIPT[^\n]*")
  end)

  it("that raise after their decision change nothing", function()
    server = start 'server:on("upgrade", function(request, decide) decide(true) error "oops" end)'
    server:join("/"):expect "IN"
    server:log_contains "oops"
  end)

  it("are asked in their order until one has decided", function()
    server = start [[
      server:on("upgrade", function(request) print "first" return request.path == "/a" end)
      server:on("upgrade", function(request, decide)
        decide(true)
        print("again " .. tostring(select(2, decide(false))))
      end)
      server:on("upgrade", function(request, decide) print "third" end)
    ]]
    server:join("/a"):expect "IN"
    assert.equal("again decided", server:stdout_contains "again [^\n]*")
    assert.is_truthy(server.process.stdout:find("first", 1, true))
    assert.is_nil(server.process.stdout:find("third", 1, true))
  end)

  it("are told at their line what decide takes", function()
    server = start [[
      server:on("upgrade", function(request, decide)
        for _, arguments in ipairs { { "yes" }, {}, { false, 200 }, { false, "403" }, { false, 403, {} } } do
          print(select(2, pcall(decide, arguments[1], arguments[2], arguments[3])))
        end
        decide(true)
      end)
    ]]
    server:join "/"
    local output = server.process.stdout
    for _, text in ipairs {
      "decide expects true, or false with a status and a text: got a string", "got nothing",
      "the status of a refusal is an integer from 400 to 599, got 200", "got 403", "the text of a refusal must be a string, got a table",
    } do
      assert.truthy(output:find(text, 1, true), output)
    end
  end)

  it("that forget decide cost a 500 once nothing can call it", function()
    server = start [[
      server:on("upgrade", function(request, decide) end)
      Mesa.setInterval(function() collectgarbage() end, 20)
    ]]
    assert.equal(500, (refused(server)))
    server:log_contains "no listener of `upgrade` has called decide"
  end)

  it("are not asked about what is refused anyway, nor about plain requests", function()
    server = start [[
      server:on("upgrade", function(request, decide) print "asked" decide(true) end)
      server:on("request", function(request, response) response:send "plain" end)
    ]]
    assert.equal("plain", server:http("/").body)
    local _, _, response = server:try_connect("/", { headers = { ["Sec-WebSocket-Version"] = "12" } })
    assert.equal(426, response.status)
    assert.is_nil(server.process.stdout:find("asked", 1, true))
    server:join "/"
  end)

  it("belong to their own server on a shared port", function()
    server = harness.start [[
      local Mesa = require "mesa"
      local host = Mesa.new { port = 0, host = "127.0.0.1", path = "/one" }
      local guest = Mesa.new { server = host, path = "/two" }
      guest:on("upgrade", function(request, decide)
        Mesa.setTimeout(function() decide(request.query.ok == "1") end, 10)
        if request.query.close then guest:close() end
      end)
    ]]
    server:join "/one"
    server:join "/two?ok=1"
    assert.equal(403, (refused(server, "/two")))
    assert.equal(503, (refused(server, "/two?ok=1&close=1")))
    server:join "/one"
  end)

  it("that wait hold up no shutdown: the peer gets 503", function()
    server = start [[
      server:on("upgrade", function(request, decide)
        print "asked"
        Mesa.sleep(100000)
        decide(true)
      end)
    ]]
    local status, gone
    local wire = assert(stream.connect { port = server.port })
    wire:listen(function(bytes) status = status or bytes:match "^HTTP/1.1 (%d+)" end, function() gone = true end)
    wire:write(ws_client.request "/")
    server:stdout_contains "asked"
    server:signal "sigterm"
    assert.is_true(loop.wait(function() return gone end, 5000))
    wire:close()
    assert.equal("503", status)
    assert.equal(0, server:wait_exit(10000))
    server:destroy()
    server = nil
  end)

  it("are those of the newest code after a reload", function()
    local function door(verdict)
      return ([[
        local door = {}
        function door.open(server)
          server:on("upgrade", function(request, decide) decide(%s) end)
        end
        door.open(server)
        return door
      ]]):format(verdict)
    end
    server = harness.start(nil, { files = {
      ["server.lua"] = [[
        local Mesa = require "mesa"
        server = Mesa.new { port = 0, host = "127.0.0.1" }
        require "door"
      ]],
      ["door.lua"] = door "true",
    } })
    server:join "/"
    server:save("door.lua", door "false, 410")
    assert.equal(410, (refused(server)))
    server:save("door.lua", "return {}")
    server:join "/"
  end)
end)
