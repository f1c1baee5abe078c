-- examples/auth-http as it is: a server that asks a service, both run by mesa-lua.
local harness = require "spec.support.harness"
local fake_http = require "spec.support.fake_http"
local loop = harness.loop

local CLIENTS = 1000
local FOLDER = "examples/auth-http/"
local ANY_PORT = { "--port", "0" }

describe("authentication through a service", function()
  local service, server

  local function start(url, delay)
    if not url then
      service = harness.start(FOLDER .. "service.lua", { flags = ANY_PORT, args = { tostring(delay) } })
      url = "http://localhost:" .. service.port
    end
    server = harness.start(FOLDER .. "server.lua", { flags = ANY_PORT, args = { url } })
  end
  after_each(function()
    if server then server:stop() end
    if service then service:stop() end
    service, server = nil, nil
  end)

  it("takes whom the service knows, and nobody else", function()
    start(nil, 10)
    local alice = server:join()
    alice:send { op = 2, d = { token = "alice-secret" } }
    assert.same({ id = "alice", name = "Alice" }, alice:expect(22).d)
    local mallory = server:join()
    mallory:send { op = 2, d = { token = "guess" } }
    mallory:expect_close(1008)
    server:log_contains "unknown token"
  end)

  it("answers what it was not asked for", function()
    start(nil, 10)
    assert.equal(404, service:http("/other").status)
    assert.equal(405, service:http("/session").status)
    assert.equal(400, service:http({ method = "POST", path = "/session", body = "no json" }).status)
  end)

  it("refuses while the service is away or in trouble", function()
    start("http://localhost:" .. harness.free_port())
    local client = server:join()
    client:send { op = 2, d = { token = "alice-secret" } }
    client:expect_close(1008)
    server:log_contains "the service does not answer: .*connection refused"
    server:stop()

    local fake = fake_http.start { ["*"] = function(conn) conn:reply(500, "sorry") end }
    start(fake.url)
    client = server:join()
    client:send { op = 2, d = { token = "alice-secret" } }
    client:expect_close(1008)
    server:log_contains "the service answered 500"
    fake:stop()
  end)

  it("forgets whom it checked when they have left", function()
    start(nil, 100)
    for _ = 1, 20 do
      local client = server:join()
      client:send { op = 2, d = { token = "alice-secret" } }
      client:close()
    end
    local bob = server:join()
    bob:send { op = 2, d = { token = "bob-secret" } }
    assert.equal("bob", bob:expect(22, { timeout = 5000 }).d.id)
  end)

  it("checks a thousand clients at once, and holds up nobody else", function()
    start(nil, 300)
    local crowd = {}
    for i = 1, CLIENTS do
      crowd[i] = server:join()
    end
    local echo = server:join()
    local began = loop.now_ms()
    for i, client in ipairs(crowd) do
      client:send { op = 2, d = { token = ("user%d-secret"):format(i) } }
    end
    local checked = 0
    local function all_in()
      for i = checked + 1, CLIENTS do
        local message = crowd[i].inbox[1]
        if not message then return false end
        assert.equal(22, message.op)
        checked = i
      end
      return true
    end
    local echoes = 0
    repeat
      echo:send { op = 0, t = "ECHO", d = { n = echoes } }
      assert.equal(echoes, echo:expect("ECHO").d.n)
      echoes = echoes + 1
      loop.sleep(5)
    until all_in() or loop.now_ms() - began > loop.scaled(30000)
    -- one after the other they would take five minutes
    assert.equal(CLIENTS, checked)
    assert.is_true(echoes > 5)
    if os.getenv "VERBOSE" then
      print(("%d clients in %d ms, %d echoes meanwhile"):format(CLIENTS, loop.now_ms() - began, echoes))
    end
  end)
end)
