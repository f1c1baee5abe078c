--- Every key of a configuration: its type, range, default and meaning. The one truth that checks and documentation share.
-- Pure Lua. Used by mesa.config.

local getmetatable, ipairs, pairs, tonumber, tostring, type = getmetatable, ipairs, pairs, tonumber, tostring, type
local find, format, gsub, lower, match, sub = string.find, string.format, string.gsub, string.lower, string.match, string.sub

local schema = {}

local MIB = 1024 * 1024
local DAY_MS = 24 * 60 * 60 * 1000
local UINT32_MAX = 2 ^ 32 - 1

-- How many messages of each direction `storeMessages = true` keeps.
local STORED_BY_DEFAULT = 100

local NAMES_ALLOWED = 'a table such as { ["a.example"] = { cert = "a.pem", key = "a-key.pem" } }'

-- ---- words -------------------------------------------------------------------------------------------------------

--- What a message says was found.
function schema.found(value)
  if type(value) == "string" then
    local shown = #value > 40 and sub(value, 1, 40) .. "..." or value
    return gsub(format("the string %q", shown), "\\\n", "\\n")
  elseif type(value) == "number" or type(value) == "boolean" then
    return tostring(value)
  elseif value == nil then
    return "nothing"
  end
  return "a " .. type(value)
end

--- "<key> must be <allowed>, got <what was found>".
function schema.wrong(key, allowed, value, hint)
  return format("%s must be %s, got %s%s", key, allowed, (schema.found(value)), hint and " (" .. hint .. ")" or "")
end

local wrong = schema.wrong

local function integer_text(n)
  return n == UINT32_MAX and "2^32-1" or format("%d", n)
end

-- ---- kinds of values ---------------------------------------------------------------------------------------------
-- A field has `check(value, key)`, which returns the normalised value or nil and a message, `allowed` in words, `default` and `doc`.

local function field(spec)
  spec.check = spec.check or function(value, key)
    if type(value) ~= spec.type then
      return nil, wrong(key, spec.allowed, value)
    end
    return value
  end
  return spec
end

local function boolean(default, doc)
  return field { type = "boolean", allowed = "true or false", default = default, doc = doc }
end

local function integer(spec)
  local min, max = spec.min or 0, spec.max or UINT32_MAX
  spec.type = "integer"
  local unit = spec.unit and " " .. spec.unit or ""
  spec.allowed = format("an integer between %s and %s%s", integer_text(min), integer_text(max), unit)
  spec.check = function(value, key)
    if type(value) ~= "number" then
      local hint = type(value) == "string" and tonumber(value) and "use tonumber" or nil
      return nil, wrong(key, spec.allowed, value, hint)
    elseif value % 1 ~= 0 or value < min or value > max then
      return nil, wrong(key, spec.allowed, value)
    end
    return value
  end
  return field(spec)
end

local function milliseconds(spec)
  spec.unit = "ms"
  spec.max = spec.max or DAY_MS
  return integer(spec)
end

local function text(spec)
  spec.type = "string"
  spec.allowed = spec.allowed or "a string that is not empty"
  spec.check = function(value, key)
    if type(value) ~= "string" or value == "" or find(value, "%z") or (spec.pattern and not find(value, spec.pattern)) then
      return nil, wrong(key, spec.allowed, value)
    end
    return value
  end
  return field(spec)
end

-- An integer, or a boolean that stands for one.
local function switchable(base, words)
  local check = base.check
  base.type = "boolean or integer"
  base.allowed = base.allowed .. words.allowed
  base.check = function(value, key)
    if type(value) == "boolean" then
      value = words[value] == nil and value or words[value]
    end
    local checked = check(value, key)
    if checked == nil then
      return nil, wrong(key, base.allowed, value)
    end
    return checked
  end
  return base
end

local ORIGINS_ALLOWED = 'a list of strings such as { "https://example.org", "https://*.example.org" }, or "*" for any'

-- Whether a "*" in the origin, if there is one, stands for the first parts of a name of at least two.
local function is_pattern(origin)
  return not find(origin, "*", 1, true) or find(origin, "^%a[%w+.-]*://%*%.[^*]+$") ~= nil
