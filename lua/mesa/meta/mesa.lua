---@meta mesa

--- The module: `local Mesa = require "mesa"`.
---@class Mesa
---@field Client fun(url: string, options?: mesa.WsClientOptions): mesa.WsClient
---@field Message mesa.MessageConstructor
---@field redis mesa.RedisModule
---@field json mesa.Json
---@field null lightuserdata JSON's null; the same value as `cjson.null`
---@field http mesa.Http
---@field log mesa.Log
---@field version string of mesa-lua
---@overload fun(config?: mesa.Config): mesa.Server
local Mesa = {}

--- Makes a server. It listens when the main script has returned. A key that does not exist, a wrong type or an impossible
--- combination raises an error that names the key.
---@param config? mesa.Config
---@return mesa.Server
function Mesa.new(config) end

--- Sends to the users of a cluster. A script that makes no server is a program, too: it ends when everything has been sent.
---@param redis string|table|mesa.Redis
---@param options? mesa.DispatcherOptions
---@return mesa.Dispatcher
function Mesa.Dispatcher(redis, options) end

---@param action "DISCONNECT_CLIENT"
---@return mesa.DispatchEvent
function Mesa.DispatchEvent(action) end

--- Is told what happens at the servers of a cluster. Keeps the program alive until it is closed; SIGTERM closes it.
---@param redis string|table|mesa.Redis
---@param options? mesa.PortalOptions
---@return mesa.Portal
function Mesa.Portal(redis, options) end

--- Marks a table as an array, so that it is `[]` in JSON even when it is empty. Returns the table.
---@generic T: table
---@param t? T a new table when absent
---@return T
function Mesa.array(t) end

--- Suspends the running handler; the server goes on meanwhile. Raises outside of a handler.
---@param ms number
function Mesa.sleep(ms) end

--- Calls `fn(resolve)` and suspends the running handler until `resolve(...)` is called, now or later, from anywhere;
--- returns its arguments. The first call counts: `resolve` returns true for it and false after. An error in `fn` raises here.
--- `nil, "timeout"` after `timeout` ms; `nil, "abandoned"` when `resolve` was garbage collected uncalled.
--- A wait outlives the client it serves: look at `client.closed` behind it. Raises outside of a handler.
---@param fn fun(resolve: fun(...): boolean)
---@param timeout? number
---@return any ...
function Mesa.await(fn, timeout) end

--- A table that lasts as long as the process, the same one at every call with this name: for what a module must not lose when it
--- is loaded again.
---@param name string such as that of the module
---@return table
function Mesa.state(name) end

---@class mesa.Timer: userdata

--- Calls `fn(...)` once, after `ms`. A timer that code starts while it is loaded ends when the code is replaced.
---@param fn fun(...)
---@param ms number
---@param ... any arguments for `fn`
---@return mesa.Timer
function Mesa.setTimeout(fn, ms, ...) end

--- Calls `fn(...)` every `ms`, the first time after `ms`.
---@param fn fun(...)
---@param ms number
---@param ... any arguments for `fn`
---@return mesa.Timer
function Mesa.setInterval(fn, ms, ...) end

--- Stops a timer of either kind. nil and timers that have ended are accepted.
---@param timer? mesa.Timer
function Mesa.clearTimer(timer) end

--- The same as `Mesa.clearTimer`.
---@param timer? mesa.Timer
function Mesa.clearTimeout(timer) end

--- The same as `Mesa.clearTimer`.
---@param timer? mesa.Timer
function Mesa.clearInterval(timer) end

return Mesa
