-- Users in a database: auth.lua asks SQLite without holding up the server.
--
--   apt install lua-sql-sqlite3
--   mesa-lua examples/auth-db/server.lua [DATABASE]      users.db beside this file without it
--
-- database.lua   the queries, which run on libuv's thread pool
-- auth.lua       asks it who a token belongs to
local Mesa = require "mesa"
local database = require "database"

database.open(arg[1] or arg[0]:gsub("[^/]*$", "") .. "users.db")

local server = Mesa.new { port = 4000, scripts = { auth = "auth.lua" } }

server:on("connection", function(client)
  client:on("message", function(message)
    if client.authenticated then client:send(Mesa.Message(0, { from = client.user, data = message.data }, "ECHO")) end
  end)
end)