end

local function origins_check(value, key)
  if value == "*" then
    return value
  elseif type(value) ~= "table" then
    return nil, wrong(key, ORIGINS_ALLOWED, value)
  end
  local list, count = {}, 0
  for _ in pairs(value) do
    count = count + 1
  end
  if count == 0 then
    return nil, key .. " must name at least one origin (any are allowed by origins = \"*\")"
  end
  for i = 1, count do
    local origin = value[i]
    local entry = format("%s[%d]", key, i)
    if type(origin) ~= "string" then
      return nil, wrong(entry, "a string (the keys of a list are 1, 2, 3 ...)", origin)
    elseif origin == "*" then
      return nil, entry .. ' must be an origin, got "*" (any are allowed by origins = "*", without a list)'
    elseif origin ~= "null" and not find(origin, "^%a[%w+.-]*://[^/%s]+$") then
      return nil, wrong(entry, "an origin: scheme://host or scheme://host:port, without a path", origin)
    elseif not is_pattern(origin) then
      return nil, wrong(entry, 'an origin, whose "*" may only stand for the first parts of a name: https://*.example.org', origin)
    end
    list[i] = lower(origin)
  end
  return list
end

local PROXIES_ALLOWED = 'a list of addresses such as { "10.0.0.0/8", "::1", "unix" }'

-- What is an address is for the core to say.
local function proxies_check(value, key)
  if type(value) ~= "table" or #value == 0 then return nil, wrong(key, PROXIES_ALLOWED, value) end
  local list = {}
  for i, address in pairs(value) do
    local entry = format("%s[%s]", key, tostring(i))
    if type(i) ~= "number" or i > #value then return nil, entry .. " is no part of a list: it is " .. PROXIES_ALLOWED end
    if type(address) ~= "string" then return nil, wrong(entry, 'an address, a network such as "10.0.0.0/8", or "unix"', address) end
    list[i] = address
  end
  return list
end

local PROTOCOLS_ALLOWED = 'a list of names such as { "v2", "v1" }, with required = true perhaps, or a function of the request'

-- A copy of the list, with `required`.
local function protocols_check(value, key)
  if type(value) == "function" then
    return value
  elseif type(value) ~= "table" then
    return nil, wrong(key, PROTOCOLS_ALLOWED, value)
  end
  local result, seen = { required = false }, {}
  for i, name in ipairs(value) do
    local entry = format("%s[%d]", key, i)
    if type(name) ~= "string" or not find(name, "^[%w!#$%%&'*+.^_`|~-]+$") then
      return nil, wrong(entry, "the name of a subprotocol: letters, digits and !#$%&'*+-.^_`|~", name)
    elseif seen[name] then
      return nil, format("%s is %q again", entry, name)
    end
    result[i], seen[name] = name, true
  end
  for name, given in pairs(value) do
    if name == "required" then
      if type(given) ~= "boolean" then
        return nil, wrong(key .. ".required", "true or false", given)
      end
      result.required = given
    elseif result[name] == nil then
      return nil, format("%s has no key %s: it is %s", key, tostring(name), PROTOCOLS_ALLOWED)
    end
  end
  if #result == 0 then
    return nil, key .. " must name at least one subprotocol (leave it out to take whatever is offered first)"
  end
  return result
end

local redis_schemes = { redis = true, rediss = true, unix = true }

-- A password may be in it: what was found is not repeated.
local function redis_uri_check(value, key)
  if type(value) ~= "string" or not redis_schemes[match(value, "^(%a+)://.+") or ""] then
    return nil, format("%s must be a URI (redis://[user:password@]host[:port][/db], unix://path) or a table, got %s",
      key, type(value) == "string" and "another string" or schema.found(value))
  end
  return value
end

local function server_check(value, key)
  local class = type(value) == "table" and getmetatable(value)
  if type(class) ~= "table" or class.__name ~= "mesa.server" then
    return nil, wrong(key, "a server that Mesa.new has made", value)
  end
  return value
end

local function secret_check(value, key)
  if type(value) ~= "string" or value == "" or find(value, "%z") then
    return nil, format("%s must be a string that is not empty, got %s", key, type(value) == "string" and "another" or schema.found(value))
  end
  return value
