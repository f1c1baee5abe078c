local harness = require "spec.support.harness"

local CONNECTIONS, REWRITES = 200, 50

local MAIN = [[
local server = require("mesa").new { port = 0, host = "127.0.0.1", scripts = { message = "on_message.lua" } }
server:on("reload", function(event) print("reloaded") end)
server:on("error", function(err) print("error " .. err.code) end)
]]

local function good(version)
  return ([[
    local Mesa = require "mesa"
    return function(message, client)
      client:send(Mesa.Message(0, { n = message.data.n, version = %d }, "ANSWER"), true)
    end
  ]]):format(version)
end

describe("reload under load", function()
  it("loses no connection, loses and doubles no message, and answers from good versions only", function()
    local server = harness.start(nil, { files = { ["server.lua"] = MAIN, ["on_message.lua"] = good(0) } })
    local good_versions, latest, failure, answers = { [0] = true }, 0, nil, 0
    local clients = {}

    local function ask(client)
      client.asked = client.asked + 1
      client:send(('{"op":0,"t":"ASK","d":{"n":%d}}'):format(client.asked))
    end

    for i = 1, CONNECTIONS do
      local client = server:join()
      client.asked, client.version = 0, 0
      client.sink = function(message)
        local n, version = message.raw:match '"n":(%d+)', message.raw:match '"version":(%d+)'
        n, version = tonumber(n), tonumber(version)
        if n ~= client.asked then
          failure = failure or ("connection %d asked %d and got %s"):format(i, client.asked, message.raw)
        elseif not good_versions[version] then
          failure = failure or ("connection %d got an answer of the bad version %s"):format(i, message.raw)
        elseif version < client.version then
          failure = failure or ("connection %d went back from version %d to %d"):format(i, client.version, version)
        end
        client.version = version
        latest = math.max(latest, version)
        answers = answers + 1
        if not client.finishing then
          ask(client)
        end
      end
      clients[i] = client
    end
    for _, client in ipairs(clients) do
      ask(client)
    end

    for version = 1, REWRITES do
      if version % 5 == 0 then
        local mark = server:log_mark()
        server:write_file("on_message.lua", good(version) .. "\nend end syntax error")
        server:log_contains("on_message%.lua:%d+:", 10000, mark)
      else
        good_versions[version] = true
        server:write_file("on_message.lua", good(version))
        assert.is_true(harness.loop.wait(function()
          return latest == version or failure
        end, 10000), ("version %d never answered\n%s"):format(version, server:output()))
      end
      assert.is_nil(failure)
    end

    for _, client in ipairs(clients) do
      client.finishing = true
    end
    local function all_answered()
      local total = 0
      for _, client in ipairs(clients) do
        total = total + client.asked
      end
      return answers == total
    end
    assert.is_true(harness.loop.wait(all_answered, 10000))
    harness.loop.sleep(100) -- a doubled answer would come now
    assert.is_true(all_answered())
    assert.is_nil(failure)
    assert.equal(49, latest)
    for _, client in ipairs(clients) do
      assert.is_nil(client.close_code)
      assert.is_falsy(client.gone)
    end
    server:stop()
  end)
end)
