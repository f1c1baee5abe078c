--- The `upgrade` event: listeners decide whether a peer that asks for a WebSocket becomes a client.
local core = require "mesa.core"
local errors = require "mesa.errors"
local request = require "mesa.request"

local error, ipairs, tostring, type, xpcall = error, ipairs, tostring, type, xpcall

local catch = errors.catch

local upgrade = {}

-- What listeners are given to decide with, and whether one of them has.
local function decider(handle)
  local state = { decided = false }
  local function decide(accept, status, reason)
    if type(accept) ~= "boolean" then
      error("decide expects true, or false with a status and a text: got " .. (accept == nil and "nothing" or "a " .. type(accept)), 2)
    elseif status ~= nil and (type(status) ~= "number" or status % 1 ~= 0 or status < 400 or status > 599) then
      error("decide: the status of a refusal is an integer from 400 to 599, got " .. tostring(status), 2)
    elseif reason ~= nil and type(reason) ~= "string" then
      error("decide: the text of a refusal must be a string, got a " .. type(reason), 2)
    end
    if state.decided then return nil, "decided" end
    state.decided = true
    return core.upgrade_decide(handle, accept and 0 or status or 403, reason)
  end
  return decide, state
end

--- The function that the core calls. Listeners are asked one after the other until one has decided; one that has returned may
--- decide later. An error refuses with 500.
---@param server mesa.Server
function upgrade.event(server)
  return function(req, handle)
    local decide, state = decider(handle)
    req.query = request.parse_query(req.queryString)
    for _, listener in ipairs(server._handlers and server._handlers.upgrade or {}) do
      local ok, err = xpcall(listener, catch, req, decide)
      if not ok then
        server:_report(err, "upgrade")
        if not state.decided then decide(false, 500) end
      end
      if state.decided then return end
    end
  end
end

return upgrade
