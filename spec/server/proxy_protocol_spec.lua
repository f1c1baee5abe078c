-- proxyProtocol: the PROXY header in front of every connection, with TLS behind it and without.
local harness = require "spec.support.harness"
local stream = require "spec.support.stream"

local loop = harness.loop

local SOURCE = [[
  local Mesa = require "mesa"
  local server = Mesa.new {
    port = 0, host = "127.0.0.1", proxyProtocol = true, tls = %s, proxies = %s,
    limits = { maxConnectionsPerIp = %d, handshakeTimeout = %d },
  }
  server:on("connection", function(client)
    client:send(Mesa.Message(0, { ip = client.request.ip, secure = client.request.secure }, "SEEN"))
  end)
  server:on("error", function(err) print("error " .. err.code .. ": " .. err.message) end)
]]

local function start(options)
  local cert = options.tls and harness.tls.certificate()
  local server = harness.start(SOURCE:format(
    cert and ("{ cert = %q, key = %q }"):format(cert.cert, cert.key) or "nil",
    options.proxies or "nil", options.per_ip or 0, options.timeout or 10000
  ))
  server.tls = options.tls
  return server
end

local SIGNATURE = "\r\n\r\n\0\r\nQUIT\n"

-- A header of version 2; family 0x11 is IPv4, 0x21 IPv6.
local function binary(command, family, rest)
  return SIGNATURE .. string.char(0x20 + command, family, math.floor(#rest / 256), #rest % 256) .. rest
end

local FROM_7 = "PROXY TCP4 203.0.113.7 192.0.2.1 56324 443\r\n"
local IPV4 = "\203\0\113\8\192\0\2\1\220\4\1\187"
local IPV6 = "\32\1\13\184" .. ("\0"):rep(11) .. "\9" .. ("\0"):rep(16) .. "\0\1\0\2"

for _, transport in ipairs(harness.transports) do
  describe("a PROXY header over " .. transport.name, function()
    local server

    after_each(function()
      server:stop()
    end)

    local function seen(preface, headers)
      local client = server:join("/", { preface = preface, headers = headers })
      local d = client:expect("SEEN").d
      assert.equal(transport.tls, d.secure)
      client:close()
      return d.ip
    end

    it("names the client, in either version", function()
      server = start { tls = transport.tls }
      assert.equal("203.0.113.7", seen(FROM_7))
      assert.equal("2001:db8::7", seen "PROXY TCP6 2001:db8::7 ::1 1 2\r\n")
      assert.equal("203.0.113.8", seen(binary(1, 0x11, IPV4)))
      assert.equal("2001:db8::9", seen(binary(1, 0x21, IPV6)))
      assert.equal("203.0.113.8", seen(binary(1, 0x11, IPV4 .. "\1\0\3h/1" .. ("\4\0\1x"):rep(900))))
    end)

    it("may name nobody: the address is the proxy's own", function()
      server = start { tls = transport.tls }
      assert.equal("127.0.0.1", seen "PROXY UNKNOWN\r\n")
      assert.equal("127.0.0.1", seen(binary(0, 0x00, "")))
      assert.equal("127.0.0.1", seen(binary(0, 0x11, IPV4)))
      assert.equal("127.0.0.1", seen(binary(1, 0x31, ("u"):rep(216))))
    end)

    it("may come byte by byte", function()
      server = start { tls = transport.tls }
      for _, preface in ipairs { FROM_7, binary(1, 0x11, IPV4 .. ("\4\0\1x"):rep(20)) } do
        local bytes = {}
        for byte in preface:gmatch "." do bytes[#bytes + 1] = byte end
        assert.matches("^203.0.113.[78]$", seen(bytes))
      end
    end)

    it("is believed from `proxies` alone, where there are any, and taken from all", function()
      server = start { tls = transport.tls, proxies = '{ "127.0.0.2" }' }
      assert.equal("127.0.0.1", seen(FROM_7))
    end)

    it("may name another proxy, whose requests name their clients", function()
      server = start { tls = transport.tls, proxies = '{ "127.0.0.1", "203.0.113.7" }' }
      local headers = { ["X-Forwarded-For"] = "198.51.100.1" }
      assert.equal("198.51.100.1", seen(FROM_7, headers))
      assert.equal("203.0.113.8", seen(binary(1, 0x11, IPV4), headers))
      assert.equal("198.51.100.1", seen("PROXY UNKNOWN\r\n", headers))
    end)

    it("says whom a connection counts for", function()
      server = start { tls = transport.tls, per_ip = 1 }
      local first = server:join("/", { preface = FROM_7 })
      local refused = server:try_connect("/", { preface = FROM_7 })
      assert.is_nil(refused)
      assert.matches("LIMIT: more connections than limits.maxConnectionsPerIp, from 203.0.113.7",
        server:stdout_contains "error LIMIT[^\n]*", 1, true)
      server:join("/", { preface = binary(1, 0x11, IPV4) })
      first:close()
      assert.is_true(loop.wait(function() return server:try_connect("/", { preface = FROM_7 }) ~= nil end, 5000))
    end)
  end)
end

describe("a connection to a server with proxyProtocol", function()
  local server

  after_each(function()
    server:stop()
  end)

  -- Sends the bytes; waits until the server has closed, and returns what it has said.
  local function closed(bytes)
    local wire = assert(stream.connect { port = server.port })
    local text, gone = "", false
    wire:listen(function(more) text = text .. more end, function() gone = true end)
    if bytes then wire:write(bytes) end
    assert.is_true(loop.wait(function() return gone end, 5000), "not closed")
    wire:close()
    return text
  end

  it("is closed without a word when it does not begin with a header", function()
    server = start {}
    assert.equal("", closed "GET / HTTP/1.1\r\nHost: h\r\n\r\n")
    assert.matches("error HANDSHAKE: the connection does not begin with a valid PROXY header, which proxyProtocol asks for, "
      .. "from 127.0.0.1", server:stdout_contains "error HANDSHAKE[^\n]*", 1, true)
  end)

  it("is closed when the header is malformed or too long", function()
    server = start {}
    for _, bytes in ipairs {
      "PROXY TCP4 nobody 192.0.2.1 1 2\r\n", "PROXY TCP4 203.0.113.7 192.0.2.1 1 2\nGET /",
      "PROXY UNKNOWN " .. ("x"):rep(93), binary(2, 0x11, IPV4), binary(1, 0x41, IPV4), binary(1, 0x11, "short"),
      SIGNATURE .. "\33\17\255\255", SIGNATURE .. "\17\17\0\12" .. IPV4,
    } do
      assert.equal("", closed(bytes))
    end
  end)

  it("is closed when the header is not there within limits.handshakeTimeout", function()
    server = start { timeout = 300 }
    assert.equal("", closed "PROXY TCP4 203.0.")
    assert.matches("not complete within limits.handshakeTimeout", server:stdout_contains "error HANDSHAKE[^\n]*", 1, true)
    assert.equal("", closed(nil))
    assert.equal("", closed(FROM_7 .. "GET / HT"))
  end)

  it("may leave in the middle of the header", function()
    server = start {}
    local before = server:fds()
    for _, bytes in ipairs { "", "P", FROM_7:sub(1, -2), binary(1, 0x11, IPV4):sub(1, 20) } do
      local wire = assert(stream.connect { port = server.port })
      if #bytes > 0 then wire:write(bytes) end
      wire:close()
    end
    assert.is_true(loop.wait(function() return server:fds() <= before end, 5000))
    assert.equal("203.0.113.7", server:join("/", { preface = FROM_7 }):expect("SEEN").d.ip)
  end)
end)
