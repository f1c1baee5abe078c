-- Ordinary mistakes of people who write scripts: each is told where it was made, with what to do, and without mesa-lua's
-- own functions.
local fs = require "spec.support.fs"
local harness = require "spec.support.harness"
local tls = require "spec.support.tls"

local dir

local function mesa(...)
  return harness.run({ ... }, { cwd = dir })
end

local function write(name, text)
  fs.write(dir .. "/" .. name, text)
end

-- What --check says of a server.lua with this text: its first line, without the time.
local function refusal(source)
  write("server.lua", source)
  local run = mesa("--check", "server.lua")
  assert.equal(1, run.exit_code, run.stderr)
  assert.is_nil(run.stderr:find("lua/mesa/", 1, true), run.stderr)
  return (run.stderr:match "^%S+ error %S+ ([^\n]*)\n")
end

describe("a file or folder of the configuration", function()
  before_each(function() dir = fs.mkdtemp() end)
  after_each(function() fs.remove(dir) end)

  it("that is missing is named with its key, its full path and the line of Mesa.new", function()
    assert.equal(("server.lua:2: Mesa.new: scripts: cannot read the folder %s/scripst: No such file or directory"):format(dir),
      refusal '\nrequire("mesa").new { port = 0, scripts = "scripst" }')
    assert.equal(("server.lua:1: Mesa.new: static: cannot read the folder %s/pulbic: No such file or directory"):format(dir),
      refusal 'require("mesa").new { port = 0, static = "pulbic" }')
    assert.equal(("server.lua:1: Mesa.new: scripts.auth: cannot read the file %s/atuh.lua: No such file or directory"):format(dir),
      refusal 'require("mesa").new { port = 0, scripts = { auth = "atuh.lua" } }')
    assert.equal(("server.lua:1: Mesa.new: tls.cert: cannot use %s/no-cert.pem: No such file or directory"):format(dir),
      refusal 'require("mesa").new { port = 0, tls = { cert = "no-cert.pem", key = "no-key.pem" } }')
  end)

  it("that is of the other kind is told apart", function()
    write("public", "a file")
    write("auth.lua/notes.txt", "a folder")
    assert.matches("static: cannot read the folder .*/public: it is no folder$", refusal 'require("mesa").new { static = "public" }')
    assert.matches("scripts: cannot read the folder .*/public: it is no folder$", refusal 'require("mesa").new { scripts = "public" }')
    assert.matches("scripts%.auth: cannot read the file .*/auth%.lua: it is a folder$",
      refusal 'require("mesa").new { scripts = { auth = "auth.lua" } }')
  end)

  it("that is no PEM, or does not belong to the other, is told before anybody listens", function()
    local pair = tls.certificate()
    write("text.pem", "not a certificate\n")
    local config = 'require("mesa").new { tls = { cert = %q, key = %q } }'
    assert.matches("server%.lua:1: Mesa%.new: tls%.cert: cannot use .*/text%.pem: it is no PEM file of this kind",
      refusal(config:format("text.pem", pair.key)))
    assert.matches("server%.lua:1: Mesa%.new: tls%.key: cannot use .*/text%.pem: it is no PEM file of this kind",
      refusal(config:format(pair.cert, "text.pem")))
  end)
end)

