-- Child processes whose output is collected and that never outlive the test process.
local uv = require "luv"
local loop = require "spec.support.loop"

local process = {}
process.__index = process

-- The kernel ends the child with us, however we end.
local death_signal = uv.fs_stat("/usr/bin/setpriv") and { "/usr/bin/setpriv", "--pdeathsig", "KILL", "--" } or {}

local function environment(overrides)
  local all, list = uv.os_environ(), {}
  for name, value in pairs(overrides or {}) do
    all[name] = value
  end
  for name, value in pairs(all) do
    if value ~= false then -- false removes a variable
      list[#list + 1] = name .. "=" .. value
    end
  end
  return list
end

local function collect(self, pipe, key)
  pipe:read_start(loop.guard(function(err, chunk)
    if err or not chunk then
      self.open_pipes = self.open_pipes - 1
      pipe:close()
      return
    end
    self[key] = self[key] .. chunk
  end))
end

-- options: args, env (merged into ours), cwd
function process.spawn(path, options)
  options = options or {}
  local self = setmetatable({ stdout = "", stderr = "", open_pipes = 2 }, process)
  local out, err, input = uv.new_pipe(false), uv.new_pipe(false), uv.new_pipe(false)

  local command = { unpack(death_signal) }
  command[#command + 1] = path
  for _, argument in ipairs(options.args or {}) do
    command[#command + 1] = tostring(argument)
  end
  local file = table.remove(command, 1)
  local handle, pid = uv.spawn(file, {
    args = command,
    env = environment(options.env),
    cwd = options.cwd,
    stdio = { input, out, err },
  }, loop.guard(function(code, signal)
    self.exit_code, self.exit_signal = code, signal
    self.handle:close()
  end))
  if not handle then
    out:close()
    err:close()
    input:close()
    error("cannot start " .. path .. ": " .. tostring(pid), 2)
  end
  self.handle, self.pid, self.input = handle, pid, input
  collect(self, out, "stdout")
  collect(self, err, "stderr")
  return self
end

function process:write(text)
  self.input:write(text)
end

function process:close_input()
  if self.input and not self.input:is_closing() then
    self.input:close()
  end
end

function process:running()
  return self.exit_code == nil
end

-- True when it has ended and all its output was read.
function process:wait(timeout_ms)
  return loop.wait(function()
    return self.exit_code ~= nil and self.open_pipes == 0
  end, timeout_ms)
end

function process:signal(name)
  if self:running() then
    self.handle:kill(name)
  end
end

-- Ends it by force when needed; what it printed stays readable.
function process:destroy()
  self:close_input()
  if self:running() then
    self:signal("sigkill")
    self:wait(5000)
  end
end

-- Runs a command to its end.
function process.run(path, options)
  local child = process.spawn(path, options)
  child:close_input()
  if not child:wait(options and options.timeout or 15000) then
    child:destroy()
    error(("%s did not end in time\nstdout: %s\nstderr: %s"):format(path, child.stdout, child.stderr), 2)
  end
  return child
end

return process
