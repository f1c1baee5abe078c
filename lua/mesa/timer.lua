--- Timers and sleeping, on the server's loop. Times are milliseconds.
local core = require "mesa.core"
local ownership = require "mesa.ownership"

local error, select, tostring, type, unpack = error, select, tostring, type, unpack
local format = string.format

local timer = {}

local function start(name, fn, ms, repeats, ...)
  if type(fn) ~= "function" then error(format("Mesa.%s expects a function, got %s", name, type(fn)), 3) end
  if type(ms) ~= "number" or not (ms >= 0 and ms <= 2147483647) then
    error(format("Mesa.%s expects milliseconds from 0 to 2147483647, got %s", name, tostring(ms)), 3)
  end
  local callback = fn
  local n = select("#", ...)
  if n > 0 then
    local args = { ... }
    callback = function() return fn(unpack(args, 1, n)) end
  end
  local handle = core.timer_start(callback, ms, repeats)
  ownership.own(function() core.timer_stop(handle) end, callback)
  return handle
end

--- Calls fn(...) once, after `ms`.
---@param fn function
---@param ms number
---@return userdata timer for Mesa.clearTimeout
function timer.setTimeout(fn, ms, ...)
  return start("setTimeout", fn, ms, false, ...)
end

--- Calls fn(...) every `ms`, the first time after `ms`.
---@param fn function
---@param ms number
---@return userdata timer for Mesa.clearInterval
function timer.setInterval(fn, ms, ...)
  return start("setInterval", fn, ms, true, ...)
end

--- Stops a timer. nil and timers that have ended are accepted.
---@param handle userdata?
function timer.clearTimer(handle)
  if handle ~= nil then core.timer_stop(handle) end
end

timer.clearTimeout = timer.clearTimer
timer.clearInterval = timer.clearTimer

--- Suspends the running handler for `ms`; the server goes on meanwhile. Raises outside of a handler.
---@param ms number
timer.sleep = core.sleep

return timer