describe("the main script", function()
  before_each(function() dir = fs.mkdtemp() end)
  after_each(function() fs.remove(dir) end)

  it("that is missing is one line with its full path", function()
    for _, flag in ipairs { "--watch", "--check" } do
      local run = mesa(flag, "sever.lua")
      assert.equal(1, run.exit_code)
      assert.matches("^%S+ error app: cannot read the script " .. dir:gsub("%p", "%%%0") .. "/sever%.lua: No such file or directory\n$",
        run.stderr)
    end
  end)

  it("that is a folder is told so", function()
    write("app/server.lua", "")
    local run = mesa "app"
    assert.equal(1, run.exit_code)
    assert.matches("app: it is a folder, name the script in it\n$", run.stderr)
  end)

  it("with a syntax error is one line", function()
    write("server.lua", "\nlocal = 1\n")
    local run = mesa "server.lua"
    assert.matches("^%S+ error script: server%.lua:2: '<name>' expected near '='\n$", run.stderr)
  end)

  it("that raises shows its own functions only", function()
    write("server.lua", "local function deep()\n  error 'boom'\nend\nassert(not xpcall(deep, debug.traceback))\n\ndeep()\n")
    local run = mesa "server.lua"
    assert.matches("^%S+ error script: server%.lua:2: boom\n%s+stack traceback:\n%s+%[C%]: in function 'error'\n"
      .. "%s+server%.lua:2: in function 'deep'\n%s+server%.lua:6: in [^\n]*\n$", run.stderr)
  end)

  it("gets options that come behind it, and says so", function()
    write("server.lua", "print(arg[1], arg[2])\n")
    local run = mesa("server.lua", "--port", "5000")
    assert.equal("--port\t5000\n", run.stdout)
    assert.matches("warn  app: %-%-port comes after server%.lua, which gets it as an argument: .*before the script", run.stderr)
    assert.equal("", mesa("--", "server.lua", "--port", "5000").stderr)
    assert.equal("", mesa("server.lua", "5000", "--color").stderr)
  end)
end)

describe("--check", function()
  before_each(function() dir = fs.mkdtemp() end)
  after_each(function() fs.remove(dir) end)

  it("says what it has checked", function()
    local pair = tls.certificate()
    write("public/index.html", "")
    write("handlers/auth.lua", "return function() end\n")
    write("handlers/on_message.lua", "return function() end\n")
    write("server.lua", ([[
      local Mesa = require "mesa"
      local first = Mesa.new { port = 4321, scripts = "handlers", static = "public" }
      Mesa.new { server = first, path = "/admin" }
      Mesa.new { host = "unix:/tmp/x.sock", tls = { cert = %q, key = %q } }
    ]]):format(pair.cert, pair.key))
    local run = mesa("--check", "server.lua")
    assert.equal(0, run.exit_code, run.stderr)
    assert.equal(table.concat({
      "server.lua: in order",
      "server on port 4321: scripts handlers/auth.lua, handlers/on_message.lua; static public",
      "server on the port of another server, path /admin",
      ("server on unix:/tmp/x.sock; tls %s, %s"):format(pair.cert, pair.key),
      "",
    }, "\n"), run.stdout)
    write("server.lua", "\n")
    assert.equal("server.lua: in order\nno server\n", mesa("--check", "server.lua").stdout)
  end)
end)

describe("the line that says that a server listens", function()
  it("has the version, the URL and what is loaded", function()
    local server = harness.start("server.lua", { files = {
      ["server.lua"] = 'require "mesa".new { port = 0, host = "127.0.0.1", path = "/chat", scripts = "handlers" }\n',
      ["handlers/on_message.lua"] = "return function() end\n",
    } })
    server:log_contains("mesa%-lua %d+%.%d+%.%d+ listening on ws://127%.0%.0%.1:" .. server.port
      .. "/chat: scripts handlers/on_message%.lua\n")
    server:stop()
  end)

  it("says when a folder has no scripts", function()
    local server = harness.start("server.lua", { files = {
      ["server.lua"] = 'require "mesa".new { port = 0, host = "127.0.0.1", scripts = "handlers" }\n',
      ["handlers/notes.txt"] = "nothing here yet",
    } })
    server:log_contains "listening on [^\n]*: no scripts in handlers yet\n"
    server:stop()
  end)
end)

describe("the log", function()
  before_each(function() dir = fs.mkdtemp() end)
  after_each(function() fs.remove(dir) end)

  -- On a terminal of its own, which script(1) makes.
  local function on_terminal(env)
    write("server.lua", 'require("mesa").log.warn "careful"\n')
    local command = ("%s %s %s/server.lua"):format(env, harness.binary(), dir)
    return harness.process.run("script", { args = { "-qec", command, "/dev/null" } }).stdout
  end

  it("has colours on a terminal, unless NO_COLOR is set", function()
    assert.matches("\27%[33mwarn \27%[0m script: careful", on_terminal "TERM=xterm NO_COLOR=")
    assert.matches("warn  script: careful", on_terminal "TERM=xterm NO_COLOR=1")
    assert.matches("warn  script: careful", on_terminal "TERM=dumb")
    assert.matches(" warn  script: careful", mesa("server.lua").stderr)
  end)
end)
