-- What people do in the room. Each kind of message has a function here; to add one, write it and save.
local Mesa = require "mesa"
local Message = Mesa.Message

local LONGEST = 1000 -- characters in a message
local REMEMBERED = 50 -- messages shown to those who come later

local handlers = {}

-- What is said in the room reaches those who are in it: "*" would be everybody, those without a name included.
local function send_to_room(server, message, excluding)
  local ids = {}
  for id in pairs(server.state.people) do
    ids[#ids + 1] = id
  end
  server:send(message, ids, excluding)
end

-- "I have been authenticated, show me the room." Sent by the page each time it connects.
function handlers.JOIN(_, client, server)
  local state = server.state

  local people = Mesa.array {}
  for _, person in pairs(state.people) do
    people[#people + 1] = person
  end
  local room = { people = people, history = state.history, longest = LONGEST }
  client:send(Message(0, room, "ROOM"), true)

  -- A second tab, or somebody who is back before we missed them, is no news.
  if not state.people[client.id] then
    local person = { id = client.id, name = client.user.name }
    state.people[client.id] = person
    send_to_room(server, Message(0, person, "JOINED", { sync = false }))
  end
end

-- {"text": "...", "nonce": "..."}: the nonce comes back, so that the page knows which of its messages has arrived.
function handlers.SAY(data, client, server)
  local text = type(data.text) == "string" and data.text:gsub("^%s+", ""):gsub("%s+$", "") or ""
  local characters = select(2, text:gsub("[^\128-\191]", ""))
  if characters == 0 or characters > LONGEST then
    return
  end

  local state = server.state
  state.said = state.said + 1
  local said = {
    id = state.run .. "-" .. state.said,
    from = { id = client.id, name = client.user.name },
    text = text,
    time = os.time(),
    nonce = type(data.nonce) == "string" and data.nonce:sub(1, 32) or nil,
  }

  local history = state.history
  history[#history + 1] = said
  if #history > REMEMBERED then
    table.remove(history, 1)
  end
  send_to_room(server, Message(0, said, "SAID"))
end

-- {"active": true}: to all but the typist, and of no interest later, hence not kept for those who are away.
function handlers.TYPING(data, client, server)
  local typing = { id = client.id, active = data.active == true }
  send_to_room(server, Message(0, typing, "TYPING", { sync = false }), { client.id })
end

return function(message, client, server)
  local handler = handlers[message.type]
  if handler and client.authenticated and type(message.data) == "table" then
    handler(message.data, client, server)
  end
end
