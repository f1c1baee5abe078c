---@meta _

--- `Mesa.json`: the codec that messages use. Strict; keeps `[]` and `{}` apart; integers are exact to 2^53.
---@class mesa.Json
---@field null lightuserdata
local json = {}

--- Raises, with the place in the value, when it cannot be JSON (a function, a cycle, NaN, mixed keys …).
---@param value any
---@return string
function json.encode(value) end

---@param text string
---@return any value nil when `text` is not JSON
---@return string? err what is wrong, and at which byte
function json.decode(text) end

--- See `Mesa.array`.
---@generic T: table
---@param t? T
---@return T
function json.array(t) end

--- Whether a table is marked as an array.
---@param value any
---@return boolean
function json.isArray(value) end
