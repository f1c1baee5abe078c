-- One byte stream to a server: TCP, a Unix socket, or either under TLS.
local uv = require "luv"
local loop = require "spec.support.loop"
local tls = require "spec.support.tls"

local stream = {}
stream.__index = stream

local function on_bytes(self, bytes)
  if self.on_data then
    self.on_data(bytes)
  else
    self.early = self.early .. bytes
  end
end

local function on_end(self, err)
  if self.ended then
    return
  end
  self.ended = true
  self.end_error = err
  if self.on_close then
    self.on_close(err)
  end
end

local function on_tls_bytes(self, bytes)
  local ready, err = self.tls:handshake(bytes)
  local reply = self.tls:outgoing()
  if #reply > 0 and not self.handle:is_closing() then
    self.handle:write(reply)
  end
  if ready == nil then
    return on_end(self, err)
  end
  if ready then
    local text, finished = self.tls:decrypted()
    if #text > 0 then
      on_bytes(self, text)
    end
    if finished then
      on_end(self)
    end
  end
end

local function start_reading(self)
  self.handle:read_start(loop.guard(function(err, bytes)
    if err or not bytes then
      return on_end(self, err)
    end
    self.received_bytes = self.received_bytes + #bytes
    if self.tls then
      on_tls_bytes(self, bytes)
    else
      on_bytes(self, bytes)
    end
  end))
end

local function open_handle(self, address, options, done)
  if address.unix then
    self.handle = uv.new_pipe(false)
    self.handle:connect(address.unix, done)
    return
  end
  local host = address.host or "127.0.0.1"
  self.handle = uv.new_tcp(host:find(":", 1, true) and "inet6" or "inet")
  if options.receive_buffer then
    uv.recv_buffer_size(self.handle, options.receive_buffer) -- before connecting: it bounds the window
  end
  self.handle:nodelay(true)
  local _, err = self.handle:connect(host, address.port, done)
  if err then
    done(err)
  end
end

-- address: { host=, port= } or { unix= }; options: ca (TLS verified with it), pair (a certificate and its
-- key to show), preface (bytes in front of TLS, or a list of pieces to send apart), receive_buffer, timeout.
-- The stream, or nil and why not.
function stream.connect(address, options)
  options = options or {}
  local self = setmetatable({ early = "", received_bytes = 0, ended = false }, stream)
  local connected, failure
  open_handle(self, address, options, loop.guard(function(err)
    connected, failure = not err, err
  end))
  local timeout = options.timeout or 5000
  if not loop.wait(function()
    return connected or failure
  end, timeout) then
    failure = "timed out"
  end
  if failure then
    self:close()
    return nil, failure
  end
  for _, piece in ipairs(type(options.preface) == "table" and options.preface or { options.preface }) do
    self.handle:write(piece)
    loop.sleep(1)
  end
  if options.ca then
    self.tls = tls.client(options.ca, options.pair)
    self.tls:handshake()
    self.handle:write(self.tls:outgoing())
  end
  start_reading(self)
  if self.tls and not loop.wait(function()
    return self.tls.ready or self.ended
  end, timeout) or self.ended then
    self:close()
    return nil, self.end_error or "closed during the TLS handshake"
  end
  return self
end

-- Hands over what arrives from now on, and what came before.
function stream:listen(on_data, on_close)
  self.on_data, self.on_close = on_data, on_close
  if #self.early > 0 then
    local early = self.early
    self.early = ""
    on_data(early)
  end
  if self.ended then
    on_close(self.end_error)
  end
end

function stream:write(bytes)
  if not self.handle:is_closing() then
    self.handle:write(self.tls and self.tls:encrypt(bytes) or bytes)
  end
end

-- A reader that stalls, and reads on.
function stream:pause()
  self.handle:read_stop()
end

function stream:resume()
  start_reading(self)
end

function stream:pending_write_bytes()
  return self.handle:get_write_queue_size()
end

-- Half-close: no more bytes from us.
function stream:finish_writing()
  self.handle:shutdown()
end

function stream:close()
  if not self.handle:is_closing() then
    self.handle:close()
  end
  on_end(self)
end

-- Drops the connection with RST.
function stream:reset()
  if not self.handle:is_closing() then
    self.handle:close_reset()
  end
  on_end(self)
end

return stream
