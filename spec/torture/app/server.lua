-- The server of the torture: every handler waits, fails and collects at random, and answers ASK nevertheless with what its own
-- client has asked. Its environment: TORTURE_SEED, REDIS_URL (pauses), LIAR_URL (answers nonsense), TORTURE_MEMORY (bytes).
local Mesa = require "mesa"
local chaos = require "chaos"

local seed = tonumber(os.getenv "TORTURE_SEED")
local memory = tonumber(os.getenv "TORTURE_MEMORY")
math.randomseed(seed)
collectgarbage("setpause", 60)
collectgarbage("setstepmul", 800)

local server = Mesa.new {
  port = 0,
  host = "127.0.0.1",
  redis = os.getenv "REDIS_URL",
  scripts = "scripts",
  sync = { enabled = true },
  authentication = { disconnectOnFail = false },
  limits = { scriptMemory = memory },
}
server.state.chaos = chaos.new(Mesa, server, os.getenv "REDIS_URL", os.getenv "LIAR_URL")

local middleware = { "onConnection", "onDisconnection", "onMessageReceived", "onMessageSent", "onAuthenticated", "onError" }
server:use(function()
  local handlers = {}
  for _, name in ipairs(middleware) do
    handlers[name] = function() chaos.trouble() end
  end
  return handlers
end)

for _, event in ipairs { "connection", "disconnection", "message", "error", "reload" } do
  server:on(event, function() chaos.trouble() end)
  server:once(event, function() chaos.trouble() end)
end
server:on("connection", function(client)
  for _, event in ipairs { "disconnect", "drain", "error" } do
    client:on(event, function() chaos.trouble() end)
  end
end)
server:on("request", function(request, response)
  chaos.pause()
  response:send(request.query.text)
end)
Mesa.setInterval(function() chaos.trouble() end, 20)
