--- Portals: programs that are no server are told what happens at the servers of a cluster (PROTOCOL 9).
local Message = require "mesa.message"
local cluster = require "mesa.cluster"
local core = require "mesa.core"
local emitter = require "mesa.emitter"
local errors = require "mesa.errors"
local log = require "mesa.log"
local misuse = require "mesa.misuse"
local ownership = require "mesa.ownership"
local portals = require "mesa.portals"

local getmetatable, ipairs, setmetatable, type, unpack = getmetatable, ipairs, setmetatable, type, unpack
local byte, format, insert, remove = string.byte, string.format, table.insert, table.remove

local decode, encode, null = core.json.decode, core.json.encode, core.json.null

-- The channel of each connection that portals have subscribed through. A lease names it, so that servers can tell whether the
-- portal is subscribed, and which subscribers of `portal` are portals without a lease.
local channels = setmetatable({}, { __mode = "k" })

local LEASE_MS = 15000 -- a portal that crashed is out of the pool after this time

---@class mesa.Portal
---@field id string
---@field config table
---@field redis mesa.Redis
local Portal = {}
Portal.__index = Portal
Portal.__name = "mesa.portal"
emitter.mixin(Portal, "portal", "connection", "authentication", "message", "disconnection", "error")

local allowed = { namespace = cluster.namespace, verbose = cluster.boolean, reportAllEvents = cluster.boolean }

function Portal:_report(err, event)
  if not (self._handlers and self._handlers.error) or event == "error" then
    log.failure("warn", err, "portal: " .. (err.traceback or err.message), "portal")
  end
  if event ~= "error" then self:emit("error", err) end
end

function Portal:_log(text)
  if self.config.verbose then log.info(text, "portal") end
end

-- ---- what servers publish -------------------------------------------------------------------------------------------

--- The id of an update, if it has one; false: it cannot be one.
local function id_of(value)
  if value == nil or value == null then return nil end
  return (core.user_id(value)) or false
end

local function text_or_nil(value)
  if type(value) == "string" then return value end
  return nil
end

--- The Message of an update, or nil when it is none.
local function to_message(m)
  if type(m) ~= "table" or type(m.op) ~= "number" or m.op % 1 ~= 0 then return nil end
  local message = Message(m.op, m.d, text_or_nil(m.t), type(m.o) == "table" and m.o or nil)
  message.sequence = type(m.s) == "number" and m.s or nil
  return message
end

local kinds = { connection = true, authentication = true, message = true, disconnection = true }

function Portal:_on_update(payload)
  local update, why = decode(payload)
  local id = type(update) == "table" and id_of(update.clientId)
  if type(update) ~= "table" or not kinds[update.type] or id == false then
    return self:_report(errors.new("what came on the channel " .. self._channel .. " is no update of a server"
      .. (why and ": " .. why or ""), "PROTOCOL"), "update")
  end
  if update.portalId ~= self.id and not self.config.reportAllEvents then return end
  if update.type == "message" then
    local message = to_message(update.message)
    if not message then
      return self:_report(errors.new("an update of type message carries no envelope", "PROTOCOL"), "update")
    end
    self:emit("message", message, id)
  elseif update.type == "connection" then
    self:emit("connection")
  else
    self:emit(update.type, id)
  end
end

-- ---- the pool of portals ---------------------------------------------------------------------------------------------

--- Runs commands one after the other on the connection; `done(err)` behind the last.
local function run(self, commands, done)
  self.redis:pipeline(commands, function(err, replies)
    for i = 1, err and 0 or #replies do
      if getmetatable(replies[i]) == errors.class then err = err or replies[i].message end
    end
    done(err, replies)
  end)
end

local function update_of(self, ready)
  return { "PUBLISH", self._pool, encode { id = self.id, ready = ready } }
end

--- Tells the servers that this portal is in the pool.
local function announce(self, news)
  run(self, news, function(err)
    if err then return self:_report(errors.new("cannot announce this portal: " .. err, "REDIS"), "enter") end
    self._entered = true
    self:_log("portal " .. self.id .. " is ready for updates on " .. self._channel)
  end)
end

--- Enters the pool, or stays in it: the lease says that this portal lives. A Redis that came back empty (`anew`) has forgotten it
--- while servers that lived through it have not: they are told that it left and came, so that it takes its turn once.
function Portal:_enter(anew)
  run(self, { { "SET", self._lease, channels[self.redis], "PX", LEASE_MS }, { "SADD", self._pool, self.id } }, function(err, replies)
    if self._closed then return end
    if err then
      if anew then self:_report(errors.new("cannot enter the pool of portals: " .. err, "REDIS"), "enter") end
    elseif replies[2] == 1 or not self._entered then
      local news = { update_of(self, true) }
      if anew and self._entered then insert(news, 1, update_of(self, false)) end
      announce(self, news)
    end
  end)
end

--- Leaves the pool and ends. `done`, if given, is called when Redis has answered or cannot.
---@param done? fun(err?: string)
function Portal:close(done)
  misuse.check_self(self, Portal, "portal:close")
  if self._closed then
    if done then done() end
    return
  end
  self._closed = true
  self:_log("portal " .. self.id .. " is leaving")
  for i, portal in ipairs(portals) do
    if portal == self then remove(portals, i) break end
  end
  core.timer_stop(self._refresh)
  run(self, { { "SREM", self._pool, self.id }, { "DEL", self._lease }, update_of(self, false) }, function(err)
    self.redis:unsubscribe(channels[self.redis], self._presence)
    self.redis:unsubscribe(self._channel, self._listener)
    if self._own then self.redis:close() end
    if done then done(err) end
  end)
end

-- ---- creation --------------------------------------------------------------------------------------------------------

local function uuid()
  local bytes = { byte(core.random(16), 1, 16) }
  bytes[7] = bytes[7] % 16 + 64
  bytes[9] = bytes[9] % 64 + 128
  return (format("%02x%02x%02x%02x-%02x%02x-%02x%02x-%02x%02x-%02x%02x%02x%02x%02x%02x", unpack(bytes)))
end

---@param connection string|table|mesa.Redis URI, options, or a connection of Mesa.redis.connect
---@param options? { namespace?: string, verbose?: boolean, reportAllEvents?: boolean }
---@return mesa.Portal
local function new(connection, options)
  misuse.check_function(connection, "Portal")
  local config = cluster.options("Mesa.Portal", options, allowed)
  local redis, own = cluster.connection("Mesa.Portal", connection)
  local self = setmetatable({
    id = uuid(),
    config = config,
    redis = redis,
    _own = own,
    _channel = cluster.name("portal", config.namespace),
    _pool = cluster.name("available_portals_pool", config.namespace),
  }, Portal)
  self._lease = cluster.name("mesa:portal", config.namespace) .. ":" .. self.id
  function self._listener(payload) self:_on_update(payload) end
  function self._presence() end
  channels[redis] = channels[redis] or "mesa:portals:" .. uuid()
  redis:subscribe(self._channel, self._listener, function()
    if not self._subscribed then redis:subscribe(channels[redis], self._presence) end
    self._subscribed = true
    self:_enter(true)
  end)
  self._refresh = core.timer_start(function()
    if self._subscribed then self:_enter(false) end
  end, LEASE_MS / 3, true)
  portals[#portals + 1] = self
  ownership.own(function() self:close() end)
  return self
end

return { new = new }
