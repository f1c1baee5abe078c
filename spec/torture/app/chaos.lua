-- What goes wrong in the torture. `trouble` is what any callback may do, `attack` what only a wild client asks for, and `ask` a
-- wait whose result is known: whoever gets another one has got somebody else's.
local ffi = require "ffi"
local uv = require "luv"

local chaos = {}
local Mesa, server, redis, liar
local random = math.random
local coroutines = setmetatable({}, { __mode = "v" })

local function pick(list) return list[random(#list)] end

-- ---- waits ---------------------------------------------------------------------------------------------------------

local waits = {
  function() Mesa.sleep(random(0, 5)) end,
  function() Mesa.await(function(resolve) Mesa.setTimeout(resolve, random(0, 5)) end, random(0, 8)) end,
  function() Mesa.await(function() end, random(0, 3)) end,
  function() liar:get "x" end,
  function() liar:pipeline { { "GET", "x" }, { "HGETALL", "y" }, { "LRANGE", "z", 0, -1 } } end,
  function() redis:get "x" end,
  function() Mesa.http.get("http://127.0.0.1:1/") end,
  function() Mesa.http.get(("http://127.0.0.1:%d/?text=x"):format(server.port), { timeout = random(1, 20) }) end,
  function()
    local client = Mesa.Client(("ws://127.0.0.1:%d/?nonce=none"):format(server.port), { autoConnect = false, timeout = 200 })
    client:on("connected", function() chaos.trouble() end)
    client:connect()
    client:disconnect()
  end,
}

function chaos.pause() waits[random(2)]() end

-- Where Lua cannot wait.
local cages = {
  function(wait) string.gsub("xyz", ".", wait) end,
  function(wait) table.sort({ 3, 1, 2 }, function(a, b) wait() return a < b end) end,
  function(wait) load(wait) end,
  function(wait) package.preload.torture = wait package.loaded.torture = nil require "torture" end,
  function(wait) xpcall(error, wait, "x") end,
  function(wait) coroutine.wrap(wait)() end,
  function(wait) coroutine.wrap(function() string.gsub("x", "x", wait) end)() end,
  function(wait) pcall(string.gsub, "x", "x", wait) end,
  function(wait) ffi.cast("void (*)(void)", wait):free() end,
}

-- ---- errors and finalizers -----------------------------------------------------------------------------------------

local errors = {
  function() error "torture" end,
  function() error() end,
  function() error { message = "torture" } end,
  function() error(setmetatable({}, { __tostring = function() error "again" end })) end,
  function() error(setmetatable({}, { __tostring = function() return Mesa.sleep(1) end })) end,
  function() local _ = nil + 1 end,
  function() local function deeper() return 1 + deeper() end deeper() end,
}

local function finalize()
  local act = pick {
    function() error "in a finalizer" end,
    function() Mesa.json.encode { random(), { random() } } end,
    function() chaos.pause() end,
    function() server:send(Mesa.Message(0, { "finalizer" }, "NOISE"), { "nobody" }) end,
    function() for client in server:clients() do client.seen = client.request.path end end,
    function() pcall(string.gsub, "x", "x", function() Mesa.sleep(1) end) end,
  }
  if random(2) == 1 then
    getmetatable(newproxy(true)).__gc = act
  else
    ffi.gc(ffi.new "char[16]", act)
  end
  if random(20) == 1 then collectgarbage() end
end

-- ---- what callbacks do ---------------------------------------------------------------------------------------------

function chaos.trouble()
  local n = random(12)
  if n <= 2 then finalize() end
  if n == 3 then chaos.pause() end
  if n == 4 then pick(cages)(pick(waits)) end
  if n == 5 then pick(errors)() end
  if n == 6 then coroutines[random(32)] = coroutine.running() end
  if n == 7 then Mesa.json.encode { ("x"):rep(random(2000)) } end
  if n == 8 and random(30) == 1 then
    local list = server:client(pick { "ann", "bob", "wild1", "wild2" })
    if list[1] then list[random(#list)]:disconnect(4000 + random(900), "torture") end
  end
end

local attacks = {
  function() pick(waits)() end,
  function() pick(cages)(pick(waits)) end,
  function() pick(errors)() end,
  function() for _ = 1, 50 do finalize() end end,
  function() coroutine.resume(coroutines[random(32)], "not this") end,
  function() coroutine.status(coroutines[random(32)]) end,
  function() coroutine.yield() end,
  function(client) client:disconnect() end,
  function(client) client:updateUser { id = pick { "wild1", "wild2", "wild3" } } end,
  function(client) for _ = 1, 100 do client:send(Mesa.Message(0, { ("x"):rep(random(1000)) }, "NOISE")) end end,
  function() server:send(Mesa.Message(0, { ("x"):rep(random(10000)) }, "NOISE"), { "*" }) end,
  function() server:emit("message", {}, {}) end,
  function() server:emit("error", {}) end,
  function()
    local timer = uv.new_timer()
    timer:start(random(3), 0, function() timer:close() pick(errors)() end)
  end,
  function()
    local work = uv.new_work(function(n) if n > 1 then error "in the pool" end return n end, function() chaos.trouble() end)
    work:queue(random(2))
  end,
  function()
    local channel = "torture" .. random(3)
    local function listener() redis:unsubscribe(channel, listener) chaos.trouble() end
    redis:subscribe(channel, listener, chaos.trouble)
    redis:publish(channel, "x")
  end,
  function()
    local channel = "x" .. random(3)
    local function listener() chaos.trouble() end
    liar:subscribe(channel, listener)
    Mesa.setTimeout(function() liar:unsubscribe(channel, listener) end, random(20))
  end,
  function()
    local list = {}
    for i = 1, random(2000) do list[i] = { ("x"):rep(100) .. i } end
    server.state.list = list
  end,
}

function chaos.attack(client) pick(attacks)(client) end

-- ---- what is asked -------------------------------------------------------------------------------------------------

local ways = {
  function(text) Mesa.sleep(random(0, 10)) return text end,
  function(text) return Mesa.await(function(resolve) Mesa.setTimeout(resolve, random(0, 10), text) end) end,
  function(text) return Mesa.await(function(resolve) resolve(text) end) end,
  function(text)
    local reply, err = redis:echo(text)
    return reply or not err and "nothing" or text -- it pauses and is away, but does not lie
  end,
  function(text)
    local replies = redis:pipeline { { "ECHO", text }, { "ECHO", text } }
    return not replies and text or replies[1] == replies[2] and replies[1]
  end,
  function(text)
    local response = Mesa.http.get(("http://127.0.0.1:%d/?text=%s"):format(server.port, text))
    return response and response.status == 200 and response.body or text
  end,
}

--- `text`, from far away.
function chaos.ask(text)
  local got = pick(ways)(text)
  if got ~= text then return "WRONG " .. tostring(got) end
  return text
end

function chaos.new(mesa, its_server, redis_url, liar_url)
  Mesa, server = mesa, its_server
  redis, liar = Mesa.redis.connect(redis_url), Mesa.redis.connect(liar_url)
  return chaos
end

return chaos
