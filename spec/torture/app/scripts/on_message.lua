local Mesa = require "mesa"

return function(message, client, server)
  local chaos = server.state.chaos
  if message.type == "ASK" then
    local answer = { nonce = client.request.query.nonce, n = message.data.n, text = chaos.ask(message.data.text) }
    client:send(Mesa.Message(0, answer, "ANSWER"), true)
  else
    chaos.attack(client)
  end
end
