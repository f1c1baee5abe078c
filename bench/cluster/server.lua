-- One of two servers of a cluster: sends on what its clients ask for. REDIS_URL says where Redis is.
local Mesa = require "mesa"

local server = Mesa.new { port = 0, host = "127.0.0.1", redis = os.getenv "REDIS_URL" }

server:on("connection", function(client)
  client:authenticate(function(data, done) done(nil, { id = data.id }) end)
  client:on("message", function(message)
    local data = message.data
    server:send(Mesa.Message(0, { n = data.n, text = data.text }, "N"), data.to)
  end)
end)
