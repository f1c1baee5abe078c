-- What scripts do to the globals and libraries harms the scripts only.
local harness = require "spec.support.harness"

-- A handler that replaces every function a script can reach in the globals and libraries by one that raises.
local BREAK = [[
local raised = error
local function broken() raised("a function that a handler has overwritten was called", 2) end
local function break_globals()
  local iterate, kind, globals = next, type, _G
  local libraries = {}
  for _, library in iterate, package.loaded do
    if kind(library) == "table" and library ~= globals then libraries[#libraries + 1] = library end
  end
  local own = { [Mesa] = true }
  for name, library in iterate, package.loaded do
    if name:sub(1, 5) == "mesa." then own[library] = true end
  end
  local function overwrite(t)
    for key, value in iterate, t do
      if kind(value) == "function" then t[key] = broken end
    end
  end
  for i = 1, #libraries do
    if not own[libraries[i] ] then overwrite(libraries[i]) end
  end
  overwrite(globals)
end
]]

local SERVER = [[
local Mesa = require "mesa"
local uv = require "luv"
local Message = Mesa.Message
local await, sleep, setTimeout, get = Mesa.await, Mesa.sleep, Mesa.setTimeout, Mesa.http.get
local stdout = io.stdout
local function print(text) stdout:write(text, "\n") end -- the real one calls tostring, which is overwritten
]] .. BREAK .. [[
local server = Mesa.new { port = 0, host = "127.0.0.1", scripts = { message = "on_message.lua", auth = "auth.lua" } }
uv.new_timer():start(60000, 0, function() end) -- a handle that the shutdown has to close
server:use(function()
  return { onMessageReceived = function() end, onDisconnection = function(_, event) print("gone " .. event.code) end }
end)
server:on("error", function(err) print("error event: " .. err.message) end)
server:on("reload", function(event) print("reloaded " .. event.version) end)
server:on("request", function(request, response) response:json { path = request.path, query = request.query } end)
function server.state.run(message, client)
  if message.type == "BREAK" then
    break_globals()
    client:send(Message(0, nil, "BROKEN"))
  elseif message.type == "ECHO" then
    client:send(Message(0, message.data, "ECHO"))
  elseif message.type == "WAIT" then
    sleep(1)
    local got = await(function(resolve) setTimeout(resolve, 1, "resolved") end)
    server:send(Message(0, { got = got }, "WAITED"), { client.id })
  elseif message.type == "GET" then
    local response = get("http://127.0.0.1:" .. server.port .. "/page", { query = { a = "b" } })
    client:send(Message(0, response.json, "GOT"))
  elseif message.type == "CONNECT" then
    local peer = Mesa.Client("ws://127.0.0.1:" .. server.port)
    peer:on("connected", function()
      peer:authenticate { id = "peer" }
      peer:disconnect()
      client:send(Message(0, { user = peer.user }, "CONNECTED"))
    end)
  elseif message.type == "MISUSE" then
    client:send(Message(0, function() end))
  end
end
]]

describe("a handler that overwrites every global and library function", function()
  local server, client

  before_each(function()
    server = harness.start("server.lua", {
      files = {
        ["server.lua"] = SERVER,
        ["on_message.lua"] = "return function(message, client, server) server.state.run(message, client) end\n",
        ["auth.lua"] = "return function(data) return { id = data.id } end\n",
      },
    })
    client = server:join()
    client:send { op = 2, d = { id = "ann" } }
    client:expect(22)
    client:send { op = 0, t = "BREAK" }
    client:expect "BROKEN"
  end)
  after_each(function() server:stop() end)

  it("lets messages, waits, timers and requests of others go on", function()
    client:send { op = 0, t = "ECHO", d = { n = 1.5, list = { "x" } } }
    assert.same({ n = 1.5, list = { "x" } }, client:expect("ECHO").d)
    client:send { op = 0, t = "WAIT" }
    assert.same({ got = "resolved" }, client:expect("WAITED").d)
    client:send { op = 0, t = "GET" }
    assert.same({ path = "/page", query = { a = "b" } }, client:expect("GOT").d)
  end)

  it("lets others connect, authenticate and leave", function()
    local other = server:join()
    other:send { op = 2, d = { id = 7 } }
    assert.same({ id = 7 }, other:expect(22).d)
    other:close(4001)
    server:stdout_contains "gone 4001"
    client:send { op = 0, t = "CONNECT" }
    assert.same({ user = { id = "peer" } }, client:expect("CONNECTED").d)
  end)

  it("lets errors be told at their line", function()
    client:send { op = 0, t = "MISUSE" }
    server:stdout_contains "error event: .*cannot encode a function"
    server:log_contains "server%.lua:%d+: .*cannot encode a function"
  end)

  it("lets code reload, on save and on SIGHUP", function()
    server:write_file("on_message.lua", "return function(message, client, server) server.state.run(message, client) end -- 2\n")
    server:stdout_contains "reloaded 2"
    server:signal "sighup"
    server:stdout_contains "reloaded 3"
    server:write_file("on_message.lua", "return {")
    server:log_contains "reload failed.*on_message%.lua:1"
    client:send { op = 0, t = "ECHO", d = 1 }
    assert.equal(1, client:expect("ECHO").d)
  end)

  it("lets SIGTERM end the process in order", function()
    server:signal "sigterm"
    client:expect_close(1001)
    assert.equal(0, (server:wait_exit()))
  end)
end)
