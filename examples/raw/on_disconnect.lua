return function(client, event)
  if client.name then
    print(("%s left (%d) after %d texts and %d bytes"):format(client.name, event.code, client.texts, client.bytes))
  end
end
