-- Who is online, and how many connections there are, in Node's keys (PROTOCOL 8).
local cluster = require "spec.support.cluster"
local loop = require "spec.support.loop"

local send = cluster.send

describe("presence", function()
  local c, a, b
  before_each(function()
    c = cluster.start()
    a, b = c:lab { sync = { enabled = true } }, c:lab { sync = { enabled = true } }
    c:settle(2)
  end)
  after_each(function() c:stop() end)

  it("counts every connection and every user", function()
    local guest, anna, bert = a:join(), a:login "anna", b:login "bert"
    c:expect_presence({ "anna", "bert" }, 3)
    guest:drop()
    c:expect_presence({ "anna", "bert" }, 2)
    anna:close()
    bert:reset()
    c:expect_presence({}, 0)
  end)

  it("keeps a user online until the last connection on any server has ended", function()
    local first, second, third = a:login "anna", a:login "anna", b:login "anna"
    c:expect_presence({ "anna" }, 3)
    second:drop()
    c:expect_presence({ "anna" }, 2)
    first:drop()
    c:expect_presence({ "anna" }, 1)
    third:drop()
    c:expect_presence({}, 0)
  end)

  it("moves with a changed id", function()
    local anna = a:login "anna"
    anna:send { op = 0, t = "UPDATE_USER", d = { id = "annabel" } }
    assert.is_true(anna:expect("UPDATED").d.ok)
    c:expect_presence({ "annabel" }, 1)
    anna:send { op = 2, d = { id = "ann" } }
    anna:expect(22)
    c:expect_presence({ "ann" }, 1)
  end)

  it("goes with a server that ends", function()
    a:login "anna"
    local bert = b:login "bert"
    c:expect_presence({ "anna", "bert" }, 2)
    a:stop()
    a.killed = true
    c:expect_presence({ "bert" }, 1)
    assert.equal(1, #c.redis:command("SMEMBERS", "mesa:nodes"))
    bert:drop()
    c:expect_presence({}, 0)
  end)

  it("survives a server that dies: its users are gone within the lease, and messages to them are kept", function()
    local ids = {}
    for i = 1, 100 do
      ids[i] = "user" .. i
      a:login(ids[i])
    end
    local bert = b:login "bert"
    b:login "user7"
    ids[101] = "bert"
    c:expect_presence(ids, 102)
    cluster.kill(a)
    c:expect_presence({ "bert", "user7" }, 2, 1500) -- the lease is 1000
    assert.equal(1, #c.redis:command("SMEMBERS", "mesa:nodes"))
    send(bert, { t = "LATER" }, { "user8" })
    assert(loop.wait(function()
      return c.redis:command("HGET", "undelivered_messages", "user8") == '[{"op":0,"d":{},"t":"LATER"}]'
    end, 2000))
    local late = b:login "user8"
    assert.equal(1, late:expect("LATER").s)
  end)

  it("is announced anew by a server that was taken for dead", function()
    local anna = a:login "anna"
    b:login "bert"
    c:expect_presence({ "anna", "bert" }, 2)
    a:signal "sigstop"
    c:expect_presence({ "bert" }, 1, 3000)
    a:signal "sigcont"
    c:expect_presence({ "anna", "bert" }, 2, 3000)
    send(anna, { t = "HI" }, { "bert" })
  end)

  it("is announced anew when the data were deleted", function()
    a:login "anna"
    b:login "bert"
    c:expect_presence({ "anna", "bert" }, 2)
    c.redis:command("FLUSHALL")
    c.redis:command("SCRIPT", "FLUSH")
    c:expect_presence({ "anna", "bert" }, 2, 3000)
  end)

  it("is exact after many came and went at once", function()
    local clients = {}
    for i = 1, 40 do
      clients[i] = (i % 2 == 0 and a or b):login("user" .. i % 10)
    end
    for i = 1, 40 do
      if i % 4 ~= 0 then clients[i]:drop() end
    end
    c:expect_presence({ "user0", "user2", "user4", "user6", "user8" }, 10)
  end)
end)

describe("presence beside Node servers", function()
  it("is restored for a user whom a Node server took out", function()
    local c = cluster.start()
    local a = c:lab()
    local node = c:node_lab()
    c:settle(2)
    local anna, other = a:login "anna", node:login "anna"
    c:expect_presence({ "anna" }, 2)
    other:close()
    assert.truthy(loop.wait(function() return c.redis:command("GET", "connected_clients_count") == "1" end, 5000))
    c:expect_presence({ "anna" }, 1, 3000)
    anna:close()
    c:expect_presence({}, 0)
    c:stop()
  end)
end)

describe("authentication.storeConnectedUsers = false", function()
  it("keeps users out of Redis", function()
    local c = cluster.start()
    local a = c:lab { authentication = { storeConnectedUsers = false } }
    c:settle(1)
    a:login "anna"
    c:expect_presence({}, 1)
    c:stop()
  end)
end)
