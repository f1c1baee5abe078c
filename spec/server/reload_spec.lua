local harness = require "spec.support.harness"

local MAIN = [[
local Mesa = require "mesa"
local config = { port = 0, host = "127.0.0.1", scripts = %s %s }
server = Mesa.new(config)
server.state.count = 0
server:on("reload", function(event)
  print(("event reload %%s version %%d in %%s"):format(table.concat(event.files, " "), event.version, type(event.duration)))
end)
server:on("error", function(err) print("event error " .. err.code) end)
]]

-- Answers every message with the version.
local function answering(version, extra)
  return ([[
    local Mesa = require "mesa"
    %s
    return function(message, client, server)
      server.state.count = server.state.count + 1
      client:send(Mesa.Message(0, { n = message.data.n, version = %s, count = server.state.count }, "ANSWER"), true)
    end
  ]]):format(extra or "", version)
end

describe("hot reload", function()
  local server, client

  local function start(files, options)
    options = options or {}
    files["server.lua"] = files["server.lua"]
      or MAIN:format(options.scripts or '{ message = "on_message.lua" }', options.config or "") .. (options.main or "")
    server = harness.start(nil, { files = files, flags = options.flags })
    client = server:join()
  end

  local function version_now()
    client:send { op = 0, t = "ASK", d = { n = 1 } }
    return client:expect("ANSWER").d.version
  end

  -- Asks until the answer is from that version.
  local function expect_version(version, timeout)
    local latest
    local reached = harness.loop.wait(function()
      latest = version_now()
      return latest == version
    end, timeout or 5000)
    assert(reached, ("version %s still answers\n%s"):format(tostring(latest), server:output()))
  end

  after_each(function()
    server:stop()
  end)

  describe("on save", function()
    it("takes a file that was replaced", function()
      start { ["on_message.lua"] = answering(1) }
      assert.equal(1, version_now())
      server:write_file("on_message.lua", answering(2))
      expect_version(2)
    end)

    it("takes a file that was written in place", function()
      start { ["on_message.lua"] = answering(1) }
      server:write_file_in_place("on_message.lua", answering(2))
      expect_version(2)
      server:write_file_in_place("on_message.lua", answering(3))
      expect_version(3)
    end)

    it("takes a file that was removed and written anew, and serves the old one meanwhile", function()
      start { ["on_message.lua"] = answering(1) }
      os.remove(server:path "on_message.lua")
      harness.loop.sleep(150)
      assert.equal(1, version_now())
      server:write_file("on_message.lua", answering(2))
      expect_version(2)
    end)

    it("keeps connections and server.state", function()
      start { ["on_message.lua"] = answering(1) }
      version_now()
      server:write_file("on_message.lua", answering(2))
      expect_version(2)
      client:send { op = 0, t = "ASK", d = { n = 1 } }
      assert.is_true(client:expect("ANSWER").d.count >= 3)
      assert.is_nil(client.close_code)
    end)

    it("names file, version and duration in the event and in the log", function()
      start { ["on_message.lua"] = answering(1) }
      server:write_file("on_message.lua", answering(2))
      server:stdout_contains "event reload %S*on_message%.lua version 2 in number"
      server:log_contains "on_message%.lua.*version 2.*%d+%.?%d* ms"
      server:write_file("on_message.lua", answering(3))
      server:stdout_contains "event reload %S*on_message%.lua version 3"
    end)

    it("joins a burst of saves into few reloads", function()
      start { ["on_message.lua"] = answering(1) }
      for version = 2, 41 do
        server:write_file_in_place("on_message.lua", answering(version))
      end
      expect_version(41)
      assert.is_true(select(2, server.process.stdout:gsub("event reload", "")) <= 10)
    end)

    it("does nothing with --no-watch", function()
      start({ ["on_message.lua"] = answering(1) }, { flags = { "--no-watch" } })
      server:write_file("on_message.lua", answering(2))
      harness.loop.sleep(400)
      assert.equal(1, version_now())
    end)

    it("ignores other files of the folder", function()
      start { ["on_message.lua"] = answering(1) }
      server:write_file("notes.lua", "this is not Lua")
      server:write_file("on_message.lua.swp", "neither")
      harness.loop.sleep(300)
      assert.equal(1, version_now())
      assert.is_nil(server.process.stdout:find("event", 1, true))
    end)
  end)

  describe("on request", function()
    it("takes everything on SIGHUP, watched or not", function()
      start({ ["on_message.lua"] = answering(1) }, { flags = { "--no-watch" } })
      server:write_file("on_message.lua", answering(2))
      server:signal "sighup"
      expect_version(2)
    end)

    it("takes everything on POST /reload of the admin endpoint", function()
      start({ ["on_message.lua"] = answering(1) }, { flags = { "--no-watch" }, config = ", admin = { port = 0 }" })
      local admin = server.admin_port
      server:write_file("on_message.lua", answering(2))
      assert.equal(200, server:http({ method = "POST", path = "/reload" }, { port = admin }).status)
      expect_version(2)
      server:write_file("on_message.lua", "return function(")
      local response = server:http({ method = "POST", path = "/reload" }, { port = admin })
      assert.equal(500, response.status)
      assert.matches("on_message.lua:1:", response.body, 1, true)
      assert.equal(2, version_now())
    end)
  end)

  describe("of code that is no good", function()
    for what, bad in pairs {
      ["has a syntax error"] = { "local x = \nreturn function() end end", "on_message%.lua:%d+:" },
      ["throws while it loads"] = { "\nerror('not today')", "on_message%.lua:2: not today" },
      ["returns no function"] = { "return { 5 }", "on_message%.lua" },
      ["returns nothing"] = { "local x = 1", "on_message%.lua" },
      ["requires what is missing"] = { "require 'no.such.module' return function() end", "no%.such%.module" },
      ["is empty"] = { "", "on_message%.lua" },
    } do
      it("keeps the old code when the new one " .. what .. ", says where, and takes the repaired file", function()
        start { ["on_message.lua"] = answering(1) }
        local mark = server:log_mark()
        server:write_file("on_message.lua", bad[1])
        server:log_contains(bad[2], 5000, mark)
        assert.equal(1, version_now())
        server:write_file("on_message.lua", answering(2))
        expect_version(2)
      end)
    end

    it("is reported as an error event", function()
      start { ["on_message.lua"] = answering(1) }
      server:write_file("on_message.lua", "return function(")
      server:stdout_contains "event error"
    end)

    it("swaps nothing when one of several scripts is bad", function()
      start({
        ["shared.lua"] = "return 1",
        ["on_message.lua"] = answering "require('shared')",
        ["on_connection.lua"] = "local v = require('shared') return function() end",
      }, { scripts = '{ message = "on_message.lua", connection = "on_connection.lua" }' })
      assert.equal(1, version_now())
      local mark = server:log_mark()
      server:write_file("shared.lua", "return 1 +")
      server:log_contains("shared%.lua:1:", 5000, mark)
      assert.equal(1, version_now())
      server:write_file("shared.lua", "return 2")
      expect_version(2)
    end)
  end)

  describe("of modules", function()
    it("follows those that a script requires, directly or not", function()
      start {
        ["on_message.lua"] = answering("version", "local version = require 'lib.outer'"),
        ["lib/outer.lua"] = "return require('lib.inner') * 10",
        ["lib/inner.lua"] = "return 1",
      }
      assert.equal(10, version_now())
      server:write_file("lib/inner.lua", "return 2")
      expect_version(20)
      server:write_file("lib/outer.lua", "return require('lib.inner') * 100")
      expect_version(200)
    end)

    it("follows a module that a handler requires while it runs", function()
      start {
        ["on_message.lua"] = answering("require('late')"),
        ["late.lua"] = "return 1",
      }
      assert.equal(1, version_now())
      server:write_file("late.lua", "return 2")
      expect_version(2)
    end)

    it("keeps the old module when the new one is bad", function()
      start {
        ["on_message.lua"] = answering("version", "local version = require 'numbers'"),
        ["numbers.lua"] = "return 1",
      }
      server:write_file("numbers.lua", "return return")
      server:log_contains "numbers%.lua:1:"
      assert.equal(1, version_now())
      server:write_file("numbers.lua", "return 3")
      expect_version(3)
    end)
  end)

  describe("of a folder of scripts", function()
    it("takes all four by name, and one that appears later", function()
      start({
        ["handlers/on_message.lua"] = answering(1),
        ["handlers/on_disconnect.lua"] = "return function(client, event) print('left ' .. event.code) end",
      }, { scripts = '"handlers"' })
      assert.equal(1, version_now())
      server:write_file("handlers/on_connection.lua", [[
        return function(client) client:send(require("mesa").Message(0, {}, "WELCOME"), true) end
      ]])
      server:log_contains "reloaded [^\n]*on_connection%.lua"
      local other = server:join()
      other:expect "WELCOME"
      server:write_file("handlers/on_disconnect.lua", "return function(client, event) print('gone ' .. event.code) end")
      server:log_contains "reloaded [^\n]*on_disconnect%.lua"
      other:close(4007)
      server:stdout_contains "gone 4007"
    end)

    it("takes auth.lua, also for clients that are connected", function()
      start({
        ["handlers/auth.lua"] = "return function(data) return { id = 'old' } end",
      }, { scripts = '"handlers"' })
      local other = server:join()
      server:write_file("handlers/auth.lua", "return function(data) return { id = 'new' } end")
      server:log_contains "reloaded [^\n]*auth%.lua"
      other:send { op = 2 }
      assert.same({ id = "new" }, other:expect(22).d)
    end)
  end)

  describe("of what is under way", function()
    it("lets waiting handlers finish on the code they began with, a hundred of them", function()
      local function slow(version)
        return (answering(version):gsub("return function%(message, client, server%)", ([[%%0
          if message.type == "WAIT" then
            client:send(Mesa.Message(0, {}, "BEGUN"), true)
            local word = Mesa.await(function(resolve) table.insert(server.state.waiting, resolve) end)
            return client:send(Mesa.Message(0, { version = %d, word = word }, "WAITED"), true)
          elseif message.type == "GO" then
            for _, resolve in ipairs(server.state.waiting) do resolve "go" end
            return
          end]]):format(version)))
      end
      start({ ["on_message.lua"] = slow(1) }, { main = "server.state.waiting = {}" })
      local waiting = {}
      for i = 1, 100 do
        waiting[i] = server:join()
        waiting[i]:send { op = 0, t = "WAIT" }
        waiting[i]:expect "BEGUN"
      end
      server:write_file("on_message.lua", slow(2))
      expect_version(2)
      client:send { op = 0, t = "GO" }
      for _, one in ipairs(waiting) do assert.same({ version = 1, word = "go" }, one:expect("WAITED").d) end
    end)

    it("ends the timers of the script's own load and no others", function()
      start({
        ["on_message.lua"] = answering(1, "Mesa.setInterval(function() print 'tick of 1' end, 10)"),
        ["on_connection.lua"] = [[
          require("mesa").setInterval(function() print "tick of another script" end, 10)
          return function() end
        ]],
      }, {
        scripts = '{ message = "on_message.lua", connection = "on_connection.lua" }',
        main = 'Mesa.setInterval(function() print "tick of main" end, 10)\n',
      })
      server:stdout_contains "tick of 1\n"
      server:write_file("on_message.lua", answering(2, "Mesa.setInterval(function() print 'tick of 2' end, 10)"))
      server:stdout_contains "tick of 2\n"
      local mark = #server.process.stdout
      assert.is_true(harness.loop.wait(function()
        local new = server.process.stdout:sub(mark)
        return new:find("tick of 2", 1, true) and new:find("tick of another script", 1, true) and new:find("tick of main", 1, true)
      end, 5000))
      assert.is_nil(server.process.stdout:find("tick of 1\n", mark, true))
    end)

    it("ends the timers of a load that failed", function()
      start { ["on_message.lua"] = answering(1) }
      server:write_file("on_message.lua", 'require("mesa").setInterval(function() print "tick of the failed" end, 5)\nerror("no")')
      server:log_contains "on_message%.lua:2: no"
      harness.loop.sleep(60)
      assert.is_nil(server.process.stdout:find("tick of the failed", 1, true))
    end)

    it("keeps listeners that a handler registered on a client", function()
      start { ["on_message.lua"] = answering(1, "local seen = setmetatable({}, { __mode = 'k' })"):gsub(
        "server.state.count = server", [[if not seen[client] then
          seen[client] = true
          client:on("disconnect", function() print("listener of 1") end)
        end
        %0]]) }
      version_now()
      server:write_file("on_message.lua", answering(2))
      expect_version(2)
      client:close()
      server:stdout_contains "listener of 1"
    end)
  end)

  it("many times over leaves no memory behind", function()
    start { ["on_message.lua"] = answering(1) }
    local function reload_to(version)
      server:write_file("on_message.lua", answering(version, "local ballast = ('x'):rep(200000)"))
      expect_version(version)
    end
    for version = 2, 21 do
      reload_to(version)
    end
    local before = server:rss()
    for version = 22, 61 do
      reload_to(version)
    end
    if not harness.sanitized() then
      assert.is_true(server:rss() - before < 6 * 1024 * 1024, ("%d KiB grew"):format((server:rss() - before) / 1024))
    end
  end)
end)
