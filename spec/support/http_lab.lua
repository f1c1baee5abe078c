-- A server whose clients make it send HTTP requests, for the specs of Mesa.http.
local fake_http = require "spec.support.fake_http"
local harness = require "spec.support.harness"

local http_lab = {}
http_lab.__index = http_lab

-- Answers HTTP { a request for Mesa.http.request } with RESULT, and EVAL { code } with what the code returns.
local SOURCE = [[
local function describe(result, err, code)
  if not result then return { err = err, code = code } end
  return { status = result.status, headers = result.headers, body = result.body, url = result.url, json = result.json }
end
server:on("connection", function(client)
  client:on("message", function(message)
    if message.type == "HTTP" then
      client:send(Message(0, describe(Mesa.http.request(message.data)), "RESULT"), true)
    elseif message.type == "EVAL" then
      local ok, value = pcall(assert(loadstring(message.data.code)), Mesa, describe)
      client:send(Message(0, { ok = ok, value = value }, "RESULT"), true)
    end
  end)
end)
]]

-- options: as for harness.start
function http_lab.start(options)
  options = options or {}
  options.extra = SOURCE
  return setmetatable({ server = harness.lab({ authentication = { timeout = false } }, options), fakes = {} }, http_lab)
end

-- A fake service that stops with the spec; see fake_http.start.
function http_lab:fake(routes, options)
  local fake = fake_http.start(routes, options)
  self.fakes[#self.fakes + 1] = fake
  return fake
end

local function exchange(self, type, data)
  self.client = self.client or self.server:join()
  self.client:send { op = 0, t = type, d = data }
  return self.client:expect("RESULT", { timeout = 10000 }).d
end

-- What Mesa.http.request answers: { status, headers, body, url, json } or { err, code }.
function http_lab:ask(request)
  return exchange(self, "HTTP", request)
end

-- What Lua code in a handler returns: { ok, value }.
function http_lab:eval(code)
  return exchange(self, "EVAL", { code = "local Mesa, describe = ... " .. code })
end

-- What comes of a response that is exactly `bytes`, after which the connection ends.
function http_lab:respond(bytes, request)
  local fake = self:fake { ["*"] = function(conn)
    conn:write(bytes)
    conn:close()
  end }
  request = request or {}
  request.url = fake.url
  return self:ask(request)
end

-- To be called after each spec.
function http_lab:clear()
  if self.client then
    self.client:close()
    self.client = nil
  end
  for _, fake in ipairs(self.fakes) do
    fake:stop()
  end
  self.fakes = {}
end

function http_lab:stop()
  self.server:stop()
end

return http_lab
