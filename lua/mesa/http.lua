--- Mesa.http: requests to other services. A request suspends the handler that makes it; the server goes on meanwhile.
local core = require "mesa.core"
local misuse = require "mesa.misuse"

local error, ipairs, pairs, pcall, rawset, setmetatable, tostring = error, ipairs, pairs, pcall, rawset, setmetatable, tostring
local type, unpack = type, unpack
local abs, ceil, byte, find, format, gsub = math.abs, math.ceil, string.byte, string.find, string.format, string.gsub
local lower, match, sub, concat, sort = string.lower, string.match, string.sub, table.concat, table.sort
local decode_json, encode_json = core.json.decode, core.json.encode

local http = {}
misuse.register(http, "Mesa.http")

local DEFAULTS = {
  timeout = 30000,
  connectTimeout = 5000,
  maxRedirects = 5,
  maxSize = 8 * 1024 * 1024,
}
local MAX = { timeout = 2 ^ 31 - 1, connectTimeout = 2 ^ 31 - 1, maxRedirects = 100, maxSize = 2 ^ 31 - 1 }

local known = {
  method = "string", url = "string", headers = "table", query = "table", body = "string", json = "any",
  timeout = "number", connectTimeout = "number", maxRedirects = "number", maxSize = "number", tls = "table",
}
local known_tls = { ca = "string", verify = "boolean" }

-- Misuse; raised anew at the script's line by `checked`.
local function fail(text, ...)
  error(format(text, ...), 0)
end

local function check_keys(options, keys, prefix)
  for key, value in pairs(options) do
    local wanted = keys[key]
    if not wanted then fail("unknown option %s%s", prefix, tostring(key)) end
    if wanted ~= "any" and type(value) ~= wanted then
      fail("%s%s must be a %s, got %s", prefix, key, wanted, type(value))
    end
  end
end

local function number_of(options, key)
  local value = options[key]
  if value == nil then return DEFAULTS[key] end
  if not (value >= 0 and value <= MAX[key]) then
    fail("%s must be between 0 and %d, got %s", key, MAX[key], tostring(value))
  end
  return ceil(value)
end

local function text_of(what, value)
  if type(value) == "string" then return value end
  if type(value) == "number" and value % 1 == 0 and abs(value) <= 2 ^ 53 then return format("%.0f", value) end
  if type(value) == "number" or type(value) == "boolean" then return tostring(value) end
  fail("%s must be a string, a number or a boolean, got %s", what, type(value))
end

local function encode(text)
  return (gsub(text, "[^%w%-._~]", function(c) return format("%%%02X", byte(c)) end))
end

--- "a=1&b=x%20y", in the order of the names; a list is several values of one name.
local function query_of(query)
  local names, parts = {}, {}
  for key in pairs(query) do
    if type(key) ~= "string" then fail("query has the key %s: its keys are names", tostring(key)) end
    names[#names + 1] = key
  end
  sort(names)
  for _, key in ipairs(names) do
    local value = query[key]
    for _, one in ipairs(type(value) == "table" and value or { value }) do
      parts[#parts + 1] = encode(key) .. "=" .. encode(text_of("query." .. key, one))
    end
  end
  return concat(parts, "&")
end

local function with_query(url, query)
  local text = query_of(query)
  if text == "" then return url end
  local base, fragment = match(url, "^([^#]*)(.*)$")
  local separator = not find(base, "?", 1, true) and "?" or find(base, "[?&]$") and "" or "&"
  return base .. separator .. text .. fragment
end

local function headers_of(options, json)
  local list, given = {}, {}
  for key, value in pairs(options.headers or {}) do
    if type(key) ~= "string" then fail("headers has the key %s: its keys are names", tostring(key)) end
    given[lower(key)] = true
    for _, one in ipairs(type(value) == "table" and value or { value }) do
      list[#list + 1] = key
      list[#list + 1] = text_of("headers." .. key, one)
    end
  end
  if json and not given["content-type"] then
    list[#list + 1] = "Content-Type"
    list[#list + 1] = "application/json"
  end
  if json and not given.accept then
    list[#list + 1] = "Accept"
    list[#list + 1] = "application/json"
  end
  return list
end

local function body_of(options)
  if options.json == nil then return options.body end
  if options.body ~= nil then fail("body and json cannot both be given") end
  local ok, text, why = pcall(encode_json, options.json)
  if not ok then fail("json: %s", tostring(text)) end
  if not text then fail("json: %s", tostring(why)) end
  return text
end

local function is_json(content_type)
  local kind = match(lower(content_type or ""), "^%s*([^%s;]+)")
  return kind == "application/json" or find(kind or "", "^[^/]+/[^/]+%+json$") ~= nil
end

-- `json` is decoded when it is first asked for; nil when the body is none.
local Response = {}
function Response.__index(response, key)
  if key ~= "json" or not is_json(response.headers["content-type"]) then return nil end
  local ok, value = pcall(decode_json, response.body)
  if not ok then value = nil end
  rawset(response, "json", value)
  return value
end

-- The arguments of core.http_request.
local function prepare(method, url, options)
  if type(options) ~= "table" then fail("the options must be a table, got %s", type(options)) end
  check_keys(options, known, "")
  local tls = options.tls or {}
  check_keys(tls, known_tls, "tls.")
  if type(url) ~= "string" then fail("the URL must be a string, got %s", type(url)) end
  if options.query then url = with_query(url, options.query) end
  local ca = tls.ca
  if ca and sub(ca, 1, 1) ~= "/" then ca = core.app_dir() .. "/" .. ca end
  return { method, url, headers_of(options, options.json ~= nil), body_of(options),
    number_of(options, "timeout"), number_of(options, "connectTimeout"),
    number_of(options, "maxRedirects"), number_of(options, "maxSize"), ca, tls.verify == false }
end

local function checked(name, ...)
  local ok, arguments = pcall(prepare, ...)
  if not ok then error(format("Mesa.http.%s: %s", name, arguments), 3) end
  return arguments
end

local function send(arguments)
  local status, headers, body, url = core.http_request(unpack(arguments, 1, 10))
  if not status then return nil, headers, body end
  return setmetatable({ status = status, headers = headers, body = body, url = url }, Response)
end

for name, method in pairs { get = "GET", head = "HEAD", post = "POST", put = "PUT", patch = "PATCH", delete = "DELETE" } do
  http[name] = function(url, options)
    misuse.check_function(url, name)
    return send(checked(name, method, url, options or {}))
  end
end

--- `Mesa.http.request { method =, url =, … }`
---@param options table
function http.request(options)
  local given = type(options) == "table" and options or {}
  return send(checked("request", given.method or "GET", given.url, options))
end

return http
