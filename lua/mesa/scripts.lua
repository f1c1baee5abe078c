--- Handler scripts (auth.lua, on_message.lua …) and their hot reload (DESIGN 6).
--
-- A set belongs to a server; set.auth, set.message, set.connection and set.disconnect are the functions that serve now.
-- A reload compiles and runs the new code first and swaps it in only if all of it succeeds.
local core = require "mesa.core"
local errors = require "mesa.errors"
local log = require "mesa.log"
local modules = require "mesa.modules"

local error, ipairs, pairs, pcall, setmetatable, tostring, type = error, ipairs, pairs, pcall, setmetatable, tostring, type
local open, format, sub, concat = io.open, string.format, string.sub, table.concat

local scripts = {}
local sets = {}

local file_names = {
  auth = "auth.lua",
  message = "on_message.lua",
  connection = "on_connection.lua",
  disconnect = "on_disconnect.lua",
}
local slots = { "auth", "connection", "message", "disconnect" }

local Set = {}
Set.__index = Set

local function absolute(path)
  if sub(path, 1, 1) ~= "/" then path = core.app_dir() .. "/" .. path end
  return core.realpath(path) or path
end

local function exists(path)
  local file = open(path, "rb")
  if file then file:close() end
  return file ~= nil
end

--- Runs a script's file and returns its function and unit; raises with file and line.
local function load_script(path)
  core.watch(path) -- before it is read, so that no change in between is missed
  local fn, unit = modules.load_script(path)
  if type(fn) ~= "function" then
    modules.stop_all(unit)
    error(errors.new(format("%s must return a function, it returned %s", modules.display(path), type(fn)), "LOAD"), 0)
  end
  return fn, unit
end

--- Where each slot's file is; in a folder a file may be missing now and come later.
local function paths_of(config)
  local paths, optional = {}, false
  if type(config) == "string" then
    optional = true
    local dir = absolute(config)
    for slot, name in pairs(file_names) do paths[slot] = dir .. "/" .. name end
  elseif config then
    for slot, path in pairs(config) do paths[slot] = absolute(path) end
  end
  return paths, optional
end

--- Loads the scripts of a server's configuration. Raises when one cannot be loaded.
---@param server mesa.Server
---@param config? string|table<string, string>
function scripts.new(server, config)
  local set = setmetatable({ _server = server, _units = {}, _version = 1 }, Set)
  set._paths, set._optional = paths_of(config)
  for _, slot in ipairs(slots) do
    local path = set._paths[slot]
    if path then
      if set._optional and not exists(path) then
        core.watch(path)
      else
        local ok, fn, unit = pcall(load_script, path)
        if not ok then error(fn.traceback or tostring(fn), 0) end
        set[slot], set._units[slot] = fn, unit
      end
    end
  end
  sets[#sets + 1] = set
  return set
end

--- A timer was started by a script; see modules.own_timer.
scripts.own_timer = modules.own_timer

local function set_affected(set, changed)
  local affected = {}
  for _, slot in ipairs(slots) do
    local path, unit = set._paths[slot], set._units[slot]
    if unit and (not changed or modules.affected(unit, changed)) then
      affected[#affected + 1] = slot
    elseif path and not unit and (not changed or changed[path]) and exists(path) then
      affected[#affected + 1] = slot
    end
  end
  return affected
end

--- Loads the given slots of all sets; nothing is swapped. nil and the error when one fails.
local function load_all(work)
  local loaded = {}
  for _, item in ipairs(work) do
    for _, slot in ipairs(item.slots) do
      local ok, fn, unit = pcall(load_script, item.set._paths[slot])
      if not ok then
        for _, entry in ipairs(loaded) do modules.stop_all(entry.unit) end
        return nil, fn
      end
      loaded[#loaded + 1] = { set = item.set, slot = slot, fn = fn, unit = unit }
    end
  end
  return loaded
end

local function swap(loaded)
  for _, entry in ipairs(loaded) do
    local set, slot = entry.set, entry.slot
    if set._units[slot] then modules.stop_all(set._units[slot]) end
    set[slot], set._units[slot] = entry.fn, entry.unit
    if slot == "auth" and set._server._core then set._server:_enable_auth() end
  end
end

local function report_failure(work, err)
  for _, item in ipairs(work) do
    local text = err.traceback or tostring(err)
    log.error(format("reload failed, version %d goes on serving: %s", item.set._version, text), "reload")
    core.server_count_event(item.set._server, "reload_failure")
    item.set._server:_emit_error(errors.new(tostring(err), "RELOAD", err.traceback), "reload")
  end
end

local function report_success(work, duration)
  local report = {}
  for n, item in ipairs(work) do
    local set, files = item.set, {}
    for i, slot in ipairs(item.slots) do files[i] = modules.display(set._paths[slot]) end
    set._version = set._version + 1
    report[n] = format("reloaded %s (version %d, %.1f ms)", concat(files, ", "), set._version, duration)
    log.info(report[n], "reload")
    core.server_count_event(set._server, "reload")
    set._server:emit("reload", { files = files, version = set._version, duration = duration })
  end
  return concat(report, "\n")
end

--- Reloads the scripts that the changed files concern (all when `changed` is nil).
---@param changed? table<string, boolean> absolute paths
---@return boolean? reloaded false: nothing to do; nil: it failed and the old code serves
---@return string report lines for people
function scripts.reload(changed)
  local work = {}
  for _, set in ipairs(sets) do
    local affected = set_affected(set, changed)
    if #affected > 0 then work[#work + 1] = { set = set, slots = affected } end
  end
  if #work == 0 then return false, "nothing to reload" end
  local started = core.now()
  local staged = modules.stage(changed)
  local loaded, err = load_all(work)
  if not loaded then
    modules.restore(staged)
    report_failure(work, err)
    return nil, "reload failed, the old code goes on serving: " .. tostring(err)
  end
  modules.commit(staged)
  swap(loaded)
  return true, report_success(work, core.now() - started)
end

return scripts
