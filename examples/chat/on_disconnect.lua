local Mesa = require "mesa"

local PATIENCE = 2000 -- ms; loading the page again is not leaving

return function(client, _, server)
  local id, state = client.id, server.state
  if not id then
    return -- never had a name
  end

  -- A handler may wait: only this coroutine sleeps, the server goes on.
  Mesa.sleep(PATIENCE)
  if #server:client(id) > 0 then
    return -- back again, or still here in another tab
  end

  local person = state.people[id]
  state.people[id], state.secrets[id] = nil, nil
  if person then
    local ids = {}
    for other in pairs(state.people) do
      ids[#ids + 1] = other
    end
    server:send(Mesa.Message(0, person, "LEFT", { sync = false }), ids)
  end
end
