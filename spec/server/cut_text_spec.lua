-- A browser's slice through an emoji, which JSON.stringify writes as an escape like \ud83d without its partner.
local harness = require "spec.support.harness"

local REPLACEMENT = "\239\191\189" -- U+FFFD

describe("half an emoji", function()
  local server

  setup(function()
    server = harness.start [[
      local Mesa = require "mesa"
      local server = Mesa.new { port = 0, host = "127.0.0.1", options = { storeMessages = 4 }, sync = { enabled = true } }
      server:on("connection", function(client)
        client:authenticate(function(data, done) done(nil, { id = data.id, user = data }) end)
      end)
      server:on("message", function(message, client)
        local answer
        if message.type == "UNREAD" then
          answer = Mesa.Message(0, message.data, "ANSWER")
        elseif message.type == "READ" then
          local text = message.data.text
          local key = next(message.data.keys)
          answer = Mesa.Message(0, { text = text, bytes = #text, [key] = true }, "ANSWER")
        elseif message.type == "JSON" then
          local value, err = Mesa.json.decode(message.data)
          answer = Mesa.Message(0, { value = value, err = err, again = value and Mesa.json.encode(value) }, "ANSWER")
        elseif message.type == "STORED" then
          answer = Mesa.Message(0, client.messages.received[1].data, "ANSWER")
        elseif message.type == "KEEP" then
          server:send(Mesa.Message(0, message.data, "KEPT"), { "away" })
          return
        else
          answer = Mesa.Message(0, {}, message.type)
        end
        client:send(answer, true)
      end)
    ]]
  end)

  teardown(function() server:stop() end)

  -- The text of the answer, which a strict parser takes.
  local function answer(text, wanted)
    local client = server:join()
    client:send(text)
    return client:expect(wanted or "ANSWER").d, client
  end

  it("in data that no handler reads comes back as U+FFFD", function()
    assert.same({ text = "cut " .. REPLACEMENT }, answer [[{"op":0,"t":"UNREAD","d":{"text":"cut \ud83d"}}]])
    assert.same({ REPLACEMENT .. REPLACEMENT, "😀" }, answer [[{"op":0,"t":"UNREAD","d":["\uDE00\uD83D","\ud83d\ude00"]}]])
  end)

  it("in data that a handler reads is U+FFFD, as a value and as a key", function()
    local d = answer [[{"op":0,"t":"READ","d":{"text":"\ud83d","keys":{"\ude00":1}}}]]
    assert.same({ text = REPLACEMENT, bytes = 3, [REPLACEMENT] = true }, d)
  end)

  it("behind more than a block of text is found, too", function()
    local long = ("long "):rep(100)
    assert.same({ text = long .. REPLACEMENT },
      answer('{"op":0,"t":"UNREAD","d":{"text":"' .. long .. [[\ud83d"}}]]))
  end)

  it("in the type is U+FFFD", function()
    answer([[{"op":0,"t":"\ud83d","d":{}}]], REPLACEMENT)
  end)

  it("in credentials is part of the id and of the user", function()
    local client = server:join()
    client:send [[{"op":2,"d":{"id":"ann \ud83d"}}]]
    assert.same({ id = "ann " .. REPLACEMENT }, client:expect(22).d)
  end)

  it("in a text for Mesa.json.decode is U+FFFD", function()
    local d = answer [[{"op":0,"t":"JSON","d":"[\"\\ud83d\"]"}]]
    assert.same({ value = { REPLACEMENT }, again = '["' .. REPLACEMENT .. '"]' }, d)
    d = answer [[{"op":0,"t":"JSON","d":"[\"\\ud83d\",]"}]]
    assert.equal("expected a value at byte 11", d.err)
  end)

  it("is stored and redelivered as U+FFFD", function()
    local d, client = answer [[{"op":0,"t":"UNREAD","d":"first \ud83d"}]]
    assert.equal("first " .. REPLACEMENT, d)
    client:send { op = 0, t = "STORED" }
    assert.equal("first " .. REPLACEMENT, client:expect("ANSWER").d)
    client:send [[{"op":0,"t":"KEEP","d":"kept \ud83d"}]]
    client:send { op = 0, t = "DONE" }
    client:expect "DONE"
    local away = server:join()
    away:send { op = 2, d = { id = "away" } }
    assert.equal("kept " .. REPLACEMENT, away:expect("KEPT").d)
  end)
end)
