--- The process's log (standard error, one line a record).
local core = require "mesa.core"
local errors = require "mesa.errors"
local misuse = require "mesa.misuse"

local select, tostring = select, tostring
local concat = table.concat

local log = {}

local function text_of(...)
  local parts = {}
  for i = 1, select("#", ...) do parts[i] = tostring((select(i, ...))) end
  return concat(parts, " ")
end

--- Each takes what is to be logged and, optionally, the area of the record ("script" by default).
for level, name in ipairs { "debug", "info", "warn", "error" } do
  log[name] = function(text, area)
    if core.log_enabled(level) then core.log(level, area or "script", tostring(text)) end
  end
end

local levels = { warn = 3, error = 4 }

--- Logs an error object as `text`. A peer can cause some errors as often as it likes: of those with the same code, and of
--- scripts' own that came from the same line, only the first of each second are written, the others counted (src/base/log.h).
---@param name "warn"|"error"
---@param err mesa.Error
---@param text string
---@param area string
function log.failure(name, err, text, area)
  local level, place = levels[name], errors.place(err)
  if core.log_enabled(level) then core.log_limited(level, area, place and err.code .. " at " .. place or err.code, text) end
end

--- The log of scripts: Mesa.log.info("user", id, "joined"); arguments are joined by spaces as print does.
log.public = {}
misuse.register(log.public, "Mesa.log")
for level, name in ipairs { "debug", "info", "warn", "error" } do
  log.public[name] = function(...)
    misuse.check_function((...), name)
    if core.log_enabled(level) then core.log(level, "script", text_of(...)) end
  end
end

return log
