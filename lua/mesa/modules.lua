--- The application's modules: `require`, and the loading of files.
--
-- A unit is one loaded file: a module, a handler script or the main script. What it requires while it loads are its
-- dependencies; what it starts meanwhile is its own (mesa.ownership). A module is known by its path, whatever it is called.
local core = require "mesa.core"
local errors = require "mesa.errors"
local finder = require "mesa.finder"
local identity = require "mesa.identity"
local ownership = require "mesa.ownership"
local source = require "mesa.source"
local units = require "mesa.units"
local watched = require "mesa.watched"

local error, pairs, pcall, type = error, pairs, pcall, type
local find_text, format, gsub = string.find, string.format, string.gsub
local concat = table.concat
local globals, loaded_modules, preload = _G, package.loaded, package.preload
local original_require = require

local MISSING_MAX = 64 -- names that were required in vain and are waited for

local modules = {}

local by_name, by_path, failed = units.by_name, units.by_path, units.failed
local loading = {} ---@type table<string, mesa.Unit> modules whose load is under way
local order = {} -- their paths, the innermost last

-- ---- loading -------------------------------------------------------------------------------------------------------

local function depend(path)
  local unit = ownership.current()
  if unit then
    unit.deps[path] = true
  else
    units.at_run_time[path] = true
  end
  if units.transaction then units.transaction.touched[path] = true end
  watched.add(path)
end

local function note_failure(name, touched, missing)
  local by_main = failed[name] and failed[name].by_main or units.main ~= nil and ownership.current() == units.main
  failed[name] = { touched = touched, missing = missing, by_main = by_main }
end

--- The text to load a unit from: while the file is gone, empty or being written, what was loaded before.
local function text_of(path, before)
  local text, err = source.settled(path)
  if text then return text end
  if before and before.text then return before.text end
  if units.main and units.main.loaded then return nil, err end
  return source.read(path) -- as the program starts, an empty file is what Lua makes of it
end

--- Runs the file as the load of `unit`; its value, or raises with a traceback. Nothing in it can wait.
local function run(unit, before, ...)
  local text, err = text_of(unit.path, before)
  local chunk
  if text then chunk, err = source.compile(text, unit.path) end
  if not chunk then error(errors.new(err, "LOAD"), 0) end
  unit.text, unit.state = text, { core.file_state(unit.path) }
  ownership.enter(unit)
  local ok, value = core.call_now(chunk, errors.catch, ...)
  ownership.leave()
  if ok then return value end
  ownership.end_all(unit)
  error(value, 0)
end

local function register(unit, value)
  unit.value = value
  for known in pairs(unit.names) do
    loaded_modules[known] = value
    by_name[known] = unit
    failed[known] = nil
  end
  by_path[unit.path] = unit
  if units.transaction then units.transaction.created[unit] = true end
end

--- Gives a table of the load before the new fields, unless what was returned is no table of the module's own.
local function keep_identity(unit, before, value)
  local mine = type(value) == "table" and before.value ~= value
  if not mine or type(before.value) ~= "table" then return value end
  for name, other in pairs(loaded_modules) do -- it may be another module's
    if other == value and not unit.names[name] then return value end
  end
  unit.made = identity.adopt(before.value, before.made, value, ownership.roots(unit))
  unit.kept = true
  return before.value
end

