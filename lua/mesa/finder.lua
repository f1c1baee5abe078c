--- Where modules are: where package.path and package.cpath say, and in the application's folder whatever they say, because their
--- templates cannot hold a folder with ";" or "?" in its name. Mesa's own modules have a loader in C (src/script/paths.c).
local core = require "mesa.core"
local source = require "mesa.source"

local error, ipairs, pairs, tostring = error, ipairs, pairs, tostring
local find, format, gmatch, gsub, match, sub = string.find, string.format, string.gmatch, string.gsub, string.match, string.sub
local concat, insert = table.concat, table.insert
local loaded_modules, loadlib, searchpath = package.loaded, package.loadlib, package.searchpath

local finder = {}

local lib_prefix = core.lib_dir() .. "/"
local lua_files = { ".lua", "/init.lua" }

--- "a.b" as a path: "a/b".
local function path_of(name)
  return (gsub(name, "%.", "/"))
end

local function find_below(prefix, name)
  local path = prefix .. path_of(name)
  for _, suffix in ipairs(lua_files) do
    if core.file_state(path .. suffix) then return path .. suffix end
  end
end

--- The Lua file a name stands for; nil when it is none of the application's: mesa's own, or no Lua file.
---@param name string
---@return string?
function finder.locate(name)
  if find_below(lib_prefix, name) then return nil end
  local path = searchpath(name, loaded_modules.package.path) or find_below(source.app_prefix(), name)
  return path and core.absolute(path)
end

--- Where a module of the application would be.
---@param name string
---@return string[]
function finder.places(name)
  local list, file, app_prefix = {}, path_of(name), source.app_prefix()
  for template in gmatch(loaded_modules.package.path, "[^;]+") do
    local before, behind = match(template, "^(.-)%?(.*)$")
    local path = before and core.absolute(before .. file .. behind)
    if path and sub(path, 1, #app_prefix) == app_prefix then list[#list + 1] = path end
  end
  for _, suffix in ipairs(lua_files) do list[#list + 1] = app_prefix .. file .. suffix end
  return list
end

--- Looks for modules below `to` instead of `from`: the application's folder is another one.
---@param from string
---@param to string
function finder.move(from, to)
  local library, holds = loaded_modules.package, not find(to, "[;?]")
  for _, field in pairs { "path", "cpath" } do
    local templates = {}
    for template in gmatch(library[field], "[^;]+") do
      local moved = source.moved(template, from, to)
      if holds or moved == template then templates[#templates + 1] = moved end
    end
    library[field] = concat(templates, ";")
  end
end

--- The loader of modules in C that package.cpath has no template for; what it returns becomes part of "module not found".
local function load_c(name)
  local prefix = source.app_prefix()
  if not find(prefix, "[;?]") then return nil end
  local file = path_of(name)
  local path = prefix .. file .. ".so"
  if not core.file_state(path) then
    return format("\n\tno file '%s%s.lua'\n\tno file '%s%s/init.lua'\n\tno file '%s'", prefix, file, prefix, file, path)
  end
  local symbol = "luaopen_" .. gsub(match(name, "^[^-]*%-(.*)$") or name, "%.", "_")
  local open, why = loadlib(path, symbol)
  if not open then error(format("error loading module '%s' from file '%s':\n\t%s", name, path, tostring(why)), 0) end
  return open
end

insert(package.loaders, load_c)

return finder
