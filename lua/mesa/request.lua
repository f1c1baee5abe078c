--- Plain HTTP on a server's port: what the listeners of its `request` event are given.
local core = require "mesa.core"
local misuse = require "mesa.misuse"

local error, ipairs, pairs, pcall, setmetatable, tonumber = error, ipairs, pairs, pcall, setmetatable, tonumber
local tostring, type = tostring, type
local char, find, format, gmatch, gsub, lower = string.char, string.find, string.format, string.gmatch, string.gsub, string.lower
local match = string.match
local check_self, encode = misuse.check_self, core.json.encode

local request = {}

--- "a=1&b=x%20y" -> { a = "1", b = "x y" }; of duplicates the last one counts.
---@param text string
---@return table<string, string>
function request.parse_query(text)
  local query = {}
  local function decode(s)
    return (gsub(gsub(s, "+", " "), "%%(%x%x)", function(hex) return char(tonumber(hex, 16)) end))
  end
  for pair in gmatch(text, "[^&]+") do
    local name, value = match(pair, "^([^=]*)=?(.*)$")
    query[decode(name)] = decode(value)
  end
  return query
end

-- The transport's own, which it would leave out.
local reserved = { ["connection"] = true, ["content-length"] = true, ["transfer-encoding"] = true }

---@class mesa.Response
---@field answered boolean
local Response = {}
Response.__index = Response
Response.__name = "mesa.response"

--- Sets the status, 200 unless set.
---@param status integer 200 to 599
---@return mesa.Response self
function Response:status(status)
  check_self(self, Response, "response:status")
  if type(status) ~= "number" or status % 1 ~= 0 or status < 200 or status > 599 then
    error("response:status expects an integer from 200 to 599, got " .. tostring(status), 2)
  end
  self._status = status
  return self
end

--- Sets a header; a list is several headers of one name, nil takes it away.
---@param name string
---@param value? string|number|string[]
---@return mesa.Response self
function Response:header(name, value)
  check_self(self, Response, "response:header")
  if type(name) ~= "string" or not find(name, "^[%w!#$%%&'*+%-.^_`|~]+$") then
    error("response:header: " .. tostring(name) .. " cannot be a header's name", 2)
  end
  local key = lower(name)
  if reserved[key] then error("response:header: " .. name .. " is set by the server itself", 2) end
  if value == nil then
    self._headers[key] = nil
    return self
  end
  local list = {}
  for i, one in ipairs(type(value) == "table" and value or { value }) do
    if type(one) ~= "string" and type(one) ~= "number" then
      error(format("response:header: the value of %s must be a string, got %s", name, type(one)), 2)
    end
    one = tostring(one)
    if find(one, "[\r\n%z]") then error(format("response:header: the value of %s has a line break or a NUL", name), 2) end
    list[i] = one
  end
  self._headers[key] = list
  return self
end

local function answer(self, content_type, body)
  if self.answered then return nil, "answered" end
  self.answered = true
  local list = {}
  if content_type and not self._headers["content-type"] then self._headers["content-type"] = { content_type } end
  for name, values in pairs(self._headers) do
    for _, value in ipairs(values) do
      list[#list + 1] = name
      list[#list + 1] = value
    end
  end
  return core.http_reply(self._http, self._status, list, body)
end

--- Answers with a text (text/plain unless the header is set), or without a body.
---@param body? string
---@return true? ok
---@return "answered"? err
function Response:send(body)
  check_self(self, Response, "response:send")
  if body ~= nil and type(body) ~= "string" then error("response:send expects a string, got " .. type(body), 2) end
  return answer(self, body and "text/plain; charset=utf-8", body or "")
end

--- Answers with a value as JSON.
---@param value any
---@return true? ok
---@return "answered"? err
function Response:json(value)
  check_self(self, Response, "response:json")
  local ok, text = pcall(encode, value)
  if not ok then error("response:json: " .. text, 2) end
  return answer(self, "application/json", text)
end

--- The answer will come after the listeners have returned; whoever holds the response gives it.
---@return mesa.Response self
function Response:defer()
  check_self(self, Response, "response:defer")
  self._deferred = true
  return self
end

--- The response to what `http` stands for.
function request.response(http)
  return setmetatable({ _http = http, _status = 200, _headers = {}, answered = false }, Response)
end

return request
