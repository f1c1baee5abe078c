--- The files and folders that a configuration names: where they are, and whether they can be used.
local core = require "mesa.core"

local ipairs, pairs, type = ipairs, pairs, type
local format, sub = string.format, string.sub

local paths = {}

local slots = { "auth", "message", "connection", "disconnect", "request" }

--- Relative paths start at the folder of the main script, whatever the working directory is.
---@param path string
---@return string
function paths.absolute(path)
  if sub(path, 1, 1) == "/" then return path end
  return core.app_dir() .. "/" .. path
end

--- Makes `static` and the files of `tls` absolute, in place.
---@param cfg table
function paths.resolve(cfg)
  cfg.static = cfg.static and paths.absolute(cfg.static)
  local tables = { cfg.tls }
  for _, pair in pairs(cfg.tls and cfg.tls.names or {}) do tables[#tables + 1] = pair end
  for _, files in ipairs(tables) do
    for _, key in ipairs { "cert", "key", "ca", "ticketKeys" } do
      if files[key] then files[key] = paths.absolute(files[key]) end
    end
  end
end

local function problem(key, path, kind)
  path = paths.absolute(path)
  local why = core.path_problem(path, kind)
  if not why then return nil end
  return format("%s: cannot read the %s %s: %s", key, kind, path, why)
end

--- Why the first of the files and folders of a configuration cannot be used; nil when all can. What is in them is looked at
--- by those who read them.
---@param cfg table
---@return string?
function paths.problem(cfg)
  if type(cfg.scripts) == "string" then
    local why = problem("scripts", cfg.scripts, "folder")
    if why then return why end
  elseif cfg.scripts then
    for _, slot in ipairs(slots) do
      local why = cfg.scripts[slot] and problem("scripts." .. slot, cfg.scripts[slot], "file")
      if why then return why end
    end
  end
  return cfg.static and problem("static", cfg.static, "folder") or nil
end

return paths
