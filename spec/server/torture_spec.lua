-- The torture of spec/torture, briefly: `spec/torture/run MINUTES` goes on for longer.
local torture = require "spec.torture.driver"

describe("a server under torture", function()
  it("gives each client its own answers, and ends in order", function()
    local report = torture.run { seconds = 6 }
    print(("torture: seed %d, %d answers"):format(report.seed, report.answers))
    assert.is_true(report.answers > 0)
  end)

  it("does the same with little memory", function()
    local report = torture.run { seconds = 6, memory = 16 * 1024 * 1024 }
    print(("torture: seed %d, %d answers"):format(report.seed, report.answers))
    assert.is_true(report.answers > 0)
  end)
end)
