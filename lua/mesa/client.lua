--- The client object's methods; its fields are C (src/script/bind_client.c).
local answer = require "mesa.answer"
local core = require "mesa.core"
local emitter = require "mesa.emitter"
local misuse = require "mesa.misuse"
local message_fields = require("mesa.message")._fields

local error, type = error, type

local disconnect, get, send = core.client_disconnect, core.client_get, core.client_send
local user_id = core.user_id
local quick_send = answer.send
local check_self = misuse.check_self

---@class mesa.Client
local Client = {}
emitter.mixin(Client, "client", "message", "disconnect", "error", "drain")

-- send and disconnect end in a call of the core, so that its errors name the script's line.

--- Sends to every connection of the user, or with `directly`, or before authentication, to this one.
---@param message mesa.Message|string a string with `raw`
---@param directly? boolean|{binary: boolean}
---@return boolean? ok, string? why
function Client:send(message, directly)
  local opcode, data, kind, sequence, options, raw = message_fields(message)
  if not sequence and not options and quick_send(self, directly, opcode, data, kind, raw) then return true end
  return send(self, message, directly, message_fields(message))
end

--- Closes the connection once what was sent before has left.
---@param code? integer 1000 without one
---@param reason? string
---@return boolean? ok, string? why
function Client:disconnect(code, reason)
  return disconnect(self, code, reason)
end

--- Registers the function that checks what the client sends with op 2.
--- `handler(data, done)`: `done(err)` refuses, `done(nil, {id=, user=})` accepts, now or later; it may also return
--- `{id=, user=}` or `nil, err`.
---@param handler fun(data: any, done: function, client: mesa.Client): table?, any
---@return mesa.Client self
function Client:authenticate(handler)
  check_self(self, "mesa.client", "client:authenticate")
  if type(handler) ~= "function" then
    error("client:authenticate expects a function, got " .. type(handler), 2)
  end
  if self.server.raw then
    error("client:authenticate: a raw server has no op 2; look at client.request and call client:updateUser", 2)
  end
  self._authenticate = handler
  core.client_set_authenticator(self, true)
  return self
end

--- Changes the authenticated user without sending op 22. Raises before authentication.
---@param update {id: string|number, user?: table}
---@return boolean? ok, string? err
function Client:updateUser(update)
  check_self(self, "mesa.client", "client:updateUser")
  if type(update) ~= "table" then error("client:updateUser expects {id=, user=}, got " .. type(update), 2) end
  local id, why = user_id(update.id)
  if not id then error("client:updateUser: " .. why, 2) end
  if not self.authenticated and not self.server.raw then
    error("client:updateUser: this client is not authenticated yet", 2)
  end
  local ok, err = core.client_update(self, id)
  if not ok then return nil, err end
  self.user = update.user ~= nil and update.user or { id = update.id }
  return true
end

--- An error in one of this client's listeners: the client's error event, then the server's.
---@param err mesa.Error
---@param event string
function Client:_report(err, event)
  self.server:_report(err, event, self)
end

core.client_metatable(function(self, key)
  local method = Client[key]
  if method then return method end
  return get(self, key)
end, core.client_set)

return Client
