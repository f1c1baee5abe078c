--- Finalizers of scripts: what they install is called by the loop, as a handler of its own, once the collector has
--- found the object (src/script/finalizer.c). Replaces newproxy, ffi.gc, ffi.metatype and debug.setmetatable.
local core = require "mesa.core"
local ffi = require "ffi"

local globals = _G
local debug_getmetatable, debug_setmetatable, new_proxy = debug.getmetatable, debug.setmetatable, newproxy
local ffi_gc, ffi_metatype = ffi.gc, ffi.metatype
local getmetatable, rawget, rawset, setmetatable, type = getmetatable, rawget, rawset, setmetatable, type

-- For each function of a script what is installed in its place, and for that itself.
local wrappers = setmetatable({}, { __mode = "kv" })

local function wrap(fn)
  if fn == nil then return nil end
  local known = wrappers[fn]
  if not known then
    known = core.finalizer(fn)
    wrappers[fn], wrappers[known] = known, known
  end
  return known
end

local function wrap_field(metatable)
  local fn = rawget(metatable, "__gc")
  if fn ~= nil then rawset(metatable, "__gc", wrap(fn)) end
end

--- What getmetatable gives for a proxy: assignments go to its metatable, __gc wrapped.
local function facade(metatable)
  local assigned = {}
  return setmetatable({}, {
    __index = assigned,
    __newindex = function(_, key, value)
      assigned[key] = value
      rawset(metatable, key, key == "__gc" and wrap(value) or value)
    end,
  })
end

local function proxy(kind)
  local object = new_proxy(kind)
  if kind == true then
    local metatable = debug_getmetatable(object)
    metatable.__metatable = facade(metatable)
  end
  return object
end

local function set_metatable(value, metatable)
  if type(value) == "userdata" and type(metatable) == "table" then
    wrap_field(metatable)
    if not getmetatable(metatable) then
      setmetatable(metatable, {
        __newindex = function(self, key, new) rawset(self, key, key == "__gc" and wrap(new) or new) end,
      })
    end
  end
  return debug_setmetatable(value, metatable)
end

-- A C function cannot raise, and frees at once.
local function gc(cdata, fn)
  if type(fn) == "cdata" then return ffi_gc(cdata, fn) end
  return ffi_gc(cdata, wrap(fn))
end

local function metatype(ctype, metatable)
  if type(metatable) == "table" then wrap_field(metatable) end
  return ffi_metatype(ctype, metatable)
end

globals.newproxy, ffi.gc, ffi.metatype = proxy, gc, metatype
debug.setmetatable = set_metatable -- luacheck: ignore 122
