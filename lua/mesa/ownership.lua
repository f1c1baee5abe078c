--- Who has started what: timers, subscriptions, listeners, connections and handles that begin while a file is being loaded
--- belong to that load, and end when its code is replaced or when it fails.
local ipairs, pcall = ipairs, pcall

local ownership = {}

---@class mesa.Owner
---@field things? { stop: fun(), root?: any }[] what it has started; nil: it is never replaced, as the main script

local stack, depth = {}, 0 -- the loads under way, the innermost last

--- The load under way; nil while handlers run.
---@return mesa.Owner?
function ownership.current()
  return stack[depth]
end

--- What starts from now on belongs to `owner`.
---@param owner mesa.Owner
function ownership.enter(owner)
  depth = depth + 1
  stack[depth] = owner
end

--- The load that began last is over.
function ownership.leave()
  stack[depth] = nil
  depth = depth - 1
end

--- Whether something that starts now will have to be ended: spares others from making a function for nothing.
---@return boolean
function ownership.owning()
  local owner = stack[depth]
  return owner ~= nil and owner.things ~= nil
end

--- Something was started that goes on, which `stop` ends. `root` is the function of the script that it calls.
---@param stop fun()
---@param root? any
function ownership.own(stop, root)
  if not ownership.owning() then return end
  local things = stack[depth].things
  things[#things + 1] = { stop = stop, root = root }
end

--- Ends everything that `owner` has started, the newest first.
---@param owner mesa.Owner
function ownership.end_all(owner)
  local things = owner.things
  if not things then return end
  owner.things = {}
  for i = #things, 1, -1 do pcall(things[i].stop) end
end

--- What the things of `owner` call.
---@param owner mesa.Owner
---@return any[]
function ownership.roots(owner)
  local roots = {}
  for _, thing in ipairs(owner.things or {}) do roots[#roots + 1] = thing.root end
  return roots
end

return ownership
