--- Reloading: what changed, all of it, and nothing else.
--
-- The modules that changed, those that depend on them, and the handler scripts concerned are loaded anew; only if all of it
-- succeeds does the new code take over. What could not be loaded is remembered, with everything that had changed with it, until
-- a load succeeds.
local core = require "mesa.core"
local errors = require "mesa.errors"
local finder = require "mesa.finder"
local log = require "mesa.log"
local modules = require "mesa.modules"
local ownership = require "mesa.ownership"
local scripts = require "mesa.scripts"
local source = require "mesa.source"
local units = require "mesa.units"
local watched = require "mesa.watched"

local ipairs, next, pairs, tostring, type = ipairs, next, pairs, tostring, type
local format, concat, remove = string.format, table.concat, table.remove
local run_task = core.run_task

local reload = {}

local failures = {} ---@type { changed: table<string, boolean>, touched: table<string, boolean> }[] loads that failed

-- ---- what changed ---------------------------------------------------------------------------------------------------

--- What was loaded from each path: modules and scripts.
local function units_by_path()
  local loaded = {}
  local function add(path, unit)
    loaded[path] = loaded[path] or {}
    loaded[path][#loaded[path] + 1] = unit
  end
  for path, unit in pairs(units.by_path) do add(path, unit) end
  for _, entry in ipairs(scripts.all()) do add(entry.path, entry.unit) end
  return loaded
end

--- Whether a file has changed since it was loaded. A file that another one of the same content has replaced has not; one that
--- was touched has, which is how to ask for a reload.
local function differs(unit, path, text)
  if unit.text ~= text then return true end
  local file, written = core.file_state(path)
  if unit.state[1] == file and unit.state[2] ~= written then return true end
  unit.state = { file, written }
  return false
end

--- Adds those of the paths that have changed to `changed`.
---@return string[] unsettled what is said of those that are empty or being written
local function compare(paths, loaded, changed)
  local unsettled = {}
  for path in pairs(paths) do
    local text, why = source.settled(path)
    local here = loaded[path] or {}
    if not text then
      if core.file_state(path) then unsettled[#unsettled + 1] = why end
    elseif #here == 0 and path ~= units.main.path then
      changed[path] = true
    end
    for _, unit in ipairs(text and here or {}) do
      if differs(unit, path, text) then changed[path] = true end
    end
  end
  return unsettled
end

local function script_units()
  local serving = {}
  for _, entry in ipairs(scripts.all()) do serving[#serving + 1] = entry.unit end
  return serving
end

--- Modules whose name means another file now: a link was turned, or a file came that is found earlier.
local function follow_modules()
  local moved = {}
  for path, unit in pairs(units.by_path) do
    local found = finder.locate((next(unit.names)))
    if found and found ~= path and not units.by_path[found] then moved[path] = found end
  end
  for from, to in pairs(moved) do units.rename(from, to, script_units()) end
end

--- What the changes concern: { affected, fixed, slots, reached }.
local function concern(changed, all)
  local affected, fixed, reached = units.affected(changed)
  local slots = {}
  for _, entry in ipairs(scripts.all()) do
    local unit = entry.unit
    if changed[entry.path] or unit and (all or units.requires(unit, reached)) then
      slots[#slots + 1] = entry
      reached[entry.path] = true
    end
  end
  return { affected = affected, fixed = fixed, slots = slots, reached = reached }
end

local function overlap(a, b)
  for path in pairs(a) do
    if b[path] then return true end
  end
  return false
end

--- Adds to `changed` what had failed to load and has to do with it.
local function recall(paths, loaded, changed)
  local again = true
  while again do
    again = false
    for i = #failures, 1, -1 do
      local failure = failures[i]
      if not paths or overlap(paths, failure.touched)
        or overlap(concern(failure.changed).reached, concern(changed).reached) then
        remove(failures, i)
        compare(failure.changed, loaded, changed)
        again = true
      end
    end
  end
end

-- ---- loading --------------------------------------------------------------------------------------------------------

--- Loads everything in `work`; nothing is swapped yet.
local function load_all(work, held)
  local loaded = {}
  for i, entry in ipairs(work.slots) do
    local fn, unit = modules.load_script(entry.path, entry.unit)
    loaded[i] = { entry = entry, fn = fn, unit = unit }
    work.loaded = loaded
  end
  for path, unit in pairs(work.units) do
    if held[path] and not units.is_loaded(unit) then modules.require((next(unit.names))) end
  end
end

--- The files that are worth a look when they change.
local function watch_set()
  local wanted = { [units.main.path] = true }
  local function add(paths)
    for path in pairs(paths) do wanted[path] = true end
  end
  add(units.at_run_time)
  add(units.main.deps)
  for path, unit in pairs(units.by_path) do
    wanted[path] = true
    add(unit.deps)
  end
  for _, entry in ipairs(scripts.all()) do
    wanted[entry.path] = true
    if entry.unit then add(entry.unit.deps) end
  end
  for _, failure in ipairs(failures) do add(failure.touched) end
  for _, entry in pairs(units.failed) do add(entry.touched) end
  return wanted
end

--- Loads and swaps, or leaves everything as it was. nil and the error when something fails.
---@return { unit: mesa.Unit, before?: mesa.Unit }[]? replaced, any err
local function exchange(work, changed)
  local held = units.held()
  work.units = units.begin(work.affected)
  local ok, err = core.call_now(load_all, errors.catch, work, held)
  if not ok then
    for _, item in ipairs(work.loaded or {}) do ownership.end_all(item.unit) end
    local touched = units.rollback()
    for path in pairs(changed) do touched[path] = true end
    failures[#failures + 1] = { changed = changed, touched = touched }
    return nil, err
  end
  local replaced = units.commit()
  for _, item in ipairs(work.loaded or {}) do scripts.swap(item.entry.set, item.entry.slot, item.fn, item.unit) end
  units.sweep(script_units())
  watched.keep(watch_set())
  return replaced
end

-- ---- telling --------------------------------------------------------------------------------------------------------

--- The sets of the slots that are concerned; all of them when a module is that handlers or the main script use by themselves.
local function sets_of(work)
  local concerned, list = {}, {}
  for _, entry in ipairs(work.slots) do concerned[entry.set] = true end
  for _, set in ipairs(scripts.sets) do
    if concerned[set] or work.everybody then list[#list + 1] = set end
  end
  return list
end

local function report_failure(work, prefix, err)
  local text = type(err) == "table" and err.traceback or tostring(err)
  local sets = sets_of(work)
  local version = #sets == 1 and format("version %d", sets[1]._version) or "the old code"
  log.error(format("%sreload failed, %s goes on serving: %s", prefix, version, text), "reload")
  for _, set in ipairs(sets) do
    core.server_count_event(set._server, "reload_failure")
    local failure = errors.new(tostring(err), "RELOAD", type(err) == "table" and err.traceback or nil)
    run_task(set._server._emit_error, set._server, failure, "reload")
  end
  return "reload failed, the old code goes on serving: " .. tostring(err)
end

--- Who goes on with what a module returned before, because it is not a table that could be filled anew.
local function report_kept(replaced)
  for _, item in ipairs(replaced) do
    local before, unit = item.before, item.unit
    if before and not unit.kept and before.value ~= unit.value then
      local what = type(before.value) == type(unit.value) and format("returns a %s", type(unit.value))
        or format("returned a %s and returns a %s now", type(before.value), type(unit.value))
      for _, holder in ipairs(units.keepers(before.path)) do
        log.warn(format("%s %s: %s keeps the old one until a restart", source.display(before.path), what,
          source.display(holder.path)), "reload")
      end
    end
  end
end

local function files_of(set, work, replaced)
  local files = {}
  for _, entry in ipairs(work.slots) do
    if entry.set == set then files[#files + 1] = source.display(entry.path) end
  end
  local names = {}
  for _, item in ipairs(replaced) do names[item.unit.path] = true end
  for _, name in ipairs(units.sorted_names(names)) do files[#files + 1] = name end
  return files
end

local function report_success(work, prefix, changed, replaced, duration)
  local report, sets = {}, sets_of(work)
  report_kept(replaced)
  for _, set in ipairs(sets) do
    local files = files_of(set, work, replaced)
    set._version = set._version + 1
    report[#report + 1] = format("%sreloaded %s (version %d, %.1f ms)", prefix, concat(files, ", "), set._version, duration)
    log.info(report[#report], "reload")
    core.server_count_event(set._server, "reload")
    run_task(set._server.emit, set._server, "reload", {
      files = files, changed = units.sorted_names(changed), version = set._version, duration = duration,
    })
  end
  if #sets == 0 then
    report[1] = format("%sreloaded %s (%.1f ms)", prefix, concat(files_of(nil, work, replaced), ", "), duration)
    log.info(report[1], "reload")
  end
  return concat(report, "\n")
end

--- Tells what does not take part in reloads.
local function report_restart(paths, fixed)
  local main = units.main
  if not paths or paths[main.path] then
    local text = source.settled(main.path)
    if text and text ~= main.text then
      log.warn(source.display(main.path) .. " has changed: restart to apply it (modules and the handlers of `scripts` reload by "
        .. "themselves)", "reload")
    end
  end
  for path in pairs(fixed) do
    log.warn(source.display(path) .. " makes a server and is not loaded again: restart to apply the change", "reload")
  end
end

local function retry(due)
  local ok, lines = true, {}
  modules.retry(due, function(name, loaded, err, by_main)
    local line = format("module '%s' is loaded now", name)
    if not loaded then
      ok = false
      line = format("module '%s' still cannot be loaded: %s", name, type(err) == "table" and err.traceback or tostring(err))
    elseif by_main then
      line = line .. format("; %s went on without it: restart for that", source.display(units.main.path))
    end
    lines[#lines + 1] = line
    if loaded then log.info(line, "reload") else log.error(line, "reload") end
  end)
  return ok, lines
end

--- Whether the main script is a link that was turned to another folder, which is the application's from now on.
local function follow_script()
  local from, to = core.follow_script(units.main.path)
  if not from then return false end
  finder.move(from, to)
  scripts.move(from, to)
  return true
end

--- Reloads what the changed files concern. Without paths everything is looked at, and every handler script is loaded anew.
---@param paths? table<string, boolean> absolute
---@return boolean? reloaded false: nothing to do; nil: something failed, and the old code serves
---@return string report lines for people
function reload.run(paths)
  if follow_script() then paths = nil end
  if not paths then follow_modules() end
  local started, loaded, changed = core.now(), units_by_path(), {}
  local looked_at = paths
  if not looked_at then
    looked_at = {}
    for path in pairs(loaded) do looked_at[path] = true end
  end
  local unsettled = compare(looked_at, loaded, changed)
  for _, why in ipairs(unsettled) do log.warn(why .. ": it is loaded when that is over", "reload") end
  recall(paths, loaded, changed)
  local due = modules.due(paths)
  local work = concern(changed, not paths)
  report_restart(paths, work.fixed)
  work.everybody = units.held_by_others(work.affected)

  local prefix = next(changed) and units.names_of(changed) .. " changed: " or ""
  local reloaded, report = false, nil
  if next(work.affected) or #work.slots > 0 then
    local replaced, err = exchange(work, changed)
    reloaded = replaced and true or nil
    report = replaced and report_success(work, prefix, changed, replaced, core.now() - started) or report_failure(work, prefix, err)
  end
  local ok, lines = retry(due)
  if not ok then reloaded = nil end
  if report then lines[#lines + 1] = report end
  if #lines == 0 and #unsettled == 0 then
    lines[1] = prefix .. "nothing to reload"
    if paths and prefix == "" then lines[1] = units.names_of(paths) .. " was saved without a change: nothing to reload" end
    if not paths or not paths[units.main.path] then log.info(lines[1], "reload") end
  end
  return reloaded, concat(lines, "\n")
end

return reload
