--- A module's table keeps its identity when the module is loaded again: who holds the old table sees the new code.
--
-- The new load makes a table of its own, which only the new code can refer to. So its fields move into the old table, and
-- every reference to it becomes one to the old table.
local debug_getmetatable, debug_setmetatable, getupvalue = debug.getmetatable, debug.setmetatable, debug.getupvalue
local setupvalue, getinfo = debug.setupvalue, debug.getinfo
local getfenv, ipairs, next, pairs, rawget, rawset, setfenv = getfenv, ipairs, next, pairs, rawget, rawset, setfenv
local type = type
local find = string.find
local globals, loaded_modules = _G, package.loaded

local identity = {}

---@class mesa.Snapshot
---@field fields table<any, any>
---@field metatable? table

--- The fields of a table and its metatable, as they are.
---@param t table
---@return mesa.Snapshot
function identity.snapshot(t)
  local fields = {}
  for key, value in next, t do fields[key] = value end
  return { fields = fields, metatable = debug_getmetatable(t) }
end

--- Gives a table its fields and its metatable back.
---@param t table
---@param snapshot mesa.Snapshot
function identity.restore(t, snapshot)
  for key in next, t do
    if snapshot.fields[key] == nil then rawset(t, key, nil) end
  end
  for key, value in next, snapshot.fields do rawset(t, key, value) end
  debug_setmetatable(t, snapshot.metatable)
end

-- Objects of mesa and loaded modules are not entered: what is new is not behind them, and they lead to everything.
local function is_foreign(value, known)
  if known[value] then return true end
  local metatable = debug_getmetatable(value)
  local name = type(metatable) == "table" and rawget(metatable, "__name")
  return type(name) == "string" and find(name, "^mesa%.") ~= nil
end

local visit = {}

-- Whether the value is to be replaced; what is not is visited in its turn.
local function met(value, walk)
  if value == walk.from then return true end
  walk.push(value)
  return false
end

function visit.table(t, walk)
  local moved
  for key, value in next, t do
    if met(value, walk) then rawset(t, key, walk.to) end
    if met(key, walk) then moved = true end
  end
  if moved then
    local value = rawget(t, walk.from)
    rawset(t, walk.from, nil)
    rawset(t, walk.to, value)
  end
  local metatable = debug_getmetatable(t)
  if met(metatable, walk) then debug_setmetatable(t, walk.to) end
end

visit["function"] = function(fn, walk)
  if getinfo(fn, "S").what == "C" then return end
  local index = 1
  local name, value = getupvalue(fn, index)
  while name do
    if met(value, walk) then setupvalue(fn, index, walk.to) end
    index = index + 1
    name, value = getupvalue(fn, index)
  end
  local environment = getfenv(fn)
  if met(environment, walk) then setfenv(fn, walk.to) end
end

--- Turns the references to `from`, in all that can be reached from the roots, into references to `to`.
local function redirect(from, to, roots)
  local pending, known = {}, { [globals] = true, [to] = true }
  for _, value in pairs(loaded_modules) do known[value] = true end
  known[from] = nil
  local walk = { from = from, to = to }
  function walk.push(value)
    if not visit[type(value)] or is_foreign(value, known) then return end
    known[value] = true
    pending[#pending + 1] = value
  end
  for _, root in ipairs(roots) do walk.push(root) end
  while #pending > 0 do
    local value = pending[#pending]
    pending[#pending] = nil
    visit[type(value)](value, walk)
  end
  for name, value in pairs(globals) do
    if value == from then rawset(globals, name, to) end
  end
end

---@class mesa.Made what a load has made of the table that it returned
---@field keys table<any, boolean>
---@field metatable? table

--- What a load has made of the value that it returned.
---@param value any
---@return mesa.Made
function identity.made(value)
  local made = { keys = {} }
  if type(value) ~= "table" then return made end
  for key in next, value do made.keys[key] = true end
  made.metatable = debug_getmetatable(value)
  return made
end

--- Moves what the new load has made into the old table: new fields replace old ones, fields that the old load had made and the
--- new one has not go, fields that only others had put there stay. The same for the metatable.
---@param old table
---@param made mesa.Made what the old load had made of it
---@param new table
---@param roots any[] what the new load has started
---@return mesa.Made made what the new load has made of it
function identity.adopt(old, made, new, roots)
  roots[#roots + 1] = new
  redirect(new, old, roots)
  local new_made = identity.made(new)
  for key in pairs(made.keys) do
    if not new_made.keys[key] then rawset(old, key, nil) end
  end
  for key, value in next, new do rawset(old, key, value) end
  if new_made.metatable or debug_getmetatable(old) == made.metatable then debug_setmetatable(old, new_made.metatable) end
  return new_made
end

return identity