end

local function sentinels_check(value, key)
  if type(value) ~= "table" or #value == 0 then
    return nil, wrong(key, 'a list such as { "10.0.0.1:26379" }', value)
  end
  local list = {}
  for i = 1, #value do
    if type(value[i]) ~= "string" or value[i] == "" then
      return nil, wrong(format("%s[%d]", key, i), '"host" or "host:port"', value[i])
    end
    list[i] = value[i]
  end
  return list
end

-- ---- the schema --------------------------------------------------------------------------------------------------

local function section(fields)
  return { type = "table", allowed = "a table", fields = fields }
end

local scripts = section {
  auth = text { doc = "file of the authenticate handler" },
  message = text { doc = "file of the message handler" },
  connection = text { doc = "file of the connection handler" },
  disconnect = text { doc = "file of the disconnect handler" },
  request = text { doc = "file of the request handler" },
}
scripts.shorthand = text { doc = "folder of auth.lua, on_message.lua, on_connection.lua, on_disconnect.lua and on_request.lua" }
scripts.allowed = "a folder (string) or a table"
scripts.optional = true

local function passphrase()
  return field { type = "string", allowed = "a string", check = secret_check, doc = "what the private key is encrypted with" }
end

--- A certificate and its key: what each of `tls.names` is.
schema.certificate = section {
  cert = text { doc = "file of the certificate chain (PEM)" },
  key = text { doc = "file of its private key (PEM)" },
  passphrase = passphrase(),
}
schema.certificate.allowed = "a table with cert and key"

local tls = section {
  cert = text { doc = "file of the certificate chain (PEM)" },
  key = text { doc = "file of the private key (PEM)" },
  passphrase = passphrase(),
  -- its check is in lua/mesa/config.lua, which knows sections
  names = field {
    type = "table of certificates", allowed = NAMES_ALLOWED, doc = "other certificates, by the name that clients ask for",
  },
  ca = text { doc = "file of the authorities of client certificates, and of their revocation lists (PEM)" },
  requestCert = boolean(false, "ask clients for a certificate"),
  minVersion = text { pattern = "^1%.[23]$", allowed = '"1.2" or "1.3"', default = "1.2", doc = "the oldest version of TLS" },
  ciphers = text { doc = "ciphers in the server's order, as OpenSSL writes them" },
  ticketKeys = text { doc = "file of a secret that processes share, to resume each other's sessions" },
  ticketLifetime = switchable(milliseconds {
    max = 7 * DAY_MS, default = 2 * 60 * 60 * 1000, doc = "how long a session can be resumed, 0 or false: never",
  }, {
    allowed = ", or false for off",
    [false] = 0,
  }),
}
tls.optional = true

local compression = section {
  threshold = integer { default = 1024, unit = "bytes", doc = "size of the smallest message that is compressed" },
  level = integer { min = 1, max = 9, default = 6, doc = "1 is the quickest, 9 the smallest" },
  contextTakeover = boolean(false, "keep a window for each connection from one message to the next"),
  maxMemory = integer { max = 2 ^ 40, unit = "bytes", default = 64 * MIB, doc = "of all windows that are kept" },
}
compression.shorthand = field {
  type = "boolean", allowed = "true or false", default = false, doc = "permessage-deflate for clients that offer it",
  check = function(value)
    if not value then return nil end
    local defaults = {}
    for name, spec in pairs(compression.fields) do
      defaults[name] = spec.default
    end
    return defaults
  end,
}
compression.allowed = "true, false or a table"
compression.optional = true

--- Permissions of a Unix socket, as chmod takes them.
local function mode(doc)
  return text { pattern = "^0?[0-7][0-7][0-7]$", allowed = 'three octal digits as a string, such as "660"', doc = doc }
end

local admin = section {
  host = text { default = "127.0.0.1", doc = "address of the admin endpoint" },
  mode = mode "permissions of its Unix socket",
  port = integer { max = 65535, doc = "port of the admin endpoint; 0 is any free port" },
}
admin.optional = true

