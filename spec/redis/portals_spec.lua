-- What servers tell portals (PROTOCOL 9). The portals here are the spec's own: they know nothing but the protocol.
local cjson = require "cjson"
local cluster = require "spec.support.cluster"
local loop = require "spec.support.loop"

local record = [[
  server:use(function()
    return {
      onPortalJoin = function(id) record("join", { id = id }) end,
      onPortalLeave = function(id) record("leave", { id = id }) end,
    }
  end)
]]

local function enter(c, id)
  c.redis:command("PUBLISH", "available_portals_pool", cjson.encode { id = id, ready = true })
  c.redis:command("SADD", "available_portals_pool", id)
end

-- Enters the pool as Node's portal does: a connection that is subscribed, another that announces it.
local function portal(c, id)
  local subscriber = c.redis:subscribe "portal"
  enter(c, id)
  return subscriber
end

local function leave(c, id)
  c.redis:command("PUBLISH", "available_portals_pool", cjson.encode { id = id, ready = false })
  c.redis:command("SREM", "available_portals_pool", id)
end

local function events(client)
  client:send { op = 0, t = "EVENTS" }
  local list = {}
  for _, event in ipairs(client:expect("EVENTS").d.events) do
    if event.name == "join" or event.name == "leave" then list[#list + 1] = event.name .. " " .. event.id end
  end
  return list
end

local function expect_event(client, text, timeout)
  assert(loop.wait(function()
    for _, event in ipairs(events(client)) do
      if event == text then return true end
    end
  end, timeout or 5000), text .. " never came")
end

describe("a server with portal.enabled", function()
  local c, a
  local function start(config)
    c = cluster.start()
    config = config or {}
    config.portal = config.portal or { enabled = true }
    a = c:lab(config, { extra = record })
    c:settle(1)
  end
  after_each(function() c:stop() end)

  it("tells a portal of connections, authentications, messages and disconnections", function()
    start()
    local p = portal(c, "p1")
    local watcher = a:join()
    expect_event(watcher, "join p1")
    p.published = {}
    local anna = a:join()
    local first = p:expect(function(text) return not text:find "EVENTS" end)
    assert.same({ type = "connection", portalId = "p1" }, cjson.decode(first))
    anna:send { op = 2, d = { id = "anna" } }
    assert.same({ type = "authentication", clientId = "anna", portalId = "p1" },
      cjson.decode(p:expect(function(text) return text:find "authentication" end)))
    anna:send('{"op":0,"d":{"list":[]},"t":"MINE","o":{"sync":false},"s":3}')
    local text = p:expect(function(t) return t:find "MINE" end)
    assert.truthy(text:find('"message":{"op":0,"d":{"list":[]},"t":"MINE"}', 1, true), text)
    assert.equal("anna", cjson.decode(text).clientId)
    anna:send { op = 77, t = "UNKNOWN" }
    p:expect(function(t) return t:find "UNKNOWN" end)
    anna:send { op = 1 }
    anna:close()
    local last = p:expect(function(t) return not t:find "EVENTS" end)
    assert.same({ type = "disconnection", clientId = "anna", portalId = "p1" }, cjson.decode(last))
  end)

  it("takes them in turn", function()
    start()
    local watcher = a:join()
    local p = portal(c, "p1")
    expect_event(watcher, "join p1")
    portal(c, "p2")
    portal(c, "p3")
    expect_event(watcher, "join p2")
    expect_event(watcher, "join p3")
    p.published = {}
    local turns = {}
    for _ = 1, 30 do watcher:send { op = 0, t = "TICK" } end
    for _ = 1, 30 do
      local id = cjson.decode(p:expect(function(t) return t:find "TICK" end)).portalId
      turns[id] = (turns[id] or 0) + 1
    end
    assert.same({ p1 = 10, p2 = 10, p3 = 10 }, turns)
  end)

  it("takes them at random when told to", function()
    start { portal = { enabled = true, distributeLoad = false } }
    local watcher = a:join()
    local p = portal(c, "p1")
    portal(c, "p2")
    expect_event(watcher, "join p1")
    expect_event(watcher, "join p2")
    p.published = {}
    local turns = {}
    for _ = 1, 100 do watcher:send { op = 0, t = "TICK" } end
    for _ = 1, 100 do
      local id = cjson.decode(p:expect(function(t) return t:find "TICK" end)).portalId
      turns[id] = (turns[id] or 0) + 1
    end
    assert.truthy(turns.p1 > 10 and turns.p2 > 10)
  end)

  it("says nothing when there is none", function()
    start()
    local spy = c.redis:subscribe "portal"
    a:join():close()
    loop.sleep(100)
    assert.equal(0, #spy.published)
  end)

  it("knows of those that were there before it, and of those that leave", function()
    c = cluster.start()
    local p = portal(c, "old")
    a = c:lab({ portal = { enabled = true } }, { extra = record })
    c:settle(1)
    local anna = a:join()
    expect_event(anna, "join old")
    p:expect(function(text) return text:find "EVENTS" end)
    leave(c, "old")
    expect_event(anna, "leave old")
  end)

  it("takes one that died out of the turn and out of the pool, once for all servers", function()
    start()
    local b = c:lab({ portal = { enabled = true } }, { extra = record })
    c:settle(2)
    local anna, bert = a:join(), b:join()
    local news = c.redis:subscribe "available_portals_pool"
    portal(c, "alive")
    expect_event(anna, "join alive")
    loop.sleep(500)
    local dying = portal(c, "dying")
    expect_event(bert, "join dying")
    loop.sleep(500)
    dying:close()
    expect_event(anna, "leave dying")
    expect_event(bert, "leave dying")
    assert.same({ "alive" }, c.redis:command("SMEMBERS", "available_portals_pool"))
    loop.sleep(300)
    local left = 0
    for _, item in ipairs(news.published) do
      if item.payload:find "false" then left = left + 1 end
    end
    assert.equal(1, left)
  end)

  it("forgets the last when nobody subscribes any more", function()
    start()
    local anna = a:join()
    portal(c, "only"):close()
    expect_event(anna, "join only")
    expect_event(anna, "leave only")
    assert.same({}, c.redis:command("SMEMBERS", "available_portals_pool"))
  end)

  it("keeps one that enters the pool before it has subscribed", function()
    start()
    local anna = a:join()
    enter(c, "early") -- on another connection than it subscribes with: so does Node's
    expect_event(anna, "join early")
    loop.sleep(600) -- the server looks five times a second
    local subscriber = c.redis:subscribe "portal"
    loop.sleep(2500)
    assert.same({ "early" }, c.redis:command("SMEMBERS", "available_portals_pool"))
    anna:send { op = 0, t = "EVENTS" }
    subscriber:expect(function(text) return text:find "EVENTS" end)
  end)

  it("keeps one that lost its connection for a while", function()
    start()
    local anna = a:join()
    local first = portal(c, "p1")
    expect_event(anna, "join p1")
    loop.sleep(400)
    local second = c.redis:subscribe "portal"
    first:close()
    loop.sleep(700)
    assert.same({ "join p1" }, events(anna))
    second:expect(function(text) return text:find "p1" end)
  end)
end)
