-- {"op": 2, "d": {"token": "..."}}: the database knows whose token it is.
local database = require "database"

return function(data, done)
  if type(data) ~= "table" or type(data.token) ~= "string" then return done "a token is needed" end
  local user, err = database.user_of(data.token) -- waits; the server goes on meanwhile
  if not user then return done(err) end
  done(nil, { id = user.id, user = user })
end