local redis = section {
  uri = field {
    type = "string", check = redis_uri_check, allowed = "a URI",
    doc = "redis://[user:password@]host[:port][/db] or unix://path",
  },
  host = text { doc = "host of Redis, 127.0.0.1 without it" },
  port = integer { min = 1, max = 65535, doc = "port of Redis, 6379 without it" },
  path = text { doc = "Unix socket of Redis, instead of host and port" },
  user = text { doc = "user of Redis" },
  password = field { type = "string", allowed = "a string", check = secret_check, doc = "password of Redis" },
  db = integer { max = 65535, doc = "number of the database, 0 without it" },
  sentinels = field {
    type = "list of strings", allowed = "a list of addresses", check = sentinels_check,
    doc = "Sentinels that know the master called name",
  },
  name = text { doc = "name of the master that the sentinels know" },
  connectTimeout = milliseconds { min = 1, default = 5000, doc = "time to connect to Redis" },
  commandTimeout = milliseconds { min = 1, default = 5000, doc = "time for a command, after which the connection is made anew" },
  lease = milliseconds { min = 100, default = 15000, doc = "time after which a dead server's users are taken out of Redis" },
  queue = integer { max = 1000000, default = 0, doc = "messages kept for the cluster while Redis is away" },
}
redis.shorthand = field {
  type = "string", allowed = "a URI", doc = "Redis to cluster through",
  check = function(value, key)
    local uri, message = redis_uri_check(value, key)
    if message then return nil, message end
    return { uri = uri }
  end,
}
redis.allowed = "a URI (redis://[user:password@]host[:port][/db], unix://path) or a table"
redis.optional = true

local namespace = text { pattern = "^[%w_.:-]+$", allowed = "a word of letters, digits and _ . : -", doc = "suffix of every Redis name" }
local is_word = namespace.check
-- The set of users is connected_clients_<namespace>, the number of connections connected_clients_count_<namespace>: Node's names.
function namespace.check(value, key)
  local word, message = is_word(value, key)
  if word and (word == "count" or find(word, "^count_")) then
    return nil, wrong(key, 'another word than "count", and not begin with "count_"', value,
      "its users would be in connected_clients_" .. word .. ", where another namespace has its number of connections")
  end
  return word, message
end

