-- limits.scriptMemory: whatever a handler does, it alone fails, and the server goes on within its bound.
local harness = require "spec.support.harness"

local MEGABYTE = 1024 * 1024
local BOUND = 16 * MEGABYTE

describe("a server at limits.scriptMemory", function()
  local server

  after_each(function()
    server.may_be_forced = true -- a handler may still be growing, and hold up the end on a slow machine
    server:stop()
  end)

  local function start(body, before)
    server = harness.lab({ authentication = { timeout = 300000 }, limits = { scriptMemory = BOUND, scriptTime = false } }, { extra = ([[
      local ffi = require "ffi"
      server:on("error", function(err) print("ERROR EVENT", err.code, err.message) end)
      %s
      server:on("connection", function(client)
        client:on("message", function(message)
          local what = message.type
          if what == "PING" then return client:send(Message(0, {}, "PONG"), true) end
          %s
        end)
      end)
    ]]):format(before or "", body) })
    return server:join()
  end

  -- Asks until there is an answer: a message is dropped while more than the bound is kept, as by finalizers that wait for
  -- their turn.
  local function answers(client)
    assert.is_true(harness.loop.wait(function()
      client:send { op = 0, t = "PING" }
      return pcall(client.expect, client, "PONG", { timeout = 500 })
    end, 40000))
  end

  local shapes = {
    ["a list of objects"] = "local t = {} while true do t[#t + 1] = {} end",
    ["a list of numbers"] = "local t = {} for i = 1, 1e9 do t[i] = i end",
    ["strings as keys"] = [[local t = {} for i = 1, 1e9 do t["k" .. i] = i end]],
    ["errors with tracebacks"] =
      [[local t = {} while true do t[#t + 1] = select(2, xpcall(error, debug.traceback, ("e"):rep(100) .. #t)) end]],
    ["one huge string"] = [[return ("x"):rep(1e9)]],
    ["many strings"] = [[local t = {} for i = 1, 1e9 do t[i] = ("x"):rep(i) end]],
    ["a string that doubles"] = [[local s = "x" while true do s = s .. s end]],
    ["a string that grows"] = [[local s, piece = "", ("0123456789"):rep(100000) while true do s = s .. piece end]],
    ["table.concat"] = [[local t, list = {}, {} for i = 1, 100 do t[i] = ("y"):rep(10000) end
      while true do list[#list + 1] = table.concat(t, #list) end]],
    ["decoded JSON"] = [[local list, text = {}, "[" .. ("{},"):rep(20000) .. "1]"
      while true do list[#list + 1] = Mesa.json.decode(text) end]],
    ["one huge JSON"] = [[return Mesa.json.decode("[" .. ("{},"):rep(1000000) .. "1]")]],
    ["coroutines"] = [[local t = {} while true do local c = coroutine.wrap(function() coroutine.yield() end) c() t[#t + 1] = c end]],
    ["closures"] = [[local t = {} for i = 1, 1e9 do t[i] = function() return i end end]],
    ["ffi.new"] = [[local t = {} for i = 1, 1e9 do t[i] = ffi.new("char[?]", 1000) end]],
    ["an error caught in a loop"] = [[while true do pcall(function() local t = {} while true do t[#t + 1] = {} end end) end]],
    ["an error caught in a handler of its own"] =
      [[while true do xpcall(function() local t = {} while true do t[#t + 1] = {} end end, function(e) return e end) end]],
    ["an error caught in coroutines"] =
      [[while true do coroutine.resume(coroutine.create(function() local t = {} while true do t[#t + 1] = {} end end)) end]],
    ["an error caught by an emitter"] = [[while true do client:emit "grow" end]],
    ["finalizers"] = [[local t = {} while true do t[#t + 1] = newproxy(true) getmetatable(t[#t]).__gc = function() end end]],
  }
  for name, code in pairs(shapes) do
    it("ends a handler with " .. name .. ", and serves on", function()
      local client = start(code, [[
        server:on("connection", function(client)
          client:on("grow", function() local t = {} while true do t[#t + 1] = {} end end)
        end)
      ]])
      for _ = 1, 2 do
        client:send { op = 0, t = "GROW" }
        answers(client)
      end
      server:log_contains "not enough memory %(limits.scriptMemory is 16777216%)"
      if not harness.sanitized() then
        assert.is_true(server:rss() < 8 * BOUND, server:rss())
      end
    end)
  end

  it("says where, as an error event", function()
    local client = start "local t = {} while true do t[#t + 1] = {} end"
    client:send { op = 0, t = "GROW" }
    server:stdout_contains("ERROR EVENT\tSCRIPT\t%S*server.lua:%d+: not enough memory", 20000)
  end)

  it("fails new events while others hold the memory, and recovers when they leave", function()
    local watcher = start [[
      client.kept = client.kept or {}
      for _ = 1, 1000 do client.kept[#client.kept + 1] = ("x"):rep(500) .. #client.kept end
      client:send(Message(0, {}, "KEPT"), true)
    ]]
    local holders = {}
    for i = 1, 8 do holders[i] = server:join() end
    harness.loop.wait(function()
      for _, holder in ipairs(holders) do holder:send { op = 0, t = "KEEP" } end
      return server.process.stdout:find "ERROR EVENT\tMEMORY" ~= nil
    end, 30000)
    server:stdout_contains "ERROR EVENT\tMEMORY\tnot enough memory for an event"
    local told = server:log_count "an event is not handled: not enough memory"
    assert.is_true(told >= 1 and told < 60, told)
    for _, holder in ipairs(holders) do holder:close() end
    answers(watcher)
    server:join():close()
  end)

  it("shuts down with beforeExit when all memory is kept", function()
    server = harness.start [[
      local Mesa = require "mesa"
      KEEP = {}
      Mesa.new {
        port = 0, host = "127.0.0.1", limits = { scriptMemory = 8 * 1024 * 1024 },
        beforeExit = function(_, exit)
          local list = {}
          for i = 1, 1000 do list[i] = { i } end
          print("BEFORE EXIT", #list)
          exit(0)
        end,
      }
      Mesa.setTimeout(function() while true do KEEP[#KEEP + 1] = ("e"):rep(30) .. #KEEP end end, 10)
      Mesa.setInterval(function() end, 50)
    ]]
    server:log_contains("error in a timer: %S*server.lua:%d+: not enough memory", 20000)
    server:signal "sigterm"
    assert.equal(0, (server:wait_exit(10000)))
    server:stdout_contains "BEFORE EXIT\t1000"
  end)

  for name, operation in pairs {
    ["ffi.new"] = [[require("ffi").new("char[?]", 1e9)]],
    ["a concatenation"] = "s .. " .. ("s .. "):rep(40) .. "s",
    ["gsub"] = [[(s:gsub(".", ("%0"):rep(40)))]],
  } do
    it("ends in order when " .. name .. " takes more than its reserve at once, with status 3 and a line that says so", function()
      server = harness.start([[
        local Mesa = require "mesa"
        Mesa.new { port = 0, host = "127.0.0.1", limits = { scriptMemory = 8 * 1024 * 1024 } }
        Mesa.setTimeout(function()
          print "BEFORE"
          local s = ("x"):rep(2 * 1024 * 1024)
          return ]] .. operation .. [[

        end, 10)
      ]])
      assert.equal(3, (server:wait_exit(10000)))
      server:log_contains "out of memory: %d+ bytes are in use, %d+ more are wanted, and limits.scriptMemory is 8388608"
      assert.truthy(server.process.stdout:find "BEFORE")
      server:destroy()
      server = { stop = function() end }
    end)
  end
end)
