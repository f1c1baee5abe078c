-- The examples that use Mesa.Client, middleware and a database, run as they are.
local harness = require "spec.support.harness"

local CHAT = "examples/chat/server.lua"

describe("the example", function()
  local server, program

  after_each(function()
    if program then program:stop() end
    server:stop()
    program = nil
  end)

  it("bot greets, answers, and leaves when it is told to", function()
    server = harness.start(CHAT, { flags = { "--port", "0" } })
    program = harness.launch("examples/bot/bot.lua", { args = { "ws://localhost:" .. server.port, "Robo" } })
    program:stdout_contains "in the room"
    local ann = server:join()
    ann:send { op = 2, d = { name = "Ann", token = "the secret of Ann" } }
    ann:expect(22)
    ann:send { op = 0, t = "JOIN" }
    local function hears(pattern)
      return ann:expect(function(m) return m.t == "SAID" and m.d.text:find(pattern) and m.d.from.name == "Robo" end)
    end
    hears "^Hello, Ann!$"
    ann:send { op = 0, t = "SAY", d = { text = "!time" } }
    hears "^It is %d"
    ann:send { op = 0, t = "SAY", d = { text = "!roll" } }
    hears "^You rolled a [1-6]"
    ann:send { op = 0, t = "SAY", d = { text = "!bye" } }
    hears "^Goodbye, Ann!$"
    assert.equal(0, program:wait_exit(10000))
    assert.matches("disconnected %(1000%)\n$", program.process.stdout)
  end)

  it("middleware logs and counts", function()
    server = harness.start("examples/middleware/server.lua", { flags = { "--port", "0" } })
    local client = server:join()
    client:send { op = 2, d = { name = "Ann" } }
    client:expect(22)
    client:send { op = 0, t = "ECHO", d = { n = 1 } }
    assert.same({ n = 1 }, client:expect("ECHO").d)
    client:send { op = 0, t = "STATS" }
    local stats = client:expect("STATS").d
    assert.same({ ECHO = 1, STATS = 1 }, stats.types)
    assert.equal(1, stats.open)
    server:log_contains "Ann %(127.0.0.1%) logged in"
    server:log_contains "Ann %(127.0.0.1%) sent ECHO"
    client:close(1000)
    server:log_contains "left with 1000"
  end)

  it("auth-db asks a database, for a hundred clients at once", function()
    local dir = harness.fs.mkdtemp()
    server = harness.start("examples/auth-db/server.lua", { flags = { "--port", "0" }, args = { dir .. "/users.db" } })
    local clients = {}
    for i = 1, 100 do
      clients[i] = server:join()
      clients[i]:send { op = 2, d = { token = i % 2 == 0 and "ann's token" or "bob's token" } }
    end
    for i = 1, 100 do
      local user = clients[i]:expect(22, { timeout = 10000 }).d
      assert.same(i % 2 == 0 and { id = "1", name = "Ann" } or { id = "2", name = "Bob" }, user)
    end
    for _, token in ipairs { "nobody's", "' OR '1'='1", "\0", "" } do
      local stranger = server:join()
      stranger:send { op = 2, d = { token = token } }
      stranger:expect_close(1008)
    end
    harness.fs.remove(dir)
  end)

  it("auth-db lets users in after its files were saved", function()
    local files = {}
    for _, name in ipairs { "server.lua", "auth.lua", "database.lua" } do
      files[name] = harness.fs.read("examples/auth-db/" .. name)
    end
    server = harness.start(nil, { files = files, flags = { "--port", "0" } })
    local function ann_is_let_in()
      local client = server:join()
      client:send { op = 2, d = { token = "ann's token" } }
      assert.same({ id = "1", name = "Ann" }, client:expect(22, { timeout = 10000 }).d)
    end
    ann_is_let_in()
    for _, name in ipairs { "database.lua", "auth.lua", "database.lua" } do
      local mark = server:log_mark()
      server:write_file(name, harness.fs.read(server:path(name)) .. "-- saved\n")
      server:log_contains("reloaded", 5000, mark)
      ann_is_let_in()
    end
  end)
end)
