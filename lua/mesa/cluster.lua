--- What dispatchers, portals and middleware share: the names of PROTOCOL 8 and the checks of what they are given.
local core = require "mesa.core"
local redis = require "mesa.redis"
local schema = require "mesa.config_schema"

local error, pairs, tostring, type = error, pairs, tostring, type
local format, concat, sort = string.format, table.concat, table.sort

local cluster = {}

local check_namespace = schema.root.fields.namespace.check

--- "ws", or "ws_<namespace>".
---@param prefix string
---@param namespace? string
---@return string
function cluster.name(prefix, namespace)
  return namespace and prefix .. "_" .. namespace or prefix
end

--- The options of `who`, which has the keys of `allowed`: key -> function (value, key) -> normalised value, or nil and a message.
--- Raises at the caller of the caller.
---@param who string
---@param given? table
---@param allowed table<string, function>
---@return table
function cluster.options(who, given, allowed)
  if given == nil then given = {} end
  if type(given) ~= "table" then error(format("%s: the options must be a table, got %s", who, schema.found(given)), 3) end
  local names = {}
  for name in pairs(allowed) do names[#names + 1] = name end
  sort(names)
  local options = {}
  for key, value in pairs(given) do
    local check = allowed[key]
    if not check then
      error(format("%s: unknown option %s; there are %s", who, tostring(key), concat(names, ", ")), 3)
    end
    local checked, message = check(value, key)
    if message then error(format("%s: %s", who, message), 3) end
    options[key] = checked
  end
  return options
end

cluster.namespace = check_namespace

--- For options that are true or false.
function cluster.boolean(value, key)
  if type(value) ~= "boolean" then return nil, schema.wrong(key, "true or false", value) end
  return value
end

--- The connection that `who` was given, and whether it is its own to close: a URI or a table is connected to, a connection is used.
---@param who string
---@param given string|table|mesa.Redis
---@return mesa.Redis connection, boolean own
function cluster.connection(who, given)
  if redis.is(given) then return given, false end
  local connection, err = redis.open(given)
  if not connection then error(format("%s: %s", who, err), 3) end
  return connection, true
end

--- The lists of ids that sending takes, as strings: nil, one id, or a list.
---@param who string
---@param what string
---@param given any
---@return string[]?
function cluster.ids(who, what, given)
  if given == nil then return nil end
  if type(given) ~= "table" then given = { given } end
  local ids = {}
  for i = 1, #given do
    local id, why = core.user_id(given[i])
    if not id then error(format("%s: %s: %s", who, what, why), 3) end
    ids[i] = id
  end
  return ids
end

return cluster
