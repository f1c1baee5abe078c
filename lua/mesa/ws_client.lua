--- Mesa.Client: a program's own connection to a Mesa server, as in the Node library (PROTOCOL 2 to 6).
--
-- What a server says about the connection itself (heartbeats, hello, op 22) is answered at once. Messages go to the listeners
-- one after the other, so that a listener that waits holds back the next message, but neither the connection nor other events.
local await = require "mesa.await"
local core = require "mesa.core"
local emitter = require "mesa.emitter"
local errors = require "mesa.errors"
local log = require "mesa.log"
local Message = require "mesa.message"
local misuse = require "mesa.misuse"
local ownership = require "mesa.ownership"
local timer = require "mesa.timer"

local error, getmetatable, ipairs, pairs, setmetatable = error, getmetatable, ipairs, pairs, setmetatable
local tostring, type = tostring, type
local format, gsub, remove = string.format, string.gsub, table.remove

---@class mesa.WsClient
local WsClient = {}
WsClient.__index = WsClient
emitter.mixin(WsClient, "client", "connected", "connection", "message", "disconnected", "error", "drain")

local check_self = misuse.check_self

local MIB = 1024 * 1024
local DAY_MS = 24 * 60 * 60 * 1000
local PAUSE_AT = 64 -- messages waiting for a listener before the server is no longer read
local PAUSE_AT_BYTES = MIB -- or bytes of them
local STORED_MAX = 100 -- messages of each direction kept with the rule store_messages

local options_allowed = {
  autoConnect = { type = "boolean", default = true },
  ca = { type = "string" },
  timeout = { type = "number", default = 10000, min = 1, max = DAY_MS },
  maxPayload = { type = "number", default = MIB, min = 1, max = 2 ^ 31 - 1 },
  maxQueue = { type = "number", default = MIB, min = 1, max = 2 ^ 40 },
  version = { type = "string", default = "1.5.8" },
}

local function check_options(given)
  if given ~= nil and type(given) ~= "table" then error("Mesa.Client expects a table of options, got " .. type(given), 3) end
  local options = {}
  for key, value in pairs(given or {}) do
    local allowed = options_allowed[key]
    if not allowed then error(format("Mesa.Client: there is no option %q", tostring(key)), 3) end
    if type(value) ~= allowed.type then
      error(format("Mesa.Client: %s must be a %s, got %s", key, allowed.type, type(value)), 3)
    elseif allowed.min and not (value >= allowed.min and value <= allowed.max) then
      error(format("Mesa.Client: %s must be between %d and %.0f, got %s", key, allowed.min, allowed.max, value), 3)
    end
    options[key] = value
  end
  for key, allowed in pairs(options_allowed) do
    if options[key] == nil then options[key] = allowed.default end
  end
  return options
end

-- ---- events --------------------------------------------------------------------------------------------------------

--- Emits messages in their order. The task that finds nobody at work does the work of those that come meanwhile.
local function deliver(self, message, size)
  local inbox = self._inbox
  inbox.last, inbox.bytes = inbox.last + 1, inbox.bytes + size
  inbox[inbox.last] = { message = message, size = size }
  if not inbox.paused and self._connection and (inbox.last - inbox.first + 1 >= PAUSE_AT or inbox.bytes >= PAUSE_AT_BYTES) then
    inbox.paused = true
    core.ws_pause(self._connection, true)
  end
  if inbox.busy then return end
  inbox.busy = true
  while inbox.first <= inbox.last do
    local item = inbox[inbox.first]
    inbox[inbox.first] = nil
    inbox.first, inbox.bytes = inbox.first + 1, inbox.bytes - item.size
    self:emit("message", item.message)
  end
  inbox.busy = false
  if inbox.paused then
    inbox.paused = false
    if self._connection then core.ws_pause(self._connection, false) end
  end
end

--- Errors nobody listens to are logged.
local function fail(self, err)
  if self._handlers and self._handlers.error then
    self:emit("error", err)
  else
    log.failure("warn", err, format("client of %s: %s", self._shown, err.message), "client")
  end
end

--- An error in one of the listeners.
---@param err mesa.Error
---@param event string
function WsClient:_report(err, event)
  err = errors.wrap(err, "SCRIPT")
  log.failure("error", err, format("error in %q of a client of %s: %s", event, self._shown, err.traceback or err.message), "script")
  if event ~= "error" then self:emit("error", err) end
end

