--- mesa: the public module. `local Mesa = require "mesa"`.
local core = require "mesa.core"
local dispatcher = require "mesa.dispatcher"
local http = require "mesa.http"
local log = require "mesa.log"
local misuse = require "mesa.misuse"
local portal = require "mesa.portal"
local redis = require "mesa.redis"
local server = require "mesa.server"
local timer = require "mesa.timer"

---@class Mesa
local Mesa = {
  Client = require "mesa.ws_client",
  Message = require "mesa.message",
  Dispatcher = dispatcher.new,
  DispatchEvent = dispatcher.event,
  Portal = portal.new,
  redis = redis.public,
  json = core.json,
  http = http,
  null = core.json.null,
  array = core.json.array,
  log = log.public,
  sleep = timer.sleep,
  await = require "mesa.await",
  state = require "mesa.state",
  setTimeout = timer.setTimeout,
  setInterval = timer.setInterval,
  clearTimeout = timer.clearTimeout,
  clearInterval = timer.clearInterval,
  clearTimer = timer.clearTimer,
  version = core.version,
}

misuse.register(Mesa, "Mesa")

--- Makes a server. It listens when the main script has returned.
---@param config? table
---@return mesa.Server
function Mesa.new(config)
  misuse.check_function(config, "new")
  return (server.new(config))
end

return setmetatable(Mesa, {
  __call = function(_, config) return (server.new(config)) end,
})
