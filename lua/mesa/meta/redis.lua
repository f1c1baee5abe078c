---@meta _

--- `Mesa.redis`
---@class mesa.RedisModule
local redis = {}

--- Connects in the background: `redis://[user:password@]host[:port][/db]`, `rediss://`, `unix://path`, or a table as in a server's
--- configuration. Raises when that makes no sense.
---@param address string|table
---@return mesa.Redis
function redis.connect(address) end

--- Whether a reply is an error object; only the replies of pipelines, and lists of replies, contain them.
---@param reply any
---@return boolean
function redis.isError(reply) end

--- A reply: text and status are a string, integers a number, "none" is nil, a list is a `Mesa.array` in which `Mesa.null` stands for
--- "none".
---@alias mesa.RedisReply string|number|table|nil

--- `callback(err, reply, code)`: code is "REDIS" for an error of Redis, "UNAVAILABLE" when there is no connection.
---@alias mesa.RedisCallback fun(err?: string, reply?: mesa.RedisReply, code?: string)

--- A connection that reconnects by itself. Every command is a method, too: `connection:get("key")`. Commands wait in the handler's
--- coroutine; with a function as the last argument they do not wait, which is how they are used while a script loads.
--- Trouble is `nil, message, code`: an error of Redis ("REDIS"), or `nil, "redis unavailable", "UNAVAILABLE"`.
---@class mesa.Redis
---@field [string] fun(self: mesa.Redis, ...: string|number|mesa.RedisCallback): mesa.RedisReply, string?, string?
local Redis = {}

---@param name string
---@param ... string|number|mesa.RedisCallback
---@return mesa.RedisReply reply
---@return string? err
---@return string? code
function Redis:command(name, ...) end

--- Sends commands in one go: `connection:pipeline(function(p) p:incr("a") p:get("b") end)`, or a list of lists. Replies that are
--- errors are error objects in the list.
---@param commands fun(p: mesa.RedisPipeline)|table[]
---@param callback? fun(err?: string, replies?: mesa.RedisReply[], code?: string)
---@return mesa.RedisReply[]? replies
---@return string? err
---@return string? code
function Redis:pipeline(commands, callback) end

--- Calls `fn` with everything published on the channel, each in a coroutine of its own. Lasts over losses of the connection.
---@param channel string
---@param fn fun(payload: string, channel: string)
---@param active? fun(channel: string) called when the subscription has begun, and again after each loss
---@return mesa.Redis self
function Redis:subscribe(channel, fn, active) end

--- Ends a subscription; without a function, all of the channel.
---@param channel string
---@param fn? function
---@return mesa.Redis self
function Redis:unsubscribe(channel, fn) end

--- Ends the subscriptions now, and the connection when the commands under way have been answered. Later commands return
--- `nil, "closed", "CLOSED"`.
function Redis:close() end

--- What the function of a pipeline is given: every command is a method that records it.
---@class mesa.RedisPipeline
---@field [string] fun(self: mesa.RedisPipeline, ...: string|number): mesa.RedisPipeline
local Pipeline = {}

---@param name string
---@param ... string|number
---@return mesa.RedisPipeline self
function Pipeline:command(name, ...) end
