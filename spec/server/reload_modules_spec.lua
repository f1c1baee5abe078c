-- What a change of a module reaches, and what it leaves alone.
local harness = require "spec.support.harness"

-- The main script; its listener answers GET requests with what `answer()` returns.
local function main(text)
  return ([[
    local Mesa = require "mesa"
    %s
    server = server or Mesa.new { port = 0, host = "127.0.0.1", scripts = { message = "on_message.lua" } }
    server:on("request", function(request, response) response:json(answer and answer() or {}) end)
  ]]):format(text or "")
end

-- A handler that sends `value` to whoever asks.
local function handler(value, before)
  return ([[
    local Mesa = require "mesa"
    %s
    return function(message, client) client:send(Mesa.Message(0, { value = %s }, "ANSWER"), true) end
  ]]):format(before or "", value)
end

describe("a change of a module", function()
  local server, client

  local function start(files, text)
    files["server.lua"] = main(text)
    files["on_message.lua"] = files["on_message.lua"] or "return function() end"
    server = harness.start(nil, { files = files })
    client = server:join()
  end

  local function ask()
    client:send { op = 0, t = "ASK" }
    return client:expect("ANSWER").d.value
  end

  local function get()
    return require("cjson").decode(server:http({ path = "/" }).body)
  end

  local function sighup(pattern)
    local mark = server:log_mark()
    server:signal "sighup"
    server:log_contains(pattern or "reloaded", 5000, mark)
  end

  after_each(function() server:stop() end)

  describe("reaches", function()
    it("those that depend on it, and runs no other module again", function()
      start({
        ["rules.lua"] = "return 1",
        ["game.lua"] = "print 'game runs' return { rules = require 'rules' }",
        ["db.lua"] = "print 'db runs' return {}",
        ["on_message.lua"] = handler("{ rules = game.rules, path = db.path }", "local game, db = require 'game', require 'db'"),
      }, "local db = require 'db' db.path = 'users.db'")
      assert.same({ rules = 1, path = "users.db" }, ask())
      server:save("rules.lua", "return 2")
      assert.same({ rules = 2, path = "users.db" }, ask())
      sighup()
      assert.same({ rules = 2, path = "users.db" }, ask())
      local _, games = server.process.stdout:gsub("game runs", "")
      local _, dbs = server.process.stdout:gsub("db runs", "")
      assert.same({ 2, 1 }, { games, dbs })
    end)

    it("listeners of the main script", function()
      start({
        ["util.lua"] = "local M = {} function M.word() return M.first .. ' one' end M.first = 'version' return M",
      }, "local util = require 'util' function answer() return { word = util.word() } end")
      assert.same({ word = "version one" }, get())
      server:save("util.lua", "local M = {} function M.word() return M.first .. ' two' end M.first = 'version' return M", "util%.lua")
      assert.same({ word = "version two" }, get())
    end)

    it("the main script through a module that did not change", function()
      start({
        ["inner.lua"] = "return 1",
        ["outer.lua"] = "return { twice = 2 * require 'inner' }",
      }, "local outer = require 'outer' function answer() return outer end")
      server:save("inner.lua", "return 21")
      assert.same({ twice = 42 }, get())
    end)

    it("no module that handlers only require as they run", function()
      start({
        ["lazy.lua"] = "return 'first'",
        ["rooms.lua"] = "return { members = 0 }",
        ["on_message.lua"] = handler("{ lazy = require 'lazy', members = rooms.members }",
          "local rooms = require 'rooms' rooms.members = rooms.members + 1"),
      })
      assert.same({ lazy = "first", members = 1 }, ask())
      server:save("lazy.lua", "return 'second'")
      assert.same({ lazy = "second", members = 1 }, ask())
    end)

    it("modules found through any entry of package.path, at once", function()
      start({
        ["lib/util.lua"] = "return 'first'",
        ["on_message.lua"] = handler("util", "local util = require 'util'"),
      }, "package.path = arg[0]:match '^(.*)/' .. '/lib/?.lua;' .. package.path")
      assert.equal("first", ask())
      server:save("lib/util.lua", "return 'second'")
      assert.equal("second", ask())
    end)

    it("modules of a folder called mesa, while mesa's own stay what they are", function()
      start {
        ["mesa/rules.lua"] = "return 'first'",
        ["mesa/timer.lua"] = "return 'never'",
        ["on_message.lua"] = handler("{ rules, type(require 'mesa.timer') }", "local rules = require 'mesa.rules'"),
      }
      assert.same({ "first", "table" }, ask())
      server:save("mesa/rules.lua", "return 'second'")
      assert.same({ "second", "table" }, ask())
    end)

    it("a module by whatever name it is required", function()
      start {
        ["lib/one.lua"] = "print 'one runs' return { n = 1 }",
        ["on_message.lua"] = handler("{ a.n, b.n, a == b, a == require 'lib/one' }",
          "local a, b = require 'lib.one', require 'lib/one'"),
      }
      assert.same({ 1, 1, true, true }, ask())
      server:save("lib/one.lua", "print 'one runs' return { n = 2 }")
      assert.same({ 2, 2, true, true }, ask())
      assert.equal(2, select(2, server.process.stdout:gsub("one runs", "")))
    end)

    it("a module that is required by itself once it is there", function()
      start {
        ["on_message.lua"] = handler("select(2, pcall(require, 'late')) == 'ready'"),
      }
      assert.is_false(ask())
      server:write_file("late.lua", "return 'ready'")
      assert.is_true(ask())
    end)
  end)

  describe("keeps the module's table:", function()
    it("new fields replace old ones, fields of others stay, fields that are no more go", function()
      start({
        ["util.lua"] = "return { kept = 1, gone = 1, replaced = 'old' }",
      }, [[
        local util = require "util"
        util.path, util.replaced = "users.db", "main's"
        function answer() return { util, util == require "util" } end
      ]])
      server:save("util.lua", "return { kept = 2, replaced = 'new', added = true }", "util%.lua")
      assert.same({ { kept = 2, replaced = "new", added = true, path = "users.db" }, true }, get())
    end)

    it("what others put into it is what the new code sees", function()
      start({
        ["db.lua"] = "local M = {} function M.open() return '1 ' .. M.path end return M",
        ["on_message.lua"] = handler("db.open()", "local db = require 'db'"),
      }, "local db = require 'db' db.path = 'before' function answer() db.path = 'after' return db.open() end")
      server:save("db.lua", "local M = {} function M.open() return '2 ' .. M.path end return M")
      assert.equal("2 before", ask())
      assert.equal("2 after", get())
      assert.equal("2 after", ask())
    end)

    it("with its metatable, and as the class of objects that live on", function()
      local function class(n)
        return ([[
          local Room = setmetatable({}, { __call = function(class, name) return setmetatable({ name = name }, class) end,
            __tostring = function() return "class %d" end })
          Room.__index = Room
          local lobby
          function Room:title() return self.name .. " %d" end
          function Room.lobby() return lobby end
          lobby = Room "lobby"
          return Room
        ]]):format(n, n)
      end
      start({ ["room.lua"] = class(1) }, [[
        local Room = require "room"
        local attic = Room "attic"
        function answer()
          return { attic:title(), Room("cellar"):title(), Room.lobby():title(), tostring(Room),
            getmetatable(Room.lobby()) == Room }
        end
      ]])
      assert.same({ "attic 1", "cellar 1", "lobby 1", "class 1", true }, get())
      server:save("room.lua", class(2), "room%.lua")
      assert.same({ "attic 2", "cellar 2", "lobby 2", "class 2", true }, get())
    end)

    it("also for the timers and listeners that it starts", function()
      start({
        ["ticker.lua"] = [[
          local Mesa = require "mesa"
          local M = { ticks = 0 }
          Mesa.setInterval(function() M.ticks = M.ticks + 1 end, 5)
          return M
        ]],
      }, "local ticker = require 'ticker' function answer() return ticker.ticks end")
      local text = harness.fs.read(server:path "ticker.lua")
      server:save("ticker.lua", text .. "-- saved\n", "ticker%.lua")
      local before = get()
      assert.is_true(harness.loop.wait(function() return get() > before + 2 end, 5000))
    end)

    it("and says who keeps the old code where it cannot", function()
      start({
        ["fn.lua"] = "return function() return 1 end",
        ["kind.lua"] = "return { n = 1 }",
        ["on_message.lua"] = handler("fn()", "local fn = require 'fn'"),
      }, "local fn, kind = require 'fn', require 'kind' function answer() return { fn(), kind.n } end")
      server:save("fn.lua", "return function() return 2 end", "fn%.lua returns a function: server%.lua keeps the old one")
      assert.equal(2, ask())
      assert.same({ 1, 1 }, get())
      server:save("kind.lua", "return 5", "kind%.lua returned a table and returns a number now: server%.lua keeps")
      assert.same({ 1, 1 }, get())
    end)

    it("as it was when a load fails behind it", function()
      start({
        ["a.lua"] = "return setmetatable({ n = 1, old = true }, { __index = { m = 1 } })",
        ["on_message.lua"] = handler("{ a.n, a.m, a.old }", "local a = require 'a'"),
      }, "local a = require 'a' a.mine = true function answer() return { a.n, a.m, a.old, a.mine, a.new or false } end")
      local mark = server:log_mark()
      server:write_file("on_message.lua", handler("1", "local a = require 'a' error 'behind it'"))
      server:write_file("a.lua", "return setmetatable({ n = 2, new = true }, { __index = { m = 2 } })")
      server:log_contains("behind it", 5000, mark)
      assert.same({ 1, 1, true, true, false }, get())
      assert.same({ 1, 1, true }, ask())
    end)
  end)

  describe("that cannot be loaded", function()
    it("is loaded when it can, for the handler that wants it", function()
      start { ["on_message.lua"] = handler "1" }
      assert.equal(1, ask())
      server:write_file("util.lua", "return { answer = 42")
      server:save("on_message.lua", handler("util.answer", "local util = require 'util'"), "util%.lua:1:")
      server:save("util.lua", "return { answer = 42 + }", "util%.lua:1:")
      assert.equal(1, ask())
      server:save("util.lua", "return { answer = 42 }")
      assert.equal(42, ask())
    end)

    it("is loaded on SIGHUP, too", function()
      start { ["on_message.lua"] = handler "1" }
      server:write_file("util.lua", "return { answer = 42")
      server:save("on_message.lua", handler("util.answer", "local util = require 'util'"), "util%.lua:1:")
      sighup "util%.lua:1:"
      harness.fs.write_atomically(server:path "util.lua", "return { answer = 43 }")
      sighup()
      assert.equal(43, ask())
    end)

    it("is waited for while it does not exist, in a folder that does not exist either", function()
      start { ["on_message.lua"] = handler "1" }
      server:save("on_message.lua", handler("util", "local util = require 'lib.later.util'"), "module 'lib.later.util' not found")
      server:save("lib/later/util.lua", "return 42")
      assert.equal(42, ask())
    end)

    it("may be required again after a pcall, and is tried again when it is saved", function()
      start({
        ["late.lua"] = "print 'late is tried' error 'not ready'",
        ["on_message.lua"] = handler "tostring(select(2, pcall(require, 'late')))",
      }, "first, err = pcall(require, 'late') function answer() return { first, (tostring(err)) } end")
      assert.same({ false, "late.lua:1: not ready" }, get())
      assert.equal("late.lua:1: not ready", ask())
      server:save("late.lua", "print 'late is tried' error 'still not ready'", "still not ready")
      server:save("late.lua", "print 'late is tried' return 'ready'", "module 'late' is loaded now; server%.lua went on without it")
      assert.equal("ready", ask())
      assert.equal(4, select(2, server.process.stdout:gsub("late is tried", "")))
    end)

    it("may be required again after a pcall, and is tried again on SIGHUP", function()
      start({
        ["late.lua"] = "error 'not ready'",
        ["on_message.lua"] = handler "tostring(select(2, pcall(require, 'late')))",
      })
      assert.equal("late.lua:1: not ready", ask())
      sighup "module 'late' still cannot be loaded: late%.lua:1: not ready"
      server:write_file("late.lua", "return 'ready'")
      sighup "reloaded"
      assert.equal("ready", ask())
    end)

    it("is tried again by the module that did without it", function()
      start {
        ["extra.lua"] = "return {",
        ["on_message.lua"] = handler("there and extra or false", "local there, extra = pcall(require, 'extra')"),
      }
      assert.is_false(ask())
      server:save("extra.lua", "return 'there'")
      assert.equal("there", ask())
    end)

    it("does not make a good change that was saved with it forgotten", function()
      start {
        ["words.lua"] = "return 'first'",
        ["on_message.lua"] = handler("words", "local words = require 'words'"),
      }
      local text = harness.fs.read(server:path "on_message.lua")
      local mark = server:log_mark()
      server:write_file("words.lua", "return 'second'")
      server:write_file("on_message.lua", "return {")
      server:log_contains("reload failed", 5000, mark)
      assert.equal("first", ask())
      server:save("on_message.lua", text)
      assert.equal("second", ask())
    end)

    it("holds up no change that has nothing to do with it", function()
      start({
        ["on_message.lua"] = handler "1",
        ["mine.lua"] = "return { n = 1 }",
      }, "local mine = require 'mine' function answer() return mine.n end")
      server:save("mine.lua", "return {", "mine%.lua:1:")
      server:save("on_message.lua", handler "2")
      assert.equal(2, ask())
      server:save("mine.lua", "return { n = 3 }", "reloaded")
      assert.equal(3, get())
    end)

    it("that requires itself says so", function()
      start {
        ["a.lua"] = "local b = require 'b' return b", ["b.lua"] = "local a = require 'a' return a",
        ["on_message.lua"] = handler "tostring(select(2, pcall(require, 'a')))",
      }
      assert.equal("b.lua:1: module 'a' requires itself while it is being loaded: a.lua -> b.lua -> a.lua", ask())
    end)
  end)

  it("cannot wait while it loads, wherever it is required", function()
    start {
      ["slow.lua"] = "require('mesa').sleep(5) return 1",
      ["on_message.lua"] = handler "tostring(select(2, pcall(require, 'slow')))",
    }
    for _ = 1, 2 do assert.matches("^slow.lua:1: .*cannot wait", ask()) end
  end)

  it("leaves what Mesa.state gives as it is", function()
    start({
      ["db.lua"] = "local state = require('mesa').state 'db' state.loads = (state.loads or 0) + 1 return { state = state }",
    }, "local db = require 'db' function answer() return { db.state.loads, db.state == Mesa.state 'db', Mesa.state 'x' == db.state } end")
    assert.same({ 1, true, false }, get())
    server:save("db.lua", harness.fs.read(server:path "db.lua") .. "-- saved\n", "db%.lua")
    assert.same({ 2, true, false }, get())
  end)

  it("that makes a server needs a restart, and the log says so", function()
    start({
      ["app.lua"] = [[
        require "words"
        server = require("mesa").new { port = 0, host = "127.0.0.1", scripts = { message = "on_message.lua" } }
      ]],
      ["words.lua"] = "return { n = 1 }",
      ["on_message.lua"] = handler("words.n", "local words = require 'words'"),
    }, "require 'app'")
    server:save("app.lua", harness.fs.read(server:path "app.lua") .. "-- saved\n", "app%.lua makes a server.*restart to apply")
    server:save("words.lua", "return { n = 2 }")
    assert.equal(2, ask())
    assert.equal(1, server:log_count "listening on")
  end)
end)
