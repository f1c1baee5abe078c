-- Answers to the client whose message is being handled take a way of their own, once LuaJIT has compiled the handler: it must not show.
local harness = require "spec.support.harness"

local ROUNDS = 400 -- enough for handlers to be compiled

local PROLOGUE = [[
  local Mesa = require "mesa"
  local Message = Mesa.Message
  local server = Mesa.new { port = 0, host = "127.0.0.1" }
]]

describe("answers from compiled handlers", function()
  local server
  after_each(function() server:stop() end)

  local function start(script)
    server = harness.start(PROLOGUE .. script)
    return server:join()
  end

  -- A connection of the user "one", who has got many answers.
  local function answered_user(script)
    local client = start(script .. [[
      server:on("connection", function(client)
        client:authenticate(function(data, done) done(nil, { id = data.id }) end)
      end)
      server:on("message", function(message, client) client:send(Message(0, message.data, "MINE")) end)
    ]])
    client:send { op = 2, d = { id = "one" } }
    client:expect(22)
    for n = 1, ROUNDS do
      client:send { op = 0, t = "GO", d = { n = n } }
      assert.equal(n, client:expect("MINE").d.n)
    end
    return client
  end

  it("each have their own data, several in a handler", function()
    local client = start [[
      server:on("message", function(message, client)
        client:send(Message(0, { first = message.data.n }, "A"), true)
        client:send(Message(0, message.data, "B"), true)
        client:send(Message(0, nil, "C"), true)
        client:send(Message(0, message.data.n), true)
        for i = 1, 3 do client:send(Message(1, { i, message.data.n }, "D" .. i), true) end
      end)
    ]]
    for n = 1, ROUNDS do
      client:send { op = 0, t = "GO", d = { n = n, text = "x" } }
      assert.same({ first = n }, client:expect("A").d)
      assert.same({ n = n, text = "x" }, client:expect("B").d)
      assert.equal('{"op":0,"t":"C"}', client:expect("C").raw)
      assert.equal(('{"op":0,"d":%d}'):format(n), client:next().raw)
      for i = 1, 3 do assert.equal(('{"op":1,"d":[%d,%d],"t":"D%d"}'):format(i, n, i), client:next().raw) end
    end
  end)

  it("pass on what was not read, and keep it for later", function()
    local client = start [[
      local kept = {}
      server:on("message", function(message, client)
        if message.type == "PASS" then
          client:send(message, true)
        elseif message.type == "KEEP" then
          kept[#kept + 1] = message
          client:send(message, true)
        else
          for _, m in ipairs(kept) do client:send(Message(0, m.data, "KEPT"), true) end
          for _, m in ipairs(kept) do client:send(m, true) end
        end
      end)
    ]]
    local big = ("y"):rep(5000)
    for n = 1, ROUNDS do
      local d = { n = n, text = n % 50 == 0 and big or "z" }
      local kind = n % 7 == 0 and "KEEP" or "PASS"
      client:send { op = 0, t = kind, d = d }
      assert.same(d, client:expect(kind).d)
    end
    client:send { op = 0, t = "SHOW" }
    for _, kind in ipairs { "KEPT", "KEEP" } do
      for n = 7, ROUNDS, 7 do
        assert.same({ n = n, text = n % 50 == 0 and big or "z" }, client:expect(kind).d)
      end
    end
  end)

  it("go to whom they are sent, whoever's message is handled, also after a wait", function()
    local first = start [[
      local waiting
      server:on("message", function(message, client)
        if message.type == "WAIT" then
          waiting = client
          Mesa.sleep(5)
          client:send(Message(0, message.data, "WAITED"), true)
        elseif message.type == "TO_OTHER" then
          waiting:send(Message(0, message.data, "FROM_OTHER"), true)
          client:send(Message(0, message.data, "DONE"), true)
        end
      end)
    ]]
    local second = server:join()
    for n = 1, ROUNDS do
      first:send { op = 0, t = "WAIT", d = { n = n } }
      if n == 1 then assert.equal(1, first:expect("WAITED").d.n) end
      second:send { op = 0, t = "TO_OTHER", d = { n = -n } }
      assert.equal(-n, second:expect("DONE").d.n)
      local got = {}
      for _ = 1, n == 1 and 1 or 2 do
        local message = first:next()
        got[message.t] = message.d.n
      end
      assert.equal(-n, got.FROM_OTHER)
      assert.equal(n > 1 and n or nil, got.WAITED)
    end
  end)

  it("to a user reach all connections of the user, and middleware hears of them", function()
    local first = answered_user [[
      server:use(function()
        return { onMessageSent = function(message, clients) print("sent:", message.type, #clients) end }
      end)
    ]]
    local second = server:login "one"
    first:send { op = 0, t = "GO", d = { n = 0 } }
    assert.equal(0, first:expect("MINE").d.n)
    assert.equal(0, second:expect("MINE").d.n)
    assert.truthy(server:stdout_contains "sent:%s+MINE%s+2")
    assert.equal(ROUNDS, select(2, server:output():gsub("sent:%s+MINE%s+1\n", "")))
  end)

  it("to a user reach the second connection as soon as there is one", function()
    local first = answered_user ""
    local second = server:login "one"
    for n = 1, 3 do
      first:send { op = 0, t = "GO", d = { n = -n } }
      assert.equal(-n, first:expect("MINE").d.n)
      assert.equal(-n, second:expect("MINE").d.n)
    end
  end)

  it("say why they cannot be sent, at the caller's line", function()
    local client = start [[
      local function raised(...)
        local ok, err = pcall(...)
        return ok and "sent" or tostring(err)
      end
      server:on("message", function(message, client)
        local n = message.data.n
        local out = { n = n }
        if n % 100 == 0 then
          out.fn = raised(function() client:send(Message(0, { f = print }, "T"), true) end)
          out.deep = raised(function() local t = {} t.t = t client:send(Message(0, t, "T"), true) end)
          out.utf8 = raised(function() client:send(Message(0, "\255", "T"), true) end)
          out.type = raised(function() client:send(Message(0, 1, "\255"), true) end)
          out.op5 = raised(function() client:send(Message(5, 1, "T"), true) end)
          out.text = raised(function() client:send("text", true) end)
        end
        client:send(Message(0, out, "OUT"), true)
      end)
    ]]
    for n = 1, ROUNDS do
      client:send { op = 0, t = "GO", d = { n = n } }
      local out = client:expect("OUT").d
      assert.equal(n, out.n)
      if n % 100 == 0 then
        assert.matches("server.lua:%d+: cannot encode a function at data.f", out.fn)
        assert.matches("cannot encode a table that contains itself", out.deep)
        assert.matches("not UTF%-8", out.utf8)
        assert.matches("message.type is not valid UTF%-8", out.type)
        assert.matches("op 5 stays inside the cluster", out.op5)
        assert.matches("a Message expected, got string", out.text)
      end
    end
  end)

  it("are refused once the client is closed", function()
    local client = start [[
      server:on("message", function(message, client)
        if message.type == "CLOSE" then client:disconnect() end
        local ok, why = client:send(Message(0, message.data, "LAST"), true)
        if message.type == "CLOSE" then print("after:", ok, why) end
      end)
    ]]
    for n = 1, ROUNDS do
      client:send { op = 0, t = "GO", d = { n = n } }
      assert.equal(n, client:expect("LAST").d.n)
    end
    client:send { op = 0, t = "CLOSE", d = {} }
    client:expect_close(1000)
    assert.truthy(server:stdout_contains "after:%s+nil%s+closed")
  end)
end)

describe("a program that never loads what answers", function()
  it("may wait all the same", function()
    local program = harness.launch [[
      require("mesa.timer").setTimeout(function()
        require("mesa.core").sleep(1)
        print "waited"
      end, 1)
    ]]
    assert.equal(0, program:wait_exit(5000))
    assert.truthy(program:output():find("waited", 1, true))
    program:destroy()
  end)
end)

describe("private fields of messages", function()
  it("give nothing that was not received", function()
    local server = harness.start(PROLOGUE .. [[
      server:on("message", function(message, client)
        local bad = {}
        local values = { -1, 0, 0.5, 1, 2, 3, 2 ^ 53, 0 / 0, math.huge, "1", true, newproxy(), io.stdout, server, { 1 } }
        for i = 1, #values do
          for _, block in ipairs { false, newproxy(), io.stdout, client, "x" } do
            local m = Message(0, nil, "T")
            rawset(m, "_raw", values[i])
            rawset(m, "_block", block or nil)
            local text = m:serialize()
            if text ~= '{"op":0,"t":"T"}' then bad[#bad + 1] = text end
            client:send(m, true)
            if m.data ~= nil then bad[#bad + 1] = tostring(m.data) end
          end
        end
        client:send(Message(0, { bad = Mesa.array(bad) }, "OUT"), true)
      end)
    ]])
    local client = server:join()
    for _ = 1, 20 do
      client:send { op = 0, t = "GO", d = { n = 1 } }
      local message = client:next()
      while message.t ~= "OUT" do
        assert.is_true(message.d == nil or message.d.n == 1, "sent what was never received")
        message = client:next()
      end
      assert.same({}, message.d.bad)
    end
    server:stop()
  end)
end)
