-- Nothing is left of waits, however they end.
local harness = require "spec.support.harness"
local leaks = require "spec.support.leaks"

local SERVER = "spec/server/fixtures/waits.lua"

describe("after many waits, half of them abandoned by their client,", function()
  local server
  after_each(function() server:stop() end)

  it("no handle, reference or byte is left", function()
    server = harness.start(SERVER, { env = leaks.environment })
    local few = harness.sanitized()
    local report = leaks.check(server, "memory", { clients = 20, messages = 60, n = few and 2 or 12, rounds = few and 1 or 9 })
    assert.is_true(few or report.waited > 100000)
    assert.equal("", server.process.stdout)
  end)

  it("what is left is noticed", function()
    server = harness.start(SERVER, { env = leaks.environment })
    assert.error_matches(function()
      leaks.check(server, "careless", { clients = 4, messages = 4, n = 4, at_most = 8 })
    end, "after 8 rounds: ")
  end)

  it("on the network, too", function()
    server = harness.start(SERVER, { env = leaks.environment })
    leaks.check(server, "network", { clients = 8, messages = 10, n = 10, slack = 2048 })
    assert.equal("", server.process.stdout)
  end)
end)

if not harness.sanitized() then
  describe("under valgrind,", function()
    it("waits leave nothing behind, and touch nothing that is not theirs", function()
      local server = harness.start(SERVER, { valgrind = true, timeout = 60000 })
      for _, way in ipairs { "memory", "network" } do
        leaks.check(server, way, { clients = 4, messages = 5, n = 10 })
      end
      server:stop()
    end)
  end)
end
