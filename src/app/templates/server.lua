-- A Mesa server. Start it with:  mesa-lua server.lua
-- Then open http://localhost:4000/ twice, and talk to yourself.
-- The handlers below are reloaded when you save them; nobody is disconnected.
local Mesa = require "mesa"

local server = Mesa.new {
  port = 4000,
  -- The page that talks to the handlers. Reload it in the browser when you change it.
  static = "public",
  scripts = {
    auth = "auth.lua",
    connection = "on_connection.lua",
    message = "on_message.lua",
    disconnect = "on_disconnect.lua",
  },

  -- Ask clients for a sign of life every ten seconds, and close those that owe three.
  heartbeat = { enabled = true, interval = 10000, maxAttempts = 3 },
  -- Tell clients to come back five seconds after a connection was lost.
  reconnect = { enabled = true, interval = 5000 },
  -- Only clients that auth.lua has accepted are sent messages.
  authentication = { required = true, timeout = 10000 },
}

-- Kept when scripts are reloaded. Everything that must survive a reload belongs here.
server.state.messages = 0
