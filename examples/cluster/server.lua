-- One of several servers that behave as one. Start it twice, on two ports:
--   mesa-lua --port 4000 examples/cluster/server.lua
--   mesa-lua --port 4001 examples/cluster/server.lua
-- A Redis has to run; REDIS_URL says where, redis://127.0.0.1:6379 without it.
local Mesa = require "mesa"
local Message = Mesa.Message
local settings = require "settings"
local persisted_metrics = require "persisted_metrics"

local server = Mesa.new {
  port = 4000,
  redis = settings.redis,
  namespace = settings.namespace,
  sync = { enabled = true }, -- messages to users who are offline wait for them in Redis
  portal = { enabled = true }, -- portal.lua is told what happens here
}

server:use(persisted_metrics { connected = true, messages = true })

server:on("connection", function(client)
  client:authenticate(function(data, done)
    if type(data.name) ~= "string" or data.name == "" then return done("a name is needed") end
    done(nil, { id = data.name, user = { id = data.name } })
  end)

  client:on("message", function(message)
    if message.type ~= "SAY" or not client.authenticated then return end
    local data = message.data
    local said = Message(0, { from = client.id, text = data.text, via = server.port }, "SAID")
    local ok, err = server:send(said, data.to)
    if not ok then client:send(Message(0, { message = err }, "NOT_SENT"), true) end
  end)
end)
