-- A plain value as Lua source text.
local function to_lua(value)
  local kind = type(value)
  if kind == "string" then
    return ("%q"):format(value)
  elseif kind ~= "table" then
    return tostring(value)
  end
  local parts = {}
  for key, item in pairs(value) do
    parts[#parts + 1] = "[" .. to_lua(key) .. "] = " .. to_lua(item)
  end
  return "{ " .. table.concat(parts, ", ") .. " }"
end

return to_lua
