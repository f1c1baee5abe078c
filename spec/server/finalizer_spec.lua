-- Finalizers of scripts: run by the loop like handlers, whatever they do.
local harness = require "spec.support.harness"

describe("a finalizer of a script", function()
  local server

  after_each(function()
    server:stop()
  end)

  -- A server whose clients' messages run `body` with the message's type as `what`.
  local function handling(before, body)
    server = harness.lab({}, { extra = ([[
      local function proxy(fn)
        local object = newproxy(true)
        getmetatable(object).__gc = fn
        return object
      end
      server:on("error", function(err) print("ERROR EVENT", err.code, err.message) end)
      %s
      server:on("connection", function(client)
        client:on("message", function(message)
          local what = message.type
          %s
          client:send(Message(0, {}, "DONE"), true)
        end)
      end)
    ]]):format(before, body) })
    return server:join()
  end

  local function say(client, what)
    client:send { op = 0, t = what, d = {} }
    client:expect "DONE"
  end

  local failing = {
    ["of a proxy"] = [[proxy(function() error "in a finalizer" end)]],
    ["that is assigned twice"] = [[
      local object = newproxy(true)
      getmetatable(object).__gc = print
      getmetatable(object).__gc = function() error "in a finalizer" end
    ]],
    ["of a proxy's copy"] = [[newproxy(proxy(function() error "in a finalizer" end))]],
    ["of ffi.gc"] = [[require("ffi").gc(require("ffi").new "int[1]", function() error "in a finalizer" end)]],
    ["of ffi.metatype"] = [[
      kind = kind or require("ffi").metatype("struct { int x; }", { __gc = function() error "in a finalizer" end })
      kind()
    ]],
    ["of debug.setmetatable"] = [[
      debug.setmetatable(newproxy(), { __gc = function() error "in a finalizer" end })
    ]],
    ["assigned behind debug.setmetatable"] = [[
      local metatable = {}
      debug.setmetatable(newproxy(), metatable)
      metatable.__gc = function() error "in a finalizer" end
    ]],
  }
  for kind, code in pairs(failing) do
    it(kind .. " that raises is logged with its line, is an error event, and harms nobody", function()
      local client = handling("", ([[
        if what == "MAKE" then
          %s
        elseif what == "COLLECT" then
          collectgarbage() collectgarbage()
        end
      ]]):format(code))
      say(client, "MAKE")
      say(client, "COLLECT")
      server:log_contains "error in a finalizer: %S*server.lua:%d+: in a finalizer"
      server:stdout_contains "ERROR EVENT\tSCRIPT\t%S*server.lua:%d+: in a finalizer"
      say(client, "MORE")
    end)
  end

  it("that raises does not end a server that is busy with messages", function()
    local client = handling("collectgarbage('setpause', 100)", [[
      proxy(function() error "in a finalizer" end)
      client:send(Message(0, { list = message.data }, "A"), true)
    ]])
    for i = 1, 2000 do client:send { op = 0, t = "X", d = { 1, 2, { a = "b" .. i } } } end
    for _ = 1, 2000 do client:expect "DONE" end
    server:log_contains "error in a finalizer"
  end)

  it("that encodes JSON changes nothing of what others encode", function()
    local client = handling([[
      local json = Mesa.json
      wrong, ran = 0, 0
      local function again()
        proxy(function()
          ran = ran + 1
          json.encode { ("z"):rep(100) }
          Message(0, ("z"):rep(100), "Z"):serialize()
        end)
      end
      function work(n)
        for i = 1, n do
          again()
          local text = json.encode { i, "aaaa" }
          local envelope = Message(0, { i }, "T"):serialize()
          if text ~= ('[%d,"aaaa"]'):format(i) or not envelope:find('"d":[' .. i .. ']', 1, true) then wrong = wrong + 1 end
        end
      end
    ]], [[
      if what == "WORK" then work(3000) collectgarbage() collectgarbage() end
      if what == "TELL" then print("WRONG", wrong, "RAN", ran > 1000) end
    ]])
    say(client, "WORK")
    say(client, "MORE")
    harness.loop.wait(function()
      say(client, "TELL")
      return server.process.stdout:find "RAN\ttrue" ~= nil
    end, 10000)
    server:stdout_contains "WRONG\t0\tRAN\ttrue"
  end)

  it("may wait, like any handler", function()
    local client = handling("", [[
      if what == "MAKE" then proxy(function() Mesa.sleep(10) print "WAITED" end) else collectgarbage() collectgarbage() end
    ]])
    say(client, "MAKE")
    say(client, "COLLECT")
    server:stdout_contains "WAITED"
  end)

  it("is one of several that run in a turn: what they refer to does not pile up", function()
    local client = handling([[
      local MANY, run, turns = 400, 0, 0
      local function work()
        local til = os.clock() + 0.00015
        while os.clock() < til do end
        run = run + 1
      end
      local function count_turns()
        local idle = require("luv").new_idle()
        idle:start(function()
          turns = turns + 1
          if run < MANY then return end
          idle:close()
          server:send(Message(0, { turns = turns }, "ALL"), { "*" })
        end)
      end
    ]], [[
      for _ = 1, MANY do proxy(work) end
      collectgarbage()
      count_turns()
    ]])
    say(client, "MAKE")
    local turns = client:expect("ALL", { timeout = 20000 }).d.turns
    assert.is_true(turns < 300, tostring(turns))
  end)

  it("that a script calls itself runs at once", function()
    local client = handling("", [[
      local object = newproxy(true)
      local metatable = getmetatable(object)
      metatable.__gc = function(o) return o == object and "AT ONCE" end
      print(debug.getmetatable(object).__gc(object), metatable.__gc(object))
    ]])
    say(client, "X")
    server:stdout_contains "AT ONCE\tAT ONCE"
  end)

  it("meets closed clients where they were collected together", function()
    local client = handling([[
      slots = {}
      for i = 1, 20 do
        local held = {}
        slots[i] = { held = held, object = proxy(function()
          local c = held.client
          if not c then return end
          local ok, why = c:send(Message(0, {}, "X"))
          print("HELD", c.closed, c.authenticated, ok, why, c:disconnect(), tostring(c) ~= nil, c.nothing, c.buffered,
            #(c.request or {}), c.server == nil or c.server == server)
        end) }
      end
      server:on("connection", function(c)
        local slot = table.remove(slots)
        if slot then slot.held.client, c.slot = c, slot end
      end)
    ]], "collectgarbage() collectgarbage()")
    for _ = 1, 10 do server:join():close() end
    harness.loop.wait(function()
      say(client, "X")
      return select(2, server.process.stdout:gsub("HELD\t", "")) >= 10
    end, 10000)
    server:stdout_contains "HELD\ttrue\tfalse\tnil\tclosed\tnil\t"
    assert.equal(0, server:log_count "error in a finalizer")
  end)

  it("meets the API closed when the program ends, and an error in one is only logged", function()
    local client = handling([[
      local api = {
        timer = function() return Mesa.setTimeout(print, 1) end,
        sleep = function() return Mesa.sleep(1) end,
        redis = function() return Mesa.redis.connect "redis://127.0.0.1:1" end,
        client = function() return Mesa.Client "ws://127.0.0.1:1/" end,
        await = function() return Mesa.await(function() end) end,
        http = function() return Mesa.http.get "http://127.0.0.1:1/" end,
        send = function() return server:send(Message(0, {}, "X")) end,
        to = function() return kept:send(Message(0, {}, "X")) end,
        leave = function() return kept:disconnect() end,
        count = function() return server:count() end,
        list = function() return server:clients()() end,
        close = function() return server:close() end,
        stop = function() return Mesa.clearTimeout(timer) end,
        json = function() return Mesa.json.encode { 1 } end,
        decode = function() return Mesa.json.decode "[1]" end,
        new = function() return Mesa.new { port = 0 } end,
        module = function() return require "none" end,
      }
      timer = Mesa.setInterval(function() end, 1000)
      server:on("connection", function(c) kept = c end)
      keep = {}
      for name, fn in pairs(api) do
        keep[name] = proxy(function() print("AT THE END", name, pcall(fn)) end)
      end
      keep.last = proxy(function() error "the last error" end)
    ]], "")
    say(client, "X")
    server:signal "sigterm"
    assert.equal(0, (server:wait_exit()))
    local out = server.process.stdout
    for _, name in ipairs { "timer", "sleep", "redis", "client", "await", "http", "new", "module" } do
      assert.truthy(out:find("AT THE END\t" .. name .. "\tfalse\t"), name .. "\n" .. out)
    end
    for _, name in ipairs { "timer", "new" } do
      assert.truthy(out:find("AT THE END\t" .. name .. "\tfalse\t[^\n]*closed"), name .. "\n" .. out)
    end
    for _, name in ipairs { "send", "to", "leave", "close" } do
      assert.truthy(out:find("AT THE END\t" .. name .. "\ttrue\tnil\tclosed"), name .. "\n" .. out)
    end
    assert.truthy(out:find "AT THE END\tjson\ttrue\t%[1%]")
    server:log_contains "error in a finalizer: %S*server.lua:%d+: the last error"
  end)
end)
