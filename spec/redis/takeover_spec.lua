-- What a server redelivers stays in Redis until its client has confirmed it.
local cjson = require "cjson"
local cluster = require "spec.support.cluster"
local harness = require "spec.support.harness"
local loop = require "spec.support.loop"
local uv = require "luv"

local send = cluster.send

-- How many of a user's messages wait in Redis for being confirmed.
local function unconfirmed(c, id)
  return c.redis:command("LLEN", "mesa:given:" .. id)
end

local function numbers(messages)
  local list = {}
  for _, message in ipairs(messages) do
    if message.t == "N" then list[#list + 1] = message.d.n end
  end
  return list
end

local function kept(c, id)
  local text = c.redis:command("HGET", "undelivered_messages", id)
  return text and cjson.decode(text) or {}
end

describe("a server that is killed in the middle of a redelivery", function()
  local COUNT = 20
  local c, a, b, anna, received

  -- bert has confirmed a few of his messages when his server dies.
  before_each(function()
    c = cluster.start()
    local sync = { enabled = true, redeliveryInterval = 30 }
    a, b = c:lab { sync = sync }, c:lab { sync = { enabled = true } }
    c:settle(2)
    anna = b:login "anna"
    for n = 1, COUNT do send(anna, { t = "N", d = { n = n } }, { "bert" }) end
    assert(loop.wait(function() return #kept(c, "bert") == COUNT end, 3000))
    local bert = a:login "bert"
    assert(loop.wait(function() return unconfirmed(c, "bert") <= COUNT - 3 and #kept(c, "bert") == 0 end, 5000))
    cluster.kill(a)
    received = numbers(bert:drain())
    assert.truthy(#received < COUNT, "it was killed too late")
  end)
  after_each(function() c:stop() end)

  it("loses nothing for whoever is back at once, and repeats only what was not confirmed", function()
    local bert, last, first = b:login "bert", 0, nil
    while last < COUNT do
      local message = bert:expect "N"
      first = first or message.d.n
      assert.equal(first + message.s - 1, message.d.n)
      last = message.d.n
    end
    assert.truthy(first > 3 and first <= #received + 1, ("received up to %d, then from %d"):format(#received, first))
    assert.same({}, kept(c, "bert"))
    assert(loop.wait(function() return unconfirmed(c, "bert") == 0 end, 3000))
    bert:close()
    b:login("bert"):expect_silence(100)
  end)

  it("has the rest put back in front of what came later, for whoever stays away", function()
    c:expect_presence({ "anna" }, 1)
    send(anna, { t = "N", d = { n = COUNT + 1 } }, { "bert" })
    local list
    assert(loop.wait(function()
      list = kept(c, "bert")
      return #list > 0 and list[#list].d.n == COUNT + 1
    end, 3000))
    assert.truthy(list[1].d.n > 3 and list[1].d.n <= #received + 1, list[1].d.n)
    for i, message in ipairs(list) do
      assert.same({ op = 0, t = "N", d = { n = list[1].d.n + i - 1 } }, message)
    end
    assert.equal(0, unconfirmed(c, "bert"))
    assert.equal(list[1].d.n, b:login("bert"):expect("N").d.n)
  end)
end)

describe("a server whose connection to Redis is lost", function()
  -- Between a server and Redis; cuts the connection instead of passing an answer on that has `marker` in it, once.
  local function cutting_proxy(port, marker)
    local listener = uv.new_tcp()
    local self = { cuts = 0, sockets = { listener } }
    listener:bind("127.0.0.1", 0)
    self.port = listener:getsockname().port
    listener:listen(16, loop.guard(function()
      local near, far = uv.new_tcp(), uv.new_tcp()
      listener:accept(near)
      self.sockets[#self.sockets + 1] = near
      self.sockets[#self.sockets + 1] = far
      local function close()
        for _, socket in ipairs { near, far } do
          if not socket:is_closing() then socket:close() end
        end
      end
      far:connect("127.0.0.1", port, loop.guard(function(err)
        if err then return close() end
        near:read_start(loop.guard(function(_, bytes)
          if not bytes then return close() end
          far:write(bytes)
        end))
        far:read_start(loop.guard(function(_, bytes)
          if bytes and self.cuts == 0 and bytes:find(marker, 1, true) then
            self.cuts = 1
            bytes = nil
          end
          if not bytes then return close() end
          near:write(bytes)
        end))
      end))
    end))
    function self.close()
      for _, socket in ipairs(self.sockets) do
        if not socket:is_closing() then socket:close() end
      end
    end
    return self
  end

  it("delivers what it was taking, once, when it is back", function()
    local c = cluster.start()
    local proxy = cutting_proxy(c.redis.port, '"t":"N"')
    local b = c:lab { sync = { enabled = true } }
    local a = harness.lab { sync = { enabled = true }, redis = { uri = "redis://127.0.0.1:" .. proxy.port, lease = 10000 } }
    c.nodes[#c.nodes + 1] = a
    c:settle(2)
    local anna = b:login "anna"
    for n = 1, 3 do send(anna, { t = "N", d = { n = n } }, { "bert" }) end
    assert(loop.wait(function() return #kept(c, "bert") == 3 end, 3000))
    local bert = a:login "bert"
    assert(loop.wait(function() return proxy.cuts == 1 end, 3000))
    for n = 1, 3 do
      local message = bert:expect("N", { timeout = 5000 })
      assert.same({ n, n }, { message.d.n, message.s })
    end
    bert:expect_silence(100)
    assert.same({}, kept(c, "bert"))
    assert(loop.wait(function() return unconfirmed(c, "bert") == 0 end, 3000))
    c:stop()
    proxy.close()
  end)
end)
