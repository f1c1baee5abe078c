-- RFC 6455 frames: made as a client makes them (well or badly on request), read as a server sends them.
local bit = require "bit"
local ffi = require "ffi"

local ws_frame = {}

local CONTINUATION, TEXT, BINARY, CLOSE, PING, PONG = 0, 1, 2, 8, 9, 10
ws_frame.CONTINUATION, ws_frame.TEXT, ws_frame.BINARY = CONTINUATION, TEXT, BINARY
ws_frame.CLOSE, ws_frame.PING, ws_frame.PONG = CLOSE, PING, PONG

local function big_endian(value, bytes)
  local parts = {}
  for i = bytes, 1, -1 do
    parts[i] = string.char(value % 256)
    value = math.floor(value / 256)
  end
  return table.concat(parts)
end
ws_frame.big_endian = big_endian

local function masked(payload, key)
  local n = #payload
  local out = ffi.new("uint8_t[?]", math.max(n, 1))
  ffi.copy(out, payload, n)
  local k0, k1, k2, k3 = key:byte(1, 4)
  local keys = ffi.new("uint8_t[4]", k0, k1, k2, k3)
  for i = 0, n - 1 do
    out[i] = bit.bxor(out[i], keys[bit.band(i, 3)])
  end
  return ffi.string(out, n)
end

-- options: fin (true), rsv (0-7), mask (true), length (announce another one), wide (bytes of the length field: 2 or 8)
function ws_frame.encode(opcode, payload, options)
  options = options or {}
  payload = payload or ""
  local fin = options.fin ~= false and 128 or 0
  local mask_bit = options.mask ~= false and 128 or 0
  local length = options.length or #payload
  local wide = options.wide or (length > 65535 and 8 or length > 125 and 2 or 0)
  local head = string.char(fin + (options.rsv or 0) * 16 + opcode)
  if wide == 0 then
    head = head .. string.char(mask_bit + length)
  else
    head = head .. string.char(mask_bit + (wide == 2 and 126 or 127)) .. big_endian(length, wide)
  end
  if mask_bit == 0 then
    return head .. payload
  end
  local key = string.char(math.random(0, 255), math.random(0, 255), math.random(0, 255), math.random(0, 255))
  return head .. key .. masked(payload, key)
end

function ws_frame.close_payload(code, reason)
  return code and big_endian(code, 2) .. (reason or "") or ""
end

-- Reads frames from `buffer` at `at`: frame and next position; or nil and how many bytes it needs from `at`.
function ws_frame.decode(buffer, at)
  local have = #buffer - at + 1
  if have < 2 then
    return nil, 2
  end
  local first, second = buffer:byte(at, at + 1)
  local length, head = bit.band(second, 127), 2
  if length == 126 then
    head = 4
  elseif length == 127 then
    head = 10
  end
  local is_masked = second >= 128
  if have < head then
    return nil, head
  end
  if head > 2 then
    length = 0
    for i = at + 2, at + head - 1 do
      length = length * 256 + buffer:byte(i)
    end
  end
  if have < head + length then
    return nil, head + length
  end
  return {
    fin = first >= 128,
    rsv = bit.band(bit.rshift(first, 4), 7),
    opcode = bit.band(first, 15),
    masked = is_masked,
    payload = buffer:sub(at + head, at + head + length - 1),
  }, at + head + length
end

return ws_frame
