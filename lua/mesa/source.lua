--- Files of the application: their text, and what became of it.
local core = require "mesa.core"

local loadstring, tostring = loadstring, tostring
local find, gsub, open, sub = string.find, string.gsub, io.open, string.sub

local source = {}

--- What paths in the application's folder begin with.
---@return string
function source.app_prefix()
  local app_dir = core.app_dir()
  return app_dir == "/" and app_dir or app_dir .. "/"
end

--- The file's name as error messages show it: relative to the application's folder.
---@param path string
---@return string
function source.display(path)
  local prefix = source.app_prefix()
  if sub(path, 1, #prefix) == prefix then return sub(path, #prefix + 1) end
  return path
end

--- A path below `from` as one below `to`; any other path as it is.
---@param path string
---@param from string
---@param to string
---@return string
function source.moved(path, from, to)
  if sub(path, 1, #from + 1) ~= from .. "/" then return path end
  return to .. sub(path, #from + 1)
end

--- The text of a file; nil and why not.
---@param path string
---@return string? text, string? err
function source.read(path)
  local file, err = open(path, "rb")
  if not file then return nil, "cannot read " .. source.display(path) .. ": " .. gsub(tostring(err), "^.*: ", "") end
  local text = file:read "*a"
  file:close()
  if not text then return nil, "cannot read " .. source.display(path) end
  return text
end

--- Compiles a file's text. nil and the message, with file and line, when that fails.
---@param text string
---@param path string
---@return function? chunk, string? err
function source.compile(text, path)
  text = gsub(gsub(text, "^\239\187\191", ""), "^#[^\n]*", "")
  return loadstring(text, "@" .. source.display(path))
end

--- The text of a file that is worth loading; nil and why not while there is none, or only half of one: editors empty a file
--- before they write it.
---@param path string
---@return string? text, string? err
function source.settled(path)
  if core.watch_busy(path) then return nil, source.display(path) .. " is being written" end
  local text, err = source.read(path)
  if text and not find(text, "%S") then return nil, source.display(path) .. " is empty" end
  return text, err
end

return source
