-- Handshakes and requests that are odd: each has one right answer, with TLS and without.
local harness = require "spec.support.harness"
local http = require "spec.support.http"
local stream = require "spec.support.stream"
local to_lua = require "spec.support.to_lua"

local SOURCE = [[
  local Mesa = require "mesa"
  config.port, config.host, config.raw, config.static = 0, "127.0.0.1", true, "public"
  config.limits = { handshakeTimeout = 2500 }
  local server = Mesa.new(config)
  server:on("request", function(request, response)
    response:send("[" .. request.method .. " " .. request.path .. "?" .. request.queryString .. "]")
  end)
]]

local KEY = "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"
local OTHERS = "Upgrade: websocket\r\nConnection: Upgrade\r\n"
local VERSION = "Sec-WebSocket-Version: 13\r\n"

-- A handshake; `options` replaces its parts.
local function upgrade(options)
  options = options or {}
  return (options.line or "GET / HTTP/1.1") .. "\r\n" .. (options.host or "Host: h\r\n") .. (options.others or OTHERS)
    .. (options.version or VERSION) .. (options.key or KEY) .. (options.more or "") .. "\r\n"
end

local function get(line, more)
  return line .. "\r\nHost: h\r\n" .. (more or "") .. "\r\n"
end

local NAME = ("n"):rep(64)

local handshakes = {
  { "two Host headers", 400, upgrade { host = "Host: h\r\nHost: g\r\n" } },
  { "HTTP/1.0", 400, upgrade { line = "GET / HTTP/1.0" } },
  { "HTTP/2.0", 400, upgrade { line = "GET / HTTP/2.0" } },
  { "http/1.1 in small letters", 400, upgrade { line = "GET / http/1.1" } },
  { "the method get", 405, upgrade { line = "get / HTTP/1.1" } },
  { "a fragment in the target", 400, upgrade { line = "GET /a#b HTTP/1.1" } },
  { "two spaces in the request line", 400, upgrade { line = "GET  / HTTP/1.1" } },
  { "a byte above 0x7f in a header's name", 400, upgrade { more = "X-N\233: v\r\n" } },
  { "a byte above 0x7f in a value", 101, upgrade { more = "X-Name: J\252rg\r\n" } },
  { "websocket as the second word of Upgrade", 101,
    upgrade { others = "Upgrade: h2c, websocket\r\nConnection: Upgrade\r\n" } },
  { "tabs behind the colons", 101, upgrade {
    host = "Host:\th\r\n", others = "Upgrade:\twebsocket\r\nConnection:\tUpgrade\r\n", version = VERSION:gsub(": ", ":\t"),
    key = KEY:gsub(": ", ":\t") } },
  { "spaces behind the values", 101, upgrade { others = "Upgrade: websocket \r\nConnection: Upgrade  \r\n" } },
  { "a space behind the version", 101, upgrade { version = "Sec-WebSocket-Version: 13 \r\n" } },
  { "a whole URL as the target", 101, upgrade { line = "GET http://h/ HTTP/1.1" } },
  { "a subprotocol of 64 bytes", 101, upgrade { more = "Sec-WebSocket-Protocol: " .. NAME .. "\r\n" }, header = NAME },
  { "an empty element before the subprotocol", 101, upgrade { more = "Sec-WebSocket-Protocol: ,chat\r\n" }, header = "chat" },
  { "an offer of 4 KB", 101, upgrade { more = "Sec-WebSocket-Protocol: v1, " .. ("q"):rep(4096) .. "\r\n" }, header = "v1" },
  { "version 25", 426, upgrade { version = "Sec-WebSocket-Version: 25\r\n" } },
  { "HTTP/1.2", 101, upgrade { line = "GET / HTTP/1.2" } },
  { "empty lines before", 101, "\r\n\r\n" .. upgrade() },
  { "a continued line", 400, upgrade { more = "X-Q: a\r\n b\r\n" } },
  { "a NUL in a value", 400, upgrade { more = "X-Q: a\0b\r\n" } },
  { "a CR in a value", 400, upgrade { more = "X-Q: a\rb\r\n" } },
  { "a line without a colon", 400, upgrade { more = "nothing\r\n" } },
  { "a line without a name", 400, upgrade { more = ": v\r\n" } },
  { "lines that end in LF", 400, (upgrade():gsub("\r", "")) },
  { "a header of 30,000 bytes", 431, upgrade { more = "X-Long: " .. ("l"):rep(30000) .. "\r\n" } },
}

