--- os.exit, and the statuses that a program may end with.
local core = require "mesa.core"
local portals = require "mesa.portals"

local error, ipairs, pcall, tonumber, tostring, unpack = error, ipairs, pcall, tonumber, tostring, unpack
local format = string.format

local exit = {}

--- The number of a status. What the system would cut to another one, 0 perhaps, raises at the caller of the caller.
---@param status any
---@param name string "os.exit"
---@return integer
function exit.status(status, name)
  if status == nil or status == true then return 0 end
  if status == false then return 1 end
  local number = tonumber(status)
  if number and number % 1 == 0 and number >= -128 and number <= 255 then return number end
  error(format("%s expects true, false or an integer from 0 to 255, got %s", name, tostring(status)), 3)
end

--- What a script has sent goes out, and the process ends (src/script/shutdown.c).
os.exit = function(status) -- luacheck: ignore 122
  local number = exit.status(status, "os.exit")
  for _, portal in ipairs { unpack(portals) } do pcall(portal.close, portal) end
  core.exit(number)
end

return exit
