--- Names that were mistyped, and what was probably meant.
-- Pure Lua.

local ipairs, pairs = ipairs, pairs
local floor, max, min, byte, gsub, lower, sort = math.floor, math.max, math.min, string.byte, string.gsub, string.lower, table.sort

local words = {}

-- Edits (insert, delete, replace, swap neighbours) between two words.
local function distance(a, b)
  local rows = {}
  for i = 0, #a do
    rows[i] = { [0] = i }
  end
  for j = 0, #b do
    rows[0][j] = j
  end
  for i = 1, #a do
    for j = 1, #b do
      local cost = byte(a, i) == byte(b, j) and 0 or 1
      local best = min(rows[i - 1][j] + 1, rows[i][j - 1] + 1, rows[i - 1][j - 1] + cost)
      if i > 1 and j > 1 and byte(a, i) == byte(b, j - 1) and byte(a, i - 1) == byte(b, j) then
        best = min(best, rows[i - 2][j - 2] + 1)
      end
      rows[i][j] = best
    end
  end
  return rows[#a][#b]
end

--- max_payload, MaxPayload and maxpayload are one word.
---@param name string
---@return string
function words.fold(name)
  return (gsub(lower(name), "[_%-%s]", ""))
end

local fold = words.fold

---@param t table<string, any>
---@return string[]
function words.sorted_keys(t)
  local keys = {}
  for key in pairs(t) do
    keys[#keys + 1] = key
  end
  sort(keys)
  return keys
end

--- The name among the keys of `known` that was probably meant; nil when none is near.
---@param name string
---@param known table<string, any>
---@return string?
function words.closest(name, known)
  local folded = fold(name)
  local best, best_distance = nil, max(1, floor(#folded / 3)) + 1
  for _, candidate in ipairs(words.sorted_keys(known)) do
    local d = distance(folded, fold(candidate))
    if d < best_distance then
      best, best_distance = candidate, d
    end
  end
  return best
end

return words
