-- Messages to everybody wait for the end of the turn: nobody may notice, neither by their order nor by who gets them.
local harness = require "spec.support.harness"

local function start(config, script)
  return harness.start(([[
    local Mesa = require "mesa"
    local Message = Mesa.Message
    local server = Mesa.new { port = 0, host = "127.0.0.1", %s }
    %s
  ]]):format(config, script))
end

describe("messages to everybody", function()
  it("keep their place between messages to one", function()
    local server = start("", [[
      server:on("message", function(message, client)
        local n = message.data.n
        client:send(Message(0, 1, "M"), true)
        server:send(Message(0, 2, "M"))
        client:send(Message(0, 3, "M"), true)
        for i = 4, 3 + n do server:send(Message(0, i, "M")) end
        client:send(Message(0, n + 4, "M"), true)
        server:send(Message(0, n + 5, "M"))
      end)
    ]])
    local one, other = server:join(), server:join()
    for _, n in ipairs { 0, 1, 27, 28, 29, 30, 31, 32, 33, 100 } do
      one:send { op = 0, t = "GO", d = { n = n } }
      for i = 1, n + 5 do assert.equal(i, one:expect("M").d) end
      assert.equal(2, other:expect("M").d)
      for i = 4, 3 + n do assert.equal(i, other:expect("M").d) end
      assert.equal(n + 5, other:expect("M").d)
    end
    server:stop()
  end)

  it("reach whoever is here when they are sent, and nobody else", function()
    local server = start("authentication = { required = true, timeout = false }", [[
      server:on("connection", function(client)
        client:authenticate(function(data, done)
          server:send(Message(0, "before " .. data.id, "M"))
          done(nil, { id = data.id })
          server:send(Message(0, "after " .. data.id, "M"))
        end)
      end)
    ]])
    local one, two = server:join(), server:join()
    one:send { op = 2, d = { id = "one" } }
    assert.equal(22, one:next().op)
    assert.equal("after one", one:expect("M").d)
    two:send { op = 2, d = { id = "two" } }
    assert.equal(22, two:next().op)
    assert.equal("after two", two:next().d)
    assert.equal("before two", one:expect("M").d)
    assert.equal("after two", one:expect("M").d)
    server:stop()
  end)

  it("are written before a connection is closed, and not to one that comes later in the turn", function()
    local server = start("", [[
      server:on("connection", function(client)
        server:send(Message(0, "welcome", "M"))
      end)
      server:on("message", function(message, client)
        server:send(Message(0, "last", "M"))
        client:disconnect(4001, "enough")
        server:send(Message(0, "for the others", "M"))
        if message.type == "ALL" then server:close() end
      end)
    ]])
    local one = server:join()
    assert.equal("welcome", one:expect("M").d)
    local two = server:join()
    assert.equal("welcome", one:expect("M").d)
    assert.equal("welcome", two:expect("M").d)
    one:send { op = 0, t = "GO" }
    assert.equal("last", one:expect("M").d)
    one:expect_close(4001)
    assert.equal("last", two:expect("M").d)
    assert.equal("for the others", two:expect("M").d)
    two:send { op = 0, t = "ALL" }
    assert.equal("last", two:expect("M").d)
    two:expect_close(4001)
    server:stop()
  end)

  it("count as buffered at once", function()
    local server = start("", [[
      server:on("message", function(message, client)
        for _ = 1, 5 do server:send(Message(0, ("x"):rep(1000), "M")) end
        print("buffered:", client.buffered)
      end)
    ]])
    local one = server:join()
    one:send { op = 0, t = "GO" }
    for _ = 1, 5 do one:expect "M" end
    assert.truthy(server:stdout_contains "buffered:%s+51%d%d")
    server:stop()
  end)

  it("from a timer and from an error handler arrive as well, also with a slow reader among the recipients", function()
    local server = start("limits = { maxBackpressure = 65536 }", [[
      server:on("error", function(err) server:send(Message(0, err.code, "ERROR")) end)
      server:on("message", function(message, client)
        if message.type == "FLOOD" then
          local text = ("x"):rep(4000)
          local sent = 0
          Mesa.setInterval(function()
            for _ = 1, 50 do server:send(Message(0, text, "F")) end
          end, 1)
        end
      end)
    ]])
    local slow, quick = server:join(), server:join()
    slow:stop_reading()
    quick:send { op = 0, t = "FLOOD" }
    assert.equal("BACKPRESSURE", quick:expect("ERROR", { timeout = 20000 }).d)
    assert.equal(4000, #quick:expect("F").d)
    server:destroy()
  end)
end)
