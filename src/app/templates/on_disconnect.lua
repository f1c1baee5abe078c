-- Called when a connection has ended. What the client was is still here: id and user, when it had authenticated.
local Mesa = require "mesa"
local Message = Mesa.Message

return function(client, event, server)
  print("disconnected", client.id or client.serverId, event.code, event.reason)
  if client.id then
    server:send(Message(0, { id = client.id }, "LEFT"))
  end
end
