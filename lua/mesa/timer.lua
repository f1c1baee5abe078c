--- Timers and sleeping, on the server's loop. Times are milliseconds.
local core = require "mesa.core"
local misuse = require "mesa.misuse"
local ownership = require "mesa.ownership"

local error, select, tostring, type, unpack = error, select, tostring, type, unpack
local format = string.format

local sleep, timer_stop = core.sleep, core.timer_stop

local timer = {}

-- Called in tail calls only: level 2 is the script's line.
local function start(name, fn, ms, repeats, ...)
  if type(fn) ~= "function" then
    misuse.check_function(fn, name)
    if type(ms) == "function" then
      error(format("Mesa.%s expects the function first: Mesa.%s(fn, %s)", name, name, tostring(fn)), 2)
    end
    error(format("Mesa.%s expects a function, got %s", name, type(fn)), 2)
  end
  if type(ms) ~= "number" or not (ms >= 0 and ms <= 2147483647) then
    error(format("Mesa.%s expects milliseconds from 0 to 2147483647 after the function, got %s", name, tostring(ms)), 2)
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
  if handle == nil then return end
  if type(handle) ~= "userdata" then
    misuse.check_function(handle, "clearTimeout")
    error(format("Mesa.clearTimeout expects what Mesa.setTimeout has returned, got %s", type(handle)), 2)
  end
  return timer_stop(handle)
end

timer.clearTimeout = timer.clearTimer
timer.clearInterval = timer.clearTimer

--- Suspends the running handler for `ms`; the server goes on meanwhile. Raises outside of a handler.
---@param ms number
function timer.sleep(ms)
  if type(ms) ~= "number" then
    misuse.check_function(ms, "sleep")
    error(format("Mesa.sleep expects milliseconds, got %s", type(ms)), 2)
  end
  return sleep(ms)
end

return timer
