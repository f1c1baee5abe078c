--- luv on a loop that is not its own: what a script must not do to it, and what it has left open.
local errors = require "mesa.errors"
local ownership = require "mesa.ownership"
local tasks = require "mesa.tasks"

local error, ipairs, pairs, type = error, ipairs, pairs, type
local debug_getmetatable, getregistry = debug.getmetatable, debug.getregistry
local dump, format, gsub, match = string.dump, string.format, string.gsub, string.match

local luv = {}
local close, is_closing -- luv's own, whatever a script does to its table; nil: no script has loaded it

local kinds = {
  "async", "check", "fs_event", "fs_poll", "idle", "pipe", "poll", "prepare", "process", "signal", "tcp", "timer", "tty", "udp",
}

-- luv keeps each open handle in the registry.
local function handles()
  local registry = getregistry()
  local known, list = {}, {}
  for _, kind in ipairs(kinds) do
    local metatable = registry["uv_" .. kind]
    if metatable then known[metatable] = true end
  end
  for _, value in pairs(registry) do
    if type(value) == "userdata" and known[debug_getmetatable(value)] then list[#list + 1] = value end
  end
  return list
end

--- A handle that is made while a file loads belongs to that load.
local function own_handles(uv, name)
  local make = uv[name]
  if not make then return end
  local function owned(handle, ...)
    if handle and ownership.owning() then
      ownership.own(function()
        if not is_closing(handle) then close(handle) end
      end)
    end
    return handle, ...
  end
  uv[name] = function(...) return owned(make(...)) end
end

-- What runs on the thread pool, in a Lua state of its own. luv prints an error there on stderr and calls back without results;
-- here the error comes back as a result.
local WORK = [[
local work = loadstring(%s)
local function results(ok, ...)
  if ok then return true, ... end
  return false, (...)
end
return results(xpcall(function(...) return work(...) end, function(err)
  return debug.traceback(tostring(err), 2)
end, ...))]]

-- The traceback without what WORK has put below the function.
local function own_part(text)
  return (gsub(text, "\n%s*%[string \"local work.*$", ""))
end

--- uv.new_work whose errors are told like those of handlers. `after` is called without arguments then, as luv does it.
local function new_work(original)
  return function(work, after)
    local code = type(work) == "function" and dump(work) or work
    if type(code) ~= "string" then error("uv.new_work expects a function, got " .. type(work), 2) end
    if type(after) ~= "function" then error("uv.new_work expects a function to call with the results, got " .. type(after), 2) end
    return original(format(WORK, format("%q", code)), function(ok, ...)
      if ok then return after(...) end
      local text = own_part(...)
      tasks.report("function of uv.new_work", errors.new(match(text, "^[^\n]*"), "SCRIPT", text))
      return after()
    end)
  end
end

--- Takes from luv what is not for scripts here; what it calls `walk` would take the server's own handles for luv's.
---@param uv table
---@return table uv
function luv.adapt(uv)
  close, is_closing = uv.close, uv.is_closing
  for _, name in ipairs { "run", "stop", "loop_close" } do
    uv[name] = function() error(format("uv.%s: the loop is the server's, and runs by itself", name), 2) end
  end
  for _, name in ipairs(kinds) do own_handles(uv, "new_" .. name) end
  own_handles(uv, "spawn")
  uv.walk = function(fn)
    if type(fn) ~= "function" then error("uv.walk expects a function, got " .. type(fn), 2) end
    for _, handle in ipairs(handles()) do fn(handle) end
  end
  uv.new_work = new_work(uv.new_work)
  return uv
end

--- Closes the handles that scripts have left open.
---@return boolean used whether a script has loaded luv
function luv.close()
  if not close then return false end
  for _, handle in ipairs(handles()) do
    if not is_closing(handle) then close(handle) end
  end
  return true
end

return luv
