--- Event emitters in the style of Node's EventEmitter, for tables and for client objects.
--
-- Listener lists are replaced, never changed in place, so a listener may add and remove listeners while an event is
-- being emitted: the change counts from the next event on. An error in a listener is contained: it is reported to the
-- object's `_report` method and the other listeners still run.
local errors = require "mesa.errors"
local ownership = require "mesa.ownership"
local words = require "mesa.words"

local error, pairs, select, type, xpcall = error, pairs, select, type, xpcall
local format = string.format

local catch = errors.catch

local emitter = {}
local methods = {}

-- For each wrapper made by `once`, the function it stands for.
local originals = setmetatable({}, { __mode = "k" })

-- `method` was called with "." when the object is missing.
local function check_self(self, method, level)
  local kind = type(self)
  if (kind ~= "table" and kind ~= "userdata") or not self[method] then
    error(format("%s is a method: call it with ':', as in server:%s(...)", method, method), level or 3)
  end
end

local function check(self, method, event, listener)
  check_self(self, method, 4)
  if type(event) ~= "string" then
    error("the event's name must be a string, got " .. type(event), 3)
  end
  if type(listener) ~= "function" then
    error(format("the listener for %q must be a function, got %s", event, type(listener)), 3)
  end
  local emits = self._emits
  local meant = emits and not emits.events[event] and words.closest(event, emits.events)
  if meant then
    error(format("%s:%s: no event is called %q, did you mean %q? (Give an event of your own a name that is less alike.)",
      emits.name, method, event, meant), 3)
  end
end

--- Removes the listener that was registered first among those that are this function.
local function remove(self, event, listener)
  local old, new = self._handlers[event] or {}, {}
  local found = false
  for i = 1, #old do
    if found or old[i] ~= listener then
      new[#new + 1] = old[i]
    else
      found = true
    end
  end
  self._handlers[event] = new[1] and new or nil
end

local function add(self, event, listener)
  local handlers = self._handlers
  if not handlers then
    handlers = {}
    self._handlers = handlers
  end
  local old, new = handlers[event] or {}, {}
  for i = 1, #old do new[i] = old[i] end
  new[#new + 1] = listener
  handlers[event] = new
  if ownership.owning() then
    ownership.own(function() remove(self, event, listener) end, listener)
  end
  return self
end

--- Calls `listener` at every `event`, after those registered before.
---@param event string
---@param listener function
---@return table self
function methods:on(event, listener)
  check(self, "on", event, listener)
  return add(self, event, listener)
end

--- Calls `listener` at the next `event` only.
---@param event string
---@param listener function
---@return table self
function methods:once(event, listener)
  check(self, "once", event, listener)
  local wrapper
  local called = false
  wrapper = function(...)
    if called then return end -- by an emission that overtook this one, which had the list already
    called = true
    self:off(event, wrapper)
    return listener(...)
  end
  originals[wrapper] = listener
  return add(self, event, wrapper)
end

--- Removes a listener (the one registered last, when it was registered several times); without a listener, all of the event.
---@param event string
---@param listener? function
---@return table self
function methods:off(event, listener)
  check_self(self, "off")
  if type(event) ~= "string" then error("the event's name must be a string, got " .. type(event), 2) end
  local handlers = self._handlers
  local old = handlers and handlers[event]
  if not old then return self end
  local at
  for i = #old, 1, -1 do
    if old[i] == listener or originals[old[i]] == listener then
      at = i
      break
    end
  end
  if listener ~= nil and not at then return self end
  local new = {}
  if listener ~= nil then
    for i = 1, #old do
      if i ~= at then new[#new + 1] = old[i] end
    end
  end
  handlers[event] = new[1] and new or nil
  return self
end

--- Calls the listeners of `event` now, in the order of their registration. An error in one is contained.
---@param event string
---@return boolean had_listeners
function methods:emit(event, ...)
  local handlers = self._handlers
  local list = handlers and handlers[event]
  if not list then
    check_self(self, "emit")
    return false
  end
  for i = 1, #list do
    local ok, err = xpcall(list[i], catch, ...)
    if not ok then self:_report(err, event) end
  end
  return true
end

--- Copies the emitter's methods into a class.
---@param class table
---@param name? string what people call its objects
---@param ...? string the events it emits: a listener for one that is nearly called so is a mistake
function emitter.mixin(class, name, ...)
  for key, method in pairs(methods) do class[key] = method end
  if not name then return end
  class._emits = { name = name, events = {} }
  for i = 1, select("#", ...) do class._emits.events[select(i, ...)] = true end
end

return emitter
