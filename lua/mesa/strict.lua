--- `strict = true`: a global that the main part of a file has not assigned is a mistake, mostly a forgotten `local`.

local error, getmetatable, rawset, setmetatable, tostring = error, getmetatable, rawset, setmetatable, tostring
local getinfo, format = debug.getinfo, string.format
local globals = _G

local strict = {}

local declared = {} -- names that were assigned, if only nil

--- What may declare: the main part of a file, which runs once, and functions of C, such as `require` of a C module.
local function declares()
  local what = getinfo(3, "S").what
  return what == "main" or what == "C"
end

local metatable = { __metatable = false }

function metatable.__newindex(t, name, value)
  if declares() then
    declared[name] = true
  elseif not declared[name] then
    error(format("the function assigns the global %s, which is not declared: write local %s, or assign it outside of functions first",
      tostring(name), tostring(name)), 2)
  end
  rawset(t, name, value)
end

function metatable.__index(_, name)
  if declared[name] or declares() then return nil end -- files ask for what a Lua may have or not
  error(format("the function reads the global %s, which nobody has assigned: is it mistyped, or a local of another place?",
    tostring(name)), 2)
end

--- From now on, for all files of the program.
---@return string? why why not
function strict.begin()
  local present = getmetatable(globals)
  if present == nil then setmetatable(globals, metatable) return nil end
  if present == false then return nil end -- a server before this one wanted it, too
  return "strict cannot be used: the program has given the table of globals a metatable of its own"
end

return strict
