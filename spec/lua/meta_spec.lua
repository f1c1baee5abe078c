-- The LuaCATS stubs against the sources they describe, both ways: nothing is missing, nothing is made up.
local fs = require "spec.support.fs"
local schema = require "mesa.config_schema"

local function collect(into, text, pattern)
  for name in text:gmatch(pattern) do
    if name:sub(1, 1) ~= "_" then into[name] = true end
  end
  return into
end

-- The text of a C array initialiser or Lua table that begins with `opening`.
local function block(text, opening)
  local _, from = text:find(opening, 1, true)
  assert(from, opening)
  return text:sub(from + 1, assert(text:find("\n%s*};?\n", from)))
end

-- The fields of an annotated class.
local function fields_of(text, class)
  local from = assert(text:find("---@class " .. class .. "\n", 1, true), class)
  local fields = {}
  for line in text:sub(from):gmatch "[^\n]*" do
    local name = line:match "^%-%-%-@field ([%w]+)"
    if name then
      fields[name] = true
    elseif line ~= "" and not line:find "^%-%-%-" then
      break
    elseif next(fields) and line:find "^%-%-%-@class" then
      break
    end
  end
  return fields
end

local function meta(name)
  return fs.read("lua/mesa/meta/" .. name .. ".lua")
end

local emitter = collect({}, fs.read "lua/mesa/emitter.lua", "\nfunction methods:(%w+)")

local function with_emitter(names)
  for name in pairs(emitter) do names[name] = true end
  return names
end

describe("the types for editors", function()
  it("declare every key of the configuration", function()
    local text = meta "config"
    local function compare(section, class)
      local keys = {}
      for name, spec in pairs(section.fields) do
        keys[name] = true
        if spec.fields then compare(spec, "mesa." .. name:gsub("^%l", string.upper) .. "Config") end
      end
      assert.same(keys, fields_of(text, class), class)
    end
    compare(schema.root, "mesa.Config")
  end)

  it("declare the module", function()
    local source = fs.read "lua/mesa/init.lua"
    local names = collect({}, block(source, "local Mesa = {\n"), "\n?%s*(%w+) = [^\n]+")
    collect(names, source, "\nfunction Mesa%.(%w+)")
    local text = meta "mesa"
    assert.same(names, collect(fields_of(text, "Mesa"), text, "\nfunction Mesa%.(%w+)"))
  end)

  it("declare the server's methods", function()
    local names = collect({}, block(fs.read "src/script/bind_server.c", "luaL_Reg methods[] = {"), '{"(%w+)"')
    with_emitter(collect(names, fs.read "lua/mesa/server.lua", "\nfunction Server:([%w_]+)"))
    assert.same(names, collect({}, meta "server", "\nfunction Server:(%w+)"))
  end)

  it("declare the client's methods and fields", function()
    local names = with_emitter(collect({}, fs.read "lua/mesa/client.lua", "\nfunction Client:([%w_]+)"))
    local text = meta "client"
    assert.same(names, collect({}, text, "\nfunction Client:(%w+)"))

    local fields = collect({ user = true }, block(fs.read "src/script/bind_client.c", "client_fields[] = {"), '{"(%w+)"')
    assert.same(fields, fields_of(text, "mesa.Client"))
  end)

  it("declare the client for programs", function()
    local names = with_emitter(collect({}, fs.read "lua/mesa/ws_client.lua", "\nfunction WsClient:([%w_]+)"))
    assert.same(names, collect({}, meta "ws_client", "\nfunction WsClient:(%w+)"))
  end)

  it("declare messages, JSON and the log", function()
    local message = collect({}, fs.read "lua/mesa/message.lua", "\nfunction Message:(%w+)")
    assert.same(message, collect({}, meta "message", "\nfunction Message:(%w+)"))

    local source = fs.read "src/script/bind_json.c"
    local json = collect({}, block(source, "luaL_Reg functions[] = {"), '{"(%w+)"')
    collect(json, source, 'lua_setfield%(L, %-2, "(%w+)"%)')
    local text = meta "json"
    assert.same(json, collect(fields_of(text, "mesa.Json"), text, "\nfunction json%.(%w+)"))

    local levels = collect({}, fs.read("lua/mesa/log.lua"):match "log%.public = .*", '"(%w+)"')
    levels.script = nil -- the area
    assert.same(levels, collect({}, meta "log", "\nfunction log%.(%w+)"))
  end)

  it("declare dispatchers, portals and Redis", function()
    local dispatcher = collect({}, fs.read "lua/mesa/dispatcher.lua", "\nfunction Dispatcher:([%w_]+)")
    assert.same(with_emitter(dispatcher), collect({}, meta "dispatcher", "\nfunction Dispatcher:(%w+)"))
    local portal = collect({}, fs.read "lua/mesa/portal.lua", "\nfunction Portal:([%w_]+)")
    assert.same(with_emitter(portal), collect({}, meta "portal", "\nfunction Portal:(%w+)"))

    local source, text = fs.read "lua/mesa/redis.lua", meta "redis"
    assert.same(collect({}, source, "\nfunction Redis:(%w+)"), collect({}, text, "\nfunction Redis:(%w+)"))
    assert.same(collect({}, source, "\nfunction Pipeline:(%w+)"), collect({}, text, "\nfunction Pipeline:(%w+)"))
    assert.same(collect({}, source:match "redis%.public = (%b{})", "(%w+) ="), collect({}, text, "\nfunction redis%.(%w+)"))
  end)

  it("declare HTTP, both ways", function()
    local source = fs.read "lua/mesa/http.lua"
    local http = collect({}, source:match "for name, method in pairs (%b{})", "(%l+) =")
    collect(http, source, "\nfunction http%.(%w+)")
    assert.same(http, collect({}, meta "http", "\nfunction http%.(%w+)"))
    local options = collect({}, block(source, "local known = {\n"), "(%w+) = ")
    options.method, options.url = nil, nil
    assert.same(options, fields_of(meta "http", "mesa.HttpOptions"))

    local response = collect({}, fs.read "lua/mesa/request.lua", "\nfunction Response:(%w+)")
    assert.same(response, collect({}, meta "request", "\nfunction Response:(%w+)"))
  end)

  it("declare every handler of a middleware", function()
    local names = collect({}, block(fs.read "lua/mesa/server.lua", "local middleware_events = {"), '"(%w+)"')
    assert.same(names, fields_of(meta "events", "mesa.MiddlewareHandlers"))
  end)
end)
