--- The server object: events, middleware, scripts. `client`, `count` and `close` are C (src/script/bind_server.c).
local config = require "mesa.config"
local core = require "mesa.core"
local dispatch = require "mesa.dispatch"
local emitter = require "mesa.emitter"
local errors = require "mesa.errors"
local log = require "mesa.log"
local message_fields = require("mesa.message")._fields
local misuse = require "mesa.misuse"
local modules = require "mesa.modules"
local ownership = require "mesa.ownership"
local paths = require "mesa.paths"
local redis = require "mesa.redis"
local scripts = require "mesa.scripts"
local servers = require "mesa.servers"
local strict = require "mesa.strict"

local error, ipairs, pairs, rawget, rawset, setmetatable, tostring = error, ipairs, pairs, rawget, rawset, setmetatable, tostring
local type, unpack, xpcall = type, unpack, xpcall
local format, concat = string.format, table.concat

local send = core.server_send
local check_self = misuse.check_self

---@class mesa.Server
---@field port integer the port it listens on (the bound one from the `listening` event on)
---@field adminPort? integer the port of the admin endpoint (the bound one from the `listening` event on)
---@field path? string
---@field namespace? string
---@field state table free for scripts; survives reloads
---@field raw boolean
---@field redis? mesa.Redis a connection to the server's Redis, made when first used; nil without one
local Server = {}
Server.__name = "mesa.server"
emitter.mixin(Server, "server", "listening", "connection", "message", "disconnection", "error", "request", "upgrade", "reload", "close")
core.server_methods(Server)

--- Sends to the connections of the recipients, wherever they are; without recipients to everybody.
---@param message mesa.Message|string a string with `raw`
---@param recipients? mesa.Id|mesa.Id[]
---@param excluding? mesa.Id|mesa.Id[]
---@param options? {binary: boolean} with `raw`
---@return boolean? ok, string? why
function Server:send(message, recipients, excluding, options)
  return send(self, message, recipients, excluding, options, message_fields(message))
end

function Server.__index(self, key)
  if key ~= "redis" then return Server[key] end
  local cfg = rawget(self, "config")
  local connection = cfg and cfg.redis and redis.connect(cfg.redis) or nil
  rawset(self, "redis", connection)
  return connection
end

local middleware_events = {
  "onConnection", "onDisconnection", "onMessageReceived", "onMessageSent", "onAuthenticated",
  "onUndeliverableMessageSent", "onUndeliverableMessageDropped", "onRedeliverUndeliverableMessages",
  "onPortalJoin", "onPortalLeave", "onError",
}
local known = {}
for _, name in ipairs(middleware_events) do known[name] = true end

