-- Shows what happens at every server of the cluster, and welcomes whoever logs in. A program of its own: it has no port.
--   mesa-lua examples/cluster/portal.lua
local Mesa = require "mesa"
local Message = Mesa.Message
local settings = require "settings"

local portal = Mesa.Portal(settings.redis, { namespace = settings.namespace, verbose = true })
local dispatcher = Mesa.Dispatcher(settings.redis, { namespace = settings.namespace })

portal:on("connection", function()
  print "somebody connected"
end)

portal:on("authentication", function(id)
  print(id .. " logged in")
  dispatcher:dispatch(Message(0, { text = "Welcome, " .. id }, "NOTICE"), { id })
end)

portal:on("message", function(message, id)
  print((id or "a guest") .. " sent " .. message:serialize())
end)

portal:on("disconnection", function(id)
  print((id or "a guest") .. " left")
end)
