-- nginx with its Lua module and lua-nginx-websocket: a coroutine that reads for each connection, and one that writes what
-- others publish. Nothing is shared between workers, so there is one.
local cjson = require "cjson"
local semaphore = require "ngx.semaphore"
local websocket = require "nginx.websocket.server"
local hub = require "nginx_hub"

local HELLO = '{"op":10,"d":{"rules":[]}}'
local HOUR = 3600

local socket = websocket:new { timeout = HOUR * 1000, max_payload_len = 1048576 }
if not socket then return ngx.exit(400) end

local me = { semaphore = semaphore.new(), queue = {}, last = 0 }
hub[me] = true
socket:send_text(HELLO)

local writer = ngx.thread.spawn(function()
  local done = 0
  while me.semaphore:wait(HOUR) do
    done = done + 1
    socket:send_text(me.queue[done])
    me.queue[done] = nil
  end
end)

local handlers = {
  ECHO = function(d) socket:send_text(cjson.encode { op = 0, d = d, t = "ECHO" }) end,
  PUBLISH = function(d)
    local text = cjson.encode { op = 0, d = d, t = "PUBLISH" }
    for peer in pairs(hub) do
      peer.last = peer.last + 1
      peer.queue[peer.last] = text
      peer.semaphore:post()
    end
  end,
  COLLECT = function(d)
    collectgarbage()
    collectgarbage()
    socket:send_text(cjson.encode { op = 0, d = d, t = "COLLECT" })
  end,
}

while true do
  local text, kind, code = socket:recv_frame()
  if kind == "text" then
    local message = cjson.decode(text)
    if message.op == 2 then
      me.user = { id = message.d.id }
      socket:send_text(cjson.encode { op = 22, d = me.user })
    elseif handlers[message.t] then
      handlers[message.t](message.d)
    end
  else
    if kind == "close" then socket:send_close(code) end
    break
  end
end
hub[me] = nil
ngx.thread.kill(writer)
ngx.exit(444)
