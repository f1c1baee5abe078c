local harness = require "spec.support.harness"
local ws_frame = require "spec.support.ws_frame"

-- What each bad input is answered with (PROTOCOL 1 and 7). `send` is a text, or a function on the client.
local bad_inputs = {
  { "text that is not JSON", 1007, "hello" },
  { "an empty message", 1007, "" },
  { "white space alone", 1007, "  \n" },
  { "an unfinished object", 1007, '{"op":0,"d":{}' },
  { "text behind the object", 1007, '{"op":0,"d":{}} x' },
  { "two objects", 1007, '{"op":0,"d":{}}{"op":0,"d":{}}' },
  { "an array", 1007, '[{"op":0}]' },
  { "a string", 1007, '"op"' },
  { "a number", 1007, "0" },
  { "null", 1007, "null" },
  { "an object without op", 1007, '{"d":{},"t":"ECHO"}' },
  { "an op of null", 1007, '{"op":null,"d":{}}' },
  { "an op that is a string", 1007, '{"op":"0","d":{}}' },
  { "an op that is a fraction", 1007, '{"op":0.5,"d":{}}' },
  { "an op that is an object", 1007, '{"op":{},"d":{}}' },
  { "an op that is true", 1007, '{"op":true,"d":{}}' },
  { "a type that is a number", 1007, '{"op":0,"d":{},"t":5}' },
  { "a type that is an object", 1007, '{"op":0,"d":{},"t":{}}' },
  { "a sequence that is a string", 1007, '{"op":0,"d":{},"t":"ECHO","s":"1"}' },
  { "options that are no object", 1007, '{"op":0,"d":{},"t":"ECHO","o":"sync"}' },
  { "a key without quotes", 1007, "{op:0}" },
  { "single quotes", 1007, "{'op':0}" },
  { "a trailing comma", 1007, '{"op":0,"d":{},}' },
  { "NaN in the data", 1007, '{"op":0,"d":NaN}' },
  { "Infinity in the data", 1007, '{"op":0,"d":-Infinity}' },
  { "a number with a leading zero", 1007, '{"op":0,"d":01}' },
  { "a hexadecimal number", 1007, '{"op":0,"d":0x10}' },
  { "a comment", 1007, '{"op":0,/* d */"d":{}}' },
  { "a raw control character in a string", 1007, '{"op":0,"d":"a\tb"}' },
  { "an unknown escape", 1007, [[{"op":0,"d":"\q"}]] },
  { "half of a surrogate escape", 1007, [[{"op":0,"d":"\ud80"}]] },
  { "a number that is too large", 1007, '{"op":0,"d":{"n":1e999}}' },
  { "a number that is too large behind data of more than a block", 1007, '{"op":0,"d":{"a":"' .. ("x"):rep(200) .. '","n":-1e999}}' },
  { "bad JSON deep inside data that nobody reads", 1007, '{"op":0,"t":"ECHO","d":{"a":[1,2,{"b":tru}]}}' },
  { "bad JSON in a heartbeat acknowledgement", 1007, '{"op":11,"d":{]}' },
  { "nesting over the limit", 1007, '{"op":0,"d":' .. ("["):rep(200) .. ("]"):rep(200) .. "}" },
  { "a byte order mark", 1007, '\239\187\191{"op":0,"d":{}}' },
  { "invalid UTF-8 in a text message", 1007, '{"op":0,"d":"\255\254"}' },
  { "overlong UTF-8", 1007, '{"op":0,"d":"\192\175"}' },
  { "a surrogate in UTF-8", 1007, '{"op":0,"d":"\237\160\128"}' },
  { "UTF-8 that stops inside a character", 1007, '{"op":0,"d":"\226\130"}' },
  { "invalid UTF-8 in a binary message", 1007, function(c)
    c:send_binary '{"op":0,"d":"\255"}'
  end },
  { "binary bytes that are no JSON", 1007, function(c)
    c:send_binary "\0\1\2\3"
  end },
  { "op 5 from a client", 1002, '{"op":5,"d":{},"t":"DISCONNECT_CLIENT"}', any_of = { [1002] = true, [1007] = true } },
  { "a message over limits.maxPayload", 1009, function(c)
    c:send { op = 0, t = "ECHO", d = { text = ("x"):rep(70000) } }
  end },
  { "the announcement of a message over limits.maxPayload", 1009, function(c)
    c:send_raw(ws_frame.encode(1, "x", { length = 2 ^ 40, wide = 8 }))
  end, answer_unseen = true }, -- it is taken for a part of what was announced
  { "fragments that add up to more than limits.maxPayload", 1009, function(c)
    local piece = ("x"):rep(30000)
    c:send_fragments { '{"op":0,"d":"', piece, piece, piece, '"}' }
  end },
}

