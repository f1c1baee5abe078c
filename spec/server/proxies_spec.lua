-- Behind proxies: whom X-Forwarded-For, Forwarded and X-Forwarded-Proto are believed from, and what follows from it.
local cjson = require "cjson"
local fs = require "spec.support.fs"
local harness = require "spec.support.harness"
local stream = require "spec.support.stream"

local loop = harness.loop

local SOURCE = [[
  local Mesa = require "mesa"
  local server = Mesa.new { port = 0, host = %s, tls = %s, proxies = %s, limits = %s }
  server:on("connection", function(client)
    client:send(Mesa.Message(0, { ip = client.request.ip, secure = client.request.secure }, "SEEN"))
  end)
  server:on("request", function(request, response) response:json { ip = request.ip, secure = request.secure } end)
  server:on("error", function(err) print("error " .. err.code .. ": " .. err.message) end)
]]

-- `proxies` and `limits` are Lua text.
local function start(proxies, options)
  options = options or {}
  local cert = options.tls and harness.tls.certificate()
  local server = harness.start(SOURCE:format(
    options.host or '"127.0.0.1"',
    cert and ("{ cert = %q, key = %q }"):format(cert.cert, cert.key) or "nil",
    proxies, options.limits or "nil"
  ))
  server.tls = options.tls
  return server
end

-- What scripts see of a WebSocket and of a plain request with these headers: the same.
local function seen(server, headers)
  local client = server:join("/", { headers = headers })
  local as_client = client:expect("SEEN").d
  client:close()
  local response = server:http { headers = headers }
  assert.equal(200, response.status)
  assert.same(as_client, cjson.decode(response.body))
  return as_client.ip, as_client.secure
end

for _, transport in ipairs(harness.transports) do
  describe("proxies over " .. transport.name, function()
    local server

    after_each(function()
      server:stop()
    end)

    it("are believed about whom they forward", function()
      server = start('{ "10.0.0.0/8", "127.0.0.1" }', transport)
      assert.equal("203.0.113.7", (seen(server, { ["X-Forwarded-For"] = "203.0.113.7" })))
      assert.equal("203.0.113.7", (seen(server, { ["x-forwarded-for"] = "198.51.100.1, 203.0.113.7, 10.1.2.3" })))
      assert.equal("2001:db8::1", (seen(server, { Forwarded = 'for="[2001:db8::1]:4711";by=_x' })))
      assert.equal("127.0.0.1", (seen(server, { ["X-Forwarded-For"] = "no address" })))
      assert.equal("127.0.0.1", (seen(server, {})))
    end)

    it("are believed about TLS", function()
      server = start('{ "127.0.0.1" }', transport)
      local function secure(headers) return select(2, seen(server, headers)) end
      assert.is_true(secure { ["X-Forwarded-For"] = "203.0.113.7", ["X-Forwarded-Proto"] = "https" })
      assert.is_false(secure { ["X-Forwarded-For"] = "203.0.113.7", ["X-Forwarded-Proto"] = "http" })
      assert.is_true(secure { Forwarded = "for=203.0.113.7;proto=https" })
      assert.equal(transport.tls, secure { ["X-Forwarded-For"] = "203.0.113.7" })
    end)

    it("are those of the list alone", function()
      server = start('{ "127.0.0.2", "::1", "unix" }', transport)
      local ip, secure = seen(server, { ["X-Forwarded-For"] = "203.0.113.7", ["X-Forwarded-Proto"] = "https" })
      assert.equal("127.0.0.1", ip)
      assert.equal(transport.tls, secure)
    end)

    it("have connections that count for those they forward", function()
      server = start('{ "127.0.0.1" }', { tls = transport.tls, limits = "{ maxConnectionsPerIp = 2 }" })
      local function try(ip)
        local client, _, response = server:try_connect("/", { headers = { ["X-Forwarded-For"] = ip } })
        return client, response and response.status
      end
      local first = assert((try "203.0.113.7"))
      assert((try "203.0.113.7"))
      assert.equal(429, select(2, try "203.0.113.7"))
      assert.matches("error LIMIT: more connections than limits.maxConnectionsPerIp, from 203.0.113.7",
        server:stdout_contains "error LIMIT: [^\n]+", 1, true)
      assert((try "203.0.113.8"))
      assert((try "2001:db8:0:1::1"))
      assert((try "2001:db8:0:1::2"))
      assert.equal(429, select(2, try "2001:db8:0:1::3")) -- the same /64
      first:close()
      assert.is_true(loop.wait(function() return (try "203.0.113.7") ~= nil end, 5000))
    end)
  end)
