---@meta mesa.ws_client

---@class mesa.WsClientOptions
---@field autoConnect? boolean begin to connect at once (default true)
---@field ca? string PEM file of the authorities that `wss://` servers must be certified by; the system's without it
---@field timeout? number milliseconds for name lookup, connection, TLS and upgrade together, and for an authentication (default 10000)
---@field maxPayload? integer bytes of one received message; above, the connection is closed with 1009 (default 1 MiB)
---@field maxQueue? integer bytes that wait to be sent, while there is no connection and while there is one (default 1 MiB)
---@field version? string what CLIENT_VERSION says to a server that enforces equal versions (default "1.5.8")

--- A connection to a Mesa server: `Mesa.Client(url, options)`; `ws://user:password@host` logs in by HTTP Basic. Its events:
---  - `connected`, and then the same as `connection` ({isInitialConnection, isInitialSessionConnection, isAutomaticReconnection})
---  - `message` (message)
---  - `disconnected` (code, reason, {willAttemptReconnect})
---  - `error` (error), logged when nobody listens; `PROTOCOL`, `UTF8` or `PAYLOAD` when the server broke the protocol, which closes
---    the connection with 1002, 1007 or 1009; `CONNECT` when there was no connection, with the reason or the server's status
---  - `drain` when everything is sent after `"full"`
---
--- Messages are handled one after the other: a listener that waits holds back the next message, not other events.
---@class mesa.WsClient
---@field url string as given; error texts have it without user and password
---@field connected boolean
---@field authenticated boolean
---@field user? table what op 22 carried
---@field rules string[] of the server
---@field messages? {sent: mesa.Message[], received: mesa.Message[]} the last 100 each, when the server has the rule `store_messages`
local WsClient = {}

--- Connects. In a handler it waits: true, or nil and the reason. Elsewhere it only begins to connect. Raises when connected.
---@return boolean? ok, string? err
function WsClient:connect() end

--- Sends, or keeps for the next connection while there is none, in order.
---@param message mesa.Message
---@return boolean? ok, string? err `"full"`: `maxQueue` bytes wait already
function WsClient:send(message) end

--- Sends op 2, in front of what waits to be sent, and waits for op 22. nil and the reason when the connection ends first, as it
--- does when the server refuses; nil, "timeout" when nothing comes in the client's `timeout`; nil, "replaced" when `authenticate` is
--- called again, which is how to go on after a refusal that leaves the connection.
---@param data table
---@param options? {shouldSync: boolean} false: what was kept for the user while offline is not wanted
---@return table? user, string? err
function WsClient:authenticate(data, options) end

--- Closes the connection, or stops trying to connect. There is no automatic reconnection after it.
---@param code? integer 1000 (default), 1001 or 3000 to 4999
---@param reason? string
function WsClient:disconnect(code, reason) end

--- Calls `listener` at every `event`.
---@param event "connected"|"connection"|"message"|"disconnected"|"error"|"drain"
---@param listener function
---@return mesa.WsClient self
function WsClient:on(event, listener) end

--- Calls `listener` at the next `event` only.
---@param event string
---@param listener function
---@return mesa.WsClient self
function WsClient:once(event, listener) end

--- Removes a listener; without one, all of the event.
---@param event string
---@param listener? function
---@return mesa.WsClient self
function WsClient:off(event, listener) end

--- Calls the listeners of `event` now.
---@param event string
---@param ... any
---@return boolean had_listeners
function WsClient:emit(event, ...) end

return WsClient
