-- What the scripts of the project say to somebody who uses them for the first time.
local fs = require "spec.support.fs"
local process = require "spec.support.process"

local function run(program, args, env)
  return process.run("/usr/bin/env", { args = { "-i", "PATH=" .. (env or os.getenv "PATH"), program, unpack(args) }, timeout = 60000 })
end

describe("scripts/test", function()
  for name, case in pairs {
    ["a part that it does not know"] = { { "sever" }, "unknown part 'sever'.*server.*quick" },
    ["a file that is not there"] = { { "spec/server/none_spec.lua" }, "there is no file spec/server/none_spec.lua" },
    ["more than a title"] = { { "spec/lua/readme_spec.lua", "names", "every" }, "one title, in quotes" },
    ["--asan without a file"] = { { "--asan", "server" }, "server%-asan" },
  } do
    it("refuses " .. name, function()
      local refused = run("scripts/test", case[1])
      assert.equal(1, refused.exit_code)
      assert.matches(case[2], refused.stderr)
    end)
  end
end)

describe("scripts/setup", function()
  local dir
  before_each(function() dir = fs.mkdtemp() end)
  after_each(function() fs.remove(dir) end)

  -- A system of its own: these tools and no others. `dpkg` is what dpkg-query says, `user` the id.
  local function setup(dpkg, user, args)
    for _, tool in ipairs { "bash", "dirname", "cat", "pwd" } do
      os.execute(("ln -sf $(command -v %s) %s/%s"):format(tool, dir, tool))
    end
    for name, text in pairs { ["dpkg-query"] = dpkg, id = "echo " .. user } do
      fs.write(dir .. "/" .. name, "#!/bin/sh\n" .. text .. "\n")
      os.execute(("chmod +x %s/%s"):format(dir, name))
    end
    return run("scripts/setup", args or {}, dir)
  end

  it("names the command for an administrator when there is no sudo", function()
    local told = setup("echo 'cmake=installed pkg-config=deinstall'; exit 1", 1000)
    assert.equal(1, told.exit_code)
    local command = assert(told.stderr:match "\n  apt%-get update && apt%-get install %-y %-%-no%-install%-recommends ([^\n]+)\n")
    local packages = {}
    for package in command:gmatch "%S+" do packages[package] = true end
    for _, package in ipairs { "build-essential", "pkg-config", "lua-busted", "chromium", "nodejs", "npm" } do
      assert.is_true(packages[package], package)
    end
    assert.is_nil(packages.cmake)
    assert.matches("no sudo", told.stderr)
  end)

  it("names what is missing without installing it", function()
    local told = setup("for p in \"$@\"; do printf '%s=installed ' \"$p\"; done", 1000, { "--missing", "--runtime" })
    assert.same({ 0, "\n" }, { told.exit_code, told.stdout })
    told = setup("exit 1", 1000, { "--missing", "--runtime" })
    assert.equal(1, told.exit_code)
    assert.matches("^build%-essential cmake .*\n$", told.stdout)
    assert.is_nil(told.stdout:find("busted", 1, true))
  end)
end)
