--- The application's modules: who requires whom, so that a change reaches the scripts that depend on it.
--
-- A unit is one loaded file: a module, a handler script or the main script. While a unit loads, it is on top of the
-- stack; what it requires are its dependencies, and the timers, subscriptions and portals it starts are its own.
local core = require "mesa.core"
local errors = require "mesa.errors"

local error, ipairs, loadstring, pairs, pcall, tostring, type = error, ipairs, loadstring, pairs, pcall, tostring, type
local xpcall = xpcall
local open, gsub, sub, insert = io.open, string.gsub, string.sub, table.insert
local globals, loaded_modules, loaders, searchpath = _G, package.loaded, package.loaders, package.searchpath

local modules = {}

---@class mesa.Unit
---@field path string absolute path of the file
---@field deps table<string, boolean> paths of the application's modules it required
---@field timers userdata[] timers its load has started
---@field others fun()[] what ends everything else that its load has started
---@field name? string the name a module is required by

local app_dir = core.app_dir()
local search_path = app_dir .. "/?.lua;" .. app_dir .. "/?/init.lua"
local stack = {}
local main -- the unit of the main script
local runtime = { path = "", deps = {}, timers = {}, others = {} } -- what handlers required while they ran
local units = {} -- by path: the current unit of each module
local original_require = require

local function new_unit(path, name)
  return { path = path, deps = {}, timers = {}, others = {}, name = name }
end

--- The file's name as error messages show it: relative to the application's folder.
---@param path string
---@return string
function modules.display(path)
  if sub(path, 1, #app_dir + 1) == app_dir .. "/" then return sub(path, #app_dir + 2) end
  return path
end

--- Compiles a file. nil and the message, with file and line, when it cannot be.
---@param path string
---@return function? chunk, string? err
function modules.compile(path)
  local file, err = open(path, "rb")
  if not file then return nil, "cannot read " .. modules.display(path) .. ": " .. gsub(tostring(err), "^.*: ", "") end
  local text = file:read("*a")
  file:close()
  if not text then return nil, "cannot read " .. modules.display(path) end
  return loadstring((gsub(gsub(text, "^\239\187\191", ""), "^#[^\n]*", "")), "@" .. modules.display(path))
end

--- Runs fn(...) as the load of `unit` and returns its first result; an error passes through with its traceback.
local function run_as(unit, fn, ...)
  stack[#stack + 1] = unit
  local depth = #stack
  local ok, result = xpcall(fn, errors.catch, ...)
  for i = #stack, depth, -1 do stack[i] = nil end
  if not ok then error(result, 0) end
  return result
end

local function find(name)
  if name == "mesa" or sub(name, 1, 5) == "mesa." then return nil end
  return (searchpath(name, search_path))
end

local function load_module(name, path)
  return function(...)
    local unit = new_unit(path, name)
    local chunk, err = modules.compile(path)
    if not chunk then error(errors.new(err, "LOAD"), 0) end
    local result = run_as(unit, chunk, ...)
    units[path] = unit
    return result
  end
end

--- The searcher for package.loaders: modules below the application's folder.
local function searcher(name)
  local path = find(name)
  if not path then return "\n\tno module of the application in " .. app_dir end
  return load_module(name, core.realpath(path) or path)
end

local function tracking_require(name)
  if type(name) == "string" then
    local path = find(name)
    path = path and (core.realpath(path) or path)
    if path then
      local unit = stack[#stack] or runtime
      if not unit.deps[path] then
        unit.deps[path] = true
        core.watch(path)
      end
    end
  end
  return original_require(name)
end

--- Takes over `require` for the application. Called once, by mesa.program.
function modules.install()
  insert(loaders, 2, searcher)
  globals.require = tracking_require
end

--- Loads the main script: `run` compiles and runs it. An error in it ends the program, so it passes as it is.
---@param path string
---@param run function
function modules.load_main(path, run)
  main = new_unit(path)
  stack[1] = main
  run()
  stack[1] = nil
end

--- Loads a handler script. Raises what the compilation or the chunk raises.
---@param path string
---@return any result, mesa.Unit unit
function modules.load_script(path)
  local unit = new_unit(path)
  local ok, result = pcall(run_as, unit, function()
    local chunk, err = modules.compile(path)
    if not chunk then error(errors.new(err, "LOAD"), 0) end
    return chunk()
  end)
  if not ok then
    modules.stop_all(unit)
    error(result, 0)
  end
  return result, unit
end

--- A timer was started: it belongs to the unit that is loading, if any but the main script is.
---@param timer userdata
function modules.own_timer(timer)
  local unit = stack[#stack]
  if unit and unit ~= main then unit.timers[#unit.timers + 1] = timer end
end

--- Something else that goes on was started, which `stop` ends: it belongs to that unit, too.
---@param stop fun()
function modules.own(stop)
  local unit = stack[#stack]
  if unit and unit ~= main then unit.others[#unit.others + 1] = stop end
end

--- Ends what the load of `unit` has started.
---@param unit mesa.Unit
function modules.stop_all(unit)
  for _, timer in ipairs(unit.timers) do core.timer_stop(timer) end
  for _, stop in ipairs(unit.others) do stop() end
  unit.timers, unit.others = {}, {}
end

--- All that `unit` depends on, directly or through modules, as a set of paths.
local function closure(unit, into)
  into = into or {}
  for path in pairs(unit.deps) do
    if not into[path] then
      into[path] = true
      if units[path] then closure(units[path], into) end
    end
  end
  return into
end

--- Whether `unit` has to be loaded again when the files in `changed` have changed.
---@param unit mesa.Unit
---@param changed table<string, boolean>
---@return boolean
function modules.affected(unit, changed)
  if changed[unit.path] then return true end
  for path in pairs(closure(unit)) do
    if changed[path] then return true end
  end
  for path in pairs(closure(runtime)) do
    if changed[path] then return true end
  end
  return false
end

--- Whether the main script itself, or a module of its own, is among the changed files.
function modules.main_affected(changed)
  if not main then return false end
  if changed[main.path] then return true end
  for path in pairs(closure(main)) do
    if changed[path] then return true end
  end
  return false
end

--- Forgets the modules affected by the changed files (all of them when `changed` is nil) so that they load anew.
--- Returns what modules.restore and modules.commit need.
---@param changed? table<string, boolean>
function modules.stage(changed)
  local staged = {}
  for path, unit in pairs(units) do
    if not changed or modules.affected(unit, changed) then
      staged[path] = { unit = unit, value = loaded_modules[unit.name] }
    end
  end
  for path, entry in pairs(staged) do
    loaded_modules[entry.unit.name] = nil
    units[path] = nil
  end
  return staged
end

--- The load failed: the old modules are back.
function modules.restore(staged)
  for path, entry in pairs(staged) do
    if units[path] then modules.stop_all(units[path]) end
    loaded_modules[entry.unit.name] = entry.value
    units[path] = entry.unit
  end
end

--- The load succeeded: the timers of the replaced modules end, and those that were not required again wait to be loaded
--- anew. A module that the main script holds stays.
function modules.commit(staged)
  local held = main and closure(main) or {}
  for path, entry in pairs(staged) do
    if not held[path] then
      modules.stop_all(entry.unit)
    elseif not units[path] then
      loaded_modules[entry.unit.name] = entry.value
      units[path] = entry.unit
    end
  end
end

return modules
