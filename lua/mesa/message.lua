--- Messages: what travels in both directions (PROTOCOL 1).
local core = require "mesa.core"

---@class mesa.Message
---@field opcode integer
---@field data any decoded when first read; what is passed on unread is not decoded at all
---@field type? string
---@field sequence? integer on redelivered messages, from 1
---@field options? {sync: boolean}
local Message = {}

local metatable = core.message_metatable(Message)

--- The envelope as JSON text. Raises when the data cannot be JSON.
---@return string
function Message:serialize()
  return core.message_serialize(self)
end

local function create(_, opcode, data, kind, options)
  if type(opcode) ~= "number" or opcode % 1 ~= 0 then
    error("Message(op, data, type, options): op must be an integer, got " .. tostring(opcode), 2)
  end
  if kind ~= nil and type(kind) ~= "string" then
    error("Message(op, data, type, options): type must be a string or nil, got " .. type(kind), 2)
  end
  if options ~= nil and type(options) ~= "table" then
    error("Message(op, data, type, options): options must be a table or nil, got " .. type(options), 2)
  end
  local message = { opcode = opcode, type = kind, data = data }
  if options then
    message.options = { sync = options.sync ~= false }
    for key, value in pairs(options) do message.options[key] = value end
  end
  return setmetatable(message, metatable)
end

return setmetatable({ new = function(...) return create(nil, ...) end }, { __call = create })
