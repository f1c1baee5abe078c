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

-- ---- calls -----------------------------------------------------------------------------------------------------------

-- What each of the calls (name -> source of a function body) raised, in a handler of a client's message.
local function raised(calls)
  local source = { [[
    local Mesa = require "mesa"
    local Message = Mesa.Message
    local server = Mesa.new { port = 0, host = "127.0.0.1" }
    local message, calls, out = Message(0, {}, "T"), {}, {}
    local peer = Mesa.Client("ws://127.0.0.1:1", { autoConnect = false })
    local redis = Mesa.redis.connect "redis://127.0.0.1:1"
    local dispatcher, portal = Mesa.Dispatcher(redis), Mesa.Portal(redis)
    local client
  ]] }
  for name, body in pairs(calls) do
    source[#source + 1] = ("calls[%q] = function() %s end"):format(name, body)
  end
  source[#source + 1] = [[
    server:on("error", function() end)
    server:on("message", function(_, from)
      client = from
      for name, call in pairs(calls) do
        local ok, err = pcall(call)
        out[name] = ok and "nothing" or tostring(err)
      end
      from:send(Message(0, out, "OUT"))
    end)
  ]]
  local server = harness.start(table.concat(source, "\n"))
  local client = server:join()
  client:send { op = 0, t = "GO" }
  local out = client:expect("OUT", { timeout = 10000 }).d
  server:stop()
  return out
end

describe("a call", function()
  it("of a method with '.' says so, at its line", function()
    local methods = {
      server = { "send(message)", "on('message', print)", "once('message', print)", "off('message')", "emit('message')",
        "use(print)", "client('1')", "clients()", "count()", "close()", "getMiddlewareNamespace('a', 'b')",
        "mapMiddlewareNamespace({}, 'b')" },
      client = { "send(message)", "on('message', print)", "disconnect()", "disconnect(4000)", "authenticate(print)",
        "updateUser({ id = 1 })", "emit('x')" },
      peer = { "connect()", "send(message)", "authenticate({})", "disconnect()", "on('message', print)" },
      dispatcher = { "dispatch(message)", "close()", "on('error', print)" },
      portal = { "close()", "on('message', print)" },
      redis = { "get('x', print)", "command('GET', 'x', print)", "pipeline({}, print)", "subscribe('x', print)", "close()" },
      message = { "serialize()" },
    }
    local calls = {}
    for object, list in pairs(methods) do
      for _, call in ipairs(list) do calls[object .. "." .. call] = ("%s.%s"):format(object, call) end
    end
    for call, text in pairs(raised(calls)) do
      local method = call:match "%.(%a+)"
      assert.matches("^%S*server%.lua:%d+: %S*" .. method .. " is a method: call it with ':', as in %a+:" .. method
        .. "%(%.%.%.%)$", text)
    end
  end)

  it("of a function with ':' says so, at its line", function()
    local calls = {}
    for name, call in pairs {
      ["Mesa.new"] = "Mesa:new { port = 0 }", ["Mesa.Message"] = "Mesa:Message(0)", ["Mesa.sleep"] = "Mesa:sleep(1)",
      ["Mesa.await"] = "Mesa:await(print)", ["Mesa.setTimeout"] = "Mesa:setTimeout(print, 1)",
      ["Mesa.setInterval"] = "Mesa:setInterval(print, 1)", ["Mesa.clearTimeout"] = "Mesa:clearTimeout(nil)",
      ["Mesa.Client"] = "Mesa:Client 'ws://127.0.0.1:1'", ["Mesa.Dispatcher"] = "Mesa:Dispatcher(redis)",
      ["Mesa.Portal"] = "Mesa:Portal(redis)", ["Mesa.redis.connect"] = "Mesa.redis:connect 'redis://127.0.0.1'",
      ["Mesa.http.get"] = "Mesa.http:get 'http://127.0.0.1:1'", ["Mesa.log.info"] = "Mesa.log:info 'text'",
    } do
      calls[name] = "local _ = " .. call
    end
    for name, text in pairs(raised(calls)) do
      local quoted = name:gsub("%.", "%%.")
      assert.matches("^%S*server%.lua:%d+: " .. quoted .. " is no method: call it with '%.', as in " .. quoted .. "%(%.%.%.%)$", text)
    end
  end)

  it("with arguments in the wrong order, or of the wrong kind, says what is expected", function()
    local out = raised {
      swapped = "Mesa.setTimeout(1000, print)",
      interval = "Mesa.setInterval(1000, print)",
      nothing = "Mesa.setTimeout(nil, 1)",
      timer = "Mesa.clearTimeout(5)",
      sleep = "Mesa.sleep 'long'",
      text = "peer:send 'text'",
      ids = "server:send(Message(0, { users = { [1001] = 'ann', [1005] = 'bob' } }))",
      mixed = "server:send(Message(0, { 'ann', name = 'bob' }))",
    }
    assert.matches("^%S*server%.lua:%d+: Mesa%.setTimeout expects the function first: Mesa%.setTimeout%(fn, 1000%)$", out.swapped)
    assert.matches("^%S*server%.lua:%d+: Mesa%.setInterval expects the function first: Mesa%.setInterval%(fn, 1000%)$", out.interval)
    assert.matches("^%S*server%.lua:%d+: Mesa%.setTimeout expects a function, got nil$", out.nothing)
    assert.matches("^%S*server%.lua:%d+: Mesa%.clearTimeout expects what Mesa%.setTimeout has returned, got number$", out.timer)
    assert.matches("^%S*server%.lua:%d+: Mesa%.sleep expects milliseconds, got string$", out.sleep)
    assert.matches("^%S*server%.lua:%d+: client:send expects a Message, got string: make one with Mesa%.Message", out.text)
    assert.matches("^%S*server%.lua:%d+: cannot encode a sparse array %(2 of 1005 elements%) at data%.users "
      .. "%(for an object use string keys, as tostring%(id%)%)$", out.ids)
    assert.matches("^%S*server%.lua:%d+: cannot encode a table that mixes .* %(an object needs string keys, a list 1, 2, 3 %.%.%.%)$",
      out.mixed)
  end)
end)

