--- Checks what a script passes to Mesa.new against mesa.config_schema.
-- Pure Lua: needs neither the C core nor a server.

local schema = require "mesa.config_schema"
local words = require "mesa.words"

local error, ipairs, pairs, tostring, type = error, ipairs, pairs, tostring, type
local concat, sort = table.concat, table.sort
local find, format, gsub, lower = string.find, string.format, string.gsub, string.lower
local closest, fold, sorted_keys = words.closest, words.fold, words.sorted_keys

local config = {}

local ROOT = schema.root.fields

-- ---- keys that do not exist ---------------------------------------------------------------------------------------

local function full_key(prefix, name)
  return prefix == "" and name or prefix .. "." .. name
end

-- A key of that very name in another section: heartbeatInterval and interval both belong into heartbeat.
local function elsewhere(name)
  local folded = fold(name)
  for _, section_name in ipairs(sorted_keys(ROOT)) do
    if folded == fold(section_name) then
      return section_name
    end
    for _, key in ipairs(sorted_keys(ROOT[section_name].fields or {})) do
      if folded == fold(key) or folded == fold(section_name .. key) then
        return section_name .. "." .. key
      end
    end
  end
  return nil
end

local function unknown_key(prefix, name, fields)
  local where = prefix == "" and "the configuration" or prefix
  if type(name) ~= "string" then
    return format("%s has no key [%s]: its keys are names", where, tostring(name))
  end
  local near = closest(name, fields)
  local meant = near and full_key(prefix, near) or elsewhere(name)
  if meant then
    return format("unknown key %s, did you mean %s?", full_key(prefix, name), meant)
  end
  return format("unknown key %s, %s has: %s", full_key(prefix, name), where, concat(sorted_keys(fields), ", "))
end

-- ---- validation --------------------------------------------------------------------------------------------------

local check_section

local function check_entry(spec, value, key)
  if not spec.fields then
    return spec.check(value, key)
  elseif spec.shorthand and type(value) == spec.shorthand.type then
    return spec.shorthand.check(value, key)
  elseif type(value) ~= "table" then
    return nil, schema.wrong(key, spec.allowed, value)
  end
  return check_section(spec.fields, value, key)
end

local function default_of(spec)
  if spec.fields then
    if spec.optional then
      return nil
    end
    return check_section(spec.fields, {}, "")
  end
  return spec.default
end

-- The normalised copy of a section, or nil and the first complaint, in the order of the keys.
function check_section(fields, given, prefix)
  local unknown
  for name in pairs(given) do
    if fields[name] == nil and (unknown == nil or tostring(name) < tostring(unknown)) then
      unknown = name
    end
  end
  if unknown ~= nil then
    return nil, unknown_key(prefix, unknown, fields)
  end

  local result = {}
  for _, name in ipairs(sorted_keys(fields)) do
    local spec, value = fields[name], given[name]
    if value == nil then
      result[name] = default_of(spec)
    else
      local checked, message = check_entry(spec, value, full_key(prefix, name))
      if message then
        return nil, message
      end
      result[name] = checked
    end
  end
  return result
end

-- A host name as it stands in certificates, in lower case, perhaps with "*" for its first label; nil and what is wrong.
local function host_name(name)
  if type(name) ~= "string" or name == "" then
    return nil, "must be a name"
  elseif find(name, "[\128-\255]") then
    return nil, "must be in ASCII: other letters are written xn--..., as in the certificate"
  elseif find(name, "^[%d.]+$") or find(name, ":") then
    return nil, "must be a name without a port: clients that connect to an address ask for none"
  end
  local rest = gsub(name, "^%*%.", "")
  if find(rest, "*", 1, true) then return nil, 'can have a "*" as its first part only, as in "*.example.org"' end
  if #name > 253 or not find(rest, "^[%w_-]+[%w_.-]*$") or find(rest, "..", 1, true) or find(rest, "%.$") then
    return nil, "must be a host name such as a.example or *.example.org"
  end
  return lower(name)
end

