-- --log-level debug: what becomes of the connection to Redis.
local harness = require "spec.support.harness"
local redis = require "spec.support.redis"

describe("--log-level debug", function()
  it("shows that Redis is there, what is subscribed to, and that it is gone", function()
    local instance = redis.start()
    local server = harness.start(('require "mesa".new { port = 0, host = "127.0.0.1", redis = "redis://127.0.0.1:%d" }\n')
      :format(instance.port), { flags = { "--log-level", "debug" } })
    server:log_contains "debug redis: connected\n"
    server:log_contains "debug redis: subscribed to ws\n"
    instance:kill()
    server:log_contains "debug redis: no connection: %S"
    server:stop()
    instance:stop()
  end)
end)
