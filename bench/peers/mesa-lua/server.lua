-- The same server for mesa-lua. ECHO_RAW passes `d` on unread, which Mesa has no counterpart for; ECHO_SLEEP waits for the loop
-- in between; ECHO_USER sends to the user instead of to the connection.
--   server.lua [heartbeat] [middleware] [redis=URI] [cert=FILE key=FILE]
local Mesa = require "mesa"
local Message = Mesa.Message

local with = {}
for _, word in ipairs(arg) do
  local name, value = word:match "^(%w+)=?(.*)$"
  with[name] = value
end

local server = Mesa.new {
  host = "127.0.0.1",
  authentication = { timeout = false },
  heartbeat = { enabled = with.heartbeat ~= nil },
  redis = with.redis,
  tls = with.cert and { cert = with.cert, key = with.key },
}

if with.middleware then
  local seen = 0
  server:use(function()
    return { onMessageReceived = function() seen = seen + 1 end }
  end)
end

local handlers = {
  ECHO = function(message, client) client:send(Message(0, message.data, "ECHO"), true) end,
  ECHO_RAW = function(message, client) client:send(message, true) end,
  ECHO_SLEEP = function(message, client)
    Mesa.sleep(0)
    client:send(Message(0, message.data, "ECHO_SLEEP"), true)
  end,
  ECHO_USER = function(message, client) client:send(Message(0, message.data, "ECHO_USER")) end,
  PUBLISH = function(message) server:send(Message(0, message.data, "PUBLISH")) end,
  COLLECT = function(message, client)
    collectgarbage()
    collectgarbage()
    client:send(Message(0, message.data, "COLLECT"), true)
  end,
}

local function authenticate(data, done) done(nil, { id = data.id, user = { id = data.id } }) end

server:on("connection", function(client)
  client:authenticate(authenticate)
end)

server:on("message", function(message, client)
  local handler = handlers[message.type]
  if handler then handler(message, client) end
end)
