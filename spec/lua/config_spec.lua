local config = require "mesa.config"

-- Validates as Mesa.new does: one function between the script and the check.
local function new(given)
  local result = config.validate(given)
  return result
end

local function message_of(given)
  local ok, message = pcall(function()
    new(given)
  end)
  assert.is_false(ok, "accepted")
  return message
end

local function refuses(given, ...)
  local message = message_of(given)
  for _, part in ipairs { ... } do
    assert.truthy(message:find(part, 1, true), ("%q lacks %q"):format(message, part))
  end
end

describe("a valid configuration", function()
  it("gets every default of the protocol", function()
    assert.same({
      port = 4000,
      proxyProtocol = false,
      raw = false,
      strict = false,
      gracefullyExit = true,
      client = { enforceEqualVersions = false, version = "1.5.8" },
      options = { storeMessages = 0, concurrentMessages = false },
      sync = { enabled = false, redeliveryInterval = 0, maxMessages = 1000, maxBytes = 1048576, maxAge = 604800000 },
      portal = { enabled = false, distributeLoad = true },
      heartbeat = { enabled = false, interval = 10000, maxAttempts = 3 },
      reconnect = { enabled = false, interval = 5000 },
      authentication = {
        timeout = 10000,
        required = false,
        sendUserObject = true,
        disconnectOnFail = true,
        storeConnectedUsers = true,
      },
      limits = {
        maxPayload = 1048576,
        maxBackpressure = 1048576,
        maxBody = 1048576,
        maxQueue = 1048576,
        maxQueueTotal = 67108864,
        maxConnections = 0,
        maxConnectionsPerIp = 0,
        messagesPerSecond = 0,
        burst = 0,
        handshakeTimeout = 10000,
        idleTimeout = 0,
        maxDepth = 128,
        scriptTime = 1000,
        scriptMemory = 0,
      },
    }, new {})
  end)

  it("may be left out", function()
    assert.same(new {}, new(nil))
  end)

  it("keeps what was given and fills in the rest of its section", function()
    assert.same({ enabled = true, interval = 100, maxAttempts = 3 }, new({ heartbeat = { enabled = true, interval = 100 } }).heartbeat)
  end)

  it("is copied, not changed", function()
    local given = { heartbeat = { enabled = true }, options = { storeMessages = true }, origins = { "https://A.example" } }
    local result = new(given)
    assert.same({ heartbeat = { enabled = true }, options = { storeMessages = true }, origins = { "https://A.example" } }, given)
    assert.are_not.equal(given.heartbeat, result.heartbeat)
    assert.are_not.equal(given.origins, result.origins)
  end)

  it("does not share its defaults with other servers", function()
    new({}).heartbeat.interval = 1
    assert.equal(10000, new({}).heartbeat.interval)
  end)

  it("turns words for numbers into numbers", function()
    assert.equal(0, new({ authentication = { timeout = false } }).authentication.timeout)
    assert.equal(100, new({ options = { storeMessages = true } }).options.storeMessages)
    assert.equal(0, new({ options = { storeMessages = false } }).options.storeMessages)
    assert.equal(7, new({ options = { storeMessages = 7 } }).options.storeMessages)
  end)

  it("takes scripts as a folder or by name", function()
    assert.equal("handlers", new({ scripts = "handlers" }).scripts)
    local by_name = { auth = "a.lua", message = "m.lua", connection = "c.lua", disconnect = "d.lua" }
    assert.same(by_name, new({ scripts = by_name }).scripts)
  end)

  it("takes functions, folders, addresses and origins", function()
    local function before_exit() end
    local result = new {
      port = 0,
      host = "unix:/run/mesa.sock",
      path = "/ws",
      namespace = "shop",
      static = "public",
      raw = true,
      compression = false,
      beforeExit = before_exit,
      gracefullyExit = false,
      origins = { "https://Example.org", "http://localhost:8080", "null" },
      proxies = { "10.0.0.0/8", "unix" },
      admin = { port = 9000 },
      tls = { cert = "c", key = "k", ca = "a", requestCert = true },
    }
    assert.equal(0, result.port)
    assert.equal(before_exit, result.beforeExit)
    assert.same({ "https://example.org", "http://localhost:8080", "null" }, result.origins)
    assert.same({ "10.0.0.0/8", "unix" }, result.proxies)
    assert.same({ host = "127.0.0.1", port = 9000 }, result.admin)
    assert.is_true(result.tls.requestCert)
  end)
end)

