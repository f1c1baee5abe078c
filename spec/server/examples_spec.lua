-- Each example is run as it is, on a free port.
local harness = require "spec.support.harness"

local ANY_PORT = { flags = { "--port", "0" } }

describe("the example", function()
  local server

  after_each(function()
    server:stop()
  end)

  describe("echo", function()
    before_each(function()
      server = harness.start("examples/echo/server.lua", ANY_PORT)
    end)

    it("answers with what it gets, logged in or not", function()
      local client = server:join()
      client:send { op = 0, t = "HELLO", d = { to = "you" } }
      assert.same({ to = "you" }, client:expect("HELLO").d)
      client:send { op = 2, d = { name = "Ann" } }
      assert.same({ name = "Ann" }, client:expect(22).d)
      client:send { op = 0, t = "AGAIN", d = { 1, 2 } }
      assert.same({ 1, 2 }, client:expect("AGAIN").d)
    end)

    it("refuses a login without a name", function()
      local client = server:join()
      client:send { op = 2 }
      client:expect_close(1008)
    end)
  end)

  describe("raw", function()
    before_each(function()
      server = harness.start("examples/raw/server.lua", ANY_PORT)
    end)

    it("answers text in capitals and counts, and bytes unchanged", function()
      local client = server:connect "/?name=ann"
      assert.equal("hello ann", client:next().raw)
      client:send "how are you"
      assert.equal("1: HOW ARE YOU", client:next().raw)
      client:send_binary "\0\1abc"
      local bytes = client:next()
      assert.equal("\0\1abc", bytes.raw)
      assert.is_true(bytes.binary)
      client:send "fine"
      assert.equal("2: FINE", client:next().raw)
      client:close(1000)
      server:stdout_contains "ann left %(1000%) after 2 texts and 5 bytes"
    end)

    it("lets nobody in without a name", function()
      assert.equal("connect with ?name=you", server:connect("/?name=%3Cb%3E"):expect_close(1008))
    end)
  end)

  describe("chat", function()
    before_each(function()
      server = harness.start("examples/chat/server.lua", ANY_PORT)
    end)

    local function knock(name, token)
      local client = server:join()
      client:send { op = 2, d = { name = name, token = token or "the secret of " .. name } }
      return client
    end

    -- In the room; what it showed is client.room.
    local function enter(name, token)
      local client = knock(name, token)
      client.user = client:expect(22).d
      client:send { op = 0, t = "JOIN" }
      client.room = client:expect("ROOM").d
      return client
    end

    local function say(client, text)
      client:send { op = 0, t = "SAY", d = { text = text, nonce = "n-" .. text:sub(1, 10) } }
    end

    it("serves its page", function()
      for path, kind in pairs {
        ["/"] = "text/html",
        ["/style.css"] = "text/css",
        ["/app.js"] = "javascript",
        ["/mesa.js"] = "javascript",
        ["/log.js"] = "javascript",
        ["/icon.svg"] = "image/svg%+xml",
      } do
        local response = server:http(path)
        assert.equal(200, response.status, path)
        assert.matches(kind, response.headers["content-type"], nil, nil, path)
        assert.is_true(#response.body > 100, path)
      end
    end)

    it("keeps its scripts to itself", function()
      for _, path in ipairs { "/server.lua", "/../server.lua", "/%2e%2e/server.lua", "/..%2fauth.lua" } do
        local response = server:http(path)
        assert.is_true(response == nil or response.status >= 400, path)
      end
    end)

    it("shows who is there, who comes, and what is said", function()
      local ann = enter "Ann"
      assert.same({ id = "ann", name = "Ann" }, ann.user)
      assert.same({}, ann.room.people)
      local bob = enter "Bob"
      assert.same({ { id = "ann", name = "Ann" } }, bob.room.people)
      ann:expect(function(m) return m.t == "JOINED" and m.d.id == "bob" end)
      say(bob, "Hello & <b>welcome</b>")
      for _, client in ipairs { ann, bob } do
        local said = client:expect("SAID").d
        assert.equal("Hello & <b>welcome</b>", said.text)
        assert.same({ id = "bob", name = "Bob" }, said.from)
        assert.equal("n-Hello & <b", said.nonce)
      end
    end)

    it("refuses a name that somebody has, and leaves the connection for another try", function()
      enter "Ann"
      local thief = knock("ANN", "another secret of 16 bytes")
      assert.matches("already here", thief:expect("NAME_TAKEN").d.message)
      thief:send { op = 2, d = { name = "Bob", token = "another secret of 16 bytes" } }
      assert.equal("bob", thief:expect(22).d.id)
    end)

    it("refuses names that are none", function()
      for _, name in ipairs { "", " x ", ("x"):rep(21), "*", "a<b", "a\nb", "bo\226\128\174b", "a\226\128\139b" } do
        assert.truthy(knock(name):expect("NAME_REFUSED").d.message, name)
      end
      for _, name in ipairs { "Zoë", "名前", "Dr. O'Neil-Smith", ("é"):rep(20) } do
        assert.equal(name, knock(name):expect(22).d.name)
      end
    end)

    it("remembers the last fifty messages", function()
      local people = { enter "Ann", enter "Bob", enter "Cleo" } -- one alone would be too fast for the example's limits
      for i = 1, 53 do
        local speaker, text = people[i % 3 + 1], "message " .. i
        say(speaker, text)
        speaker:expect(function(m) return m.t == "SAID" and m.d.text == text end)
      end
      local history = enter("Dora").room.history
      assert.equal(50, #history)
      assert.equal("message 4", history[1].text)
      assert.equal("message 53", history[50].text)
    end)

    it("says nothing that is empty or too long", function()
      local ann = enter "Ann"
      say(ann, "  \n ")
      say(ann, ("é"):rep(1001))
      say(ann, ("é"):rep(1000))
      assert.equal(2000, #ann:expect("SAID").d.text)
    end)

    it("tells all but the typist who is typing", function()
      local ann, bob = enter "Ann", enter "Bob"
      ann:send { op = 0, t = "TYPING", d = { active = true } }
      assert.same({ id = "ann", active = true }, bob:expect("TYPING").d)
      say(ann, "done")
      assert.is_nil(ann:expect(function(m) return m.t == "TYPING" or m.t == "SAID" end).d.active)
    end)

    it("misses a person when the last connection has been gone for a while", function()
      local ann, bob = enter "Ann", enter "Bob"
      local tab = enter "Bob"
      assert.equal(2, #tab.room.people)
      bob:close(1000)
      say(tab, "still here")
      ann:expect("SAID")
      tab:close(1000)
      assert.same({ id = "bob", name = "Bob" }, ann:expect("LEFT").d)
      assert.equal("bob", knock("Bob", "a third secret, of a stranger"):expect(22).d.id)
    end)
  end)
end)
