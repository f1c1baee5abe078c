---@meta _

--- A server, made by `Mesa.new`.
---@class mesa.Server
---@field port integer the port it listens on; with `port = 0` the one it got, from the `listening` event on
---@field adminPort? integer the port of the admin endpoint, likewise; nil without one
---@field path? string
---@field namespace? string
---@field raw boolean plain WebSockets, without the envelope
---@field state table free for scripts; survives reloads
---@field config table the configuration, with every default filled in
---@field redis? mesa.Redis a connection to the server's Redis, made when first used; nil without one
local Server = {}

--- Calls `listener` at every `event`. Listeners run in the order of their registration; an error in one is contained.
---@param event string
---@param listener function
---@return mesa.Server self
---@overload fun(self: mesa.Server, event: "listening", listener: fun(port: integer)): mesa.Server
---@overload fun(self: mesa.Server, event: "connection", listener: fun(client: mesa.Client)): mesa.Server
---@overload fun(self: mesa.Server, event: "message", listener: fun(message: mesa.Message, client: mesa.Client)): mesa.Server
---@overload fun(self: mesa.Server, event: "disconnection", listener: fun(client: mesa.Client, event: mesa.DisconnectEvent)): mesa.Server
---@overload fun(self: mesa.Server, event: "request", listener: fun(request: mesa.Request, response: mesa.Response)): mesa.Server
---@overload fun(self: mesa.Server, event: "upgrade", listener: fun(request: mesa.Request, decide: mesa.Decide)): mesa.Server
---@overload fun(self: mesa.Server, event: "error", listener: fun(err: mesa.Error, client?: mesa.Client)): mesa.Server
---@overload fun(self: mesa.Server, event: "reload", listener: fun(event: mesa.ReloadEvent)): mesa.Server
---@overload fun(self: mesa.Server, event: "close", listener: fun()): mesa.Server
function Server:on(event, listener) end

--- As `on`, for the next event only.
---@param event string
---@param listener function
---@return mesa.Server self
---@overload fun(self: mesa.Server, event: "listening", listener: fun(port: integer)): mesa.Server
---@overload fun(self: mesa.Server, event: "connection", listener: fun(client: mesa.Client)): mesa.Server
---@overload fun(self: mesa.Server, event: "message", listener: fun(message: mesa.Message, client: mesa.Client)): mesa.Server
---@overload fun(self: mesa.Server, event: "disconnection", listener: fun(client: mesa.Client, event: mesa.DisconnectEvent)): mesa.Server
---@overload fun(self: mesa.Server, event: "request", listener: fun(request: mesa.Request, response: mesa.Response)): mesa.Server
---@overload fun(self: mesa.Server, event: "upgrade", listener: fun(request: mesa.Request, decide: mesa.Decide)): mesa.Server
---@overload fun(self: mesa.Server, event: "error", listener: fun(err: mesa.Error, client?: mesa.Client)): mesa.Server
---@overload fun(self: mesa.Server, event: "reload", listener: fun(event: mesa.ReloadEvent)): mesa.Server
---@overload fun(self: mesa.Server, event: "close", listener: fun()): mesa.Server
function Server:once(event, listener) end

--- Removes a listener; without one, all listeners of the event.
---@param event string
---@param listener? function
---@return mesa.Server self
function Server:off(event, listener) end

---@param event string
---@param ... any
---@return boolean had_listeners
function Server:emit(event, ...) end

--- Sends to users: to everybody without recipients or with `{ "*" }`, else to every connection of the ids.
---@param message mesa.Message|string a string with `raw`
---@param recipients? mesa.Id|mesa.Id[]
---@param excluding? mesa.Id|mesa.Id[] ids that do not get it
---@param options? { binary: boolean } with `raw`: send the string as bytes
---@return true? ok
---@return "closed"? err
function Server:send(message, recipients, excluding, options) end

---@param middleware mesa.Middleware
---@return mesa.Server self
function Server:use(middleware) end

--- `<prefix>_mw-<name>`, and the namespace: the Redis key of a middleware.
---@param prefix string
---@param name string
---@return string
function Server:getMiddlewareNamespace(prefix, name) end

---@param prefixes string[]
---@param name string
---@return string[]
function Server:mapMiddlewareNamespace(prefixes, name) end

--- The open connections of a user, on this server.
---@param id mesa.Id
---@return mesa.Client[]
function Server:client(id) end

--- `for client in server:clients() do`
---@return fun(): mesa.Client?
function Server:clients() end

--- How many connections are open.
---@return integer
function Server:count() end

--- Stops accepting and closes every client; the `close` event follows.
---@param code? integer 1001
---@param reason? string
---@return true? ok
---@return "closed"? err
function Server:close(code, reason) end
