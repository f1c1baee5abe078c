--- Dispatchers: programs that are no server send to the users of a cluster (PROTOCOL 9).
local Message = require "mesa.message"
local cluster = require "mesa.cluster"
local core = require "mesa.core"
local emitter = require "mesa.emitter"
local errors = require "mesa.errors"
local log = require "mesa.log"
local misuse = require "mesa.misuse"
local schema = require "mesa.config_schema"

local error, getmetatable, ipairs, pairs, setmetatable, tostring = error, getmetatable, ipairs, pairs, setmetatable, tostring
local type, unpack = type, unpack
local min, find, format, sub, concat = math.min, string.find, string.format, string.sub, table.concat

local ROUTE_MAX = 1000 -- ids in one run of the script: Redis serves nobody else meanwhile

local encode = core.json.encode
local message_metatable = Message._metatable

-- ---- events -------------------------------------------------------------------------------------------------------

---@class mesa.DispatchEvent
---@field action string
local DispatchEvent = {}
DispatchEvent.__index = DispatchEvent
DispatchEvent.__name = "mesa.dispatch_event"

--- The envelope as JSON text.
---@return string
function DispatchEvent:serialize()
  return Message(5, {}, self.action):serialize()
end

---@param action string "DISCONNECT_CLIENT" closes the recipients with 1000
---@return mesa.DispatchEvent
local function new_event(action)
  if type(action) ~= "string" or action == "" then
    error('Mesa.DispatchEvent expects an action such as "DISCONNECT_CLIENT", got ' .. (schema.found(action)), 2)
  end
  return setmetatable({ action = action }, DispatchEvent)
end

-- ---- the dispatcher -----------------------------------------------------------------------------------------------

---@class mesa.Dispatcher
---@field config table
---@field redis mesa.Redis
local Dispatcher = {}
Dispatcher.__index = Dispatcher
Dispatcher.__name = "mesa.dispatcher"
emitter.mixin(Dispatcher, "dispatcher", "error")

--- The sync options, with the defaults and bounds of a server's.
local function sync_options(value, key)
  if type(value) ~= "table" then return nil, schema.wrong(key, "a table", value) end
  local fields = schema.root.fields.sync.fields
  local sync = {}
  for _, name in ipairs { "enabled", "maxMessages", "maxBytes", "maxAge" } do sync[name] = fields[name].default end
  for name, given in pairs(value) do
    if sync[name] == nil then return nil, format("unknown option %s.%s", key, tostring(name)) end
    local checked, message = fields[name].check(given, key .. "." .. name)
    if message then return nil, message end
    sync[name] = checked
  end
  return sync
end

local allowed = { namespace = cluster.namespace, sync = sync_options }

