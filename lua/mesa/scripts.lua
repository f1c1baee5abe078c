--- Handler scripts (auth.lua, on_message.lua …): which files serve which server.
--
-- A set belongs to a server; set.auth, set.message and so on are the functions that serve now. mesa.reload replaces them.
local core = require "mesa.core"
local modules = require "mesa.modules"
local ownership = require "mesa.ownership"
local source = require "mesa.source"
local watched = require "mesa.watched"

local error, ipairs, pairs, pcall, setmetatable, type = error, ipairs, pairs, pcall, setmetatable, type
local sub, remove = string.sub, table.remove

local scripts = {}

local file_names = {
  auth = "auth.lua",
  message = "on_message.lua",
  connection = "on_connection.lua",
  disconnect = "on_disconnect.lua",
  request = "on_request.lua",
}
local slots = { "auth", "connection", "message", "disconnect", "request" }

---@class mesa.ScriptSet
---@field _server mesa.Server
---@field _paths table<string, string> where each slot's file is
---@field _units table<string, mesa.Unit> what was loaded from it
---@field _version integer
local Set = {}
Set.__index = Set

local sets = {} ---@type mesa.ScriptSet[] those of the servers that were made

local function absolute(path)
  if sub(path, 1, 1) ~= "/" then path = core.app_dir() .. "/" .. path end
  return core.absolute(path)
end

--- Where each slot's file is; in a folder a file may be missing now and come later.
local function paths_of(config)
  local paths = {}
  if type(config) == "string" then
    local dir = absolute(config)
    for slot, name in pairs(file_names) do paths[slot] = core.absolute(dir .. "/" .. name) end
  elseif config then
    for slot, path in pairs(config) do paths[slot] = absolute(path) end
  end
  return paths
end

--- Loads the scripts of a server's configuration. Raises when one cannot be loaded. The set is none of the program's until it
--- is added.
---@param server mesa.Server
---@param config? string|table<string, string>
---@return mesa.ScriptSet
function scripts.new(server, config)
  local set = setmetatable({ _server = server, _units = {}, _version = 1, _paths = paths_of(config) }, Set)
  for _, slot in ipairs(slots) do
    local path = set._paths[slot]
    if path and type(config) == "string" and not core.file_state(path) then
      watched.add(path)
    elseif path then
      local ok, fn, unit = pcall(modules.load_script, path)
      if not ok then
        scripts.discard(set)
        error(fn, 0)
      end
      set[slot], set._units[slot] = fn, unit
    end
  end
  return set
end

--- Its server was made: from now on the scripts reload.
---@param set mesa.ScriptSet
function scripts.add(set)
  sets[#sets + 1] = set
end

--- The files of a set that are loaded, as people know them, in the order of their slots.
---@return string[]
function Set:files()
  local files = {}
  for _, slot in ipairs(slots) do
    if self[slot] then files[#files + 1] = source.display(self._paths[slot]) end
  end
  return files
end

--- Its server has ended, or could not be made: so does what the scripts have started.
---@param set mesa.ScriptSet
function scripts.discard(set)
  for i, other in ipairs(sets) do
    if other == set then
      remove(sets, i)
      break
    end
  end
  for _, unit in pairs(set._units) do ownership.end_all(unit) end
end

--- A script was loaded anew: its function serves from now on.
---@param set mesa.ScriptSet
---@param slot string
---@param fn function
---@param unit mesa.Unit
function scripts.swap(set, slot, fn, unit)
  if set._units[slot] then ownership.end_all(set._units[slot]) end
  set[slot], set._units[slot] = fn, unit
  if slot == "auth" then set._server:_enable_auth() end
end

--- The files are below `to` instead of `from`.
---@param from string
---@param to string
function scripts.move(from, to)
  for _, set in ipairs(sets) do
    for slot, path in pairs(set._paths) do set._paths[slot] = source.moved(path, from, to) end
  end
end

--- Every slot that has a file: the set, the slot's name, the file's path, and what was loaded from it, if anything.
---@return { set: mesa.ScriptSet, slot: string, path: string, unit?: mesa.Unit }[]
function scripts.all()
  local list = {}
  for _, set in ipairs(sets) do
    for _, slot in ipairs(slots) do
      local path = set._paths[slot]
      if path then list[#list + 1] = { set = set, slot = slot, path = path, unit = set._units[slot] } end
    end
  end
  return list
end

scripts.sets = sets

return scripts
