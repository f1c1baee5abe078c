-- Decides who a client is. Called with the data of {"op": 2, "d": {...}}, which the client sends first: the page in public/
-- sends {"token": "ada"}.
--
-- Answer with done(nil, { id = ..., user = ... }) to accept (user is what the client gets back, and is optional), or with
-- done(reason) to refuse. The reason goes into the log, never to the client. You may wait in here, and answer later.
return function(data, done)
  -- Anybody may come in under any name. Replace this with a look at a real token or a password.
  local name = type(data) == "table" and data.token
  if type(name) ~= "string" or name == "" or #name > 40 then
    return done("a token is missing")
  end

  done(nil, { id = name, user = { id = name, name = name } })
end
