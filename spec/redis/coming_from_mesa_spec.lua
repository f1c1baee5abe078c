-- The README's section "Coming from Mesa", run as it is written: the programs below are made of the cells of its tables.
local fs = require "spec.support.fs"
local harness = require "spec.support.harness"
local redis = require "spec.support.redis"

-- The Lua of each row, by what its JavaScript begins with; `taken` are those that a program has been made of.
local rows, taken = {}, {}
for _, heading in ipairs { "## Coming from Mesa", "### Dispatchers and portals" } do
  local readme = fs.read "README.md"
  local from = assert(readme:find("\n" .. heading, 1, true), heading)
  local section = readme:sub(from, (readme:find("\n##", from + #heading, true) or 0) - 1)
  for js, lua in section:gmatch "\n| `([^\n]-)` | ([^\n]-) |" do rows[#rows + 1] = { js = js, lua = lua:match "`(.+)`" } end
end

local function cell(js)
  local found
  for i, row in ipairs(rows) do
    if row.js:sub(1, #js) == js then
      assert(not found or found == row.lua, "two rows begin with " .. js)
      found, taken[i] = row.lua, true
    end
  end
  return assert(found, "no row begins with " .. js)
end

-- Puts the cells where {…} stands in the text.
local function program(text)
  return (text:gsub("{{(.-)}}", function(js) return cell(js) end))
end

local server_program = program [[
  {{const { default: Mesa}}
  io.stdout:setvbuf "line"
  local uri, token = os.getenv "REDIS_URL", "1"
  local log = print
  local function find(id) return { id = id, name = "User " .. id } end
  {{const mesa = new Mesa({ port: 4000 })}}
  {{const Logger}}
  {{mesa.use(Logger)}}
  local function greet(client)
    local function bye(code, reason) print("bye", client.id, code, reason) end
    local steps = {
      all = function() {{mesa.send(new Message(0, { disabled}} end,
      some = function() {{mesa.send(new Message(0, { content}} end,
      others = function() {{mesa.send(new Message(0, { userId}} end,
      own = function() {{client.send(new Message(0, {}, 'LOGOUT'))}} end,
      lost = function() {{mesa.send(new Message(0, { typing}} end,
      update = function() {{client.updateUser(}} end,
      count = function() {{const [key]}} end,
      out = function() {{client.disconnect(4001)}} end,
    }
    local function handle(data, kind)
      print("received", kind, data.status)
      if steps[kind] then steps[kind]() end
    end
    {{client.authenticate(async}}
    {{client.on('message', message => handle(message.data, message.type))}}
    {{client.on('disconnect', }}
  end
  {{mesa.on('connection'}}
  {{const server = }} -- another one of the cluster
]]

local client_program = program [[
  {{const { default: Mesa}}
  io.stdout:setvbuf "line"
  local token, url = "1", "ws://localhost:4000"
  local function handle(data, kind) print("received", kind, data.content) end
  local function bye(code) print("disconnected", code) end
  {{const client = new Client('ws}}
  local function welcome(user)
    print("welcome", user.name)
    {{client.send(new Message(0, { status}}
  end
  {{client.on('connection'}}
  {{client.on('message', message => handle(message.data, message.type))}}
  {{client.on('disconnected'}}
  Mesa.setTimeout(function()
    local first = client
    {{const client = new Client(url}}
    print("second", client.connected)
    function leave() {{client.disconnect()}} end
    client:on("disconnected", function(code) print("second left", code) first:disconnect() end)
  end, 0)
  local uv = require "luv"
  local input = uv.new_pipe(false)
  input:open(0)
  input:read_start(function() input:close() leave() end)
]]

local portal_program = program [[
  {{const { default: Mesa}}
  io.stdout:setvbuf "line"
  local uri = os.getenv "REDIS_URL"
  {{const portal = }}
  local on = portal.on
  function portal:on(event, fn) return on(self, event, function(...) fn(...) print(event, ...) end) end
  {{portal.on('connection'}}
  {{portal.on('authentication'}}
  {{portal.on('message'}}
  {{portal.on('disconnection'}}
]]

local dispatcher_program = program [[
  {{const { default: Mesa}}
  local uri = os.getenv "REDIS_URL"
  {{const dispatcher = }}
  assert({{dispatcher.dispatch(new Message}})
  assert({{dispatcher.dispatch(new DispatchEvent}})
  dispatcher:close()
]]

describe("the steps from Mesa to Lua", function()
  local store, server, portal, program_of_client

  before_each(function()
    store = redis.start()
    local options = { env = { REDIS_URL = store.uri } }
    local pool = store:subscribe "available_portals_pool_api"
    portal = harness.launch(portal_program, options)
    pool:expect()
    local address = 'port = 0, host = "127.0.0.1", '
    server = harness.start(server_program
      :gsub("port = 4000", address .. 'redis = uri, namespace = "api", portal = { enabled = true }, sync = { enabled = true }')
      :gsub("local server = Mesa.new {", "%0 " .. address),
      { env = options.env, listeners = 2 })
    -- the servers have reached Redis, and know of the portal
    assert(harness.loop.wait(function()
      server:join():close()
      return store:command("PUBSUB", "NUMSUB", "ws_api")[2] == 2 and portal.process.stdout:find("connection", 1, true)
    end, 10000), portal:output())
  end)

  after_each(function()
    if program_of_client then program_of_client:stop() end
    program_of_client = nil
    server:stop()
    portal:stop()
    store:stop()
  end)

  local function login(id)
    local client = server:join()
    client:send { op = 2, d = { token = id } }
    assert.same({ id = id, name = "User " .. id }, client:expect(22).d)
    return client
  end

  local function step(client, name)
    client:send { op = 0, t = name, d = { status = "ok" } }
  end

  it("send to all, to some, to others and to one", function()
    local zero, one, stranger = login "0", login "1", server:join(nil, { port = server.ports[2] })
    step(zero, "all")
    for _, client in ipairs { zero, one, stranger } do
      assert.same({ disabled = true }, client:expect("MANIFEST_UPDATE").d)
    end
    step(zero, "some")
    assert.same({ content = "Hey!" }, zero:expect("NEW_MESSAGE").d)
    assert.same({ content = "Hey!" }, one:expect("NEW_MESSAGE").d)
    step(zero, "others")
    for _, client in ipairs { zero, stranger } do
      assert.same({ userId = "1" }, client:expect("STATUS_UPDATE").d)
    end
    step(one, "own")
    one:expect "LOGOUT"
    for _, client in ipairs { one, stranger } do
      for _, message in ipairs(client:drain()) do error("nothing more was for him: " .. message.raw) end
    end
    server:stdout_contains "received\tall\tok\n"
  end)

  it("keep for those who are offline what is not said to be lost", function()
    local zero = login "0"
    step(zero, "some")
    zero:expect "NEW_MESSAGE"
    step(zero, "lost")
    step(zero, "own")
    zero:expect "LOGOUT"
    local two = login "2"
    local kept = two:next()
    assert.same({ "NEW_MESSAGE", 1 }, { kept.t, kept.s })
    step(two, "own")
    assert.equal("LOGOUT", two:next().t)
  end)

  it("change and disconnect users, with middleware told", function()
    local zero = login "0"
    step(zero, "update")
    step(zero, "count")
    assert(harness.loop.wait(function() return store:command("GET", "seen_mw-metrics_api") == "1" end, 5000))
    step(zero, "out")
    zero:expect_close(4001)
    server:stdout_contains "bye\t7\t4001"
    server:stdout_contains "\n4001\n"
    assert.matches("in\n", server.process.stdout)
  end)

  it("tell portals, and take what dispatchers send", function()
    local zero, one = login "0", login "1"
    step(one, "hello")
    for _, line in ipairs { "authentication\t0", "authentication\t1", "message\t.*\t1\n" } do portal:stdout_contains(line) end
    local dispatcher = harness.launch(dispatcher_program, { env = { REDIS_URL = store.uri } })
    assert.equal(0, dispatcher:wait_exit(10000), dispatcher:output())
    dispatcher:stop()
    assert.same({ status = "on" }, zero:expect("STATUS").d)
    zero:expect_close(1000)
    portal:stdout_contains "disconnection\t0"
    step(one, "own")
    assert.equal("LOGOUT", one:next().t)
  end)

  it("are the same for clients", function()
    program_of_client = harness.launch((client_program:gsub(":4000", ":" .. server.port)))
    for _, line in ipairs { "welcome\tUser 1", "second\ttrue" } do program_of_client:stdout_contains(line) end
    server:stdout_contains "received\tSTATUS_UPDATE\tonline"
    step(login "0", "some")
    program_of_client:stdout_contains "received\tNEW_MESSAGE\tHey!"
    program_of_client.process:write "leave\n"
    program_of_client:stdout_contains "second left\t1000"
    program_of_client:stdout_contains "disconnected\t1000"
    assert.equal(0, program_of_client:wait_exit(10000))
  end)

  it("are all of these", function()
    for i, row in ipairs(rows) do assert.is_true(taken[i] or row.lua == nil, row.js) end
  end)
end)
