-- Subscriptions, connections and portals that a load has started end with its code.
local harness = require "spec.support.harness"
local redis = require "spec.support.redis"

local MAIN = [[
local Mesa = require "mesa"
FEED = Mesa.redis.connect(os.getenv "REDIS_URL")
function heard(text) print("heard by " .. text) end
Mesa.new { port = 0, host = "127.0.0.1", scripts = { message = "on_message.lua" } }
]]

describe("what a load has started at Redis", function()
  local store, server

  before_each(function()
    store = redis.start()
  end)

  after_each(function()
    server:stop()
    store:stop()
  end)

  local function start(files)
    files["server.lua"], files["on_message.lua"] = MAIN, files["on_message.lua"] or "return function() end"
    server = harness.start(nil, { files = files, env = { REDIS_URL = store.uri } })
  end

  -- How many listen on the channel, once it is `n`.
  local function subscribers_become(channel, n)
    local count
    assert(harness.loop.wait(function()
      count = store:command("PUBSUB", "NUMSUB", channel)[2]
      return count == n
    end, 5000), ("%s listen on %s"):format(tostring(count), channel))
  end

  local function listener(name, rest)
    return ("FEED:subscribe('news', function() heard %q end)\n%s"):format(name, rest or "return {}")
  end

  it("ends: subscriptions of failed and of replaced code", function()
    start { ["listener.lua"] = listener("the failed", "error 'not ready'") }
    server:save("on_message.lua", "require 'listener' return function() end", "reload failed")
    subscribers_become("news", 0)
    server:save("listener.lua", listener "the first")
    subscribers_become("news", 1)
    server:save("listener.lua", listener "the second")
    subscribers_become("news", 1)
    store:command("PUBLISH", "news", "x")
    server:stdout_contains "heard by the second\n"
    assert.is_nil(server.process.stdout:find("first", 1, true))
    server:save("on_message.lua", "return function() end")
    subscribers_become("news", 0)
  end)

  it("keeps what the new code has begun with the same function", function()
    start {
      ["say.lua"] = "return function() heard 'somebody' end",
      ["on_message.lua"] = "FEED:subscribe('news', require 'say') return function() end",
    }
    subscribers_become("news", 1)
    server:save("on_message.lua", "FEED:subscribe('news', require 'say') return function() end -- saved")
    store:command("PUBLISH", "news", "x")
    server:stdout_contains "heard by somebody\n"
    harness.loop.sleep(50)
    assert.equal(1, select(2, server.process.stdout:gsub("somebody", "")))
  end)

  it("ends: portals, and connections once nobody uses them", function()
    local code = [[
      local Mesa = require "mesa"
      Mesa.Portal(os.getenv "REDIS_URL")
      local own = Mesa.redis.connect(os.getenv "REDIS_URL")
      own:subscribe("own", function() end)
      collectgarbage()
      %s
    ]]
    start { ["on_message.lua"] = code:format "return function() end" }
    local function portals_become(n)
      local count
      assert(harness.loop.wait(function()
        count = store:command("SCARD", "available_portals_pool")
        return count == n
      end, 5000), ("%s portals"):format(tostring(count)))
    end
    portals_become(1)
    for n = 1, 3 do
      server:save("on_message.lua", code:format("error 'not ready' -- " .. n), "reload failed")
      server:save("on_message.lua", code:format("return function() end -- " .. n))
      portals_become(1)
      subscribers_become("own", 1)
    end
    server:save("on_message.lua", "collectgarbage() collectgarbage() return function() collectgarbage() end")
    portals_become(0)
    subscribers_become("own", 0)
  end)
end)