describe("a complaint about a configuration", function()
  it("points at the caller of Mesa.new", function()
    local line = debug.getinfo(1, "l").currentline + 2
    local _, message = pcall(function()
      new { prt = 1 }
    end)
    assert.truthy(message:find(("config_spec.lua:%d: "):format(line), 1, true), message)
  end)

  it("points further out when told how many functions are between", function()
    local function create(given)
      local result = config.validate(given, 3)
      return result
    end
    local function outer(given)
      local result = create(given)
      return result
    end
    local line = debug.getinfo(1, "l").currentline + 2
    local _, message = pcall(function()
      outer { prt = 1 }
    end)
    assert.truthy(message:find((":%d: "):format(line), 1, true), message)
  end)

  it("is the same whatever the order of the table", function()
    local given = { zeta = 1, alpha = 1, port = "x", raw = 3 }
    local first = message_of(given)
    assert.truthy(first:find("alpha", 1, true))
    for _ = 1, 20 do
      assert.equal(first, message_of { raw = 3, alpha = 1, port = "x", zeta = 1 })
    end
  end)

  it("does not repeat a long string", function()
    assert.is_true(#message_of { port = ("x"):rep(10000) } < 250)
  end)

  it("does not show what may hold a password", function()
    assert.is_nil(message_of({ redis = "http://:secret@host" }):find "secret")
  end)
end)

describe("an unknown key", function()
  it("is named with what was probably meant", function()
    refuses({ prot = 1 }, "unknown key prot", "did you mean port?")
    refuses({ heartbeat = { intervall = 1 } }, "unknown key heartbeat.intervall", "did you mean heartbeat.interval?")
    refuses({ limits = { maxPaylaod = 1 } }, "did you mean limits.maxPayload?")
  end)

  it("is recognised in another spelling", function()
    refuses({ Port = 1 }, "unknown key Port", "did you mean port?")
    refuses({ limits = { max_payload = 1 } }, "did you mean limits.maxPayload?")
    refuses({ ["heart-beat"] = {} }, "did you mean heartbeat?")
    refuses({ authentication = { SENDUSEROBJECT = true } }, "did you mean authentication.sendUserObject?")
  end)

  it("is found in the section it belongs to", function()
    refuses({ storeMessages = true }, "did you mean options.storeMessages?")
    refuses({ heartbeatInterval = 1 }, "did you mean heartbeat.interval?")
    refuses({ max_connections = 1 }, "did you mean limits.maxConnections?")
  end)

  it("comes with the keys there are when nothing is near", function()
    refuses({ xyzzy = 1 }, "unknown key xyzzy", "heartbeat", "port")
    refuses({ reconnect = { xyzzy = 1 } }, "unknown key reconnect.xyzzy, reconnect has: enabled, interval")
  end)

  it("is refused when it is not a name", function()
    refuses({ 4000 }, "no key [1]")
    refuses({ [true] = 1 }, "no key [true]")
    refuses({ scripts = { "auth.lua" } }, "scripts has no key [1]")
  end)
end)

describe("a wrong value", function()
  it("is refused with its key, what is allowed and what was found", function()
    refuses({ port = "http" }, 'port must be an integer between 0 and 65535, got the string "http"')
    refuses({ port = "80" }, 'got the string "80" (use tonumber)')
    refuses({ raw = "yes" }, 'raw must be true or false, got the string "yes"')
    refuses({ raw = 1 }, "raw must be true or false, got 1")
    refuses({ mode = 660 }, 'mode must be three octal digits as a string, such as "660", got 660')
    refuses({ mode = "999" }, "mode must be three octal digits")
    refuses({ host = true }, "host must be a string that is not empty, got true")
    refuses({ host = "" }, 'got the string ""')
    refuses({ host = "a\0b" }, "host must be a string")
    refuses({ heartbeat = true }, "heartbeat must be a table, got true")
    refuses({ beforeExit = "f" }, "beforeExit must be a function")
    refuses({ scripts = 4 }, "scripts must be a folder (string) or a table, got 4")
    refuses({ scripts = { auth = function() end } }, "scripts.auth must be a string that is not empty, got a function")
    refuses({ path = "ws" }, 'path must be a path that begins with "/"')
    refuses({ namespace = "a b" }, "namespace must be")
    refuses({ namespace = "count" }, 'namespace must be another word than "count"')
    refuses({ namespace = "count_a" }, 'got the string "count_a" (its users would be in connected_clients_count_a')
  end)

  it("is refused when it is not a table at all", function()
    refuses(4000, "the configuration must be a table, got 4000")
    refuses("redis://x", "the configuration must be a table")
  end)

  it("is refused out of range", function()
    refuses({ port = 65536 }, "between 0 and 65535, got 65536")
    refuses({ port = -1 }, "got -1")
    refuses({ port = 1.5 }, "got 1.5")
    refuses({ port = 0 / 0 }, "port must be an integer")
    refuses({ port = math.huge }, "got inf")
    refuses({ heartbeat = { interval = 0 } }, "heartbeat.interval must be an integer between 1 and 86400000 ms, got 0")
    refuses({ heartbeat = { maxAttempts = 0 } }, "heartbeat.maxAttempts")
    refuses({ limits = { maxDepth = 1025 } }, "limits.maxDepth must be an integer between 1 and 1024, got 1025")
    refuses({ limits = { maxPayload = 0 } }, "limits.maxPayload")
    refuses({ sync = { maxMessages = 0 } }, "sync.maxMessages")
    refuses({ options = { storeMessages = -1 } }, "options.storeMessages must be", "false, or true for 100")
    refuses({ authentication = { timeout = true } }, "authentication.timeout must be", "or false for off", "got true")
    refuses({ admin = { port = 70000 } }, "admin.port")
  end)

  it("is a name below another one, or any, in origins", function()
    assert.same({ "https://*.example.org", "http://*.test:8080" },
      new { origins = { "https://*.Example.org", "http://*.test:8080" } }.origins)
    assert.equal("*", new { origins = "*" }.origins)
  end)

  it("is refused in a list of origins", function()
    refuses({ origins = "https://a" }, "origins must be a list of strings")
    refuses({ origins = {} }, "at least one origin")
    refuses({ origins = { "*" } }, "origins[1]", 'origins = "*", without a list')
    for _, origin in ipairs { "https://*", "https://*example.org", "https://a.*.example.org", "*://example.org", "https://*.*.org",
      "https://example.org:*", "https://*." } do
      refuses({ origins = { origin } }, "origins[1]")
    end
    refuses({ origins = { "https://a", 2 } }, "origins[2] must be a string", "got 2")
    refuses({ origins = { "https://a", "example.org" } }, "origins[2] must be an origin")
    refuses({ origins = { "https://a/" } }, "without a path")
    refuses({ origins = { "https://a", x = "https://b" } }, "origins[2]")
  end)
end)

describe("protocols", function()
  it("are a list, the best first, or a function", function()
    assert.same({ "v2", "v1", required = false }, new({ protocols = { "v2", "v1" } }).protocols)
    assert.same({ "v1", required = true }, new({ protocols = { "v1", required = true } }).protocols)
    local function choose() end
    assert.equal(choose, new({ protocols = choose }).protocols)
    assert.is_nil(new({}).protocols)
  end)

  it("are refused when they cannot be", function()
    refuses({ protocols = "v1" }, 'protocols must be a list of names such as { "v2", "v1" }', 'got the string "v1"')
    refuses({ protocols = {} }, "protocols must name at least one subprotocol", "leave it out")
    refuses({ protocols = { required = true } }, "protocols must name at least one subprotocol")
    refuses({ protocols = { "a b" } }, "protocols[1] must be the name of a subprotocol", 'got the string "a b"')
    refuses({ protocols = { "a", 2 } }, "protocols[2] must be the name of a subprotocol", "got 2")
    refuses({ protocols = { "a", "b", "a" } }, 'protocols[3] is "a" again')
    refuses({ protocols = { "a", require = true } }, "protocols has no key require", "required = true")
    refuses({ protocols = { "a", required = 1 } }, "protocols.required must be true or false, got 1")
    refuses({ protocols = { "a", nil, "b" } }, "protocols has no key 3")
  end)
end)

describe("a combination that cannot be", function()
  it("names the keys that contradict each other", function()
    refuses({ tls = {} }, "tls.cert is missing")
    refuses({ tls = { cert = "c" } }, "tls.key is missing")
    refuses({ tls = { key = "k" } }, "tls.cert is missing")
    refuses({ tls = { cert = "c", key = "k", requestCert = true } }, "tls.ca is missing", "tls.requestCert")
    refuses({ admin = {} }, "admin.port is missing")
    refuses({ admin = { port = 4000 } }, "admin.port must differ from port, got 4000")
    refuses({ limits = { burst = 5 } }, "limits.burst needs limits.messagesPerSecond")
    refuses({ limits = { maxConnections = 1, maxConnectionsPerIp = 2 } }, "limits.maxConnectionsPerIp", "limits.maxConnections")
    refuses({ sync = { enabled = true }, authentication = { storeConnectedUsers = false } }, "sync.enabled", "storeConnectedUsers")
  end)

  it("keeps what needs the envelope out of raw mode", function()
    refuses({ raw = true, sync = { enabled = true } }, "sync.enabled cannot be used with raw")
    refuses({ raw = true, reconnect = { enabled = true } }, "reconnect.enabled cannot be used with raw")
    refuses({ raw = true, client = { enforceEqualVersions = true } }, "client.enforceEqualVersions cannot be used with raw")
    refuses({ raw = true, options = { storeMessages = 5 } }, "options.storeMessages cannot be used with raw")
    assert.is_true(new({ raw = true, heartbeat = { enabled = true } }).heartbeat.enabled)
  end)
end)

describe("host", function()
  it("as a Unix socket has a path", function()
    refuses({ host = "unix:" }, 'host must be "unix:" and the path of a socket, such as unix:/run/mesa.sock, got "unix:"')
    assert.equal("unix:a", new({ host = "unix:a" }).host)
  end)
end)

describe("redis", function()
  it("is a URI", function()
    for _, uri in ipairs { "redis://localhost", "redis://u:p@host:6379/1", "rediss://host", "unix:///run/redis.sock" } do
      assert.same({ uri = uri }, new({ redis = uri }).redis)
    end
    refuses({ redis = "localhost" }, "redis must be a URI")
    refuses({ redis = 6379 }, "redis must be a URI", "got 6379")
  end)

  it("is a table of its parts", function()
    local redis = new({ redis = { host = "localhost", port = 1234, db = 2, user = "u", password = "p" } }).redis
    assert.same({ "localhost", 1234, 2, "u", "p" }, { redis.host, redis.port, redis.db, redis.user, redis.password })
    assert.same({ 5000, 5000, 15000, 0 }, { redis.connectTimeout, redis.commandTimeout, redis.lease, redis.queue })
    assert.same({ "a:1", "b" }, new({ redis = { sentinels = { "a:1", "b" }, name = "m" } }).redis.sentinels)
    refuses({ redis = { hots = "x" } }, "unknown key redis.hots", "redis.host")
    refuses({ redis = { port = 0 } }, "redis.port must be")
    refuses({ redis = { lease = 5 } }, "redis.lease must be")
    refuses({ redis = { sentinels = "x", name = "m" } }, "redis.sentinels must be a list")
    refuses({ redis = { sentinels = { 1 }, name = "m" } }, "redis.sentinels[1]")
  end)

  it("is in one place", function()
    refuses({ redis = { uri = "redis://a", host = "b" } }, "redis.uri")
    refuses({ redis = { path = "/a", host = "b" } }, "redis.path")
    refuses({ redis = { sentinels = { "a" } } }, "redis.name is missing")
  end)

  it("does not repeat passwords", function()
    assert.is_nil(message_of({ redis = { password = "secret\0" } }):find "secret")
  end)

  it("is what portals need, and the envelope is what it needs", function()
    refuses({ portal = { enabled = true } }, "portal.enabled needs redis")
    refuses({ raw = true, redis = "redis://localhost", portal = { enabled = true } }, "portal.enabled cannot be used with raw")
    assert.is_true(new({ raw = true, redis = "redis://localhost" }).raw)
    assert.is_true(new({ redis = "redis://localhost", portal = { enabled = true } }).portal.enabled)
    assert.is_false(new({ portal = { distributeLoad = false } }).portal.distributeLoad)
  end)
end)

describe("compression", function()
  it("is off, on, or a table of its parts", function()
    local on = { threshold = 1024, level = 6, contextTakeover = false, maxMemory = 67108864 }
    assert.is_nil(new({}).compression)
    assert.is_nil(new({ compression = false }).compression)
    assert.same(on, new({ compression = true }).compression)
    assert.same(on, new({ compression = {} }).compression)
    on.level, on.contextTakeover = 1, true
    assert.same(on, new({ compression = { level = 1, contextTakeover = true } }).compression)
  end)

  it("is refused when it cannot be", function()
    refuses({ compression = "on" }, 'compression must be true, false or a table, got the string "on"')
    refuses({ compression = { level = 0 } }, "compression.level must be an integer between 1 and 9, got 0")
    refuses({ compression = { treshold = 1 } }, "did you mean compression.threshold?")
  end)
end)

describe("the reference of the configuration", function()
  it("describes every key, in order, with its default", function()
    local seen, previous = {}, ""
    for _, row in ipairs(config.reference()) do
      assert.is_true(previous:lower() < row.key:lower() or previous < row.key, row.key)
      assert.is_string(row.type, row.key)
      assert.is_string(row.allowed, row.key)
      assert.is_string(row.doc, row.key)
      seen[row.key], previous = row, row.key
    end
    assert.equal(4000, seen.port.default)
    assert.equal(10000, seen["heartbeat.interval"].default)
    assert.is_nil(seen["tls.cert"].default)
    assert.truthy(seen["scripts.auth"])
  end)
end)
