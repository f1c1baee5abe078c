--- What is said of calls with "." instead of ":", and the other way round. Raised at the line of the script.

local error, getmetatable = error, getmetatable
local format = string.format

local misuse = {}

local modules = {} -- tables of functions -> the name of each

--- Raises at the caller of the caller unless `self` is an object of that kind.
---@param self any
---@param metatable any what getmetatable gives for such objects
---@param method string "client:send"
function misuse.check_self(self, metatable, method)
  if getmetatable(self) ~= metatable then
    error(format("%s is a method: call it with ':', as in %s(...)", method, method), 3)
  end
end

--- `functions` are called with ".".
---@param functions table
---@param name string "Mesa"
function misuse.register(functions, name)
  modules[functions] = name
end

--- Raises at the caller of the caller when the first argument is the table that has the function.
---@param first any
---@param name string "setTimeout"
function misuse.check_function(first, name)
  local module = first ~= nil and modules[first]
  if module then error(format("%s.%s is no method: call it with '.', as in %s.%s(...)", module, name, module, name), 3) end
end

return misuse