--- Every key. A section has `fields`; an optional one is absent from the result unless it was given.
schema.root = section {
  port = integer { max = 65535, default = 4000, doc = "port to listen on; 0 is any free port" },
  host = text { doc = "address to listen on, every address without it; unix:/path is a Unix socket" },
  mode = mode "permissions of the Unix socket, what the umask gives without it",
  path = text { pattern = "^/[^%s?#]*$", allowed = 'a path that begins with "/"', doc = "path of the WebSocket, any without it" },
  namespace = namespace,
  redis = redis,
  server = field { type = "server", check = server_check, doc = "another server, on whose port this one serves its path" },
  static = text { doc = "folder of files served for plain GET on the same port" },
  raw = boolean(false, "plain WebSockets without the Mesa envelope"),
  compression = compression,
  origins = field {
    type = "list of strings", check = origins_check, allowed = ORIGINS_ALLOWED,
    doc = 'values of Origin that are let in, any without it or with "*"',
  },
  proxies = field {
    type = "list of strings", check = proxies_check, allowed = PROXIES_ALLOWED,
    doc = "addresses and networks of proxies that are believed about whom they forward, nobody without it",
  },
  proxyProtocol = boolean(false, "connections begin with a PROXY header, version 1 or 2"),
  protocols = field {
    type = "list of strings or function", check = protocols_check, allowed = PROTOCOLS_ALLOWED,
    doc = "subprotocols, the best first; without it whatever is offered first is taken",
  },
  beforeExit = field { type = "function", allowed = "a function", doc = "called with (signal, exit) before the server stops" },
  strict = boolean(false, "a function that uses a global that no file has assigned raises"),
  gracefullyExit = boolean(true, "close clients with 1001 on SIGTERM and SIGINT"),
  scripts = scripts,
  tls = tls,
  admin = admin,
  client = section {
    enforceEqualVersions = boolean(false, "close clients of another version with 1002"),
    version = text { default = "1.5.8", doc = "the version clients are compared with" },
  },
  options = section {
    concurrentMessages = boolean(false, "handle a client's messages at once instead of one after the other"),
    storeMessages = switchable(integer { max = 100000, default = 0, doc = "messages of each direction kept per client" }, {
      allowed = format(", false, or true for %d", STORED_BY_DEFAULT),
      [true] = STORED_BY_DEFAULT,
      [false] = 0,
    }),
  },
  sync = section {
    enabled = boolean(false, "keep messages for users who are offline"),
    redeliveryInterval = milliseconds { default = 0, doc = "pause between redelivered messages" },
    maxMessages = integer { min = 1, default = 1000, doc = "messages kept per user" },
    maxBytes = integer { min = 1, max = 2 ^ 40, unit = "bytes", default = MIB, doc = "bytes kept per user" },
    maxAge = milliseconds { min = 1, max = 3650 * DAY_MS, default = 7 * DAY_MS, doc = "age after which a message is dropped" },
  },
  portal = section {
    enabled = boolean(false, "publish what happens to portals"),
    distributeLoad = boolean(true, "take portals in turn, else at random"),
  },
  heartbeat = section {
    enabled = boolean(false, "send heartbeats"),
    interval = milliseconds { min = 1, default = 10000, doc = "pause between heartbeats" },
    maxAttempts = integer { min = 1, max = 1000, default = 3, doc = "unanswered heartbeats after which a client is closed with 4009" },
  },
  reconnect = section {
    enabled = boolean(false, "tell clients to reconnect"),
    interval = milliseconds { min = 1, default = 5000, doc = "pause before a client reconnects" },
  },
  authentication = section {
    timeout = switchable(milliseconds { default = 10000, doc = "time to authenticate in, 0 or false: no limit" }, {
      allowed = ", or false for off",
      [false] = 0,
    }),
    required = boolean(false, "send nothing to clients that are not authenticated"),
    sendUserObject = boolean(true, "send the user object with op 22"),
    disconnectOnFail = boolean(true, "close with 1008 when authentication is refused"),
    storeConnectedUsers = boolean(true, "keep the set of users who are online"),
  },
  limits = section {
    maxPayload = integer { min = 1, max = 2 ^ 31 - 1, unit = "bytes", default = MIB, doc = "size of one message, 1009 above" },
    maxBackpressure = integer { min = 1, max = 2 ^ 40, unit = "bytes", default = MIB, doc = "bytes queued for one client, 1013 above" },
    maxBody = integer { max = 2 ^ 31 - 1, unit = "bytes", default = MIB, doc = "size of the body of an HTTP request, 413 above" },
    maxQueue = integer { min = 1, max = 2 ^ 40, unit = "bytes", default = MIB, doc = "one client's messages that wait for it" },
    maxQueueTotal = integer { min = 1, max = 2 ^ 40, unit = "bytes", default = 64 * MIB, doc = "all messages that wait for handlers" },
    maxConnections = integer { default = 0, doc = "connections at a time, 0: unlimited" },
    maxConnectionsPerIp = integer { default = 0, doc = "connections at a time from one address, 0: unlimited" },
    messagesPerSecond = integer { default = 0, doc = "rate of messages of one client, 4008 above, 0: unlimited" },
    burst = integer { default = 0, doc = "messages at once above the rate, 0: as many as messagesPerSecond" },
    handshakeTimeout = milliseconds { min = 1, default = 10000, doc = "time for the WebSocket handshake" },
    idleTimeout = milliseconds { default = 0, doc = "silence after which a client is closed, 0: off" },
    maxDepth = integer { min = 1, max = 1024, default = 128, doc = "nesting of JSON" },
    scriptTime = switchable(milliseconds { default = 1000, doc = "time a handler may hold the loop before it is logged" }, {
      allowed = ", or false for off",
      [false] = 0,
    }),
    scriptMemory = switchable(integer { max = 2 ^ 40, unit = "bytes", default = 0, doc = "memory of the Lua state, 0: unlimited" }, {
      allowed = ", or false for unlimited",
      [false] = 0,
    }),
  },
}

return schema