local function remove_middleware(self, handlers)
  for name, handler in pairs(handlers) do
    local rest, found = {}, false
    for _, other in ipairs(self._middleware[name] or {}) do
      if other == handler and not found then
        found = true
      else
        rest[#rest + 1] = other
      end
    end
    self._middleware[name] = rest[1] and rest or nil
  end
  self._on_sent = self._middleware.onMessageSent and self._sent or nil
end

--- Adds a middleware: a function that is given the server and returns a table of handlers.
---@param middleware fun(server: mesa.Server): table
---@return mesa.Server self
function Server:use(middleware)
  check_self(self, Server, "server:use")
  if type(middleware) ~= "function" then
    error("server:use expects a function (server) -> handlers, got " .. type(middleware), 2)
  end
  local handlers = middleware(self)
  if type(handlers) ~= "table" then
    error("server:use: the middleware returned a " .. type(handlers) .. ", not a table of handlers", 2)
  end
  for name, handler in pairs(handlers) do
    if not known[name] then
      error(format("server:use: unknown handler %q; there are %s", tostring(name), concat(middleware_events, ", ")), 2)
    end
    if type(handler) ~= "function" then
      error(format("server:use: %s must be a function, got %s", name, type(handler)), 2)
    end
    local list = { unpack(self._middleware[name] or {}) }
    list[#list + 1] = handler
    self._middleware[name] = list
  end
  self._on_sent = self._middleware.onMessageSent and self._sent or nil
  ownership.own(function() remove_middleware(self, handlers) end, handlers)
  return self
end

--- Runs the middleware handlers called `name`, each protected.
---@param name string
function Server:_run_middleware(name, ...)
  local list = self._middleware[name]
  if not list then return end
  for i = 1, #list do
    local ok, err = xpcall(list[i], errors.catch, ...)
    if not ok then self:_report(err, name) end
  end
end

--- The name that a middleware called `name` gives its Redis key `prefix`, apart from other middleware and other namespaces.
---@param prefix string
---@param name string
---@return string
function Server:getMiddlewareNamespace(prefix, name)
  check_self(self, Server, "server:getMiddlewareNamespace")
  if type(prefix) ~= "string" or type(name) ~= "string" then
    error("server:getMiddlewareNamespace expects the key and the name of the middleware as strings", 2)
  end
  local key = prefix .. "_mw-" .. name
  return self.namespace and key .. "_" .. self.namespace or key
end

--- As getMiddlewareNamespace, for a list of keys.
---@param prefixes string[]
---@param name string
---@return string[]
function Server:mapMiddlewareNamespace(prefixes, name)
  check_self(self, Server, "server:mapMiddlewareNamespace")
  if type(prefixes) ~= "table" then
    error("server:mapMiddlewareNamespace expects a list of keys, got " .. type(prefixes), 2)
  end
  local keys = {}
  for i, prefix in ipairs(prefixes) do keys[i] = self:getMiddlewareNamespace(prefix, name) end
  return keys
end

--- Iterates over the open connections: `for client in server:clients() do`.
---@return fun(): mesa.Client?
function Server:clients()
  check_self(self, Server, "server:clients")
  local list, i = core.server_clients(self), 0
  return function()
    repeat i = i + 1 until not list[i] or not list[i].closed
    return list[i]
  end
end

--- Logs an error and emits it: the client's `error` event, the server's, middleware onError. An error in an error listener is only logged.
---@param err mesa.Error
---@param where string the event or handler it happened in
---@param client? mesa.Client
function Server:_report(err, where, client)
  err = errors.wrap(err, "SCRIPT") -- without memory for a traceback LuaJIT gives the bare text
  if err.code == "SCRIPT" then
    core.server_count_event(self, "script_error")
    log.failure("error", err, format("error in %s: %s", where, err.traceback or err.message), "script")
  else
    local who = client and (" (" .. (client.request.ip or "?") .. ")") or ""
    log.failure("warn", err, format("%s: %s%s", err.code, err.message, who), "client")
  end
  self:_emit_error(err, where, client)
end

--- Emits an error that has been logged.
function Server:_emit_error(err, where, client)
  if where == "error" or where == "onError" then return end
  if client then client:emit("error", err) end
  self:emit("error", err, client)
  self:_run_middleware("onError", err, client)
end

--- An auth script appeared: clients that have no handler of their own authenticate through it.
function Server:_enable_auth()
  for client in self:clients() do
    if not client._authenticate then core.client_set_authenticator(client, true) end
  end
end

---@param user_config? table see lua/mesa/config.lua
---@return mesa.Server
local function create(user_config)
  local cfg = config.validate(user_config or {}, 3)
  paths.resolve(cfg)
  local why = paths.problem(cfg) or (cfg.strict and strict.begin())
  if why then error("Mesa.new: " .. why, 3) end
  local self = setmetatable({
    config = cfg,
    port = cfg.port,
    adminPort = cfg.admin and cfg.admin.port,
    path = cfg.path,
    namespace = cfg.namespace,
    raw = cfg.raw == true,
    state = {},
    _middleware = {},
  }, Server)
  function self._sent(message, clients)
    self:_run_middleware("onMessageSent", message, clients, true)
  end
  self._on_sent = nil
  self._scripts = scripts.new(self, cfg.scripts)
  local handle, err = core.server_new(cfg, dispatch.new(self), self, cfg.server and cfg.server._core)
  if not handle then
    scripts.discard(self._scripts)
    error("Mesa.new: " .. err, 3)
  end
  if cfg.limits and (cfg.limits.scriptMemory or 0) > 0 then core.memory_bounded() end
  self._core = handle
  modules.own_server(function() self:close() end)
  scripts.add(self._scripts)
  servers[#servers + 1] = self
  return self
end

return { new = create, class = Server }
