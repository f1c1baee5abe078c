-- Called when somebody has connected, before they have said who they are: auth.lua decides that next.
return function(client)
  print("connected", client.serverId, client.request.ip)
end
