-- What a load has started ends with its code: when it is replaced, and when it fails.
local harness = require "spec.support.harness"

local function main(text)
  return ([[
    local Mesa = require "mesa"
    server = Mesa.new { port = 0, host = "127.0.0.1", scripts = { message = "on_message.lua" } }
    bus = server
    %s
    -- says how often each of the running codes has been heard since the last request
    heard = {}
    function hear(name) heard[name] = (heard[name] or 0) + 1 end
    server:on("request", function(request, response)
      if request.path == "/ping" then bus:emit "ping" end
      if request.path == "/ping" then heard.connections = nil else heard.connections = server:count() end
      response:json(heard)
      heard = {}
    end)
  ]]):format(text or "")
end

-- Ways to go on after the load, each of which calls hear(name) again and again, or at every "ping".
local ways = {
  timers = [[Mesa.setInterval(function() hear(name) end, 5)]],
  ["timers that ended"] = [[
    Mesa.setTimeout(function() end, 1)
    Mesa.setInterval(function(n) hear(n) end, 5, name)
  ]],
  ["listeners of the server"] = [[bus:on("ping", function() hear(name) end)]],
  ["listeners that hear once"] = [[
    local function again()
      hear(name)
    end
    bus:once("ping", again)
    bus:on("ping", again)
  ]],
  ["middleware"] = [[
    server:use(function() return { onError = function() hear(name) end } end)
    bus:on("ping", function() server:_emit_error({ message = "x" }, "spec") end)
  ]],
  ["luv handles"] = [[
    local uv = require "luv"
    local timer = uv.new_timer()
    timer:start(5, 5, function() hear(name) end)
    local closed = uv.new_timer()
    closed:close()
  ]],
}

