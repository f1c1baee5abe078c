-- Servers with certificates of a spec's own, and OpenSSL's and curl's clients as their peers.
local certificates = require "spec.support.certificates"
local harness = require "spec.support.harness"
local to_lua = require "spec.support.to_lua"

local fs, loop, process = harness.fs, harness.loop, harness.process

local tls_lab = {}
tls_lab.__index = tls_lab

-- What the request event answers and clients are told: the certificate that was shown.
local SOURCE = [[
local Mesa = require "mesa"
local config = %s
config.authentication = { timeout = false }
local server = Mesa.new(config)
server:on("request", function(request, response)
  response:json { certificate = request.certificate or Mesa.null }
end)
server:on("connection", function(client)
  local at_first = client.request.certificate
  client:authenticate(function(_, done)
    local certificate = client.request.certificate
    if not certificate then return done "no certificate" end
    done(nil, { id = certificate.serial })
  end)
  client:on("message", function(message)
    client:send(Mesa.Message(0, { at_first = at_first or Mesa.null, said = message.data }, "ANSWER"), true)
  end)
  client:on("disconnect", function()
    Mesa.sleep(10) -- the connection is no more
    local certificate = client.request.certificate
    print("gone", certificate and certificate.subject)
  end)
end)
]]

-- A folder for certificates, which `stop` removes together with the server.
function tls_lab.new()
  return setmetatable({ dir = fs.mkdtemp(), sessions = 0 }, tls_lab)
end

function tls_lab:path(name)
  return self.dir .. "/" .. name
end

-- See certificates.self_signed.
function tls_lab:certificate(options)
  return certificates.self_signed(self.dir, options)
end

function tls_lab:authority(name)
  return certificates.authority(self:path(name), name)
end

local function source_of(tls, more)
  local config = { port = 0, host = "127.0.0.1", tls = tls }
  for key, value in pairs(more or {}) do config[key] = value end
  return SOURCE:format(to_lua(config))
end

-- Starts a server; `more` are further keys of its configuration. Several may run.
function tls_lab:start(tls, more, options)
  local server = harness.start(source_of(tls, more), options)
  self.servers = self.servers or {}
  self.servers[#self.servers + 1] = server
  self.server = self.server or server
  return server
end

-- Runs it with --check.
function tls_lab:check(tls)
  fs.write(self:path "check.lua", source_of(tls))
  return harness.run { "--check", self:path "check.lua" }
end

function tls_lab:stop()
  for _, server in ipairs(self.servers or {}) do server:stop() end
  fs.remove(self.dir)
end

local REQUEST = "GET /who HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"

-- Asks with `openssl s_client`, which is given further arguments; what it printed. Its `subject` is the server's certificate, `version`
-- the one of TLS, `cipher` and `reused` as they say, `answer` whether the request was answered.
function tls_lab:ask(arguments, server)
  local args = { "s_client", "-connect", "127.0.0.1:" .. (server or self.server).port, "-ign_eof" }
  for _, argument in ipairs(arguments or {}) do args[#args + 1] = argument end
  local child = process.spawn("/usr/bin/openssl", { args = args })
  child:write(REQUEST)
  if not child:wait(15000) then
    child:destroy()
    error("s_client did not end\n" .. child.stdout .. child.stderr, 2)
  end
  child:close_input()
  local out = child.stdout
  local kind, version, cipher = out:match "\n(%a+), (TLSv[%d.]+), Cipher is (%S+)"
  return {
    subject = out:match "\nsubject=([^\n]*)", version = version, cipher = cipher, reused = kind == "Reused",
    answer = out:find("HTTP/1.1 200 OK", 1, true) ~= nil, text = out .. child.stderr,
  }
end

-- A name for a file that `-sess_out` writes and `-sess_in` reads.
function tls_lab:session()
  self.sessions = self.sessions + 1
  return self:path("session-" .. self.sessions)
end

-- Runs curl on `path` of the server, which is called `host` (localhost); what it printed, and its exit code.
function tls_lab:curl(path, arguments, host)
  local args = { "--silent", "--show-error", "--noproxy", "*" }
  for _, argument in ipairs(arguments or {}) do args[#args + 1] = argument end
  args[#args + 1] = ("https://%s:%d%s"):format(host or "localhost", self.server.port, path)
  local run = process.run("/usr/bin/curl", { args = args })
  return run.stdout, run.exit_code, run.stderr
end

-- Waits until whoever asks is shown the certificate of `subject`.
function tls_lab:shows(subject, arguments)
  return loop.wait(function()
    return self:ask(arguments).subject == subject
  end, 15000)
end

return tls_lab
