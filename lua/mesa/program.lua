--- What the C side calls by name: the life of the program (src/script/vm.c).
local core = require "mesa.core"
local errors = require "mesa.errors"
local exits = require "mesa.exit"
local log = require "mesa.log"
local luv = require "mesa.luv"
local modules = require "mesa.modules"
local source = require "mesa.source"

local error, ipairs, loadfile, type, unpack, xpcall = error, ipairs, loadfile, type, unpack, xpcall
local format, concat = string.format, table.concat
local stdout = io.stdout
local arguments = arg

io.stdout:setvbuf("line") -- print() shows at once in a pipe, too
modules.install()
require "mesa.finalizer"
require "mesa.coroutines"
require "mesa.hooks"
require "mesa.memory"

require "mesa" -- takes what it needs of the libraries before a script can change them
local portals = require "mesa.portals"
local reload = require "mesa.reload"
local servers = require "mesa.servers"
local tasks = require "mesa.tasks"
local words = require "mesa.words"

local program = {}

--- Runs the main script; its servers begin to listen when it has returned.
---@param path string
function program.load(path)
  modules.load_main(core.absolute(path), function()
    local chunk, why = loadfile(path)
    if not chunk then error(errors.new(why, "LOAD"), 0) end
    local ok, err = xpcall(chunk, errors.catch, unpack(arguments))
    if not ok then error(err, 0) end
  end)
end

--- ": scripts auth.lua, on_message.lua; static public", what a server has loaded, or "".
---@param server mesa.Server
---@return string
function program.describe(server)
  local parts, cfg = {}, server.config
  local files = server._scripts:files()
  if files[1] then
    parts[1] = "scripts " .. concat(files, ", ")
  elseif type(cfg.scripts) == "string" then
    parts[1] = "no scripts in " .. cfg.scripts .. " yet"
  end
  if cfg.static then parts[#parts + 1] = "static " .. source.display(cfg.static) end
  return parts[1] and ": " .. concat(parts, "; ") or ""
end

--- "; tls cert.pem, key.pem; a.example a.pem, a-key.pem", the certificates of a server, or "".
local function describe_tls(tls)
  if not tls then return "" end
  local function files(pair) return source.display(pair.cert) .. ", " .. source.display(pair.key) end
  local parts = { "; tls " .. files(tls) }
  for _, name in ipairs(words.sorted_keys(tls.names or {})) do
    parts[#parts + 1] = format("; %s %s", name, files(tls.names[name]))
  end
  return concat(parts)
end

--- Says what --check has found in order. What is not has raised.
---@param script string
---@param port integer of --port, which is the first server's; -1: not given
function program.print_check(script, port)
  local out = { script .. ": in order\n" }
  for i, server in ipairs(servers) do
    local cfg = server.config
    local own = i == 1 and port >= 0 and port or cfg.port
    local where = cfg.server and "the port of another server, path " .. cfg.path or cfg.host or "port " .. own
    out[#out + 1] = format("server on %s%s%s\n", where, program.describe(server), describe_tls(cfg.tls))
  end
  if not servers[1] then out[2] = "no server\n" end
  stdout:write(concat(out))
end

--- Runs a timer's function.
---@param fn function
function program.timer(fn)
  tasks.call("timer", fn)
end

--- Runs the finalizer of an object that the collector has found.
function program.finalizer(fn, object)
  tasks.call("finalizer", fn, object)
end

--- Runs what was given to a command or a subscription of Redis.
---@param fn function
function program.redis_callback(fn, ...)
  tasks.call("Redis callback", fn, ...)
end

--- Runs a callback of luv.
---@param fn function
function program.luv_callback(fn, ...)
  tasks.call("luv callback", fn, ...)
end

program.parse_query = require("mesa.request").parse_query
program.adapt_luv = luv.adapt
program.close_luv = luv.close

--- Looks for changes everywhere and loads every handler script anew; `reason` is what asked for it.
---@param reason string
---@return boolean ok, string report
function program.reload(reason)
  log.info("reload requested (" .. reason .. ")", "reload")
  local reloaded, report = reload.run(nil)
  return reloaded ~= nil, report
end

--- Watched files have changed.
---@param paths string[]
function program.files_changed(paths)
  local changed = {}
  for _, path in ipairs(paths) do changed[path] = true end
  reload.run(changed)
end

local PORTALS_MS = 1500 -- a Redis that does not answer is not waited for any longer

--- Closes every portal; `done` is called when Redis knows, or does not answer.
local function leave_pools(done)
  local open = { unpack(portals) }
  local count = #open
  if count == 0 then return done() end
  local function left()
    count = count - 1
    if count == 0 then done() end
  end
  core.timer_start(done, PORTALS_MS, false)
  for _, portal in ipairs(open) do portal:close(left) end
end

--- Calls the beforeExit of a server; `left(status)` once, when it has called `exit` or failed.
local function ask(server, signal, left)
  local asked = true
  local function exit(status)
    -- anything else is what another callback was given
    local number = type(status) == "number" and exits.status(status, "exit") or 0
    if not asked then return end
    asked = false
    left(number)
  end
  local ok, err = xpcall(server.config.beforeExit, errors.catch, signal, exit)
  if ok then return end
  log.error("error in beforeExit: " .. (err.traceback or err.message), "script")
  exit()
end

--- SIGTERM or SIGINT: asks every beforeExit, each in a coroutine of its own, then ends. What takes too long is not waited for
--- (src/script/shutdown.c).
---@param signal string
function program.shutdown(signal)
  local code, waiting = 0, 1
  local function left(status)
    if status and status ~= 0 then code = status end -- of several servers one is enough
    waiting = waiting - 1
    if waiting == 0 then leave_pools(function() core.finish_shutdown(code) end) end
  end
  log.info(signal .. ": shutting down", "server")
  for _, server in ipairs(servers) do
    if server.config.beforeExit and server.config.gracefullyExit ~= false then
      waiting = waiting + 1
      core.timer_start(function() ask(server, signal, left) end, 0, false)
    end
  end
  left()
end

return program
