-- Echo: every message goes back to the connection that it came from.
--
--   mesa-lua examples/echo/server.lua
--
-- Then, with any WebSocket tool (`npx wscat -c ws://localhost:4000`), send
--
--   {"op": 0, "t": "HELLO", "d": {"to": "you"}}
--
-- and read the same back. Or use a Mesa client: `npm install mesa-js-client`.
-- Edit on_message.lua and save while you are connected: the new code answers your next message.
local Mesa = require "mesa"

local server = Mesa.new {
  port = 4000,

  -- Each file returns one function. They are loaded again when you save them.
  scripts = { auth = "auth.lua", message = "on_message.lua" },

  -- Logging in is possible here but nobody has to, so no one is shown the door for not doing it.
  authentication = { timeout = false },

  -- Find peers that went away without saying so, and tell clients how soon to come back.
  heartbeat = { enabled = true, interval = 10000 },
  reconnect = { enabled = true, interval = 5000 },
}

-- The other way to write a handler: an event. Use both as you like.
server:on("connection", function(client)
  print("connected", client.serverId, client.request.ip)

  client:on("disconnect", function(event)
    print("gone", client.serverId, event.code)
  end)
end)
