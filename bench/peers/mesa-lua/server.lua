-- The same server for mesa-lua. ECHO_RAW passes `d` on unread, which Mesa has no counterpart for.
local Mesa = require "mesa"
local Message = Mesa.Message

local server = Mesa.new {
  host = "127.0.0.1",
  authentication = { timeout = false },
}

local handlers = {
  ECHO = function(message, client) client:send(Message(0, message.data, "ECHO"), true) end,
  ECHO_RAW = function(message, client) client:send(message, true) end,
  PUBLISH = function(message) server:send(Message(0, message.data, "PUBLISH")) end,
  COLLECT = function(message, client)
    collectgarbage()
    collectgarbage()
    client:send(Message(0, message.data, "COLLECT"), true)
  end,
}

server:on("connection", function(client)
  client:authenticate(function(data, done) done(nil, { id = data.id, user = { id = data.id } }) end)
  client:on("message", function(message)
    local handler = handlers[message.type]
    if handler then handler(message, client) end
  end)
end)