local requests = {
  { "Upgrade: h2c", 200, get("GET /h HTTP/1.1",
    "Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABkAAQAAP__\r\n"), body = "[GET /h?]" },
  { "Upgrade: h2c alone", 200, get("GET /h HTTP/1.1", "Upgrade: h2c\r\n") },
  { "Upgrade: TLS/1.0", 200, get("GET /h HTTP/1.1", "Connection: Upgrade\r\nUpgrade: TLS/1.0\r\n") },
  { "HTTP/1.2", 200, get "GET /v HTTP/1.2" },
  { "an empty line before", 200, "\r\n" .. get "GET /e HTTP/1.1", body = "[GET /e?]" },
  { "lines that end in LF", 400, "GET /lf HTTP/1.1\nHost: h\n\n" },
  { "a NUL in a value and a header behind it", 400, get("GET / HTTP/1.1", "X-Q: a\0b\r\nX-R: c\r\n") },
  { "Transfer-Encoding with a space before the colon", 400, get("POST / HTTP/1.1", "Transfer-Encoding : chunked\r\n") },
  { "an empty Transfer-Encoding", 411, get("POST / HTTP/1.1", "Transfer-Encoding:\r\n") },
  { "an empty Content-Length", 400, get("POST / HTTP/1.1", "Content-Length:\r\n") },
  { "a space behind Content-Length", 200, get("POST / HTTP/1.1", "Content-Length: 5 \r\n") .. "12345" },
  { "a NUL in the path", 400, get "GET /a\0b HTTP/1.1" },
  { "%00 in the path", 400, get "GET /a%00b HTTP/1.1" },
  { "%zz in the path", 400, get "GET /a%zz HTTP/1.1" },
  { "a backslash first", 400, get "GET \\a.txt HTTP/1.1" },
  { "%zz in the query", 200, get "GET /p?%zz HTTP/1.1", body = "[GET /p?%zz]" },
  { "a fragment", 400, get "GET /p?a=b#c HTTP/1.1" },
  { "a byte above 0x7f in the path", 400, get "GET /caf\195\169 HTTP/1.1" },
  { "a plus in path and query", 200, get "GET /p+q?a+b=%20c HTTP/1.1", body = "[GET /p+q?a+b=%20c]" },
  { "a query of a slash", 200, get "GET /p?/ HTTP/1.1", body = "[GET /p?/]" },
  { "a query that ends in a slash", 200, get "GET /p?a&/ HTTP/1.1", body = "[GET /p?a&/]" },
  { "a whole URL as the target", 200, get "GET https://h/p?a HTTP/1.1", body = "[GET /p?a]" },
  { "TRACE", 200, get "TRACE /t HTTP/1.1", body = "[TRACE /t?]" },
  { "PROPFIND", 200, get "PROPFIND /t HTTP/1.1", body = "[PROPFIND /t?]" },
  { "QUERY", 200, get "QUERY /t HTTP/1.1", body = "[QUERY /t?]" },
  { "FOO", 200, get "FOO /t HTTP/1.1", body = "[FOO /t?]" },
  { "CONNECT with a path", 400, get "CONNECT /r HTTP/1.1" },
  { "CONNECT with a host", 400, get "CONNECT h:80 HTTP/1.1" },
  { "OPTIONS *", 204, get "OPTIONS * HTTP/1.1" },
  { "GET *", 400, get "GET * HTTP/1.1" },
  { "a space in Host", 400, "GET / HTTP/1.1\r\nHost: a b\r\n\r\n" },
  { "a path in Host", 400, "GET / HTTP/1.1\r\nHost: a/b@c\r\n\r\n" },
  { "a Host with a port", 200, "GET /p HTTP/1.1\r\nHost: example.org:8080\r\n\r\n" },
  { "an IPv6 address as Host", 200, "GET /p HTTP/1.1\r\nHost: [::1]:8080\r\n\r\n" },
  { "HTTP/1.0 without Host", 200, "GET /p HTTP/1.0\r\n\r\n", body = "[GET /p?]" },
  { "HTTP/1.0 that expects 100", 200,
    "POST /x HTTP/1.0\r\nHost: h\r\nContent-Length: 4\r\nExpect: 100-continue\r\n\r\nbody", body = "[POST /x?]" },
}

