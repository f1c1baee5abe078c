-- Applications, and mesa-lua itself, in folders whose names have a meaning somewhere: in package.path, patterns, formats, URLs.
local fs = require "spec.support.fs"
local harness = require "spec.support.harness"
local uv = require "luv"

local application = {
  ["server.lua"] = [[
local Mesa = require "mesa"
local words = require "words"
print(words.text, require "deep", require "deep.er", require "deep.own-lfs", (select(2, pcall(require, "no.where"))))
local server = Mesa.new { port = 0, host = "127.0.0.1", static = "static", scripts = "scripts" }
server:on("connection", function(client) client:send(Mesa.Message(0, { text = words.text }, "WORD"), true) end)
]],
  ["words.lua"] = "return { text = 'one', reply = function(message) return message end }\n",
  ["deep/init.lua"] = "return 'two'\n",
  ["deep/er.lua"] = "return 'three'\n",
  ["static/index.html"] = "hello",
  ["scripts/on_message.lua"] = [[
local words = require "words"
return function(message, client) client:send(words.reply(message)) end
]],
  ["scripts/auth.lua"] = "return function(_, done) done(nil, { id = 'u' }) end\n",
}

local function lay_out(dir)
  for name, text in pairs(application) do fs.write(dir .. "/" .. name, text) end
end

local function copy(from, to)
  fs.write(to, fs.read(from))
end

local function copy_modules(from, to)
  local scan = assert(uv.fs_scandir(from))
  for name, kind in function() return uv.fs_scandir_next(scan) end do
    if kind == "directory" then
      copy_modules(from .. "/" .. name, to .. "/" .. name)
    else
      copy(from .. "/" .. name, to .. "/" .. name)
    end
  end
end

for _, name in ipairs {
  "a;b", "a?b", "?.lua;?", "100%s %d%%", "it's \"quoted\"", " space ", "größe 日本", "[a-z]+(x)*", "a;b?c %2e#'é",
} do
  describe(("a folder named %q"):format(name), function()
    local base, server

    before_each(function() base = fs.mkdtemp() end)
    after_each(function()
      if server then server:stop() end
      fs.remove(base)
      server = nil
    end)

    it("holds an application: its modules, scripts and static files, which reload", function()
      local dir = base .. "/" .. name
      lay_out(dir)
      copy(package.searchpath("lfs", package.cpath), dir .. "/deep/own-lfs.so")
      server = harness.start(dir .. "/server.lua")
      server:stdout_contains "one\ttwo\tthree\ttable: %S+\tmodule 'no%.where' not found:"
      assert.equal("hello", server:http({ path = "/" }).body)
      local client = server:join()
      assert.equal("one", client:expect(0).d.text)
      client:send { op = 2, d = {} }
      client:expect(22)
      client:send { op = 0, t = "ECHO", d = { n = 1 } }
      assert.equal("ECHO", client:expect(0).t)
      local mark = server:log_mark()
      fs.write_atomically(dir .. "/words.lua", "return { text = 'uno', reply = function(m) m.type = 'NEW' return m end }\n")
      server:log_contains("reload.*words%.lua", 10000, mark)
      client:send { op = 0, t = "ECHO", d = { n = 1 } }
      assert.equal("NEW", client:expect(0).t)
      assert.equal("uno", server:join():expect(0).d.text)
    end)

    it("holds mesa-lua", function()
      local dir = base .. "/" .. name
      copy(harness.binary(), dir .. "/bin/mesa-lua")
      assert(uv.fs_chmod(dir .. "/bin/mesa-lua", 493))
      copy_modules("lua/mesa", dir .. "/share/lua/5.1/mesa")
      fs.write(base .. "/app/ok.lua", "print(require 'mesa', require 'mesa.portal', require 'own')\nnext = nil\n")
      fs.write(base .. "/app/own.lua", "return 'own'\n")
      local run = harness.process.run(dir .. "/bin/mesa-lua", { args = { base .. "/app/ok.lua" } })
      assert.equal(0, run.exit_code, run.stderr)
      assert.matches("^table: %S+\t%S+: %S+\town\n$", run.stdout)
    end)
  end)
end

it("a release in a folder with such a name is taken by SIGHUP, and the next one, too", function()
  local base = fs.mkdtemp()
  local function release(name)
    fs.write(base .. "/" .. name .. "/server.lua", [[
local Mesa = require "mesa"
Mesa.new { port = 0, host = "127.0.0.1", scripts = "scripts" }
]])
    fs.write(base .. "/" .. name .. "/which.lua", ("return %q\n"):format(name))
    fs.write(base .. "/" .. name .. "/scripts/on_message.lua", [[
return function(message, client)
  message.type = require "which"
  client:send(message, true)
end
]])
    local link = base .. "/server.lua"
    os.remove(link)
    assert(uv.fs_symlink(name .. "/server.lua", link))
  end
  release "one"
  local server = harness.start(base .. "/server.lua", { flags = { "--no-watch" } })
  local client = server:join()
  for _, name in ipairs { "one", "a;b", "c?d", "last" } do
    if name ~= "one" then
      local mark = server:log_mark()
      release(name)
      server:signal "sighup"
      server:log_contains("reloaded", 10000, mark)
    end
    client:send { op = 0, t = "WHICH", d = {} }
    assert.equal(name, client:expect(0).t)
  end
  server:stop()
  fs.remove(base)
end)
