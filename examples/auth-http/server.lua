-- A server that asks another service who its clients are.
--
--   mesa-lua examples/auth-http/service.lua     the service, on port 4500
--   mesa-lua examples/auth-http/server.lua      the server, on port 4000
--
-- auth.lua waits for the service's answer in straight lines; the server serves everybody else meanwhile. A thousand clients
-- that come at once are checked at once: they take as long as one of them.
local Mesa = require "mesa"
local Message = Mesa.Message

local server = Mesa.new {
  port = 4000,
  scripts = { auth = "auth.lua" },
  reconnect = { enabled = true, interval = 2000 },
}

-- Where the service is; another one can be named on the command line.
server.state.service = arg[1] or "http://localhost:4500"

server:on("message", function(message, client)
  client:send(Message(0, message.data, message.type), true)
end)
