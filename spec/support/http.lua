-- One plain HTTP/1.1 request, well or badly formed.
local loop = require "spec.support.loop"
local stream = require "spec.support.stream"

local http = {}

-- How many bytes the body has, nil until the end of the connection.
local function body_length(response, method)
  if method == "HEAD" or response.status == 204 or response.status == 304 then
    return 0
  end
  return tonumber(response.headers["content-length"])
end

local function parse_head(text)
  local stop = select(2, text:find("\r\n\r\n", 1, true))
  if not stop then
    return nil
  end
  local response = { status = tonumber(text:match "^HTTP/1%.[01] (%d+)"), headers = {}, head = text:sub(1, stop) }
  for name, value in response.head:gmatch "\r\n([^:\r\n]+):%s*([^\r\n]*)" do
    response.headers[name:lower()] = value
  end
  return response, stop
end

function http.encode(request)
  local lines = { ("%s %s HTTP/1.1"):format(request.method or "GET", request.path or "/") }
  local headers = { Host = "localhost" }
  if request.body then
    headers["Content-Length"] = #request.body
  end
  for name, value in pairs(request.headers or {}) do
    headers[name] = value
  end
  for name, value in pairs(headers) do
    if value then
      lines[#lines + 1] = name .. ": " .. value
    end
  end
  return table.concat(lines, "\r\n") .. "\r\n\r\n" .. (request.body or "")
end

-- request: a path, or { method, path, headers, body }, or { raw = bytes }; plus timeout.
-- { status, headers (names in lower case), body, head }; or nil and "closed" or "timeout" when no answer came.
function http.request(address, request, ca)
  if type(request) == "string" then
    request = { path = request }
  end
  local wire = assert(stream.connect(address, { ca = ca }))
  local text, gone = "", false
  wire:listen(function(bytes)
    text = text .. bytes
  end, function()
    gone = true
  end)
  wire:write(request.raw or http.encode(request))
  local response, stop
  local done = loop.wait(function()
    if not response then
      response, stop = parse_head(text)
    end
    local length = response and body_length(response, request.method)
    return gone or (length and #text >= stop + length)
  end, request.timeout or 5000)
  wire:close()
  if not response then
    return nil, gone and "closed" or "timeout"
  end
  if not done then
    return nil, "timeout"
  end
  local length = body_length(response, request.method)
  response.body = text:sub(stop + 1, length and stop + length or -1)
  return response
end

return http
