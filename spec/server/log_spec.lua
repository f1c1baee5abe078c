-- The log is bounded, whatever peers do, and says what it left out.
local harness = require "spec.support.harness"

local loop = harness.loop

local SERVER = [[
  local Mesa = require "mesa"
  local server = Mesa.new { port = 0, host = "127.0.0.1" }
  local events = 0
  server:on("error", function() events = events + 1 end)
  server:on("message", function(message, client)
    if message.type == "FAIL" then error("cannot do this: " .. message.data.text) end
    if message.type == "OTHER" then error "something else" end
    if message.type == "NUL" then
      Mesa.log.warn("told a\0b")
      error "raised a\0b"
    end
    client:send(Mesa.Message(0, { events = events }, "EVENTS"), true)
  end)
]]

describe("the log", function()
  local server

  after_each(function()
    server:stop()
  end)

  local function flood(message, count)
    local client = server:join()
    for _ = 1, count do client:send(message) end
    client:send { op = 0, t = "COUNT" }
    return client, client:expect("EVENTS", { timeout = 20000 }).d.events
  end

  -- How many records there were in all, when the last ones have been counted.
  local function told(pattern, key, wanted)
    local written, counted
    loop.wait(function()
      written, counted = server:log_count(pattern), 0
      for n in server.process.stderr:gmatch("… and (%d+) more of " .. key .. " in %d+ s\n") do counted = counted + tonumber(n) end
      return written + counted >= wanted
    end, 5000)
    return written, counted
  end

  for _, op in ipairs { 10, 22 } do
    it(("has a few lines a second of a client's op %d, and the number of the others"):format(op), function()
      server = harness.start(SERVER)
      local _, events = flood({ op = op }, 3000)
      assert.equal(3000, events) -- scripts are told of each
      local written, counted = told("PROTOCOL: an op that only servers send", "PROTOCOL", 3000)
      assert.equal(3000, written + counted)
      assert.is_true(written < 300, written .. " lines")
    end)
  end

  it("has a few tracebacks a second of a failing handler, and does not lose another error among them", function()
    server = harness.start(SERVER)
    local client = flood({ op = 0, t = "FAIL", d = { text = ("x"):rep(20000) } }, 1000)
    client:send { op = 0, t = "OTHER" }
    server:log_contains "error in message: [^\n]*server.lua:%d+: something else\n    stack traceback:"
    local written, counted = told("cannot do this", "SCRIPT at [^\n]*server.lua:%d+", 1000)
    assert.equal(1000, written + counted)
    assert.is_true(written < 100, written .. " lines")
    assert.is_true(#server.process.stderr < 600000, #server.process.stderr .. " bytes")
  end)

  for _, format in ipairs { "text", "json" } do
    it("has what stands behind a NUL, as " .. format, function()
      server = harness.start(SERVER, { flags = { "--log-format", format } })
      server:join():send { op = 0, t = "NUL" }
      local nul = format == "json" and "\\u0000" or "\\x00"
      server:log_contains("told a" .. nul .. "b")
      server:log_contains("raised a" .. nul .. "b[^\r]*stack traceback")
      assert.is_nil(server.process.stderr:find("\0", 1, true))
    end)
  end
end)
