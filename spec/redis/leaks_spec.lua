-- Nothing is left of waits for Redis.
local harness = require "spec.support.harness"
local leaks = require "spec.support.leaks"
local redis = require "spec.support.redis"

describe("after many waits for Redis, half of them abandoned by their client,", function()
  it("no handle, reference or byte is left", function()
    local store = redis.start()
    local env = { REDIS_URL = store.uri }
    for name, value in pairs(leaks.environment) do env[name] = value end
    local server = harness.start("spec/server/fixtures/waits.lua", { env = env })
    local report = leaks.check(server, "redis", { clients = 10, messages = 20, n = 20, rounds = 3, slack = 8192 })
    assert.is_true(tonumber(store:command("GET", "waits")) * 2 >= report.waited - 1)
    assert.equal("", server.process.stdout)
    server:stop()
    store:stop()
  end)
end)
