-- A number that is the id of a user is one text, wherever it is used.
local harness = require "spec.support.harness"

local SERVER = [[
  local Mesa = require "mesa"
  local server = Mesa.new { port = 0, host = "127.0.0.1", authentication = { disconnectOnFail = false } }
  server:on("connection", function(client)
    client:authenticate(function(data, done) done(nil, { id = data.id }) end)
  end)
  server:on("error", function(err, client) client:send(Mesa.Message(0, err.message, "ERROR"), true) end)
  local function handle(message, client)
    local id = message.data.id
    if message.type == "NOT_A_NUMBER" then id = 0 / 0 end
    if message.type == "UPDATE" then
      client:updateUser { id = id }
    else
      server:send(Mesa.Message(0, {}, "TO_YOU"), { id })
      server:send(Mesa.Message(0, {}, "TO_YOU_ALONE"), id)
      server:send(Mesa.Message(0, {}, "TO_OTHERS"), { "*" }, { id })
    end
    local user = { id = client.id, connections = #server:client(id), as_text = #server:client(client.id) }
    client:send(Mesa.Message(0, user, "USER"), true)
  end
  server:on("message", function(message, client)
    local ok, err = pcall(handle, message, client)
    if not ok then client:send(Mesa.Message(0, err, "ERROR"), true) end
  end)
]]

describe("an id that is a number", function()
  local server

  setup(function() server = harness.start(SERVER) end)
  teardown(function() server:stop() end)

  local function check(client, id, text)
    client:send('{"op":0,"t":"SEND","d":{"id":' .. id .. "}}")
    assert.equal("TO_YOU", client:next().t)
    assert.equal("TO_YOU_ALONE", client:next().t)
    assert.same({ id = text, connections = 1, as_text = 1 }, client:expect("USER").d)
    assert.equal(0, #client.inbox) -- nothing for the others
  end

  for id, text in pairs {
    ["42"] = "42", ["-7"] = "-7", ["0"] = "0", ["-0"] = "0", ["1e3"] = "1000", ["123456789012345"] = "123456789012345",
    ["9007199254740991"] = "9007199254740991", ["9007199254740992"] = "9007199254740992",
    ["-9007199254740992"] = "-9007199254740992",
  } do
    it(("is %s for %s, with op 2, updateUser, client and as a recipient"):format(text, id), function()
      local client = server:join()
      client:send('{"op":2,"d":{"id":' .. id .. "}}")
      client:expect(22)
      check(client, id, text)
      client:send { op = 0, t = "UPDATE", d = { id = "somebody else" } }
      client:expect "USER"
      client:send('{"op":0,"t":"UPDATE","d":{"id":' .. id .. "}}")
      assert.equal(text, client:expect("USER").d.id)
      check(client, id, text)
      client:close()
    end)
  end

  it("is told with op 22 as it was given, in decimal", function()
    local client = server:join()
    client:send '{"op":2,"d":{"id":9007199254740991}}'
    assert.matches('"d":{"id":9007199254740991}', client:expect(22).raw, 1, true)
  end)

  for _, id in ipairs { "0.1", "9007199254740994", "1e300", "-1e17" } do
    it(("is refused everywhere when it is %s"):format(id), function()
      local client = server:join()
      client:send('{"op":2,"d":{"id":' .. id .. "}}")
      assert.matches("ids are strings, or integers up to 2^53, got [%d.e+-]+: use a string", client:expect("ERROR").d)
      client:send { op = 2, d = { id = "somebody" } }
      client:expect(22)
      for _, kind in ipairs { "UPDATE", "SEND" } do
        client:send(('{"op":0,"t":"%s","d":{"id":%s}}'):format(kind, id))
        assert.matches("server.lua:%d+: .*ids are strings, or integers up to 2^53, got [%d.e+-]+: use a string",
          client:expect("ERROR").d)
      end
      client:close()
    end)
  end

  it("is refused when it is none", function()
    local client = server:join()
    client:send { op = 2, d = { id = "somebody" } }
    client:expect(22)
    client:send { op = 0, t = "NOT_A_NUMBER", d = {} }
    assert.matches("ids are strings, or integers up to 2^53, got %-?nan: use a string", client:expect("ERROR").d)
    client:send { op = 2, d = {} }
    assert.matches("the authentication result needs an id: ids are strings or integers, got nil", client:expect("ERROR").d)
  end)
end)
