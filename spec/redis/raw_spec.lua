-- Raw servers in a cluster: text and binary messages that cross servers, beside servers that speak the protocol.
local cjson = require "cjson"
local cluster = require "spec.support.cluster"
local loop = require "spec.support.loop"

-- Does what its clients ask for as JSON: login (an id), send (text, with to, excluding, and binary: "\0\255" and all bytes in front).
local SCRIPT = [[
  config.raw = true
  local Mesa = require "mesa"
  local bytes = {}
  for byte = 0, 255 do bytes[#bytes + 1] = string.char(byte) end
  bytes = table.concat(bytes)

  local server = Mesa.new(config)
  local errors, sent = Mesa.array {}, Mesa.array {}
  server:on("error", function(err) errors[#errors + 1] = err.code .. " " .. err.message end)
  server:use(function()
    return {
      onMessageSent = function(message, clients, own)
        if own ~= nil then sent[#sent + 1] = { n = #message.data, binary = message.binary, clients = #clients, own = own } end
      end,
    }
  end)
  server:on("message", function(message, client)
    local ask = Mesa.json.decode(message.data)
    local answer = {}
    if ask.login then
      client:updateUser { id = ask.login }
    elseif ask.send then
      local data = ask.binary and bytes:rep(ask.times or 1) .. ask.send or ask.send:rep(ask.times or 1)
      local ok, err = server:send(data, ask.to, ask.excluding, { binary = ask.binary })
      answer = { ok = ok, err = err }
    elseif ask.report then
      answer = { errors = errors, sent = sent }
    end
    client:send(Mesa.json.encode(answer))
  end)
]]

local BYTES = {}
for byte = 0, 255 do BYTES[#BYTES + 1] = string.char(byte) end
BYTES = table.concat(BYTES)

local function ask(client, what)
  client:send(cjson.encode(what))
  while true do -- what the client is sent itself may come first
    local message = client:next()
    local ok, answer = pcall(cjson.decode, message.raw)
    if not message.binary and ok and type(answer) == "table" then return answer end
    client.others = client.others or {}
    table.insert(client.others, message)
  end
end

-- The next message that is no answer.
local function heard(client)
  if client.others and client.others[1] then return table.remove(client.others, 1) end
  return client:next()
end

local function login(node, id)
  local client = node:connect()
  ask(client, { login = id })
  return client
end

local function metric(node, name)
  local body = node:http({ path = "/metrics" }, { port = node.admin_port }).body
  return tonumber(body:match("\n" .. name:gsub("%p", "%%%0") .. " (%d+)"))
end

describe("raw servers on one Redis", function()
  local c, a, b, anna, bert
  setup(function()
    c = cluster.start()
    a, b = c:script({}, SCRIPT), c:script({}, SCRIPT)
    c:settle(2)
  end)
  teardown(function() c:stop() end)
  before_each(function()
    anna, bert = login(a, "anna"), login(b, "bert")
    c:expect_presence({ "anna", "bert" }, 2)
  end)
  after_each(function() c:drop_clients() end)

  local function expect(client, data, binary)
    local message = heard(client)
    assert.equal(data, message.raw)
    assert.equal(binary or false, message.binary or false)
  end

  it("reach a user wherever the user is, with text", function()
    for _, text in ipairs { "hello", "", 'q"\\/\n', "h\195\169\240\159\152\128", '{"op":0,"d":{}}', ("x"):rep(300000) } do
      assert.same({ ok = true }, ask(anna, { send = text, to = { "bert" } }))
      expect(bert, text)
    end
    anna:expect_silence(50)
  end)

  it("and with bytes", function()
    for _, times in ipairs { 1, 2000 } do
      assert.same({ ok = true }, ask(anna, { send = "end", binary = true, times = times, to = { "bert" } }))
      expect(bert, BYTES:rep(times) .. "end", true)
    end
    for _, tail in ipairs { "", "1", "12", "123" } do
      ask(bert, { send = tail, binary = true, to = { "anna", "bert", "nobody" } })
      expect(anna, BYTES .. tail, true)
      expect(bert, BYTES .. tail, true)
    end
  end)

  it("reach everybody once, those without an id included", function()
    local guest = b:connect()
    ask(anna, { send = "all" })
    ask(anna, { send = "all", binary = true })
    for _, client in ipairs { anna, bert, guest } do
      expect(client, "all")
      expect(client, BYTES .. "all", true)
      client:expect_silence(50)
    end
  end)

  it("reach every connection of a user, once", function()
    local second, third = login(a, "bert"), login(b, "bert")
    ask(anna, { send = "hi", to = { "bert", "bert" } })
    for _, client in ipairs { bert, second, third } do
      expect(client, "hi")
      client:expect_silence(50)
    end
  end)

  it("leave out those who are excluded, on every server", function()
    local guest = b:connect()
    ask(anna, { send = "most", excluding = { "bert" } })
    expect(guest, "most")
    expect(anna, "most")
    ask(anna, { send = "some", binary = true, to = { "anna", "bert" }, excluding = { "bert" } })
    expect(anna, BYTES .. "some", true)
    bert:expect_silence(50)
  end)

  it("keep nothing for those who are offline", function()
    ask(anna, { send = "lost", to = { "nobody" } })
    ask(anna, { send = "here", to = { "bert" } })
    expect(bert, "here")
    assert.equal(0, c.redis:command("EXISTS", "undelivered_messages"))
  end)

  it("publish beside an envelope that no client is shown", function()
    local watch = c.redis:subscribe "ws"
    ask(anna, { send = "text", to = { "bert" } })
    local json = cjson.decode(watch:expect())
    json.origin = nil
    assert.same({ message = { op = 5, d = {}, t = "RAW" }, recipients = { "bert" }, raw = "text" }, json)
    ask(anna, { send = "", binary = true, excluding = { "anna" } })
    json = cjson.decode(watch:expect())
    assert.same({ { "*" }, { "anna" }, true }, { json.recipients, json.excluding, json.binary })
    assert.matches("^AAECAwQF.*/P3%+/w==$", json.raw)
  end)

  it("tell middleware of both", function()
    ask(anna, { send = "four", to = { "anna", "bert" } })
    ask(anna, { send = "", binary = true, to = { "anna", "bert" } })
    for _, client in ipairs { anna, bert } do
      expect(client, "four")
      expect(client, BYTES, true)
      local sent = ask(client, { report = true }).sent
      local own = client == anna
      assert.same({ { n = 4, binary = false, clients = 1, own = own }, { n = 256, binary = true, clients = 1, own = own } },
        { sent[#sent - 1], sent[#sent] })
    end
  end)

  it("are disconnected by a dispatcher", function()
    c.redis:command("PUBLISH", "ws", '{"message":{"op":5,"d":{},"t":"DISCONNECT_CLIENT"},"recipients":["bert"]}')
    bert:expect_close(1000)
    anna:expect_silence(50)
  end)
end)

describe("a raw server without its Redis", function()
  it("serves its own clients, says so, and is back with it", function()
    local c = cluster.start()
    local a, b = c:script({}, SCRIPT), c:script({}, SCRIPT)
    c:settle(2)
    local anna, bert = login(a, "anna"), login(b, "bert")
    c.redis:kill()
    assert(loop.wait(function() return ask(anna, { send = "away" }).err == "redis unavailable" end, 5000))
    assert.equal("away", heard(anna).raw)
    c.redis:restart()
    c:settle(2)
    anna.others = {}
    assert.same({ ok = true }, ask(anna, { send = "back", to = { "bert" } }))
    assert(loop.wait(function() return heard(bert).raw == "back" end, 5000))
    c:stop()
  end)
end)

describe("raw and other servers in one cluster", function()
  local c, raw, lab, node, rick, anna, nora
  setup(function()
    c = cluster.start()
    raw, lab = c:script({ admin = { port = 0 } }, SCRIPT), c:lab { admin = { port = 0 } }
    node = c:node_lab()
    c:settle(3)
    rick, anna, nora = login(raw, "rick"), lab:login "anna", node:login "nora"
    c:expect_presence({ "anna", "nora", "rick" }, 3)
  end)
  teardown(function() c:stop() end)

  -- The server has nothing but this in front of what is said next.
  local function expect_nothing(client)
    client:send { op = 0, t = "ECHO", d = { fence = true } }
    assert.same({ fence = true }, client:next().d)
  end

  it("show raw messages to raw clients only, and a Node server lives on", function()
    local received = metric(lab, "mesa_cluster_skipped_total")
    for _ = 1, 20 do
      ask(rick, { send = "raw" })
      ask(rick, { send = "raw", binary = true })
      ask(rick, { send = "raw", to = { "anna", "nora" } })
    end
    assert(loop.wait(function() return metric(lab, "mesa_cluster_skipped_total") == received + 60 end, 5000))
    expect_nothing(anna)
    expect_nothing(nora)
    cluster.send(nora, { t = "HI" }, { "anna" })
    anna:expect "HI"
  end)

  it("do not show envelopes to raw clients", function()
    rick.others = {}
    local skipped = metric(raw, "mesa_cluster_skipped_total")
    cluster.send(nora, { t = "ALL" })
    cluster.send(anna, { t = "ALL" }, { "rick", "nora" })
    assert(loop.wait(function() return metric(raw, "mesa_cluster_skipped_total") == skipped + 2 end, 5000))
    for _, client in ipairs { anna, nora, nora } do client:expect "ALL" end
    ask(rick, { send = "own", to = { "rick" } })
    assert.equal("own", heard(rick).raw)
  end)

  it("take garbage for an error", function()
    local envelope = '"message":{"op":5,"d":{},"t":"RAW"},"recipients":["*"]'
    local bad = {
      '"raw":7', '"raw":null', '"raw":["x"]', '"raw":{}', '"raw":true',
      '"raw":"x","binary":1', '"raw":"x","binary":"yes"', '"raw":"x","binary":null', '"raw":"x","binary":true',
      '"raw":"!!!!","binary":true', '"raw":"AAA=AAA=","binary":true', '"raw":"QQ=\\n","binary":true',
    }
    local function errors(server) return metric(server, 'mesa_errors_total{code="CLUSTER"}') or 0 end
    local before = { errors(raw), errors(lab) }
    local own = #ask(rick, { report = true }).errors
    for _, more in ipairs(bad) do c.redis:command("PUBLISH", "ws", "{" .. envelope .. "," .. more .. "}") end
    for _, op in ipairs { '{"op":0,"t":"RAW"}', '{"op":5,"t":"DISCONNECT_CLIENT"}', '{"op":5}', "7" } do
      -- for nobody at the Node server, which would show it to its clients, or die of it
      c.redis:command("PUBLISH", "ws", '{"raw":"x","message":' .. (op == "7" and "{}" or op) .. ',"recipients":[]}')
    end
    c.redis:command("PUBLISH", "ws", "{" .. envelope .. ',"raw":"\\u0066ine"}')
    c.redis:command("PUBLISH", "ws", "{" .. envelope .. ',"raw":"QUJD","binary":true}')
    c.redis:command("PUBLISH", "ws", "{" .. envelope .. ',"raw":"","binary":false,"sync":true}')
    assert.same({ "fine", false }, { rick:next().raw, rick.binary or false })
    local bytes = rick:next()
    assert.same({ "ABC", true }, { bytes.raw, bytes.binary })
    assert.equal("", rick:next().raw)
    assert(loop.wait(function() return errors(raw) == before[1] + #bad + 4 and errors(lab) == before[2] + #bad + 4 end, 5000))
    local told = ask(rick, { report = true }).errors
    assert.equal(own + #bad + 4, #told)
    assert.matches("^CLUSTER .*not understood: raw is not a string", told[own + 1])
    expect_nothing(anna)
    expect_nothing(nora)
  end)
end)
