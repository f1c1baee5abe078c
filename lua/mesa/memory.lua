--- limits.scriptMemory and what takes much memory in a single step, where a handler cannot be ended (src/script/memory.c).
local core = require "mesa.core"

local type = type
local rep, decode = string.rep, core.json.decode
local optimize = require("jit.opt").start
local want, want_json = core.memory_want, core.memory_want_json

local MUCH, MUCH_JSON = 2 ^ 20, 2 ^ 14

local function repeated(s, n, separator)
  if type(n) == "number" and type(s) == "string" and #s * n > MUCH then want(#s * n) end
  return rep(s, n, separator)
end

local function decoded(text)
  if type(text) == "string" and #text > MUCH_JSON then want_json(#text) end
  return decode(text)
end

--- A bound is set. Where a loop leaves its machine code for a table to grow, it is to go on leaving it: there it can be ended.
-- LuaJIT counts to 254, and needs some of it to give up compiling what follows. When it cannot, a loop over pairs() may stand still.
function core.memory_bounded()
  optimize("hotexit=200")
end

string.rep = repeated -- luacheck: ignore 122
core.json.decode = decoded