for _, transport in ipairs(harness.transports) do
  describe("over " .. transport.name, function()
    local server, ca
    local many = ("0123456789abcdef"):rep(65536 * 20) -- 20 MiB

    setup(function()
      local pair = transport.tls and harness.tls.certificate()
      ca = pair and pair.cert or nil
      local config = { tls = pair and { cert = pair.cert, key = pair.key } or nil }
      server = harness.start("server.lua", { files = {
        ["server.lua"] = "local config = " .. to_lua(config) .. "\n" .. SOURCE, ["public/big.bin"] = many,
      } })
      server.tls = transport.tls
    end)

    teardown(function()
      server:stop()
    end)

    local function ask(bytes)
      return http.request(server:address(), { raw = bytes }, ca)
    end

    -- A connection that was sent `bytes`; `text` grows.
    local function wire_of(bytes)
      local wire = assert(stream.connect(server:address(), { ca = ca }))
      local parts = {}
      wire:listen(function(some) parts[#parts + 1] = some end, function() end)
      wire:write(bytes)
      return wire, function() return table.concat(parts) end
    end

    local function status_of(bytes)
      local wire, text = wire_of(bytes)
      harness.loop.wait(function() return wire.ended or text():find("\r\n\r\n", 1, true) ~= nil end, 5000)
      wire:close()
      return tonumber(text():match "^HTTP/1%.1 (%d+) "), text()
    end

    for _, row in ipairs(handshakes) do
      it(("a handshake with %s gets %d"):format(row[1], row[2]), function()
        local status, text = status_of(row[3])
        assert.equal(row[2], status, text)
        if row.header then
          assert.matches("\r\nSec-WebSocket-Protocol: " .. row.header .. "\r\n", text, 1, true)
        end
      end)
    end

    for _, row in ipairs(requests) do
      it(("a request with %s gets %d"):format(row[1], row[2]), function()
        if row[2] == 204 then
          assert.equal(204, (status_of(row[3])))
          return
        end
        local response, err = ask(row[3])
        assert.equal(row[2], response and response.status, err)
        if row.body then
          assert.equal(row.body, response.body)
        end
      end)
    end

    it("every answer has a Date, and 426 names the Upgrade in Connection", function()
      for _, path in ipairs { "/p", "/big.bin" } do
        local head = ask("HEAD " .. path .. " HTTP/1.0\r\n\r\n").head
        assert.matches("\r\nDate: %a%a%a, %d%d %a%a%a %d%d%d%d %d%d:%d%d:%d%d GMT\r\n", head)
      end
      local _, text = status_of(upgrade { version = "Sec-WebSocket-Version: 25\r\n" })
      assert.matches("\r\nConnection: Upgrade", text, 1, true)
      assert.matches("\r\nDate: ", text, 1, true)
    end)

    it("an empty line between requests is ignored", function()
      local wire, text = wire_of("POST /one HTTP/1.1\r\nHost: h\r\nContent-Length: 3\r\n\r\nabc\r\n" .. get "GET /two HTTP/1.1")
      assert.is_true(harness.loop.wait(function() return text():find("[GET /two?]", 1, true) ~= nil end, 5000), text())
      assert.matches("[POST /one?]", text(), 1, true)
      wire:close()
    end)

    it("20,000 requests sent at once are all answered, in order", function()
      local all = {}
      for i = 1, 20000 do
        all[i] = ("GET /n%d HTTP/1.1\r\nHost: h\r\n\r\n"):format(i)
      end
      local wire, text = wire_of(table.concat(all))
      local last = "[GET /n20000?]"
      assert.is_true(harness.loop.wait(function()
        harness.loop.sleep(20)
        return text():sub(-#last) == last
      end, 60000))
      local expected = 1
      for number in text():gmatch "%[GET /n(%d+)%?%]" do
        assert.equal(expected, tonumber(number))
        expected = expected + 1
      end
      assert.equal(20001, expected)
      wire:close()
    end)

    it("what is sent behind the last request does not cut its answer", function()
      local wire, text = wire_of "GET /big.bin HTTP/1.0\r\n\r\n"
      wire:pause()
      harness.loop.sleep(100)
      wire:write(get "GET / HTTP/1.1")
      harness.loop.sleep(1000) -- longer than the end of a connection is lingered over
      wire:resume()
      assert.is_true(harness.loop.wait(function() return wire.ended end, 20000))
      local stop = select(2, text():find("\r\n\r\n", 1, true))
      assert.equal(#many, #text() - stop)
    end)

    it("a body that drips ends with limits.handshakeTimeout", function()
      local wire = wire_of "POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 50000\r\n\r\n"
      assert.is_true(harness.loop.wait(function()
        if not wire.ended then
          wire:write "x"
          harness.loop.sleep(50)
        end
        return wire.ended
      end, 15000))
      wire:close()
    end)
  end)
end
