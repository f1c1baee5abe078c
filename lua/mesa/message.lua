--- Messages: what travels in both directions (PROTOCOL 1).
local core = require "mesa.core"
local misuse = require "mesa.misuse"

local error, getmetatable, pairs, rawget, rawset = error, getmetatable, pairs, rawget, rawset
local setmetatable, tostring, type = setmetatable, tostring, type

---@class mesa.Message
---@field opcode integer
---@field data any decoded when first read; what is passed on unread is not decoded at all
---@field type? string
---@field sequence? integer on redelivered messages, from 1
---@field options? {sync: boolean}
local Message = {}

local decode, serialize = core.message_decode, core.message_serialize

-- `_raw` and `_block` stand for data that nobody has read yet (src/script/raw_data.c).
local metatable = { __name = "mesa.message" }

function metatable.__index(self, key)
  if key ~= "data" then return Message[key] end
  local raw = rawget(self, "_raw")
  if raw == nil then return nil end
  local data = decode(raw, rawget(self, "_block"))
  self._raw, self._block = nil, nil
  rawset(self, "data", data)
  return data
end

function metatable.__newindex(self, key, value)
  if key == "data" then
    rawset(self, "_raw", nil)
    rawset(self, "_block", nil)
  end
  rawset(self, key, value)
end

--- Scripts see a Message as the table of its fields: data that nobody has read yet are read before they are gone through.
_G.pairs = function(t)
  if getmetatable(t) == metatable then local _ = t.data end
  return pairs(t)
end

--- What goes to the wire, in the order the core takes it; nothing for what is no Message.
---@param message any
local function message_fields(message)
  if getmetatable(message) ~= metatable then return end
  return rawget(message, "opcode"), rawget(message, "data"), rawget(message, "type"), rawget(message, "sequence"),
    rawget(message, "options"), rawget(message, "_raw"), rawget(message, "_block")
end

-- No call of setmetatable below is a tail call: LuaJIT compiles no function that ends in one of its own.

--- A message that arrived.
local function received(raw, block, data, opcode, kind, sequence, options)
  local message = { opcode = opcode, type = kind, data = data, _raw = raw, _block = block }
  if sequence or options then
    message.sequence, message.options = sequence, options
  end
  setmetatable(message, metatable)
  return message
end

core.message_setup(received)

--- The envelope as JSON text. Raises when the data cannot be JSON.
---@return string
function Message:serialize()
  misuse.check_self(self, metatable, "message:serialize")
  return serialize(self, message_fields(self))
end

local function create(_, opcode, data, kind, options)
  if type(opcode) ~= "number" or opcode % 1 ~= 0 then
    misuse.check_function(opcode, "Message")
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
  setmetatable(message, metatable)
  return message
end

return setmetatable({
  new = function(...) return create(nil, ...) end,
  _fields = message_fields,
  _received = received,
  _metatable = metatable,
}, { __call = create })
