local harness = require "spec.support.harness"

for _, transport in ipairs(harness.channels) do
  describe("delivery over " .. transport.name, function()
    local server, sender

    local function start(config)
      server = harness.lab(config, transport)
      sender = server:join()
    end

    -- Tells whether a message that was sent earlier arrived, by asking for an echo behind it.
    local function got(client, type)
      client:send { op = 0, t = "ECHO", d = { mark = true } }
      client:expect "ECHO"
      for _, message in ipairs(client:drain()) do
        if message.t == type then
          return message.d
        end
      end
      return nil
    end

    local function send(message, to, excluding)
      message.t = message.t or "NOTE"
      sender:send { op = 0, t = "SEND", d = { message = message, to = to, excluding = excluding } }
      local result = sender:expect("SENT").d
      assert.is_nil(result.raised)
      return result
    end

    after_each(function()
      server:stop()
    end)

    it("reaches everybody without recipients, authenticated or not", function()
      start()
      local ann, guest = server:login "ann", server:join()
      send { d = { n = 1 } }
      assert.same({ n = 1 }, ann:expect("NOTE").d)
      assert.same({ n = 1 }, guest:expect("NOTE").d)
      assert.same({ n = 1 }, sender:expect("NOTE").d)
    end)

    it("reaches everybody with the recipient '*'", function()
      start()
      local ann, guest = server:login "ann", server:join()
      send({ d = { n = 1 } }, { "*" })
      assert.same({ n = 1 }, ann:expect("NOTE").d)
      assert.same({ n = 1 }, guest:expect("NOTE").d)
    end)

    it("reaches only the ids it names", function()
      start()
      local ann, bob, cid = server:login "ann", server:login "bob", server:login "cid"
      send({ d = { n = 1 } }, { "ann", "cid" })
      assert.same({ n = 1 }, got(ann, "NOTE"))
      assert.is_nil(got(bob, "NOTE"))
      assert.same({ n = 1 }, got(cid, "NOTE"))
    end)

    it("reaches nobody with an empty list", function()
      start()
      local ann = server:login "ann"
      send({}, {})
      assert.is_nil(got(ann, "NOTE"))
    end)

    it("comes once when an id is named twice", function()
      start()
      local ann = server:login "ann"
      send({}, { "ann", "ann" })
      ann:expect "NOTE"
      assert.is_nil(got(ann, "NOTE"))
    end)

    it("leaves out excluded ids", function()
      start()
      local ann, bob, cid = server:login "ann", server:login "bob", server:login "cid"
      send({ d = { n = 1 } }, { "ann", "bob" }, { "bob" })
      assert.same({ n = 1 }, got(ann, "NOTE"))
      assert.is_nil(got(bob, "NOTE"))
      assert.is_nil(got(cid, "NOTE"))
    end)

    it("leaves excluded ids out of '*', but nobody without an id", function()
      start()
      local ann, bob, guest = server:login "ann", server:login "bob", server:join()
      send({ d = { n = 1 } }, { "*" }, { "bob" })
      assert.same({ n = 1 }, got(ann, "NOTE"))
      assert.is_nil(got(bob, "NOTE"))
      assert.same({ n = 1 }, got(guest, "NOTE"))
    end)

    it("accepts one id without a list", function()
      start()
      local ann, bob = server:login "ann", server:login "bob"
      send({ d = { n = 1 } }, "ann")
      assert.same({ n = 1 }, got(ann, "NOTE"))
      assert.is_nil(got(bob, "NOTE"))
    end)

    it("accepts numeric ids", function()
      start()
      local ann = server:login(42)
      send({ d = { n = 1 } }, { 42 })
      assert.same({ n = 1 }, got(ann, "NOTE"))
    end)

    describe("of client:send", function()
      local function send_own(from, directly)
        from:send { op = 0, t = "SEND_OWN", d = { directly = directly, message = { t = "OWN" } } }
        assert.is_true(from:expect("SENT").d.ok)
      end

      it("goes to this connection before authentication", function()
        start()
        local other = server:join()
        send_own(sender)
        sender:expect "OWN"
        assert.is_nil(got(other, "OWN"))
      end)

      it("goes to every connection of the user", function()
        start()
        local first, second, other = server:login "ann", server:login "ann", server:login "bob"
        send_own(first)
        first:expect "OWN"
        second:expect "OWN"
        assert.is_nil(got(other, "OWN"))
      end)

      it("goes to this connection alone with directly", function()
        start()
        local first, second = server:login "ann", server:login "ann"
        send_own(first, true)
        first:expect "OWN"
        assert.is_nil(got(second, "OWN"))
      end)
    end)

    describe("with authentication.required", function()
      it("leaves out unauthenticated clients", function()
        start { authentication = { required = true } }
        sender:send { op = 2, d = { id = "sender" } }
        sender:expect(22)
        local ann, guest = server:login "ann", server:join()
        send { d = { n = 1 } }
        assert.same({ n = 1 }, got(ann, "NOTE"))
        guest:send { op = 2, d = { id = "guest" } }
        assert.equal(22, guest:next().op) -- nothing came before
      end)

      it("sends a guest nothing by client:send either, and says so; handlers run", function()
        server = harness.lab({ authentication = { required = true } }, {
          tls = transport.tls,
          lab = {},
          extra = [[
            server:on("connection", function(client)
              client:authenticate(function(data, done) done(nil, { id = data.token }) end)
              print("connection", client:send(Message(0, {}, "EARLY")))
              client:on("message", function(message)
                if message.type ~= "X" then return end
                server:send(Message(0, {}, "BY_SERVER"))
                print("user", client:send(Message(0, {}, "BY_CLIENT")))
                print("directly", client:send(Message(0, message.data, "BY_CLIENT_DIRECTLY"), true))
                print "---"
              end)
            end)
          ]],
        })
        local guest = server:join()
        guest:send { op = 0, t = "X", d = {} }
        server:stdout_contains "connection\tnil\tnot authenticated\nuser\tnil\tnot authenticated\ndirectly\tnil\tnot authenticated\n%-%-%-"
        guest:send { op = 2, d = { token = "ann" } }
        assert.equal(22, guest:next().op)
        guest:send { op = 0, t = "X", d = {} }
        local types = {}
        for i = 1, 3 do types[i] = guest:expect(function(message) return message.t:find "^BY" ~= nil end).t end
        table.sort(types)
        assert.same({ "BY_CLIENT", "BY_CLIENT_DIRECTLY", "BY_SERVER" }, types)
      end)
    end)

    it("keeps the order of unicast and broadcast to one connection", function()
      server = harness.lab({}, { tls = transport.tls, extra = [[
        local n = 0
        server:on("connection", function(client)
          client:on("message", function(message)
            if message.type ~= "MIX" then return end
            for _ = 1, 300 do
              n = n + 1
              local m = Message(0, { n = n }, "MIXED")
              if n % 3 == 0 then server:send(m) elseif n % 3 == 1 then client:send(m, true) else server:send(m, { "ann" }) end
            end
          end)
        end)
      ]] })
      local ann = server:login "ann"
      server:join()
      ann:send { op = 0, t = "MIX" }
      for n = 1, 300 do
        assert.equal(n, ann:expect("MIXED").d.n)
      end
    end)

    it("reaches many connections with one broadcast each in order", function()
      start()
      local clients = {}
      for i = 1, 40 do
        clients[i] = server:join()
      end
      sender:send { op = 0, t = "SEND_MANY", d = { count = 200, all = true, bytes = 100 } }
      sender:expect "SENT_MANY"
      for _, client in ipairs(clients) do
        for n = 1, 200 do
          assert.equal(n, client:expect("NUMBERED").d.n)
        end
      end
    end)

    it("carries data of every JSON kind unchanged", function()
      start()
      for _, data in ipairs { '[]', '{}', '[[],{},{"a":[]}]', '[null]', '"text"', '12.5', '9007199254740991' } do
        sender:send('{"op":0,"t":"ECHO","d":' .. data .. "}")
        assert.matches('"d":' .. data .. ",", sender:expect("ECHO").raw, 1, true)
      end
    end)
  end)
end
