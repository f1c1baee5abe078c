-- Reloads leave nothing behind. MESA_RELOADS=5000 MESA_RELOADS_PRINT=1 measures more of them, and prints the figures.
local cjson = require "cjson"
local harness = require "spec.support.harness"

local RELOADS = tonumber(os.getenv "MESA_RELOADS") or 100
local STEPS = 10

local MAIN = [[
local Mesa = require "mesa"
local core = require "mesa.core"
local held = require "held"
server = Mesa.new { port = 0, host = "127.0.0.1", scripts = { message = "on_message.lua" }, admin = { port = 0 } }
server:on("listening", function() print("admin " .. server.adminPort) end)
server:on("request", function(request, response)
  collectgarbage() collectgarbage()
  local counts = core.counts()
  counts.lua, counts.listeners, counts.held = collectgarbage "count", #server._handlers.ping, held.n
  response:json(counts)
end)
]]

-- Starts one of everything.
local STARTS = [[
local Mesa, uv = require "mesa", require "luv"
Mesa.setInterval(function() end, 1000)
uv.new_timer():start(1000, 1000, function() end)
if server then
  server:on("ping", function() end)
  server:use(function() return { onError = function() end } end)
  Mesa.Client("ws://127.0.0.1:" .. server.port)
end
local ballast = ("x"):rep(20000)
]]

describe("reloads", function()
  local server
  after_each(function() server:stop() end)

  it(("leave nothing behind, %d of them"):format(RELOADS), function()
    local function handler(n) return STARTS .. ("local held = require 'held' return function() return held, ballast, %d end"):format(n) end
    local function held(n) return STARTS .. ("local M = { n = %d } function M.me() return M, ballast end return M"):format(n) end
    server = harness.start(nil, { files = {
      ["server.lua"] = MAIN, ["on_message.lua"] = handler(0), ["held.lua"] = held(0),
    }, flags = { "--no-watch" }, env = { GLIBC_TUNABLES = "glibc.malloc.tcache_count=0" } })
    local admin = { port = tonumber(server:stdout_contains "admin (%d+)") }

    local function reload(n, bad)
      harness.fs.write(server:path "on_message.lua", handler(n))
      harness.fs.write(server:path "held.lua", held(n) .. (bad and " error 'not ready'" or ""))
      assert.equal(bad and 500 or 200, server:http({ method = "POST", path = "/reload" }, admin).status)
    end

    -- What is open and allocated, once connections that are closing have gone.
    local function settled(before)
      local report
      harness.loop.wait(function()
        report = cjson.decode(server:http({ path = "/" }).body)
        return not before or report.handles <= before.handles and report.references <= before.references
      end, 10000)
      report.rss = server:rss() / 1024
      return report
    end

    local reports = {}
    for step = 1, STEPS do
      for i = 1, RELOADS / STEPS do reload((step - 1) * RELOADS / STEPS + i, i % 5 == 0) end
      reload(step * RELOADS, false)
      reports[step] = settled(reports[step - 1])
      assert.equal(step * RELOADS, reports[step].held)
      if os.getenv "MESA_RELOADS_PRINT" then print(step * RELOADS / STEPS, cjson.encode(reports[step])) end
    end

    -- what each reload leaves behind, however little, shows between the middle and the end
    local middle, last = reports[STEPS / 2], reports[STEPS]
    for _, name in ipairs { "handles", "references", "timers", "listeners", "waiting" } do
      local most = 0
      for step = 1, STEPS / 2 do most = math.max(most, reports[step][name]) end
      assert.is_true(last[name] <= most, ("%s: %d, and later %d"):format(name, most, last[name]))
    end
    assert.is_true(last.lua < middle.lua + 100, ("%d KiB of Lua, and later %d"):format(middle.lua, last.lua))
    if not harness.sanitized() then
      assert.is_true(last.bytes < middle.bytes + 64 * 1024, ("%d bytes, and later %d"):format(middle.bytes, last.bytes))
      assert.is_true(last.rss < middle.rss + 2048, ("%d KiB resident, and later %d"):format(middle.rss, last.rss))
    end
  end)
end)
