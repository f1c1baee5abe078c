-- A hook of debug.sethook is for the handler that sets it, and for nobody else.
local harness = require "spec.support.harness"

describe("debug.sethook", function()
  local server
  after_each(function() server:stop() end)

  local function start(source)
    server = harness.start([[
      local Mesa = require "mesa"
      local Message = Mesa.Message
      local server = Mesa.new { port = 0, host = "127.0.0.1" }
      local lines = 0
      local function count() lines = lines + 1 end
      local function hooked() return select(2, debug.gethook()) ~= "" end
      server:on("connection", function(client)
        client:on("message", function(message)
          if message.type == "ASK" then
            return client:send(Message(0, { lines = lines, hooked = hooked() }, "ANSWER"), true)
          end
]] .. source .. [[

        end)
      end)
    ]])
    return server:join(), server:join()
  end

  local function ask(client)
    client:send { op = 0, t = "ASK" }
    return client:expect("ANSWER").d
  end

  it("in a handler sees its lines, and ends with it", function()
    local client, other = start [[
      debug.sethook(count, "l")
      local n = 0
      n = n + 1
    ]]
    client:send { op = 0, t = "GO" }
    local mine, others = ask(client), ask(other)
    assert.is_true(mine.lines >= 2)
    assert.same({ lines = mine.lines, hooked = false }, others)
  end)

  it("ends with the error that its hook raises", function()
    local client, other = start [[
      debug.sethook(function() error "enough" end, "", 1)
      return lines + 1
    ]]
    client:send { op = 0, t = "GO" }
    server:log_contains "enough"
    assert.is_false(ask(other).hooked)
  end)

  it("ends when its handler waits, whatever comes first then", function()
    local client, other = start [[
      debug.sethook(count, "l")
      Mesa.sleep(20)
      client:send(Message(0, { hooked = hooked() }, "AWAKE"), true)
    ]]
    client:send { op = 0, t = "GO" }
    assert.is_false(ask(other).hooked)
    assert.is_false(client:expect("AWAKE").d.hooked)
  end)

  it("in the main script and in a timer does not reach handlers", function()
    server = harness.start [[
      local Mesa = require "mesa"
      local server = Mesa.new { port = 0, host = "127.0.0.1" }
      local function raise() error "reached" end
      Mesa.setTimeout(function() debug.sethook(raise, "l") end, 1)
      server:on("connection", function(client)
        client:send(Mesa.Message(0, { hooked = select(2, debug.gethook()) ~= "" }, "CAME"), true)
      end)
      debug.sethook(function() end, "l")
    ]]
    assert.is_false(server:connect():expect("CAME").d.hooked)
  end)
end)
