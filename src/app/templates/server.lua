-- A Mesa server. Start it with:  mesa-lua server.lua
-- auth.lua and on_message.lua are reloaded when you save them; nobody is disconnected.
local Mesa = require "mesa"

local server = Mesa.new {
  port = 4000,
  scripts = { auth = "auth.lua", message = "on_message.lua" },

  -- Ask clients for a sign of life every ten seconds, and close those that owe three.
  heartbeat = { enabled = true, interval = 10000, maxAttempts = 3 },
  -- Tell clients to come back five seconds after a connection was lost.
  reconnect = { enabled = true, interval = 5000 },
  -- Only clients that auth.lua has accepted are sent messages.
  authentication = { required = true, timeout = 10000 },
}

-- Kept when scripts are reloaded. Everything that must survive a reload belongs here.
server.state.messages = 0

server:on("connection", function(client)
  print("connected", client.serverId, client.request.ip)

  client:on("disconnect", function(event)
    print("disconnected", client.id or client.serverId, event.code, event.reason)
  end)
end)
