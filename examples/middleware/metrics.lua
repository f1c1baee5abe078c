-- Counts what happens at a server; a message of the type "STATS" is answered with the counts.
local Mesa = require "mesa"

return function(server)
  local counts = { connections = 0, messages = 0, errors = 0, types = {} }

  local function answer(client)
    local stats = {
      connections = counts.connections,
      open = server:count(),
      messages = counts.messages,
      errors = counts.errors,
      types = counts.types,
    }
    client:send(Mesa.Message(0, stats, "STATS"), true)
  end

  return {
    onConnection = function() counts.connections = counts.connections + 1 end,
    onError = function() counts.errors = counts.errors + 1 end,
    onMessageReceived = function(message, client)
      counts.messages = counts.messages + 1
      local kind = message.type or "none"
      counts.types[kind] = (counts.types[kind] or 0) + 1
      if kind == "STATS" then answer(client) end
    end,
  }
end
