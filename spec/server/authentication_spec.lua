local harness = require "spec.support.harness"

local SECRET = "the database said 0xDEADBEEF"

for _, transport in ipairs(harness.channels) do
  describe("authentication over " .. transport.name, function()
    local server, client

    local function start(authentication)
      server = harness.lab({ authentication = authentication }, transport)
      client = server:join()
    end

    local function authenticate(data)
      client:send { op = 2, d = data }
    end

    local function me()
      client:send { op = 0, t = "ME" }
      return client:expect("ME").d
    end

    local function events()
      local bystander = server:join()
      bystander:send { op = 0, t = "EVENTS" }
      return bystander:expect("EVENTS").d.events
    end

    after_each(function()
      server:stop()
    end)

    describe("that succeeds", function()
      it("answers with op 22 and the user object", function()
        start()
        authenticate { id = "u1", user = { id = "u1", name = "Ann", tags = { "a" } } }
        local answer = client:next()
        assert.equal(22, answer.op)
        assert.same({ id = "u1", name = "Ann", tags = { "a" } }, answer.d)
        assert.is_nil(answer.t)
      end)

      it("defaults the user to the id", function()
        start()
        authenticate { id = "u1" }
        assert.same({ id = "u1" }, client:expect(22).d)
      end)

      it("turns a numeric id into its decimal string", function()
        start()
        authenticate { id = 1234567890123 }
        client:expect(22)
        assert.equal("1234567890123", me().id)
        client:send { op = 0, t = "CONNECTIONS_OF", d = { id = "1234567890123" } }
        assert.equal(1, client:expect("CONNECTIONS_OF").d.count)
      end)

      it("sends an empty object when sendUserObject is false", function()
        start { sendUserObject = false }
        authenticate { id = "u1", user = { name = "Ann" } }
        local answer = client:expect(22)
        assert.same({}, answer.d)
        assert.matches('"d":{}', answer.raw, 1, true)
      end)

      it("gives the script the id, the user and authenticated", function()
        start()
        local before = me()
        assert.is_false(before.authenticated)
        assert.is_nil(before.id)
        authenticate { id = "u1", user = { name = "Ann" } }
        client:expect(22)
        local after = me()
        assert.is_true(after.authenticated)
        assert.equal("u1", after.id)
        assert.same({ name = "Ann" }, after.user)
        assert.equal(before.serverId, after.serverId)
      end)

      it("may take its time without stopping anybody", function()
        start()
        authenticate { id = "u1", wait = 1500 }
        local other = server:join()
        other:send { op = 0, t = "ECHO" }
        other:expect "ECHO"
        assert.equal(0, #client.inbox)
        client:expect(22)
      end)

      it("counts once when done is called twice", function()
        start()
        authenticate { id = "u1", twice = true }
        assert.same({ id = "u1" }, client:expect(22).d)
        assert.equal("u1", me().id)
        assert.equal(0, #client.inbox)
      end)
    end)

    describe("that is refused", function()
      for what, data in pairs {
        ["an error given to done"] = { refuse = SECRET },
        ["an error thrown by the handler"] = { throw = SECRET },
        ["done without a result"] = { nothing = true },
        ["a result that is a string"] = { result = SECRET },
        ["a result without an id"] = { result = { user = { name = SECRET } } },
        ["an id that is a table"] = { result = { id = { SECRET } } },
        ["an id that is true"] = { result = { id = true } },
        ["an empty id"] = { result = { id = "" } },
      } do
        it("closes with 1008 on " .. what .. ", keeps the text to itself and reports it", function()
          start()
          authenticate(data)
          local reason = client:expect_close(1008)
          assert.is_nil(reason:find(SECRET, 1, true))
          for _, message in ipairs(client:drain()) do
            assert.is_nil(message.raw:find(SECRET, 1, true))
          end
          local names = {}
          for _, event in ipairs(events()) do
            names[event.name] = (names[event.name] or 0) + 1
          end
          assert.same({ ["client error"] = 1, ["server error"] = 1, disconnect = 1 }, names)
          if data.throw or data.refuse then
            server:log_contains(SECRET)
          end
        end)
      end

      it("gives a reason", function()
        start()
        authenticate { refuse = "no" }
        assert.is_true(#client:expect_close(1008) > 0)
      end)

      it("leaves the client connected and unauthenticated when disconnectOnFail is false", function()
        start { disconnectOnFail = false }
        for _, data in ipairs { { refuse = SECRET }, { throw = SECRET }, { nothing = true }, { result = "x" } } do
          authenticate(data)
          local after = me()
          assert.is_false(after.authenticated)
          assert.is_nil(after.id)
        end
        assert.equal(0, #client.inbox)
        authenticate { id = "u1" }
        assert.same({ id = "u1" }, client:expect(22).d)
      end)
    end)

    describe("timeout", function()
      it("closes a client that did not authenticate in time with 1008", function()
        start { timeout = 150 }
        client:expect_close(1008)
      end)

      it("closes a client whose handler never answers", function()
        start { timeout = 200 }
        authenticate { never = true }
        client:expect_close(1008)
      end)

      it("spares a client that authenticated", function()
        start { timeout = 1500 }
        authenticate { id = "u1" }
        client:expect(22)
        client:expect_silence(1800)
      end)

      it("is off with false", function()
        start { timeout = false }
        client:expect_silence(200)
      end)

      it("holds even when disconnectOnFail is false", function()
        start { timeout = 250, disconnectOnFail = false }
        authenticate { refuse = "no" }
        client:expect_close(1008)
      end)

      it("ignores an answer that comes too late", function()
        start { timeout = 100 }
        authenticate { id = "u1", wait = 300 }
        client:expect_close(1008)
        local bystander = server:join()
        bystander:send { op = 2, d = { id = "u2", wait = 350 } } -- outlives the late answer, is closed too
        bystander:expect_close(1008)
        client = server:join()
        client:send { op = 0, t = "CONNECTIONS_OF", d = { id = "u1" } }
        assert.equal(0, client:expect("CONNECTIONS_OF").d.count)
      end)
    end)

    describe("again", function()
      it("refuses a second op 2 while the first is being checked, and tells only the script", function()
        start()
        authenticate { id = "first", wait = 1000 }
        authenticate { id = "second" }
        assert.same({ id = "first" }, client:expect(22).d)
        assert.equal("first", me().id)
        assert.equal(0, #client.inbox)
        local errors = 0
        for _, event in ipairs(events()) do
          errors = errors + (event.name == "server error" and 1 or 0)
        end
        assert.equal(1, errors)
      end)

      it("re-authenticates with op 22 and the new user", function()
        start()
        authenticate { id = "u1", user = { name = "old" } }
        client:expect(22)
        authenticate { id = "u1", user = { name = "new" } }
        assert.same({ name = "new" }, client:expect(22).d)
        assert.same({ name = "new" }, me().user)
      end)

      it("moves the connection to a changed id", function()
        start()
        authenticate { id = "old" }
        client:expect(22)
        authenticate { id = "new" }
        client:expect(22)
        assert.equal("new", me().id)
        for id, count in pairs { old = 0, new = 1 } do
          client:send { op = 0, t = "CONNECTIONS_OF", d = { id = id } }
          assert.equal(count, client:expect("CONNECTIONS_OF").d.count)
        end
      end)
    end)

    describe("client:updateUser", function()
      it("changes the user without op 22", function()
        start()
        authenticate { id = "u1" }
        client:expect(22)
        client:send { op = 0, t = "UPDATE_USER", d = { id = "u1", user = { name = "Bob" } } }
        local updated = client:expect("UPDATED").d
        assert.is_nil(updated.raised)
        assert.same({ name = "Bob" }, me().user)
        assert.equal(0, #client.inbox)
      end)

      it("changes the id", function()
        start()
        authenticate { id = "u1" }
        client:expect(22)
        client:send { op = 0, t = "UPDATE_USER", d = { id = "u2", user = { name = "Bob" } } }
        client:expect "UPDATED"
        assert.equal("u2", me().id)
        client:send { op = 0, t = "SEND", d = { to = { "u2" }, message = { t = "FOR_U2" } } }
        client:expect "FOR_U2"
      end)

      it("raises before authentication", function()
        start()
        client:send { op = 0, t = "UPDATE_USER", d = { id = "u1" } }
        assert.is_string(client:expect("UPDATED").d.raised)
        assert.is_nil(me().id)
      end)
    end)

    describe("of many connections as one id", function()
      it("gives each what is sent to the id, until the last one leaves", function()
        start()
        authenticate { id = "sender" }
        client:expect(22)
        local connections = { server:login "many", server:login "many", server:login "many" }
        client:send { op = 0, t = "SEND", d = { to = { "many" }, message = { t = "NOTE", d = { n = 1 } } } }
        for _, connection in ipairs(connections) do
          assert.same({ n = 1 }, connection:expect("NOTE").d)
        end
        connections[1]:close()
        connections[3]:close()
        client:send { op = 0, t = "SEND", d = { to = { "many" }, message = { t = "NOTE", d = { n = 2 } } } }
        assert.same({ n = 2 }, connections[2]:expect("NOTE").d)
        assert.equal(0, #connections[2].inbox)
      end)
    end)
  end)
end

describe("the forms of auth.lua", function()
  local server

  local function start(body, config)
    server = harness.start(nil, { files = {
      ["server.lua"] = ([[
        local server = require("mesa").new { port = 0, host = "127.0.0.1", scripts = { auth = "auth.lua" }, %s }
        server:on("connection", function(client)
          client:on("message", function(message)
            client:send(require("mesa").Message(0, { id = client.id, user = client.user }, "ME"), true)
          end)
        end)
      ]]):format(config or ""),
      ["auth.lua"] = body,
    } })
    return server:join()
  end

  after_each(function()
    server:stop()
  end)

  local function accepts(body)
    local client = start(body)
    client:send { op = 2, d = { token = "t" } }
    assert.same({ id = "u1", name = "Ann" }, client:expect(22).d)
    client:send { op = 0, t = "ANY" }
    assert.equal("u1", client:expect("ME").d.id)
  end

  local function refuses(body)
    local client = start(body)
    client:send { op = 2, d = { token = "t" } }
    assert.is_nil(client:expect_close(1008):find(SECRET, 1, true))
    server:log_contains(SECRET)
  end

  it("accept with done", function()
    accepts [[return function(data, done) done(nil, { id = "u1", user = { id = "u1", name = "Ann" } }) end]]
  end)

  it("accept with a return value", function()
    accepts [[return function(data) return { id = "u1", user = { id = "u1", name = "Ann" } } end]]
  end)

  it("accept after waiting, either way", function()
    accepts [[return function(data, done)
      require("mesa").sleep(20)
      return { id = "u1", user = { id = "u1", name = "Ann" } }
    end]]
  end)

  it("accept from a timer", function()
    accepts [[return function(data, done)
      require("mesa").setTimeout(function() done(nil, { id = "u1", user = { id = "u1", name = "Ann" } }) end, 20)
    end]]
  end)

  it("refuse with done", function()
    refuses(('return function(data, done) done(%q) end'):format(SECRET))
  end)

  it("refuse with nil and an error", function()
    refuses(('return function(data) return nil, %q end'):format(SECRET))
  end)

  it("refuse by throwing", function()
    refuses(('return function(data) error(%q) end'):format(SECRET))
  end)

  it("refuse by throwing after waiting", function()
    refuses(('return function(data) require("mesa").sleep(20) error(%q) end'):format(SECRET))
  end)

  it("get the data, done, the client and the server", function()
    local client = start [[return function(data, done, client, server)
      assert(type(client.serverId) == "string" and server.port > 0 and client.authenticated == false)
      return { id = data.token, user = { id = data.token, path = client.request.path } }
    end]]
    client:send { op = 2, d = { token = "tok" } }
    assert.same({ id = "tok", path = "/" }, client:expect(22).d)
  end)

  it("are not there without op 2: a client without scripts.auth is not timed out", function()
    server = harness.lab({ authentication = { timeout = 100 } }, { lab = { authenticate = false } })
    server:join():expect_silence(250)
  end)
end)

describe("a server with a timer that is due again at once, for ever,", function()
  local AGAIN = [[
    local function again() Mesa.setTimeout(again, 0) end
    again()
  ]]
  local ORDER = [[
    server:on("message", function(message, client)
      if message.type == "WHO" then client:send(Message(0, { authenticated = client.authenticated }, "WHO"), true) end
    end)
  ]]

  for _, concurrent in ipairs { false, true } do
    it(("handles what is sent behind op 2 behind it, %s"):format(concurrent and "concurrent messages too" or "in order"), function()
      local server = harness.lab({ options = { concurrentMessages = concurrent } }, { extra = AGAIN .. ORDER })
      local clients = {}
      for i = 1, 50 do
        clients[i] = server:join()
        clients[i]:send { op = 2, d = { id = "user" .. i } }
        clients[i]:send { op = 0, t = "WHO" }
      end
      for i = 1, 50 do
        assert.equal("user" .. i, clients[i]:expect(22).d.id)
        assert.is_true(clients[i]:expect("WHO").d.authenticated)
      end
      server:stop()
    end)
  end

  it("answers, and ends when it is told to", function()
    local server = harness.lab(nil, { extra = AGAIN })
    local client = server:join()
    for n = 1, 20 do
      client:send { op = 0, t = "ECHO", d = { n = n } }
      assert.equal(n, client:expect("ECHO").d.n)
    end
    server:stop()
  end)
end)
