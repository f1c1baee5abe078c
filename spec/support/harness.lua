-- Runs the real server binary for a spec, and fails the spec on everything a healthy server does not print.
local uv = require "luv"
local fs = require "spec.support.fs"
local http = require "spec.support.http"
local loop = require "spec.support.loop"
local process = require "spec.support.process"
local tls = require "spec.support.tls"
local to_lua = require "spec.support.to_lua"
local ws_client = require "spec.support.ws_client"

local harness = {}

local server = {}
server.__index = server

local START_TIMEOUT_MS = 15000
local FORCED = 4 -- the status of a program whose own code held up its end
local STOP_TIMEOUT_MS = 15000

local bad_output = {
  "AddressSanitizer", "LeakSanitizer", "runtime error:", "leaked", "still referenced", "Assertion",
}

local cwd = uv.cwd()

local function absolute(path)
  return path:sub(1, 1) == "/" and path or cwd .. "/" .. path
end

function harness.binary()
  return absolute(os.getenv("MESA_BIN") or "build/mesa-lua")
end

local sanitized
-- Whether memory figures mean anything: sanitizers keep freed memory.
function harness.sanitized()
  if sanitized == nil then
    sanitized = fs.read(harness.binary()):find("__asan_init", 1, true) ~= nil
  end
  return sanitized
end

-- ---- starting ------------------------------------------------------------------------------------------------------

local function write_files(self, files)
  for name, text in pairs(files) do
    fs.write(self.dir .. "/" .. name, text)
  end
end

local function admin_port_of(text)
  return tonumber(text:match "admin endpoint on http://%S*:(%d+)/")
end