-- tls.names: a certificate for each name.
ROOT.tls.fields.names.check = function(value, key)
  if type(value) ~= "table" then return nil, schema.wrong(key, ROOT.tls.fields.names.allowed, value) end
  local result, given = {}, {}
  for name in pairs(value) do given[#given + 1] = name end
  sort(given, function(a, b) return tostring(a) < tostring(b) end)
  for _, name in ipairs(given) do
    local entry = format(type(name) == "string" and "%s[%q]" or "%s[%s]", key, tostring(name))
    local folded, wrong = host_name(name)
    if not folded then return nil, entry .. " " .. wrong end
    if result[folded] then return nil, entry .. " is there twice: case makes no difference" end
    local pair, message = check_entry(schema.certificate, value[name], entry)
    if message then return nil, message end
    if not pair.cert or not pair.key then
      return nil, format("%s.%s is missing: it needs a certificate and its key", entry, pair.cert and "key" or "cert")
    end
    result[folded] = pair
  end
  return result
end

-- A Redis that cannot be where it is said to be.
local function impossible_redis(redis)
  if redis.uri and (redis.host or redis.path or redis.sentinels) then
    return "redis.uri says where Redis is: it cannot be used with redis.host, redis.path or redis.sentinels"
  elseif redis.path and (redis.host or redis.port or redis.sentinels) then
    return "redis.path cannot be used with redis.host, redis.port or redis.sentinels"
  elseif redis.sentinels and not redis.name then
    return "redis.name is missing: redis.sentinels needs the name of the master"
  end
  return nil
end

-- What belongs to the port, and so to the server that listens on it.
local OF_PORT = { "admin", "host", "port", "proxies", "proxyProtocol", "static", "tls" }
local LIMITS_OF_PORT = { "handshakeTimeout", "maxBody", "maxConnections", "maxConnectionsPerIp", "maxPayload" }

-- A server on the port of another one.
local function impossible_guest(c, given)
  if c.server.config.server then
    return "server must be one that listens itself, got one on another server"
  elseif not c.path then
    return "path is missing: a server on another one needs a path of its own"
  end
  for _, key in ipairs(OF_PORT) do
    if given[key] ~= nil then
      return key .. " cannot be used with server: it is a matter of the other one"
    end
  end
  for _, key in ipairs(LIMITS_OF_PORT) do
    if given.limits and given.limits[key] ~= nil then
      return format("limits.%s cannot be used with server: it is a matter of the other one", key)
    end
  end
  return nil
end

-- Keys that contradict each other.
local function impossible(c)
  local pair = c.tls or {}
  local lifetime = pair.ticketLifetime or 0
  if c.tls and not pair.cert then
    return "tls.cert is missing: tls needs a certificate and its key"
  elseif c.tls and not pair.key then
    return "tls.key is missing: tls needs a certificate and its key"
  elseif pair.requestCert and not pair.ca then
    return "tls.ca is missing: tls.requestCert needs authorities to check certificates against"
  elseif lifetime > 0 and lifetime < 1000 then
    return format("tls.ticketLifetime must be at least 1000, or false for off, got %d", lifetime)
  elseif c.host == "unix:" then
    return 'host must be "unix:" and the path of a socket, such as unix:/run/mesa.sock, got "unix:"'
  elseif c.admin and not c.admin.port then
    return "admin.port is missing: the admin endpoint has no default port"
  elseif c.admin and c.admin.port == c.port and c.port ~= 0 then
    return format("admin.port must differ from port, got %d for both", c.port)
  elseif c.sync.enabled and not c.authentication.storeConnectedUsers then
    return "sync.enabled needs authentication.storeConnectedUsers, which is false"
  elseif c.limits.burst > 0 and c.limits.messagesPerSecond == 0 then
    return "limits.burst needs limits.messagesPerSecond, which is not set"
  elseif c.portal.enabled and not c.redis then
    return "portal.enabled needs redis, which is not set"
  elseif c.limits.maxConnections > 0 and c.limits.maxConnectionsPerIp > c.limits.maxConnections then
    return format("limits.maxConnectionsPerIp must not exceed limits.maxConnections, got %d and %d",
      c.limits.maxConnectionsPerIp,
      c.limits.maxConnections
    )
  end
  if c.raw then
    local needs_envelope = {
      ["scripts.auth"] = type(c.scripts) == "table" and c.scripts.auth ~= nil,
      ["sync.enabled"] = c.sync.enabled,
      ["portal.enabled"] = c.portal.enabled,
      ["reconnect.enabled"] = c.reconnect.enabled,
      ["client.enforceEqualVersions"] = c.client.enforceEqualVersions,
      ["options.storeMessages"] = c.options.storeMessages > 0,
    }
    for _, key in ipairs(sorted_keys(needs_envelope)) do
      if needs_envelope[key] then
        return format("%s cannot be used with raw: it needs the Mesa envelope", key)
      end
    end
  end
  return c.redis and impossible_redis(c.redis) or nil
end

--- A section as others than servers take it: `redis` of dispatchers and portals. Returns it with its defaults, or nil and a message.
ROOT.redis.check = function(value, key)
  local checked, message = check_entry(ROOT.redis, value, key)
  message = message or impossible_redis(checked)
  if message then return nil, message end
  return checked
end

--- Checks a configuration and returns a copy with every default filled in; the given table is left as it is.
-- In the copy `authentication.timeout = false` is 0, `options.storeMessages` is a number, and the sections `tls`, `admin`,
-- `redis`, `compression` and `scripts` are absent unless given.
-- @param given what the script passed; nil is an empty configuration
-- @param level whom an error names, counted as error() does from the caller of this function: 2, the default, is the caller's caller
function config.validate(given, level)
  level = (level or 2) + 1
  if given == nil then
    given = {}
  elseif type(given) ~= "table" then
    error("the configuration must be a table, got " .. schema.found(given), level)
  end

  local result, message = check_section(ROOT, given, "")
  message = message or impossible(result) or (result.server and impossible_guest(result, given))
  if message then
    error(message, level)
  end
  return result
end

-- Whether only programs of this machine can reach the address.
local function is_loopback(host)
  return host ~= nil and (host == "localhost" or host == "::1" or find(host, "^127%.") ~= nil or find(host, "^unix:") ~= nil)
end

--- Whether pages of every site can connect, and nobody has said that they may.
function config.is_open_to_pages(checked)
  local owner = checked.server and checked.server.config or checked
  return not checked.origins and not is_loopback(owner.host)
end

--- Every key in alphabetical order as { key, type, allowed, default, doc }, for documentation.
function config.reference()
  local rows = {}
  local function collect(fields, prefix)
    for _, name in ipairs(sorted_keys(fields)) do
      local spec, key = fields[name], full_key(prefix, name)
      if spec.fields then
        if spec.shorthand then
          local short = spec.shorthand
          rows[#rows + 1] = { key = key, type = short.type, allowed = short.allowed, default = short.default, doc = short.doc }
        end
        collect(spec.fields, key)
      else
        rows[#rows + 1] = { key = key, type = spec.type, allowed = spec.allowed or spec.type, default = spec.default, doc = spec.doc }
      end
    end
  end
  collect(ROOT, "")
  return rows
end

return config
