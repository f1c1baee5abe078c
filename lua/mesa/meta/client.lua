---@meta _

--- The HTTP request that a connection began with.
---@class mesa.Request
---@field path string percent-decoded, without the query
---@field query table<string, string>
---@field queryString string the query as it was sent
---@field headers table<string, string> names in lower case
---@field ip string the client's address, behind the `proxies` of the configuration, too; "unix" on a Unix socket
---@field protocol? string the subprotocol agreed on
---@field protocols? string[] those offered, in the function `protocols` of the configuration alone
---@field secure boolean whether the client uses TLS
---@field certificate? mesa.Certificate the client's, with tls.requestCert

---@class mesa.StoredMessages
---@field sent mesa.Message[] oldest first
---@field received mesa.Message[] oldest first

--- One connection. It may be kept after the peer has left: it stays readable, and `send` returns nil, "closed".
--- Fields that are not listed here are the application's own.
---@class mesa.Client
---@field id? string of the user; nil before authentication
---@field serverId string of the connection, random
---@field user? mesa.User
---@field authenticated boolean
---@field closed boolean closing or closed
---@field request mesa.Request
---@field messages mesa.StoredMessages with `options.storeMessages`
---@field buffered integer bytes queued and not yet written
---@field server mesa.Server
---@field [string] any
local Client = {}

--- Calls `listener` at every `event`. Listeners run in the order of their registration; an error in one is contained.
---@param event string
---@param listener function
---@return mesa.Client self
---@overload fun(self: mesa.Client, event: "message", listener: fun(message: mesa.Message)): mesa.Client
---@overload fun(self: mesa.Client, event: "disconnect", listener: fun(event: mesa.DisconnectEvent)): mesa.Client
---@overload fun(self: mesa.Client, event: "error", listener: fun(err: mesa.Error)): mesa.Client
---@overload fun(self: mesa.Client, event: "drain", listener: fun()): mesa.Client
function Client:on(event, listener) end

--- As `on`, for the next event only.
---@param event string
---@param listener function
---@return mesa.Client self
---@overload fun(self: mesa.Client, event: "message", listener: fun(message: mesa.Message)): mesa.Client
---@overload fun(self: mesa.Client, event: "disconnect", listener: fun(event: mesa.DisconnectEvent)): mesa.Client
---@overload fun(self: mesa.Client, event: "error", listener: fun(err: mesa.Error)): mesa.Client
---@overload fun(self: mesa.Client, event: "drain", listener: fun()): mesa.Client
function Client:once(event, listener) end

--- Removes a listener; without one, all listeners of the event.
---@param event string
---@param listener? function
---@return mesa.Client self
function Client:off(event, listener) end

---@param event string
---@param ... any
---@return boolean had_listeners
function Client:emit(event, ...) end

--- Sends to every connection of the user; with `directly`, or before authentication, to this connection.
--- After "backpressure" the message is queued, and the `drain` event tells when the queue is empty.
---@param message mesa.Message
---@param directly? boolean
---@return true? ok
---@return "backpressure"|"closed"|"dropped"|"not authenticated"? state
---@overload fun(self: mesa.Client, text: string, options?: { binary: boolean }): true?, string?
function Client:send(message, directly) end

--- Registers what checks op 2. Instead of calling `done` it may return `{ id =, user = }`, or nil and an error.
---@param handler mesa.AuthScript
---@return mesa.Client self
function Client:authenticate(handler) end

--- Changes the user without sending op 22. Raises before authentication.
---@param update mesa.AuthResult
---@return true? ok
---@return string? err
function Client:updateUser(update) end

---@param code? integer 1000; 1000-1003, 1007-1014 and 3000-4999 are allowed, another raises
---@param reason? string at most 123 bytes of UTF-8
---@return true? ok
---@return "closed"? err
function Client:disconnect(code, reason) end
