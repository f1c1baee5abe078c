-- Where a handler may wait, what it is told elsewhere, and that nothing begun there reaches another handler.
local harness = require "spec.support.harness"

local servers = {}
local function start(...)
  servers[#servers + 1] = harness.start(...)
  return servers[#servers]
end

-- Runs `body` in a handler of a program, which prints; its lines.
local function lines_of(body)
  local program = harness.launch("server.lua", { files = {
    ["server.lua"] = ([[
local Mesa = require "mesa"
local function caught(...) print((select(2, pcall(...)))) end
Mesa.setTimeout(function()
%s
end, 0)]]):format(body),
    ["waits.lua"] = 'local Mesa = require "mesa"\n\nMesa.sleep(1)\nreturn true\n',
  } })
  assert.equal(0, program:wait_exit(20000), program:output())
  local output, log = program.process.stdout, program.process.stderr
  program:stop()
  local lines = {}
  for line in output:gmatch "[^\n]+" do lines[#lines + 1] = line end
  return lines, log
end

local REASON = ": Lua cannot suspend a function that C code calls"

describe("a wait inside a function that C code calls", function()
  after_each(function()
    for _, server in ipairs(servers) do server:stop() end
    servers = {}
  end)

  it("raises at its line and leaves the handlers of others alone", function()
    local server = start [[
      local Mesa = require "mesa"
      local server = Mesa.new { port = 0, host = "127.0.0.1" }
      server:on("message", function(message, client)
        if message.type == "RENDER" then
          return ("Hello {{alice}}"):gsub("{{(.-)}}", function(name)
            Mesa.sleep(50)
            return name
          end)
        end
        local who = Mesa.await(function(resolve) Mesa.setTimeout(function() resolve "mine" end, 300) end)
        client:send(Mesa.Message(0, { who = who or "nobody" }, "WHO"), true)
      end)
    ]]
    local client = server:join()
    client:send { op = 0, t = "RENDER" }
    client:send { op = 0, t = "WHO" }
    assert.equal("mine", client:expect(0).d.who)
    assert.matches("server.lua:6: Mesa.sleep cannot wait inside string.gsub" .. REASON, server.process.stderr)
  end)

  it("raises wherever the C code is", function()
    local callers = {
      ["string.gsub"] = 'string.gsub("x", "x", wait)',
      ["table.sort"] = "table.sort({ 1, 2, 3 }, wait)",
      load = "assert(load(wait))",
      error = 'xpcall(error, function() caught(wait) end, "x")',
    }
    for name, code in pairs(callers) do
      local lines = lines_of("local function wait()\n  Mesa.sleep(1)\n  print 'waited'\nend\ncaught(function() " .. code .. " end)")
      assert.matches("server.lua:5: Mesa.sleep cannot wait inside " .. name .. REASON, lines[1])
      for _, line in ipairs(lines) do assert.not_equal("waited", line) end
    end
  end)

  it("begins nothing, whatever waits", function()
    local lines, log = lines_of [[
      local url = "http://127.0.0.1:1/"
      local client = Mesa.Client("ws://127.0.0.1:1", { autoConnect = false })
      client:on("disconnected", function() print "it had begun to connect" end)
      local redis = Mesa.redis.connect "redis://127.0.0.1:1"
      for name, wait in pairs {
        ["Mesa.sleep"] = function() Mesa.sleep(1) end,
        ["Mesa.await"] = function() Mesa.await(function() print "called" end) end,
        ["Mesa.http"] = function() Mesa.http.get(url) end,
        ["A command of Redis without a callback function"] = function() redis:get "key" end,
        ["A command of Redis without a callback function "] = function() redis:pipeline { { "GET", "key" } } end,
        ["client:connect"] = function() client:connect() end,
        ["client:authenticate"] = function() return client:authenticate {} end,
      } do
        local ok, err = pcall(string.gsub, "x", "x", wait)
        assert(not ok and err:find("server.lua:%d+: " .. name:gsub(" $", "") .. " cannot wait inside string.gsub"), err)
      end
      Mesa.sleep(50)
      print "done"
    ]]
    assert.same({ "done" }, lines)
    assert.is_nil(log:find("lost", 1, true))
  end)

  it("does not concern pcall, metamethods, iterators, finalizers and functions of Lua", function()
    assert.same({ "7" }, (lines_of [[
      local n = 0
      local function wait() Mesa.sleep(1) n = n + 1 end
      pcall(wait)
      local p = newproxy(true)
      getmetatable(p).__gc = wait
      p = nil
      collectgarbage()
      Mesa.sleep(20)
      xpcall(wait, print)
      local _ = setmetatable({}, { __index = wait }).x
      for _ in function() wait() end do end
      setmetatable({}, { __call = wait })()
      loadstring("local wait = ... wait()")(wait)
      print(n)
    ]]))
  end)
end)

describe("a wait while a script loads", function()
  after_each(function()
    for _, server in ipairs(servers) do server:stop() end
    servers = {}
  end)

  local WHAT_TO_DO = ': call it in a handler, such as the one of server:on("listening", ...)'

  it("says so at its line in the main script", function()
    local program = harness.launch 'local Mesa = require "mesa"\nlocal t = 5\nMesa.sleep(t)\n'
    assert.equal(1, (program:wait_exit(10000)))
    assert.truthy(program.process.stderr:find(
      "server.lua:3: Mesa.sleep cannot wait while a script loads", 1, true), program.process.stderr)
    assert.truthy(program.process.stderr:find(WHAT_TO_DO, 1, true))
    program:destroy()
  end)

  it("says so in modules that handlers require", function()
    local lines = lines_of [[caught(require, "waits") caught(dofile, os.getenv "PWD" and arg[0]:gsub("server", "waits"))]]
    assert.truthy(lines[1]:find("waits.lua:3: Mesa.sleep cannot wait while a script loads", 1, true), lines[1])
    assert.truthy(lines[1]:find(WHAT_TO_DO, 1, true))
    assert.truthy(lines[2]:find("waits.lua:3: Mesa.sleep cannot wait while a script loads", 1, true), lines[2])
  end)

  it("says so in handler scripts, at the start and at a reload", function()
    local waits = 'local Mesa = require "mesa"\nMesa.sleep(1)\nreturn function() end\n'
    local main = 'require "mesa".new { port = 0, host = "127.0.0.1", scripts = { message = "on_message.lua" } }'
    local program = harness.launch("server.lua", { files = { ["server.lua"] = main, ["on_message.lua"] = waits } })
    assert.equal(1, (program:wait_exit(10000)))
    assert.truthy(program.process.stderr:find("on_message.lua:2: Mesa.sleep cannot wait while a script loads", 1, true))
    program:destroy()
    local server = start("server.lua", { files = { ["server.lua"] = main, ["on_message.lua"] = "return function() end" } })
    server:write_file("on_message.lua", waits)
    server:log_contains "on_message.lua:2: Mesa.sleep cannot wait while a script loads"
  end)
end)

describe("a handler's own coroutine", function()
  it("is neither yielded nor resumed by scripts", function()
    local lines = lines_of [[
      local co
      Mesa.setTimeout(function()
        co = coroutine.running()
        Mesa.sleep(100)
        print "slept"
      end, 0)
      Mesa.sleep(20)
      print(coroutine.status(co))
      caught(coroutine.resume, co, "not this")
      print(coroutine.status(co))
      Mesa.sleep(200)
      print(coroutine.status(co), coroutine.resume(co))
      caught(coroutine.yield)
      caught(coroutine.resume, 5)
    ]]
    assert.equal("suspended", lines[1])
    assert.matches("coroutine.resume of a handler's coroutine: .*Mesa.await", lines[2])
    assert.equal("suspended", lines[3])
    assert.equal("slept", lines[4])
    assert.equal("dead\tfalse\tcannot resume dead coroutine", lines[5])
    assert.matches("coroutine.yield outside of a coroutine of your own: .*Mesa.await", lines[6])
    assert.matches("bad argument #1", lines[7])
  end)

  it("is never met again in another handler by a script that knows it", function()
    assert.same({ "0 of 50" }, (lines_of [[
      local seen, again, count = {}, 0, 0
      local function handler()
        local co = coroutine.running()
        if seen[co] then again = again + 1 end
        seen[co] = true
        count = count + 1
        if count == 50 then print(again .. " of " .. count) else Mesa.setTimeout(handler, 0) end
      end
      handler()
    ]]))
  end)

  it("serves the scripts' own coroutines as ever", function()
    assert.same({ "1\t2", "3", "true\tend", "dead", "nil" }, (lines_of [[
      local co = coroutine.create(function(a, b)
        print(a, b)
        print((coroutine.yield()))
        return "end"
      end)
      coroutine.resume(co, 1, 2)
      print(coroutine.resume(co, 3))
      print(coroutine.status(co))
      print(coroutine.wrap(function() return coroutine.running() == nil or nil end)())
    ]]))
  end)

  -- debug.getupvalue reaches the resume that C modules have.
  it("is abandoned when C code resumes it while it waits, and what it waited for goes to nobody", function()
    local lines, log = lines_of [[
      local resume
      for i = 1, 10 do
        local name, value = debug.getupvalue(coroutine.resume, i)
        if name == "resume" then resume = value end
      end
      for _, wait in ipairs {
        function() Mesa.sleep(50) end,
        function() Mesa.await(function(resolve) Mesa.setTimeout(resolve, 50, "answer") end) end,
        function() Mesa.http.get("http://127.0.0.1:1") end,
      } do
        local co
        Mesa.setTimeout(function()
          co = coroutine.running()
          wait()
          print "resumed"
        end, 0)
        repeat Mesa.sleep(0) until co
        print(resume(co))
        for _ = 1, 20 do Mesa.setTimeout(function() print(Mesa.await(function() end, 100)) end, 0) end
        Mesa.sleep(300)
      end
    ]]
    local counts = {}
    for _, line in ipairs(lines) do counts[line] = (counts[line] or 0) + 1 end
    assert.same({ resumed = 3, ["true"] = 3, ["nil\ttimeout"] = 60 }, counts)
    assert.equal(3, select(2, log:gsub("a handler's coroutine was resumed from C code", "")))
  end)
end)
