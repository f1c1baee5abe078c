--- luv on a loop that is not its own: what a script must not do to it, and what it has left open.
local luv = {}

local kinds = {
  "async", "check", "fs_event", "fs_poll", "idle", "pipe", "poll", "prepare", "process", "signal", "tcp", "timer", "tty", "udp",
}

-- luv keeps each open handle in the registry.
local function handles()
  local registry = debug.getregistry()
  local known, list = {}, {}
  for _, kind in ipairs(kinds) do
    local metatable = registry["uv_" .. kind]
    if metatable then known[metatable] = true end
  end
  for _, value in pairs(registry) do
    if type(value) == "userdata" and known[debug.getmetatable(value)] then list[#list + 1] = value end
  end
  return list
end

--- Takes from luv what is not for scripts here; what it calls `walk` would take the server's own handles for luv's.
---@param uv table
---@return table uv
function luv.adapt(uv)
  for _, name in ipairs { "run", "stop", "loop_close" } do
    uv[name] = function() error(("uv.%s: the loop is the server's, and runs by itself"):format(name), 2) end
  end
  uv.walk = function(fn)
    if type(fn) ~= "function" then error("uv.walk expects a function, got " .. type(fn), 2) end
    for _, handle in ipairs(handles()) do fn(handle) end
  end
  return uv
end

--- Closes the handles that scripts have left open.
---@return boolean used whether a script has loaded luv
function luv.close()
  local uv = package.loaded.luv
  if not uv then return false end
  for _, handle in ipairs(handles()) do
    if not uv.is_closing(handle) then uv.close(handle) end
  end
  return true
end

return luv
