-- A WebSocket client for specs: waits for events with a deadline and says what came instead.
local cjson = require "cjson"
local deflate = require "spec.support.deflate"
local loop = require "spec.support.loop"
local stream = require "spec.support.stream"
local ws_frame = require "spec.support.ws_frame"

local ws_client = {}
ws_client.__index = ws_client

local DEFAULT_TIMEOUT_MS = 5000

-- ---- reading -------------------------------------------------------------------------------------------------------

local COMPRESSED = 4 -- of the reserved bits

local function deliver(self, opcode, payload, compressed)
  local wire = #payload
  if compressed then
    payload = self.inflate(payload)
  end
  local message = { raw = payload, binary = opcode == ws_frame.BINARY, compressed = compressed, wire = wire }
  if self.sink then
    return self.sink(message)
  end
  if payload:byte(1) == 123 then -- '{'
    local ok, json = pcall(cjson.decode, payload)
    if ok then
      message.op, message.d, message.t, message.s, message.o = json.op, json.d, json.t, json.s, json.o
    end
  end
  self.received = self.received + 1
  self.inbox[#self.inbox + 1] = message
  if message.op == 1 and self.answers_heartbeats then
    self:send { op = 11, d = {} }
  end
end

local function on_frame(self, frame)
  self.frames = self.frames + 1
  local compressed = self.inflate ~= nil and frame.rsv == COMPRESSED
    and (frame.opcode == ws_frame.TEXT or frame.opcode == ws_frame.BINARY)
  if frame.masked or (frame.rsv ~= 0 and not compressed) then
    self.protocol_error = "the server sent a masked frame or reserved bits"
  end
  if frame.opcode == ws_frame.PING then
    self.pings = self.pings + 1
    if self.on_ping then self.on_ping() end
    if self.answers_pings then
      self:send_frame(ws_frame.PONG, frame.payload)
    end
  elseif frame.opcode == ws_frame.PONG then
    self.pongs[#self.pongs + 1] = frame.payload
  elseif frame.opcode == ws_frame.CLOSE then
    local a, b = frame.payload:byte(1, 2)
    self.close_code, self.close_reason = a and a * 256 + b or 1005, frame.payload:sub(3)
    if not self.sent_close and self.answers_close then
      self:send_frame(ws_frame.CLOSE, frame.payload:sub(1, 2))
      self.sent_close = true
    end
  else
    if frame.opcode ~= ws_frame.CONTINUATION then
      self.fragments, self.fragment_opcode, self.fragments_compressed = {}, frame.opcode, compressed
    end
    self.fragments[#self.fragments + 1] = frame.payload
    if frame.fin then
      deliver(self, self.fragment_opcode, table.concat(self.fragments), self.fragments_compressed)
    end
  end
end

local function on_data(self, bytes)
  self.chunks[#self.chunks + 1] = bytes
  self.buffered = self.buffered + #bytes
  if self.buffered < self.needed then
    return
  end
  local buffer, at = table.concat(self.chunks), 1
  while true do
    local frame, next_at = ws_frame.decode(buffer, at)
    if not frame then
      self.needed = next_at
      break
    end
    at = next_at
    on_frame(self, frame)
  end
  local rest = buffer:sub(at)
  self.chunks, self.buffered = { rest }, #rest
end

-- ---- opening -------------------------------------------------------------------------------------------------------

local function base64(bytes)
  local alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/"
  local out = {}
  for i = 1, #bytes, 3 do
    local a, b, c = bytes:byte(i, i + 2)
    local n = a * 65536 + (b or 0) * 256 + (c or 0)
    for j = 3, 0, -1 do
      local index = math.floor(n / 64 ^ j) % 64
      out[#out + 1] = (j == 1 and not b or j == 0 and not c) and "=" or alphabet:sub(index + 1, index + 1)
    end
  end
  return table.concat(out)
end

-- The text of an upgrade request; options: headers (name → value, false leaves one out), protocol
function ws_client.request(path, options)
  local key = {}
  for i = 1, 16 do
    key[i] = string.char(math.random(0, 255))
  end
  local headers = {
    Host = "localhost",
    Upgrade = "websocket",
    Connection = "Upgrade",
    ["Sec-WebSocket-Key"] = base64(table.concat(key)),
    ["Sec-WebSocket-Version"] = "13",
    ["Sec-WebSocket-Protocol"] = options and options.protocol,
    ["Sec-WebSocket-Extensions"] = options and options.deflate,
  }
  for name, value in pairs(options and options.headers or {}) do
    headers[name] = value
  end
  local lines = { "GET " .. (path or "/") .. " HTTP/1.1" }
  for name, value in pairs(headers) do
    if value then
      lines[#lines + 1] = name .. ": " .. value
    end
  end
  return table.concat(lines, "\r\n") .. "\r\n\r\n"
end

local function parse_response(head)
  local response = { status = tonumber(head:match "^HTTP/1%.[01] (%d+)"), headers = {} }
  for name, value in head:gmatch "\r\n([^:\r\n]+):%s*([^\r\n]*)" do
    response.headers[name:lower()] = value
  end
  return response
end

-- Begins the streams of the extension that the server has agreed to.
local function agree_on_deflate(self)
  local answer = self.response.headers["sec-websocket-extensions"]
  if not answer then return end
  self.inflate = deflate.inflater {
    bits = tonumber(answer:match "server_max_window_bits=(%d+)"), keep = not answer:find "server_no_context_takeover",
  }
  self.deflate = deflate.compressor {
    bits = tonumber(answer:match "client_max_window_bits=(%d+)"), keep = not answer:find "client_no_context_takeover",
  }
end

-- Connects; the client, or nil, a text, and the HTTP response when there was one.
-- options: ca, pair, preface (see stream.connect), receive_buffer, headers, protocol, timeout, heartbeats (answer op 1),
-- pings (answer them), on_ping (called before), sink, close_answer,
-- deflate (an offer of permessage-deflate: what was agreed on is used, see send_compressed), compresses (`send` does)
function ws_client.connect(address, path, options)
  options = options or {}
  local wire, err = stream.connect(address, options)
  if not wire then
    return nil, err
  end
  local self = setmetatable({
    stream = wire, inbox = {}, pongs = {}, pings = 0, received = 0, frames = 0,
    chunks = {}, buffered = 0, needed = 2, sink = options.sink,
    answers_heartbeats = options.heartbeats, answers_pings = options.pings ~= false, on_ping = options.on_ping,
    answers_close = options.close_answer ~= false,
  }, ws_client)

  local head, rest = "", nil
  wire:listen(function(bytes)
    if rest then
      return on_data(self, bytes)
    end
    head = head .. bytes
    local stop = select(2, head:find("\r\n\r\n", 1, true))
    if stop then
      head, rest = head:sub(1, stop), head:sub(stop + 1)
    end
  end, function()
    self.gone = true
  end)
  wire:write(ws_client.request(path, options))
  loop.wait(function()
    return rest or self.gone
  end, options.timeout or DEFAULT_TIMEOUT_MS)

  local response = rest and parse_response(head)
  if not response or response.status ~= 101 then
    wire:close()
    local text = response and "the server answered " .. response.status
      or self.gone and "the server closed the connection" or "no answer to the handshake"
    return nil, text, response
  end
  self.response = response
  agree_on_deflate(self)
  self.compresses = options.compresses and self.deflate ~= nil
  if #rest > 0 then
    on_data(self, rest)
  end
  return self
end

-- ---- writing -------------------------------------------------------------------------------------------------------

function ws_client:send_raw(bytes)
  self.stream:write(bytes)
end

-- See ws_frame.encode for the options, all of the ways to send it badly included.
function ws_client:send_frame(opcode, payload, options)
  self.stream:write(ws_frame.encode(opcode, payload, options))
end

-- A table becomes an envelope (`d` defaults to {}), a string is sent as it is.
function ws_client:send(message)
  if type(message) == "table" then
    if message.d == nil then
      message.d = {}
    end
    message = cjson.encode(message)
  end
  if self.compresses then
    return self:send_compressed(message)
  end
  self:send_frame(ws_frame.TEXT, message)
end

function ws_client:send_binary(bytes)
  self:send_frame(ws_frame.BINARY, bytes)
end

-- One text message in the given pieces, a fragment each.
function ws_client:send_fragments(pieces, opcode)
  for i, piece in ipairs(pieces) do
    self:send_frame(i == 1 and (opcode or ws_frame.TEXT) or ws_frame.CONTINUATION, piece, { fin = i == #pieces })
  end
end

-- A text, compressed, in one frame or in fragments of `step` bytes.
function ws_client:send_compressed(text, step)
  local bytes = self.deflate(text)
  step = step or math.max(#bytes, 1)
  for at = 1, math.max(#bytes, 1), step do
    self:send_frame(at == 1 and ws_frame.TEXT or ws_frame.CONTINUATION, bytes:sub(at, at + step - 1), {
      fin = at + step > #bytes, rsv = at == 1 and COMPRESSED or 0,
    })
  end
end

function ws_client:ping(payload)
  self:send_frame(ws_frame.PING, payload)
end

-- ---- waiting -------------------------------------------------------------------------------------------------------

local function describe(message)
  return #message.raw > 200 and message.raw:sub(1, 200) .. "… (" .. #message.raw .. " bytes)" or message.raw
end

function ws_client:state()
  local lines = {}
  for i, message in ipairs(self.inbox) do
    if i > 20 then
      lines[#lines + 1] = ("… and %d more"):format(#self.inbox - 20)
      break
    end
    lines[#lines + 1] = "  " .. describe(message)
  end
  if self.close_code then
    lines[#lines + 1] = ("  closed with %d %q"):format(self.close_code, self.close_reason)
  elseif self.gone then
    lines[#lines + 1] = "  the connection ended without a close frame"
  end
  return #lines == 0 and "nothing arrived" or "arrived:\n" .. table.concat(lines, "\n")
end

local function matcher(wanted)
  local kind = type(wanted)
  if kind == "function" then
    return wanted, "a message the predicate accepts"
  elseif kind == "number" then
    return function(m) return m.op == wanted end, "op " .. wanted
  elseif kind == "string" then
    return function(m) return m.t == wanted end, "type " .. wanted
  end
  return function(m)
    for key, value in pairs(wanted) do
      if m[key] ~= value then
        return false
      end
    end
    return true
  end, "a message like " .. cjson.encode(wanted)
end

local function take(self, matches, timeout, what)
  local found
  local function look()
    for i, message in ipairs(self.inbox) do
      if matches(message) then
        found = table.remove(self.inbox, i)
        return true
      end
    end
    return self.gone or self.close_code ~= nil
  end
  loop.wait(look, timeout or DEFAULT_TIMEOUT_MS)
  if not found then
    error(("expected %s; %s"):format(what, self:state()), 3)
  end
  return found
end

-- The first message that matches (a type, an op, fields, or a predicate), now or within the timeout;
-- others stay for later calls.
function ws_client:expect(wanted, options)
  local matches, what = matcher(wanted)
  return take(self, matches, options and options.timeout, what)
end

-- The very next message.
function ws_client:next(options)
  return take(self, function() return true end, options and options.timeout, "a message")
end

function ws_client:hello()
  local message = self:next()
  if message.op ~= 10 then
    error("expected hello as the first message, got " .. describe(message), 2)
  end
  return message
end

function ws_client:wait_closed(timeout)
  return loop.wait(function()
    return self.gone
  end, timeout or DEFAULT_TIMEOUT_MS)
end

-- Waits for the server's close frame and the end of the connection behind it.
function ws_client:expect_close(code, options)
  options = options or {}
  loop.wait(function()
    return self.close_code or self.gone
  end, options.timeout or DEFAULT_TIMEOUT_MS)
  if self.close_code ~= code then
    error(("expected close %d; %s"):format(code, self:state()), 2)
  end
  if options.keep_open then
    return self.close_reason
  end
  if not self:wait_closed(options.timeout) then
    error("the server sent a close frame but kept the connection", 2)
  end
  self.stream:close()
  return self.close_reason
end

-- Anything at all but what `allowed` accepts is a failure.
function ws_client:expect_silence(ms, allowed)
  loop.sleep(ms or 100)
  for _, message in ipairs(self.inbox) do
    if not (allowed and allowed(message)) then
      error("expected silence; " .. self:state(), 2)
    end
  end
  if self.gone or self.close_code then
    error("expected silence; " .. self:state(), 2)
  end
end

function ws_client:expect_pong(payload, options)
  local found = loop.wait(function()
    for i, pong in ipairs(self.pongs) do
      if pong == payload then
        table.remove(self.pongs, i)
        return true
      end
    end
    return self.gone
  end, options and options.timeout or DEFAULT_TIMEOUT_MS)
  if not found or self.gone then
    error("expected a pong; " .. self:state(), 2)
  end
end

-- Everything received so far and not yet taken.
function ws_client:drain()
  local all = self.inbox
  self.inbox = {}
  return all
end

-- ---- leaving and stalling ------------------------------------------------------------------------------------------

function ws_client:stop_reading()
  self.stream:pause()
end

function ws_client:start_reading()
  self.stream:resume()
end

-- The closing handshake; code false sends an empty close frame.
function ws_client:close(code, reason)
  if self.gone then
    return
  end
  if not self.sent_close then
    self.sent_close = true
    self:send_frame(ws_frame.CLOSE, ws_frame.close_payload(code == nil and 1000 or code or nil, reason))
  end
  self:wait_closed()
  self.stream:close()
end

-- Ends the TCP connection without a closing handshake.
function ws_client:drop()
  self.stream:close()
end

function ws_client:reset()
  self.stream:reset()
end

return ws_client
