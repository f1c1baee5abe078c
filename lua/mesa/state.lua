--- Mesa.state(name): tables that survive reloads.
local error, type = error, type

local states = {}

--- A table that lasts as long as the process, the same one at every call with this name. For what a module must not lose when it
--- is loaded again.
---@param name string
---@return table
return function(name)
  if type(name) ~= "string" or name == "" then
    error("Mesa.state expects a name, such as that of the module, got " .. (name == "" and "an empty one" or type(name)), 2)
  end
  local state = states[name]
  if not state then
    state = {}
    states[name] = state
  end
  return state
end
