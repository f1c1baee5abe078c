-- SQLite through LuaSQL, which blocks: each query is a piece of work for libuv's thread pool.
--
-- The function given to uv.new_work runs on another thread in a Lua state of its own. It sees no variable from outside,
-- takes and returns only strings, numbers, booleans and nil, and must require what it needs.
local Mesa = require "mesa"
local uv = require "luv"

local database = {}
local state = Mesa.state "database" -- survives when this file is saved; a local variable would not

local function look_up(file, token)
  local ok, sqlite = pcall(require, "luasql.sqlite3")
  if not ok then return nil, "LuaSQL is not installed" end
  local environment = sqlite.sqlite3()
  local connection, err = environment:connect(file)
  if not connection then return nil, err end
  local cursor
  cursor, err = connection:execute(("SELECT id, name FROM users WHERE token = '%s'"):format(connection:escape(token)))
  local id, name
  if cursor then
    id, name = cursor:fetch()
    if id then cursor:close() end
  end
  connection:close()
  environment:close()
  if id then return tostring(id), name end
  return nil, err or "unknown token"
end

--- Makes the database when there is none. Blocks, which does no harm before the server listens.
function database.open(file)
  state.path = file
  local environment = require("luasql.sqlite3").sqlite3()
  local connection = assert(environment:connect(file))
  assert(connection:execute "CREATE TABLE IF NOT EXISTS users (id INTEGER PRIMARY KEY, name TEXT, token TEXT UNIQUE)")
  assert(connection:execute [[
    INSERT OR IGNORE INTO users (id, name, token) VALUES (1, 'Ann', 'ann''s token'), (2, 'Bob', 'bob''s token')
  ]])
  connection:close()
  environment:close()
end

--- The user a token belongs to, or nil and why not. Waits for the thread.
function database.user_of(token)
  if token:find "%z" then return nil, "unknown token" end
  local id, name = Mesa.await(function(resolve)
    uv.new_work(look_up, resolve):queue(state.path, token)
  end)
  if not id then return nil, name end
  return { id = id, name = name }
end

return database