local function ports_of(text)
  local ports = {}
  for port in text:gmatch "listening on %S*:(%d+)" do
    ports[#ports + 1] = tonumber(port)
  end
  return ports
end

local function environment(options)
  local env = {
    ASAN_OPTIONS = "detect_leaks=1:exitcode=86:abort_on_error=0",
    UBSAN_OPTIONS = "print_stacktrace=1:halt_on_error=1",
  }
  for name, value in pairs(options.env or {}) do
    env[name] = value
  end
  return env
end

local VALGRIND = {
  "--quiet", "--error-exitcode=99", "--leak-check=full", "--errors-for-leak-kinds=definite,indirect",
  "--suppressions=" .. cwd .. "/spec/support/valgrind.supp",
}

-- Starts the binary without waiting for anything. `source` is a path to a script or the text of one.
-- options: args (behind the script), flags (before it), env, files (name → text, beside the script), cwd, valgrind (true: under it)
function harness.launch(source, options)
  options = options or {}
  local self = setmetatable({ options = options }, server)
  local script
  if source and source:find "\n" then
    self.dir = fs.mkdtemp()
    fs.write(self.dir .. "/server.lua", source)
    script = self.dir .. "/server.lua"
  elseif options.files then
    self.dir = fs.mkdtemp()
    script = self.dir .. "/" .. (source or "server.lua")
  else
    script = absolute(source)
  end
  if options.files then
    write_files(self, options.files)
  end
  self.script = script
  local program, args = harness.binary(), {}
  if options.valgrind then
    for _, option in ipairs(VALGRIND) do
      args[#args + 1] = option
    end
    program, args[#args + 1] = "/usr/bin/valgrind", program
  end
  for _, flag in ipairs(options.flags or {}) do
    args[#args + 1] = flag
  end
  args[#args + 1] = script
  for _, argument in ipairs(options.args or {}) do
    args[#args + 1] = argument
  end
  self.process = process.spawn(program, { args = args, env = environment(options), cwd = options.cwd })
  self.pid = self.process.pid
  return self
end

-- Starts a server and waits until it listens on `options.listeners` (1) ports. `port` is the first of them, `admin_port`
-- that of its admin endpoint, when there is one.
function harness.start(source, options)
  options = options or {}
  local self = harness.launch(source, options)
  local wanted = options.listeners or 1
  local listening = loop.wait(function()
    self.ports = ports_of(self.process.stderr)
    local sockets = select(2, self.process.stderr:gsub("listening on unix:", ""))
    return #self.ports + sockets >= wanted or not self.process:running()
  end, options.timeout or START_TIMEOUT_MS)
  if not listening or not self.process:running() then
    self.process:wait(1000)
    local output = self:output()
    self:destroy()
    error("the server did not start\n" .. output, 2)
  end
  self.port = self.ports[1]
  self.admin_port = admin_port_of(self.process.stderr)
  return self
end

local LAB_DEFAULTS = { authenticate = true }

-- The general server of spec/server/fixtures/lab.lua with a configuration of the spec's own.
-- options as for start, and: tls (true: with a fresh certificate), deflate (what clients offer: the server has compression),
-- lab (its own switches, see LAB_DEFAULTS),
-- setup (Lua text run before the lab's own; sees `config`), extra (Lua text run behind it; sees `server`, `Mesa`, `Message`)
function harness.lab(config, options)
  options = options or {}
  config = config or {}
  config.port = config.port or 0
  config.host = config.host or "127.0.0.1"
  if options.tls then
    local pair = tls.certificate()
    config.tls = { cert = pair.cert, key = pair.key }
  end
  if options.deflate then
    config.compression = config.compression or { threshold = 0 }
  end
  local source = table.concat({
    "local config = " .. to_lua(config),
    "local lab = " .. to_lua(options.lab or LAB_DEFAULTS),
    options.setup or "",
    fs.read(cwd .. "/spec/server/fixtures/lab.lua"),
    options.extra or "",
  }, "\n")
  local started = harness.start(source, options)
  started.tls, started.deflate = options.tls, options.deflate
  return started
end

-- What core specs are run over: each is a set of options for harness.lab.
harness.transports = { { name = "ws", tls = false }, { name = "wss", tls = true } }

-- The same, and compressed: for specs that leave servers and clients to harness.lab and ws_client:send.
harness.channels = {
  harness.transports[1], harness.transports[2],
  { name = "wss with compression", tls = true, deflate = "permessage-deflate; client_max_window_bits" },
}

local held = {}

-- A port for what cannot choose one itself, or has to come back on the same one. Nobody listens there until the spec's own
-- program does, and the kernel gives it to nobody else: a socket of this process stays bound to it (libuv sets
-- SO_REUSEADDR, and so do Redis and mesa-lua, which is why they can listen there all the same).
function harness.free_port()
  local socket = uv.new_tcp()
  assert(socket:bind("127.0.0.1", 0))
  held[#held + 1] = socket
  return socket:getsockname().port
end

-- ---- talking -------------------------------------------------------------------------------------------------------

function server:address(options)
  if options and options.unix then
    return { unix = options.unix }
  end
  return { host = options and options.host, port = options and options.port or self.port }
end

-- A WebSocket client; nil, text, response when the server refuses. options: see ws_client.connect; host, port, unix
function server:try_connect(path, options)
  local settings = { ca = self.tls and tls.certificate().cert or nil, deflate = self.deflate, compresses = self.deflate ~= nil }
  for key, value in pairs(options or {}) do
    settings[key] = value
  end
  local client, err, response = ws_client.connect(self:address(options), path or "/", settings)
  if client then
    self.clients = self.clients or {}
    self.clients[#self.clients + 1] = client
  end
  return client, err, response
end

function server:connect(path, options)
  local client, err = self:try_connect(path, options)
  if not client then
    error(("cannot connect: %s\n%s"):format(err, self:output()), 2)
  end
  return client
end

-- Connected, and its hello taken.
function server:join(path, options)
  local client = self:connect(path, options)
  client.hello_message = client:hello()
  return client
end

-- Connected and authenticated as `id` with the lab's handler.
function server:login(id, data, options)
  local client = self:join(nil, options)
  data = data or {}
  data.id = id
  client:send { op = 2, d = data }
  client.authenticated_message = client:expect(22)
  return client
end

-- A plain HTTP request; see http.request.
function server:http(request, options)
  return http.request(self:address(options), request, self.tls and tls.certificate().cert or nil)
end

-- ---- watching ------------------------------------------------------------------------------------------------------

function server:output()
  return ("--- stdout\n%s\n--- stderr\n%s"):format(self.process.stdout, self.process.stderr)
end

-- Waits for a log line that matches the Lua pattern, after `from` bytes of log; the captures or the match.
function server:log_contains(pattern, timeout, from)
  local found = loop.wait(function()
    return self.process.stderr:find(pattern, from or 1) ~= nil or not self.process:running()
  end, timeout or 5000)
  if not found or not self.process.stderr:find(pattern, from or 1) then
    error(("the log never said %q\n%s"):format(pattern, self:output()), 2)
  end
  return self.process.stderr:match(pattern, from or 1)
end

function server:stdout_contains(pattern, timeout)
  loop.wait(function()
    return self.process.stdout:find(pattern) ~= nil or not self.process:running()
  end, timeout or 5000)
  return self.process.stdout:match(pattern) or error(("stdout never said %q\n%s"):format(pattern, self:output()), 2)
end

-- A position in the log, for `from` above and log_count.
function server:log_mark()
  loop.poll()
  return #self.process.stderr + 1
end

-- How many log lines match.
function server:log_count(pattern, from)
  local n = 0
  for line in self.process.stderr:sub(from or 1):gmatch "[^\n]+" do
    if line:find(pattern) then
      n = n + 1
    end
  end
  return n
end

-- Resident bytes.
function server:rss()
  return tonumber(fs.read("/proc/" .. self.pid .. "/status"):match "VmRSS:%s*(%d+) kB") * 1024
end

-- Open file descriptors.
function server:fds()
  local scan, n = assert(uv.fs_scandir("/proc/" .. self.pid .. "/fd")), 0
  while uv.fs_scandir_next(scan) do
    n = n + 1
  end
  return n
end

-- ---- files ---------------------------------------------------------------------------------------------------------

function server:path(name)
  return assert(self.dir, "this server has no directory of its own") .. "/" .. name
end

function server:write_file(name, text)
  fs.write_atomically(self:path(name), text)
end

-- The same, and waits until the log says so: "reloaded", or another pattern.
function server:save(name, text, pattern)
  local mark = self:log_mark()
  self:write_file(name, text)
  self:log_contains(pattern or "reloaded", 5000, mark)
end

-- As an editor that truncates and writes.
function server:write_file_in_place(name, text)
  fs.write(self:path(name), text)
end

-- ---- ending --------------------------------------------------------------------------------------------------------

function server:signal(name)
  self.process:signal(name)
end

-- Waits for the process to end by itself; its exit code.
function server:wait_exit(timeout)
  if not self.process:wait(timeout or STOP_TIMEOUT_MS) then
    error("the server did not end\n" .. self:output(), 2)
  end
  self.may_have_ended = true
  return self.process.exit_code, self.process.exit_signal
end

function server:check_output()
  for _, pattern in ipairs(bad_output) do
    local at = self.process.stderr:find(pattern)
    if at then
      error(("the server printed %q\n%s"):format(pattern, self:output()), 3)
    end
  end
end

-- Forgets the process and its directory, whatever state they are in.
function server:destroy()
  for _, client in ipairs(self.clients or {}) do
    client.stream:close()
  end
  self.clients = nil
  self.process:destroy()
  if self.dir then
    fs.remove(self.dir)
    self.dir = nil
  end
end

-- SIGTERM, and a clean end: exit code 0, nothing from a sanitizer, nothing left over.
-- A spec that lets the server end before sets `may_have_ended`, or has waited with wait_exit; one whose handlers may hold up the
-- end sets `may_be_forced`.
function server:stop()
  if self.stopped then
    return
  end
  self.stopped = true
  local was_running = self.process:running()
  self:signal "sigterm"
  local ended = self.process:wait(STOP_TIMEOUT_MS)
  self:destroy()
  if not ended then
    error("the server ignored SIGTERM\n" .. self:output(), 2)
  end
  if self.process.exit_code ~= 0 and not (self.may_be_forced and self.process.exit_code == FORCED) then
    error(("the server ended with code %d, signal %d\n%s"):format(
      self.process.exit_code, self.process.exit_signal, self:output()), 2)
  end
  if not was_running and not self.may_have_ended then
    error("the server ended by itself\n" .. self:output(), 2)
  end
  self:check_output()
end

-- Runs the binary to its end: { exit_code, stdout, stderr }.
function harness.run(args, options)
  options = options or {}
  return process.run(harness.binary(), {
    args = args, env = environment(options), cwd = options.cwd, timeout = options.timeout,
  })
end

harness.fs, harness.loop, harness.process, harness.tls = fs, loop, process, tls

return harness
