-- Mesa.new { server = other, path = … }: several servers on one port.
local harness = require "spec.support.harness"

local SOURCE = [[
local Mesa = require "mesa"
local function echo(server, name)
  server:on("connection", function(client)
    client:on("message", function(message)
      client:send(Mesa.Message(0, { by = name, count = server:count(), port = server.port }, "ECHO"), true)
    end)
    client:on("disconnect", function(event) print(name .. " lost " .. event.code) end)
  end)
  server:on("message", function(message)
    if message.type == "ALL" then server:send(Mesa.Message(0, { by = name }, "TO_ALL")) end
    if message.type == "CLOSE_MAIN" then main:close() end
    if message.type == "CLOSE_ADMIN" then admin:close() end
  end)
  server:on("request", function(request, response) response:send(name .. " " .. request.path) end)
  server:on("close", function() print(name .. " closed") end)
  server:on("listening", function(port) print(name .. " listens") end)
end
main = Mesa.new { port = 0, host = "127.0.0.1", path = %s, authentication = { timeout = false } }
admin = Mesa.new { server = main, path = "/admin", heartbeat = { enabled = true, interval = 5000 }, authentication = { timeout = false } }
raw = Mesa.new { server = main, path = "/raw", raw = true, origins = { "https://good" } }
echo(main, "main")
echo(admin, "admin")
raw:on("connection", function(client) client:send "welcome" end)
]]

describe("servers on one port", function()
  local server

  local function start(path)
    server = harness.start(SOURCE:format(path))
  end
  after_each(function()
    if server then server:stop() end
    server = nil
  end)

  local function ask(client)
    client:send { op = 0, t = "X", d = {} }
    return client:expect("ECHO").d
  end

  it("are told apart by path", function()
    start '"/main"'
    local on_main, on_admin = server:join "/main", server:join "/admin"
    assert.same({ by = "main", count = 1, port = server.port }, ask(on_main))
    assert.same({ by = "admin", count = 1, port = server.port }, ask(on_admin))
    assert.is_nil(on_main.hello_message.d.c_heartbeat_interval)
    assert.equal(5000, on_admin.hello_message.d.c_heartbeat_interval)
    assert.is_nil(server:try_connect "/other")
    assert.equal("welcome", server:connect("/raw"):next().raw)
    local _, _, response = server:try_connect("/raw", { headers = { Origin = "https://bad" } })
    assert.equal(403, response.status)
    assert.equal("admin listens", server:stdout_contains "admin listens")
    assert.equal(1, server:log_count "listening on")
    assert.equal(2, server:log_count "serving /")
  end)

  it("leave every other path to the one that listens, when it has none", function()
    start "nil"
    assert.equal("main", ask(server:join "/anything").by)
    assert.equal("admin", ask(server:join "/admin").by)
  end)

  it("have users and broadcasts of their own", function()
    start '"/main"'
    local on_main, on_admin = server:join "/main", server:join "/admin"
    on_admin:send { op = 0, t = "ALL", d = {} }
    assert.equal("admin", on_admin:expect("TO_ALL").d.by)
    assert.equal("main", ask(on_main).by)
  end)

  it("have requests of their own", function()
    start '"/main"'
    assert.equal("admin /admin", server:http("/admin").body)
    assert.equal("main /admin/below", server:http("/admin/below").body)
    assert.equal("main /main", server:http("/main").body)
  end)

  it("can close without the one that listens", function()
    start '"/main"'
    local on_main, on_admin = server:join "/main", server:join "/admin"
    on_admin:send { op = 0, t = "CLOSE_ADMIN", d = {} }
    on_admin:expect_close(1001)
    server:stdout_contains "admin closed"
    assert.equal("main", ask(on_main).by)
    assert.is_nil(server:try_connect "/admin")
  end)

  it("close with the one that listens", function()
    start '"/main"'
    local on_main, on_admin = server:join "/main", server:join "/admin"
    on_admin:send { op = 0, t = "CLOSE_MAIN", d = {} }
    on_main:expect_close(1001)
    on_admin:expect_close(1001)
    server:stdout_contains "main closed"
    server:stdout_contains "admin closed"
  end)

  it("all say goodbye at the end", function()
    start '"/main"'
    local on_main, on_admin = server:join "/main", server:join "/admin"
    server:signal "sigterm"
    on_main:expect_close(1001)
    on_admin:expect_close(1001)
    assert.equal(0, server:wait_exit())
  end)

  it("are refused when they cannot be", function()
    for config, text in pairs {
      ['{ server = main }'] = "path is missing",
      ['{ server = main, path = "/main" }'] = "path is taken",
      ['{ server = main, path = "/x", port = 1 }'] = "port cannot be used with server",
      ['{ server = main, path = "/x", limits = { maxPayload = 5 } }'] = "limits.maxPayload cannot be used with server",
      ['{ server = {}, path = "/x" }'] = "server must be a server that Mesa.new has made",
      ['{ server = Mesa.new { server = main, path = "/y" }, path = "/x" }'] = "server must be one that listens itself",
    } do
      local failing = harness.launch(([[
        local Mesa = require "mesa"
        local main = Mesa.new { port = 0, path = "/main" }
        Mesa.new %s
      ]]):format(config))
      failing:wait_exit()
      assert.matches(text, failing.process.stderr, 1, true)
      failing:destroy()
    end
  end)
end)
