-- A client that sends without end, to a handler that takes long, leaves everybody else their turn. What the others wait
-- for is counted in the flooder's messages: a busy machine changes no count that matters here.
local harness = require "spec.support.harness"
local redis = require "spec.support.redis"
local ws_frame = require "spec.support.ws_frame"

local FLOOD = 20000 -- messages; of 1 ms each
local FEW = 20

-- COUNT is answered with how many messages of flooders were handled so far, and so is who connects.
local SOURCE = [[
  local Mesa = require "mesa"
  local Message = Mesa.Message
  local handled, since_tick, most_between_ticks = 0, 0, 0
  local server = Mesa.new { port = 0, host = "127.0.0.1", admin = { host = "127.0.0.1", port = 0 }, %s }
  local function busy()
    local til = os.clock() + 0.001
    while os.clock() < til do end
  end
  Mesa.setInterval(function()
    most_between_ticks = math.max(most_between_ticks, since_tick)
    since_tick = 0
  end, 1)
  server:on("connection", function(client)
    client:send(Message(0, { handled = handled }, "CAME"), true)
    local expected = 0
    client:on("message", function(message)
      if message.type == "COUNT" then
        local d = { handled = handled, mostBetweenTicks = most_between_ticks }
        return client:send(Message(0, d, "COUNTED"), true)
      end
      assert(message.data == expected, "out of order")
      expected = expected + 1
      handled, since_tick = handled + 1, since_tick + 1
      busy()
    end)
  end)
  %s
]]

local function median(values)
  table.sort(values)
  return values[math.ceil(#values / 2)]
end

for _, transport in ipairs(harness.transports) do
  describe("a flood of small messages over " .. transport.name, function()
    local server, data

    after_each(function()
      server:destroy()
      if data then data:stop() end
      data = nil
    end)

    local function start(config, extra)
      local pair = transport.tls and harness.tls.certificate()
      if pair then
        config = ("tls = { cert = %q, key = %q }, "):format(pair.cert, pair.key) .. (config or "")
      end
      server = harness.start(SOURCE:format(config or "", extra or ""))
      server.tls = transport.tls
    end

    -- Does not wait for anything: the kernel and the test's own stream keep what the server does not take.
    local function flood()
      local flooder, frames = server:join(), {}
      for n = 0, FLOOD - 1 do
        frames[#frames + 1] = ws_frame.encode(ws_frame.TEXT, ('{"op":0,"d":%d,"t":"F"}'):format(n))
      end
      flooder.stream:write(table.concat(frames))
      return flooder
    end

    local function count(client)
      client:send { op = 0, t = "COUNT" }
      return client:expect("COUNTED", { timeout = 20000 }).d
    end

    it("lets another client and a new one in between a few of them, and timers", function()
      start()
      local other = server:join()
      flood()
      assert.is_true(harness.loop.wait(function() return count(other).handled > 0 end, 20000))
      local between, to_join = {}, {}
      local before = count(other).handled
      for i = 1, 21 do
        local now = count(other).handled
        between[i], before = now - before, now
      end
      for i = 1, 7 do
        before = count(other).handled
        local late = server:join(nil, { timeout = 20000 })
        to_join[i] = late:expect("CAME", { timeout = 20000 }).d.handled - before
        late:close()
      end
      local last = count(other)
      assert.is_true(last.handled < FLOOD, "the flood was over too soon to say anything")
      assert.is_true(median(between) <= FEW, table.concat(between, " "))
      assert.is_true(median(to_join) <= 2 * FEW, table.concat(to_join, " "))
      assert.is_true(last.mostBetweenTicks <= FEW, tostring(last.mostBetweenTicks))
      assert.is_nil(server.process.stderr:find "out of order")
    end)

    it("lets Redis in between", function()
      data = redis.start()
      start(("redis = %q"):format(data.uri), [[
        server:on("request", function(_, response)
          local between = {}
          for i = 1, 21 do
            local before = handled
            assert(server.redis:command("PING"))
            between[i] = handled - before
          end
          response:json(between)
        end)
      ]])
      local other = server:join()
      flood()
      assert.is_true(harness.loop.wait(function() return count(other).handled > 0 end, 20000))
      local answer = server:http { path = "/" }
      assert.is_true(count(other).handled < FLOOD, "the flood was over too soon to say anything")
      local between = require("cjson").decode(answer.body)
      assert.is_true(median(between) <= FEW, answer.body)
    end)

    it("does not keep SIGTERM from ending the program in order", function()
      start()
      local other, flooder = server:join(), flood()
      assert.is_true(harness.loop.wait(function() return count(other).handled > 0 end, 20000))
      local handled = count(other).handled
      server:signal "sigterm"
      other:expect_close(1001)
      flooder:expect_close(1001)
      assert.equal(0, (server:wait_exit()), server:output())
      server:check_output()
      assert.is_true(handled < FLOOD)
      assert.is_nil(server.process.stderr:find "took too long", server:output())
      assert.is_nil(server.process.stderr:find "could be closed in time", server:output())
    end)
  end)
end
