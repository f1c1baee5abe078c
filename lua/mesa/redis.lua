--- Mesa.redis: connections to Redis that wait in the handler's coroutine. The commands are C (src/script/bind_redis.c).
local core = require "mesa.core"
local errors = require "mesa.errors"
local misuse = require "mesa.misuse"
local ownership = require "mesa.ownership"
local schema = require "mesa.config_schema"
local tasks = require "mesa.tasks"

local error, getmetatable, ipairs, setmetatable, type, unpack = error, getmetatable, ipairs, setmetatable, type, unpack
local format, sub, upper = string.format, string.sub, string.upper
local run_task = tasks.run

local check_self, redis_command = misuse.check_self, core.redis_command

core.redis_error_class(errors.class)

local redis = {}

---@class mesa.Redis
local Redis = {}
local metatable = { __name = "mesa.redis" } -- of connections

-- What would change the connection under everybody who shares it, or is not answered by one reply.
local refused = {
  AUTH = "name user and password in the options of the connection",
  HELLO = "the connection speaks RESP 2",
  SELECT = "name db in the options of the connection",
  SUBSCRIBE = "use redis:subscribe(channel, fn)",
  PSUBSCRIBE = "use redis:subscribe(channel, fn)",
  SSUBSCRIBE = "use redis:subscribe(channel, fn)",
  UNSUBSCRIBE = "use redis:unsubscribe(channel)",
  PUNSUBSCRIBE = "use redis:unsubscribe(channel)",
  MONITOR = "the connection is shared",
  QUIT = "use redis:close()",
  RESET = "the connection is shared",
  SUNSUBSCRIBE = "use redis:unsubscribe(channel)",
  SYNC = "what follows is no reply",
  PSYNC = "what follows is no reply",
  REPLCONF = "it may have no reply",
  SHUTDOWN = "it has no reply, and ends the server for everybody",
}
local refused_second = {
  CLIENT = {
    REPLY = "replies would go to the commands of others",
    TRACKING = "the connection is shared",
  },
  SCRIPT = { DEBUG = "what follows is no reply" },
  DEBUG = {
    SEGFAULT = "it has no reply, and ends the server for everybody",
    PANIC = "it has no reply, and ends the server for everybody",
    RESTART = "it has no reply, and ends the server for everybody",
    ["CRASH-AND-RECOVER"] = "it has no reply, and ends the server for everybody",
  },
}
-- Meaningful in a pipeline only, which nobody else's commands get into.
local transactional = { MULTI = true, EXEC = true, DISCARD = true, WATCH = true, UNWATCH = true }

--- Why the command, whose first argument is `second`, cannot be sent on a shared connection; nil when it can.
local function refusal(name, in_pipeline, second)
  if type(name) ~= "string" then return "a command's name must be a string, got " .. (schema.found(name)) end
  local command = upper(name)
  if refused[command] then return format("%s cannot be sent: %s", command, refused[command]) end
  local seconds = refused_second[command]
  if seconds and type(second) == "string" and seconds[upper(second)] then
    return format("%s %s cannot be sent: %s", command, upper(second), seconds[upper(second)])
  end
  if transactional[command] and not in_pipeline then
    return command .. " is sent within a pipeline: others use this connection, too"
  end
  return nil
end

--- Sends a command. Its reply: a string or a number; nil for none; a table (Mesa.array) with Mesa.null for what is missing.
--- Waits for it, or, with a function as the last argument, calls `callback(err, reply, code)` and returns at once.
---@param name string
---@param ... string|number|function
---@return any reply, string? err, string? code
function Redis:command(name, ...)
  check_self(self, metatable, "redis:command")
  local why = refusal(name, false, ...)
  if why then error(why, 2) end
  return redis_command(self._core, name, ...)
end

-- ---- pipelines -----------------------------------------------------------------------------------------------------

local Pipeline = {}
local pipeline_metatable = { __name = "mesa.redis_pipeline" }

