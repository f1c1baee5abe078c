--- What is loaded: who requires whom, and loading anew, which succeeds as a whole or leaves everything as it was.
local identity = require "mesa.identity"
local ownership = require "mesa.ownership"
local source = require "mesa.source"

local ipairs, next, pairs, type = ipairs, next, pairs, type
local concat, sort = table.concat, table.sort
local loaded_modules = package.loaded

---@class mesa.Unit: mesa.Owner
---@field path string absolute path of the file
---@field text? string what it was loaded from
---@field state? string[] which file that was, when it was written
---@field names table<string, boolean> what a module is required as
---@field deps table<string, boolean> paths of the modules it required while it loaded, also of those that failed or are missing
---@field value any what a module returned
---@field made mesa.Made what its load has made of that table
---@field kept? boolean the table is the one of the load before
---@field fixed? boolean it has made a server and is not loaded again

local by_path, by_name, at_run_time, failed = {}, {}, {}, {}

local units = {
  by_path = by_path, ---@type table<string, mesa.Unit> the loaded modules
  by_name = by_name, ---@type table<string, mesa.Unit>
  at_run_time = at_run_time, ---@type table<string, boolean> paths that handlers required while they ran
  failed = failed, ---@type table<string, { touched: table<string, boolean>, by_main: boolean }> by name: to be tried again
  main = nil, ---@type mesa.Unit? the main script
  transaction = nil, ---@type table? what `begin` has begun
}

---@param path string
---@return mesa.Unit
function units.new(path)
  return { path = path, names = {}, deps = {}, things = {}, made = { keys = {} } }
end

-- ---- who depends on whom --------------------------------------------------------------------------------------------

--- Whether a unit depends on one of the paths, directly.
---@param unit mesa.Unit
---@param paths table<string, boolean>
function units.requires(unit, paths)
  for path in pairs(unit.deps) do
    if paths[path] then return true end
  end
  return false
end

local function rename_key(t, from, to)
  if t[from] == nil then return end
  t[from], t[to] = nil, t[from]
end

--- A module's name means another file now.
---@param from string its path
---@param to string
---@param scripts mesa.Unit[] the handler scripts that serve
function units.rename(from, to, scripts)
  by_path[from].path = to
  rename_key(by_path, from, to)
  rename_key(at_run_time, from, to)
  rename_key(units.main.deps, from, to)
  for _, unit in pairs(by_path) do rename_key(unit.deps, from, to) end
  for _, unit in ipairs(scripts) do rename_key(unit.deps, from, to) end
end

--- The modules that changes concern: those at the paths, and all that depend on them.
---@param changed table<string, boolean>
---@return table<string, boolean> affected paths of loaded modules
---@return table<string, boolean> fixed paths of those among them that are not loaded again
---@return table<string, boolean> reached the changed and the affected
function units.affected(changed)
  local affected, fixed, reached = {}, {}, {}
  for path in pairs(changed) do reached[path] = true end
  local grows = true
  while grows do
    grows = false
    for path, unit in pairs(by_path) do
      if not affected[path] and not fixed[path] and (reached[path] or units.requires(unit, reached)) then
        if unit.fixed then
          fixed[path] = true
        else
          affected[path], reached[path], grows = true, true, true
        end
      end
    end
  end
  for path in pairs(fixed) do reached[path] = nil end
  return affected, fixed, reached
end

--- All that can be reached from the paths through what modules require, the paths included.
---@param from table<string, boolean>
---@param into? table<string, boolean>
---@return table<string, boolean>
function units.closure(from, into)
  into = into or {}
  for path in pairs(from) do
    if not into[path] then
      into[path] = true
      if by_path[path] then units.closure(by_path[path].deps, into) end
    end
  end
  return into
end

