local harness = require "spec.support.harness"

describe("client:disconnect", function()
  local server, client

  before_each(function()
    server = harness.lab {}
    client = server:join()
  end)

  after_each(function()
    server:stop()
  end)

  local function disconnect(code, reason)
    client:send { op = 0, t = "DISCONNECT", d = { code = code, reason = reason } }
  end

  it("closes with 1000 without a code", function()
    disconnect()
    client:expect_close(1000)
  end)

  it("closes with every code it may use, and its reason", function()
    for _, code in ipairs { 1000, 1001, 1002, 1003, 1007, 1008, 1009, 1010, 1011, 1012, 1013, 1014, 3000, 4000, 4999 } do
      client = server:join()
      disconnect(code, "because")
      assert.equal("because", client:expect_close(code))
    end
  end)

  it("raises on every other code and keeps the connection", function()
    for _, code in ipairs { 0, 999, 1004, 1005, 1006, 1015, 1016, 2999, 5000, -1, 1000.5 } do
      disconnect(code)
      assert.is_string(client:expect("RAISED").d.raised)
    end
  end)

  it("raises on a reason longer than a close frame can carry", function()
    disconnect(4000, ("r"):rep(124))
    assert.is_string(client:expect("RAISED").d.raised)
    disconnect(4000, ("r"):rep(123))
    assert.equal(("r"):rep(123), client:expect_close(4000))
  end)

  it("sends what was queued before it", function()
    client:send { op = 0, t = "SEND_MANY", d = { count = 100 } }
    disconnect(4001)
    client:expect_close(4001)
    local numbered = 0
    for _, message in ipairs(client:drain()) do
      if message.t == "NUMBERED" then
        numbered = numbered + 1
        assert.equal(numbered, message.d.n)
      end
    end
    assert.equal(100, numbered)
  end)

  it("tells the script the code and the reason once", function()
    local bystander = server:join()
    disconnect(4002, "over")
    client:expect_close(4002)
    bystander:send { op = 0, t = "EVENTS" }
    local events = bystander:expect("EVENTS").d.events
    assert.equal(1, #events)
    assert.equal("disconnect", events[1].name)
    assert.equal(4002, events[1].code)
    assert.equal("over", events[1].reason)
  end)
end)

describe("the disconnect event", function()
  local server, bystander

  before_each(function()
    server = harness.lab {}
    bystander = server:join()
  end)

  after_each(function()
    server:stop()
  end)

  local function event_after(leave)
    local client = server:join()
    leave(client)
    local found
    for _ = 1, 200 do
      bystander:send { op = 0, t = "EVENTS" }
      local events = bystander:expect("EVENTS").d.events
      if #events > 0 then
        found = events[#events]
        break
      end
    end
    return found
  end

  it("has the code and the reason of the peer", function()
    local event = event_after(function(client) client:close(4321, "my reason") end)
    assert.equal(4321, event.code)
    assert.equal("my reason", event.reason)
  end)

  it("has 1005 when the peer gave no code", function()
    assert.equal(1005, event_after(function(client) client:close(false) end).code)
  end)

  it("has 1006 when the connection ended without a closing handshake", function()
    assert.equal(1006, event_after(function(client) client:drop() end).code)
  end)
end)

describe("a peer that never answers the close frame", function()
  it("is dropped in the end and does not keep the server from stopping", function()
    local server = harness.lab {}
    local client = server:join("/", { close_answer = false })
    client:send { op = 0, t = "DISCONNECT", d = { code = 4000 } }
    client:expect_close(4000, { keep_open = true })
    server:join("/", { close_answer = false })
    server:stop()
  end)
end)
