-- The system refuses memory, with or without limits.scriptMemory: what the core hands over to Lua does not fail, the handler
-- that takes too much does, and the server serves on.
local harness = require "spec.support.harness"

-- The process limits its own address space: `limit(megabytes)` allows so many more than it has, `limit()` as many as it likes.
local LIMIT = [[
  local ffi = require "ffi"
  ffi.cdef "typedef struct { unsigned long current, max; } rlimit_t; int setrlimit(int, const rlimit_t *); int getrlimit(int, rlimit_t *);"
  local ADDRESS_SPACE = 9
  local function limit(megabytes)
    local r = ffi.new "rlimit_t"
    assert(ffi.C.getrlimit(ADDRESS_SPACE, r) == 0)
    r.current = r.max
    if megabytes then
      local file = assert(io.open "/proc/self/statm")
      r.current = file:read "*n" * 4096 + megabytes * 2 ^ 20
      file:close()
    end
    assert(ffi.C.setrlimit(ADDRESS_SPACE, r) == 0)
  end
]]

-- Sanitizers end the process where they are refused, unless told otherwise, and keep freed memory.
local ENV = { ASAN_OPTIONS = "detect_leaks=1:exitcode=86:abort_on_error=0:allocator_may_return_null=1:quarantine_size_mb=1" }

describe("a server that the system gives no more memory", function()
  local server

  after_each(function()
    server:stop()
  end)

  local function start(extra)
    server = harness.lab({ authentication = { timeout = 300000 } }, { env = ENV, extra = LIMIT .. [[
      local failed = 0
      server:on("error", function(err)
        if err.code == "SCRIPT" then failed = failed + 1 print("FAILED", failed, err.message) end
      end)
      server:on("connection", function(client)
        client:on("message", function(message)
          if message.type == "PING" then client:send(Message(0, message.data, "PONG"), true)
          elseif message.type == "LIMIT" then limit(message.data.megabytes) client:send(Message(0, {}, "LIMITED"), true) end
        end)
      end)
    ]] .. extra })
    return server:join()
  end

  local function answers(client)
    assert.is_true(harness.loop.wait(function()
      client:send { op = 0, t = "PING", d = { "x", { y = 1 } } }
      return pcall(client.expect, client, "PONG", { timeout = 500 })
    end, 40000))
  end

  local function limited(client, megabytes)
    client:send { op = 0, t = "LIMIT", d = { megabytes = megabytes } }
    client:expect "LIMITED"
  end

  local shapes = {
    ["small objects"] = "local t = {} while true do t[#t + 1] = {} end",
    ["strings"] = "local t = {} for i = 1, 1e9 do t[i] = ('x'):rep(100) .. i end",
    ["a string that doubles"] = "local s = 'x' while true do s = s .. s end",
    ["decoded JSON"] = [[local list, text = {}, "[" .. ("{},"):rep(20000) .. "1]"
      while true do list[#list + 1] = Mesa.json.decode(text) end]],
  }
  for name, code in pairs(shapes) do
    it("ends a handler that makes " .. name .. ", and serves on", function()
      local client = start(([[
        server:on("connection", function(client)
          client:on("message", function(message) if message.type == "GROW" then %s end end)
        end)
      ]]):format(code))
      limited(client, 32)
      for i = 1, 2 do
        client:send { op = 0, t = "GROW" }
        server:stdout_contains("FAILED\t" .. i .. "\t[^\n]*not enough memory", 40000)
        answers(client)
      end
      server:join():close() -- connection, authentication and disconnect have their handlers, too
      answers(client)
      limited(client)
      answers(client)
    end)
  end

  -- Nothing but what the core makes for events is kept, so that it is the core that is refused, each time somewhere else.
  it("loses events and not itself, whichever finds no memory left", function()
    local client = start [[
      KEEP, SENT = {}, 0
      server:use(function() return {
        onMessageSent = function(message, clients) KEEP[#KEEP + 1] = clients SENT = SENT + 1 end,
      } end)
      server:on("connection", function(client)
        KEEP[#KEEP + 1] = client.request
        client:authenticate(function(data, done) KEEP[#KEEP + 1] = data done(nil, { id = "user" .. #KEEP % 10 }) end)
        client:on("disconnect", function(event)
          KEEP[#KEEP + 1] = event
          if client.filler then KEEP = {} limit() end
        end)
        client:on("message", function(message)
          if message.type == "KEEP" then
            client.filler = true
            KEEP[#KEEP + 1] = message.data
            if #KEEP % 8 == 0 then server:send(Message(0, {}, "ALL")) end
          end
        end)
      end)
      server:on("request", function(request, response) KEEP[#KEEP + 1] = request response:send "ok" end)
    ]]
    limited(client, 24)
    local others, sizes = {}, { 10, 200, 500, 3000, 9000 }
    local refused = harness.loop.wait(function()
      local other = server:try_connect()
      if other then
        others[#others + 1] = other
        other:send { op = 2, d = { token = ("t"):rep(#others) } }
      end
      for i = 1, 100 do
        client:send { op = 0, t = "KEEP", d = { ("x"):rep(sizes[i % #sizes + 1]), i, { i } } }
      end
      if #others % 3 == 0 then pcall(server.http, server, "GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n") end
      if #others % 5 == 0 then table.remove(others):close() end
      return server:output():find("not enough memory", 1, true) ~= nil
    end, 60000)
    assert.is_true(refused)
    client:close() -- its disconnect handler frees what is kept, and ends the shortage
    client = server:join()
    answers(client)
  end)
end)
