-- Temporary directories and files.
local uv = require "luv"

local fs = {}

local made = {}

function fs.mkdtemp()
  local dir = assert(uv.fs_mkdtemp((os.getenv("TMPDIR") or "/tmp") .. "/mesa-spec-XXXXXX"))
  made[dir] = true
  return dir
end

function fs.exists(path)
  return uv.fs_stat(path) ~= nil
end

function fs.read(path)
  local file = assert(io.open(path, "rb"))
  local text = file:read("*a")
  file:close()
  return text
end

local function make_parents(path)
  local at = 1
  while true do
    local slash = path:find("/", at + 1, true)
    if not slash then
      return
    end
    uv.fs_mkdir(path:sub(1, slash - 1), 493) -- 0755; one that exists is fine
    at = slash
  end
end

function fs.write(path, text)
  make_parents(path)
  local file = assert(io.open(path, "wb"))
  assert(file:write(text))
  file:close()
end

-- Replaces in one step, as editors that save safely do: nobody sees half a file.
function fs.write_atomically(path, text)
  local temporary = path .. ".new"
  fs.write(temporary, text)
  assert(uv.fs_rename(temporary, path))
end

local function remove_tree(path)
  local stat = uv.fs_lstat(path)
  if not stat then
    return
  end
  if stat.type == "directory" then
    local scan = uv.fs_scandir(path)
    while scan do
      local name = uv.fs_scandir_next(scan)
      if not name then
        break
      end
      remove_tree(path .. "/" .. name)
    end
    uv.fs_rmdir(path)
  else
    uv.fs_unlink(path)
  end
end

-- Removes only what mkdtemp made here.
function fs.remove(dir)
  assert(made[dir], "not a temporary directory of this process: " .. tostring(dir))
  made[dir] = nil
  remove_tree(dir)
end

return fs
