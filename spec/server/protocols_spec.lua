-- Subprotocols: which of those a client offers is agreed to, with TLS and without.
local harness = require "spec.support.harness"

local loop = harness.loop

-- A server with `protocols` (Lua text) that tells each client what was agreed to.
local function start(protocols, tls)
  local cert = tls and harness.tls.certificate()
  local server = harness.start(([[
    local Mesa = require "mesa"
    local server = Mesa.new {
      port = 0, host = "127.0.0.1", tls = %s,
      protocols = %s,
    }
    server:on("connection", function(client)
      client:send(Mesa.Message(0, { protocol = client.request.protocol, offers = client.request.protocols or false }, "AGREED"))
    end)
    server:on("error", function(err) print("error " .. err.code .. ": " .. err.message) end)
  ]]):format(cert and ("{ cert = %q, key = %q }"):format(cert.cert, cert.key) or "nil", protocols))
  server.tls = tls
  return server
end

-- What the server's answer to the offer says, and what its script sees; or nil, and the status of the refusal.
local function agreed(server, offer, headers)
  local client, _, response = server:try_connect("/", { protocol = offer, headers = headers })
  if not client then return nil, response.status end
  client:hello()
  local seen = client:expect "AGREED".d
  assert.is_false(seen.offers)
  client:close()
  assert.equal(seen.protocol, client.response.headers["sec-websocket-protocol"] or "")
  return seen.protocol
end

for _, transport in ipairs(harness.transports) do
  describe("subprotocols over " .. transport.name, function()
    local server

    after_each(function()
      server:stop()
    end)

    it("are chosen in the server's order, and none where none fits", function()
      server = start('{ "v2", "v1" }', transport.tls)
      assert.equal("v2", agreed(server, "v1, v2"))
      assert.equal("v2", agreed(server, "v0,v2"))
      assert.equal("v1", agreed(server, " v0 , ,\tv1 "))
      assert.equal("", agreed(server, "v3, V2, v"))
      assert.equal("", agreed(server, nil))
    end)

    it("are told apart by case and by their whole name", function()
      server = start('{ "chat.v1" }', transport.tls)
      assert.equal("", agreed(server, "chat.v"))
      assert.equal("", agreed(server, "chat.v10, Chat.v1"))
      assert.equal("chat.v1", agreed(server, "chat.v10, chat.v1"))
    end)

    it("are found in an offer as long as a request head may be, and in one of several headers", function()
      server = start('{ "needle" }', transport.tls)
      assert.equal("needle", agreed(server, ("q"):rep(7000) .. ", needle"))
      assert.equal("needle", agreed(server, ("q, "):rep(2300) .. "needle"))
      assert.equal("needle", agreed(server, "a, b", { ["sec-websocket-protocol"] = "c, needle" }))
    end)

    it("are refused with 400 where none fits and one is required", function()
      server = start('{ "v1", required = true }', transport.tls)
      local _, status = agreed(server, "v3, v4")
      assert.equal(400, status)
      assert.matches("error HANDSHAKE: none of the subprotocols is offered, but: v3, v4, from 127.0.0.1",
        server:stdout_contains "[^\n]+", 1, true)
      _, status = agreed(server, nil)
      assert.equal(400, status)
      assert.equal("v1", agreed(server, "v1"))
    end)

    it("are chosen by a function of the request", function()
      server = start([[function(request)
        local wanted = request.headers["x-wanted"] or request.query.wanted
        for _, name in ipairs(request.protocols) do
          if name == wanted then return name end
        end
      end]], transport.tls)
      assert.equal("b", agreed(server, "a, b", { ["X-Wanted"] = "b" }))
      assert.equal("", agreed(server, "a, b", { ["X-Wanted"] = "c" }))
      assert.equal("", agreed(server, nil))
      local client = server:connect("/?wanted=a", { protocol = "b, a" })
      assert.equal("a", client.response.headers["sec-websocket-protocol"])
    end)

    it("are taken as the first one offered without the key", function()
      server = start("nil", transport.tls)
      assert.equal("z", agreed(server, "z, a"))
      assert.equal("", agreed(server, nil))
    end)
  end)
end

describe("a function that chooses subprotocols", function()
  local server

  after_each(function()
    server:stop()
  end)

  local function mistake(body, offer)
    server = start("function(request) " .. body .. " end")
    local _, status = agreed(server, offer)
    assert.equal(500, status)
    local text = server:stdout_contains "error SCRIPT: [^\n]+"
    assert.is_true(server.process:running())
    return text
  end

  it("is told when it returns what was not offered", function()
    local text = mistake("return 'c'", "a, b")
    assert.equal("error SCRIPT: protocols must return one of the subprotocols that were offered, or nil: it returned c, "
      .. "and a, b were offered", text)
  end)

  it("is told when nothing was offered, or when it returns no name", function()
    assert.matches("it returned c, and none was offered", mistake("return 'c'"), 1, true)
    server:stop()
    assert.matches("it returned true, and a was offered", mistake("return true", "a"), 1, true)
  end)

  it("costs a 500 when it raises, with its line in the log, and the next client is served", function()
    server = start("function(request) if request.query.bad then error 'oops' end return request.protocols[1] end")
    local _, _, response = server:try_connect("/?bad=1", { protocol = "a" })
    assert.equal(500, response.status)
    assert.matches("server.lua:%d+: oops", server:log_contains "[^\n]*oops")
    assert.equal("a", agreed(server, "a"))
  end)

  it("cannot wait, and is told so at its line", function()
    assert.matches("server.lua:%d+: Mesa.sleep cannot wait", mistake("Mesa.sleep(1) return 'a'", "a"))
  end)
end)

describe("servers on one port", function()
  it("have subprotocols of their own", function()
    local server = harness.start [[
      local Mesa = require "mesa"
      local host = Mesa.new { port = 0, host = "127.0.0.1", path = "/one", protocols = { "a" } }
      local guest = Mesa.new { server = host, path = "/two", protocols = { "b", required = true } }
    ]]
    finally(function() server:stop() end)
    local one = server:connect("/one", { protocol = "a, b" })
    local two = server:connect("/two", { protocol = "a, b" })
    assert.equal("a", one.response.headers["sec-websocket-protocol"])
    assert.equal("b", two.response.headers["sec-websocket-protocol"])
    local _, _, response = server:try_connect("/two", { protocol = "a" })
    assert.equal(400, response.status)
    assert.truthy(loop.wait(function() return server.process.stderr:find "HANDSHAKE" end, 5000))
  end)
end)
