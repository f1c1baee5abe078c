-- The test process's own event loop: waits for conditions, never for time alone.
local ffi = require "ffi"
local uv = require "luv"

local loop = {}

-- Writing to a connection that the server has ended is an everyday event here. Children get the default back from libuv.
ffi.cdef "void (*signal(int number, void (*handler)(int)))(int);"
local SIGPIPE, SIG_IGN = 13, 1
ffi.C.signal(SIGPIPE, ffi.cast("void (*)(int)", SIG_IGN))

local scale = tonumber(os.getenv("MESA_TEST_TIMEOUT_SCALE") or "1") or 1
local PATIENCE = 4 -- waits for an event only guard against hanging: on a busy machine it may come late
local TICK_MS = 20 -- how often a predicate is asked when nothing happens: some ask the server
local pending_error
local idle_timers = {} -- a predicate may wait in its turn, so several can be in use

-- Every wait is multiplied by MESA_TEST_TIMEOUT_SCALE, so that slow machines need no edits.
function loop.scaled(ms)
  return math.max(1, math.floor(ms * scale))
end

function loop.now_ms()
  return uv.hrtime() / 1e6
end

-- luv ends the process when a callback raises; this keeps the error for whoever waits.
function loop.guard(fn)
  return function(...)
    local ok, err = xpcall(fn, function(e)
      return type(e) == "string" and debug.traceback(e, 2) or e
    end, ...)
    if not ok then
      pending_error = pending_error or err
    end
  end
end

local function run_until(predicate, ms)
  local deadline, expired = loop.now_ms() + ms, false
  local timer = table.remove(idle_timers) or uv.new_timer()
  timer:start(math.min(TICK_MS, ms), TICK_MS, function()
    expired = loop.now_ms() >= deadline
  end)
  local ok, result = pcall(function()
    repeat
      local held = predicate()
      if held then
        return true
      elseif not expired then
        uv.run("once")
      end
      if pending_error then
        local err = pending_error
        pending_error = nil
        error(err, 0)
      end
    until expired
    return predicate() and true or false
  end)
  timer:stop()
  idle_timers[#idle_timers + 1] = timer
  if not ok then
    error(result, 0)
  end
  return result
end

-- Runs the loop until `predicate()` holds: true; or false after `timeout_ms`, and some patience beyond it.
function loop.wait(predicate, timeout_ms)
  return run_until(predicate, loop.scaled(timeout_ms) * PATIENCE)
end

-- Lets what has already arrived be read, without waiting for more.
function loop.poll()
  uv.run("nowait")
end

-- For the few checks that something does NOT happen.
function loop.sleep(ms)
  run_until(function()
    return false
  end, loop.scaled(ms))
end

-- luv 1.44 crashes when the Lua state ends before closed handles were let go of.
function loop.drain()
  for _, timer in ipairs(idle_timers) do
    timer:close()
  end
  idle_timers = {}
  for _ = 1, 3 do
    uv.run("nowait")
  end
end

return loop
