-- The service that knows the users. Any HTTP server would do; this one is mesa-lua's own, answering plain requests.
local Mesa = require "mesa"

-- The first argument is how long a look into the database takes, in milliseconds.
local delay = tonumber(arg[1]) or 300

local server = Mesa.new {
  port = 4500,
  host = "127.0.0.1", -- for servers on this machine only
  path = "/no-websockets-here",
  limits = { maxBody = 4096 },
}

server:on("request", function(request, response)
  if request.path ~= "/session" then return end -- 404
  if request.method ~= "POST" then
    return response:status(405):header("Allow", "POST"):send()
  end

  local body = Mesa.json.decode(request.body)
  if type(body) ~= "table" or type(body.token) ~= "string" then
    return response:status(400):json { error = "a token is expected" }
  end

  Mesa.sleep(delay) -- others are answered meanwhile
  local name = body.token:match "^(%w+)%-secret$"
  if not name then return response:status(401):json { error = "unknown token" } end
  response:json { id = name, name = name:gsub("^%l", string.upper) }
end)
