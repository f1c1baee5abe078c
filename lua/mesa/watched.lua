--- The files that are watched for changes.
local core = require "mesa.core"

local pairs = pairs

local watched = {}
local paths = {}

--- Watches a file. It need not exist.
---@param path string
function watched.add(path)
  if paths[path] then return end
  paths[path] = true
  core.watch(path)
end

--- Watches these files and no others.
---@param wanted table<string, boolean>
function watched.keep(wanted)
  for path in pairs(paths) do
    if not wanted[path] then
      paths[path] = nil
      core.unwatch(path)
    end
  end
  for path in pairs(wanted) do watched.add(path) end
end

return watched
