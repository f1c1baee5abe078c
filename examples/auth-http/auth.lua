-- Asks the service whose token it is: {"op": 2, "d": {"token": "alice-secret"}}.
local Mesa = require "mesa"

return function(data, done, client, server)
  if type(data) ~= "table" or type(data.token) ~= "string" then return done "no token" end

  local response, err = Mesa.http.post(server.state.service .. "/session", {
    json = { token = data.token, ip = client.request.ip },
    timeout = 5000, -- below authentication.timeout: the client is told that it failed, not that it was too slow
  })
  if client.closed then return end -- nobody is there any more to be told
  if not response then return done("the service does not answer: " .. err) end
  if response.status == 401 then return done "unknown token" end

  local user = response.status == 200 and response.json
  if type(user) ~= "table" then return done("the service answered " .. response.status) end
  done(nil, { id = user.id, user = user })
end
