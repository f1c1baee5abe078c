--- From the core's events to the handlers of scripts: listeners, the scripts of the `scripts` table, middleware.
--- One closure an event and server.
local answer = require "mesa.answer"
local authentication = require "mesa.authentication"
local Message = require "mesa.message"
local config = require "mesa.config"
local core = require "mesa.core"
local errors = require "mesa.errors"
local log = require "mesa.log"
local request = require "mesa.request"
require "mesa.client" -- what client objects can do
local scripts = require "mesa.scripts"
local upgrade = require "mesa.upgrade"

local ipairs, tostring, xpcall = ipairs, tostring, xpcall
local format, concat = string.format, table.concat

local catch = errors.catch
local handling = answer.handling
-- Does nothing. LuaJIT compiles a function that the core calls up to a call of the core, but not when it just returns.
local message_done = core.message_done

local dispatch = {}

local OPEN_TO_PAGES = "origins is not set, so that a page of any site can connect with the cookies of whoever opens it: "
  .. 'set origins = { "https://your.site" }, or origins = "*" if every page may'

local function raw_message(data, binary)
  return { data = data, binary = binary }
end

--- The listeners behind the first. A loop that ends at once keeps LuaJIT from compiling the function around it.
local function call_others(server, client, list, message)
  for i = 2, #list do
    local ok, err = xpcall(list[i], catch, message)
    if not ok then server:_report(err, "message", client) end
  end
end

local function message_event(server)
  local middleware, slots = server._middleware, server._scripts
  local received = server.raw and raw_message or Message._received
  return function(client, fields, a, b, c, d, e, f, g)
    handling[1], handling[3] = client, middleware.onMessageSent
    local message = received(a, b, c, d, e, f, g)
    local own = fields and fields._handlers
    local list = own and own.message
    if list then
      local ok, err = xpcall(list[1], catch, message)
      if not ok then server:_report(err, "message", client) end
      if list[2] then call_others(server, client, list, message) end
    end
    local script = slots.message
    if script then
      local ok, err = xpcall(script, catch, message, client, server)
      if not ok then server:_report(err, "on_message", client) end
    end
    local handlers = server._handlers
    if handlers and handlers.message then server:emit("message", message, client) end
    if middleware.onMessageReceived then server:_run_middleware("onMessageReceived", message, client) end
    handling[1] = false
    message_done()
  end
end

--- Runs the script of the slot, if there is one.
local function run_script(server, slot, client, ...)
  local script = server._scripts[slot]
  if not script then return end
  local ok, err = xpcall(script, catch, ...)
  if not ok then server:_report(err, "on_" .. slot, client) end
end

local function connection_event(server)
  return function(client)
    if server._scripts.auth then core.client_set_authenticator(client, true) end
    run_script(server, "connection", client, client, server)
    server:emit("connection", client)
    server:_run_middleware("onConnection", client)
  end
end

local function disconnect_event(server)
  return function(client, code, reason)
    local event = { code = code, reason = reason }
    client:emit("disconnect", event)
    run_script(server, "disconnect", client, client, event, server)
    server:emit("disconnection", client, event)
    server:_run_middleware("onDisconnection", client, event)
  end
end

--- Runs one handler of a request; whether the request is answered now. An error is answered with 500.
local function answers(server, handler, where, req, response)
  local ok, err = xpcall(handler, catch, req, response, server)
  if not ok then
    server:_report(err, where)
    if not response.answered then response:status(500):send("Internal Server Error\n") end
  end
  return response.answered
end

--- A plain HTTP request: whoever answers first has answered; 500 for an error, 404 (or 426) when nobody did and nobody
--- means to.
local function request_event(server)
  return function(req, http)
    local method, path = req.method, req.path
    local response = request.response(http)
    req.query = request.parse_query(req.queryString)
    local script = server._scripts.request
    if script and answers(server, script, "on_request", req, response) then return end
    for _, listener in ipairs(server._handlers and server._handlers.request or {}) do
      if answers(server, listener, "request", req, response) then return end
    end
    if not response._deferred then
      response.answered = true
      core.http_refuse(http, server, method, path)
    end
  end
end

--- Which of the subprotocols offered the function `protocols` chooses: its number, 0 for none; nil when the function is wrong.
local function protocol_event(server)
  return function(req)
    local offered = req.protocols
    req.query = request.parse_query(req.queryString)
    local ok, chosen = core.call_now(server.config.protocols, catch, req)
    if ok and chosen == nil then return 0 end
    for i, name in ipairs(ok and offered or {}) do
      if name == chosen then return i end
    end
    if ok then
      chosen = errors.new(format("protocols must return one of the subprotocols that were offered, or nil: it returned %s, and %s offered",
        tostring(chosen), offered[1] and concat(offered, ", ") .. (offered[2] and " were" or " was") or "none was"), "SCRIPT")
    end
    server:_report(chosen, "protocols")
    return nil
  end
end

--- The functions the core calls, by event (src/script/bind_server.c).
---@param server mesa.Server
---@return table<string, function>
function dispatch.new(server)
  return {
    connection = connection_event(server),
    message = message_event(server),
    authenticate = authentication.event(server),
    disconnect = disconnect_event(server),
    authenticated = function(client) server:_run_middleware("onAuthenticated", client) end,
    error = function(client, code, text)
      if code == "AUTH_TIMEOUT" then text = authentication.why_late(client, text) end
      server:_report(errors.new(text, code), "client", client)
    end,
    request = request_event(server),
    protocol = protocol_event(server),
    upgrade = upgrade.event(server),
    drain = function(client) client:emit("drain") end,
    undeliverable = function(message, ids) server:_run_middleware("onUndeliverableMessageSent", message, ids) end,
    redeliver = function(client, messages)
      server:_run_middleware("onRedeliverUndeliverableMessages", #messages, client, messages)
    end,
    dropped = function(message, id) server:_run_middleware("onUndeliverableMessageDropped", message, id) end,
    delivered = function(message, clients) server:_run_middleware("onMessageSent", message, clients, false) end,
    portal = function(id, joined) server:_run_middleware(joined and "onPortalJoin" or "onPortalLeave", id) end,
    closed = function()
      server:emit("close")
      scripts.discard(server._scripts)
    end,
    listening = function(port, admin_port)
      if config.is_open_to_pages(server.config) then log.warn(OPEN_TO_PAGES, "server") end
      server.port = port
      server.adminPort = admin_port ~= 0 and admin_port or nil
      server:emit("listening", port)
    end,
  }
end

return dispatch
