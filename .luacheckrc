std = "luajit"
max_line_length = 140
exclude_files = { "build*/**", "**/node_modules/**" }

files["spec/**"] = { std = "+busted" }
-- LuaCATS stubs declare what the C parts register: empty functions with named arguments.
files["lua/mesa/meta/**"] = { ignore = { "211", "212", "241" } }
-- The harness writes these two locals in front of the file.
files["spec/server/fixtures/lab.lua"] = { read_globals = { "config", "lab" } }
files["bench/peers/nginx/**"] = { read_globals = { "ngx" } }
