--- The torture: a server whose handlers do their worst, clients that do theirs, files that are saved all the time, a Redis that
-- pauses and one that lies. In the end each client must still be given its own answers, and the server must end in order.
local uv = require "luv"
local fs = require "spec.support.fs"
local harness = require "spec.support.harness"
local loop = require "spec.support.loop"
local redis = require "spec.support.redis"
local ws_frame = require "spec.support.ws_frame"

local torture = {}
local random = math.random
local APP = "spec/torture/app/"
local FILES = {
  "server.lua", "chaos.lua", "scripts/on_message.lua", "scripts/auth.lua", "scripts/on_connection.lua", "scripts/on_disconnect.lua",
}
local RELOADED = { "scripts/on_message.lua", "scripts/auth.lua", "scripts/on_connection.lua", "scripts/on_disconnect.lua" }
local STEADY, WILD = 6, 6
local LOG_KEPT = 256 * 1024
local END_TIMEOUT_MS = 30000
local REFUSED_AFTER_MS = 3000

local function pick(list) return list[random(#list)] end

-- ---- a Redis that lies ---------------------------------------------------------------------------------------------

local lies = {
  "+OK\r\n", "-ERR torture\r\n", ":-1\r\n", "$-1\r\n", "*-1\r\n", "*0\r\n", "$3\r\nabc\r\n", "*2\r\n$1\r\nx\r\n:5\r\n",
  "*3\r\n$7\r\nmessage\r\n$2\r\nx1\r\n$3\r\nlie\r\n", "*3\r\n$9\r\nsubscribe\r\n$2\r\nx1\r\n:1\r\n", "nonsense\r\n", "$999999999999\r\n",
  "*1000000\r\n", "\0\0\0", "$5\r\nab",
}

local function start_liar()
  local listener, open = uv.new_tcp(), {}
  listener:bind("127.0.0.1", 0)
  listener:listen(16, function()
    local conn = uv.new_tcp()
    listener:accept(conn)
    open[conn] = true
    conn:read_start(function(err, chunk)
      if conn:is_closing() then return end
      if err or not chunk or random(20) == 1 then
        open[conn] = nil
        return conn:close()
      end
      for _ in chunk:gmatch "%*%d+\r\n" do
        if random(8) > 1 then conn:write(pick(lies)) end
      end
    end)
  end)
  local liar = { uri = "redis://127.0.0.1:" .. listener:getsockname().port }
  function liar.stop()
    listener:close()
    for conn in pairs(open) do conn:close() end
  end
  return liar
end

-- ---- clients -------------------------------------------------------------------------------------------------------

local function fail(run, text)
  error(("torture, seed %d: %s\n%s"):format(run.seed, text, run.server:output()), 0)
end

--- A client that asks, and knows the answers. It comes again when it was disconnected.
local function steady(run, id)
  local self = { id = id, asked = {}, n = 0 }
  local function on_answer(message)
    local d = type(message.d) == "table" and message.d or {}
    if message.t ~= "ANSWER" then return end
    local text = self.asked[d.n] or self.given_up[d.n]
    if d.nonce ~= self.nonce or d.text ~= text then
      fail(run, ("%s, who is %s and asked %s, was answered %s"):format(id, self.nonce, tostring(text), message.raw))
    end
    self.asked[d.n], self.given_up[d.n] = nil, nil
    run.answers = run.answers + 1
  end
  function self.ready(required)
    if self.client and not self.client.gone and not self.client.close_code then return true end
    if self.client then self.client.stream:close() end
    self.nonce, self.asked, self.given_up = ("%s-%d"):format(id, random(1e9)), {}, {}
    self.client = run.server:try_connect("/?nonce=" .. self.nonce, { heartbeats = true })
    if not self.client and required then fail(run, id .. " cannot connect") end
    if self.client and required == nil then self.client:send { op = 2, d = { id = pick { "ann", "bob", id } } } end
    return self.client ~= nil
  end
  function self.ask()
    self.n = self.n + 1
    self.asked[self.n] = ("text-%s-%d"):format(self.nonce, self.n)
    self.client:send { op = 0, t = "ASK", d = { n = self.n, text = self.asked[self.n] } }
  end
  function self.read()
    for _, message in ipairs(self.client:drain()) do on_answer(message) end
  end
  function self.waits()
    self.read()
    return next(self.asked) ~= nil
  end
  --- Where memory is bounded, a message may be refused, and nobody answers it then: what was asked too long ago is asked anew.
  function self.give_up_refused()
    local now = loop.now_ms()
    if not run.memory or now < (self.asked_ms or 0) + REFUSED_AFTER_MS then return end
    for n, text in pairs(self.asked) do self.given_up[n] = text end -- its answer may still come
    self.asked, self.final, self.asked_ms = {}, nil, now
  end
  return self
end

local wild_acts = {
  function(client) client:send { op = 0, t = "ATTACK", d = {} } end,
  function(client) client:send { op = 0, t = "ATTACK", d = { deep = { { {} } } } } end,
  function(client) client:send { op = 2, d = { id = pick { "wild1", "wild2", "ann" }, shouldSync = random(2) == 1 } } end,
  function(client) client:send { op = 2, d = { refuse = true } } end,
  function(client) client:send { op = 0, t = "ASK", d = { n = 1, text = "wild" } } end,
  function(client) client:send(("x"):rep(random(300))) end,
  function(client) client:send('{"op":0,"d":' .. ("["):rep(random(200)) .. "}") end,
  function(client) client:send_frame(random(0, 15), ("y"):rep(random(0, 200))) end,
  function(client) client:send_frame(ws_frame.TEXT, "{}", { mask = random(2) == 1 }) end,
  function(client)
    local bytes = {}
    for i = 1, random(40) do bytes[i] = string.char(random(0, 255)) end
    client:send_raw(table.concat(bytes))
  end,
  function(client) client:stop_reading() end,
  function(client) client:send_frame(ws_frame.CLOSE, ws_frame.close_payload(1000)) end,
  function(client) client:drop() end,
}

local function act_wildly(run, slot)
  local client = run.wild[slot]
  if client and (client.gone or client.close_code or client.stream.ended or random(60) == 1) then
    client.stream:close()
    client = nil
  end
  client = client or run.server:try_connect("/?nonce=wild")
  run.wild[slot] = client
  if not client then return end
  client.inbox = {}
  for _ = 1, random(8) do
    if random(4) > 1 then wild_acts[1](client) else pick(wild_acts)(client) end
  end
end

-- ---- files and signals ---------------------------------------------------------------------------------------------

local function storm(run)
  local name = pick(RELOADED)
  local text = fs.read(APP .. name)
  local n = random(8)
  if n == 1 then text = text .. "\nthis is no Lua" end
  if n == 2 then text = 'error "while it loads"' end
  if n == 3 then text = 'require "mesa".sleep(1)\n' .. text end
  if n == 4 then text = 'require("mesa").setInterval(function() error "of the module" end, 5)\n' .. text end
  run.server:write_file(name, text)
  if random(10) == 1 then run.server:signal "sighup" end
end

local function calm(run)
  for _, name in ipairs(RELOADED) do run.server:write_file(name, fs.read(APP .. name)) end
  run.server:signal "sighup"
end

-- ---- the run -------------------------------------------------------------------------------------------------------

--- Looks at what the server has printed, and keeps its end.
local function inspect(run)
  local child = run.server.process
  if not child:running() then
    loop.sleep(200)
    fail(run, ("the server ended: status %s, signal %s"):format(tostring(child.exit_code), tostring(child.exit_signal)))
  end
  run.server:check_output()
  local open = {}
  for _, client in ipairs(run.server.clients or {}) do
    if not client.stream.ended then open[#open + 1] = client end
  end
  run.server.clients = open
  child.stderr, child.stdout = child.stderr:sub(-LOG_KEPT), child.stdout:sub(-LOG_KEPT)
end

local function step(run)
  run.steps = run.steps + 1
  for _, client in ipairs(run.steady) do
    if client.ready() then
      for _ = 1, random(0, 3) do client.ask() end
    end
    if client.client then client.read() end
  end
  for slot = 1, WILD do
    if random(2) == 1 then act_wildly(run, slot) end
  end
  if random(6) == 1 then storm(run) end
  local now = loop.now_ms()
  if run.thaw_at and now >= run.thaw_at then
    run.redis:thaw()
    run.thaw_at = nil
  elseif not run.thaw_at and random(150) == 1 then
    run.redis:freeze()
    run.thaw_at = now + random(1500)
  end
  if run.steps % 50 == 0 then inspect(run) end
  loop.sleep(random(0, 10))
end

--- Everybody is given what they ask for, and the server ends as it should.
local function finish(run)
  run.redis:thaw()
  calm(run)
  for _, client in pairs(run.wild) do client.stream:close() end
  local done = loop.wait(function()
    local waiting = false
    for _, client in ipairs(run.steady) do
      if client.ready(true) and client.waits() then
        waiting = true
        client.give_up_refused()
      elseif client.final ~= client.nonce then
        client.final = client.nonce
        client.ask()
        waiting = true
      end
    end
    return not waiting
  end, END_TIMEOUT_MS)
  inspect(run)
  if not done then
    local texts = {}
    for _, client in ipairs(run.steady) do
      for _, text in pairs(client.asked) do texts[#texts + 1] = text end
    end
    fail(run, "not answered in the end: " .. table.concat(texts, ", "))
  end
  run.server:stop()
end

--- Tortures a server for so many seconds; raises with its output when it does not stand it.
---@param options { seconds: number, seed?: integer, memory?: integer }
---@return table report
function torture.run(options)
  local seed = options.seed or os.time() % 1000000
  math.randomseed(seed)
  local files = {}
  for _, name in ipairs(FILES) do files[name] = fs.read(APP .. name) end
  local run = {
    seed = seed, memory = options.memory, redis = redis.start(), liar = start_liar(),
    steady = {}, wild = {}, answers = 0, steps = 0,
  }
  local ok, err = pcall(function()
    run.server = harness.start("server.lua", { files = files, env = {
      TORTURE_SEED = tostring(seed), REDIS_URL = run.redis.uri, LIAR_URL = run.liar.uri,
      TORTURE_MEMORY = options.memory and tostring(options.memory) or false,
    } })
    for i = 1, STEADY do run.steady[i] = steady(run, "steady" .. i) end
    local until_ms = loop.now_ms() + options.seconds * 1000
    while loop.now_ms() < until_ms do step(run) end
    finish(run)
  end)
  if run.server and not run.server.stopped then run.server:destroy() end
  run.liar.stop()
  run.redis:stop()
  if not ok then error(err, 0) end
  return { seed = seed, answers = run.answers, steps = run.steps }
end

return torture
