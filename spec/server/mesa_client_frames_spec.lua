-- Mesa.Client before servers that send what is no text or too much, ask for a password, or say more than anybody wants to hear.
local bit = require "bit"
local ffi = require "ffi"
local harness = require "spec.support.harness"
local uv = require "luv"
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

-- A server that answers the upgrade, sends `bytes` and keeps what the client says. `answer` replaces its answer.
local function fake_server(bytes, answer)
  local self = { request = "", received = "", socket = uv.new_tcp() }
  assert(self.socket:bind("127.0.0.1", 0))
  assert(self.socket:listen(8, function()
    local peer = uv.new_tcp()
    local upgraded = false
    self.socket:accept(peer)
    self.peer = peer
    peer:read_start(function(err, chunk)
      if peer:is_closing() then return end
      if err or not chunk then return peer:close() end
      if upgraded then
        self.received = self.received .. chunk
        return
      end
      self.request = self.request .. chunk
      if not self.request:find "\r\n\r\n" then return end
      upgraded = true
      local text = answer or upgrade_answer(self.request)
      peer:write(text .. bytes)
    end)
  end))
  self.port = self.socket:getsockname().port
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

local function run(body, url)
  bot = harness.launch(([[
    local Mesa = require "mesa"
    local client = Mesa.Client(%q, { timeout = 5000 })
    client:on("error", function(err) print("error", err.code, err.message) end)
    client:on("message", function(message) if message.type ~= "BIG" then print("message", message.type) end end)
    client:on("disconnected", function(code, reason, event)
      print("disconnected", code, reason, event.willAttemptReconnect)
    end)
    %s
  ]]):format(url or ("ws://127.0.0.1:%d/"):format(server.port), body or ""))
  return bot
end

describe("Mesa.Client closes, and says why, when a server sends", function()
  after_each(function()
    bot:stop()
    if server.peer and not server.peer:is_closing() then server.peer:close() end
    server.socket:close()
  end)

  for what, case in pairs {
    ["text that is no UTF-8"] = { "\129\1\255", 1007, "UTF8", "invalid UTF-8" },
  } do
    it(what, function()
      local bytes, code, name, text = unpack(case)
      server = fake_server(frame(0x81, HELLO) .. frame(0x81, '{"op":0,"t":"BEFORE","d":{}}') .. bytes
        .. frame(0x81, '{"op":0,"t":"AFTER","d":{}}'))
      run()
      assert.equal(0, bot:wait_exit(10000))
      assert.equal(("message\tBEFORE\nerror\t%s\tthe server broke the WebSocket protocol: %s (closed with %d)\n"
        .. "disconnected\t%d\t%s\tfalse\n"):format(name, text, code, code, text), bot.process.stdout)
      harness.loop.wait(function() return #server.received >= 8 end, 5000)
      local first, payload, masked = unmasked(server.received)
      assert.equal(0x88, first)
      assert.is_true(masked)
      assert.equal(string.char(math.floor(code / 256), code % 256) .. text, payload)
    end)
  end
end)

describe("Mesa.Client with a user in its URL", function()
  after_each(function()
    bot:stop()
    server.socket:close()
  end)

  for written, sent in pairs {
    ["joe:secret"] = "joe:secret", ["j%C3%B6e:s%3Acr%40t%2F"] = "j\195\182e:s:cr@t/", ["joe"] = "joe:", [":x"] = ":x",
  } do
    it("sends it decoded, and shows it to nobody: " .. written, function()
      server = fake_server("", "HTTP/1.1 403 Forbidden\r\nContent-Length: 0\r\n\r\n")
      run(nil, ("ws://%s@127.0.0.1:%d/path"):format(written, server.port))
      assert.equal(0, bot:wait_exit(10000))
      local text = server.request:match "\r\nAuthorization: Basic (%S+)\r\n"
      assert.equal(sent, decode_base64(text))
      assert.matches(("^error\tCONNECT\tcannot connect to ws://127%%.0%%.0%%.1:%d/path: [^\n]+\ndisconnected\t1006\t\tfalse\n$")
        :format(server.port), bot.process.stdout)
      assert.is_nil(bot.process.stderr:find(written, 1, true))
    end)
  end

  it("logs errors that nobody listens to without it", function()
    server = fake_server("", "HTTP/1.1 401 Unauthorized\r\nContent-Length: 0\r\n\r\n")
    bot = harness.launch(("require('mesa').Client('ws://joe:secret@127.0.0.1:%d/')\n"):format(server.port))
    assert.equal(0, bot:wait_exit(10000))
    assert.matches("client of ws://127%.0%.0%.1:%d+/: cannot connect to .*unauthorized", bot.process.stderr)
    assert.is_nil(bot.process.stderr:find("secret", 1, true))
  end)
end)

describe("Mesa.Client", function()
  after_each(function()
    bot:stop()
    server.socket:close()
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
      lowest = math.min(lowest, server.peer:get_write_queue_size())
    end, 20000))
    assert.is_true(lowest > 20 * 1000 * 1000, tostring(lowest))
    assert.is_true(harness.loop.wait(function() return bot.process.stdout:find "all" end, 30000))
    assert.matches("all\t61\n", bot.process.stdout)
    harness.loop.wait(function() return #server.received > 0 end, 5000)
    server.peer:close()
    assert.equal(0, bot:wait_exit(10000))
  end)
end)
