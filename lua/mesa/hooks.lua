--- A hook of debug.sethook is the handler's that sets it: it ends when that returns or waits (src/script/shutdown.c). LuaJIT
--- has one hook for all coroutines, so that it would run in everybody's handlers.
local core = require "mesa.core"

local sethook, hooked = debug.sethook, core.hooked

debug.sethook = function(...) -- luacheck: ignore 122
  hooked()
  return sethook(...)
end
