--- The process's log (standard error, one line a record).
local core = require "mesa.core"

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

--- The log of scripts: Mesa.log.info("user", id, "joined"); arguments are joined by spaces as print does.
log.public = {}
for level, name in ipairs { "debug", "info", "warn", "error" } do
  log.public[name] = function(...)
    if core.log_enabled(level) then core.log(level, "script", text_of(...)) end
  end
end

return log
