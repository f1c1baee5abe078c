--- What authenticate handlers decide, and what they forget to.
local core = require "mesa.core"
local errors = require "mesa.errors"
local source = require "mesa.source"

local collectgarbage, error, getmetatable, setmetatable, type = collectgarbage, error, getmetatable, setmetatable, type
local xpcall = xpcall
local getinfo, format, sub = debug.getinfo, string.format, string.sub

local catch = errors.catch

local authentication = {}

-- ---- results -------------------------------------------------------------------------------------------------------

--- The user of an accepted result, or nil and what is wrong with it.
local function check_result(result)
  if type(result) ~= "table" then
    return nil, "the authentication result must be a table {id=, user=}, got " .. type(result)
  end
  local id, why = core.user_id(result.id)
  if not id then return nil, "the authentication result needs an id: " .. why end
  return id, result.user ~= nil and result.user or { id = result.id }
end

--- Where the function begins: "auth.lua:3".
local function place(handler)
  local info = getinfo(handler, "S")
  return source.display(sub(info.source, 2)) .. ":" .. info.linedefined
end

--- A result that is none.
local function refuse_result(server, client, check, handler, why)
  local text = format("%s (given by the authenticate handler of %s)", why, place(handler))
  server:_report(errors.new(text, "AUTH_RESULT"), "authenticate", client)
  core.client_refuse(client, check)
end

--- Carries out what an authentication handler decided. Only the error event and the log are told why (PROTOCOL 5).
local function settle(server, client, check, handler, err, result)
  if err ~= nil and err ~= false then
    server:_report(errors.wrap(err, "AUTH_REFUSED"), "authenticate", client)
    core.client_refuse(client, check)
    return
  end
  local id, user = check_result(result)
  if not id then
    refuse_result(server, client, check, handler, user)
    return
  end
  local previous = client.user
  client.user = user
  local ok, why = core.client_accept(client, check, id, user)
  if not ok then
    client.user = previous
    if why ~= "closed" then
      refuse_result(server, client, check, handler, "the authentication result cannot be used: " .. why)
    end
  end
end

--- done { id = … }: the result in the place of the error.
local function is_result(err, result)
  return result == nil and type(err) == "table" and getmetatable(err) ~= errors.class and err.id ~= nil and err.message == nil
end

-- ---- handlers that never answer ------------------------------------------------------------------------------------

local undecided = setmetatable({}, { __mode = "k" }) -- clients that wait for the answer of a handler -> the handler
local probed = {} -- handlers, by their place and the version of the scripts, that a look was taken at

--- A handler has returned without an answer. When nobody refers to `done` any more, none will come. That takes a full
--- collection to find out, so it is done once for each handler; the others are told of when their time is up.
local function probe(server, client, handler, state, done)
  local where = place(handler)
  local key = where .. " " .. server._scripts._version
  if probed[key] then return end
  probed[key] = true
  local weak = setmetatable({ done = done }, { __mode = "v" })
  core.timer_start(function()
    collectgarbage()
    if weak.done or state.answered or client.closed then return end
    server:_report(errors.new(format("the authenticate handler of %s returned without an answer, and nothing is left that could give one: "
      .. "call done(err) or done(nil, { id = ... }), or return { id = ... }", where), "AUTH_UNANSWERED"), "authenticate", client)
  end, 0, false)
end

--- The text of AUTH_TIMEOUT, with the handler that is to blame.
---@param client mesa.Client
---@param text string
---@return string
function authentication.why_late(client, text)
  local handler = undecided[client]
  if not handler then return text end
  return format("%s: the authenticate handler of %s has neither called done nor returned a result", text, place(handler))
end

-- ---- the event -----------------------------------------------------------------------------------------------------

--- The function that the core calls for op 2.
---@param server mesa.Server
function authentication.event(server)
  return function(client, check, data)
    if client.closed then return end -- he left before his turn came
    local handler = client._authenticate or server._scripts.auth
    local state = { answered = false }
    undecided[client] = handler
    local function done(err, result)
      if state.answered then
        server:_report(errors.new("done was called twice; the first call counts", "AUTH_DONE_TWICE"), "authenticate", client)
        return
      end
      state.answered = true
      undecided[client] = nil
      if is_result(err, result) then
        core.client_refuse(client, check)
        error("done: the first argument is the error, the result comes second: done(nil, { id = ... })", 2)
      end
      settle(server, client, check, handler, err, result)
    end
    local ok, result, err = xpcall(handler, catch, data, done, client, server)
    if not ok and state.answered then
      server:_report(result, "authenticate", client)
    elseif not ok then
      done(result)
    elseif not state.answered and result ~= nil then
      done(nil, result)
    elseif not state.answered and err ~= nil then
      done(err)
    elseif not state.answered then
      probe(server, client, handler, state, done)
    end
  end
end

return authentication
