-- One line about everything that happens at a server.
local Mesa = require "mesa"

local function who(client)
  return ("%s (%s)"):format(client.id or "somebody", client.request.ip)
end

return function()
  return {
    onConnection = function(client) Mesa.log.info(who(client) .. " connected") end,
    onAuthenticated = function(client) Mesa.log.info(who(client) .. " logged in") end,
    onMessageReceived = function(message, client)
      Mesa.log.info(("%s sent %s"):format(who(client), message.type or "op " .. message.opcode))
    end,
    onDisconnection = function(client, event) Mesa.log.info(("%s left with %d"):format(who(client), event.code)) end,
    onError = function(err, client) Mesa.log.warn(("%s: %s"):format(client and who(client) or "server", err.message)) end,
  }
end
