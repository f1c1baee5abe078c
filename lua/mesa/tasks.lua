--- Functions of scripts that no server called: each runs in a coroutine, so that it may wait, and an error in it is told.
local core = require "mesa.core"
local errors = require "mesa.errors"
local log = require "mesa.log"
local servers = require "mesa.servers"

local ipairs, xpcall = ipairs, xpcall
local format = string.format

local tasks = {}

--- An error in what a script has given to `what` ("timer"): logged, and emitted as `error` by every server.
---@param what string
---@param err mesa.Error
function tasks.report(what, err)
  log.failure("error", err, format("error in a %s: %s", what, err.traceback or err.message), "script")
  for _, server in ipairs(servers) do server:_emit_error(err, what) end
end

--- Calls fn(...); reports an error in it.
---@param what string
---@param fn function
function tasks.call(what, fn, ...)
  local ok, err = xpcall(fn, errors.catch, ...)
  if not ok then tasks.report(what, errors.wrap(err, "SCRIPT")) end
end

--- As `call`, in a coroutine of its own; goes on when fn waits or is over.
---@param what string
---@param fn function
function tasks.run(what, fn, ...)
  core.run_task(tasks.call, what, fn, ...)
end

return tasks