for _, transport in ipairs(harness.channels) do
  describe("bad input over " .. transport.name, function()
    local server, bystander

    setup(function()
      server = harness.lab({ limits = { maxPayload = 65536 }, authentication = { timeout = false } }, transport)
      bystander = server:join()
    end)

    teardown(function()
      server:stop()
    end)

    local function events_of(server_id)
      bystander:send { op = 0, t = "EVENTS" }
      local names = {}
      for _, event in ipairs(bystander:expect("EVENTS").d.events) do
        if event.client == server_id then
          names[event.name] = (names[event.name] or 0) + 1
          assert.is_true(event.name == "disconnect" or #event.message > 0)
        end
      end
      return names
    end

    for _, case in ipairs(bad_inputs) do
      local what, code, input = unpack(case)

      it(("closes with %d on %s, reports it once, and leaves others alone"):format(code, what), function()
        local victim = server:join()
        victim:send { op = 0, t = "ME" }
        local server_id = victim:expect("ME").d.serverId
        local mark = server:log_mark()

        if type(input) == "function" then
          input(victim)
        else
          victim:send(input)
        end
        if case.any_of then
          harness.loop.wait(function()
            return victim.close_code or victim.gone
          end, 5000)
          assert.is_true(case.any_of[victim.close_code], victim:state())
        elseif case.answer_unseen then
          victim:expect_close(code, { keep_open = true })
          victim:drop()
        else
          victim:expect_close(code)
        end

        local names
        harness.loop.wait(function()
          names = events_of(server_id)
          return names.disconnect
        end, 5000)
        assert.equal(1, names["client error"])
        assert.equal(1, names["server error"])
        assert.equal(1, names["disconnect"])
        -- one line, or none when it was counted
        local lines = server:log_count("^%S+ %a+ +%a+: ", mark) - server:log_count("^%S+ [di]%a+ +%a+: ", mark)
        assert.is_true(lines - server:log_count("… and %d+ more of", mark) <= 1, server:output())
      end)
    end

    it("does not act on a message whose data is bad", function()
      local victim = server:join()
      victim:send '{"op":0,"t":"ECHO","d":{"a":}}'
      victim:expect_close(1007)
      assert.equal(0, #victim.inbox)
    end)
  end)
end

describe("hostile sizes", function()
  local server

  after_each(function()
    server:stop()
  end)

  it("survives ten megabytes of '[' within maxPayload and closes with 1007", function()
    server = harness.lab { limits = { maxPayload = 16 * 1024 * 1024 } }
    local victim, bystander = server:join(), server:join()
    victim:send(("["):rep(10 * 1024 * 1024))
    victim:expect_close(1007, { timeout = 20000 })
    bystander:send { op = 0, t = "ECHO", d = { alive = true } }
    assert.is_true(bystander:expect("ECHO").d.alive)
  end)

  it("refuses ten megabytes of '[' over maxPayload with 1009 before buffering them", function()
    server = harness.lab {}
    local victim, bystander = server:join(), server:join()
    victim:send(("["):rep(10 * 1024 * 1024))
    victim:expect_close(1009, { keep_open = true })
    bystander:send { op = 0, t = "ECHO", d = { alive = true } }
    assert.is_true(bystander:expect("ECHO").d.alive)
  end)
end)

describe("good input", function()
  local server, client

  setup(function()
    server = harness.lab { authentication = { timeout = false } }
    client = server:join()
  end)

  teardown(function()
    server:stop()
  end)

  local function echo(data)
    client:send('{"op":0,"t":"ECHO","d":' .. data .. "}")
    return client:expect("ECHO").raw:match '"d":(.*),"t":"ECHO"}$' or client:state()
  end

  for what, data in pairs {
    ["an empty array"] = "[]",
    ["an empty object"] = "{}",
    ["nested empty containers"] = '[{},[],{"a":[]},{"b":{}}]',
    ["null"] = "null",
    ["null in a list"] = "[1,null,2]",
    ["2^53"] = "9007199254740992",
    ["-2^53"] = "-9007199254740992",
    ["a double of 17 digits"] = "0.30000000000000004",
    ["booleans"] = "[true,false]",
    ["a string"] = '"text"',
    ["a non-BMP character"] = '"\240\159\152\128"',
    ["a solidus"] = '"a/b"',
    ["an escaped quote"] = [["say \"hi\""]],
  } do
    it("carries " .. what .. " unchanged", function()
      assert.equal(data, echo(data))
    end)
  end

  it("accepts white space wherever JSON does", function()
    client:send ' \n{ "op" : 0 ,\t"t" : "ECHO" , "d" : { "a" : 1 } } \r\n'
    assert.same({ a = 1 }, client:expect("ECHO").d)
  end)

  it("accepts keys in any order and ignores unknown ones", function()
    client:send '{"x":[1,2],"d":{"a":1},"t":"ECHO","y":null,"op":0}'
    assert.same({ a = 1 }, client:expect("ECHO").d)
  end)

  it("takes the last of duplicate keys, for the core and for scripts", function()
    client:send '{"op":11,"op":0,"t":"NO","t":"ECHO","d":1,"d":2}'
    assert.equal(2, client:expect("ECHO").d)
  end)

  it("takes the same JSON from a binary message", function()
    client:send_binary '{"op":0,"t":"ECHO","d":{"binary":true}}'
    local answer = client:expect "ECHO"
    assert.same({ binary = true }, answer.d)
    assert.is_false(answer.binary)
  end)

  it("accepts nesting up to the limit", function()
    local data = ("["):rep(100) .. ("]"):rep(100)
    assert.equal(data, echo(data))
  end)

  it("accepts escapes in the key names of the envelope", function()
    client:send([[{"\u006fp":0,"t":"\u0045CHO","d":7}]])
    assert.equal(7, client:expect("ECHO").d)
  end)

  it("accepts an op written as 0.0 or 0e0, which is an integer", function()
    client:send '{"op":0.0,"t":"ECHO","d":1}'
    assert.equal(1, client:expect("ECHO").d)
  end)
end)
