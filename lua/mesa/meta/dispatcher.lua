---@meta _

--- Sends to the users of a cluster from a program that is no server. Emits `error` with a `mesa.Error`.
---@class mesa.Dispatcher
---@field config table
---@field redis mesa.Redis
local Dispatcher = {}

---@class mesa.DispatcherOptions
---@field namespace? string the servers' namespace
---@field sync? { enabled: boolean, maxMessages?: integer, maxBytes?: integer, maxAge?: integer } keep messages for users who are offline

--- Sends to users, wherever they are connected: to everybody without recipients or with `{ "*" }`. Does not wait; what fails later is
--- emitted as `error`.
---@param event mesa.Message|mesa.DispatchEvent
---@param recipients? mesa.Id|mesa.Id[]
---@param excluding? mesa.Id|mesa.Id[]
---@return true? ok
---@return string? err
function Dispatcher:dispatch(event, recipients, excluding) end

--- Closes the connection when what was dispatched has been sent.
function Dispatcher:close() end

---@param event string
---@param listener fun(err: mesa.Error)
---@return mesa.Dispatcher self
function Dispatcher:on(event, listener) end

---@param event string
---@param listener fun(err: mesa.Error)
---@return mesa.Dispatcher self
function Dispatcher:once(event, listener) end

---@param event string
---@param listener? function
---@return mesa.Dispatcher self
function Dispatcher:off(event, listener) end

---@param event string
---@param ... any
---@return boolean had_listeners
function Dispatcher:emit(event, ...) end

--- An instruction to the servers: `Mesa.DispatchEvent("DISCONNECT_CLIENT")` closes the recipients with 1000.
---@class mesa.DispatchEvent
---@field action string
local DispatchEvent = {}

--- The envelope as JSON text.
---@return string
function DispatchEvent:serialize() end
