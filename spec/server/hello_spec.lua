local harness = require "spec.support.harness"

for _, options in ipairs(harness.transports) do
  describe("hello over " .. options.name, function()
    local server

    local function hello(config)
      server = harness.lab(config, options)
      return server:connect():hello()
    end

    after_each(function()
      server:stop()
    end)

    it("is the first message, carries no type and no sequence", function()
      local message = hello {}
      assert.equal(10, message.op)
      assert.is_nil(message.t)
      assert.is_nil(message.s)
      assert.is_nil(message.o)
    end)

    it("announces the authentication timeout and the user object by default", function()
      assert.same({ c_authentication_timeout = 10000, rules = { "sends_user_object" } }, hello({}).d)
    end)

    it("announces no authentication timeout when it is off", function()
      assert.is_nil(hello({ authentication = { timeout = false } }).d.c_authentication_timeout)
    end)

    it("announces the default intervals of heartbeat and reconnect when they are enabled", function()
      local d = hello({ heartbeat = { enabled = true }, reconnect = { enabled = true } }).d
      assert.equal(10000, d.c_heartbeat_interval)
      assert.equal(5000, d.c_reconnect_interval)
    end)

    it("announces configured intervals", function()
      local d = hello({
        heartbeat = { enabled = true, interval = 1234 },
        reconnect = { enabled = true, interval = 2345 },
        authentication = { timeout = 3456 },
      }).d
      assert.equal(1234, d.c_heartbeat_interval)
      assert.equal(2345, d.c_reconnect_interval)
      assert.equal(3456, d.c_authentication_timeout)
    end)

    it("announces no interval of what is configured but not enabled", function()
      local d = hello({ heartbeat = { enabled = false, interval = 1234 }, reconnect = { interval = 2345 } }).d
      assert.is_nil(d.c_heartbeat_interval)
      assert.is_nil(d.c_reconnect_interval)
    end)

    it("has an empty array of rules when no rule applies", function()
      assert.matches('"rules":[]', hello({ authentication = { sendUserObject = false } }).raw, 1, true)
    end)

    it("lists the rules in the documented order", function()
      local d = hello({ client = { enforceEqualVersions = true }, options = { storeMessages = true } }).d
      assert.same({ "enforce_equal_versions", "store_messages", "sends_user_object" }, d.rules)
    end)

    it("reaches every client of many that connect at once", function()
      server = harness.lab({}, options)
      local clients = {}
      for i = 1, 30 do
        clients[i] = server:connect()
      end
      for _, client in ipairs(clients) do
        assert.equal(10, client:hello().op)
      end
    end)
  end)
end
