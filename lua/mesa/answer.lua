--- Answers to the client whose message is being handled, without leaving compiled code (src/script/quick_send.c).
local core = require "mesa.core"
local ffi = require "ffi"

local type = type

local CLIENT, DATA, OBSERVED = 1, 2, 3
local NO_DATA, DATA_IN_SLOT = -1, 0 -- what the core is told of the data; above, the number of data that nobody has read

-- Shared with the core: the client whose message is being handled, data to send, whether middleware wants to know of what
-- is sent. The dispatcher sets the first and the last itself: with functions for it LuaJIT compiled other paths, and a
-- message cost 700 instructions more.
local handling, address, context = core.quick_send()
local quick_send = ffi.cast("int (*)(void *, int, double, double, const char *, double)", address)
context = ffi.cast("void *", context)

local answer = { handling = handling }

--- Sends to the client, provided that it is the one whose message is being handled and, without `directly`, the only
--- connection of its user. The other arguments are fields of a Message.
---@return boolean sent false: nothing was done
function answer.send(client, directly, opcode, data, kind, raw)
  if client ~= handling[CLIENT] or (not directly and handling[OBSERVED]) then return false end
  if type(opcode) ~= "number" or (kind ~= nil and type(kind) ~= "string") then return false end
  local what = NO_DATA
  if data ~= nil then
    handling[DATA] = data
    what = DATA_IN_SLOT
  elseif raw ~= nil then
    if type(raw) ~= "number" or raw < 1 then return false end
    what = raw
  end
  local sent
  if kind == nil then
    sent = quick_send(context, directly and 1 or 0, opcode, what, nil, 0)
  else
    sent = quick_send(context, directly and 1 or 0, opcode, what, kind, #kind)
  end
  -- On both sides of a condition on what the call gave: LuaJIT does not know that the call reads the slot, and drops a store
  -- that the next one overwrites when there is no condition between them.
  if sent == 0 then
    handling[DATA] = false
    return false
  end
  handling[DATA] = false
  return true
end

return answer
