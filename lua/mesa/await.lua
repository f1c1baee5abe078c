--- Waiting for callbacks: straight-line code on top of functions that call back.
local core = require "mesa.core"
local misuse = require "mesa.misuse"

local error, tostring, type = error, tostring, type

--- Calls `fn(resolve)` and suspends the running handler until `resolve(...)` is called, now or later, from anywhere;
--- returns its arguments. The first call counts: `resolve` returns true for it and false after. An error in `fn` raises here.
--- nil, "timeout" after `timeout` ms; nil, "abandoned" when `resolve` was garbage collected uncalled. Raises outside of a handler.
---@param fn fun(resolve: fun(...): boolean)
---@param timeout? number
---@return any ...
return function(fn, timeout)
  if type(fn) ~= "function" then
    misuse.check_function(fn, "await")
    error("Mesa.await expects a function, got " .. type(fn), 2)
  end
  if timeout ~= nil and (type(timeout) ~= "number" or not (timeout >= 0 and timeout <= 2147483647)) then
    error("Mesa.await expects a timeout in milliseconds from 0 to 2147483647, got " .. tostring(timeout), 2)
  end
  local token, handle = core.wait_new()
  fn(function(...) return core.wait_resolve(token, ...) end)
  return core.wait_for(handle, timeout) -- a tail call: nothing of this function keeps the token
end
