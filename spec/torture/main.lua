-- What spec/torture/run runs: MINUTES SEED|"" MEMORY|""
local torture = require "spec.torture.driver"

local minutes, seed, memory = tonumber(arg[1]), tonumber(arg[2]), tonumber(arg[3])
local ok, result = pcall(torture.run, { seconds = minutes * 60, seed = seed, memory = memory and memory * 1024 * 1024 })
if not ok then
  print(result)
  print "the server did not stand it"
  os.exit(1)
end
print(("seed %d: %d answers and %d steps in %g minutes, and nothing wrong"):format(result.seed, result.answers, result.steps, minutes))
os.exit(0)
