--- A handler's coroutine belongs to the core, which suspends and resumes it. Loading this module takes over the functions of
--- `coroutine` that would do that.
local core = require "mesa.core"

local error, type = error, type
local running, resume, status, yield = coroutine.running, coroutine.resume, coroutine.status, coroutine.yield
local in_handler, is_handler, keep_coroutine = core.in_handler, core.is_handler, core.keep_coroutine

--- A script that knows a handler's coroutine (as a key of a table, for instance) must not meet it again in another handler.
local function kept(...)
  local co = ...
  if type(co) == "thread" then keep_coroutine(co) end
  return ...
end

-- luacheck: push ignore 122
coroutine.yield = function(...)
  if in_handler() then
    error("coroutine.yield outside of a coroutine of your own: a handler waits with Mesa.await(function(resolve) ... end), "
      .. "which goes on when resolve is called, or with Mesa.sleep", 2)
  end
  return yield(...)
end

coroutine.running = function() return kept(running()) end

coroutine.resume = function(co, ...)
  if is_handler(co) and status(co) == "suspended" then
    error("coroutine.resume of a handler's coroutine: it goes on by itself when what it waits for has come; "
      .. "to wake it yourself, let it wait with Mesa.await(function(resolve) ... end) and call resolve", 2)
  end
  return resume(co, ...)
end
-- luacheck: pop
