-- Mesa.Portal: the pool, the events, the life of its program (PROTOCOL 8, 9).
local cjson = require "cjson"
local harness = require "spec.support.harness"
local loop = require "spec.support.loop"
local redis = require "spec.support.redis"

describe("a portal", function()
  local store, news, started

  before_each(function()
    store = redis.start()
    news = store:subscribe "available_portals_pool"
  end)

  after_each(function()
    if started then
      started:destroy()
      started = nil
    end
    store:stop()
  end)

  local listeners = [[
    portal:on("connection", function(...) print("connection", select("#", ...)) end)
    portal:on("authentication", function(id) print("authentication", id) end)
    portal:on("message", function(m, id) print("message", m.opcode, m.type, Mesa.json.encode(m.data), m.sequence, id) end)
    portal:on("disconnection", function(id) print("disconnection", id) end)
  ]]

  local function launch(options, more)
    started = harness.launch(('local Mesa = require "mesa"\nlocal portal = Mesa.Portal(os.getenv "REDIS_URL", %s)\n%s%s'):format(
      options or "nil", listeners, more or ""), { env = { REDIS_URL = store.uri } })
    local update = cjson.decode(news:expect())
    assert.is_true(update.ready)
    return update.id
  end

  local function publish(update, channel)
    return store:command("PUBLISH", channel or "portal", type(update) == "string" and update or cjson.encode(update))
  end

  local function prints(line)
    started:stdout_contains((line:gsub("%p", "%%%0"))) -- gsub has a second result
  end

  it("is in the pool while it lives", function()
    local id = launch()
    assert.matches("^%x%x%x%x%x%x%x%x%-%x%x%x%x%-4%x%x%x%-[89ab]%x%x%x%-%x%x%x%x%x%x%x%x%x%x%x%x$", id)
    assert.same({ id }, store:command("SMEMBERS", "available_portals_pool"))
    assert.is_true(store:command("PTTL", "mesa:portal:" .. id) > 10000)
    started:stop()
    assert.same({ id = id, ready = false }, cjson.decode(news:expect()))
    assert.same({}, store:command("SMEMBERS", "available_portals_pool"))
    assert.equal(0, store:command("EXISTS", "mesa:portal:" .. id))
  end)

  it("is subscribed before it says so", function()
    local id = launch()
    assert.equal(1, publish { type = "connection", portalId = id })
    prints "connection\t0"
  end)

  it("emits what is published for it", function()
    local id = launch()
    publish { type = "authentication", clientId = "ann", portalId = id }
    publish { type = "message", message = { op = 0, d = { a = { 1 } }, t = "SAY", s = 3 }, clientId = "ann", portalId = id }
    publish { type = "message", message = { op = 7, d = {} }, portalId = id }
    publish { type = "disconnection", clientId = "ann", portalId = id }
    publish { type = "disconnection", portalId = id }
    prints "authentication\tann\n"
    prints 'message\t0\tSAY\t{"a":[1]}\t3\tann\n'
    prints "message\t7\tnil\t{}\tnil\tnil\n"
    prints "disconnection\tann\n"
    prints "disconnection\tnil\n"
  end)

  it("leaves what is for others to them, unless it reports all", function()
    local id = launch()
    publish { type = "authentication", clientId = "theirs", portalId = "other" }
    publish { type = "authentication", clientId = "mine", portalId = id }
    prints "authentication\tmine"
    assert.is_nil(started.process.stdout:find "theirs")
    started:stop()
    news:expect()

    launch "{ reportAllEvents = true }"
    publish { type = "authentication", clientId = "theirs", portalId = "other" }
    prints "authentication\ttheirs"
  end)

  it("keeps to its namespace, and says what it does when asked to", function()
    news = store:subscribe "available_portals_pool_api"
    local id = launch '{ namespace = "api", verbose = true }'
    assert.same({ id }, store:command("SMEMBERS", "available_portals_pool_api"))
    publish({ type = "authentication", clientId = "ann", portalId = id }, "portal_api")
    prints "authentication\tann"
    started:log_contains("portal " .. id:gsub("%-", "%%-") .. " is ready")
  end)

  it("survives what is no update", function()
    local id = launch(nil, 'portal:on("error", function(err) print("error", err.code, err.message) end)\n')
    local rubbish = {
      "", "no json", "{}", "[]", "null", "5", '"x"', '{"type":"message","portalId":"' .. id .. '"}',
      '{"type":"message","message":[],"portalId":"' .. id .. '"}', '{"type":"message","message":{"op":"0"},"portalId":"' .. id .. '"}',
      '{"type":"message","message":{"op":1.5},"portalId":"' .. id .. '"}', '{"type":5,"portalId":"' .. id .. '"}',
      '{"type":"other","portalId":"' .. id .. '"}', '{"type":"authentication","clientId":{},"portalId":"' .. id .. '"}',
      ("["):rep(5000), "\255\254", ('{"type":"connection","x":"%s"'):format(("x"):rep(100000)),
    }
    for _, text in ipairs(rubbish) do publish(text) end
    publish { type = "authentication", clientId = "ann", portalId = id }
    prints "authentication\tann"
    assert.equal(#rubbish, select(2, started.process.stdout:gsub("error\tPROTOCOL", "")))
  end)

  it("is back in the pool when Redis comes back empty", function()
    local id = launch()
    store:kill()
    store:restart()
    assert.is_true(loop.wait(function() return store:command("SCARD", "available_portals_pool") == 1 end, 5000))
    assert.same({ id }, store:command("SMEMBERS", "available_portals_pool"))
    assert.is_true(loop.wait(function() return publish { type = "connection", portalId = id } == 1 end, 5000))
    prints "connection\t0"
  end)

  it("closes by itself, and its program ends", function()
    local id = launch(nil, [[
      portal:on("authentication", function()
        portal:close(function(err) print("closed", err) end)
      end)
    ]])
    publish { type = "authentication", clientId = "ann", portalId = id }
    assert.equal(0, (started:wait_exit()))
    assert.matches("closed\tnil\n", started.process.stdout)
    assert.same({}, store:command("SMEMBERS", "available_portals_pool"))
    started:check_output()
  end)

  it("is taken out of the pool by a server when it is killed", function()
    local id = launch()
    local server = harness.start(([[
      local Mesa = require "mesa"
      local server = Mesa.new { port = 0, host = "127.0.0.1", redis = { uri = %q, lease = 1000 }, portal = { enabled = true } }
      server:use(function()
        return { onPortalJoin = function(id) print("joined", id) end, onPortalLeave = function(id) print("left", id) end }
      end)
    ]]):format(store.uri))
    server:stdout_contains("joined\t" .. id:gsub("%p", "%%%0"))
    started:signal "sigkill"
    server:stdout_contains("left\t" .. id:gsub("%p", "%%%0"), 25000) -- at the latest when its lease ends
    assert.same({}, store:command("SMEMBERS", "available_portals_pool"))
    assert.same({ id = id, ready = false }, cjson.decode(news:expect()))
    server:stop()
  end)

  it("that is killed takes none with it that has no lease, however many share a connection", function()
    started = harness.launch([[
      local Mesa = require "mesa"
      local connection = Mesa.redis.connect(os.getenv "REDIS_URL")
      Mesa.Portal(connection) Mesa.Portal(connection)
    ]], { env = { REDIS_URL = store.uri } })
    for _ = 1, 2 do assert.is_true(cjson.decode(news:expect()).ready) end
    local node = store:subscribe "portal" -- as a portal of Node
    store:command("SADD", "available_portals_pool", "node")
    local server = harness.start(([[
      local Mesa = require "mesa"
      local server = Mesa.new { port = 0, host = "127.0.0.1", redis = { uri = %q, lease = 500 }, portal = { enabled = true } }
      server:use(function() return { onPortalLeave = function(id) print("left", id) end } end)
    ]]):format(store.uri))
    loop.sleep(500) -- several looks at who is there
    started:signal "sigkill"
    server:stdout_contains("left\t%S+%s+left\t", 25000)
    loop.sleep(500)
    assert.same({ "node" }, store:command("SMEMBERS", "available_portals_pool"))
    assert.equal(1, store:command("PUBSUB", "NUMSUB", "portal")[2])
    node:close()
    server:stop()
  end)

  it("does not hang when Redis does", function()
    launch()
    store:freeze()
    started:signal "sigterm"
    assert.equal(0, (started:wait_exit(12000)))
    started:check_output()
  end)

  it("does not hang when there is no Redis", function()
    launch()
    store:kill()
    started:log_contains "lost"
    started:stop()
    started = nil
  end)

  it("waits for a Redis that is not there yet", function()
    store:kill()
    started = harness.launch([[
      local Mesa = require "mesa"
      local portal = Mesa.Portal(os.getenv "REDIS_URL")
      portal:on("authentication", function(id) print("authentication", id) end)
    ]], { env = { REDIS_URL = store.uri } })
    assert.is_false(started.process:wait(300))
    store:restart()
    assert.is_true(loop.wait(function() return store:command("SCARD", "available_portals_pool") == 1 end, 5000))
    publish { type = "authentication", clientId = "ann", portalId = store:command("SMEMBERS", "available_portals_pool")[1] }
    prints "authentication\tann"
    started:stop()
    started = nil
  end)
end)
