-- Middleware: what several servers have in common, in modules of its own.
--
--   mesa-lua examples/middleware/server.lua
--
-- logger.lua    writes a line about what happens
-- metrics.lua   counts it, and answers a message of the type "STATS" with the counts
local Mesa = require "mesa"

local server = Mesa.new { port = 4000 }

server:use(require "logger")
server:use(require "metrics")

server:on("connection", function(client)
  client:authenticate(function(data, done)
    if type(data.name) ~= "string" or data.name == "" then return done "a name is needed" end
    done(nil, { id = data.name, user = { name = data.name } })
  end)
  client:on("message", function(message)
    if message.type == "ECHO" then client:send(Mesa.Message(0, message.data, "ECHO"), true) end
  end)
end)
