---@meta _

--- `Mesa.log`: the process's log on standard error, one line a record. Arguments are joined by spaces, as print does.
---@class mesa.Log
local log = {}

---@param ... any
function log.debug(...) end

---@param ... any
function log.info(...) end

---@param ... any
function log.warn(...) end

---@param ... any
function log.error(...) end
