-- The command line of mesa-lua, from outside the process.
local fs = require "spec.support.fs"
local harness = require "spec.support.harness"
local process = require "spec.support.process"

local TRIVIAL = [[
local Mesa = require "mesa"
Mesa.new { port = 0, host = "127.0.0.1" }
]]

local dir

local function mesa(...)
  return process.run(harness.binary(), { args = { ... }, cwd = dir })
end

local function write(name, text)
  fs.write(dir .. "/" .. name, text)
end

describe("the command line", function()
  before_each(function() dir = fs.mkdtemp() end)
  after_each(function() fs.remove(dir) end)

  it("prints its own version and those of its libraries", function()
    local run = mesa "--version"
    assert.equal(0, run.exit_code)
    assert.matches("^mesa%-lua %d+%.%d+%.%d+\nlibwebsockets %d+%.%d+%S*\nlibuv %d+%.%d+%.%d+\nLuaJIT 2%.1%S*\n$", run.stdout)
  end)

  it("explains every option and exit code", function()
    local run = mesa "--help"
    assert.equal(0, run.exit_code)
    for _, word in ipairs { "--check", "--port", "--watch", "--no-watch", "--drain", "--log-level", "--log-format",
      "--version", "new DIR", "SIGHUP", "Exit codes" } do
      assert.truthy(run.stdout:find(word, 1, true), word)
    end
  end)

  it("names a mistake and exits with 2", function()
    local run = mesa("--prot", "1", "server.lua")
    assert.equal(2, run.exit_code)
    assert.equal("", run.stdout)
    assert.matches("unknown option '%-%-prot'", run.stderr)
    assert.equal(2, mesa().exit_code)
  end)

  it("exits with 1 when the script does not exist", function()
    local run = mesa "missing.lua"
    assert.equal(1, run.exit_code)
    assert.matches("missing%.lua", run.stderr)
  end)

  it("exits with 1, file, line and traceback when the script fails", function()
    write("server.lua", "local function deep()\n  error 'boom'\nend\ndeep()\n")
    local run = mesa "server.lua"
    assert.equal(1, run.exit_code)
    assert.matches("server%.lua:2: boom", run.stderr)
    assert.matches("traceback", run.stderr)
    assert.matches("server%.lua:4", run.stderr)
  end)

  it("gives the script its arguments", function()
    write("server.lua", "print(arg[0], #arg, arg[1], arg[2])\n")
    local run = mesa("server.lua", "--port", "x")
    assert.equal(0, run.exit_code)
    assert.equal("server.lua\t2\t--port\tx\n", run.stdout)
  end)

  it("ends with 0 when the script leaves nothing to wait for", function()
    write("server.lua", "require 'mesa'\n")
    assert.equal(0, mesa("server.lua").exit_code)
  end)

  describe("--check", function()
    it("accepts a server without listening", function()
      write("server.lua", TRIVIAL)
      local run = mesa("--check", "server.lua")
      assert.equal(0, run.exit_code)
      assert.is_nil(run.stderr:find("listening on", 1, true))
    end)

    it("shows the port of --port, which is the first server's", function()
      write("server.lua", "local Mesa = require 'mesa'\nMesa.new { port = 4000 }\nMesa.new { port = 4001 }\n")
      local run = mesa("--check", "--port", "4500", "server.lua")
      assert.equal(0, run.exit_code)
      assert.matches("server on port 4500\nserver on port 4001\n", run.stdout)
    end)

    it("refuses a script with a syntax error, and a configuration with an unknown key", function()
      write("server.lua", "local = 1\n")
      local run = mesa("--check", "server.lua")
      assert.equal(1, run.exit_code)
      assert.matches("server%.lua:1:", run.stderr)

      write("server.lua", "require 'mesa'.new { prot = 1 }\n")
      run = mesa("--check", "server.lua")
      assert.equal(1, run.exit_code)
      assert.matches("prot", run.stderr)
    end)

    it("refuses a handler script that does not load", function()
      write("server.lua", "require 'mesa'.new { port = 0, scripts = { message = 'on_message.lua' } }\n")
      write("on_message.lua", "return function(message\n")
      local run = mesa("--check", "server.lua")
      assert.equal(1, run.exit_code)
      assert.matches("on_message%.lua:", run.stderr)
    end)
  end)

  describe("new", function()
    it("writes a server that checks, runs and speaks", function()
      local run = mesa("new", "app")
      assert.equal(0, run.exit_code)
      assert.equal(0, mesa("--check", "app/server.lua").exit_code)

      local server = harness.start(dir .. "/app/server.lua", { flags = { "--port", "0" } })
      local client = server:join()
      client:send { op = 2, d = { token = "ada" } }
      assert.same({ id = "ada", name = "ada" }, client:expect(22).d)
      client:send { op = 0, t = "SAY", d = { text = "hello" } }
      assert.same({ from = "ada", text = "hello", number = 1 }, client:expect("SAID").d)
      local refused = server:join()
      refused:send { op = 2, d = {} }
      refused:expect_close(1008)
      local brief = server:join()
      brief:send { op = 2, d = { token = "eve" } }
      brief:expect(22)
      brief:close()
      assert.same({ id = "eve" }, client:expect("LEFT").d)
      server:stop()
    end)

    it("names each file that it wrote, and what to do next", function()
      local run = mesa("new", "app")
      for name in run.stdout:gmatch "\n  (%S+)" do
        if name ~= "cd" then assert.is_true(fs.exists(dir .. "/app/" .. name), name) end
      end
      for _, name in ipairs { "server.lua", "auth.lua", "on_connection.lua", "on_message.lua", "on_disconnect.lua",
        "public/index.html", "public/client.js", "public/style.css", ".luarc.json" } do
        assert.truthy(run.stdout:find("\n  " .. name .. "\n", 1, true), name)
      end
      assert.truthy(run.stdout:find("cd app && mesa-lua server.lua", 1, true))
    end)

    it("shows editors the types", function()
      mesa("new", "app")
      local luarc = require "cjson".decode(fs.read(dir .. "/app/.luarc.json"))
      assert.equal("LuaJIT", luarc["runtime.version"])
      local library = luarc["workspace.library"][1]
      assert.matches("^/", library)
      assert.is_true(fs.exists(library .. "/mesa/init.lua"))
      assert.is_true(fs.exists(library .. "/mesa/meta/server.lua"))
    end)

    it("serves its page", function()
      mesa("new", "app")
      local server = harness.start(dir .. "/app/server.lua", { flags = { "--port", "0" } })
      local page = server:http "/"
      assert.equal(200, page.status)
      for _, name in ipairs { "client.js", "style.css" } do
        assert.truthy(page.body:find('"' .. name .. '"', 1, true), name)
        assert.equal(200, server:http("/" .. name).status)
      end
      assert.is_nil(page.body:find "https?:") -- works without a network
      server:stop()
    end)

    it("overwrites nothing", function()
      write("app/auth.lua", "mine")
      local run = mesa("new", "app")
      assert.equal(1, run.exit_code)
      assert.matches("app/auth%.lua exists already", run.stderr)
      assert.equal("mine", fs.read(dir .. "/app/auth.lua"))
      assert.is_false(fs.exists(dir .. "/app/server.lua"))
    end)
  end)
end)

