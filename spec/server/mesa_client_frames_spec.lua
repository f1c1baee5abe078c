-- Mesa.Client before servers that break the protocol, refuse it, ask for a password, or say more than anybody wants to hear.
local bit = require "bit"
local ffi = require "ffi"
local fake_http = require "spec.support.fake_http"
local harness = require "spec.support.harness"
local ws_frame = require "spec.support.ws_frame"

ffi.cdef [[
unsigned char *SHA1(const unsigned char *d, size_t n, unsigned char *md);
int EVP_EncodeBlock(unsigned char *t, const unsigned char *f, int n);
int EVP_DecodeBlock(unsigned char *t, const unsigned char *f, int n);
]]
local crypto = ffi.load "libcrypto.so.3"

local HELLO = '{"op":10,"d":{"rules":[]}}'

local function frame(first, payload)
  return ws_frame.encode(first % 16, payload, { mask = false, fin = first >= 128 })
end

local function upgrade_answer(request)
  local key = request:match "Sec%-WebSocket%-Key: (%S+)" .. "258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
  local digest, text = ffi.new "unsigned char[20]", ffi.new "unsigned char[29]"
  crypto.SHA1(key, #key, digest)
  crypto.EVP_EncodeBlock(text, digest, 20)
  return "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: "
    .. ffi.string(text, 28) .. "\r\n\r\n"
end

local function decode_base64(text)
  local bytes = ffi.new("unsigned char[?]", #text)
  local size = crypto.EVP_DecodeBlock(bytes, text, #text) - select(2, text:gsub("=", ""))
  return ffi.string(bytes, size)
end

-- Writes `bytes` in pieces whose sizes `piece` says, each when the one before it is with the kernel.
local function write_pieces(conn, bytes, piece)
  local at = 1
  local function step()
    if at > #bytes or conn.handle:is_closing() then return end
    local size = piece()
    local part = bytes:sub(at, at + size - 1)
    at = at + size
    conn.handle:write(conn.tls and conn.tls:encrypt(part) or part, step)
  end
  conn.handle:nodelay(true)
  step()
end

-- A server that answers the upgrade, sends `bytes` and keeps what the client says. options: answer (instead of its own: a text, or a
-- function of the request's head), tls, piece (see write_pieces; everything at once). `bytes` may also be a list of { bytes, answer }
-- for the paths /1, /2 and so on.
local function fake_server(bytes, options)
  options = options or {}
  local self = { request = "", received = "" }
  self.http = fake_http.start({ ["*"] = function(conn, request)
    local case = type(bytes) == "table" and bytes[tonumber(request.path:sub(2))] or { bytes, options.answer }
    local answer = case[2] or upgrade_answer
    self.peer, self.request, self.received = conn, request.head, ""
    conn.raw = function(text) self.received = self.received .. text end
    local text = (type(answer) == "function" and answer(request.head) or answer) .. case[1]
    write_pieces(conn, text, options.piece or function() return #text end)
  end }, { certificate = options.tls and harness.tls.certificate() })
  self.url = ("%s://127.0.0.1:%d/"):format(options.tls and "wss" or "ws", self.http.port)
  self.ca = options.tls and harness.tls.certificate().cert
  return self
end

local function unmasked(text)
  local size, mask, payload = text:byte(2) % 128, { text:byte(3, 6) }, {}
  for i = 1, size do
    payload[i] = string.char(bit.bxor(text:byte(6 + i), mask[(i - 1) % 4 + 1]))
  end
  return text:byte(1), table.concat(payload), text:byte(2) >= 128
end

local server, bot
local seed = tonumber(os.getenv "MESA_TEST_SEED") or os.time()
math.randomseed(seed)

local function run(body, url)
  bot = harness.launch(([[
    local Mesa = require "mesa"
    local client = Mesa.Client(%q, { timeout = 5000, ca = %s, maxQueue = 64 * 1024 * 1024 })
    client:on("error", function(err) print("error", err.code, err.message) end)
    client:on("message", function(message) if message.type ~= "BIG" then print("message", message.type) end end)
    client:on("disconnected", function(code, reason, event)
      print("disconnected", code, reason, event.willAttemptReconnect)
    end)
    %s
  ]]):format(url or server.url, server.ca and ("%q"):format(server.ca) or "nil", body or ""))
  return bot
end

-- Connects to the paths /1 to /count, one after the other, and prints what comes of each.
local function run_each(count)
  bot = harness.launch(([[
    local Mesa = require "mesa"
    local function go(i)
      if i > %d then return end
      local client = Mesa.Client(%q .. i, { timeout = 20000, ca = %s })
      client:on("error", function(err) print(i, err.code, err.message) end)
      client:on("message", function(message) print(i, message.type) end)
      client:on("disconnected", function(code, reason)
        print(i, code, reason)
        go(i + 1)
      end)
    end
    go(1)
  ]]):format(count, server.url, server.ca and ("%q"):format(server.ca) or "nil"))
  assert.equal(0, bot:wait_exit(60000), "seed " .. seed)
end

local function stop()
  bot:stop()
  server.http:stop()
end

local BEFORE, AFTER = frame(0x81, '{"op":0,"t":"BEFORE","d":{}}'), frame(0x81, '{"op":0,"t":"AFTER","d":{}}')

local KEY = "\0\0\0\0"
local violations = {
  ["a masked frame"] = { "\129\134" .. KEY .. '{"op":', 1002, "masked frame" },
  ["an empty masked frame"] = { "\129\128" .. KEY, 1002, "masked frame" },
  ["a masked ping"] = { "\137\129" .. KEY .. "x", 1002, "masked frame" },
  ["a masked close frame"] = { "\136\130" .. KEY .. "\3\232", 1002, "masked frame" },
  ["the first reserved bit"] = { "\193\1x", 1002, "reserved bits" },
  ["the second reserved bit"] = { "\161\1x", 1002, "reserved bits" },
  ["the third reserved bit of a ping"] = { "\153\1x", 1002, "reserved bits" },
  ["the opcode 3"] = { "\131\1x", 1002, "unknown opcode" },
  ["the opcode 7"] = { "\135\1x", 1002, "unknown opcode" },
  ["the opcode 11"] = { "\139\1x", 1002, "unknown opcode" },
  ["the opcode 15"] = { "\143\1x", 1002, "unknown opcode" },
  ["a continuation of nothing"] = { "\128\1x", 1002, "continuation of nothing" },
  ["a message inside another"] = { "\1\1x\129\1y", 1002, "message inside another" },
  ["a fragmented ping"] = { "\9\1x", 1002, "fragmented control frame" },
  ["a fragmented close frame"] = { "\8\2\3\232", 1002, "fragmented control frame" },
  ["a ping of 126 bytes"] = { "\137\126\0\126" .. ("x"):rep(126), 1002, "control frame over 125 bytes" },
  ["a close frame of 64 KiB"] = { "\136\127\0\0\0\0\0\1\0\0", 1002, "control frame over 125 bytes" },
  ["a length of two bytes that fits in one"] = { "\129\126\0\125", 1002, "length not minimal" },
  ["a length of eight bytes that fits in two"] = { "\129\127\0\0\0\0\0\0\255\255", 1002, "length not minimal" },
  ["a length with the top bit"] = { "\130\127\128\0\0\0\0\1\0\0", 1002, "length over 63 bits" },
  ["a close frame of one byte"] = { "\136\1\3", 1002, "close frame of one byte" },
  ["a close reason that is no UTF-8"] = { "\136\3\3\232\255", 1007, "invalid UTF-8 in a close reason" },
  ["text that is no UTF-8"] = { "\129\1\255", 1007, "invalid UTF-8" },
  ["half a character at the end of a message"] = { "\1\1\195\128\0", 1007, "invalid UTF-8" },
  ["more than maxPayload in one frame"] = { "\130\127\0\0\0\1\0\0\0\0", 1009, "message too big" },
  ["more than maxPayload in fragments"] = { frame(0x02, ("x"):rep(1048576)) .. "\0\1", 1009, "message too big" },
}
for _, code in ipairs { 0, 999, 1004, 1005, 1006, 1015, 2999, 5000, 65535 } do
  violations["the close code " .. code] = {
    "\136\2" .. ws_frame.close_payload(code), 1002, ("close code %d, which nobody may send"):format(code),
  }
end
local names = { [1002] = "PROTOCOL", [1007] = "UTF8", [1009] = "PAYLOAD" }

local ways = { { name = "ws" }, { name = "wss", tls = true } }
local slow_ways = {
  { name = "ws, byte by byte", piece = function() return 1 end },
  { name = "wss, cut anywhere", tls = true, piece = function() return math.random(1, 12) end },
}

for _, way in ipairs(ways) do
  describe("Mesa.Client over " .. way.name .. " closes, and says why, when a server sends", function()
    after_each(stop)

    for what, case in pairs(violations) do
      local bytes, code, text = unpack(case)
      it(what, function()
        server = fake_server(frame(0x81, HELLO) .. BEFORE .. bytes .. AFTER, way)
        run()
        assert.equal(0, bot:wait_exit(20000))
        assert.equal(("message\tBEFORE\nerror\t%s\tthe server broke the WebSocket protocol: %s (closed with %d)\n"
          .. "disconnected\t%d\t%s\tfalse\n"):format(names[code], text, code, code, text), bot.process.stdout)
        harness.loop.wait(function() return #server.received >= 8 end, 5000)
        local first, payload, masked = unmasked(server.received)
        assert.equal(0x88, first)
        assert.is_true(masked)
        assert.equal(string.char(math.floor(code / 256), code % 256) .. text, payload)
      end)
    end
  end)
end

for _, way in ipairs(slow_ways) do
  describe("Mesa.Client over " .. way.name, function()
    after_each(stop)

    it("tells every violation as if it had come at once", function()
      local cases, lines = {}, {}
      for _, case in pairs(violations) do
        local bytes, code, text = unpack(case)
        if #bytes < 1000 then
          cases[#cases + 1] = { frame(0x81, HELLO) .. BEFORE .. bytes .. AFTER }
          lines[#lines + 1] = ("%d\tBEFORE\n%d\t%s\tthe server broke the WebSocket protocol: %s (closed with %d)\n%d\t%d\t%s\n")
            :format(#cases, #cases, names[code], text, code, #cases, code, text)
        end
      end
      server = fake_server(cases, way)
      run_each(#cases)
      assert.equal(table.concat(lines), bot.process.stdout)
    end)
  end)
end

for _, way in ipairs { ways[1], ways[2], slow_ways[1], slow_ways[2] } do
  describe("Mesa.Client over " .. way.name .. " finds, when a server sends", function()
    after_each(stop)

    it("nothing that is wrong", function()
      local text = frame(0x01, '{"op":0,') .. frame(0x89, "ping") .. frame(0x80, '"t":"CUT","d":{}}') .. frame(0x8a, "unasked")
      -- what follows a close frame is nobody's business
      server = fake_server(frame(0x81, HELLO) .. text .. frame(0x88, "\15\160bye") .. AFTER .. "\129\128" .. KEY, way)
      run()
      assert.is_true(harness.loop.wait(function() return #server.received >= 10 + 11 end, 10000), "seed " .. seed)
      server.peer:close()
      assert.equal(0, bot:wait_exit(10000))
      assert.equal("message\tCUT\ndisconnected\t4000\tbye\tfalse\n", bot.process.stdout)
      local first, payload = unmasked(server.received)
      assert.same({ 0x8a, "ping" }, { first, payload })
      first, payload = unmasked(server.received:sub(11))
      assert.same({ 0x88, "\15\160bye" }, { first, payload })
    end)
  end)
end

local function with_header(line)
  return function(head) return (upgrade_answer(head):gsub("\r\n\r\n$", "\r\n" .. line .. "\r\n\r\n")) end
end

local function without(pattern, replacement)
  return function(head) return (upgrade_answer(head):gsub(pattern, replacement, 1)) end
end

local MALFORMED = "the server's answer cannot be used: "
local refusals = {
  ["401"] = { "HTTP/1.1 401 Not you\r\nContent-Length: 0\r\n\r\n", "the server answered 401 Not you, no WebSocket" },
  ["a redirection"] = {
    "HTTP/1.1 302 Found\r\nLocation: wss://elsewhere/\r\nContent-Length: 0\r\n\r\n",
    "the server answered 302 Found, no WebSocket (it points to wss://elsewhere/, redirects are not followed)",
  },
  ["200"] = { "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello", "the server answered 200 OK, no WebSocket" },
  ["a status without a text"] = { "HTTP/1.1 503\r\n\r\n", "the server answered 503, no WebSocket" },
  ["what a terminal could obey"] = { "HTTP/1.1 500 \27[31mred\r\n\r\n", "the server answered 500 ?[31mred, no WebSocket" },
  ["a wrong Sec-WebSocket-Accept"] = {
    without("Accept: ....", "Accept: AAAA"), "the server's answer to the upgrade has no or a wrong Sec-WebSocket-Accept",
  },
  ["no Sec-WebSocket-Accept"] = {
    without("Sec%-WebSocket%-Accept", "X"), "the server's answer to the upgrade has no or a wrong Sec-WebSocket-Accept",
  },
  ["two Sec-WebSocket-Accepts"] = {
    with_header "Sec-WebSocket-Accept: x", "the server's answer to the upgrade has no or a wrong Sec-WebSocket-Accept",
  },
  ["no Upgrade"] = { without("Upgrade: websocket", "Upgrade: h2c"), "the server's answer to the upgrade lacks Upgrade: websocket" },
  ["no Connection"] = {
    without("Connection: Upgrade", "Connection: close"), "the server's answer to the upgrade lacks Connection: Upgrade",
  },
  ["HTTP/1.0"] = { without("HTTP/1.1", "HTTP/1.0"), "the server answered the upgrade with HTTP/1.0" },
  ["a subprotocol that was not offered"] = {
    with_header "Sec-WebSocket-Protocol: chat", "the server has chosen a subprotocol, and none was offered",
  },
  ["an extension that was not offered"] = {
    with_header "Sec-WebSocket-Extensions: permessage-deflate", "the server has chosen an extension, and none was offered",
  },
  ["what is no HTTP"] = { "SSH-2.0-OpenSSH_9.2\r\n", MALFORMED .. "it does not begin with an HTTP/1.1 status line" },
  ["a header without a name"] = { with_header "nonsense", MALFORMED .. "a header line without a name" },
  ["a head that is too large"] = {
    with_header("X: " .. ("x"):rep(70000)), MALFORMED .. "the headers are longer than 64 KiB", large = true,
  },
  ["a head without an end"] = {
    "HTTP/1.1 101 Switching Protocols\r\nX: " .. ("x"):rep(70000), MALFORMED .. "the headers are longer than 64 KiB", large = true,
  },
}

for _, way in ipairs(ways) do
  describe("Mesa.Client over " .. way.name .. " does not connect when a server answers with", function()
    after_each(stop)

    for what, case in pairs(refusals) do
      it(what, function()
        server = fake_server("", { answer = case[1], tls = way.tls })
        run()
        assert.equal(0, bot:wait_exit(10000))
        assert.equal(("error\tCONNECT\tcannot connect to %s: %s\ndisconnected\t1006\t\tfalse\n"):format(server.url, case[2]),
          bot.process.stdout)
      end)
    end
  end)
end

for _, way in ipairs(slow_ways) do
  describe("Mesa.Client over " .. way.name, function()
    after_each(stop)

    it("tells every refusal as if it had come at once", function()
      local cases, lines = {}, {}
      for _, case in pairs(refusals) do
        if not case.large then
          cases[#cases + 1] = { "", case[1] }
          lines[#lines + 1] = ("%d\tCONNECT\tcannot connect to @%d: %s\n%d\t1006\t\n"):format(#cases, #cases, case[2], #cases)
        end
      end
      server = fake_server(cases, way)
      run_each(#cases)
      assert.equal((table.concat(lines):gsub("@", server.url)), bot.process.stdout)
    end)

    it("passes over an interim response, and reads lists in several lines", function()
      local answer = without("^.-\r\n", "HTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\n%0Connection: keep-alive\r\nUpgrade: a, b\r\n")
      server = fake_server(frame(0x81, HELLO) .. BEFORE, { answer = answer, tls = way.tls, piece = way.piece })
      run [[client:on("message", function() client:disconnect(4001, "seen") end)]]
      assert.is_true(harness.loop.wait(function() return #server.received >= 12 end, 10000))
      server.peer:close()
      assert.equal(0, bot:wait_exit(10000))
      assert.equal("message\tBEFORE\ndisconnected\t4001\tseen\tfalse\n", bot.process.stdout)
    end)
  end)
end

describe("Mesa.Client tells the end of a server that", function()
  after_each(stop)

  for what, finish in pairs {
    ["just goes"] = function(conn) conn:close() end,
    ["goes without telling TLS"] = function(conn) conn:close(false) end,
    ["resets the connection"] = function(conn) conn:reset() end,
  } do
    for _, way in ipairs { ways[1], ways[2] } do
      it(what .. ": 1006 over " .. way.name, function()
        server = fake_server(frame(0x81, HELLO) .. BEFORE, way)
        run()
        assert.is_true(harness.loop.wait(function() return bot.process.stdout:find "BEFORE" end, 10000))
        finish(server.peer)
        assert.equal(0, bot:wait_exit(10000))
        assert.equal("message\tBEFORE\ndisconnected\t1006\t\tfalse\n", bot.process.stdout)
      end)
    end
  end
end)

describe("Mesa.Client with a user in its URL", function()
  after_each(stop)

  for written, sent in pairs {
    ["joe:secret"] = "joe:secret", ["j%C3%B6e:s%3Acr%40t%2F"] = "j\195\182e:s:cr@t/", ["joe"] = "joe:", [":x"] = ":x",
  } do
    it("sends it decoded, and shows it to nobody: " .. written, function()
      server = fake_server("", { answer = "HTTP/1.1 403 Forbidden\r\nContent-Length: 0\r\n\r\n" })
      run(nil, ("ws://%s@127.0.0.1:%d/path"):format(written, server.http.port))
      assert.equal(0, bot:wait_exit(10000))
      local text = server.request:match "\r\nAuthorization: Basic (%S+)\r\n"
      assert.equal(sent, decode_base64(text))
      assert.equal(("error\tCONNECT\tcannot connect to %spath: the server answered 403 Forbidden, no WebSocket\n"):format(server.url)
        .. "disconnected\t1006\t\tfalse\n", bot.process.stdout)
      assert.is_nil(bot.process.stderr:find(written, 1, true))
    end)
  end

  it("logs errors that nobody listens to without it", function()
    server = fake_server("", { answer = "HTTP/1.1 401 Unauthorized\r\nContent-Length: 0\r\n\r\n" })
    bot = harness.launch(("require('mesa').Client('ws://joe:secret@127.0.0.1:%d/')\n"):format(server.http.port))
    assert.equal(0, bot:wait_exit(10000))
    assert.matches("client of ws://127%.0%.0%.1:%d+/: cannot connect to .* answered 401 Unauthorized", bot.process.stderr)
    assert.is_nil(bot.process.stderr:find("secret", 1, true))
  end)
end)

describe("Mesa.Client", function()
  after_each(stop)

  for _, way in ipairs { ways[1], ways[2] } do
    it("hears the last words of a server that has reset the connection: over " .. way.name, function()
      server = fake_server(frame(0x81, HELLO) .. BEFORE, way)
      run [[client:on("message", function()
        io.stdout:flush()
        local from = os.clock()
        repeat until os.clock() - from > 0.5 -- nothing is read meanwhile
      end)]]
      assert.is_true(harness.loop.wait(function() return bot.process.stdout:find "BEFORE" end, 10000))
      local written = false
      local text = frame(0x88, "\15\161bye")
      server.peer.handle:write(server.peer.tls and server.peer.tls:encrypt(text) or text, function() written = true end)
      assert.is_true(harness.loop.wait(function() return written end, 5000))
      server.peer:reset()
      assert.equal(0, bot:wait_exit(10000))
      assert.equal("message\tBEFORE\ndisconnected\t4001\tbye\tfalse\n", bot.process.stdout)
    end)

    it("reads while it cannot write: over " .. way.name, function()
      server = fake_server(frame(0x81, HELLO), way)
      run [[
        client:on("connected", function()
          for _ = 1, 20 do assert(client:send(Mesa.Message(0, ("x"):rep(1000000), "BIG"))) end
        end)
        client:on("message", function(message)
          if message.type == "LAST" then client:send(Mesa.Message(0, {}, "DONE")) end
        end)
      ]]
      assert.is_true(harness.loop.wait(function() return #server.received > 0 end, 10000))
      -- a server that reads no more before it has written all it has to say
      server.peer.handle:read_stop()
      local text = frame(0x81, '{"op":0,"t":"BIG","d":"' .. ("x"):rep(1000000) .. '"}')
      for _ = 1, 20 do server.peer:write(text) end
      server.peer:write(frame(0x81, '{"op":0,"t":"LAST","d":{}}'))
      assert.is_true(harness.loop.wait(function() return bot.process.stdout:find "LAST" end, 30000))
      server.peer:close()
    end)
  end

  it("tells TLS, too, that it leaves", function()
    server = fake_server(frame(0x81, HELLO), { tls = true })
    run [[client:on("connected", function() client:disconnect() end)]]
    assert.is_true(harness.loop.wait(function() return #server.received >= 8 end, 10000))
    server.peer:write(frame(0x88, "\3\232"))
    assert.equal(0, bot:wait_exit(10000))
    assert.is_true(harness.loop.wait(function() return server.peer.notified end, 5000))
  end)

  it("cuts a close reason that is too long between two characters", function()
    server = fake_server(frame(0x81, HELLO))
    run [[client:on("connected", function() client:disconnect(3000, "x" .. ("é"):rep(100)) end)]]
    assert.is_true(harness.loop.wait(function() return #server.received >= 8 end, 10000))
    server.peer:close()
    assert.equal(0, bot:wait_exit(10000))
    local _, payload = unmasked(server.received)
    assert.equal("\11\184x" .. ("é"):rep(61), payload)
  end)

  it("stops reading when what waits for a listener is a megabyte, and goes on then", function()
    server = fake_server(frame(0x81, HELLO))
    run [[
      local count = 0
      client:on("message", function(message)
        count = count + 1
        if count == 1 then
          Mesa.sleep(1500)
          print "woke"
        end
        if message.type == "LAST" then
          print("all", count)
          client:disconnect()
        end
      end)
    ]]
    harness.loop.wait(function() return server.request:find "\r\n\r\n" end, 5000)
    -- fewer than the 64 messages after which it stops anyway, and more than sockets hold
    local text = '{"op":0,"t":"BIG","d":"' .. ("x"):rep(1000000) .. '"}'
    for _ = 1, 60 do server.peer:write(frame(0x81, text)) end
    server.peer:write(frame(0x81, '{"op":0,"t":"LAST","d":{}}'))
    local lowest = math.huge
    assert.is_true(harness.loop.wait(function()
      if bot.process.stdout:find "woke" then return true end
      lowest = math.min(lowest, server.peer.handle:get_write_queue_size())
    end, 20000))
    assert.is_true(lowest > 20 * 1000 * 1000, tostring(lowest))
    assert.is_true(harness.loop.wait(function() return bot.process.stdout:find "all" end, 30000))
    assert.matches("all\t61\n", bot.process.stdout)
    harness.loop.wait(function() return #server.received > 0 end, 5000)
    server.peer:close()
    assert.equal(0, bot:wait_exit(10000))
  end)
end)
