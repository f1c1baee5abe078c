local harness = require "spec.support.harness"

for _, transport in ipairs(harness.transports) do
  describe("opcodes over " .. transport.name, function()
    local server, client

    local function start(config, lab)
      server = harness.lab(config, { tls = transport.tls, lab = lab })
      client = server:join()
    end

    after_each(function()
      server:stop()
    end)

    it("hands op 0 to the message handlers with its type and data", function()
      start()
      client:send { op = 0, t = "HELLO_THERE", d = { a = 1 } }
      assert.same({ op = 0, t = "HELLO_THERE", d = { a = 1 } }, client:expect("GOT").d)
    end)

    it("hands op 0 without a type to the message handlers", function()
      start()
      client:send { op = 0, d = { a = 1 } }
      assert.same({ op = 0, d = { a = 1 } }, client:expect("GOT").d)
    end)

    it("hands unknown opcodes to the message handlers", function()
      start()
      for _, op in ipairs { 3, 4, 6, 7, 9, 12, 21, 23, 99, 4000, -1 } do
        client:send { op = op, t = "CUSTOM", d = { op } }
        assert.same({ op = op, t = "CUSTOM", d = { op } }, client:expect("GOT").d)
      end
    end)

    it("carries data that is no object, and a message without data", function()
      start()
      client:send '{"op":7,"d":[1,2]}'
      assert.same({ op = 7, d = { 1, 2 } }, client:expect("GOT").d)
      client:send '{"op":7,"d":"text"}'
      assert.same({ op = 7, d = "text" }, client:expect("GOT").d)
      client:send '{"op":7}'
      assert.equal(7, client:expect("GOT").d.op)
    end)

    it("answers op 1 from a client with op 11 and does not hand it to scripts", function()
      start()
      client:send { op = 1 }
      local answer = client:next()
      assert.equal(11, answer.op)
      assert.same({}, answer.d)
      assert.matches('"d":{}', answer.raw, 1, true)
    end)

    it("keeps op 11 for itself", function()
      start()
      client:send { op = 11 }
      client:send { op = 0, t = "ECHO", d = { n = 1 } }
      assert.equal("ECHO", client:next().t)
    end)

    it("treats op 2 as an ordinary message when no handler is registered", function()
      start({}, { authenticate = false })
      client:send { op = 2, d = { token = "x" } }
      assert.same({ op = 2, d = { token = "x" } }, client:expect("GOT").d)
    end)

    it("does not let clients close each other with op 5", function()
      start()
      local other = server:join()
      client:send { op = 5, t = "DISCONNECT_CLIENT" }
      client:wait_closed()
      other:send { op = 0, t = "ECHO", d = { n = 1 } }
      assert.same({ n = 1 }, other:expect("ECHO").d)
    end)

    it("never shows a sender's options to a client", function()
      start()
      client:send { op = 0, t = "SEND_OWN", d = {
        directly = true, message = { t = "WITH_OPTIONS", d = { a = 1 }, o = { sync = false } },
      } }
      local message = client:expect "WITH_OPTIONS"
      assert.is_nil(message.o)
      assert.same({ a = 1 }, message.d)
    end)

    it("sends any opcode a script asks for", function()
      start()
      client:send { op = 0, t = "SEND_OWN", d = { directly = true, message = { op = 77, t = "ODD", d = { 1 } } } }
      local message = client:expect "ODD"
      assert.equal(77, message.op)
    end)

    it("closes the recipients with 1000 when a script sends op 5 DISCONNECT_CLIENT", function()
      start()
      local victim = server:login "victim"
      client:send { op = 0, t = "SEND", d = { to = { "victim" }, message = { op = 5, t = "DISCONNECT_CLIENT" } } }
      victim:expect_close(1000)
      client:send { op = 0, t = "ECHO", d = { n = 1 } }
      assert.same({ n = 1 }, client:expect("ECHO").d)
    end)
  end)
end
