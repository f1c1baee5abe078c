-- How changes of files are noticed, and what is told about them.
local harness = require "spec.support.harness"
local uv = require "luv"

local function handler(value)
  return ([[
    local Mesa = require "mesa"
    return function(message, client) client:send(Mesa.Message(0, { value = %s }, "ANSWER"), true) end
  ]]):format(value)
end

local function main(scripts)
  return ([[
    local Mesa = require "mesa"
    local server = Mesa.new { port = 0, host = "127.0.0.1", scripts = %s }
    server:on("reload", function(event)
      print("event", table.concat(event.files, " "), table.concat(event.changed, " "), event.version)
    end)
  ]]):format(scripts or '{ message = "on_message.lua" }')
end

describe("a change of a file", function()
  local server, client

  -- `script`: the main script below the folder of the files
  local function start(files, options)
    options = options or {}
    files[options.script or "server.lua"] = files[options.script or "server.lua"] or main(options.scripts)
    server = harness.launch(options.script, { files = files, flags = options.flags })
    return server
  end

  local function listen()
    server:log_contains "listening on"
    server.port = tonumber(server:log_contains "listening on %S*:(%d+)")
    client = server:join()
  end

  local function run(files, options)
    start(files, options)
    listen()
  end

  local function ask()
    client:send { op = 0, t = "ASK" }
    return client:expect("ANSWER").d.value
  end

  -- Does something and waits for a line of log behind it.
  local function expect_log(pattern, act)
    local mark = server:log_mark()
    act()
    return server:log_contains(pattern, 8000, mark)
  end

  local function turn(name, target)
    assert(uv.fs_symlink(target, server:path(name) .. ".new"))
    assert(uv.fs_rename(server:path(name) .. ".new", server:path(name)))
  end

  after_each(function() server:stop() end)

  describe("behind a symbolic link", function()
    -- Two releases and a link to the first one, with the server started through it.
    local function releases(link, scripts, flags, prepare)
      local dir = harness.fs.mkdtemp()
      for n = 1, 2 do
        local release = ("%s/release-%d/"):format(dir, n)
        harness.fs.write(release .. "server.lua", main(scripts))
        harness.fs.write(release .. "scripts/on_message.lua", handler("{ require 'util', require 'same' }"))
        harness.fs.write(release .. "util.lua", "return " .. n)
        harness.fs.write(release .. "same.lua", "print 'same runs' return 'same'")
      end
      harness.fs.write(dir .. "/real/on_message.lua", handler(1))
      harness.fs.write(dir .. "/other/on_message.lua", handler(2))
      assert(uv.fs_symlink("release-1", dir .. "/current"))
      if prepare then prepare(dir) end
      server = harness.launch(dir .. "/" .. link, { flags = flags })
      server.dir = dir
      listen()
    end

    it("is taken on SIGHUP, after the link was turned to another release", function()
      releases("current/server.lua", '"scripts"', { "--no-watch" })
      assert.same({ 1, "same" }, ask())
      turn("current", "release-2")
      harness.fs.write(server:path "release-1/moved", "")
      assert(uv.fs_rename(server:path "release-1", server:path "gone"))
      expect_log("reloaded", function() server:signal "sighup" end)
      assert.same({ 2, "same" }, ask())
      assert.equal(1, select(2, server.process.stdout:gsub("same runs", "")))
    end)

    it("is noticed by itself", function()
      releases("current/server.lua", '"scripts"')
      assert.same({ 1, "same" }, ask())
      expect_log("reloaded", function() turn("current", "release-2") end)
      assert.same({ 2, "same" }, ask())
    end)

    it("is noticed when the main script itself is a link", function()
      releases("server.lua", '"scripts"', nil, function(dir) assert(uv.fs_symlink("release-1/server.lua", dir .. "/server.lua")) end)
      assert.same({ 1, "same" }, ask())
      expect_log("reloaded", function() turn("server.lua", "release-2/server.lua") end)
      assert.same({ 2, "same" }, ask())
      expect_log("reloaded", function() server:write_file("release-2/util.lua", "return 3") end)
      assert.same({ 3, "same" }, ask())
      assert.equal(1, select(2, server.process.stdout:gsub("same runs", "")))
    end)

    it("is noticed in a folder that was entered by the link", function()
      local dir = harness.fs.mkdtemp()
      for n = 1, 2 do
        harness.fs.write(("%s/%d/server.lua"):format(dir, n), main())
        harness.fs.write(("%s/%d/on_message.lua"):format(dir, n), handler(n))
      end
      assert(uv.fs_symlink("1", dir .. "/current"))
      server = setmetatable({ dir = dir, options = {} }, getmetatable(server) or {})
      local process = harness.process.spawn("/bin/sh", {
        args = { "-c", 'cd "$0" && exec "$1" server.lua', dir .. "/current", harness.binary() },
        env = { ASAN_OPTIONS = "detect_leaks=1:exitcode=86" },
      })
      server.process, server.pid = process, process.pid
      listen()
      assert.equal(1, ask())
      expect_log("reloaded", function() turn("current", "2") end)
      assert.equal(2, ask())
    end)

    it("is noticed when the file is a link, for the link and for its target", function()
      run { ["real/one.lua"] = handler(1), ["real/two.lua"] = handler(2), ["on_message.lua"] = handler(0) }
      expect_log("reloaded", function() turn("on_message.lua", "real/one.lua") end)
      assert.equal(1, ask())
      expect_log("reloaded", function() turn("on_message.lua", "real/two.lua") end)
      assert.equal(2, ask())
      expect_log("reloaded", function() server:write_file("real/two.lua", handler(3)) end)
      assert.equal(3, ask())
    end)

    it("is noticed when the folder of the scripts is a link", function()
      local dir = harness.fs.mkdtemp()
      harness.fs.write(dir .. "/server.lua", main '"scripts"')
      harness.fs.write(dir .. "/1/on_message.lua", handler(1))
      harness.fs.write(dir .. "/2/on_message.lua", handler(2))
      assert(uv.fs_symlink("1", dir .. "/scripts"))
      server = harness.launch(dir .. "/server.lua")
      server.dir = dir
      listen()
      assert.equal(1, ask())
      expect_log("reloaded", function() turn("scripts", "2") end)
      assert.equal(2, ask())
    end)

    it("is noticed in a ConfigMap, and runs only what differs", function()
      local dir = harness.fs.mkdtemp()
      for n = 1, 2 do
        local version = ("%s/..version-%d/"):format(dir, n)
        harness.fs.write(version .. "server.lua", main())
        harness.fs.write(version .. "on_message.lua", handler("require('util') .. ' ' .. require('rooms').n"))
        harness.fs.write(version .. "util.lua", "return " .. n)
        harness.fs.write(version .. "rooms.lua", "print 'rooms runs' return { n = 5 }")
      end
      assert(uv.fs_symlink("..version-1", dir .. "/..data"))
      for _, name in ipairs { "server.lua", "on_message.lua", "util.lua", "rooms.lua" } do
        assert(uv.fs_symlink("..data/" .. name, dir .. "/" .. name))
      end
      server = harness.launch(dir .. "/server.lua")
      server.dir = dir
      listen()
      assert.equal("1 5", ask())
      expect_log("util%.lua changed: reloaded", function() turn("..data", "..version-2") end)
      assert.equal("2 5", ask())
      assert.equal(1, select(2, server.process.stdout:gsub("rooms runs", "")))
      assert.equal(0, server:log_count "restart")
    end)
  end)

  it("is noticed in a folder that was deleted and made again, again and again", function()
    run({ ["handlers/on_message.lua"] = handler(1) }, { scripts = '"handlers"' })
    for n = 2, 4 do
      os.remove(server:path "handlers/on_message.lua")
      assert(uv.fs_rmdir(server:path "handlers"))
      expect_log("reloaded", function() server:write_file_in_place("handlers/on_message.lua", handler(n)) end)
      assert.equal(n, ask())
    end
    expect_log("reloaded", function() server:write_file_in_place("handlers/on_message.lua", handler(10)) end)
    assert.equal(10, ask())
  end)

  it("is noticed in a folder of scripts that has none of them yet", function()
    run({ ["handlers/notes.txt"] = "to do" }, { scripts = '"handlers"' })
    expect_log("reloaded", function() server:write_file("handlers/on_message.lua", handler(1)) end)
    assert.equal(1, ask())
  end)

  it("is noticed when size and time are the same, as cp -p leaves them", function()
    run { ["on_message.lua"] = handler(1) }
    local path = server:path "on_message.lua"
    local before = uv.fs_stat(path)
    expect_log("reloaded", function()
      harness.fs.write(path, handler(2))
      uv.fs_utime(path, before.mtime.sec + before.mtime.nsec / 1e9, before.mtime.sec + before.mtime.nsec / 1e9)
    end)
    assert.equal(2, ask())
  end)

  describe("is not taken", function()
    it("while the file is empty", function()
      run { ["on_message.lua"] = handler "require('util')", ["util.lua"] = "return 1" }
      assert.equal(1, ask())
      expect_log("util%.lua is empty", function() server:write_file_in_place("util.lua", "") end)
      assert.equal(1, ask())
      expect_log("reloaded", function() server:write_file_in_place("on_message.lua", handler "require('util') * 10") end)
      assert.equal(10, ask())
      expect_log("reloaded", function() server:write_file_in_place("util.lua", "return 2") end)
      assert.equal(20, ask())
    end)

    it("while it is being written", function()
      run { ["on_message.lua"] = handler "require('util').n or 'half'", ["util.lua"] = "return { n = 1 }" }
      assert.equal(1, ask())
      local file = assert(io.open(server:path "util.lua", "wb"))
      file:write("local M = {}\n")
      file:flush()
      -- a change of another file has its turn meanwhile, with the module as it was
      expect_log("reloaded", function() server:write_file("on_message.lua", handler "-require('util').n") end)
      assert.equal(-1, ask())
      file:write("M.n = 2 return M\n")
      expect_log("reloaded", function() file:close() end)
      assert.equal(-2, ask())
    end)

    it("when a module is required that is empty", function()
      run { ["on_message.lua"] = handler "tostring(select(2, pcall(require, 'late')))" }
      server:write_file("late.lua", "")
      assert.equal("late.lua is empty", ask())
      server:write_file("late.lua", "return 'there'")
      assert.equal("there", ask())
    end)

    it("when another file of the same content has replaced it, or its mode was changed", function()
      run { ["on_message.lua"] = handler(1), ["other.lua"] = "" }
      expect_log("on_message%.lua was saved without a change: nothing to reload", function()
        server:write_file("on_message.lua", handler(1))
      end)
      uv.fs_chmod(server:path "on_message.lua", 384)
      expect_log("on_message%.lua changed: reloaded on_message%.lua %(version 2", function() -- nothing came between
        server:write_file("on_message.lua", handler(2))
      end)
    end)
  end)

  it("is taken when the file was touched", function()
    run { ["on_message.lua"] = handler(1) }
    expect_log("on_message%.lua changed: reloaded on_message%.lua", function()
      uv.fs_utime(server:path "on_message.lua", os.time() + 5, os.time() + 5)
    end)
  end)

  describe("is told:", function()
    it("the files that changed, and what was reloaded for them", function()
      run {
        ["on_message.lua"] = handler "require('outer')",
        ["outer.lua"] = "return require 'inner'", ["inner.lua"] = "return 1",
      }
      assert.equal(1, ask())
      expect_log("inner%.lua changed: reloaded inner%.lua, outer%.lua %(version 2, %d+%.%d ms%)", function()
        server:write_file("inner.lua", "return 2")
      end)
      server:stdout_contains "event\tinner.lua outer.lua\tinner.lua\t2"
      expect_log("on_message%.lua, outer%.lua changed: reloaded on_message%.lua, outer%.lua %(version 3", function()
        server:write_file("outer.lua", "return require 'inner' * 2")
        server:write_file("on_message.lua", handler "require('outer') * 2")
      end)
      expect_log("on_message%.lua changed: reload failed, version 3 goes on serving: on_message%.lua:1:", function()
        server:write_file("on_message.lua", "return {")
      end)
    end)

    it("that there is nothing to reload", function()
      run({}, { scripts = "nil" })
      assert.is_truthy(expect_log("nothing to reload", function() server:signal "sighup" end))
    end)

    it("that the main script needs a restart", function()
      run { ["on_message.lua"] = handler(1) }
      expect_log("server%.lua has changed: restart to apply it", function() server:write_file("server.lua", main() .. "-- saved") end)
      assert.equal(1, ask())
    end)
  end)
end)
