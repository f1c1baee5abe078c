local harness = require "spec.support.harness"

-- Runs a main script whose third line is `call`; what it printed and how it ended.
local function run(call)
  local dir = harness.fs.mkdtemp()
  harness.fs.write(dir .. "/server.lua", 'local Mesa = require "mesa"\n\n' .. call .. "\n")
  local result = harness.run { dir .. "/server.lua" }
  harness.fs.remove(dir)
  return result
end

describe("a configuration that is wrong", function()
  for call, words in pairs {
    ["Mesa.new { prot = 4000 }"] = { "prot", "port" },
    ['Mesa.new { port = "4000" }'] = { "port", "4000" },
    ["Mesa.new { port = 70000 }"] = { "port", "70000", "65535" },
    ["Mesa.new { port = 1.5 }"] = { "port", "1.5" },
    ["Mesa.new { port = -1 }"] = { "port", "-1" },
    ["Mesa.new { heartbeat = true }"] = { "heartbeat", "true" },
    ["Mesa.new { heartbeat = { intervall = 5 } }"] = { "heartbeat.intervall", "heartbeat.interval" },
    ["Mesa.new { heartbeat = { enabled = true, interval = 0 } }"] = { "heartbeat.interval", "0" },
    ["Mesa.new { authentication = { timeout = true } }"] = { "authentication.timeout", "true" },
    ["Mesa.new { limits = { maxPayload = 0 } }"] = { "limits.maxPayload", "0" },
    ['Mesa.new { limits = { maxPayload = "1 MB" } }'] = { "limits.maxPayload", "1 MB" },
    ["Mesa.new { limits = { burst = 5 } }"] = { "limits.burst", "limits.messagesPerSecond" },
    ['Mesa.new { path = "live" }'] = { "path", "live" },
    ['Mesa.new { origins = "https://a.example" }'] = { "origins" },
    ['Mesa.new { origins = { "a.example/path" } }'] = { "origins[1]", "a.example/path" },
    ['Mesa.new { tls = { cert = "cert.pem" } }'] = { "tls.key" },
    ['Mesa.new { scripts = { on_message = "x.lua" } }'] = { "scripts.on_message", "message" },
    ['Mesa.new { scripts = { message = "missing.lua" } }'] = { "missing.lua" },
    ["Mesa.new { raw = true, sync = { enabled = true } }"] = { "sync.enabled", "raw" },
    ["Mesa.new { sync = { enabled = true }, authentication = { storeConnectedUsers = false } }"] = {
      "sync.enabled", "authentication.storeConnectedUsers",
    },
    ["Mesa.new { compression = { level = 10 } }"] = { "compression.level", "10" },
    ['Mesa.new { beforeExit = "later" }'] = { "beforeExit", "later" },
    ["Mesa.new(5)"] = { "configuration", "5" },
  } do
    it("names the key, the line and what was found: " .. call, function()
      local result = run(call)
      assert.equal(1, result.exit_code, result.stderr)
      assert.matches("server.lua:3:", result.stderr, 1, true)
      for _, word in ipairs(words) do
        assert.truthy(result.stderr:find(word, 1, true), ("%q is missing in:\n%s"):format(word, result.stderr))
      end
      assert.is_nil(result.stderr:find("listening on", 1, true))
    end)
  end

  it("includes files that cannot be read, and a host that does not exist", function()
    for call, word in pairs {
      ['Mesa.new { port = 0, tls = { cert = "no.pem", key = "no.pem" } }'] = "no.pem",
      ['Mesa.new { port = 0, host = "999.1.1.1" }'] = "999.1.1.1",
      ['Mesa.new { port = 0, mode = "660" }'] = "mode is for Unix sockets",
      ['Mesa.new { port = 0, host = "unix:/no/such/folder/mesa.sock" }'] = "/no/such/folder/mesa.sock",
    } do
      local result = run(call)
      assert.equal(1, result.exit_code, call)
      assert.truthy(result.stderr:find(word, 1, true), result.stderr)
    end
  end)

  it("includes a key that does not belong to the certificate", function()
    local dir = harness.fs.mkdtemp()
    local made = harness.process.run("/usr/bin/openssl", { args = {
      "ecparam", "-genkey", "-name", "prime256v1", "-noout", "-out", dir .. "/other.pem",
    } })
    assert.equal(0, made.exit_code, made.stderr)
    local result = run(('Mesa.new { port = 0, tls = { cert = %q, key = %q } }'):format(
      harness.tls.certificate().cert, dir .. "/other.pem"))
    assert.equal(1, result.exit_code)
    assert.truthy(result.stderr:find("tls", 1, true), result.stderr)
    harness.fs.remove(dir)
  end)
end)

describe("a configuration that is right", function()
  it("takes every documented key", function()
    local server = harness.lab({
      path = "/ws", namespace = "test",
      client = { enforceEqualVersions = false, version = "1.5.8" },
      options = { storeMessages = 10, concurrentMessages = true },
      sync = { enabled = true, redeliveryInterval = 0, maxMessages = 5, maxBytes = 1000, maxAge = 1000 },
      portal = { enabled = false, distributeLoad = true },
      heartbeat = { enabled = true, interval = 10000, maxAttempts = 3 },
      reconnect = { enabled = true, interval = 5000 },
      authentication = {
        timeout = 10000, required = false, sendUserObject = true, disconnectOnFail = true, storeConnectedUsers = true,
      },
      limits = {
        maxPayload = 65536, maxBackpressure = 65536, maxBody = 1000,
        maxQueue = 1000, maxQueueTotal = 2000, maxConnections = 100, maxConnectionsPerIp = 50,
        messagesPerSecond = 100, burst = 100, handshakeTimeout = 5000, idleTimeout = 0, maxDepth = 64,
        scriptTime = 500, scriptMemory = 2 ^ 30,
      },
      compression = false, gracefullyExit = true,
    }, { setup = "config.beforeExit = function(signal, exit) print('before exit ' .. signal) exit() end" })
    server:join "/ws"
    server:stop()
    assert.matches("before exit SIGTERM", server.process.stdout)
  end)

  it("may be called as Mesa(config) too", function()
    local server = harness.start 'require("mesa") { port = 0, host = "127.0.0.1" }\n'
    assert.equal(10, server:connect():hello().op)
    server:stop()
  end)

  it("exits with the status that beforeExit chose, after waiting for it", function()
    local server = harness.lab({}, { setup = [[
      config.beforeExit = function(signal, exit)
        require("mesa").setTimeout(function() print("waited") exit() end, 100)
      end
    ]] })
    server:stop()
    assert.matches("waited", server.process.stdout)
  end)
end)
