local auth = require "auth"

return function(client)
  local name, reason = auth(client.request)
  if not name then
    client:disconnect(1008, reason)
    return
  end

  -- A client object takes fields of your own; they live as long as the connection.
  client.name = name
  client.texts, client.bytes = 0, 0
  client:send("hello " .. name)
end
