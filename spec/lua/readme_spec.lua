-- The README's tables against the code they describe.
local fs = require "spec.support.fs"
local schema = require "mesa.config_schema"

describe("the README", function()
  local readme = fs.read "README.md"

  it("explains every key of the configuration", function()
    for name, field in pairs(schema.root.fields) do
      if field.fields and name ~= "scripts" then
        for key in pairs(field.fields) do
          local full = ("`%s.%s`"):format(name, key)
          local second = "\n| `" .. name .. "%.[^|]*`%." .. key .. "`" -- `a.x` `.y` in one row
          assert.truthy(readme:find(full, 1, true) or readme:find(second), full)
        end
      else
        assert.truthy(readme:find("\n| `" .. name .. "`", 1, true), name)
      end
    end
  end)

  it("names every option of the command line", function()
    local cli = fs.read "src/app/cli.c"
    for option in cli:gmatch '{"(%-%-[%w-]+)"' do
      assert.truthy(readme:find(option, 1, true), option)
    end
  end)
end)
