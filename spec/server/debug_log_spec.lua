-- --log-level debug: what happens, and never what messages contain.
local harness = require "spec.support.harness"

local FILES = {
  ["server.lua"] = [[
    local server = require "mesa".new { port = 0, host = "127.0.0.1", scripts = { auth = "auth.lua" } }
    server:on("message", function(message, client) client:send(message) end)
  ]],
  ["auth.lua"] = "return function(data) if data.token == 'ok' then return { id = 'ann' } end return nil, 'no' end\n",
}

local function talk(flags)
  local server = harness.start("server.lua", { files = FILES, flags = flags })
  local client = server:join("/chat?key=hidden1")
  client:send { op = 2, d = { token = "ok", password = "hidden2" } }
  client:expect(22)
  client:send { op = 0, t = "SAY", d = { text = "hidden3" } }
  client:expect "SAY"
  local other = server:join()
  other:send { op = 2, d = { token = "no" } }
  other:expect_close(1008)
  client:close(4001, "bye")
  assert.equal(426, server:http({ path = "/page?key=hidden4" }).status)
  server:signal "sighup"
  server:log_contains "reloaded auth%.lua"
  return server
end

describe("--log-level debug", function()
  it("shows connections, messages, authentications and requests", function()
    local server = talk { "--log-level", "debug" }
    local name = server:log_contains "debug server: client (%S+) connected from 127%.0%.0%.1, path /chat\n"
    name = name:gsub("%-", "%%-")
    server:log_contains("debug server: client " .. name .. " asks to be authenticated\n")
    server:log_contains("debug server: client " .. name .. " is user ann\n")
    server:log_contains("debug server: client " .. name .. ' sent op 0, type "SAY", %d+ bytes\n')
    server:log_contains("debug server: client " .. name .. " is gone: 4001 bye\n")
    server:log_contains "debug server: client %S+ was refused\n"
    server:log_contains "debug server: GET /page from 127%.0%.0%.1, 0 bytes of body\n"
    assert.equal(0, server:log_count "hidden")
    server:stop()
  end)

  it("is more than what is shown without it", function()
    local server = talk {}
    assert.equal(0, server:log_count " debug ")
    server:stop()
  end)

  it("shows messages of raw servers by their size", function()
    local server = harness.start('require "mesa".new { port = 0, host = "127.0.0.1", raw = true }\n',
      { flags = { "--log-level", "debug" } })
    local client = server:connect()
    client:send_binary "hidden"
    server:log_contains "debug server: client %S+ sent 6 bytes\n"
    assert.equal(0, server:log_count "hidden")
    server:stop()
  end)
end)
