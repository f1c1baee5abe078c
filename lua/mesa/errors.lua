--- Error objects: what the `error` events carry.

local getmetatable, pcall, setmetatable, tostring, type = getmetatable, pcall, setmetatable, tostring, type
local traceback_of, getinfo, gmatch, match = debug.traceback, debug.getinfo, string.gmatch, string.match
local sub, concat = string.sub, table.concat

local caught = require("mesa.core").memory_caught

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

-- For each error that was caught, the line it was raised at. Not from its text, in which anything may stand.
local places = setmetatable({}, { __mode = "k" })

--- The innermost line of Lua below the function that called this one.
local function find_place()
  local level = 3
  local info = getinfo(level, "Sl")
  while info and info.what == "C" do
    level = level + 1
    info = getinfo(level, "Sl")
  end
  return info and info.short_src .. ":" .. info.currentline
end

local own_dir = match(getinfo(1, "S").source, "^@(.*/)") -- of mesa's own modules

-- Whether a line of a traceback is a function of mesa's own. Lua shows the end of long paths only.
local function is_own(line)
  local path = match(line, "^\t(.-):%d+: in ")
  local shown = path and match(path, "^%.%.%.(.*)$") or path
  local file = shown and match(shown, "/mesa/([%w_]+%.lua)$")
  return file ~= nil and sub(own_dir .. file, -#shown) == shown
end

-- Without mesa's own functions, those of C that they called, and what is below the xpcall that runs a handler.
local function without_own(traceback)
  local kept = {}
  traceback = match(traceback, "^(.-)\n\t%[C%]: in function 'call_now'") or traceback
  for line in gmatch(match(traceback, "^(.*)\n\t%[C%]: in function 'xpcall'") or traceback, "[^\n]+") do
    if not is_own(line) then
      kept[#kept + 1] = line
    elseif match(kept[#kept] or "", "^\t%[C%]: in ") then
      kept[#kept] = nil
    end
  end
  return concat(kept, "\n")
end

--- A message handler for xpcall: turns whatever was thrown into an error object with a traceback, which has the functions of
--- scripts alone.
---@param value any
---@return mesa.Error
function errors.catch(value)
  caught()
  if getmetatable(value) == Error then return value end
  local err = errors.wrap(value, "SCRIPT")
  err.traceback = without_own(err.message .. traceback_of("", 2)) -- debug.traceback would end its first argument at a NUL
  places[err] = find_place()
  return err
end

--- The script's line that an error object of errors.catch came from: "on_message.lua:5".
---@param err mesa.Error
---@return string?
function errors.place(err)
  return places[err]
end

--- The metatable of error objects.
errors.class = Error

return errors
