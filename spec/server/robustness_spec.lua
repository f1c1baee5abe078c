local harness = require "spec.support.harness"
local stream = require "spec.support.stream"
local ws_client = require "spec.support.ws_client"
local ws_frame = require "spec.support.ws_frame"

-- A generator of its own, so that a failure can be repeated with the seed it prints.
local function generator(seed)
  local state = seed
  return function(n) -- 1 … n
    state = (state * 1103515245 + 12345) % 2147483648
    return math.floor(state / 65536) % n + 1
  end
end

local GOOD = {
  '{"op":0,"t":"ECHO","d":{"a":[1,2,{"b":null}]}}', '{"op":2,"d":{"id":"u"}}', '{"op":11,"d":{}}', '{"op":1}',
  '{"op":0,"t":"ME","d":{}}', '{"op":7,"d":"\240\159\152\128"}', '{"op":0,"t":"CLIENTS","d":{}}',
}

-- A valid stream of frames with a few bytes changed, left out or repeated.
local function mutated(random)
  local parts = {}
  for _ = 1, random(6) do
    local text = GOOD[random(#GOOD)]
    if random(3) == 1 then
      local cut = random(#text)
      parts[#parts + 1] = ws_frame.encode(1, text:sub(1, cut), { fin = false })
      parts[#parts + 1] = ws_frame.encode(0, text:sub(cut + 1))
    else
      parts[#parts + 1] = ws_frame.encode(random(2), text)
    end
  end
  local bytes = table.concat(parts)
  for _ = 1, random(4) do
    local at = random(#bytes)
    local kind = random(4)
    if kind == 1 then
      bytes = bytes:sub(1, at - 1) .. string.char(random(256) - 1) .. bytes:sub(at + 1)
    elseif kind == 2 then
      bytes = bytes:sub(1, at - 1) .. bytes:sub(at + 1)
    elseif kind == 3 then
      bytes = bytes:sub(1, at) .. bytes:sub(at)
    end
  end
  return bytes
end

describe("damaged input", function()
  local server, bystander

  before_each(function()
    server = harness.lab { authentication = { timeout = false }, limits = { handshakeTimeout = 1000 } }
    bystander = server:join()
  end)

  after_each(function()
    server:stop()
  end)

  local function bystander_is_well()
    bystander:send { op = 0, t = "ECHO", d = { well = true } }
    assert.is_true(bystander:expect("ECHO").d.well)
  end

  it("on open connections never harms the server or anybody else", function()
    local seed = os.time()
    for round = 1, 150 do
      local random = generator(seed + round)
      local client = server:connect()
      client:send_raw(mutated(random))
      harness.loop.poll()
      if random(2) == 1 then
        client:drop()
      else
        client:reset()
      end
      if round % 10 == 0 then
        local ok, err = pcall(bystander_is_well)
        assert(ok, ("seed %d, round %d: %s"):format(seed, round, tostring(err)))
      end
    end
  end)

  it("in place of a handshake never harms the server or anybody else", function()
    local seed = os.time()
    for round = 1, 150 do
      local random = generator(seed + round)
      local request = ws_client.request("/" .. ("p"):rep(random(50)), { headers = { ["X-" .. random(99)] = ("v"):rep(random(200)) } })
      for _ = 1, random(3) do
        local at = random(#request)
        request = request:sub(1, at - 1) .. string.char(random(256) - 1) .. request:sub(at + random(3))
      end
      local wire = assert(stream.connect { port = server.port })
      wire:listen(function() end, function() end)
      wire:write(request)
      harness.loop.poll()
      wire:close()
      if round % 10 == 0 then
        local ok, err = pcall(bystander_is_well)
        assert(ok, ("seed %d, round %d: %s"):format(seed, round, tostring(err)))
      end
    end
  end)

  it("leaves no connection behind", function()
    local fds = server:fds()
    for round = 1, 60 do
      local client = server:connect()
      client:send_raw(mutated(generator(round)))
      harness.loop.poll()
      client:drop()
    end
    assert.is_true(harness.loop.wait(function()
      return server:fds() <= fds
    end, 10000), "descriptors are left open")
    bystander:send { op = 0, t = "CLIENTS" }
    assert.equal(1, bystander:expect("CLIENTS").d.count)
  end)
end)
