-- Servers on one private Redis: mesa-lua labs and Node labs, which understand the same commands.
local cjson = require "cjson"
local harness = require "spec.support.harness"
local loop = require "spec.support.loop"
local process = require "spec.support.process"
local redis = require "spec.support.redis"
local to_lua = require "spec.support.to_lua"

local cluster = {}
cluster.__index = cluster

-- options: see redis.start
function cluster.start(options)
  return setmetatable({ redis = redis.start(options), nodes = {} }, cluster)
end

-- The configuration with the Redis of the cluster.
local function with_redis(self, config)
  config = config or {}
  config.redis = config.redis or {}
  config.redis.uri = self.redis.uri
  config.redis.lease = config.redis.lease or 1000
  return config
end

-- A mesa-lua lab; `config.redis` has the lease and the like. options: see harness.lab
function cluster:lab(config, options)
  local node = harness.lab(with_redis(self, config), options)
  self.nodes[#self.nodes + 1] = node
  return node
end

-- A mesa-lua server with a script of the spec's own, which sees `config`. options: see harness.start
function cluster:script(config, source, options)
  config = with_redis(self, config)
  config.port, config.host = 0, "127.0.0.1"
  local node = harness.start("local config = " .. to_lua(config) .. "\n" .. source, options)
  self.nodes[#self.nodes + 1] = node
  return node
end

-- A Node Mesa server with the commands of the lab. Takes connect, join and login as a lab does.
function cluster:node_lab(config)
  config = config or {}
  config.redis = self.redis.uri
  local node = setmetatable({
    process = process.spawn("/usr/bin/env", { args = { "node", "spec/interop/node_lab.cjs", cjson.encode(config) } }),
  }, { __index = getmetatable(self.nodes[1]).__index })
  local ready = loop.wait(function()
    node.port = tonumber(node.process.stderr:match "listening on %S*:(%d+)")
    return node.port or not node.process:running()
  end, 15000)
  if not ready or not node.port then
    node.process:destroy()
    error("the Node server did not start\n" .. node.process.stderr, 2)
  end
  node.stop = node.destroy
  self.nodes[#self.nodes + 1] = node
  return node
end

-- Waits until `servers` subscribe to the channel of messages.
function cluster:settle(servers, suffix)
  local channel = "ws" .. (suffix or "")
  assert(loop.wait(function()
    local reply = self.redis:command("PUBSUB", "NUMSUB", channel)
    return reply[2] == servers and #self.redis:command("KEYS", "mesa:lease*") >= self:count_labs()
  end, 10000), "the servers did not come together")
end

function cluster:count_labs()
  local n = 0
  for _, node in ipairs(self.nodes) do
    if node.script and node.process:running() then n = n + 1 end
  end
  return n
end

-- Sends through a lab as one of its clients does.
function cluster.send(client, message, to, excluding)
  client:send { op = 0, t = "SEND", d = { message = message, to = to, excluding = excluding } }
  return client:expect("SENT", { timeout = 10000 }).d
end

-- Waits until the set of online users and the number of connections are these.
function cluster:expect_presence(ids, count, timeout)
  table.sort(ids)
  local found, number
  local ok = loop.wait(function()
    found = self.redis:command("SMEMBERS", "connected_clients") or {}
    table.sort(found)
    number = tonumber(self.redis:command("GET", "connected_clients_count") or 0)
    return table.concat(found, ",") == table.concat(ids, ",") and number == count
  end, timeout or 5000)
  if not ok then
    error(("expected %d connections and the users %s, found %s and %s"):format(
      count, table.concat(ids, ","), tostring(number), table.concat(found, ",")), 2)
  end
end

-- Ends all connections, and waits until nobody is known any more.
function cluster:drop_clients()
  for _, node in ipairs(self.nodes) do
    for _, client in ipairs(node.clients) do client:drop() end
    node.clients = {}
  end
  self:expect_presence({}, 0)
end

function cluster:stop()
  local failure
  for _, node in ipairs(self.nodes) do
    if not node.killed then
      local ok, err = pcall(node.stop, node)
      failure = failure or not ok and err or nil
    end
  end
  self.redis:stop()
  if failure then error(failure, 0) end
end

-- kill -9 of a node.
function cluster.kill(node)
  node.killed = true
  node:signal "sigkill"
  node.process:wait(5000)
  node:destroy()
end

return cluster
