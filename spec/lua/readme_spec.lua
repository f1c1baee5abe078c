-- The README's tables against the code they describe.
local schema = require "mesa.config_schema"

local function read(path)
  local file = assert(io.open(path))
  local text = file:read "*a"
  file:close()
  return text
end

-- Not claimed by the README: refused so far.
local planned = { redis = true, portal = true, admin = true }

describe("the README", function()
  local readme = read "README.md"

  it("explains every key of the configuration", function()
    local sections = {}
    for name, field in pairs(schema.root.fields) do
      if not planned[name] and name ~= "scripts" then
        for key in pairs(field.fields or {}) do
          sections[#sections + 1] = { name = name, key = key }
        end
        assert.truthy(readme:find("`" .. name, 1, true), name)
      end
    end
    for _, entry in ipairs(sections) do
      local full = ("`%s.%s`"):format(entry.name, entry.key)
      local row = readme:match("\n| (`" .. entry.name .. "%.[^|]*`" .. "%." .. entry.key .. "`)") -- `a.x` `.y` in one row
      assert.truthy(readme:find(full, 1, true) or row, full)
    end
  end)

  it("names every option of the command line", function()
    local cli = read "src/app/cli.c"
    for option in cli:gmatch '{"(%-%-[%w-]+)"' do
      assert.truthy(readme:find(option, 1, true), option)
    end
  end)
end)