--- `recipients` without `excluding`, each once.
local function without(recipients, excluding)
  local out, kept = {}, {}
  for _, id in ipairs(excluding or {}) do out[id] = true end
  for _, id in ipairs(recipients) do
    if not out[id] then kept[#kept + 1] = id end
    out[id] = true
  end
  return kept
end

--- The envelope of what is dispatched, the options that go with it as JSON, and whether it is kept for those who are offline.
local function envelope(event)
  local kind = getmetatable(event)
  if kind == DispatchEvent then return event:serialize(), nil, false end
  if kind ~= message_metatable then
    error("dispatcher:dispatch expects a Message or a DispatchEvent, got " .. (schema.found(event)), 3)
  end
  local options = event.options
  if type(options) ~= "table" then return event:serialize(), nil, true end
  return event:serialize(), encode(options), options.sync ~= false
end

function Dispatcher:_report(err, event)
  if not (self._handlers and self._handlers.error) or event == "error" then
    log.failure("warn", err, "dispatcher: " .. (err.traceback or err.message), "redis")
  end
  if event ~= "error" then self:emit("error", err) end
end

--- What is called with the outcome of a command: the scripts' third result is a list of errors.
local function on_reply(self)
  return function(err, reply, code)
    if err then return self:_report(errors.new(err, code), "dispatch") end
    for _, text in ipairs(type(reply) == "table" and reply[3] or {}) do
      self:_report(errors.new(text, "SYNC"), "dispatch")
    end
  end
end

local function has_everybody(recipients)
  for _, id in ipairs(recipients) do
    if id == "*" then return true end
  end
  return false
end

--- Sends to users of the cluster, wherever they are connected. Does not wait; trouble is reported as the `error` event.
---@param event mesa.Message|mesa.DispatchEvent
---@param recipients? mesa.Id|mesa.Id[] everybody without it or with "*"
---@param excluding? mesa.Id|mesa.Id[] ids that are not to get it
---@return boolean? ok, string? err
function Dispatcher:dispatch(event, recipients, excluding)
  misuse.check_self(self, Dispatcher, "dispatcher:dispatch")
  local text, options, storable = envelope(event)
  recipients = cluster.ids("dispatcher:dispatch", "recipients", recipients) or { "*" }
  excluding = cluster.ids("dispatcher:dispatch", "excluding", excluding)
  recipients = without(recipients, excluding)
  if #recipients == 0 then return true end
  if self._closed then return nil, "closed" end
  if self.config.sync.enabled and storable and not has_everybody(recipients) then return self:_route(text, recipients) end
  if options then text = sub(text, 1, -2) .. ',"o":' .. options .. "}" end
  return self:_publish(text, recipients, excluding)
end

--- `excluding` travels along for the sake of "*": mesa-lua servers heed it.
function Dispatcher:_publish(text, recipients, excluding)
  local parts = { '{"message":', text, ',"recipients":', encode(recipients) }
  if excluding and #excluding > 0 then parts[#parts + 1] = ',"excluding":' .. encode(excluding) end
  parts[#parts + 1] = "}"
  return self.redis:command("PUBLISH", self._channel, concat(parts), self._on_reply)
end

--- Publishes for those who are online and stores for the others, in one step.
function Dispatcher:_route(text, recipients)
  local sync = self.config.sync
  local ok, err
  for first = 1, #recipients, ROUTE_MAX do
    local arguments = { "EVALSHA", self._script_hash, 0, "", 0, text, sync.maxMessages, sync.maxBytes, sync.maxAge }
    for i = first, min(first + ROUTE_MAX - 1, #recipients) do arguments[#arguments + 1] = "-" .. recipients[i] end
    local n = #arguments
    arguments[n + 1] = function(failure, reply, code)
      if not failure or not find(failure, "^NOSCRIPT") then return self._on_reply(failure, reply, code) end
      -- somebody emptied Redis's cache of scripts
      arguments[1], arguments[2], arguments[n + 1] = "EVAL", self._script, self._on_reply
      self.redis:command(unpack(arguments))
    end
    ok, err = self.redis:command(unpack(arguments))
  end
  return ok, err
end

--- Closes the connection when what was dispatched has been sent. A connection that was passed in stays open.
function Dispatcher:close()
  misuse.check_self(self, Dispatcher, "dispatcher:close")
  if self._closed then return end
  self._closed = true
  if self._own then self.redis:close() end
end

---@param connection string|table|mesa.Redis URI, options, or a connection of Mesa.redis.connect
---@param options? { namespace?: string, sync?: { enabled: boolean } }
---@return mesa.Dispatcher
local function new_dispatcher(connection, options)
  misuse.check_function(connection, "Dispatcher")
  local config = cluster.options("Mesa.Dispatcher", options, allowed)
  config.sync = config.sync or sync_options({}, "sync")
  local redis, own = cluster.connection("Mesa.Dispatcher", connection)
  local self = setmetatable({
    config = config,
    redis = redis,
    _own = own,
    _channel = cluster.name("ws", config.namespace),
  }, Dispatcher)
  if config.sync.enabled then
    self._script_hash, self._script = core.redis_route_script(redis._core, cluster.name("", config.namespace))
  end
  self._on_reply = on_reply(self)
  return self
end

return { new = new_dispatcher, event = new_event }
