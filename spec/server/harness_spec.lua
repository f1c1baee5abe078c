-- The specs are worth what their harness notices.
local harness = require "spec.support.harness"

describe("the harness", function()
  local server

  after_each(function()
    server:destroy()
  end)

  local function fails(pattern, fn, ...)
    local ok, err = pcall(fn, ...)
    assert.is_false(ok)
    assert.matches(pattern, tostring(err))
  end

  it("fails a spec whose server ends with another code than 0", function()
    server = harness.lab({}, { setup = "config.beforeExit = function(_, exit) exit(3) end" })
    fails("ended with code 3", server.stop, server)
  end)

  it("fails a spec whose server has died", function()
    server = harness.lab({}, { extra = "Mesa.setTimeout(function() os.exit(0) end, 10)" })
    assert.is_true(server.process:wait(5000))
    fails("ended by itself", server.stop, server)
  end)

  it("fails a spec whose server printed a sanitizer's report", function()
    server = harness.lab({}, { extra = [[io.stderr:write("x.c:1: runtime error: bad\n")]] })
    fails("runtime error", server.stop, server)
  end)

  it("says what arrived in place of what was expected, and does not wait for ever", function()
    server = harness.lab {}
    local client = server:connect()
    fails('expected type NOTHING; arrived:\n  {"op":10', client.expect, client, "NOTHING", { timeout = 50 })
    fails("expected close 4000", client.expect_close, client, 4000, { timeout = 50 })
    fails("expected silence", client.expect_silence, client, 10)
  end)

  it("notices at once when the connection it waits on has ended", function()
    server = harness.lab {}
    local client = server:join()
    client:send { op = 0, t = "DISCONNECT", d = { code = 4000 } }
    local begin = harness.loop.now_ms()
    fails("closed with 4000", client.expect, client, "NOTHING", { timeout = 60000 })
    assert.is_true(harness.loop.now_ms() - begin < 30000)
  end)

  it("says why a server did not start", function()
    server = harness.lab {}
    fails("not today", harness.start, "-- \nerror('not today')\n")
  end)
end)
