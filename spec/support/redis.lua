-- A private redis-server on a free port, and a connection to look into it from a spec.
local fs = require "spec.support.fs"
local harness = require "spec.support.harness"
local loop = require "spec.support.loop"
local process = require "spec.support.process"
local stream = require "spec.support.stream"

local redis = {}

local server = {}
server.__index = server

local connection = {}
connection.__index = connection

-- ---- RESP ----------------------------------------------------------------------------------------------------------

-- Parses a reply at `at`: value, next position; nothing when it is not complete. Errors are { err = text }, null is nil in `out.null`.
local function parse(text, at)
  local stop = text:find("\r\n", at, true)
  if not stop then return nil end
  local kind, line = text:sub(at, at), text:sub(at + 1, stop - 1)
  local after = stop + 2
  if kind == "+" then return { line }, after end
  if kind == "-" then return { { err = line } }, after end
  if kind == ":" then return { tonumber(line) }, after end
  local n = tonumber(line)
  if n < 0 then return {}, after end
  if kind == "$" then
    if #text < after + n + 1 then return nil end
    return { text:sub(after, after + n - 1) }, after + n + 2
  end
  local list = {}
  for i = 1, n do
    local item, next_at = parse(text, after)
    if not item then return nil end
    list[i], after = item[1], next_at
  end
  return { list }, after
end

local function encode(...)
  local parts = { "*" .. select("#", ...) .. "\r\n" }
  for i = 1, select("#", ...) do
    local word = tostring((select(i, ...)))
    parts[#parts + 1] = ("$%d\r\n%s\r\n"):format(#word, word)
  end
  return table.concat(parts)
end

function redis.connect(address)
  local wire, err = stream.connect(address)
  if not wire then return nil, err end
  local self = setmetatable({ wire = wire, text = "", replies = {}, first = 1, published = {} }, connection)
  wire:listen(function(bytes)
    self.text = self.text .. bytes
    while true do
      local reply, after = parse(self.text, 1)
      if not reply then break end
      self.text = self.text:sub(after)
      local value = reply[1]
      if type(value) == "table" and value[1] == "message" then
        self.published[#self.published + 1] = { channel = value[2], payload = value[3] }
      else
        self.replies[#self.replies + 1] = reply
      end
    end
  end, function()
    self.gone = true
  end)
  return self
end

-- A command's reply: string, number, list, nil; nil and the text for an error.
function connection:command(...)
  self.wire:write(encode(...))
  local at = self.first
  assert(loop.wait(function() return self.replies[at] or self.gone end, 5000) and self.replies[at],
    "Redis does not answer " .. tostring((...)))
  self.first = at + 1
  local value = self.replies[at][1]
  if type(value) == "table" and value.err then return nil, value.err end
  return value
end

function connection:subscribe(channel)
  self:command("SUBSCRIBE", channel)
  return self
end

-- Waits for something published that `match` (nil: anything) accepts, and takes it and what came before.
function connection:expect(match, timeout)
  local found
  loop.wait(function()
    while #self.published > 0 and not found do
      local item = table.remove(self.published, 1)
      if not match or match(item.payload, item.channel) then found = item end
    end
    return found
  end, timeout or 5000)
  return assert(found, "nothing like it was published").payload
end

function connection:close()
  self.wire:close()
end

-- ---- the server ----------------------------------------------------------------------------------------------------

local function launch(self)
  local args = { "--port", self.port, "--bind", "127.0.0.1", "--save", "", "--appendonly", "no", "--daemonize", "no", "--dir", self.dir }
  if self.unix then
    for _, word in ipairs { "--unixsocket", self.unix } do args[#args + 1] = word end
  end
  for _, word in ipairs(self.options.args or {}) do args[#args + 1] = word end
  self.process = process.spawn("/usr/bin/redis-server", { args = args })
  self.pid = self.process.pid
  local ready = loop.wait(function()
    return self.process.stdout:find("Ready to accept connections", 1, true) or not self.process:running()
  end, 10000)
  if not ready or not self.process:running() then
    error("redis-server did not start\n" .. self.process.stdout .. self.process.stderr, 3)
  end
end

-- options: args (further arguments of redis-server), unix (true: on a Unix socket as well), password (for what looks into it)
function redis.start(options)
  local self = setmetatable({ options = options or {}, dir = fs.mkdtemp(), port = harness.free_port() }, server)
  self.unix = self.options.unix and self.dir .. "/redis.sock" or nil
  self.uri = "redis://127.0.0.1:" .. self.port
  launch(self)
  return self
end

-- A new connection of the spec's own.
function server:connect()
  local opened = assert(redis.connect { host = "127.0.0.1", port = self.port })
  if self.options.password then opened:command("AUTH", self.options.password) end
  self.connections = self.connections or {}
  self.connections[#self.connections + 1] = opened
  return opened
end

-- A command on a connection that is made when first needed.
function server:command(...)
  if not self.own or self.own.gone then self.own = self:connect() end
  return self.own:command(...)
end

function server:subscribe(channel)
  return self:connect():subscribe(channel)
end

-- kill -9
function server:kill()
  self.process:signal "sigkill"
  self.process:wait(5000)
  self.process:destroy()
  self.own = nil
end

-- Comes back on the same port, empty.
function server:restart()
  launch(self)
end

-- SIGSTOP and SIGCONT: it hangs without closing.
function server:freeze() self.process:signal "sigstop" end
function server:thaw() self.process:signal "sigcont" end

function server:stop()
  for _, opened in ipairs(self.connections or {}) do opened:close() end
  self.connections, self.own = nil, nil
  self:thaw()
  self.process:destroy()
  fs.remove(self.dir)
end

return redis