describe("what a load has started", function()
  local server

  local function start(files, text)
    files["server.lua"] = main(text)
    server = harness.start(nil, { files = files })
  end

  -- What was heard since the last time; with a path, how many connections there are.
  local function heard(path)
    return require("cjson").decode(server:http({ path = path or "/ping" }).body)
  end

  -- The names that are heard from now on: `expected` and nobody else.
  local function expect_heard(expected)
    heard() -- what was heard before
    for _ = 1, 3 do
      local names
      assert(harness.loop.wait(function()
        names = heard()
        return next(names) ~= nil
      end, 5000), "nobody is heard\n" .. server:output())
      for name in pairs(names) do assert.equal(expected, name) end
    end
  end

  after_each(function() server:stop() end)

  for what, code in pairs(ways) do
    local function ticker(name, rest)
      return ("local Mesa, name = require 'mesa', %q\n%s\n%s"):format(name, code, rest or "return { name = name }")
    end

    it("ends when its code is replaced, or fails, or is no longer required: " .. what, function()
      local with, without = "require 'ticker' return function() end", "return function() end"
      start { ["on_message.lua"] = without, ["ticker.lua"] = ticker "first" }
      server:save("on_message.lua", with)
      expect_heard "first"
      server:save("ticker.lua", ticker("bad", "error 'not ready'"), "reload failed")
      expect_heard "first"
      server:save("ticker.lua", ticker "second")
      expect_heard "second"
      server:save("on_message.lua", with .. " -- saved")
      expect_heard "second"
      server:save("on_message.lua", ticker("script", without), "on_message%.lua")
      expect_heard "script"
      server:save("on_message.lua", ticker("other script", without))
      expect_heard "other script"
      server:save("on_message.lua", without)
      heard()
      harness.loop.sleep(50)
      assert.same({}, heard())
    end)
  end

  it("ends when the main script has required it, too", function()
    start({ ["on_message.lua"] = "return function() end",
      ["ticker.lua"] = "require('mesa').setInterval(function() hear 'first' end, 5) return {}" }, "require 'ticker'")
    expect_heard "first"
    server:save("ticker.lua", "require('mesa').setInterval(function() hear 'second' end, 5) return 5", "ticker%.lua")
    expect_heard "second"
    server:save("ticker.lua", "require('mesa').setInterval(function() hear 'third' end, 5) return 5", "ticker%.lua")
    expect_heard "third"
  end)

  it("ends when a handler has required in vain", function()
    start { ["on_message.lua"] = [[
        local Mesa = require "mesa"
        return function(_, client) pcall(require, "late") client:send(Mesa.Message(0, {}, "DONE"), true) end
      ]],
      ["late.lua"] = "local M = require 'mesa' M.setInterval(function() hear 'late' end, 5) error 'not ready'" }
    local client = server:join()
    for _ = 1, 3 do
      client:send { op = 0, t = "ASK" }
      client:expect "DONE"
    end
    harness.loop.sleep(50)
    assert.same({}, heard())
  end)

  it("stays on SIGHUP when nothing of it has changed, and ends with a script that runs again", function()
    start { ["on_message.lua"] = "return function() end", ["ticker.lua"] = [[
        TICKERS = (TICKERS or 0) + 1
        local load = TICKERS
        bus:on("ping", function() hear("ticker " .. load) end)
        return {}
      ]] }
    server:save("on_message.lua", [[
        require "ticker"
        LOADS = (LOADS or 0) + 1
        local load = LOADS
        require("mesa").setInterval(function() hear("script " .. load) end, 5)
        return function() end
      ]])
    for _ = 1, 3 do
      local mark = server:log_mark()
      server:signal "sighup"
      server:log_contains("reloaded", 5000, mark)
    end
    heard()
    harness.loop.wait(function() return heard()["script 4"] end, 5000)
    harness.loop.sleep(50)
    local names = heard()
    assert.is_truthy(names["script 4"])
    names["script 4"] = nil
    assert.same({ ["ticker 1"] = 1 }, names)
  end)

  it("closes the Mesa.Client of a replaced and of a failed script, and no other", function()
    start({ ["on_message.lua"] = "return function() end" }, [[
      server:on("listening", function(port) theirs = Mesa.Client("ws://127.0.0.1:" .. port) end)
    ]])
    local function connections_become(n)
      local count
      assert(harness.loop.wait(function()
        count = heard('/connections').connections
        return count == n
      end, 5000), ("%s connections, not %d"):format(tostring(count), n))
    end
    connections_become(1)
    local text = "local Mesa = require 'mesa' Mesa.Client('ws://127.0.0.1:' .. server.port) "
    for n = 1, 3 do
      server:save("on_message.lua", text .. "return function() end -- " .. n)
      connections_become(2)
      server:save("on_message.lua", text .. "error 'not ready' -- " .. n, "reload failed")
      harness.loop.sleep(50)
      connections_become(2)
    end
    server:save("on_message.lua", "return function() end")
    connections_become(1)
  end)

  it("does not reload for a server that could not be made", function()
    start({ ["on_message.lua"] = "require('mesa').setInterval(function() hear 'script' end, 5) return function() end" }, [[
      Mesa.new { server = server, path = "/a" }
      assert(not pcall(Mesa.new, { server = server, path = "/a", scripts = { message = "on_message.lua" } }))
      server:on("reload", function(event) print("reload", event.version) end)
    ]])
    server:save("on_message.lua", "return function(message) end")
    server:stdout_contains "reload\t2\n"
    heard()
    harness.loop.sleep(50)
    assert.same({}, heard())
    assert.equal(1, server:log_count "reloaded")
    assert.equal(0, server:log_count "error")
  end)

  it("closes the server of a module that failed while the program started", function()
    start({ ["on_message.lua"] = "return function() end",
      ["app.lua"] = "require('mesa').new { port = 0, host = '127.0.0.1' } error 'not ready'" }, "assert(not pcall(require, 'app'))")
    assert.equal(1, server:log_count "listening on")
  end)
end)