local function loop_text(name, path)
  local files = {}
  for i = 1, #order do
    if files[1] or order[i] == path then files[#files + 1] = source.display(order[i]) end
  end
  files[#files + 1] = source.display(path)
  return format("module '%s' requires itself while it is being loaded: %s", name, concat(files, " -> "))
end

local function load_module(name, path)
  local staged = units.transaction and (units.transaction.by_path[path] or units.transaction.by_name[name])
  local before = staged and staged.unit
  local unit = units.new(path)
  unit.names[name] = true
  for known in pairs(before and before.names or {}) do unit.names[known] = true end
  loading[path], order[#order + 1] = unit, path
  local ok, value = pcall(run, unit, before or by_path[path], name)
  loading[path], order[#order] = nil, nil
  if not ok then
    loaded_modules[name] = nil
    note_failure(name, units.touched_by(unit))
    error(value, 0)
  end
  if value == nil then value = loaded_modules[name] end -- set by the module itself, or by `module`
  if value == nil then value = true end
  if before then value = keep_identity(unit, before, value) end
  if not unit.kept then unit.made = identity.made(value) end
  if by_path[path] then ownership.end_all(by_path[path]) end -- a script took it out of package.loaded
  register(unit, value)
  return value
end

--- A module that is nowhere: its coming is waited for.
local function note_missing(name)
  local places, count = finder.places(name), 0
  for i = 1, ownership.current() and #places or 0 do depend(places[i]) end
  for _, entry in pairs(failed) do count = count + (entry.missing and 1 or 0) end
  if failed[name] or count >= MISSING_MAX then return end
  local touched = {}
  for i = 1, #places do
    touched[places[i]] = true
    watched.add(places[i])
  end
  note_failure(name, touched, true)
end

--- What is none of the application's Lua files: loaders of others, modules in C. A failed one may be tried again.
local function load_foreign(name)
  local ok, result = pcall(original_require, name)
  if ok then return result end
  if type(loaded_modules[name]) == "userdata" then loaded_modules[name] = nil end -- LuaJIT's mark of a load that has begun
  if type(result) ~= "string" or not find_text(result, "module '" .. name .. "' not found:", 1, true) then error(result, 0) end
  note_missing(name)
  error(gsub(result, "^.-(module ')", "%1", 1), 2)
end

local function tracking_require(name)
  if type(name) ~= "string" then return original_require(name) end
  local value, unit = loaded_modules[name], by_name[name]
  if value ~= nil and unit then
    depend(unit.path)
    return value
  end
  local path = value == nil and preload[name] == nil and finder.locate(name)
  if not path then return load_foreign(name) end
  depend(path)
  unit = by_path[path]
  if unit and not unit.names[name] then -- another name of a module that is there
    unit.names[name], by_name[name], loaded_modules[name] = true, unit, unit.value
    return unit.value
  end
  if loading[path] then error(loop_text(name, path), 2) end
  return load_module(name, path)
end

--- Takes over `require` for the application. Called once, by mesa.program.
function modules.install()
  globals.require = tracking_require
end

modules.require = tracking_require

--- Loads the main script: `fn` compiles and runs it. An error in it ends the program, so it passes as it is.
---@param path string
---@param fn function
function modules.load_main(path, fn)
  local main = units.new(path)
  main.things = nil -- it is never replaced
  main.text = source.read(path)
  units.main = main
  watched.add(path)
  ownership.enter(main)
  fn()
  ownership.leave()
  main.loaded = true
end

--- Loads a handler script that returns a function. Raises what the compilation or the chunk raises.
---@param path string
---@param before? mesa.Unit the one that serves
---@return function fn, mesa.Unit unit
function modules.load_script(path, before)
  local unit = units.new(path)
  watched.add(path) -- before it is read, so that no change in between is missed
  if units.transaction then units.transaction.touched[path] = true end
  local fn = run(unit, before)
  if type(fn) ~= "function" then
    ownership.end_all(unit)
    error(errors.new(format("%s must return a function, it returned %s", source.display(path), type(fn)), "LOAD"), 0)
  end
  return fn, unit
end

--- A server is being made: the module that does it is not loaded again, which would make another one.
---@param stop fun()
function modules.own_server(stop)
  local unit = ownership.current()
  if not unit or unit == units.main then return end
  if loading[unit.path] == unit then unit.fixed = true end
  ownership.own(stop)
end

-- ---- trying again ---------------------------------------------------------------------------------------------------

--- The modules that failed and are concerned by the paths (all of them without).
---@param paths? table<string, boolean>
---@return table<string, table> due
function modules.due(paths)
  local due = {}
  for name, entry in pairs(failed) do
    local concerned = not paths
    for path in pairs(paths or {}) do concerned = concerned or entry.touched[path] end
    if concerned and finder.locate(name) then due[name] = entry end
  end
  return due
end

--- Tries them again, unless a reload has done it meanwhile.
---@param due table<string, table>
---@param report fun(name: string, ok: boolean, err: any, by_main: boolean)
function modules.retry(due, report)
  for name, entry in pairs(due) do
    if failed[name] == entry then
      local ok, err = pcall(tracking_require, name)
      report(name, ok, err, entry.by_main)
    end
  end
end

return modules
