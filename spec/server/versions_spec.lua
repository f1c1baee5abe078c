local harness = require "spec.support.harness"

for _, transport in ipairs(harness.transports) do
  describe("client.enforceEqualVersions over " .. transport.name, function()
    local server, client

    local function start(config)
      server = harness.lab({ client = config }, transport)
      client = server:join()
    end

    local function say(version)
      client:send { op = 0, t = "CLIENT_VERSION", d = { v = version } }
    end

    local function still_served()
      client:send { op = 0, t = "ECHO", d = { n = 1 } }
      assert.equal("ECHO", client:next().t)
    end

    after_each(function()
      server:stop()
    end)

    it("closes another version with 1002", function()
      start { enforceEqualVersions = true }
      say "1.5.7"
      client:expect_close(1002)
    end)

    it("accepts the protocol's own version by default and keeps the message from scripts", function()
      start { enforceEqualVersions = true }
      say "1.5.8"
      still_served()
    end)

    it("accepts the configured version and no other", function()
      start { enforceEqualVersions = true, version = "9.9.9" }
      say "9.9.9"
      still_served()
      client = server:join()
      say "1.5.8"
      client:expect_close(1002)
    end)

    for what, data in pairs { ["no version"] = "{}", ["a number"] = '{"v":1.5}', ["null"] = "null", ["a list"] = "[]" } do
      it("closes a CLIENT_VERSION that carries " .. what .. " with 1002", function()
        start { enforceEqualVersions = true }
        client:send('{"op":0,"t":"CLIENT_VERSION","d":' .. data .. "}")
        client:expect_close(1002)
      end)
    end

    it("is off by default: the message goes to scripts", function()
      start(nil)
      say "0.0.1"
      assert.same({ op = 0, t = "CLIENT_VERSION", d = { v = "0.0.1" } }, client:expect("GOT").d)
    end)

    it("looks at op 0 only", function()
      start { enforceEqualVersions = true }
      client:send { op = 7, t = "CLIENT_VERSION", d = { v = "0.0.1" } }
      assert.equal(7, client:expect("GOT").d.op)
    end)
  end)
end
