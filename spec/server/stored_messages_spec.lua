local harness = require "spec.support.harness"

describe("options.storeMessages", function()
  local server, client

  local function start(option)
    server = harness.lab { options = { storeMessages = option } }
    client = server:join()
  end

  local function echo(count)
    for n = 1, count do
      client:send { op = 0, t = "ECHO", d = { n = n } }
      client:expect "ECHO"
    end
  end

  local function stored()
    client:send { op = 0, t = "STORED" }
    return client:expect("STORED").d
  end

  local function count(list, type)
    local n = 0
    for _, message in ipairs(list) do
      n = n + (message.t == type and 1 or 0)
    end
    return n
  end

  after_each(function()
    server:stop()
  end)

  it("keeps nothing by default and announces no rule", function()
    start(nil)
    for _, rule in ipairs(client.hello_message.d.rules) do
      assert.not_equal("store_messages", rule)
    end
    echo(3)
    assert.same({ sent = {}, received = {} }, stored())
  end)

  it("keeps both directions, oldest first, and announces the rule", function()
    start(true)
    local announced = false
    for _, rule in ipairs(client.hello_message.d.rules) do
      announced = announced or rule == "store_messages"
    end
    assert.is_true(announced)
    echo(3)
    local lists = stored()
    assert.equal(3, count(lists.sent, "ECHO"))
    assert.equal(3, count(lists.received, "ECHO"))
  end)

  it("keeps no more than it is allowed to, the newest", function()
    start(2)
    echo(10)
    local lists = stored()
    assert.equal(2, #lists.sent)
    assert.is_true(#lists.received <= 2)
    assert.equal("ECHO", lists.sent[2].t)
  end)

  it("keeps what was sent to a user id and to everybody too", function()
    start(true)
    client:send { op = 2, d = { id = "ann" } }
    client:expect(22)
    for _, to in ipairs { { "ann" }, { "*" } } do
      client:send { op = 0, t = "SEND", d = { to = to, message = { t = "NOTE" } } }
      client:expect "NOTE"
    end
    assert.equal(2, count(stored().sent, "NOTE"))
  end)

  it("keeps each connection's messages apart", function()
    start(true)
    echo(2)
    client = server:join()
    assert.equal(0, count(stored().sent, "ECHO"))
  end)
end)
