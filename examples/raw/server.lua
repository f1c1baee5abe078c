-- Raw: plain WebSockets, without the Mesa envelope. Text and bytes go in and out as they are.
--
--   mesa-lua examples/raw/server.lua
--   npx wscat -c "ws://localhost:4000/?name=ann"
--
--   < hello ann
--   > how are you
--   < 1: HOW ARE YOU
local Mesa = require "mesa"

Mesa.new {
  port = 4000,

  -- No hello, no opcodes, no op 2. WebSocket pings take the place of the heartbeat.
  raw = true,
  heartbeat = { enabled = true, interval = 10000 },

  scripts = { connection = "on_connection.lua", message = "on_message.lua", disconnect = "on_disconnect.lua" },

  -- Applied before a message reaches a script.
  limits = { maxPayload = 64 * 1024, messagesPerSecond = 100 },
}
