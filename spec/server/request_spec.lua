-- Plain HTTP as the server's `request` event.
local harness = require "spec.support.harness"

local loop = harness.loop

local SOURCE = [[
local Mesa = require "mesa"
local server = Mesa.new {
  port = 0, host = "127.0.0.1", path = "/live", static = "public", limits = { maxBody = 1000 }, tls = %s,
  authentication = { timeout = false },
}
local kept, errors = nil, {}
server:on("error", function(err) errors[#errors + 1] = err.message end)
local routes = {}

function routes.GET_hello(request, response) response:send "hello" end
function routes.GET_json(request, response) response:header("X-A", "1"):json { list = Mesa.array {}, n = 1 } end
function routes.POST_echo(request, response)
  response:status(201):header("Content-Type", "application/x-echo"):send(request.body)
end
function routes.PUT_describe(request, response)
  response:json {
    method = request.method, path = request.path, query = request.query, queryString = request.queryString,
    ip = request.ip, secure = request.secure, body = request.body, header = request.headers["x-mine"],
  }
end
function routes.GET_wait(request, response)
  Mesa.sleep(50)
  response:send "waited"
end
function routes.GET_later(request, response)
  response:defer()
  Mesa.setTimeout(function() response:send "later" end, 50)
end
function routes.GET_keep(request, response) kept = response:defer() end
function routes.GET_release(request, response)
  kept = nil
  collectgarbage()
  collectgarbage()
  response:send "released"
end
function routes.GET_forget(request, response)
  response:defer()
  response = nil
  Mesa.setTimeout(function() collectgarbage() collectgarbage() end, 10)
end
function routes.GET_fail(request, response) error "on purpose" end
function routes.GET_failLate(request, response)
  response:send "fine"
  error "after the answer"
end
function routes.GET_errors(request, response) response:json(Mesa.array(errors)) end
function routes.GET_twice(request, response)
  local first, second = response:send "first", { response:send "second" }
  response:header("x", "y")
  server.state.twice = { tostring(first), tostring(second[1]), second[2], tostring(response.answered) }
end
function routes.GET_twiceResult(request, response) response:json(server.state.twice) end
function routes.GET_cookies(request, response) response:header("Set-Cookie", { "a=1", "b=2" }):send() end
function routes.GET_misuse(request, response)
  local failures = Mesa.array {}
  local function try(method, ...)
    local ok, err = pcall(response[method], response, ...)
    failures[#failures + 1] = ok and "no error" or err:gsub("^[^:]*:%%d+: ", "")
  end
  try("status", 99)
  try("status", "200")
  try("header", "bad name", "x")
  try("header", "X-A", "a\r\nX-B: c")
  try("header", "Content-Length", "5")
  try("send", {})
  try("json", { print })
  response:json(failures)
end

server:on("request", function(request, response)
  local route = routes[request.method .. "_" .. request.path:sub(2)]
  if route then route(request, response) end
end)
server:on("request", function(request, response)
  if request.path == "/second" then response:send "second listener" end
end)
server:on("connection", function(client)
  client:on("message", function(message) client:send(Mesa.Message(0, message.data, "ECHO"), true) end)
end)
]]

local to_lua = require "spec.support.to_lua"

for _, transport in ipairs(harness.transports) do
  describe("the request event over " .. transport.name, function()
    local server

    setup(function()
      local pair = transport.tls and harness.tls.certificate()
      local tls = pair and to_lua { cert = pair.cert, key = pair.key } or "nil"
      server = harness.start("server.lua", { files = {
        ["server.lua"] = SOURCE:format(tls),
        ["public/file.txt"] = "from the folder",
      } })
      server.tls = transport.tls
    end)
    teardown(function()
      server:stop()
    end)

    local function http(request)
      return assert(server:http(request))
    end
    local function get(path)
      return http { path = path }
    end

    it("answers with text and with JSON", function()
      local hello = get "/hello"
      assert.same({ 200, "hello", "text/plain; charset=utf-8" }, { hello.status, hello.body, hello.headers["content-type"] })
      local json = get "/json"
      assert.equal("application/json", json.headers["content-type"])
      assert.equal("1", json.headers["x-a"])
      assert.matches('"list":[]', json.body, 1, true)
    end)

    it("tells all about the request", function()
      local response = http {
        method = "PUT", path = "/describe?a=1&b=x%20y", body = "some\0bytes", headers = { ["X-Mine"] = "here" },
      }
      for _, text in ipairs {
        '"method":"PUT"', '"path":"/describe"', '"a":"1"', '"b":"x y"', '"body":"some\\u0000bytes"', '"header":"here"',
        '"ip":"127.0.0.1"', '"secure":' .. tostring(transport.tls),
      } do
        assert.matches(text, response.body, 1, true)
      end
    end)

    it("takes a body up to its bound", function()
      local echo = http { method = "POST", path = "/echo", body = ("x"):rep(1000) }
      assert.same({ 201, 1000, "application/x-echo" }, { echo.status, #echo.body, echo.headers["content-type"] })
      assert.equal(413, http({ method = "POST", path = "/echo", body = ("x"):rep(1001) }).status)
    end)

    it("may wait, and may be answered later", function()
      assert.equal("waited", get("/wait").body)
      assert.equal("later", get("/later").body)
    end)

    it("answers 500 for an error, which is reported", function()
      assert.equal(500, get("/fail").status)
      assert.equal("fine", get("/failLate").body)
      local errors = get("/errors").body
      assert.matches("on purpose", errors, 1, true)
      assert.matches("after the answer", errors, 1, true)
    end)

    it("answers 500 for a deferred request that everybody has forgotten", function()
      assert.equal(500, get("/forget").status)
      assert.is_true(server:log_count "never answered" > 0)
    end)

    it("is answered once", function()
      assert.equal("first", get("/twice").body)
      assert.equal('["true","nil","answered","true"]', get("/twiceResult").body)
    end)

    it("can have several listeners, and headers several values", function()
      assert.equal("second listener", get("/second").body)
      assert.matches("a=1\r\nset%-cookie: b=2", get("/cookies").head:lower())
    end)

    it("raises for what cannot be answered", function()
      local body = get("/misuse").body
      for _, text in ipairs {
        "from 200 to 599, got 99", "cannot be a header's name", "line break", "set by the server itself", "expects a string",
        "cannot encode a function",
      } do
        assert.matches(text, body, 1, true)
      end
      assert.is_nil(body:find("no error", 1, true))
    end)

    it("comes behind files, and leaves what nobody wants to the server", function()
      assert.equal("from the folder", get("/file.txt").body)
      assert.equal(404, get("/nowhere").status)
      assert.equal(404, http({ method = "POST", path = "/nowhere" }).status)
      assert.equal(426, get("/live").status)
    end)

    it("shares its connection with others", function()
      local stream = require "spec.support.stream"
      local wire = assert(stream.connect(server:address(), { ca = transport.tls and harness.tls.certificate().cert or nil }))
      local text, ended = "", false
      wire:listen(function(bytes) text = text .. bytes end, function() ended = true end)
      local function answered(count)
        return loop.wait(function() return select(2, text:gsub("HTTP/1.1 200 OK", "")) == count end, 5000)
      end
      for _, path in ipairs { "hello", "wait", "later", "file.txt" } do
        wire:write(("GET /%s HTTP/1.1\r\nHost: a\r\n\r\n"):format(path))
      end
      assert.is_true(answered(4))
      wire:write "GET /hello HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n"
      assert.is_true(loop.wait(function() return ended end, 5000))
      assert.matches("hello.*waited.*later.*from the folder.*Connection: close.*hello$", text)
      wire:close()
    end)

    it("has no body for HEAD", function()
      assert.equal("", http({ method = "HEAD", path = "/second" }).body)
    end)

    it("leaves WebSockets alone", function()
      local client = server:join "/live"
      client:send { op = 0, t = "X", d = { n = 1 } }
      assert.same({ n = 1 }, client:expect("ECHO").d)
      client:close()
      assert.is_nil(server:try_connect "/hello")
    end)

    it("survives peers that leave before they are answered", function()
      for _ = 1, 20 do
        server:http { path = "/wait", timeout = 5 } -- or he is answered after all, on a slow machine
        assert.is_nil(server:http { path = "/keep", timeout = 5 })
      end
      assert.equal("released", get("/release").body)
      assert.equal("hello", get("/hello").body)
    end)
  end)
end

describe("a server that ends while requests wait for an answer", function()
  it("leaves nothing behind", function()
    local server = harness.start([[
      local Mesa = require "mesa"
      local server = Mesa.new { port = 0, host = "127.0.0.1" }
      local kept = {}
      server:on("request", function(request, response)
        print("got one")
        if request.path == "/wait" then Mesa.sleep(600000) else kept[#kept + 1] = response:defer() end
      end)
    ]])
    local stream = require "spec.support.stream"
    local streams = {}
    for i = 1, 20 do
      streams[i] = assert(stream.connect({ port = server.port }))
      streams[i]:write(("GET /%s HTTP/1.1\r\nHost: x\r\n\r\n"):format(i % 2 == 0 and "wait" or "keep"))
    end
    assert.is_true(loop.wait(function()
      return select(2, server.process.stdout:gsub("got one", "")) == 20
    end, 5000))
    server:stop()
    for _, one in ipairs(streams) do one:close() end
  end)
end)

describe("on_request.lua", function()
  local server
  after_each(function() server:stop() end)

  local MAIN = [[
    local Mesa = require "mesa"
    local server = Mesa.new { port = 0, host = "127.0.0.1", scripts = %s }
    server:on("error", function(err) print("error", err.message) end)
    %s
  ]]

  local function start(scripts, text, more)
    server = harness.start(nil, { files = {
      ["server.lua"] = MAIN:format(scripts, more or ""), ["scripts/on_request.lua"] = text,
    } })
  end

  local function get(path)
    local response = server:http { path = path }
    return response.status, response.body
  end

  local SCRIPT = [[
    local Mesa = require "mesa"
    return function(request, response, server)
      if request.path == "/hello" then
        Mesa.sleep(1)
        response:send(request.query.a .. " at " .. server.port)
      elseif request.path == "/fail" then
        error "on purpose"
      elseif request.path == "/later" then
        Mesa.setTimeout(function() response:send "later" end, 1)
        response:defer()
      end
    end
  ]]

  it("answers, waits, fails and leaves the rest to others, by the rules of the event", function()
    start('"scripts"', SCRIPT, [[server:on("request", function(request, response)
      if request.path ~= "/nobody" then response:send("listener of " .. request.path) end
    end)]])
    assert.same({ 200, "1 at " .. server.port }, { get "/hello?a=1" })
    assert.same({ 500, "Internal Server Error\n" }, { get "/fail" })
    server:stdout_contains "error\tscripts/on_request.lua:7: on purpose"
    assert.same({ 200, "listener of /other" }, { get "/other" })
    assert.equal(426, (get "/nobody"))
  end)

  it("serves without listeners, named in the configuration, and is reloaded", function()
    start('{ request = "scripts/on_request.lua" }', SCRIPT)
    assert.same({ 200, "later" }, { get "/later" })
    assert.equal(426, (get "/other"))
    server:write_file("scripts/on_request.lua", "return function(request, response) response:send 'new' end")
    server:log_contains "reloaded scripts/on_request%.lua"
    assert.same({ 200, "new" }, { get "/other" })
  end)

  it("may come when the server runs", function()
    server = harness.start(nil, { files = {
      ["server.lua"] = MAIN:format('"scripts"', ""),
      ["scripts/readme.txt"] = "a folder that has no handler yet",
    } })
    assert.equal(426, (get "/"))
    server:write_file("scripts/on_request.lua", "return function(request, response) response:send 'there' end")
    server:log_contains "reloaded"
    assert.same({ 200, "there" }, { get "/" })
  end)
end)
