---@meta _

--- Is told what happens at the servers of a cluster that have `portal.enabled`. The program stays alive while it is open.
---@class mesa.Portal
---@field id string
---@field config table
---@field redis mesa.Redis
local Portal = {}

---@class mesa.PortalOptions
---@field namespace? string the servers' namespace
---@field verbose? boolean log joining and leaving
---@field reportAllEvents? boolean also what other portals were chosen for

---@param event string
---@param listener function
---@return mesa.Portal self
---@overload fun(self: mesa.Portal, event: "connection", listener: fun()): mesa.Portal
---@overload fun(self: mesa.Portal, event: "authentication", listener: fun(id: string)): mesa.Portal
---@overload fun(self: mesa.Portal, event: "message", listener: fun(message: mesa.Message, id?: string)): mesa.Portal
---@overload fun(self: mesa.Portal, event: "disconnection", listener: fun(id?: string)): mesa.Portal
---@overload fun(self: mesa.Portal, event: "error", listener: fun(err: mesa.Error)): mesa.Portal
function Portal:on(event, listener) end

--- As `on`, for the next event only.
---@param event string
---@param listener function
---@return mesa.Portal self
function Portal:once(event, listener) end

---@param event string
---@param listener? function
---@return mesa.Portal self
function Portal:off(event, listener) end

---@param event string
---@param ... any
---@return boolean had_listeners
function Portal:emit(event, ...) end

--- Leaves the pool and ends. `done` is called when Redis has answered or cannot.
---@param done? fun(err?: string)
function Portal:close(done) end
