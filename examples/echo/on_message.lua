-- Called for every message. `true` sends it to this very connection; without it, a client who has logged in
-- would get the echo on each of its connections.
return function(message, client)
  client:send(message, true)
end
