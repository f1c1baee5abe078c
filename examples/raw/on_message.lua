-- `message.data` is a string, whatever was sent; `message.binary` tells bytes from text.
return function(message, client)
  if message.binary then
    client.bytes = client.bytes + #message.data
    client:send(message.data, { binary = true }) -- bytes come back unchanged
    return
  end

  client.texts = client.texts + 1
  client:send(client.texts .. ": " .. message.data:upper())
end
