-- Gives a name to whoever comes in: {"op": 2, "d": {"name": "Ann", "token": "a secret that the page has made up"}}.
--
-- A name belongs to the first who brings it, for as long as they are here. The token is how a second tab, or the page
-- after a lost connection, shows that it is the same person.
local Mesa = require "mesa"

-- Invisible characters and changes of direction: with these one could look like somebody else.
local deceptive = {
  "[%z\1-\31\127]", -- control characters
  "\194[\128-\160]", -- more of them, and the no-break space
  "\226\128[\139-\143\168-\175]", -- zero width, line separators, embeddings and overrides
  "\226\129[\160-\175]", -- joiners and isolates
  "\239\187\191", -- the byte order mark
}

local function length(text) -- in characters, not bytes
  return select(2, text:gsub("[^\128-\191]", ""))
end

-- The name as it will be shown, or nil and what is wrong with it in words for the page.
local function check_name(name)
  if type(name) ~= "string" then
    return nil, "Please choose a name."
  end
  for _, pattern in ipairs(deceptive) do
    if name:find(pattern) then
      return nil, "That name has invisible characters in it. Please leave them out."
    end
  end

  name = name:gsub("%s+", " "):gsub("^ ", ""):gsub(" $", "")
  if length(name) < 2 or length(name) > 20 then
    return nil, "A name has 2 to 20 characters."
  end

  -- Letters of any alphabet, that is, all that is not ASCII. Note that "*" is not a letter: as an id it would be everybody.
  local stranger = name:match("[^%w%-_.' \128-\255]")
  if stranger then
    return nil, ("A name can have letters, digits, spaces and - _ . ' in it, but no %s"):format(stranger)
  end
  return name
end

return function(data, done, client, server)
  local function refuse(kind, text)
    client:send(Mesa.Message(0, { message = text }, kind), true)
    done(text)
  end

  if type(data) ~= "table" or type(data.token) ~= "string" or #data.token < 16 or #data.token > 64 then
    return refuse("NAME_REFUSED", "This page is out of date. Please load it again.")
  end
  local name, reason = check_name(data.name)
  if not name then
    return refuse("NAME_REFUSED", reason)
  end

  local id = name:lower() -- "Ann" and "ann" are one person
  if client.authenticated and client.id ~= id then
    return refuse("NAME_REFUSED", "You are already here as " .. client.user.name .. ".")
  end

  local secrets = server.state.secrets
  if secrets[id] and secrets[id] ~= data.token then
    return refuse("NAME_TAKEN", ("Somebody called %s is already here. Please take another name."):format(name))
  end

  secrets[id] = data.token
  done(nil, { id = id, user = { id = id, name = name } })
end