end

describe("proxies", function()
  local server

  after_each(function()
    if server then server:stop() end
    server = nil
  end)

  it("count nobody's connections before they ask for a WebSocket, and others' at once", function()
    server = start('{ "127.0.0.1" }', { host = '"::"', limits = "{ maxConnectionsPerIp = 1 }" })
    for _ = 1, 3 do
      assert.equal(200, server:http({ headers = { ["X-Forwarded-For"] = "203.0.113.7" } }).status)
    end
    local idle = {}
    for i = 1, 3 do idle[i] = assert(stream.connect { port = server.port }) end
    server:join("/", { headers = { ["X-Forwarded-For"] = "203.0.113.7" } })
    server:join("/", { host = "::1" })
    assert.is_nil((server:try_connect("/", { host = "::1" })))
    for _, wire in ipairs(idle) do wire:close() end
  end)

  it("may pass on requests of many clients on one connection", function()
    server = start '{ "127.0.0.1" }'
    local wire = assert(stream.connect { port = server.port })
    local text = ""
    wire:listen(function(bytes) text = text .. bytes end, function() end)
    for i = 1, 3 do
      wire:write(("GET / HTTP/1.1\r\nHost: h\r\nX-Forwarded-For: 203.0.113.%d\r\n\r\n"):format(i))
    end
    wire:write "GET / HTTP/1.1\r\nHost: h\r\n\r\n"
    assert.is_true(loop.wait(function() return text:find('"127.0.0.1"', 1, true) end, 5000), text)
    for i = 1, 3 do assert.truthy(text:find(('"203.0.113.%d"'):format(i), 1, true), text) end
    wire:close()
  end)

  it("reach a Unix socket", function()
    local folder = fs.mkdtemp()
    local path = folder .. "/mesa.sock"
    server = start('{ "unix" }', { host = ("%q"):format("unix:" .. path), limits = "{ maxConnectionsPerIp = 1 }" })
    local headers = { ["X-Forwarded-For"] = "203.0.113.7" }
    local client = server:join("/", { unix = path, headers = headers })
    assert.equal("203.0.113.7", client:expect("SEEN").d.ip)
    assert.is_nil((server:try_connect("/", { unix = path, headers = headers })))
    assert.equal("unix", server:join("/", { unix = path }):expect("SEEN").d.ip)
    assert.equal("unix", server:join("/", { unix = path }):expect("SEEN").d.ip)
    server:stop()
    server = nil
    os.remove(folder)
  end)

  it("are addresses, and what is none is told", function()
    for given, text in pairs {
      ['{ "10.0.0.0/8", "proxy.example" }'] =
        'proxies[2] must be an address, a network such as "10.0.0.0/8", or "unix", got "proxy.example"',
      ['{ "10.0.0.0/33" }'] = 'proxies[1] must be an address',
      ["{}"] = 'proxies must be a list of addresses such as { "10.0.0.0/8", "::1", "unix" }',
      ["true"] = "proxies must be a list of addresses",
      ["{ 10 }"] = "proxies[1] must be an address, a network",
      ['{ "::1", x = "::2" }'] = "proxies[x] is no part of a list",
    } do
      local ok, err = pcall(start, given)
      assert.is_false(ok)
      assert.truthy(tostring(err):find(text, 1, true), tostring(err))
      assert.matches("server.lua:%d+: ", tostring(err))
    end
  end)
end)