function Pipeline:command(name, ...)
  check_self(self, pipeline_metatable, "pipeline:command")
  local why = refusal(name, true, ...)
  if why then error(why, 2) end
  self._commands[#self._commands + 1] = { name, ... }
  return self
end

local function pipeline_index(_, name)
  local method = Pipeline[name]
  if method or type(name) ~= "string" then return method end
  local called = "pipeline:" .. name
  method = function(self, ...)
    check_self(self, pipeline_metatable, called)
    local why = refusal(name, true, ...)
    if why then error(why, 2) end
    self._commands[#self._commands + 1] = { name, ... }
    return self
  end
  Pipeline[name] = method
  return method
end

pipeline_metatable.__index = pipeline_index

--- What the commands would leave open on the connection, which the commands of others would get into; nil for nothing.
local function left_open(commands)
  local multi, watching = false, false
  for _, command in ipairs(commands) do
    local name = type(command[1]) == "string" and upper(command[1]) or ""
    if name == "MULTI" then
      if multi then return "MULTI within MULTI" end
      multi = true
    elseif name == "EXEC" or name == "DISCARD" then
      if not multi then return name .. " without MULTI" end
      multi, watching = false, false
    elseif name == "WATCH" then
      watching = true
    elseif name == "UNWATCH" and not multi then
      watching = false
    end
  end
  if multi then return "MULTI without EXEC or DISCARD" end
  return watching and "WATCH without EXEC, DISCARD or UNWATCH" or nil
end

--- Sends several commands in one go: a list of lists, or a function that is given an object to call commands on. The reply is a
--- list of replies, among which error objects (`mesa.Error`, code "REDIS") stand for the commands that Redis refused. MULTI and
--- EXEC may be among the commands; a transaction that the pipeline does not end raises.
---@param what fun(p: mesa.RedisPipeline)|table[]
---@param callback? fun(err?: string, replies?: any[], code?: string)
---@return any[]? replies, string? err, string? code
function Redis:pipeline(what, callback)
  check_self(self, metatable, "redis:pipeline")
  local commands = what
  if type(what) == "function" then
    local recorded = setmetatable({ _commands = {} }, pipeline_metatable)
    what(recorded)
    commands = recorded._commands
  elseif type(what) == "table" then
    for _, command in ipairs(what) do
      if type(command) ~= "table" then error("a pipeline is a list of lists, got " .. (schema.found(command)), 2) end
      local why = refusal(command[1], true, command[2])
      if why then error(why, 2) end
    end
  else
    error("redis:pipeline expects a function or a list of commands, got " .. (schema.found(what)), 2)
  end
  local open = left_open(commands)
  if open then error(format("redis:pipeline has %s: others use this connection, too", open), 2) end
  return core.redis_pipeline(self._core, commands, callback)
end

-- ---- channels ------------------------------------------------------------------------------------------------------

local function check_channel(method, channel)
  if type(channel) ~= "string" or channel == "" then
    error(format("redis:%s expects a channel, got %s", method, (schema.found(channel))), 3)
  end
end

-- What the C side calls. A list is replaced, never changed, so listeners may come and go meanwhile. None of them waits for
-- another: each has a coroutine of its own.
local function deliver(self)
  return function(channel, payload)
    local list = self._channels[channel]
    for i = 1, list and #list or 0 do run_task("Redis callback", list[i].fn, payload, channel) end
  end
end

local function activate(self)
  return function(channel)
    local list = self._channels[channel]
    for i = 1, list and #list or 0 do
      list[i].begun = true
      if list[i].active then run_task("Redis callback", list[i].active, channel) end
    end
  end
end

--- Takes the listeners that `is_meant` off the channel; behind the last one the subscription ends.
local function remove(self, channel, is_meant)
  local rest = {}
  for _, listener in ipairs(self._channels[channel] or {}) do
    if not is_meant(listener) then rest[#rest + 1] = listener end
  end
  if rest[1] then
    self._channels[channel] = rest
  elseif self._channels[channel] then
    self._channels[channel] = nil
    core.redis_unsubscribe(self._core, channel)
  end
end

--- Calls `fn(payload, channel)` with everything published on the channel, each in a coroutine of its own. Lasts over losses of the
--- connection; what is published meanwhile is lost. `active(channel)` is called when the subscription has begun, and again after
--- each loss.
---@param channel string
---@param fn fun(payload: string, channel: string)
---@param active? fun(channel: string)
---@return mesa.Redis self
function Redis:subscribe(channel, fn, active)
  check_self(self, metatable, "redis:subscribe")
  check_channel("subscribe", channel)
  if type(fn) ~= "function" then error("redis:subscribe expects a function, got " .. (schema.found(fn)), 2) end
  if active ~= nil and type(active) ~= "function" then
    error("redis:subscribe expects a function or nothing as its third argument, got " .. (schema.found(active)), 2)
  end
  if self._closed then error("redis:subscribe: this connection is closed", 2) end
  local list = self._channels[channel]
  local new = { unpack(list or {}) }
  local listener = { fn = fn, active = active }
  new[#new + 1] = listener
  self._channels[channel] = new
  if not list then
    core.redis_subscribe(self._core, channel, deliver(self), activate(self))
  elseif list[1].begun and active then
    core.timer_start(function() active(channel) end, 0, false)
  end
  ownership.own(function()
    remove(self, channel, function(other) return other == listener end)
  end, listener)
  return self
end

--- Ends a subscription; without a function, all of the channel.
---@param channel string
---@param fn? function
---@return mesa.Redis self
function Redis:unsubscribe(channel, fn)
  check_self(self, metatable, "redis:unsubscribe")
  check_channel("unsubscribe", channel)
  remove(self, channel, function(listener) return fn == nil or listener.fn == fn end)
  return self
end

-- ---- life ----------------------------------------------------------------------------------------------------------

--- Ends the subscriptions now, and the connection when the commands under way have been answered. Further commands return
--- nil, "closed".
function Redis:close()
  check_self(self, metatable, "redis:close")
  if self._closed then return end
  self._closed = true
  self._channels = {}
  core.redis_close(self._core)
end

local function index(_, name)
  local method = Redis[name]
  if method or type(name) ~= "string" or sub(name, 1, 1) == "_" then return method end
  local called = "redis:" .. name
  method = function(self, ...)
    check_self(self, metatable, called)
    local why = refusal(name, false, ...)
    if why then error(why, 2) end
    return redis_command(self._core, name, ...)
  end
  Redis[name] = method
  return method
end

metatable.__index = index

--- A connection to what was given (a URI or a table, as `redis` in a server's configuration); nil and why not when it makes no sense.
---@param given string|table
---@return mesa.Redis? connection, string? err
function redis.open(given)
  local options, message = schema.root.fields.redis.check(given, "redis")
  if not options then return nil, message end
  local handle, err = core.redis_open(options)
  if not handle then return nil, err end
  return setmetatable({ _core = handle, _channels = {}, _closed = false }, metatable)
end

--- Connects, in the background; commands wait for the connection. Raises when the URI or table makes no sense.
---@param given string|table
---@return mesa.Redis
function redis.connect(given)
  misuse.check_function(given, "connect")
  local connection, err = redis.open(given)
  if not connection then error("Mesa.redis.connect: " .. err, 2) end
  return connection
end

--- Whether `value` is a connection.
---@param value any
---@return boolean
function redis.is(value)
  return getmetatable(value) == metatable
end

--- Whether a reply is an error object, as pipelines contain them.
---@param value any
---@return boolean
function redis.isError(value)
  return getmetatable(value) == errors.class
end

redis.public = { connect = redis.connect, isError = redis.isError }
misuse.register(redis.public, "Mesa.redis")

return redis