describe("a running server", function()
  it("takes the port from --port", function()
    local first = harness.start(TRIVIAL)
    local second = harness.launch(TRIVIAL, { flags = { "--port", first.port } })
    assert.equal(1, (second:wait_exit()))
    assert.matches("port " .. first.port .. " is in use", second.process.stderr)
    second:destroy()
    first:stop()
  end)

  for _, signal in ipairs { "sigterm", "sigint" } do
    it("closes its clients with 1001 and exits with 0 on " .. signal, function()
      local server = harness.start(TRIVIAL)
      local client = server:join()
      server:signal(signal)
      client:expect_close(1001)
      assert.equal(0, (server:wait_exit()))
      server:stop()
    end)
  end

  it("exits at once on a second signal, while a script spins", function()
    local server = harness.start [[
local server = require "mesa".new { port = 0, host = "127.0.0.1" }
server:on("message", function()
  print "spinning"
  while true do end
end)
]]
    server:join():send { op = 0, t = "SPIN" }
    server:stdout_contains "spinning"
    server:signal "sigterm"
    server:signal "sigint"
    local code = server:wait_exit() -- of two pending signals the kernel may deliver either first
    assert.is_true(code == 128 + 2 or code == 128 + 15, tostring(code))
    server:destroy()
  end)

  it("reloads on SIGHUP", function()
    local server = harness.start("server.lua", {
      flags = { "--no-watch" },
      files = {
        ["server.lua"] = 'require "mesa".new { port = 0, host = "127.0.0.1", scripts = { message = "on_message.lua" } }\n',
        ["on_message.lua"] = "return function() end\n",
      },
    })
    server:signal "sighup"
    server:log_contains "SIGHUP"
    server:stop()
  end)

  it("logs one JSON object a line with --log-format json", function()
    local cjson = require "cjson"
    local server = harness.start(TRIVIAL, { flags = { "--log-format", "json" } })
    server:stop()
    for line in server.process.stderr:gmatch "[^\n]+" do
      assert.equal("table", type(cjson.decode(line)), line)
    end
  end)

  it("says nothing below its log level", function()
    local script = TRIVIAL .. 'Mesa.setTimeout(function() print "up" end, 1)\n'
    local server = harness.launch(script, { flags = { "--log-level", "error" } })
    server:stdout_contains "up"
    assert.equal("", server.process.stderr)
    server:stop()
  end)
end)
