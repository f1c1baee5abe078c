-- Called with every message {"op": 0, "d": ..., "t": "TYPE"} of a client. Errors in here are logged and harm nobody else.
local Mesa = require "mesa"
local Message = Mesa.Message

return function(message, client, server)
  if not client.authenticated then
    return client:disconnect(1008, "authenticate first")
  end

  if message.type == "SAY" then
    server.state.messages = server.state.messages + 1
    -- To everybody. server:send(message, { "alice" }) sends to a user, client:send(message) answers this one.
    server:send(Message(0, {
      from = client.id,
      text = message.data.text,
      number = server.state.messages,
    }, "SAID"))
  end
end
