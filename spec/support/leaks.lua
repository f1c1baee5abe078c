-- Has the server of spec/server/fixtures/waits.lua wait many times, half of them for clients that have left, and compares what
-- is open and allocated before and after.
local cjson = require "cjson"
local harness = require "spec.support.harness"
local loop = harness.loop

local leaks = {}

-- glibc counts what its threads keep for themselves as handed out.
leaks.environment = { GLIBC_TUNABLES = "glibc.malloc.tcache_count=0" }

local STEADY = 3

-- The stacks of coroutines grow and shrink as the collector sees fit.
local LUA_SLACK = 16 * 1024
local open = { "handles", "requests", "waiting", "timers" }
local exact = { "references", "idle", unpack(open) }

local function ask(watcher)
  watcher:send { op = 0, t = "COUNTS" }
  return watcher:expect("COUNTS", { timeout = 60000 }).d
end

-- One crowd: `messages` a client with `n` waits each. Every other client leaves at once.
local function round(server, way, load)
  local crowd = {}
  for i = 1, load.clients do
    local client = server:join()
    crowd[i] = client
    client:send { op = 2, d = { token = i % 3 == 0 and "never" or "later" } }
    for _ = 1, load.messages do client:send { op = 0, t = way, d = { n = load.n } } end
    if i % 2 == 0 then
      client:drop()
    else
      client.stays = true
    end
  end
  for _, client in ipairs(crowd) do
    if client.stays then client:close() end
  end
end

-- Asks until as much is open as before: connections that are kept for a while have to go first.
local function settled(watcher, before)
  local report
  loop.wait(function()
    report = ask(watcher)
    for _, name in ipairs(open) do
      if before and report.counts[name] ~= before.counts[name] then return false end
    end
    return true
  end, 6000)
  return report
end

-- The largest count of the reports from first to last.
local function most(reports, name, first, last)
  local value = 0
  for i = first, last do value = math.max(value, reports[i].counts[name]) end
  return value
end

-- What the last STEADY rounds have left behind; nil: nothing.
local function left(reports, load)
  local before, last = #reports - STEADY, #reports
  if before < 1 then return "too few rounds" end
  for _, name in ipairs(exact) do
    for i = before + 1, last do
      if reports[i].counts[name] ~= reports[before].counts[name] then
        return ("%s: %d, and later %d"):format(name, reports[before].counts[name], reports[i].counts[name])
      end
    end
  end
  for name, slack in pairs { bytes = load.slack or 0, lua = LUA_SLACK } do
    local was, is = most(reports, name, 1, before), most(reports, name, before + 1, last)
    if is > was + slack then return ("%s: %d, and later %d"):format(name, was, is) end
  end
end

-- Pools fill up and tables grow in the beginning. What is left behind by each round, however little, shows in every round: raises
-- unless STEADY rounds in a row come, of at least load.rounds and at most load.at_most, that leave nothing.
-- load: clients, messages, n, rounds (1), at_most (40), slack (0): bytes by which buffers of sockets may differ, which grow as the
-- kernel cuts the stream; to be less than one byte for each wait of the steady rounds.
function leaks.check(server, way, load)
  local watcher = server:join()
  local reports, why = {}
  repeat
    round(server, way, load)
    reports[#reports + 1] = settled(watcher, reports[#reports])
    why = left(reports, load)
  until not why and #reports >= (load.rounds or 1) or #reports == (load.at_most or 40)
  local last = reports[#reports]
  assert(not why, ("after %d rounds: %s; %s"):format(#reports, tostring(why), cjson.encode(last)))
  -- what a client had sent who left with a reset may be lost
  assert(last.waited >= load.clients / 2 * load.messages * load.n * #reports, cjson.encode(last))
  assert(last.abandoned > 0, "nobody left while he was waited for")
  watcher:close()
  return last
end

return leaks