--- Those who are not loaded again: the main script, and the modules that have made a server.
local function lasting()
  local list = { units.main }
  for _, unit in pairs(by_path) do
    if unit.fixed then list[#list + 1] = unit end
  end
  return list
end

--- The lasting ones that have required the module.
---@param path string
---@return mesa.Unit[]
function units.keepers(path)
  local list = {}
  for _, unit in ipairs(lasting()) do
    if unit.deps[path] then list[#list + 1] = unit end
  end
  return list
end

--- The modules that are needed whatever the handler scripts require.
---@return table<string, boolean> paths
function units.held()
  local held = units.closure(at_run_time)
  for _, unit in ipairs(lasting()) do
    units.closure({ [unit.path] = true }, held)
    units.closure(unit.deps, held)
  end
  return held
end

--- Whether one of the modules is among those.
---@param paths table<string, boolean>
---@return boolean
function units.held_by_others(paths)
  local held = units.held()
  for path in pairs(paths) do
    if held[path] then return true end
  end
  return false
end

--- What a unit was loaded from, as far as a change to it would load it anew.
function units.touched_by(unit, into)
  into = into or {}
  if into[unit.path] then return into end
  into[unit.path] = true
  for path in pairs(unit.deps) do
    if by_path[path] then units.touched_by(by_path[path], into) end
    into[path] = true
  end
  return into
end

-- ---- loading anew: all or nothing -----------------------------------------------------------------------------------

--- Forgets the modules at the paths, so that they load anew. Until commit or rollback.
---@param paths table<string, boolean>
---@return table<string, mesa.Unit> units by path
function units.begin(paths)
  local begun = {}
  units.transaction = { by_path = {}, by_name = {}, created = {}, touched = {}, failed = {} }
  for name, entry in pairs(failed) do units.transaction.failed[name] = entry end
  for path in pairs(paths) do
    local unit = by_path[path]
    local entry = { unit = unit, snapshot = type(unit.value) == "table" and identity.snapshot(unit.value) or nil }
    units.transaction.by_path[path] = entry
    for name in pairs(unit.names) do
      units.transaction.by_name[name] = entry
      loaded_modules[name], by_name[name] = nil, nil
    end
    by_path[path], begun[path] = nil, unit
  end
  return begun
end

--- Whether the module of a unit was loaded again.
---@param unit mesa.Unit
---@return boolean
function units.is_loaded(unit)
  return by_name[(next(unit.names))] ~= nil
end

local function forget(unit)
  ownership.end_all(unit)
  for name in pairs(unit.names) do
    if by_name[name] == unit then loaded_modules[name], by_name[name] = nil, nil end
  end
  if by_path[unit.path] == unit then by_path[unit.path] = nil end
end

--- A load failed: everything is as it was before. Returns the paths that the attempt has looked at.
---@return table<string, boolean> touched
function units.rollback()
  local t = units.transaction
  units.transaction = nil
  for unit in pairs(t.created) do forget(unit) end
  for path, entry in pairs(t.by_path) do
    by_path[path] = entry.unit
    for name in pairs(entry.unit.names) do loaded_modules[name], by_name[name] = entry.unit.value, entry.unit end
    if entry.snapshot then identity.restore(entry.unit.value, entry.snapshot) end
  end
  for name in pairs(failed) do failed[name] = nil end
  for name, entry in pairs(t.failed) do failed[name] = entry end
  return t.touched
end

--- Every load succeeded: what the replaced code has started ends. Returns the modules that ran, each with what was there before.
---@return { unit: mesa.Unit, before?: mesa.Unit }[] replaced
function units.commit()
  local t, replaced = units.transaction, {}
  units.transaction = nil
  for _, entry in pairs(t.by_path) do ownership.end_all(entry.unit) end
  for unit in pairs(t.created) do
    local staged = t.by_path[unit.path] or t.by_name[next(unit.names)]
    replaced[#replaced + 1] = { unit = unit, before = staged and staged.unit }
  end
  return replaced
end

--- Forgets the modules that nobody requires any more, and ends what they have started.
---@param scripts mesa.Unit[] the handler scripts that serve
function units.sweep(scripts)
  local used = units.held()
  for i = 1, #scripts do units.closure(scripts[i].deps, used) end
  local unused = {}
  for path, unit in pairs(by_path) do
    if not used[path] then unused[#unused + 1] = unit end
  end
  for i = 1, #unused do forget(unused[i]) end
end

--- The names of files for people, in order.
---@param paths table<string, boolean>
---@return string[]
function units.sorted_names(paths)
  local list = {}
  for path in pairs(paths) do list[#list + 1] = source.display(path) end
  sort(list)
  return list
end

---@param paths table<string, boolean>
---@return string
function units.names_of(paths)
  return concat(units.sorted_names(paths), ", ")
end

return units
