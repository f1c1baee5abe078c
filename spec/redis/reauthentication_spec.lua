-- A client that becomes another user while what it was sent as the first one is still on its way.
local cluster = require "spec.support.cluster"
local loop = require "spec.support.loop"

local script = [[
local Mesa = require "mesa"
local Message = Mesa.Message
local server = Mesa.new(config)
local chunk = ("q"):rep(15000)
server:on("error", function(err) print("ERROR " .. err.code) end)
server:on("connection", function(c)
  c:authenticate(function(data, done)
    if data.again then
      while not c.closed and c.buffered < 184000 do c:send(Message(0, chunk, "DIRECT"), true) end
      for _ = 1, 9 do server:send(Message(0, chunk, "HELD"), { c.id }) end
    end
    done(nil, { id = data.id })
  end)
end)
]]

describe("authenticating again as somebody else", function()
  local c
  before_each(function() c = cluster.start() end)
  after_each(function() c:stop() end)

  it("leaves nobody behind when the queue overflows while the first one's backlog is fetched", function()
    local node = c:script({
      sync = { enabled = true }, limits = { maxBackpressure = 200000 }, authentication = { timeout = false },
    }, script)
    c:settle(1)
    local client = node:join(nil, { receive_buffer = 4096 })
    c.redis:command("CLIENT", "PAUSE", 1500, "ALL")
    client:send { op = 2, d = { id = ("first"):rep(9) } }
    client:expect(22)
    client:stop_reading()
    client:send { op = 2, d = { id = ("second"):rep(9), again = true } }
    node:stdout_contains("ERROR BACKPRESSURE", 10000)
    c:expect_presence({}, 0, 10000)
    assert.truthy(loop.wait(function() return c.redis:command("EXISTS", "mesa:users") == 0 end, 1000))
  end)
end)
