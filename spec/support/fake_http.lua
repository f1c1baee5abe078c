-- An HTTP server that answers with whatever bytes a spec wants, for the specs of the HTTP client and of Mesa.Client.
local uv = require "luv"
local loop = require "spec.support.loop"
local tls = require "spec.support.tls"

local fake_http = {}
fake_http.__index = fake_http

local connection = {}
connection.__index = connection

local function write_handle(self, bytes)
  if #bytes > 0 and not self.handle:is_closing() then
    self.handle:write(bytes)
  end
end

function connection:write(bytes)
  write_handle(self, self.tls and self.tls:encrypt(bytes) or bytes)
end

-- A whole response with a proper length.
function connection:reply(status, body, headers)
  local lines = { ("HTTP/1.1 %d Whatever"):format(status) }
  for name, value in pairs(headers or {}) do
    lines[#lines + 1] = name .. ": " .. value
  end
  lines[#lines + 1] = "Content-Length: " .. #(body or "")
  self:write(table.concat(lines, "\r\n") .. "\r\n\r\n" .. (body or ""))
end

-- `notify` false: TLS is not told that this is the end.
function connection:close(notify)
  if self.tls and notify ~= false then
    write_handle(self, self.tls:finish())
  end
  if not self.handle:is_closing() then
    self.handle:close()
  end
end

function connection:reset()
  if not self.handle:is_closing() then
    self.handle:close_reset()
  end
end

local function parse_request(text)
  local stop = select(2, text:find("\r\n\r\n", 1, true))
  if not stop then
    return nil
  end
  local method, target = text:match "^(%S+) (%S+) HTTP/1%.1\r\n"
  local request = { method = method, target = target, path = target:match "^[^?]*", headers = {}, head = text:sub(1, stop) }
  for name, value in request.head:gmatch "\r\n([^:\r\n]+):%s*([^\r\n]*)" do
    request.headers[name:lower()] = value
  end
  local length = tonumber(request.headers["content-length"] or 0)
  if #text < stop + length then
    return nil
  end
  request.body = text:sub(stop + 1, stop + length)
  return request, text:sub(stop + length + 1)
end

-- A handler that sets conn.raw gets whatever follows its request by it.
local function on_text(server, conn, text)
  conn.text = conn.text .. text
  while true do
    if conn.raw then
      text, conn.text = conn.text, ""
      return #text > 0 and conn.raw(text)
    end
    local request, rest = parse_request(conn.text)
    if not request then
      return
    end
    conn.text = rest
    conn.requests = conn.requests + 1
    server.requests[#server.requests + 1] = request
    local handler = server.routes[request.path] or server.routes["*"]
    if handler then
      handler(conn, request)
    else
      conn:reply(404, "no route " .. request.path)
    end
  end
end

local function on_bytes(server, conn, bytes)
  if not conn.tls then
    return on_text(server, conn, bytes)
  end
  local ready = conn.tls:handshake(bytes)
  write_handle(conn, conn.tls:outgoing())
  if ready == nil then
    return conn:close(false)
  end
  if ready then
    local text, notified = conn.tls:decrypted()
    conn.notified = notified or conn.notified
    on_text(server, conn, text)
    write_handle(conn, conn.tls:outgoing())
  end
end

local function accept(self)
  local handle = uv.new_tcp()
  assert(self.listener:accept(handle))
  local conn = setmetatable({ handle = handle, text = "", requests = 0 }, connection)
  self.connections[#self.connections + 1] = conn
  conn.tls = self.certificate and tls.server(self.certificate)
  if self.on_connection and self.on_connection(conn) == false then
    return
  end
  handle:read_start(loop.guard(function(err, bytes)
    if err or not bytes then
      conn.ended = true
      return conn:close(false)
    end
    on_bytes(self, conn, bytes)
  end))
end

-- routes: path ("*": any other) → function(conn, request).
-- options: certificate { cert =, key = } (TLS), host, on_connection(conn) (false: nothing is read)
function fake_http.start(routes, options)
  options = options or {}
  local self = setmetatable({
    routes = routes, requests = {}, connections = {}, certificate = options.certificate,
    on_connection = options.on_connection,
  }, fake_http)
  self.listener = uv.new_tcp()
  assert(self.listener:bind(options.host or "127.0.0.1", 0))
  self.port = self.listener:getsockname().port
  assert(self.listener:listen(1024, loop.guard(function(err)
    assert(not err, err)
    accept(self)
  end)))
  self.url = ("%s://localhost:%d"):format(self.certificate and "https" or "http", self.port)
  return self
end

-- How many connections are open; inside a callback of the loop, too.
function fake_http:open_count()
  local n = 0
  for _, conn in ipairs(self.connections) do
    if not conn.handle:is_closing() then
      n = n + 1
    end
  end
  return n
end

function fake_http:stop()
  self.listener:close()
  for _, conn in ipairs(self.connections) do
    if not conn.handle:is_closing() then
      conn.handle:close()
    end
  end
end

return fake_http