describe("a listener for an event that nobody emits", function()
  it("is refused at its line when the name is nearly that of an event", function()
    local out = raised {
      server = "server:on('conection', print)",
      case = "server:on('Message', print)",
      other = "server:once('disconnect', print)",
      client = "client:on('mesage', print)",
      peer = "peer:on('disconnect', print)",
      portal = "portal:on('authenticate', print)",
    }
    for name, meant in pairs {
      server = { "server:on", "connection" }, case = { "server:on", "message" }, other = { "server:once", "disconnection" },
      client = { "client:on", "message" }, peer = { "client:on", "disconnected" }, portal = { "portal:on", "authentication" },
    } do
      assert.matches(('^%%S*server%%.lua:%%d+: %s: no event is called "%%a+", did you mean "%s"%%?'):format(meant[1], meant[2]), out[name])
    end
  end)

  it("is taken when the name is a script's own", function()
    local out = raised {
      own = "local got server:on('tick', function(n) got = n end) server:emit('tick', 5) assert(got == 5) error('own', 0)",
      client = "client:on('levelUp', print) error('own', 0)",
    }
    assert.same({ own = "own", client = "own" }, out)
  end)
end)

-- ---- authentication --------------------------------------------------------------------------------------------------

describe("a server made in a handler", function()
  it("raises at the line that makes it", function()
    local out = raised { late = "Mesa.new { port = 0 }" }
    assert.matches("^%S*server%.lua:%d+: Mesa%.new: servers are made while the main script runs, not later in handlers$", out.late)
  end)
end)

describe("a client that wants to authenticate where nothing answers", function()
  it("is told of once, with what to do", function()
    local server = harness.start('require "mesa".new { port = 0, host = "127.0.0.1" }\n')
    for _ = 1, 2 do
      local client = server:join()
      client:send { op = 2, d = { token = "secret" } }
      client:send { op = 1 }
      client:expect(11)
    end
    assert.equal(1, server:log_count("a client wants to authenticate %(op 2%), and there is no handler for it: call "
      .. "client:authenticate%(fn%) in the connection handler, or name auth in scripts"))
    assert.equal(0, server:log_count "secret")
    server:stop()
  end)
end)

describe("an authenticate handler", function()
  local server
  local function start(handler, config)
    server = harness.start("server.lua", { files = {
      ["server.lua"] = ([[
        local server = require "mesa".new { port = 0, host = "127.0.0.1", scripts = { auth = "auth.lua" }, %s }
        server:on("error", function(err) print(err.code .. " " .. err.message) end)
      ]]):format(config or ""),
      ["auth.lua"] = handler,
    } })
    local client = server:join()
    client:send { op = 2, d = {} }
    return client
  end
  after_each(function() server:stop() end)

  it("that returns without an answer is told of at once, with its place", function()
    start "\nreturn function(data, done)\n  data.seen = true\nend"
    server:stdout_contains "AUTH_UNANSWERED the authenticate handler of auth%.lua:2 returned without an answer"
    assert.equal(1, server:log_count "AUTH_UNANSWERED")
    local other = server:join()
    other:send { op = 2, d = {} }
    other:send { op = 1 }
    other:expect(11)
    assert.equal(1, server:log_count "AUTH_UNANSWERED")
  end)

  it("that leaves done to somebody else is not", function()
    local client = start [[
      local Mesa = require "mesa"
      return function(data, done)
        Mesa.setTimeout(function() done(nil, { id = "late" }) end, 50)
      end
    ]]
    assert.same({ id = "late" }, client:expect(22).d)
    assert.equal(0, server:log_count "AUTH_UNANSWERED")
  end)

  it("is named when its result is none", function()
    local client = start "return function(data, done)\n  done(nil, { user = {} })\nend"
    client:expect_close(1008)
    server:stdout_contains "AUTH_RESULT the authentication result needs an id: .* %(given by the authenticate handler of auth%.lua:1%)"
  end)

  it("that has not answered in time is named", function()
    local client = start([[
      local kept
      return function(data, done) kept = done end
    ]], "authentication = { timeout = 100 }")
    client:expect_close(1008)
    server:stdout_contains "AUTH_TIMEOUT .*: the authenticate handler of auth%.lua:2 has neither called done nor returned a result"
  end)

  it("that gives the result in the place of the error is told so at its line", function()
    local client = start "return function(data, done)\n  done { id = 'ann' }\nend"
    client:expect_close(1008)
    server:stdout_contains("SCRIPT auth%.lua:2: done: the first argument is the error, the result comes second: "
      .. "done%(nil, { id = %.%.%. }%)")
  end)
end)
