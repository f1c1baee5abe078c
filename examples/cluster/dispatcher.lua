-- Sends a notice to users of the cluster, or to everybody, and ends.
--   mesa-lua examples/cluster/dispatcher.lua "back in five minutes" [id ...]
--   mesa-lua examples/cluster/dispatcher.lua --disconnect id ...
local Mesa = require "mesa"
local settings = require "settings"

local first = arg[1] or error("usage: dispatcher.lua TEXT [id ...] | --disconnect id ...", 0)
local ids = { unpack(arg, 2) }
local dispatcher = Mesa.Dispatcher(settings.redis, { namespace = settings.namespace, sync = { enabled = true } })

dispatcher:on("error", function(err)
  print("not sent: " .. err.message)
end)

if first == "--disconnect" then
  if #ids == 0 then error("--disconnect needs the ids of whom to disconnect", 0) end
  dispatcher:dispatch(Mesa.DispatchEvent "DISCONNECT_CLIENT", ids)
else
  dispatcher:dispatch(Mesa.Message(0, { text = first }, "NOTICE"), #ids > 0 and ids or { "*" })
end
dispatcher:close()
