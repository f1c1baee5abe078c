--- Error objects: what the `error` events carry.

local getmetatable, pcall, setmetatable, tostring, type = getmetatable, pcall, setmetatable, tostring, type
local traceback_of, gsub = debug.traceback, string.gsub

local errors = {}

---@class mesa.Error
---@field message string what happened, in one line
---@field code string a stable upper-case word: "SCRIPT" for errors in handlers, else the cause ("JSON", "PROTOCOL", "AUTH_TIMEOUT" …)
---@field traceback? string where, for errors in handlers
local Error = {}
Error.__index = Error
Error.__name = "mesa.error"

function Error:__tostring()
  return self.message
end

--- Makes an error object.
---@param message string
---@param code string
---@param traceback? string
---@return mesa.Error
function errors.new(message, code, traceback)
  return setmetatable({ message = message, code = code, traceback = traceback }, Error)
end

local function describe(value)
  if type(value) == "string" then return value end
  local mt = getmetatable(value)
  if type(mt) == "table" and mt.__tostring then return tostring(value) end
  if type(value) == "table" and type(value.message) == "string" then return value.message end
  return "(error object is a " .. type(value) .. " value)"
end

--- An error object for whatever a script gave as an error; what is one already stays as it is.
---@param value any
---@param code string
---@return mesa.Error
function errors.wrap(value, code)
  if getmetatable(value) == Error then return value end
  local ok, text = pcall(describe, value)
  return errors.new(ok and text or "(error object whose __tostring fails)", code)
end

--- A message handler for xpcall: turns whatever was thrown into an error object with a traceback, which ends where the
--- handler was called: what is below is mesa's own.
---@param value any
---@return mesa.Error
function errors.catch(value)
  if getmetatable(value) == Error then return value end
  local err = errors.wrap(value, "SCRIPT")
  local traceback = gsub(traceback_of(err.message, 2), "\n%s*%[C%]: in function 'xpcall'.*$", "")
  err.traceback = gsub(traceback, "\n%s*%[C%]: in function 'call_now'.*$", "")
  return err
end

--- The metatable of error objects.
errors.class = Error

return errors
