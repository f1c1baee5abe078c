-- A Mesa.Client that does what lines of JSON on stdin say, for clients.cjs:
--   mesa-lua bot.lua URL VERSION      until the end of stdin
-- {"id", "call", "args"} is answered with {"id", "result"} once the call has returned; what the client emits is {"event", "args"}.
local Mesa = require "mesa"
local uv = require "luv"

local client = Mesa.Client(arg[1], { autoConnect = false, version = arg[2] })
local input = uv.new_pipe(false)

local function report(record)
  io.stdout:write(Mesa.json.encode(record), "\n")
  io.stdout:flush()
end

local function plain(message)
  return { opcode = message.opcode, data = message.data, type = message.type, sequence = message.sequence }
end

local function plain_all(messages)
  local list = Mesa.array {}
  for i, message in ipairs(messages) do list[i] = plain(message) end
  return list
end

local calls = {}

function calls.connect()
  return { client:connect() }
end

function calls.send(message)
  return { client:send(Mesa.Message(message.opcode, message.data, message.type)) }
end

function calls.authenticate(data, options)
  local user, err = client:authenticate(data, options)
  return { user = user, err = err }
end

function calls.disconnect(code, reason)
  client:disconnect(code, reason)
  return {}
end

function calls.greet(data, message)
  client:on("connected", function()
    local user, err = client:authenticate(data)
    report { event = "greeted", args = { user = user, err = err } }
    calls.send(message)
  end)
  return {}
end

function calls.state()
  local kept = client.messages
  return {
    authenticated = client.authenticated,
    rules = Mesa.array(client.rules),
    messages = kept and { sent = plain_all(kept.sent), received = plain_all(kept.received) },
  }
end

client:on("message", function(message) report { event = "message", args = plain(message) } end)
client:on("connected", function(event) report { event = "connected", args = event } end)
client:on("disconnected", function(code, reason, event)
  report { event = "disconnected", args = { code = code, reason = reason, willAttemptReconnect = event.willAttemptReconnect } }
end)
client:on("error", function() end) -- while the server is away

local function execute(line)
  local command = Mesa.json.decode(line)
  local result = calls[command.call](unpack(command.args))
  report { id = command.id, result = result }
end

local rest = ""
input:open(0)
input:read_start(function(_, chunk)
  if not chunk then
    input:close()
    client:disconnect()
    return
  end
  rest = (rest .. chunk):gsub("([^\n]*)\n", function(line)
    Mesa.setTimeout(execute, 0, line) -- each for itself: a call that waits holds up none behind it
    return ""
  end)
end)
