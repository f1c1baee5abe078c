-- Chat: a page and its server on one port.
--
--   mesa-lua examples/chat/server.lua      and open http://localhost:4000 in two windows
--
-- public/             the page: plain HTML, CSS and JavaScript, with a small Mesa client of its own (mesa.js)
-- auth.lua            who may come in under which name
-- on_message.lua      what happens in the room
-- on_disconnect.lua   who has left it
--
-- Save any of the three scripts while people are chatting: the new code takes over and nobody notices.
local Mesa = require "mesa"

local server = Mesa.new {
  port = 4000,
  static = "public",
  scripts = { auth = "auth.lua", message = "on_message.lua", disconnect = "on_disconnect.lua" },

  heartbeat = { enabled = true, interval = 10000, maxAttempts = 2 },
  reconnect = { enabled = true, interval = 2000 },

  authentication = {
    timeout = 30000, -- and who does not find one in half a minute may connect again
    disconnectOnFail = false, -- a taken name is no crime: try another one on the same connection
  },

  -- Four bytes is the longest character, 1,000 characters the longest message; the rest is the envelope.
  limits = { maxPayload = 8 * 1024, messagesPerSecond = 20, burst = 40 },
}

-- `server.state` outlives reloads of the scripts (not of the process).
server.state.people = {} -- user id -> { id, name } of everybody whom the room knows to be here
server.state.secrets = {} -- user id -> what its owner proves to be the same person with, see auth.lua
server.state.history = Mesa.array {} -- the last messages, oldest first; an array even while it is empty
server.state.said = 0 -- how many there have been

-- Ids of messages begin with it, so that a page which outlives this process does not mistake a new message for an old one.
server.state.run = ("%x"):format(os.time())
