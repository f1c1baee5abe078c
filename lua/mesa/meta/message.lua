---@meta _

---@class mesa.MessageOptions
---@field sync? boolean false: not kept for users who are offline

--- What travels in both directions: `{"op": opcode, "d": data, "t": type, "s": sequence}`. With `raw = true` in the
--- configuration a message that arrives has `data`, a string, and `binary` instead, and strings are sent.
---@class mesa.Message
---@field opcode integer
---@field data any decoded when it is first read; what is passed on unread is never decoded
---@field type? string
---@field sequence? integer on redelivered messages, from 1
---@field options? mesa.MessageOptions
---@field binary? boolean with `raw`: bytes, not text
local Message = {}

--- The envelope as JSON text. Raises when the data cannot be JSON.
---@return string
function Message:serialize() end

--- `Mesa.Message(0, { text = "hello" }, "SAID")`
---@class mesa.MessageConstructor
---@overload fun(opcode: integer, data: any, type?: string, options?: mesa.MessageOptions): mesa.Message
local constructor = {}

---@param opcode integer
---@param data any
---@param type? string
---@param options? mesa.MessageOptions
---@return mesa.Message
function constructor.new(opcode, data, type, options) end