local function store(self, direction, message)
  if not self.messages then return end
  local list = self.messages[direction]
  list[#list + 1] = message
  if #list > STORED_MAX then remove(list, 1) end
end

-- ---- what the server says ------------------------------------------------------------------------------------------

local function transmit(self, message)
  return core.ws_send(self._connection, message:serialize())
end

local function resolve_authentication(self, ...)
  local resolve = self._authenticating
  self._authenticating = nil
  if resolve then resolve(...) end
end

local function rule_holds(rules, name)
  for _, rule in ipairs(rules) do
    if rule == name then return true end
  end
  return false
end

local function on_hello(self, hello)
  if type(hello) ~= "table" then hello = {} end
  local interval = hello.c_reconnect_interval
  self._reconnect_interval = type(interval) == "number" and interval >= 1 and interval <= DAY_MS and interval or nil
  self.rules = type(hello.rules) == "table" and hello.rules or {}
  if rule_holds(self.rules, "enforce_equal_versions") then
    transmit(self, Message(0, { v = self._options.version }, "CLIENT_VERSION"))
  end
  self.messages = rule_holds(self.rules, "store_messages") and { sent = {}, received = {} } or nil
end

local function on_message(self, message, size)
  local opcode = message.opcode
  if opcode == 1 then
    transmit(self, Message(11, {}))
  elseif opcode == 10 then
    on_hello(self, message.data)
  elseif opcode == 22 then
    self.authenticated = true
    self.user = message.data
    resolve_authentication(self, message.data)
  elseif opcode ~= 11 then
    store(self, "received", message)
    deliver(self, message, size)
  end
end

local function send_now(self, message, text)
  local ok, err = core.ws_send(self._connection, text)
  if ok then store(self, "sent", message) end
  return ok, err
end

local function flush(self)
  local queue = self._queue
  self._queue, self._queued = {}, 0
  for i, item in ipairs(queue) do
    if not send_now(self, item.message, item.text) then
      for k = i, #queue do
        self._queue[#self._queue + 1] = queue[k]
        self._queued = self._queued + #queue[k].text
      end
      return
    end
  end
end

-- ---- the connection ------------------------------------------------------------------------------------------------

local function resolve_connect(self, ...)
  local waiting = self._connecting
  self._connecting = {}
  for _, resolve in ipairs(waiting) do resolve(...) end
end

local function on_open(self)
  local event = {
    isInitialConnection = self._initial,
    isInitialSessionConnection = self._initial_session,
    isAutomaticReconnection = self._automatic,
  }
  self._initial, self._initial_session, self._automatic = false, false, false
  self.connected = true
  resolve_connect(self, true)
  -- Behind what is said at once now: who authenticates when connected does so before what waited is sent.
  timer.setTimeout(function()
    if self.connected then flush(self) end
  end, 0)
  self:emit("connected", event)
  self:emit("connection", event) -- what Mesa's documentation calls it
end

local start

-- The clock's microseconds keep clients that lost the same server apart; math.random starts alike in every process.
local function jittered(interval)
  return interval * (0.8 + 0.4 * (core.now() * 1000 % 1000) / 1000)
end

local function reconnect_later(self)
  self._timer = timer.setTimeout(function()
    self._timer = nil
    self._automatic = true
    if core.shutting_down() then return end
    local ok, err = start(self)
    if not ok then fail(self, errors.new(err, "CONNECT")) end
  end, jittered(self._reconnect_interval))
end

local function on_close(self, code, reason, why)
  self._connection = nil
  self.connected, self.authenticated = false, false
  local again = self._reconnect_interval ~= nil and not self._forced and not core.shutting_down()
  if self._forced then self._initial_session = true end
  if again then reconnect_later(self) end
  resolve_connect(self, nil, why or "closed")
  resolve_authentication(self, nil, "closed")
  if why and not self._forced then fail(self, errors.new(format("cannot connect to %s: %s", self._shown, why), "CONNECT")) end
  self:emit("disconnected", code, reason, { willAttemptReconnect = again })
end

local violation_codes = { [1007] = "UTF8", [1009] = "PAYLOAD", [1011] = "MEMORY" }

local handlers = {
  open = on_open,
  message = on_message,
  invalid = function(self, reason)
    fail(self, errors.new("the server sent no Mesa message: " .. reason, "PROTOCOL"))
  end,
  violation = function(self, code, text)
    fail(self, errors.new(format("the server broke the WebSocket protocol: %s (closed with %d)", text, code),
      violation_codes[code] or "PROTOCOL"))
  end,
  drain = function(self)
    flush(self)
    self:emit("drain")
  end,
  close = on_close,
}

--- Begins to connect; true, or nil and the reason when the URL or the authorities are unusable.
function start(self)
  local options = self._options
  local connection, err = core.ws_connect(function(event, ...) handlers[event](self, ...) end,
    self.url, options.ca, options.timeout, options.maxPayload, options.maxQueue)
  if not connection then return nil, err end
  self._connection, self._forced = connection, false
  return true
end

--- Connects. In a handler it waits: true, or nil and the reason. Elsewhere it only begins to connect.
---@return boolean? ok, string? err
function WsClient:connect()
  check_self(self, WsClient, "client:connect")
  if self.connected then
    error("client:connect: already connected; call client:disconnect() before", 2)
  end
  local waits = core.in_handler()
  if waits then core.check_wait "client:connect" end
  timer.clearTimeout(self._timer)
  self._timer = nil
  if not self._connection then
    local ok, err = start(self)
    if not ok then return nil, err end
  end
  if not waits then return true end
  return await(function(resolve) self._connecting[#self._connecting + 1] = resolve end)
end

--- Sends, or keeps for the next connection while there is none, in order.
---@param message mesa.Message
---@return boolean? ok, string? err "full": `maxQueue` bytes wait already
function WsClient:send(message)
  check_self(self, WsClient, "client:send")
  if getmetatable(message) ~= Message._metatable then
    error("client:send expects a Message, got " .. type(message) .. ": make one with Mesa.Message(op, data, type)", 2)
  end
  local text = core.message_serialize(message, Message._fields(message))
  if self.connected and #self._queue == 0 then
    local ok, err = send_now(self, message, text)
    if ok then return true end
    if err ~= "closed" then return nil, err end
  end
  if self._queued + #text > self._options.maxQueue then return nil, "full" end
  self._queue[#self._queue + 1] = { text = text, message = message }
  self._queued = self._queued + #text
  return true
end

--- Sends op 2, in front of what waits to be sent, and waits for op 22. nil and the reason when the connection ends first, as it
--- does when the server refuses; nil, "timeout" when nothing comes in the client's `timeout`; nil, "replaced" when `authenticate` is
--- called again, which is how to go on after a refusal that leaves the connection.
---@param data table
---@param options? {shouldSync: boolean}
---@return table? user, string? err
function WsClient:authenticate(data, options)
  check_self(self, WsClient, "client:authenticate")
  if type(data) ~= "table" then error("client:authenticate expects a table, got " .. type(data), 2) end
  core.check_wait "client:authenticate"
  local credentials = {}
  for key, value in pairs(data) do credentials[key] = value end
  credentials.shouldSync = not (options and options.shouldSync == false)
  local message, mine = Message(2, credentials), nil
  resolve_authentication(self, nil, "replaced")
  local user, err = await(function(resolve)
    self._authenticating, mine = resolve, resolve
    local ok, why
    if self.connected then
      ok, why = send_now(self, message, message:serialize())
    else
      ok, why = self:send(message)
    end
    if not ok then resolve_authentication(self, nil, why) end
  end, self._options.timeout)
  if self._authenticating == mine then self._authenticating = nil end
  return user, err
end

local function code_allowed(code)
  return code % 1 == 0 and (code == 1000 or code == 1001 or code >= 3000 and code <= 4999)
end

--- Closes the connection, or stops trying to connect. There is no automatic reconnection after it.
---@param code? integer 1000 (default), 1001 or 3000 to 4999
---@param reason? string
function WsClient:disconnect(code, reason)
  check_self(self, WsClient, "client:disconnect")
  if code == nil then code = 1000 end
  if type(code) ~= "number" or not code_allowed(code) then
    error("client:disconnect: code must be 1000, 1001 or 3000 to 4999, got " .. tostring(code), 2)
  end
  if reason ~= nil and type(reason) ~= "string" then
    error("client:disconnect: reason must be a string, got " .. type(reason), 2)
  end
  timer.clearTimeout(self._timer)
  self._timer = nil
  self._forced, self._initial_session = true, true
  if self._connection then core.ws_close(self._connection, code, reason or "") end
end

--- A client of the Mesa server at `url` (ws:// or wss://). Unless `autoConnect` is false it begins to connect at once.
---@param url string
---@param options? table
---@return mesa.WsClient
local function new(url, options)
  misuse.check_function(url, "Client")
  if type(url) ~= "string" then error("Mesa.Client expects a URL, got " .. type(url), 2) end
  local self = setmetatable({
    url = url,
    _shown = gsub(url, "^(%a+://)[^/?#]*@", "%1"), -- passwords are for nobody to see
    authenticated = false,
    connected = false,
    rules = {},
    _options = check_options(options),
    _queue = {},
    _queued = 0,
    _connecting = {},
    _inbox = { first = 1, last = 0, bytes = 0 },
    _initial = true,
    _initial_session = true,
    _automatic = false,
  }, WsClient)
  if self._options.autoConnect then
    local ok, err = start(self)
    if not ok then error("Mesa.Client: " .. err, 2) end
  end
  ownership.own(function() self:disconnect() end)
  return self
end

return new
