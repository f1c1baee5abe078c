-- strict = true: what a handler does to a global that nobody has declared is told at its line.
local harness = require "spec.support.harness"

describe("strict", function()
  local server, client

  local function start(files)
    server = harness.start("server.lua", { files = files })
    client = server:join()
  end
  after_each(function() server:stop() end)


  local SERVER = [[
    counter = 0
    require "mesa".new { port = 0, host = "127.0.0.1", strict = true, scripts = { message = "on_message.lua" } }
    unset = nil
    helper = require "helper"
  ]]
  local FILES = {
    ["server.lua"] = SERVER,
    ["helper.lua"] = "shared = { hits = 0 }\nlocal utf = utf8 or false\nreturn { utf = utf, set = function()\n  oops = 1\nend }\n",
    ["on_message.lua"] = [[
state = { "of this file" }
return function(message, client)
  local kind = message.type
  if kind == "WRITE" then
    forgotten = 1
  elseif kind == "READ" then
    return mispelt
  elseif kind == "MODULE" then
    helper.set()
  elseif kind == "DECLARED" then
    counter = counter + 1
    unset = unset or state
    shared.hits = shared.hits + 1
    client:send(require("mesa").Message(0, { counter = counter, raw = rawget(_G, "forgotten") == nil }, "OK"))
  end
end
]],
  }

  it("raises where a function writes or reads an undeclared global, in handler files and modules", function()
    start(FILES)
    client:send { op = 0, t = "WRITE" }
    server:log_contains "on_message%.lua:5: the function assigns the global forgotten, which is not declared: write local forgotten"
    client:send { op = 0, t = "READ" }
    server:log_contains "on_message%.lua:7: the function reads the global mispelt, which nobody has assigned"
    client:send { op = 0, t = "MODULE" }
    server:log_contains "helper%.lua:4: the function assigns the global oops"
  end)

  it("lets globals be used that the main part of a file has assigned", function()
    start(FILES)
    client:send { op = 0, t = "DECLARED" }
    assert.same({ counter = 1, raw = true }, client:expect("OK").d)
    assert.equal(0, server:log_count "error script")
  end)

  it("lets handler files be saved with new globals", function()
    start(FILES)
    server:write_file("on_message.lua", [[
fresh = 5
return function(message, client)
  fresh = fresh + 1
  client:send(require("mesa").Message(0, { fresh = fresh }, "OK"))
end
]])
    server:log_contains "reloaded on_message"
    client:send { op = 0, t = "X" }
    assert.same({ fresh = 6 }, client:expect("OK").d)
  end)

  it("is off unless it is asked for", function()
    start {
      ["server.lua"] = 'require "mesa".new { port = 0, host = "127.0.0.1", scripts = { message = "on_message.lua" } }\n',
      ["on_message.lua"] = "return function(message, client)\n  found = missing\n"
        .. "  client:send(require('mesa').Message(0, nil, 'OK'))\nend\n",
    }
    client:send { op = 0, t = "X" }
    client:expect "OK"
  end)
end)

describe("strict in a program with a metatable of its own for globals", function()
  it("is refused at Mesa.new", function()
    local run = harness.launch('setmetatable(_G, { __index = function() end })\nrequire "mesa".new { port = 0, strict = true }\n')
    assert.equal(1, (run:wait_exit()))
    assert.matches("server%.lua:2: Mesa%.new: strict cannot be used: the program has given the table of globals a metatable",
      run.process.stderr)
    run:destroy()
  end)
end)
