-- What Redis refuses is repeated, what it loses is found: presence comes right by itself.
local cluster = require "spec.support.cluster"
local harness = require "spec.support.harness"
local http = require "spec.support.http"
local loop = require "spec.support.loop"

local send = cluster.send

-- Waits until the hash `key` of Redis is this.
local function expect_hash(c, key, want)
  local found
  local ok = loop.wait(function()
    found = {}
    local list = c.redis:command("HGETALL", key) or {}
    for i = 1, #list, 2 do found[list[i]] = list[i + 1] end
    for id, n in pairs(want) do
      if found[id] ~= n then return false end
    end
    for id in pairs(found) do
      if not want[id] then return false end
    end
    return true
  end, 10000)
  if not ok then
    local parts = {}
    for id, n in pairs(found) do parts[#parts + 1] = id .. "=" .. n end
    error(("%s is %s"):format(key, table.concat(parts, " ")), 2)
  end
end

describe("presence", function()
  local c, a, b
  before_each(function()
    c = cluster.start()
    a, b = c:lab { sync = { enabled = true } }, c:lab { sync = { enabled = true } }
    c:settle(2)
  end)
  after_each(function() c:stop() end)

  -- `refuse` makes Redis refuse, `allow` makes it take everything again; users and connections come and go meanwhile.
  local function survives(refuse, allow)
    local anna, bert, guest = a:login "anna", b:login "bert", a:join()
    local carl = a:login "carl"
    c:expect_presence({ "anna", "bert", "carl" }, 4)
    refuse()
    local from = a:log_mark()
    local dora = a:login "dora"
    a:login "bert"
    carl:drop()
    guest:drop()
    a:join()
    a:join()
    a:log_contains("Redis refused a command: ", 5000, from)
    allow()
    c:expect_presence({ "anna", "bert", "dora" }, 6, 15000)
    expect_hash(c, "mesa:online", { anna = "1", bert = "2", dora = "1" })
    expect_hash(c, "mesa:keepers", { anna = "1", bert = "2", dora = "1" })
    assert(loop.wait(function()
      send(bert, { t = "HELLO" }, { "dora" })
      return pcall(dora.expect, dora, "HELLO", { timeout = 200 })
    end, 10000), "dora gets nothing")
    anna:drop()
    dora:drop()
    c:expect_presence({ "bert" }, 4, 10000)
  end

  it("comes right after Redis was full", function()
    survives(function() c.redis:command("CONFIG", "SET", "maxmemory", "1") end,
      function() c.redis:command("CONFIG", "SET", "maxmemory", "0") end)
  end)

  it("comes right after Redis was read-only", function()
    survives(function() c.redis:command("REPLICAOF", "127.0.0.1", "1") end,
      function() c.redis:command("REPLICAOF", "NO", "ONE") end)
  end)

  it("comes right after Redis was busy", function()
    local busy = c.redis:connect()
    c.redis:command("CONFIG", "SET", "lua-time-limit", "10")
    survives(function()
      busy.wire:write 'EVAL "while true do end" 0\r\n'
      assert(loop.wait(function() return select(2, c.redis:command "PING") end, 5000))
    end, function() c.redis:command("SCRIPT", "KILL") end)
  end)

  for _, pattern in ipairs {
    "mesa:nodes", "mesa:lease:*", "mesa:users:*", "mesa:online", "mesa:keepers", "mesa:counts", "connected_clients",
    "connected_clients_count",
  } do
    it("comes right after " .. pattern .. " was evicted", function()
      a:login "anna"
      local bert = b:login "bert"
      a:login "bert"
      a:join()
      c:expect_presence({ "anna", "bert" }, 4)
      for _, key in ipairs(c.redis:command("KEYS", pattern)) do c.redis:command("DEL", key) end
      local carl = b:login "carl" -- what was evicted exists again, but without the others
      expect_hash(c, "mesa:online", { anna = "1", bert = "2", carl = "1" })
      expect_hash(c, "mesa:keepers", { anna = "1", bert = "2", carl = "1" })
      c:expect_presence({ "anna", "bert", "carl" }, 5, 10000)
      bert:drop()
      carl:drop()
      c:expect_presence({ "anna", "bert" }, 3, 10000)
      expect_hash(c, "mesa:online", { anna = "1", bert = "1" })
      assert.truthy(loop.wait(function() -- the server without users has no key for them
        return #c.redis:command("KEYS", "mesa:users:*") == 1 and #c.redis:command("SMEMBERS", "mesa:nodes") == 2
      end, 10000))
    end)
  end

  it("is never less than nobody", function()
    local anna = a:login "anna"
    c:expect_presence({ "anna" }, 1)
    c.redis:command("DEL", "connected_clients_count", "mesa:counts")
    anna:drop()
    assert(loop.wait(function()
      local count = tonumber(c.redis:command("GET", "connected_clients_count") or 0)
      assert.is_true(count >= 0)
      return count == 0 and c.redis:command("SCARD", "connected_clients") == 0
    end, 5000))
    a:login "anna"
    c:expect_presence({ "anna" }, 1)
  end)

  it("does not count connections that nobody has", function()
    a:login "anna"
    c:expect_presence({ "anna" }, 1)
    c.redis:command("INCRBY", "connected_clients_count", 7)
    c:expect_presence({ "anna" }, 1, 10000)
  end)

  it("does not keep whom nobody has", function()
    a:login "anna"
    c:expect_presence({ "anna" }, 1)
    c.redis:command("HSET", "mesa:online", "ghost", "1", "anna", "7")
    c.redis:command("SADD", "connected_clients", "ghost")
    expect_hash(c, "mesa:online", { anna = "1" })
    c:expect_presence({ "anna" }, 1)
  end)
end)

describe("a subscriber that Redis does not let in", function()
  local c, a, admin

  local function start(options, uri)
    c = cluster.start(options)
    if uri then c.redis.uri = uri(c) end
    a = c:lab { admin = { port = 0 } }
    admin = a.admin_port
  end
  after_each(function() c:stop() end)

  local function ready()
    return http.request({ port = admin }, "/readyz")
  end

  local function expect_ready(status, pattern, timeout)
    local response
    assert(loop.wait(function()
      response = ready()
      return response.status == status and response.body:find(pattern)
    end, timeout or 5000), ("/readyz said %d %s"):format(response.status, response.body))
  end

  it("for want of a right is told once, and tried again", function()
    start(nil, function(self)
      self.redis:command("ACL", "SETUSER", "limited", "on", ">secret", "~*", "&*", "+@all", "-subscribe")
      return "redis://limited:secret@127.0.0.1:" .. self.redis.port
    end)
    a:log_contains "messages of the cluster cannot arrive: .-NOPERM"
    expect_ready(503, "^not ready: .-NOPERM")
    assert.matches("mesa_redis_ready 0", http.request({ port = admin }, "/metrics").body)
    assert.equal(200, http.request({ port = admin }, "/healthz").status)
    c.redis:command("ACL", "SETUSER", "limited", "+subscribe")
    expect_ready(200, "^ready\n", 20000)
    assert.equal(1, a:log_count "messages of the cluster cannot arrive")
    a:login "anna"
    c:expect_presence({ "anna" }, 1)
  end)

  it("for too many clients is told once, and tried again", function()
    start()
    expect_ready(200, "^ready\n")
    local inside = c.redis:connect()
    inside:command "PING"
    inside:command("CONFIG", "SET", "maxclients", "1")
    inside:command("CLIENT", "KILL", "TYPE", "pubsub")
    expect_ready(503, "^not ready: .-max number of clients")
    a:log_contains "messages of the cluster cannot arrive: .-max number of clients"
    inside:command("CONFIG", "SET", "maxclients", "1000")
    expect_ready(200, "^ready\n", 10000)
    assert.is_true(a:log_count "messages of the cluster cannot arrive" <= 2)
  end)

  it("is not needed without Redis, and Redis is with it", function()
    start()
    expect_ready(200, "^ready\n")
    c.redis:kill()
    expect_ready(503, "^not ready: Redis cannot be reached")
    c.redis:restart()
    expect_ready(200, "^ready\n", 10000)
    local alone = harness.lab { admin = { port = 0 } }
    assert.equal(200, http.request({ port = alone.admin_port }, "/readyz").status)
    alone:stop()
  end)
end)
